//! Who waits for a partition to grow, and how a commit wakes them: nothing polls.
//!
//! Owns: the lists of waiting fetches per partition, and the hot log's commit listener that wakes them.
//! Does not own: what a fetch does when it wakes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use hotlog::{CommitListener, Partition as HotPartition, PartitionId};
use tokio::sync::Notify;

/// The fetches that wait for one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Spares a commit the lock while nobody waits.
    any: AtomicBool,
    /// Of a fetch that waits for several partitions each of them has an entry, so none may keep it alive.
    list: Mutex<Vec<Weak<Notify>>>,
}

impl Waiters {
    /// Has `notify` notified at the next growth. Whoever registers must look at the partition again before it waits.
    pub(crate) fn register(&self, notify: &Arc<Notify>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        // Fetches that ran into their deadline left their entry behind.
        let entry = Arc::downgrade(notify);
        list.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&entry));
        list.push(entry);
        self.any.store(true, Ordering::SeqCst);
    }

    /// Wakes everybody.
    pub(crate) fn wake(&self) {
        if self.any.load(Ordering::SeqCst) {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            self.any.store(false, Ordering::SeqCst);
            list.drain(..).filter_map(|entry| entry.upgrade()).for_each(|notify| notify.notify_one());
        }
    }
}

/// The waiters of all partitions, by the hot log's identity.
#[derive(Debug, Default)]
pub(crate) struct WaiterTable {
    partitions: RwLock<HashMap<PartitionId, Arc<Waiters>>>,
}

impl WaiterTable {
    /// The waiters of a partition, made where missing.
    pub(crate) fn of(&self, id: PartitionId) -> Arc<Waiters> {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(partitions.entry(id).or_default())
    }

    /// Forgets a partition, waking who waits: it will find the partition gone.
    pub(crate) fn forget(&self, id: PartitionId) {
        let gone = self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiters) = gone {
            waiters.wake();
        }
    }
}

impl CommitListener for WaiterTable {
    fn high_watermarks_moved(&self, partitions: &mut dyn Iterator<Item = &Arc<HotPartition>>) {
        let table = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            if let Some(waiters) = table.get(&partition.id()) {
                waiters.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_growth_wakes_who_waits_for_it() {
        let (one, notify) = (Waiters::default(), Arc::new(Notify::new()));
        one.register(&notify);
        assert!(notify.notified().now_or_never().is_none());
        one.wake();
        assert!(notify.notified().now_or_never().is_some());
        one.wake();
        assert!(notify.notified().now_or_never().is_none(), "it waits no more");
    }

    /// Consumers of partitions in which nothing happens come back twice a second, for days.
    #[test]
    fn fetches_that_ran_into_their_deadline_leave_nothing_behind() {
        let idle = [Waiters::default(), Waiters::default()];
        for _ in 0..1_000 {
            let notify = Arc::new(Notify::new());
            for waiters in idle.iter().chain(&idle) {
                waiters.register(&notify);
            }
        }
        for waiters in &idle {
            assert_eq!(waiters.list.lock().unwrap().len(), 1);
        }
    }
}
