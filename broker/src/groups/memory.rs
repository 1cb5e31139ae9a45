//! What the members of all groups hold in memory, and the bound on it.
//!
//! Owns: the count of bytes, and the shares that requests under way have in it.
//! Does not own: what a member holds (`member`), nor when it changes (`coordinator`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::GROUP_MEMORY_BYTES;

/// The bytes held by all groups together. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupMemory {
    held_bytes: Arc<AtomicUsize>,
}

/// A request's share, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    memory: GroupMemory,
    bytes: usize,
}

impl GroupMemory {
    /// A share for what a request is about to bring in; `None` when the groups hold too much already. Nothing is always
    /// granted, so that a member which brings nothing in is served whatever the others hold.
    pub(crate) fn share(&self, bytes: usize) -> Option<Share> {
        let grown = |held_bytes: usize| {
            held_bytes.checked_add(bytes).filter(|sum| bytes == 0 || *sum <= GROUP_MEMORY_BYTES)
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
        let memory = GroupMemory::default();
        let most = memory.share(GROUP_MEMORY_BYTES - 10).unwrap();
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
