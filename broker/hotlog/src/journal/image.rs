//! The ring's bytes in memory: written by several threads at once, each in a place of its own.
//!
//! Owns: the memory and the argument why sharing it is sound. Does not own: who gets which place, or when one is free again.
//!
//! # Why this is the crate's one unsafe corner
//! Appending threads copy batches side by side while the thread that commits reads what lies before them. Locks over pieces
//! would make each of them wait for the others' copies, and a second copy per batch is what the journal exists to avoid.
//!
//! The argument: every byte range is at each moment in one of three states.
//! *Placed*: exactly one [`Place`] covers it; a place is made once per range, is not cloned, and only it writes.
//! *Gathered*: the places in it are gone (their drop is a release that whoever seals the commit acquires), and the one thread that
//! holds the journal's commit lock writes header and padding.
//! *Committed*: nobody writes until the range is freed, and it is freed under an exclusive lock that every reader holds shared.
//! The ring's state moves ranges from one to the next, and hands no place out that overlaps anything not freed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::disk::AlignedBuffer;

/// The memory. Positions are logical: they never wrap, the place in memory is the remainder by the capacity.
pub(super) struct Image {
    /// Owns the allocation; touched through `base` only.
    _memory: AlignedBuffer,
    base: *mut u8,
    capacity: u64,
}

#[allow(unsafe_code, reason = "the module's argument: ranges have one writer, or readers only")]
// SAFETY: `base` points into memory that lives as long as the image, and the module's argument rules out races.
unsafe impl Send for Image {}
#[allow(unsafe_code, reason = "the module's argument: ranges have one writer, or readers only")]
// SAFETY: as above.
unsafe impl Sync for Image {}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// The sole right to write a range of the ring, from the time the ring's lock gave it until its drop.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where the range begins.
    position: u64,
    length: usize,
    /// The commit's count of copies under way.
    copies: Arc<AtomicU32>,
}

impl Place {
    /// Only the ring's state makes places, each range once.
    pub(super) fn new(position: u64, length: usize, copies: &Arc<AtomicU32>) -> Self {
        copies.fetch_add(1, Ordering::Relaxed);
        Self { position, length, copies: Arc::clone(copies) }
    }

    /// The logical position of the first byte.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.copies.fetch_sub(1, Ordering::Release);
    }
}

impl Image {
    /// Takes over memory that holds the ring's data area.
    pub(super) fn new(mut memory: AlignedBuffer) -> Self {
        let capacity = memory.len() as u64;
        let base = memory.as_mut_ptr();
        Self { _memory: memory, base, capacity }
    }

    /// Copies `parts`, one behind the other, to the front of a place.
    pub(super) fn fill(&self, place: &mut Place, parts: &[&[u8]]) {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        assert!(total <= place.length, "a copy stays in its place");
        let mut at = self.index(place.position, place.length);
        for part in parts {
            #[allow(unsafe_code, reason = "the module's argument: a place has one writer")]
            // SAFETY: `index` has checked that the whole place lies in the memory, the sum of parts fits the place, and the place
            // gives this thread the sole right to its bytes. The parts are slices of other memory.
            unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), self.base.add(at), part.len());
            }
            at += part.len();
        }
    }

    /// The bytes of a range that is gathered or committed.
    ///
    /// # Safety
    /// No place covers any of it, and the caller either holds the commit lock of a gathered range, or keeps the range from being
    /// freed as long as the slice lives.
    #[allow(unsafe_code, reason = "the module's argument: readers only")]
    pub(super) unsafe fn bytes(&self, position: u64, length: usize) -> &[u8] {
        let at = self.index(position, length);
        // SAFETY: in bounds by `index`; nobody writes by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.base.add(at), length) }
    }

    /// The bytes of a gathered range, to be sealed.
    ///
    /// # Safety
    /// No place covers any of it, and the caller holds the commit lock of this gathered range and no other slice of it.
    #[allow(unsafe_code, reason = "the module's argument: one writer")]
    #[allow(clippy::mut_from_ref, reason = "exclusive by the caller's promise, as for a cell")]
    pub(super) unsafe fn bytes_mut(&self, position: u64, length: usize) -> &mut [u8] {
        let at = self.index(position, length);
        // SAFETY: in bounds by `index`; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(at), length) }
    }

    fn index(&self, position: u64, length: usize) -> usize {
        let at = (position % self.capacity) as usize;
        assert!(at as u64 + length as u64 <= self.capacity, "a range does not cross the ring's end");
        at
    }
}
