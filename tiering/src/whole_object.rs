//! One live object read from front to end and checked against its row in the manifest, down to the batches.
//!
//! Owns: the walk, and what counts as whole. Does not own: who asks (`admin::verify`, the engine's second look at
//! damaged objects and its first where a local copy is damaged), retries. An object is fetched block by block, so memory stays small.

use std::ops::Range;

use bytes::Bytes;

use crate::keys;
use crate::limits::READ_STALL;
use crate::manifest::SegmentRow;
use crate::object::{
    LogIdentity, ObjectError, TRAILER_BYTES, check_batches, decode_footer, decode_trailer, open_block,
};
use crate::replay::aborted_of;
use crate::store::{Store, StoreError, StoreKey, read_range};

/// Why an object is not known to be whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The store does not give it out.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What it gives out is damaged.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl Fault {
    /// Whether it is the object's own, and not that of a store that does not give it out now.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Fault::Store(error) => error.is_not_found(),
            Fault::Object(_) => true,
        }
    }
}

/// The object that a row names.
pub(crate) fn key(log: &LogIdentity, row: &SegmentRow) -> StoreKey {
    keys::segment(log, row.base_offset, row.leader_epoch, row.attempt)
}

/// Reads and checks the object that a row names.
///
/// # Errors
/// The first fault.
pub(crate) async fn check(store: &dyn Store, log: &LogIdentity, row: &SegmentRow) -> Result<(), Fault> {
    let key = key(log, row);
    let size = in_time(&key, store.head(&key)).await?;
    let tail = read(store, &key, size.saturating_sub(TRAILER_BYTES as u64)..size).await?;
    let trailer = decode_trailer(&tail, size)?;
    let footer_end = trailer.footer_position + u64::from(trailer.footer_bytes);
    let footer = decode_footer(&trailer, &read(store, &key, trailer.footer_position..footer_end).await?)?;
    footer.identity.expect(&row.identity(log))?;
    aborted_of(&footer)?;
    let mut crc = 0;
    for (index, block) in footer.blocks.iter().enumerate() {
        let end = block.stored_position + u64::from(block.stored_bytes);
        let raw = open_block(block, read(store, &key, block.stored_position..end).await?)?;
        let next = footer.blocks.get(index + 1).map_or(row.next_offset, |next| next.base_offset);
        check_batches(block, &raw, next, true)?;
        crc = crc32c::crc32c_append(crc, &raw);
    }
    if crc != row.raw_crc {
        let detail = "the segment's checksum does not match its blocks";
        return Err(ObjectError::Footer { detail }.into());
    }
    Ok(())
}

async fn read(store: &dyn Store, key: &StoreKey, range: Range<u64>) -> Result<Bytes, StoreError> {
    in_time(key, read_range(store, key, range)).await
}

/// A store that does not answer must not hold up whoever asks.
async fn in_time<T>(
    key: &StoreKey,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    crate::timers::timeout(READ_STALL, asked).await.unwrap_or_else(|_| {
        let detail = format!("no answer within {} s", READ_STALL.as_secs());
        Err(StoreError::Unavailable { key: key.to_string(), detail })
    })
}
