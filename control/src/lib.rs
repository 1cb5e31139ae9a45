//! The gRPC API, metrics and health listener of every long-running verb.
