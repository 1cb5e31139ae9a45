//! One error type per operation of the log, built from the few things that can go wrong.
//!
//! Owns: the types and their texts. Does not own: Kafka's error codes; the broker maps them in one place.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use wire::batch::BatchError;
use wire::ids::{Offset, TopicId};

use crate::partition::PartitionId;
use crate::producers::ProducerError;

/// The directory takes and answers nothing more: a write or a sync failed, and what the disk holds is not known any more.
/// Only a restart, whose recovery reads the disk again, goes on.
#[derive(Debug, Clone, Error)]
#[error("log directory is out of service since {operation} failed ({kind}); repair the disk, then restart")]
pub struct Poisoned {
    /// What failed, with the file.
    pub operation: Arc<str>,
    /// How.
    pub kind: io::ErrorKind,
}

/// Why an entry finds no way into the journal, or was not committed.
#[derive(Debug, Clone, Error)]
pub enum CommitError {
    /// A write or sync failed. Whether the entry is there shows after the restart.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The log was closed.
    #[error("log directory is closed")]
    Closed,
}

/// Why no room is given.
#[derive(Debug, Clone, Error)]
pub enum RoomError {
    /// The journal never takes an entry of this size.
    #[error("batch of {bytes} bytes is larger than {limit}, an eighth of the journal: send smaller batches")]
    TooLarge {
        /// The batch's size.
        bytes: usize,
        /// The largest that is taken.
        limit: usize,
    },
    /// The directory takes nothing.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a batch was not appended. Nothing of it is in the log.
#[derive(Debug, Clone, Error)]
pub enum AppendError {
    /// The bytes are not one whole batch, or not one that this origin may send.
    #[error("batch is malformed: {0}")]
    Batch(#[from] BatchError),
    /// A batch of control records from a client, or a malformed marker.
    #[error("control batch refused: {0}")]
    Control(&'static str),
    /// The producer's state forbids it.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// The room was reserved for fewer bytes.
    #[error("batch of {bytes} bytes does not fit the {reserved} bytes of room reserved for it")]
    Room {
        /// The batch's size.
        bytes: usize,
        /// The size the room was asked for.
        reserved: usize,
    },
    /// The disk has no space left for segments. Reads, deletions and the metadata go on.
    #[error("no disk space is left for segments: free some, or shorten the retention of a topic")]
    StorageFull,
    /// The last offset would pass the largest there is.
    #[error("offsets of {0} are used up")]
    OffsetsUsedUp(PartitionId),
    /// The partition was deleted.
    #[error("partition {0} is deleted")]
    Deleted(PartitionId),
    /// The directory takes nothing.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a change of a partition other than an append was not made.
#[derive(Debug, Clone, Error)]
pub enum ChangeError {
    /// The offset lies outside of the log, or where this change may not reach.
    #[error("offset {offset} is outside of {start}..={end} of {partition}")]
    OutOfRange {
        /// The partition.
        partition: PartitionId,
        /// The offset asked for.
        offset: Offset,
        /// The lowest possible one.
        start: Offset,
        /// The highest possible one.
        end: Offset,
    },
    /// A log can be given another first offset only while it has never held a batch.
    #[error("{0} has held batches already: its first offset cannot be set")]
    NotEmpty(PartitionId),
    /// A log cannot begin like that.
    #[error("{partition} cannot begin like that: {reason}")]
    Beginning {
        /// The partition.
        partition: PartitionId,
        /// What is wrong.
        reason: &'static str,
    },
    /// The partition was deleted.
    #[error("partition {0} is deleted")]
    Deleted(PartitionId),
    /// The room is too small; ask for [`crate::Partition::change_bytes`].
    #[error("change of {bytes} bytes does not fit the {reserved} bytes of room reserved for it")]
    Room {
        /// The entry's size.
        bytes: usize,
        /// The size the room was asked for.
        reserved: usize,
    },
    /// The directory takes nothing.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A segment or sidecar could not be read.
    #[error(transparent)]
    Read(#[from] StorageError),
}

/// Why local bytes could not be read.
#[derive(Debug, Clone, Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// The file does not hold what the log put there.
    #[error("{path} is damaged at byte {position}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// The directory answers nothing.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

impl StorageError {
    /// Whether the file is missing or damaged, and not just unreadable now.
    pub(crate) fn may_be_rebuilt(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Damaged { .. } => true,
            Self::Poisoned(_) => false,
        }
    }
}

/// Why a read is refused.
#[derive(Debug, Clone, Error)]
pub enum ReadError {
    /// Below the log start or above the high watermark. Kafka's `OFFSET_OUT_OF_RANGE`.
    #[error("offset {offset} is outside of {log_start}..={high_watermark}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// Where the log starts.
        log_start: Offset,
        /// Where it ends for readers.
        high_watermark: Offset,
    },
    /// The offset is in the log, but only the store has it.
    #[error("offset {offset} is not held locally, the local log starts at {local_log_start}")]
    NotLocal {
        /// The offset asked for.
        offset: Offset,
        /// The first offset held locally.
        local_log_start: Offset,
    },
    /// The offset is in the log, and the file that held it is gone.
    #[error(
        "offset {offset} is missing: no segment file on this disk holds it, the next one begins at {next}"
    )]
    Missing {
        /// The offset asked for.
        offset: Offset,
        /// The first offset behind the hole.
        next: Offset,
    },
    /// The partition was deleted.
    #[error("partition {0} is deleted")]
    Deleted(PartitionId),
    /// Local bytes could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a log directory cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("{path} is in use by another process")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A setting cannot be.
    #[error("{0}")]
    Settings(String),
    /// The operating system refused.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried, with the file.
        operation: String,
        /// What it said.
        source: io::Error,
    },
    /// The journal is not where the checkpoint says it is.
    #[error(
        "journal {path} is missing: give its folder with --journal, or give up what it held with --accept-loss"
    )]
    JournalMissing {
        /// The file.
        path: PathBuf,
    },
    /// The journal belongs to another directory.
    #[error(
        "journal {path} belongs to another log directory: give the right folder with --journal, or give up what it held with --accept-loss"
    )]
    JournalForeign {
        /// The file.
        path: PathBuf,
    },
    /// The journal is a copy from before the checkpoint.
    #[error(
        "journal {path} is older than the checkpoint (it ends at commit {found}, commit {needed} was durable): bring back the right file, or give up what is missing with --accept-loss"
    )]
    JournalOlder {
        /// The file.
        path: PathBuf,
        /// The commit it ends with.
        found: u64,
        /// The commit that was durable.
        needed: u64,
    },
    /// Commits after the damage are there, so the damaged one was acknowledged.
    #[error(
        "journal {path} is damaged at byte {position}: commit {missing} cannot be read, yet commit {later} of the same start follows; acknowledged batches are lost, go on without them with --accept-loss"
    )]
    JournalDamaged {
        /// The file.
        path: PathBuf,
        /// Where the next commit should begin.
        position: u64,
        /// The commit that is missing.
        missing: u64,
        /// The first later one found.
        later: u64,
    },
    /// A file of the log says what it cannot say.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A journal or checkpoint names a topic that the metadata neither has nor had.
    #[error(
        "{path} holds batches of topic id {topic_id}, which the metadata does not know: bring back the metadata, or drop them with --accept-loss"
    )]
    UnknownTopic {
        /// The log directory.
        path: PathBuf,
        /// The topic.
        topic_id: TopicId,
    },
}
