//! The harness: real servers and real clients as processes, each behind a deadline, none left behind.
//!
//! Owns: starting, killing and restarting Apache Kafka, MinIO and Longhaul's own verbs; calling the real clients; the
//! places where `tests/run` installed them.
//! Does not own: installing (`tests/peers`), and what is tested (`tests/tests`).
//!
//! A missing peer is a failure that names the command to run, never a skipped test.

pub mod clients;
pub mod deadline;
pub mod fault_proxy;
pub mod flights;
pub mod flow;
pub mod flow_source;
pub mod installed;
pub mod kafka;
pub mod longhaul;
pub mod minio;
pub mod oracle;
pub mod ports;
pub mod process;
pub mod ready;
pub mod scratch;
pub mod server;
pub mod small_disk;
pub mod tiered;
