//! Making an object: a segment's bytes go in as they are read, stored blocks come out.
//!
//! Owns: where blocks are cut, how they are compressed, what the footer will say; it checks every batch on the way, so
//! that damage on local disk never becomes the only copy. Does not own: reading the segment, sending the blocks.

use bytes::{Bytes, BytesMut};
use hotlog::sidecar::Sidecar;
use wire::batch::{BatchHeader, BatchView, HEADER_BYTES};
use wire::ids::{LeaderEpoch, Offset};

use super::footer::{self, Footer};
use super::{BlockCodec, BlockRow, LogIdentity, ObjectIdentity};
use crate::limits::{
    BLOCK_FLOOR_BYTES, BLOCK_LIMIT_BYTES, BLOCK_TARGET_BYTES, COMPRESSION_GAIN_DIVISOR, SIDECAR_LIMIT_BYTES,
    ZSTD_LEVEL,
};
use crate::seams::AttemptId;

/// Why a segment cannot be packed: it is not what the hot log says it is. Nothing is uploaded then.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PackError {
    /// A batch is malformed or fails its checksum.
    #[error("local segment {base_offset} is damaged at position {position}: {detail}")]
    Batch {
        /// The segment.
        base_offset: i64,
        /// Where in the segment.
        position: u64,
        /// What is wrong.
        detail: String,
    },
    /// A batch is larger than any block may be.
    #[error(
        "local segment {base_offset} holds a batch of {bytes} bytes, more than the {limit} that can be tiered"
    )]
    BatchTooLarge {
        /// The segment.
        base_offset: i64,
        /// The batch's size.
        bytes: usize,
        /// The most a block holds.
        limit: usize,
    },
    /// The segment ends inside a batch, holds none, or does not end where the hot log says.
    #[error("local segment {base_offset} ends at offset {found} where offset {expected} is expected")]
    End {
        /// The segment.
        base_offset: i64,
        /// One past the last whole batch.
        found: i64,
        /// One past the last offset by the hot log.
        expected: i64,
    },
    /// The sidecar cannot be read.
    #[error("sidecar of local segment {base_offset} is damaged: {detail}")]
    DamagedSidecar {
        /// The segment.
        base_offset: i64,
        /// What is wrong.
        detail: String,
    },
    /// The sidecar is larger than a footer can hold.
    #[error(
        "sidecar of local segment {base_offset} has {bytes} bytes, more than the {limit} that can be tiered"
    )]
    Sidecar {
        /// The segment.
        base_offset: i64,
        /// The sidecar's size.
        bytes: usize,
        /// The most that is accepted.
        limit: usize,
    },
}

/// Where a leader epoch starts in a segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start_offset: Offset,
}

/// What a finished pack says about its object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// What the object says it is.
    pub identity: ObjectIdentity,
    /// Size of the whole object.
    pub object_bytes: u64,
    /// Size of its footer, without the trailer.
    pub footer_bytes: u32,
    /// How many aborted transactions the sidecar lists.
    pub aborted: u32,
    /// The epochs that begin in the segment, rising (the first entry may continue an older one).
    pub epochs: Vec<EpochStart>,
}

/// Packs one segment. Feed it the bytes in order, send what it gives back, then finish.
pub struct Packer {
    log: LogIdentity,
    base_offset: Offset,
    attempt: AttemptId,
    codec: BlockCodec,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    pending: BytesMut,
    /// Bytes of `pending` that are whole, checked batches.
    whole: usize,
    /// First offset and greatest time of those.
    open_block: Option<(Offset, i64)>,
    blocks: Vec<BlockRow>,
    epochs: Vec<EpochStart>,
    next_offset: Offset,
    raw_bytes: u64,
    raw_crc: u32,
    stored_bytes: u64,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("base_offset", &self.base_offset)
            .field("blocks", &self.blocks.len())
            .finish()
    }
}

impl Packer {
    /// Starts the segment of `log` at `base_offset`.
    pub fn new(log: LogIdentity, base_offset: Offset, attempt: AttemptId, codec: BlockCodec) -> Self {
        Packer {
            log,
            base_offset,
            attempt,
            codec,
            zstd: None,
            pending: BytesMut::new(),
            whole: 0,
            open_block: None,
            blocks: Vec::new(),
            epochs: Vec::new(),
            next_offset: base_offset,
            raw_bytes: 0,
            raw_crc: 0,
            stored_bytes: 0,
        }
    }

