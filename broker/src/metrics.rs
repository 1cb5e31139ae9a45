//! The broker's own figures, as atomics that the hot path adds to and the admin listener reads.
//!
//! Owns: their names and help.
//! Does not own: what is told of topics (`topics`), the store's figures (`tiering`, shown by `status`), the listener and
//! its text (`control`).

mod topics;

pub(crate) use self::topics::{Sums, topic_metrics};

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident = $name:literal, $kind:ident;)*) => {
        /// Counters and gauges of one broker.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $($(#[doc = $help])+ pub(crate) $field: AtomicU64,)*
        }

        impl Metrics {
            /// All of them as the admin listener shows them.
            pub(crate) fn snapshot(&self) -> Vec<control::Metric> {
                vec![$(control::Metric::plain(
                    $name, concat!($($help),+), control::Kind::$kind, self.$field.load(Ordering::Relaxed) as f64,
                )),*]
            }
        }
    };
}

metrics! {
    /// Bytes received from clients.
    received_bytes = "longhaul_broker_received_bytes", Counter;
    /// Bytes sent to clients.
    sent_bytes = "longhaul_broker_sent_bytes", Counter;
    /// Requests begun.
    requests = "longhaul_broker_requests", Counter;
    /// Connections open.
    connections = "longhaul_broker_connections", Gauge;
    /// Connections closed because the peer broke the protocol or a limit.
    disconnects = "longhaul_broker_disconnects", Counter;
    /// Record batches appended.
    produced_batches = "longhaul_broker_produced_batches", Counter;
    /// Bytes of record batches appended.
    produced_bytes = "longhaul_broker_produced_bytes", Counter;
    /// Record batches refused.
    refused_batches = "longhaul_broker_refused_batches", Counter;
    /// Bytes of record batches handed to consumers.
    fetched_bytes = "longhaul_broker_fetched_bytes", Counter;
    /// Fetches that waited for data.
    waited_fetches = "longhaul_broker_waited_fetches", Counter;
}

impl Metrics {
    /// Adds to one of the figures.
    pub(crate) fn add(figure: &AtomicU64, amount: usize) {
        figure.fetch_add(amount as u64, Ordering::Relaxed);
    }
}
