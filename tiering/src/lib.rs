//! Sealed segments as objects: manifest, archiver, replay, retention.

mod archiver;
mod bytes_reader;
pub mod cluster_record;
mod engine;
mod keys;
pub mod limits;
pub mod local;
pub mod manifest;
pub mod object;
mod ownership;
mod replay;
mod retention;
mod seams;
pub mod store;
mod tier;

pub use archiver::Blocked;
pub use engine::{PartitionStatus, TierMetrics, TierState, TierStatus};
pub use hotlog::PartitionId;
pub use ownership::{Owner, OwnerError, read_owner};
pub use retention::RetentionAlarm;
pub use seams::{AttemptId, Seams};
pub use tier::{
    AbortedTransaction, ColdRead, OpenTierError, PartitionPolicy, ReadError, RemoteRange, Tier, TierOptions,
    TimestampOffset,
};
