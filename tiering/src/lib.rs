//! Sealed segments as objects: manifest, archiver, replay, retention.

mod bytes_reader;
pub mod cluster_record;
pub mod limits;
pub mod local;
pub mod manifest;
pub mod object;
mod seams;
pub mod store;
mod tier;

pub use seams::{AttemptId, Seams};
pub use tier::{
    AbortedTransaction, ColdRead, OpenTierError, PartitionId, PartitionPolicy, ReadError, RemoteRange, Tier,
    TierOptions, TimestampOffset,
};
