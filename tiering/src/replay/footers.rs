//! Footers of objects, read once, checked against the manifest, and kept while there is room.
//!
//! Owns: the cache. Does not own: blocks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hotlog::aborted::AbortedTransactions;
use hotlog::sidecar::Sidecar;

use crate::limits::FOOTER_CACHE_BYTES;
use crate::manifest::SegmentRow;
use crate::object::{
    BlockRow, Footer, LogIdentity, ObjectError, TRAILER_BYTES, decode_footer, decode_trailer,
};
use crate::seams::AttemptId;
use bytes::Bytes;

/// What readers need of a footer.
#[derive(Debug)]
pub(super) struct OpenFooter {
    pub(super) blocks: Vec<BlockRow>,
    pub(super) aborted: AbortedTransactions,
}

/// Footers, the most recently used last.
#[derive(Debug, Default)]
pub(super) struct FooterCache(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    order: VecDeque<(AttemptId, Arc<OpenFooter>)>,
    bytes: usize,
}

impl OpenFooter {
    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.blocks.len() * size_of::<BlockRow>()
            + std::mem::size_of_val(self.aborted.entries())
    }
}

impl FooterCache {
    pub(super) fn get(&self, attempt: AttemptId) -> Option<Arc<OpenFooter>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = entries.order.iter().position(|(known, _)| *known == attempt)?;
        let entry = entries.order.remove(place)?;
        let footer = entry.1.clone();
        entries.order.push_back(entry);
        Some(footer)
    }

    pub(super) fn put(&self, attempt: AttemptId, footer: Arc<OpenFooter>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.bytes += footer.memory_bytes();
        entries.order.push_back((attempt, footer));
        while entries.bytes > FOOTER_CACHE_BYTES && entries.order.len() > 1 {
            if let Some((_, dropped)) = entries.order.pop_front() {
                entries.bytes -= dropped.memory_bytes();
            }
        }
    }
}

/// Decodes the tail of an object (footer and trailer) and proves that it is the object which the row names.
pub(super) fn open_tail(
    log: &LogIdentity,
    row: &SegmentRow,
    tail: &Bytes,
) -> Result<OpenFooter, ObjectError> {
    let trailer = decode_trailer(tail, row.object_bytes)?;
    let footer_bytes = tail.len() - TRAILER_BYTES;
    if trailer.footer_bytes as usize > footer_bytes {
        return Err(ObjectError::Footer { detail: "it has another length than the manifest says" });
    }
    let start = footer_bytes - trailer.footer_bytes as usize;
    let footer = decode_footer(&trailer, &tail.slice(start..footer_bytes))?;
    footer.identity.expect(&row.identity(log))?;
    let aborted = aborted_of(&footer)?;
    Ok(OpenFooter { blocks: footer.blocks, aborted })
}

/// The aborted transactions that the sidecar lists.
pub(crate) fn aborted_of(footer: &Footer) -> Result<AbortedTransactions, ObjectError> {
    let sidecar = Sidecar::decode(&footer.sidecar);
    sidecar
        .map(|sidecar| sidecar.aborted)
        .map_err(|_| ObjectError::Footer { detail: "its sidecar is damaged" })
}
