//! Hot segments on local disk: one journal, many segments. No network, no tokio.
