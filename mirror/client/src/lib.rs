//! A lean client of any Kafka cluster, from Apache Kafka 2.1 on: raw batches in, raw batches out.
//!
//! Reading order: [`transport`] and [`connection`], one pipelined socket; [`layout`], what is known of a cluster;
//! [`cluster`], who answers what; then what one can ask: [`fetch`], [`produce`], [`offsets`], [`admin`], [`group`]
//! and [`member`]; last the two that think in records, [`producer`] and [`consumer`].
//!
//! Owns: connections, versions, routing, retries that cannot do harm, and the difference between "not sent" and
//! "sent, but nobody knows what became of it".
//! Does not own: what is in the batches that pass, whom to copy to whom, the encoding of messages (`wire`).
//!
//! Invariants:
//!   A. A request of which one byte may have left is never reported as not sent.
//!   B. Whatever a broker answers, memory stays within the frame limit times the requests under way.
//!   C. Answers are matched to requests by order and number both; a mismatch ends the connection.

pub mod admin;
pub mod assignor;
mod backoff;
pub mod cluster;
pub mod connection;
pub mod consumer;
pub mod error;
pub mod fetch;
pub mod group;
pub mod isolation;
pub mod layout;
pub mod limits;
pub mod member;
pub mod offsets;
pub mod partitioner;
pub mod produce;
pub mod producer;
pub mod transport;
mod versions;

pub use backoff::BackoffOptions;
pub use cluster::{Cluster, ClusterOptions, Lane};
pub use consumer::{Consumer, ConsumerOptions, OffsetReset};
pub use error::{CallError, Disconnect, RequestError};
pub use layout::{Broker, BrokerId, Leader, TopicPartition};
pub use offsets::Isolation;
pub use producer::{Producer, ProducerOptions};
