//! Opening blocks: stored bytes in, whole checked batches out, or a specific error.
//!
//! Owns: checksum, unpacking under a cap, the walk over batches. Does not own: fetching.

use bytes::Bytes;
use wire::batch::{BatchHeader, BatchView};
use wire::ids::Offset;

use super::{BlockCodec, BlockRow, ObjectError};

/// Checks the stored bytes of a block and unpacks them. Nothing that fails its checksum is unpacked, and no more
/// memory is taken than the table says, which the footer's reader has bounded.
///
/// # Errors
/// [`ObjectError::BlockChecksum`] or [`ObjectError::BlockUnpack`].
pub fn open_block(row: &BlockRow, stored: Bytes) -> Result<Bytes, ObjectError> {
    let stored_position = row.stored_position;
    if stored.len() != row.stored_bytes as usize || crc32c::crc32c(&stored) != row.checksum {
        return Err(ObjectError::BlockChecksum { stored_position });
    }
    let raw_bytes = row.raw_bytes as usize;
    let unpacked = match row.codec {
        BlockCodec::Raw => return Ok(stored),
        BlockCodec::Zstd => zstd::bulk::decompress(&stored, raw_bytes).ok(),
        BlockCodec::Lz4 => lz4_flex::block::decompress(&stored, raw_bytes).ok(),
    };
    match unpacked {
        Some(raw) if raw.len() == raw_bytes => Ok(Bytes::from(raw)),
        _ => Err(ObjectError::BlockUnpack { stored_position, raw_bytes: row.raw_bytes }),
    }
}

/// Walks the batches of an opened block: whole, in order, inside `[row.base_offset, end)`.
///
/// With `deep`, each batch's own checksum is checked too (scrubbing and verification; the block's checksum covers
/// every byte already).
///
/// # Errors
/// [`ObjectError::Batches`] with the position of the first fault.
pub fn check_batches(
    row: &BlockRow,
    raw: &Bytes,
    end: Offset,
    deep: bool,
) -> Result<Vec<BatchHeader>, ObjectError> {
    let wrong = |detail: String| ObjectError::Batches { stored_position: row.stored_position, detail };
    let (mut headers, mut position, mut next) = (Vec::new(), 0usize, row.base_offset);
    while position < raw.len() {
        let header =
            BatchHeader::parse(&raw[position..]).map_err(|error| wrong(format!("at {position}: {error}")))?;
        if header.size_bytes > raw.len() - position {
            return Err(wrong(format!("at {position}: the batch crosses the end of the block")));
        }
        if header.base_offset < next || header.next_offset() > end {
            return Err(wrong(format!("at {position}: offset {} is out of order", header.base_offset.0)));
        }
        if deep {
            let bytes = &raw[position..position + header.size_bytes];
            let checked = BatchView::only(bytes).and_then(|batch| batch.check_crc());
            checked.map_err(|error| wrong(format!("at {position}: {error}")))?;
        }
        (position, next) = (position + header.size_bytes, header.next_offset());
        headers.push(header);
    }
    Ok(headers)
}
