//! Segments: Kafka's v2 batches byte for byte in files that `kafka-dump-log` reads, and a sidecar beside each sealed one.
//!
//! Owns: names, and what is known in memory of a segment that is not sealed. Does not own: when bytes are written or sealed
//! (`writer`), the sidecar's format.

pub(crate) mod cache;
pub(crate) mod writer;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use wire::ids::{LeaderEpoch, Offset, TopicId};

use crate::aborted::AbortedTransactions;
use crate::epochs::EpochHistory;
use crate::index::SegmentIndex;
use crate::partition::PartitionId;
use crate::producers::ProducerStates;
use crate::sidecar::Sidecar;

/// Bytes of a segment below a block, that no file holds for sure.
#[derive(Debug, Clone)]
pub(crate) struct Remainder {
    pub(crate) position: u32,
    pub(crate) bytes: Bytes,
}

impl Remainder {
    pub(crate) fn end(&self) -> u32 {
        self.position + self.bytes.len() as u32
    }
}

/// What a segment's sidecar needs from the time of its roll.
#[derive(Debug, Clone)]
pub(crate) struct Closed {
    pub(crate) next_offset: Offset,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) producers: ProducerStates,
    pub(crate) epochs: EpochHistory,
}

/// A segment that is not sealed: the active one, or one that was rolled and waits for its seal.
///
/// Its bytes are, from the front: in the file up to `written`; then in the remainder, if there is one; then in the journal's ring.
/// The three may overlap.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) base_offset: Offset,
    pub(crate) size_bytes: u32,
    /// Whole blocks in the file.
    pub(crate) written: u32,
    /// Whether the file was written since it was last synced.
    pub(crate) unsynced: bool,
    /// Whether the file's name is durable, or will be with the next sync of its folder.
    pub(crate) named: bool,
    /// Disk space taken for the file.
    pub(crate) reserved: u64,
    pub(crate) first_append_time_ms: Option<i64>,
    pub(crate) last_append_time_ms: i64,
    pub(crate) index: SegmentIndex,
    /// Entries of the index that the checkpoint file has.
    pub(crate) known_entries: usize,
    pub(crate) aborted: AbortedTransactions,
    pub(crate) remainder: Option<Remainder>,
    /// Present once it was rolled.
    pub(crate) closed: Option<Closed>,
}

impl OpenSegment {
    pub(crate) fn new(base_offset: Offset) -> Self {
        Self {
            base_offset,
            size_bytes: 0,
            written: 0,
            unsynced: false,
            named: false,
            reserved: 0,
            first_append_time_ms: None,
            last_append_time_ms: 0,
            index: SegmentIndex::new(base_offset),
            known_entries: 0,
            aborted: AbortedTransactions::default(),
            remainder: None,
            closed: None,
        }
    }
}

impl OpenSegment {
    /// A sealed segment that becomes the active one again.
    pub(crate) fn reopened(sidecar: &Sidecar) -> Self {
        let size_bytes = sidecar.size_bytes();
        let mut segment = Self::new(sidecar.base_offset());
        segment.size_bytes = size_bytes;
        // Its last bytes below a block are in the file as well, but only as long as nobody writes there again.
        segment.written = size_bytes;
        segment.named = true;
        segment.first_append_time_ms = Some(sidecar.first_append_time_ms);
        segment.last_append_time_ms = sidecar.last_append_time_ms;
        segment.index = sidecar.index.clone();
        segment.aborted = sidecar.aborted.clone();
        segment
    }
}

/// A sealed segment, as a folder shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedMeta {
    pub(crate) base_offset: Offset,
    /// The base offset of the segment behind it.
    pub(crate) next_offset: Offset,
    pub(crate) size_bytes: u64,
}

/// The file of a segment's batches.
pub(crate) fn log_name(base_offset: Offset) -> String {
    format!("{:020}.log", base_offset.0)
}

/// The file beside it.
pub(crate) fn sidecar_name(base_offset: Offset) -> String {
    format!("{:020}.sidecar", base_offset.0)
}

/// A sidecar before it is whole.
pub(crate) fn new_sidecar_name(base_offset: Offset) -> String {
    format!("{:020}.sidecar.new", base_offset.0)
}

/// The base offset in a segment's or sidecar's name.
pub(crate) fn base_offset_of(name: &str) -> Option<Offset> {
    let (digits, kind) = name.split_once('.')?;
    let known = matches!(kind, "log" | "sidecar" | "sidecar.new");
    (known && digits.len() == 20).then(|| digits.parse().ok().map(Offset)).flatten()
}

/// A partition's folder.
pub(crate) fn folder(directory: &Path, partition: PartitionId) -> PathBuf {
    directory.join(partition.to_string())
}

/// The partition whose folder has this name.
pub(crate) fn partition_of(name: &str) -> Option<PartitionId> {
    let (topic_id, partition) = name.rsplit_once('-')?;
    let topic_id: TopicId = topic_id.parse().ok()?;
    let partition: i32 = partition.parse().ok().filter(|partition| *partition >= 0)?;
    let found = PartitionId { topic_id, partition };
    (found.to_string() == name).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let partition = PartitionId { topic_id: TopicId([0xfb; 16]), partition: 12 };
        assert_eq!(partition_of(&partition.to_string()), Some(partition));
        for other in [
            "checkpoint",
            "reserve",
            "journal",
            "a-1",
            "AAAAAAAAAAAAAAAAAAAAAQ-01",
            "AAAAAAAAAAAAAAAAAAAAAQ--1",
        ] {
            assert_eq!(partition_of(other), None, "{other}");
        }
        assert_eq!(log_name(Offset(368_769)), "00000000000000368769.log");
        assert_eq!(base_offset_of("00000000000000368769.log"), Some(Offset(368_769)));
        assert_eq!(base_offset_of("00000000000000368769.sidecar.new"), Some(Offset(368_769)));
        assert_eq!(base_offset_of("368769.log"), None);
        assert_eq!(base_offset_of("00000000000000368769.index"), None);
    }
}
