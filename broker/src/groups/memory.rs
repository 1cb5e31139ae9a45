//! What groups hold in memory, and the bound on it: once for the members of all groups, once for their committed offsets, so
//! that neither takes the room of the other.
//!
//! Owns: the count of bytes, and the shares that requests under way have in it.
//! Does not own: what a member or an offset holds (`member`, `offsets`), nor when it changes (`coordinator`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes held by all groups together. Clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct GroupMemory {
    held_bytes: Arc<AtomicUsize>,
    most_bytes: usize,
}

/// A request's share, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    memory: GroupMemory,
    bytes: usize,
}

impl GroupMemory {
    /// Nothing held yet, and no more than this to be.
    pub(super) fn bounded(most_bytes: usize) -> Self {
        Self { held_bytes: Arc::default(), most_bytes }
    }

    /// A share for what a request is about to bring in; `None` when the groups hold too much already. Nothing is always
    /// granted, so that who brings nothing in is served whatever the others hold.
    pub(crate) fn share(&self, bytes: usize) -> Option<Share> {
        let grown = |held_bytes: usize| {
            held_bytes.checked_add(bytes).filter(|sum| bytes == 0 || *sum <= self.most_bytes)
        };
        self.held_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, grown).ok()?;
        Some(Share { memory: self.clone(), bytes })
    }

    /// A group that held `before_bytes` holds `after_bytes` now.
    pub(super) fn changed(&self, before_bytes: usize, after_bytes: usize) {
        if after_bytes >= before_bytes {
            self.held_bytes.fetch_add(after_bytes - before_bytes, Ordering::AcqRel);
        } else {
            self.held_bytes.fetch_sub(before_bytes - after_bytes, Ordering::AcqRel);
        }
    }

    /// The count.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Acquire)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.changed(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_end_at_the_bound_and_are_given_back() {
        let memory = GroupMemory::bounded(1_000);
        let most = memory.share(990).unwrap();
        assert!(memory.share(11).is_none());
        let rest = memory.share(10).unwrap();
        assert!(memory.share(1).is_none());
        assert!(memory.share(usize::MAX).is_none());
        assert!(memory.share(0).is_some(), "nothing is always granted");
        drop(most);
        assert_eq!(memory.held_bytes(), 10);
        drop(rest);
        assert_eq!(memory.held_bytes(), 0);
    }
}
