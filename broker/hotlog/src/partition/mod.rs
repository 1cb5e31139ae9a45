//! One partition's log as its owner sees it: append, read, offsets, truncation, retention.
//!
//! Owns: the order of batches and everything derived from them (index, producers, epochs, watermarks).
//! Does not own: the journal's ring (it asks for a place), when segments are written, topic configuration.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use wire::ids::{LeaderEpoch, Offset, ProducerId, TopicId};

use crate::disk::DiskFile;
use crate::error::{AppendError, ChangeError, ReadError, StorageError};
use crate::journal::{Room, Ticket};
use crate::options::PartitionConfig;

/// A partition's identity for all time: the topic's id, never its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition of the topic, not negative.
    pub partition: i32,
}

impl PartitionId {
    /// The cluster's own metadata log. All its commits are synced, in both flush modes.
    pub const METADATA: Self = Self { topic_id: TopicId::CLUSTER_METADATA, partition: 0 };
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

/// Who sends a batch, which decides what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: no control batches; producer epoch and sequence are checked.
    Client,
    /// The broker itself (group offsets, metadata, transaction markers): control batches are fine.
    Internal,
}

/// A batch that is in the log, though not committed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// When it was appended, in milliseconds since 1970.
    pub append_time_ms: i64,
    /// Where the log starts.
    pub log_start: Offset,
    /// Whether it had been appended before: the offsets and the time are those of the first time.
    pub duplicate: bool,
    /// To be handed to [`crate::LogDirectory::commit`] before anybody is told, also for a duplicate.
    pub ticket: Ticket,
}

/// How much a read may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes in all; whole batches are returned, so the answer may be smaller.
    pub max_bytes: usize,
    /// The first batch is returned whole even when it is larger.
    pub at_least_one_batch: bool,
}

/// What a reader may see. Kafka's `isolation.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset, with the aborted transactions in the range.
    ReadCommitted,
}

/// A run of whole batches.
#[derive(Clone, Debug)]
pub enum HotPiece {
    /// A copy.
    Memory(Bytes),
    /// Bytes of a segment file.
    File(FileRange),
}

/// Bytes of a segment file. The file stays readable while this is held, also when its name is gone.
#[derive(Clone, Debug)]
pub struct FileRange {
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where in the file.
    pub position: u64,
    /// How many bytes.
    pub length: usize,
}

impl FileRange {
    /// The operating system's file, for `sendfile`.
    #[must_use]
    pub fn std_file(&self) -> Option<&Arc<File>> {
        self.file.std_file()
    }

    /// Reads the bytes. Blocks on the disk.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.length];
        let read = self.file.read_at(&mut bytes, self.position)?;
        if read < self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes.into())
    }
}

/// An aborted transaction that a read-committed reader leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedRange {
    /// The producer.
    pub producer_id: ProducerId,
    /// The transaction's first offset.
    pub first_offset: Offset,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct HotRead {
    /// Whole batches in order, the first one holding or following the offset asked for; empty at the end of the log.
    pub pieces: Vec<HotPiece>,
    /// The high watermark at the time of the read.
    pub high_watermark: Offset,
    /// The last stable offset at the time of the read.
    pub last_stable_offset: Offset,
    /// The log start at the time of the read.
    pub log_start: Offset,
    /// For [`Isolation::ReadCommitted`] only.
    pub aborted: Vec<AbortedRange>,
}

/// An offset found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAndTime {
    /// The first offset of the batch whose largest record time is at or after the time asked for. Records before the right one may
    /// lie in the same batch: whoever wants the record reads the batch.
    pub batch_base_offset: Offset,
    /// That batch's largest record time.
    pub max_timestamp_ms: i64,
    /// The epoch that wrote the batch.
    pub leader_epoch: LeaderEpoch,
}

/// What [`Partition::append`] and its sisters are called on.
#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
}

impl Partition {
    /// Who it is.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Sets its configuration; counts from the next append or pass on.
    pub fn configure(&self, config: PartitionConfig) {
        let _ = config;
        unimplemented!("lands next")
    }

    /// Appends one whole batch whose CRC the caller has checked. Never blocks: neither on the disk nor on the journal.
    /// The base offset and leader epoch of the stored copy are patched.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then, and the room is given back.
    pub fn append(&self, room: Room, batch: &[u8], origin: Origin) -> Result<Appended, AppendError> {
        let _ = (room, batch, origin);
        unimplemented!("lands next")
    }

