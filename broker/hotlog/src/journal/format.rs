//! The journal's bytes, as drawn in `FORMAT-JOURNAL.md`: ring header, commit header, entry header.
//!
//! Owns: encoding, decoding and checksums. Does not own: where in the ring anything lies, or what entries mean.

use wire::ids::{LeaderEpoch, Offset, TopicId};

use crate::options::FlushMode;
use crate::partition::PartitionId;

/// Begins a journal file.
const RING_MAGIC: [u8; 8] = *b"LHRING\r\n";
/// The version written, and the only one there is.
pub(crate) const RING_VERSION: u16 = 1;
/// Bytes of the ring header that carry something; the rest of its block is zero.
pub(crate) const RING_HEADER_BYTES: usize = 48;
/// Begins a commit.
const COMMIT_MAGIC: [u8; 4] = *b"LHCM";
/// Bytes before a commit's first entry.
pub(crate) const COMMIT_HEADER_BYTES: usize = 64;
/// Bytes before an entry's payload.
pub(crate) const ENTRY_HEADER_BYTES: usize = 48;
/// Entries begin at multiples of this.
pub(crate) const ENTRY_ALIGN: usize = 8;

/// A random name given to a ring when it is made, so that no other ring's bytes are taken for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingId(pub(crate) [u8; 16]);

/// The first block of a journal file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingHeader {
    pub(crate) ring_id: RingId,
    /// The unit of commits; the data begins at this byte of the file.
    pub(crate) block_bytes: u32,
    /// Bytes of the data area.
    pub(crate) capacity_bytes: u64,
}

/// Why a ring header is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RingHeaderError {
    /// Other bytes, or a changed one.
    Damaged,
    /// Another version of this program wrote it.
    Version(u16),
}

impl RingHeader {
    pub(crate) fn encode(&self) -> [u8; RING_HEADER_BYTES] {
        let mut bytes = [0; RING_HEADER_BYTES];
        bytes[..8].copy_from_slice(&RING_MAGIC);
        bytes[8..10].copy_from_slice(&RING_VERSION.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.block_bytes.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.capacity_bytes.to_be_bytes());
        bytes[24..40].copy_from_slice(&self.ring_id.0);
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; RING_HEADER_BYTES]) -> Result<Self, RingHeaderError> {
        let crc = u32::from_be_bytes(field(bytes, 44));
        if bytes[..8] != RING_MAGIC || crc32c::crc32c(&bytes[..44]) != crc {
            return Err(RingHeaderError::Damaged);
        }
        let version = u16::from_be_bytes(field(bytes, 8));
        if version != RING_VERSION {
            return Err(RingHeaderError::Version(version));
        }
        let header = Self {
            block_bytes: u32::from_be_bytes(field(bytes, 12)),
            capacity_bytes: u64::from_be_bytes(field(bytes, 16)),
            ring_id: RingId(field(bytes, 24)),
        };
        let block = u64::from(header.block_bytes);
        let sound = block.is_power_of_two() && block >= 512 && header.capacity_bytes.is_multiple_of(block);
        if sound { Ok(header) } else { Err(RingHeaderError::Damaged) }
    }
}

/// What a commit says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitHeader {
    pub(crate) sequence: u64,
    pub(crate) start_number: u32,
    pub(crate) mode: FlushMode,
    /// Header, entries and padding: a multiple of the block.
    pub(crate) length: u32,
    /// Bytes of entries.
    pub(crate) entries_bytes: u32,
    /// The checksum of the commit before.
    pub(crate) previous_crc: u32,
    /// The last durable checkpoint when this was written.
    pub(crate) checkpoint_number: u64,
}

