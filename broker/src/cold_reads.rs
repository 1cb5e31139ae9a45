//! Reads from the store that go on when the fetch that began them answers without them.
//!
//! A store may take longer for each read than any client waits. Were a read given up with its fetch, such a store would
//! never deliver anything, for what a read has taken from the read-ahead is gone with it. So each runs in a task of its
//! own, and what it found is kept a while for the next fetch of the same place.
//!
//! Owns: the table of reads under way and of those whose outcome waits to be taken up, and its bounds.
//! Does not own: how a read finds its batches (`partition`), how long a fetch waits and what it says of a store that is
//! silent (`api::fetch`), retries and read-ahead (`tiering`).

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use hotlog::PartitionId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::ids::Offset;

use crate::limits::{COLD_FAILURE_KEPT, COLD_READ_BYTES, COLD_READ_KEPT, COLD_READS_BYTES, MAX_COLD_READS};
use crate::partition::{Read, ReadRefused, poll_once};

/// The alarm of a store that leaves reads without an answer.
pub(crate) const SILENT_STORE: &str = "store-silent";

/// What a read came to.
pub(crate) type Outcome = Result<Read, ReadRefused>;

/// What is read: fetches of the same place share one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// The offset asked for.
    pub(crate) from: Offset,
    /// Whether only committed records are wanted; a read may cross a hole and end in the local log, where that counts.
    pub(crate) committed_only: bool,
    /// How much: who wants little must not be given what another asked for.
    pub(crate) size: ReadSize,
}

/// How much a read brings unless its first batch is larger: what is wanted, rounded down to a power of two so that clients
/// whose limits are about the same share their reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReadSize(usize);

impl ReadSize {
    /// For one who wants so many bytes; no more than [`COLD_READ_BYTES`] is read at once.
    pub(crate) fn within(max_bytes: usize) -> Self {
        Self(1_usize << max_bytes.clamp(1, COLD_READ_BYTES).ilog2())
    }
}

/// A fetch, for as long as it has not answered: it keeps this until then. What it is woken by may be kept longer, by
/// partitions that it waited for.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    /// Notified when a read has come to its end.
    pub(crate) notify: Arc<Notify>,
}

/// What a fetch asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Where, and how much.
    pub(crate) place: Place,
    /// Who asks.
    pub(crate) waiter: Arc<Waiter>,
}

/// A read that has come to its end.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    /// What it came to.
    pub(crate) outcome: Outcome,
    at: Instant,
    /// Its share of what all of them hold, given back with the last clone.
    share: Arc<OwnedSemaphorePermit>,
}

impl Finished {
    fn is_current(&self) -> bool {
        let kept = if self.outcome.is_ok() { COLD_READ_KEPT } else { COLD_FAILURE_KEPT };
        self.at.elapsed() < kept
    }
}

/// A read under way, or finished and not taken up.
#[derive(Debug)]
struct Begun {
    id: u64,
    waiting: Vec<Weak<Waiter>>,
    /// Whether the first of those that wait looks itself at how far the read has come. To wake it too would have it look once
    /// more, and where there is nothing to be found begin the same read over and over.
    first_looks: bool,
    finished: Option<Finished>,
}

impl Begun {
    /// Takes one more fetch among those that wait. Those that have answered left their entry behind.
    fn wait(&mut self, waiter: &Arc<Waiter>) {
        self.leave(waiter);
        self.waiting.push(Arc::downgrade(waiter));
    }

    fn leave(&mut self, waiter: &Arc<Waiter>) {
        let own = Arc::downgrade(waiter);
        self.waiting.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&own));
    }

    fn wake(&self) {
        let sleeping = self.waiting.iter().skip(usize::from(self.first_looks));
        sleeping.filter_map(Weak::upgrade).for_each(|waiter| waiter.notify.notify_one());
    }

    /// What is given back with it, in KiB, where it is finished and no fetch is about to take it up.
    fn spare_kib(&self) -> usize {
        let is_awaited = self.waiting.iter().any(|waiter| waiter.strong_count() > 0);
        self.finished.as_ref().filter(|_| !is_awaited).map_or(0, |finished| finished.share.num_permits())
    }

    fn is_over(&self) -> bool {
        self.finished.as_ref().is_some_and(|finished| !finished.is_current())
    }
}

