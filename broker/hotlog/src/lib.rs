//! The hot end of every topic on local disk: one journal for all partitions, Kafka-readable segments behind it.
//!
//! Owns: files below its log directory and its journal, and the in-memory state rebuilt from them.
//! Does not own: sockets, topics' names and configs, objects in a bucket. It is synchronous; what has to be awaited is a plain future.

pub mod aborted;
pub mod clock;
pub mod disk;
pub mod encoding;
pub mod epochs;
pub mod index;
pub mod limits;
pub mod producers;
pub mod retention;
pub mod roll;
pub mod sidecar;
pub mod sync_site;