    /// Reads whole batches from the one that holds `from`. Tail reads copy from memory and do not block; others may read a few
    /// KiB of a segment to find batch borders, so [`Partition::reads_from_memory`] says whether a disk thread is needed.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, from: Offset, limits: ReadLimits, isolation: Isolation) -> Result<HotRead, ReadError> {
        let _ = (from, limits, isolation);
        unimplemented!("lands next")
    }

    /// Whether a read from this offset needs no file.
    #[must_use]
    pub fn reads_from_memory(&self, from: Offset) -> bool {
        let _ = from;
        unimplemented!("lands next")
    }

    /// The first offset that is not committed yet; readers stop here.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        unimplemented!("lands next")
    }

    /// Where read-committed readers stop.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        unimplemented!("lands next")
    }

    /// The first offset of the log, wherever its bytes are.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        unimplemented!("lands next")
    }

    /// The first offset whose bytes are held locally.
    #[must_use]
    pub fn local_log_start(&self) -> Offset {
        unimplemented!("lands next")
    }

    /// The offset that the next record gets.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        unimplemented!("lands next")
    }

    /// The epoch that new batches get.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        unimplemented!("lands next")
    }

    /// The first local batch with a record at or after `timestamp_ms`, as far as `isolation` sees; `None` when there is none.
    /// May read segments: blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn offset_for_time(
        &self,
        timestamp_ms: i64,
        isolation: Isolation,
    ) -> Result<Option<OffsetAndTime>, ReadError> {
        let _ = (timestamp_ms, isolation);
        unimplemented!("lands next")
    }

    /// The batch with the largest record time that is held locally (`ListOffsets` -3).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn offset_of_max_timestamp(&self) -> Result<Option<OffsetAndTime>, ReadError> {
        unimplemented!("lands next")
    }

    /// Where an epoch ends (`OffsetForLeaderEpoch`); `None` when the epoch is newer than the log's.
    #[must_use]
    pub fn offset_for_leader_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let _ = epoch;
        unimplemented!("lands next")
    }

    /// The bytes of room that the next change (log start, truncation, first offset) asks for.
    #[must_use]
    pub fn change_bytes(&self) -> usize {
        unimplemented!("lands next")
    }

    /// Moves the log start up to any offset up to the high watermark, also into a batch (DeleteRecords, or what the store's
    /// retention decided). Lower than the present start changes nothing. Synced in both flush modes; counts for readers at once.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn move_log_start(&self, room: Room, to: Offset) -> Result<Ticket, ChangeError> {
        let _ = (room, to);
        unimplemented!("lands next")
    }

    /// Starts a log that has never held a batch at another offset, so that no offset below is given again.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn start_log_at(&self, room: Room, offset: Offset) -> Result<Ticket, ChangeError> {
        let _ = (room, offset);
        unimplemented!("lands next")
    }

    /// Forgets every batch that reaches `to` or beyond; the log ends at most there. Blocks on the disk.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn truncate(&self, room: Room, to: Offset) -> Result<Ticket, ChangeError> {
        let _ = (room, to);
        unimplemented!("lands next")
    }

    /// The sealed segments whose bytes are below the checkpoint's cut, oldest first, from the one that holds `from` on.
    /// May read the folder: blocks on the disk.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn sealed_segments(&self, from: Offset) -> Result<Vec<SealedSegment>, StorageError> {
        let _ = from;
        unimplemented!("lands next")
    }

    /// Bytes of batches held locally.
    #[must_use]
    pub fn local_size_bytes(&self) -> u64 {
        unimplemented!("lands next")
    }
}

/// A segment that will not change any more, and is safe on disk.
#[derive(Debug, Clone)]
pub struct SealedSegment {
    /// The first offset it stands for.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Bytes of batches, which is the file's length.
    pub size_bytes: u64,
    /// The largest record time in it, -1 for none.
    pub max_timestamp_ms: i64,
    /// The epoch of its last batch.
    pub leader_epoch: LeaderEpoch,
    /// When its last batch was appended, in milliseconds since 1970.
    pub last_append_time_ms: i64,
    /// All its bytes.
    pub bytes: FileRange,
    /// The sidecar, verbatim: [`crate::sidecar::Sidecar::decode`] reads it.
    pub sidecar: Bytes,
}