type Table = HashMap<Place, Begun>;

/// All reads from the store for fetches.
#[derive(Debug)]
pub(crate) struct ColdReads {
    table: Mutex<Table>,
    next_id: AtomicU64,
    /// What all of them may hold, in KiB.
    budget: Arc<Semaphore>,
    /// What reads wait for, in KiB, before they begin.
    short_kib: AtomicUsize,
    /// Shared with those that the store has not answered for long.
    unanswered: Arc<()>,
    /// When a read last came to a good end.
    answered: Mutex<Option<Instant>>,
    stop: CancellationToken,
}

/// A read in its task. Dropped before its end, as by a panic, it leaves its place to the next.
struct Running {
    reads: Arc<ColdReads>,
    place: Place,
    id: u64,
}

impl ColdReads {
    /// None yet; those under way end with `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            table: Mutex::default(),
            next_id: AtomicU64::new(0),
            budget: Arc::new(Semaphore::new(COLD_READS_BYTES / 1024)),
            short_kib: AtomicUsize::new(0),
            unanswered: Arc::new(()),
            answered: Mutex::default(),
            stop,
        }
    }

    /// Takes up the read of a place. `None` while it is under way, which it is from now on, if there is room for it in the
    /// table; `read` is what to begin then, given how much it may bring. Never waits for it.
    pub(crate) async fn take_or_begin(
        self: &Arc<Self>,
        wanted: &Wanted,
        read: impl FnOnce(usize) -> BoxFuture<'static, Outcome>,
    ) -> Option<Finished> {
        let id = {
            let mut table = self.table();
            if table.get(&wanted.place).is_some_and(Begun::is_over) {
                table.remove(&wanted.place);
            }
            if let Some(begun) = table.get_mut(&wanted.place) {
                if begun.finished.is_some() {
                    return take(&mut table, wanted);
                }
                begun.wait(&wanted.waiter);
                return None;
            }
            self.enter(&mut table, wanted.place, Some(&wanted.waiter), None)?
        };
        let max_bytes = wanted.place.size.0;
        let running = Running { reads: Arc::clone(self), place: wanted.place, id };
        let mut work = Box::pin(running.run(read(max_bytes), max_bytes));
        // What the store's read-ahead has here already needs no task.
        if poll_once(&mut work).await.is_none() {
            if let Some(begun) = self.table().get_mut(&wanted.place) {
                begun.first_looks = false;
            }
            tokio::spawn(work);
            return None;
        }
        take(&mut self.table(), wanted)
    }

    /// Leaves a read that did not fit into an answer to the next fetch.
    pub(crate) fn put_back(&self, place: Place, finished: Finished) {
        let mut table = self.table();
        if !table.contains_key(&place) {
            let _ = self.enter(&mut table, place, None, Some(finished));
            self.make_room(&mut table);
        }
    }

    /// Forgets what nobody came back for.
    pub(crate) fn forget_idle(&self) {
        let mut table = self.table();
        table.retain(|_, begun| !begun.is_over());
        self.make_room(&mut table);
    }

    /// Counts a read among those that the store does not answer, until what is returned is dropped.
    pub(crate) fn count_unanswered(&self) -> Arc<()> {
        Arc::clone(&self.unanswered)
    }

    /// Whether the store leaves any read without an answer.
    pub(crate) fn has_unanswered(&self) -> bool {
        Arc::strong_count(&self.unanswered) > 1
    }

    /// Notes that a read has come to a good end: the store is there, however long others take on a slow link.
    pub(crate) fn note_answered(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether no read has come to a good end for so long, or ever.
    pub(crate) fn is_silent_for(&self, time: Duration) -> bool {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.is_none_or(|at| at.elapsed() >= time)
    }

    /// A read's share of what all of them may hold. Only reads that are wanted right now hold up those that wait for theirs.
    async fn share(&self, wanted_kib: u32) -> Option<OwnedSemaphorePermit> {
        let mut share = pin!(Arc::clone(&self.budget).acquire_many_owned(wanted_kib));
        // It stands in the queue before room is made, or others would take what becomes free.
        if let Some(share) = poll_once(&mut share).await {
            return share.ok();
        }
        let wanted_kib = usize::try_from(wanted_kib).unwrap_or(usize::MAX);
        self.short_kib.fetch_add(wanted_kib, Ordering::Relaxed);
        self.make_room(&mut self.table());
        // Nobody drops it before that, but for a stop, after which nothing is begun.
        let share = share.await;
        self.short_kib.fetch_sub(wanted_kib, Ordering::Relaxed);
        share.ok()
    }

    /// Forgets finished reads that no fetch waits for until those that wait for their share have enough: those whose time is
    /// over, then the oldest.
    fn make_room(&self, table: &mut Table) {
        let short_kib = self.short_kib.load(Ordering::Relaxed);
        if short_kib == 0 {
            return;
        }
        let mut freed_kib = 0;
        table.retain(|_, begun| {
            let is_over = begun.is_over();
            freed_kib += if is_over { begun.spare_kib() } else { 0 };
            !is_over
        });
        let finished_at = |begun: &Begun| begun.finished.as_ref().map(|finished| finished.at);
        let spare = table.iter().filter(|(_, begun)| begun.spare_kib() > 0);
        let mut spare: Vec<_> = spare.map(|(place, begun)| (finished_at(begun), *place)).collect();
        spare.sort_unstable_by_key(|(at, _)| *at);
        for (_, place) in spare {
            if freed_kib >= short_kib {
                return;
            }
            freed_kib += table.remove(&place).map_or(0, |begun| begun.spare_kib());
        }
    }

    /// Puts a read into the table; `None` when that is full.
    fn enter(
        &self,
        table: &mut Table,
        place: Place,
        waiter: Option<&Arc<Waiter>>,
        finished: Option<Finished>,
    ) -> Option<u64> {
        if table.len() >= MAX_COLD_READS {
            table.retain(|_, begun| !begun.is_over());
        }
        if table.len() >= MAX_COLD_READS {
            return None;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let waiting = waiter.map(Arc::downgrade).into_iter().collect();
        table.insert(place, Begun { id, waiting, first_looks: waiter.is_some(), finished });
        Some(id)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A finished read for one of those that want it. It stays for the others that wait for it right now.
fn take(table: &mut Table, wanted: &Wanted) -> Option<Finished> {
    let begun = table.get_mut(&wanted.place)?;
    let finished = begun.finished.clone()?;
    begun.leave(&wanted.waiter);
    if begun.waiting.is_empty() {
        table.remove(&wanted.place);
    }
    Some(finished)
}

impl Running {
    async fn run(self, read: BoxFuture<'static, Outcome>, max_bytes: usize) {
        let (reads, stop) = (Arc::clone(&self.reads), self.reads.stop.clone());
        let work = async move {
            let share = reads.share(kib(max_bytes).max(1)).await?;
            Some((read.await, share))
        };
        tokio::select! {
            () = stop.cancelled() => {}
            done = work => {
                if let Some((outcome, share)) = done {
                    self.finish(outcome, share);
                }
            }
        }
    }

    fn finish(&self, outcome: Outcome, mut share: OwnedSemaphorePermit) {
        let bytes = outcome.as_ref().map_or(0, Read::bytes);
        let used = usize::try_from(kib(bytes)).unwrap_or(usize::MAX).min(share.num_permits());
        drop(share.split(share.num_permits() - used));
        let mut table = self.reads.table();
        if let Some(begun) = table.get_mut(&self.place).filter(|begun| begun.id == self.id) {
            begun.finished = Some(Finished { outcome, at: Instant::now(), share: Arc::new(share) });
            begun.wake();
        }
        // The fetch that began it may have answered without it while others wait for their share.
        self.reads.make_room(&mut table);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut table = self.reads.table();
        let is_own = |begun: &&Begun| begun.id == self.id && begun.finished.is_none();
        if let Some(begun) = table.get(&self.place).filter(is_own) {
            begun.wake();
            table.remove(&self.place);
        }
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
