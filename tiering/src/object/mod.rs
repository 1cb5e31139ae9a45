//! The packed object: one sealed segment as compressed blocks, a footer and a fixed trailer (`FORMAT-OBJECT.md`).
//!
//! Owns: the bytes of the object, both ways, and every check that they are the ones that were written.
//! Does not own: where the object lies, when it becomes visible, what the sidecar means (its bytes are kept verbatim).
//!
//! Invariants:
//!   A. Batches inside blocks are byte for byte those of the segment; blocks are cut at batch borders only.
//!   B. Blocks tile the segment and the object without holes.
//!   C. Bytes that fail a check are never returned.

mod footer;
mod pack;
mod read;

pub use footer::{Footer, TRAILER_BYTES, Trailer, decode_footer, decode_trailer};
pub use pack::{EpochStart, PackError, Packed, Packer};
pub use read::{check_batches, open_block};

use wire::ids::{LeaderEpoch, Offset, TopicId};

use crate::seams::AttemptId;

/// How the stored bytes of a block relate to its raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BlockCodec {
    /// As they are.
    Raw,
    /// One zstd frame.
    #[default]
    Zstd,
    /// One lz4 block without a frame; the raw length stands in the block table.
    Lz4,
}

impl BlockCodec {
    fn id(self) -> u8 {
        match self {
            BlockCodec::Raw => 0,
            BlockCodec::Zstd => 1,
            BlockCodec::Lz4 => 2,
        }
    }

    fn from_id(id: u8) -> Option<Self> {
        [BlockCodec::Raw, BlockCodec::Zstd, BlockCodec::Lz4].into_iter().find(|codec| codec.id() == id)
    }
}

/// Which partition of which cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogIdentity {
    /// The cluster's id.
    pub cluster_id: String,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: i32,
}

/// What an object says it is. A reader believes an object only when this is what its manifest row says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectIdentity {
    /// Whose segment.
    pub log: LogIdentity,
    /// First offset of the segment.
    pub base_offset: Offset,
    /// One past its last offset.
    pub next_offset: Offset,
    /// Leader epoch of its last batch.
    pub leader_epoch: LeaderEpoch,
    /// The write that made the object.
    pub attempt: AttemptId,
    /// Bytes of the segment.
    pub raw_bytes: u64,
    /// CRC-32C of the segment.
    pub raw_crc: u32,
    /// Greatest record time in the segment, milliseconds; -1 without any.
    pub max_timestamp_ms: i64,
}

/// One line of the block table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRow {
    /// Where the block starts in the segment.
    pub raw_position: u64,
    /// Where its stored bytes start in the object.
    pub stored_position: u64,
    /// Its length in the segment.
    pub raw_bytes: u32,
    /// Its length in the object.
    pub stored_bytes: u32,
    /// How it is stored.
    pub codec: BlockCodec,
    /// CRC-32C of the stored bytes.
    pub checksum: u32,
    /// Base offset of its first batch.
    pub base_offset: Offset,
    /// Greatest record time in it, milliseconds; -1 without any.
    pub max_timestamp_ms: i64,
}

/// Why bytes are not the object they should be. The message names what to look at.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ObjectError {
    /// The last bytes are not a trailer of ours.
    #[error("not a segment object: its last bytes are no trailer")]
    Magic,
    /// Written by a later version.
    #[error("segment object of format version {found}; this program reads version {supported}: update it")]
    Version {
        /// The version found.
        found: u16,
        /// The version known here.
        supported: u16,
    },
    /// The trailer's own checksum fails.
    #[error("trailer of the segment object is damaged: checksum mismatch")]
    TrailerChecksum,
    /// The parts do not add up to the object's size.
    #[error(
        "segment object has {found_bytes} bytes where its trailer accounts for {expected_bytes}: truncated or extended"
    )]
    Size {
        /// Size of the object.
        found_bytes: u64,
        /// Size that the trailer implies.
        expected_bytes: u64,
    },
    /// The footer's checksum fails.
    #[error("footer of the segment object is damaged: checksum mismatch")]
    FooterChecksum,
    /// The footer contradicts itself.
    #[error("footer of the segment object is malformed: {detail}")]
    Footer {
        /// What is wrong.
        detail: &'static str,
    },
    /// A part that this program must understand and does not.
    #[error(
        "segment object holds section {kind}, which this program must understand and does not: update it"
    )]
    UnknownSection {
        /// The section's number.
        kind: u16,
    },
    /// A healthy object, but another one than the manifest names.
    #[error("the key holds another object: {field} is {found} where the manifest says {expected}")]
    Swapped {
        /// What differs.
        field: &'static str,
        /// What the object says.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// Stored bytes of a block fail their checksum.
    #[error("block at position {stored_position} is damaged: checksum mismatch")]
    BlockChecksum {
        /// Where the block lies in the object.
        stored_position: u64,
    },
    /// A block does not unpack to what the table says.
    #[error("block at position {stored_position} does not unpack to its {raw_bytes} bytes")]
    BlockUnpack {
        /// Where the block lies in the object.
        stored_position: u64,
        /// Raw length by the table.
        raw_bytes: u32,
    },
    /// A block with a good checksum holds something that is no run of whole batches in order.
    #[error("block at position {stored_position} holds malformed batches: {detail}")]
    Batches {
        /// Where the block lies in the object.
        stored_position: u64,
        /// What is wrong.
        detail: String,
    },
}

impl ObjectIdentity {
    /// Compares what the object says with what the manifest says, field by field.
    ///
    /// # Errors
    /// [`ObjectError::Swapped`] with the first field that differs.
    pub fn expect(&self, expected: &ObjectIdentity) -> Result<(), ObjectError> {
        let fields = [
            ("cluster id", self.log.cluster_id.clone(), expected.log.cluster_id.clone()),
            ("topic id", self.log.topic_id.to_string(), expected.log.topic_id.to_string()),
            ("partition", self.log.partition.to_string(), expected.log.partition.to_string()),
            ("base offset", self.base_offset.0.to_string(), expected.base_offset.0.to_string()),
            ("next offset", self.next_offset.0.to_string(), expected.next_offset.0.to_string()),
            ("leader epoch", self.leader_epoch.0.to_string(), expected.leader_epoch.0.to_string()),
            ("attempt", self.attempt.to_string(), expected.attempt.to_string()),
            ("segment size", self.raw_bytes.to_string(), expected.raw_bytes.to_string()),
            ("segment checksum", self.raw_crc.to_string(), expected.raw_crc.to_string()),
            ("greatest time", self.max_timestamp_ms.to_string(), expected.max_timestamp_ms.to_string()),
        ];
        match fields.into_iter().find(|(_, found, expected)| found != expected) {
            None => Ok(()),
            Some((field, found, expected)) => Err(ObjectError::Swapped { field, found, expected }),
        }
    }
}

#[cfg(test)]
mod tests;
