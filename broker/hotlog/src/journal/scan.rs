//! Reads a journal that a process left behind: the chain of commits from the checkpoint's cut to where it breaks.
//!
//! Owns: following the chain, telling its end from damage. Does not own: what to do about damage, or what entries mean.

use super::format::{COMMIT_HEADER_BYTES, CommitHeader, ENTRY_HEADER_BYTES, EntryHeader, entry_bytes};
use super::{ChainPoint, Geometry};
use crate::checkpoint::Start;
use crate::options::FlushMode;

/// A whole commit found in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundCommit {
    pub(crate) header: CommitHeader,
    pub(crate) crc: u32,
    /// Where it begins.
    pub(crate) position: u64,
}

/// A commit beyond the chain's end, and whether it proves damage (`ack`) or a loss that was possible (`os`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beyond {
    pub(crate) sequence: u64,
    pub(crate) mode: FlushMode,
}

/// One entry of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundEntry<'a> {
    pub(crate) header: EntryHeader,
    /// The logical position of the entry.
    pub(crate) position: u64,
    pub(crate) payload: &'a [u8],
}

impl FoundEntry<'_> {
    /// The logical position of the payload.
    pub(crate) fn payload_position(&self) -> u64 {
        self.position + ENTRY_HEADER_BYTES as u64
    }
}

/// The ring's data area as it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingBytes<'a> {
    pub(crate) geometry: Geometry,
    pub(crate) data: &'a [u8],
}

impl<'a> RingBytes<'a> {
    /// The commits that follow `from`, in order, up to where the chain breaks. What follows the point where `last`, the last start, was
    /// recorded is of that start: a commit of an earlier one there had been given up, and was made whole again by pieces of later writes.
    pub(crate) fn chain(
        self,
        from: ChainPoint,
        last: Option<Start>,
    ) -> impl Iterator<Item = FoundCommit> + 'a {
        let mut at = from;
        let counts = move |found: &FoundCommit| {
            let CommitHeader { sequence, start_number, .. } = found.header;
            last.is_none_or(|last| sequence <= last.point.sequence || start_number == last.number)
        };
        std::iter::from_fn(move || {
            let found = self.next(&at).filter(counts)?;
            at = found.after();
            // Within one capacity of the cut, or an endless lap could be walked.
            (at.position <= from.position + self.geometry.capacity).then_some(found)
        })
    }

    fn next(&self, at: &ChainPoint) -> Option<FoundCommit> {
        let lap_end = at.position.next_multiple_of(self.geometry.capacity);
        // A commit that does not fit before the ring's end stands at its start.
        [at.position, lap_end].into_iter().find_map(|position| {
            let (header, crc) = self.commit_at(position)?;
            let follows = header.sequence == at.sequence + 1 && header.previous_crc == at.crc;
            follows.then_some(FoundCommit { header, crc, position })
        })
    }

    fn commit_at(&self, position: u64) -> Option<(CommitHeader, u32)> {
        let bytes = &self.data[(position % self.geometry.capacity) as usize..];
        CommitHeader::read(self.geometry.ring_id, self.geometry.block as u32, bytes)
    }

    /// Whether the last commit of `point` is still there, as it is until the ring has come round once more.
    pub(crate) fn holds_last_of(&self, point: &ChainPoint) -> bool {
        self.commit_at(point.last_start)
            .is_some_and(|(header, crc)| header.sequence == point.sequence && crc == point.crc)
    }

    /// The lowest commit above `end` that a journal which ends there cannot hold: one of the present start, or one that was there when
    /// that start was recorded.
    pub(crate) fn beyond(&self, end: u64, present: &Start) -> Option<Beyond> {
        let positions = (0..self.geometry.capacity).step_by(self.geometry.block as usize);
        let found = positions.filter_map(|position| {
            let peeked = CommitHeader::peek(&self.data[position as usize..])?;
            let was_there = peeked.sequence <= present.point.sequence;
            if peeked.sequence <= end || !(was_there || peeked.start_number == present.number) {
                return None;
            }
            let (header, _) = self.commit_at(position)?;
            // What recovery has found once was synced by it, in either mode.
            let mode = if was_there { FlushMode::Ack } else { header.mode };
            Some(Beyond { sequence: header.sequence, mode })
        });
        found.min_by_key(|beyond| beyond.sequence)
    }
}

/// The entries in the bytes of a commit; an `Err` is where they do not add up, which the checksum rules out for what this program
/// wrote.
pub(crate) fn entries<'a>(
    commit: &FoundCommit,
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<FoundEntry<'a>, u64>> + use<'a> {
    let start = commit.position;
    let end = COMMIT_HEADER_BYTES + commit.header.entries_bytes as usize;
    let mut at = COMMIT_HEADER_BYTES;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let position = start + at as u64;
        let rest = &bytes[at..end];
        let entry = EntryHeader::decode(rest).and_then(|header| {
            let payload = rest[ENTRY_HEADER_BYTES..].get(..header.length as usize)?;
            Some(FoundEntry { header, position, payload })
        });
        let Some(entry) = entry else {
            at = end;
            return Some(Err(position));
        };
        at += entry_bytes(entry.header.length as usize);
        Some(Ok(entry))
    })
}

impl FoundCommit {
    /// The chain's end behind this commit.
    pub(crate) fn after(&self) -> ChainPoint {
        ChainPoint {
            position: self.position + u64::from(self.header.length),
            sequence: self.header.sequence,
            crc: self.crc,
            last_start: self.position,
        }
    }
}
