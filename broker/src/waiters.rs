//! Who waits for a partition to grow, and how a commit wakes them: nothing polls.
//!
//! Owns: the lists of waiting fetches per partition, and the hot log's commit listener that wakes them.
//! Does not own: what a fetch does when it wakes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hotlog::{CommitListener, Partition as HotPartition, PartitionId};
use tokio::sync::Notify;

/// The fetches that wait for one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Spares a commit the lock while nobody waits.
    any: AtomicBool,
    list: Mutex<Vec<Arc<Notify>>>,
}

impl Waiters {
    /// Has `notify` notified at the next growth. Whoever registers must look at the partition again before it waits.
    pub(crate) fn register(&self, notify: &Arc<Notify>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        // Fetches that ran into their deadline left their entry behind.
        list.retain(|other| Arc::strong_count(other) > 1 && !Arc::ptr_eq(other, notify));
        list.push(Arc::clone(notify));
        self.any.store(true, Ordering::SeqCst);
    }

    /// Wakes everybody.
    pub(crate) fn wake(&self) {
        if self.any.load(Ordering::SeqCst) {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            self.any.store(false, Ordering::SeqCst);
            for notify in list.drain(..) {
                notify.notify_one();
            }
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