impl CommitHeader {
    /// Writes the header into the first bytes of a complete commit and returns the commit's checksum.
    pub(crate) fn seal(&self, ring_id: RingId, commit: &mut [u8]) -> u32 {
        commit[..4].copy_from_slice(&COMMIT_MAGIC);
        commit[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        commit[16..20].copy_from_slice(&self.start_number.to_be_bytes());
        commit[20] = match self.mode {
            FlushMode::Ack => 0,
            FlushMode::Os => 1,
        };
        commit[21..24].fill(0);
        commit[24..28].copy_from_slice(&self.length.to_be_bytes());
        commit[28..32].copy_from_slice(&self.entries_bytes.to_be_bytes());
        commit[32..36].copy_from_slice(&self.previous_crc.to_be_bytes());
        commit[36..40].fill(0);
        commit[40..48].copy_from_slice(&self.checkpoint_number.to_be_bytes());
        commit[48..COMMIT_HEADER_BYTES].fill(0);
        let crc = commit_crc(ring_id, commit);
        commit[4..8].copy_from_slice(&crc.to_be_bytes());
        crc
    }

    /// Reads a header without its checksum's proof: a cheap first look.
    pub(crate) fn peek(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; COMMIT_HEADER_BYTES] = bytes.first_chunk()?;
        if header[..4] != COMMIT_MAGIC {
            return None;
        }
        let mode = match header[20] {
            0 => FlushMode::Ack,
            1 => FlushMode::Os,
            _ => return None,
        };
        Some(Self {
            sequence: u64::from_be_bytes(field(header, 8)),
            start_number: u32::from_be_bytes(field(header, 16)),
            mode,
            length: u32::from_be_bytes(field(header, 24)),
            entries_bytes: u32::from_be_bytes(field(header, 28)),
            previous_crc: u32::from_be_bytes(field(header, 32)),
            checkpoint_number: u64::from_be_bytes(field(header, 40)),
        })
    }

    /// Reads a commit of this ring from the start of `bytes`, with its checksum, when it is whole.
    pub(crate) fn read(ring_id: RingId, block_bytes: u32, bytes: &[u8]) -> Option<(Self, u32)> {
        let header = Self::peek(bytes)?;
        let length = header.length as usize;
        let fits = header.length > 0
            && header.length.is_multiple_of(block_bytes)
            && length <= bytes.len()
            && header.entries_bytes as usize + COMMIT_HEADER_BYTES <= length;
        if !fits {
            return None;
        }
        let stored = u32::from_be_bytes(field(bytes, 4));
        (commit_crc(ring_id, &bytes[..length]) == stored).then_some((header, stored))
    }
}

fn commit_crc(ring_id: RingId, commit: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&ring_id.0);
    crc32c::crc32c_append(crc, &commit[8..])
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A batch; the payload is the batch as it goes to the segment.
    Batch {
        /// Whether it is the first of a new segment.
        rolls: bool,
    },
    /// The log starts at `offset` now.
    LogStart,
    /// The log, which has held nothing, goes on at `offset`; the payload is what lies below.
    Beginning,
    /// The log ends at `offset` now; the payload is what else changed with that.
    Truncate,
    /// The active segment ends at `offset`.
    Roll,
}

/// What stands before an entry's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) kind: EntryKind,
    pub(crate) partition: PartitionId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) offset: Offset,
    pub(crate) append_time_ms: i64,
    /// Bytes of payload, without padding.
    pub(crate) length: u32,
}

