//! The gRPC API, metrics and health listener of every long-running verb.
//!
//! Owns: the listener of an admin address, the API's definition, the client that other verbs use, the text of metrics.
//! Does not own: any state. A process hands over a [`Subject`], and this crate only asks it.
//!
//! One port serves it all: gRPC (`longhaul.control.v1.Control`), `/metrics` (OpenMetrics text), `/healthz` (the
//! process works) and `/readyz` (it serves). Any other page is a 404 that names these.

mod client;
mod metrics;
mod server;

pub use client::{AskError, ask_drain, ask_flush_log, ask_status};
pub use metrics::{Kind, Metric, Sample};
pub use server::{ListenError, Subject, serve};

/// The messages of the control API, as its definition in `proto/` declares them.
#[allow(
    missing_docs,
    reason = "the definition documents every field, and generated code carries no comments of its own"
)]
#[allow(clippy::all, reason = "generated code")]
#[allow(clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("longhaul.control.v1");
}

#[cfg(test)]
mod tests;
