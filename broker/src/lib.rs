//! The server: connections, APIs, partitions, groups.
//!
//! Reading order: [`options`](BrokerOptions) and `serve`, a broker's life; `connection`, from bytes to requests and
//! back; `api`, what each request does; `broker`, the state they share; `partition`, where hot and cold meet; `groups`;
//! `metadata`; `housekeeping` and `archive`, what leaves the local disk; `restore`, a lost folder written anew from the store.
//!
//! Owns: what clients are told, the cluster's metadata, groups.
//! Does not own: the bytes of messages and batches (`wire`), of segments and the journal (`hotlog`), of the store
//! (`tiering`), or the command line (`cli`).
//!
//! Invariants:
//!   A. The thread that read a produce request appends; it never blocks on room, on the journal or on a disk.
//!   B. An answer follows the commit of what it says.
//!   C. Hot and cold meet in `partition`; what went wrong becomes a Kafka error code in `error_codes`.
//!   D. Every outcome is success, a specific error, or a disconnect with its reason in the log.
//!   E. Every queue, buffer and table has a bound, named in `limits` or `groups`.

mod api;
mod archive;
mod broker;
mod clock;
mod cold_reads;
mod connection;
mod error_codes;
mod fetch_sessions;
mod fields;
mod groups;
mod housekeeping;
mod limits;
mod metadata;
mod metrics;
mod options;
mod partition;
pub mod restore;
mod serve;
mod status;
mod topic_config;
mod topics;
mod validation;
mod waiters;

pub use options::{BrokerOptions, OptionsError};
pub use serve::{ServeError, serve};
pub use topic_config::{
    InvalidConfig as InvalidTopicConfig, check_topic_config, check_topic_configs, topic_config_names,
};