impl EntryHeader {
    pub(crate) fn encode(&self) -> [u8; ENTRY_HEADER_BYTES] {
        let mut bytes = [0; ENTRY_HEADER_BYTES];
        (bytes[0], bytes[1]) = match self.kind {
            EntryKind::Batch { rolls } => (1, u8::from(rolls)),
            EntryKind::LogStart => (2, 0),
            EntryKind::Beginning => (3, 0),
            EntryKind::Truncate => (4, 0),
            EntryKind::Roll => (5, 0),
        };
        bytes[4..8].copy_from_slice(&self.length.to_be_bytes());
        bytes[8..24].copy_from_slice(&self.partition.topic_id.0);
        bytes[24..28].copy_from_slice(&self.partition.partition.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.offset.0.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.append_time_ms.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENTRY_HEADER_BYTES] = bytes.first_chunk()?;
        let kind = match (bytes[0], bytes[1]) {
            (1, rolls @ 0..=1) => EntryKind::Batch { rolls: rolls == 1 },
            (2, 0) => EntryKind::LogStart,
            (3, 0) => EntryKind::Beginning,
            (4, 0) => EntryKind::Truncate,
            (5, 0) => EntryKind::Roll,
            _ => return None,
        };
        Some(Self {
            kind,
            length: u32::from_be_bytes(field(bytes, 4)),
            partition: PartitionId {
                topic_id: TopicId(field(bytes, 8)),
                partition: i32::from_be_bytes(field(bytes, 24)),
            },
            epoch: LeaderEpoch(i32::from_be_bytes(field(bytes, 28))),
            offset: Offset(i64::from_be_bytes(field(bytes, 32))),
            append_time_ms: i64::from_be_bytes(field(bytes, 40)),
        })
    }
}

/// Bytes that an entry with a payload of `length` takes in a commit.
pub(crate) const fn entry_bytes(length: usize) -> usize {
    (ENTRY_HEADER_BYTES + length).next_multiple_of(ENTRY_ALIGN)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    found.copy_from_slice(&bytes[at..at + N]);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: RingId = RingId([7; 16]);

    fn commit() -> (CommitHeader, Vec<u8>) {
        let header = CommitHeader {
            sequence: 42,
            start_number: 3,
            mode: FlushMode::Os,
            length: 4096,
            entries_bytes: 100,
            previous_crc: 0xdead_beef,
            checkpoint_number: 9,
        };
        let mut bytes = vec![5; 4096];
        header.seal(RING, &mut bytes);
        (header, bytes)
    }

    #[test]
    fn a_commit_reads_back() {
        let (header, bytes) = commit();
        assert_eq!(CommitHeader::read(RING, 4096, &bytes).map(|(header, _)| header), Some(header));
    }

    #[test]
    fn any_changed_bit_and_any_other_ring_is_refused() {
        let (_, bytes) = commit();
        assert_eq!(CommitHeader::read(RingId([8; 16]), 4096, &bytes), None);
        for position in (0..bytes.len()).filter(|position| *position < 128 || position.is_multiple_of(97)) {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[position] ^= 1 << bit;
                assert_eq!(CommitHeader::read(RING, 4096, &changed), None, "bit {bit} of byte {position}");
            }
        }
    }

    #[test]
    fn an_entry_header_reads_back() {
        for kind in [
            EntryKind::Batch { rolls: true },
            EntryKind::Batch { rolls: false },
            EntryKind::LogStart,
            EntryKind::Beginning,
            EntryKind::Truncate,
            EntryKind::Roll,
        ] {
            let header = EntryHeader {
                kind,
                partition: PartitionId { topic_id: TopicId([9; 16]), partition: 77 },
                epoch: LeaderEpoch(5),
                offset: Offset(1 << 40),
                append_time_ms: 1_700_000_000_000,
                length: 1234,
            };
            assert_eq!(EntryHeader::decode(&header.encode()), Some(header));
        }
    }

    #[test]
    fn a_ring_header_reads_back_or_says_why_not() {
        let header = RingHeader { ring_id: RING, block_bytes: 4096, capacity_bytes: 1 << 20 };
        let bytes = header.encode();
        assert_eq!(RingHeader::decode(&bytes), Ok(header));
        let mut flipped = bytes;
        flipped[30] ^= 1;
        assert_eq!(RingHeader::decode(&flipped), Err(RingHeaderError::Damaged));
        let mut newer = bytes;
        newer[9] = 2;
        let crc = crc32c::crc32c(&newer[..44]);
        newer[44..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(RingHeader::decode(&newer), Err(RingHeaderError::Version(2)));
    }
}
