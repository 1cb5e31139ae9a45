//! The hot end of every topic on local disk: one journal for all partitions, Kafka-readable segments behind it.
//!
//! Owns: files below its log directory and its journal, and the in-memory state rebuilt from them.
//! Does not own: sockets, topics' names and configs, objects in a bucket. It is synchronous; what has to be awaited is a plain future.

pub mod aborted;
mod checkpoint;
pub mod clock;
pub mod directory;
pub mod disk;
pub mod encoding;
pub mod epochs;
pub mod error;
mod health;
pub mod index;
pub mod journal;
pub mod limits;
pub mod listener;
pub mod options;
pub mod partition;
pub mod producers;
mod recover;
pub mod retention;
pub mod roll;
mod segment;
mod shared;
pub mod sidecar;
mod space;
mod storage;
pub mod sync_site;
pub mod worker;

pub use directory::{LogDirectory, TopicDirectory};
pub use disk::{Disk, DiskFile};
pub use journal::{CommitFuture, Room, RoomFuture, Ticket};
pub use listener::CommitListener;
pub use options::{FlushMode, LogOptions, PartitionConfig};
pub use partition::{
    Appended, Committed, FileRange, HotPiece, HotRead, Isolation, LogBeginning, OffsetAndTime, Origin,
    Partition, PartitionId, ReadLimits, RetentionPass, SealedSegment,
};
pub use recover::{Recovering, RecoveryReport};
pub use storage::CheckpointFigures;