    /// Takes the next bytes of the segment, cut anywhere; returns the stored blocks that are complete now.
    ///
    /// # Errors
    /// The segment is damaged.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, PackError> {
        self.pending.extend_from_slice(bytes);
        let mut stored = Vec::new();
        while self.pending.len() - self.whole >= HEADER_BYTES {
            let rest = &self.pending[self.whole..];
            let header = BatchHeader::parse(rest).map_err(|error| self.damaged(error.to_string()))?;
            if header.size_bytes > BLOCK_LIMIT_BYTES {
                let (bytes, limit) = (header.size_bytes, BLOCK_LIMIT_BYTES);
                return Err(PackError::BatchTooLarge { base_offset: self.base_offset.0, bytes, limit });
            }
            if rest.len() < header.size_bytes {
                break;
            }
            if self.whole >= BLOCK_FLOOR_BYTES && self.whole + header.size_bytes > BLOCK_TARGET_BYTES {
                stored.extend(self.cut());
            }
            self.take_batch(&header)?;
        }
        Ok(stored)
    }

    fn take_batch(&mut self, header: &BatchHeader) -> Result<(), PackError> {
        let bytes = &self.pending[self.whole..self.whole + header.size_bytes];
        let checked = BatchView::only(bytes).and_then(|batch| batch.check_crc());
        checked.map_err(|error| self.damaged(error.to_string()))?;
        if header.base_offset < self.next_offset {
            return Err(self.damaged(format!(
                "offset {} comes after {}",
                header.base_offset.0,
                self.next_offset.0 - 1
            )));
        }
        match self.epochs.last() {
            Some(last) if last.epoch > header.leader_epoch => {
                return Err(self.damaged(format!("epoch {} after {}", header.leader_epoch.0, last.epoch.0)));
            }
            Some(last) if last.epoch == header.leader_epoch => {}
            _ => {
                self.epochs.push(EpochStart { epoch: header.leader_epoch, start_offset: header.base_offset })
            }
        }
        let block = self.open_block.get_or_insert((header.base_offset, header.max_timestamp_ms));
        block.1 = block.1.max(header.max_timestamp_ms);
        self.next_offset = header.next_offset();
        self.whole += header.size_bytes;
        Ok(())
    }

    fn damaged(&self, detail: String) -> PackError {
        let position = self.raw_bytes + self.whole as u64;
        PackError::Batch { base_offset: self.base_offset.0, position, detail }
    }

    /// Closes the open block.
    fn cut(&mut self) -> Option<Bytes> {
        let (base_offset, max_timestamp_ms) = self.open_block.take()?;
        let raw = self.pending.split_to(std::mem::take(&mut self.whole)).freeze();
        let (codec, stored) = self.compress(&raw);
        self.blocks.push(BlockRow {
            raw_position: self.raw_bytes,
            stored_position: self.stored_bytes,
            raw_bytes: raw.len() as u32,
            stored_bytes: stored.len() as u32,
            codec,
            checksum: crc32c::crc32c(&stored),
            base_offset,
            max_timestamp_ms,
        });
        self.raw_crc = crc32c::crc32c_append(self.raw_crc, &raw);
        self.raw_bytes += raw.len() as u64;
        self.stored_bytes += stored.len() as u64;
        Some(stored)
    }

    fn compress(&mut self, raw: &Bytes) -> (BlockCodec, Bytes) {
        let packed = match self.codec {
            BlockCodec::Raw => None,
            BlockCodec::Lz4 => Some(lz4_flex::block::compress(raw)),
            BlockCodec::Zstd => self.zstd_compressor().and_then(|zstd| zstd.compress(raw).ok()),
        };
        match packed {
            Some(packed) if packed.len() <= raw.len() - raw.len().div_ceil(COMPRESSION_GAIN_DIVISOR) => {
                (self.codec, Bytes::from(packed))
            }
            _ => (BlockCodec::Raw, raw.clone()),
        }
    }

    /// The compressor's tables are kept from block to block. Without memory for them blocks stay raw.
    fn zstd_compressor(&mut self) -> Option<&mut zstd::bulk::Compressor<'static>> {
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        self.zstd.as_mut()
    }

    /// Ends the segment: the last block, the footer and the trailer, to be sent in this order.
    ///
    /// # Errors
    /// The segment does not end, on a batch border, at `next_offset`; or the sidecar is too large.
    pub fn finish(mut self, next_offset: Offset, sidecar: Bytes) -> Result<(Vec<Bytes>, Packed), PackError> {
        let last = self.cut();
        if !self.pending.is_empty() || self.blocks.is_empty() || self.next_offset > next_offset {
            let (found, expected) = (self.next_offset.0, next_offset.0);
            return Err(PackError::End { base_offset: self.base_offset.0, found, expected });
        }
        if sidecar.len() > SIDECAR_LIMIT_BYTES {
            let (bytes, limit) = (sidecar.len(), SIDECAR_LIMIT_BYTES);
            return Err(PackError::Sidecar { base_offset: self.base_offset.0, bytes, limit });
        }
        let aborted = Sidecar::decode(&sidecar).map(|sidecar| sidecar.aborted.entries().len() as u32);
        let aborted = aborted.map_err(|error| PackError::DamagedSidecar {
            base_offset: self.base_offset.0,
            detail: error.to_string(),
        })?;
        let identity = ObjectIdentity {
            log: self.log,
            base_offset: self.base_offset,
            next_offset,
            leader_epoch: self.epochs.last().map_or(LeaderEpoch(-1), |last| last.epoch),
            attempt: self.attempt,
            raw_bytes: self.raw_bytes,
            raw_crc: self.raw_crc,
            max_timestamp_ms: self.blocks.iter().map(|row| row.max_timestamp_ms).max().unwrap_or(-1),
        };
        let footer = Footer { identity, blocks: self.blocks, sidecar };
        let tail = footer::encode(&footer);
        let packed = Packed {
            identity: footer.identity,
            object_bytes: self.stored_bytes + tail.len() as u64,
            footer_bytes: (tail.len() - footer::TRAILER_BYTES) as u32,
            aborted,
            epochs: self.epochs,
        };
        Ok((last.into_iter().chain([tail]).collect(), packed))
    }
}
