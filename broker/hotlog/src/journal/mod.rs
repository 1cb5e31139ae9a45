//! The journal: one ring of commits for all partitions of a log directory. `FORMAT-JOURNAL.md` draws its bytes.
//!
//! Owns: the ring file, its image in memory, room, places, commits and their order.
//! Does not own: what entries mean to a partition, when the ring may be freed (the checkpoint says).
//!
//! Lock order: a partition's lock, then the ring's. The commit lock is taken with neither held, and both may be taken under it.

pub(crate) mod file;
mod format;
mod futures;
mod image;
mod ring;
pub(crate) mod scan;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::task::Waker;

use crate::disk::{DiskFile, Durability};
use crate::error::CommitError;
use crate::health::{Bell, Health, lock};
use crate::limits;
use crate::listener::CommitListener;
use crate::options::FlushMode;
use crate::sync_site::SyncSite;

use format::{COMMIT_HEADER_BYTES, CommitHeader};
pub(crate) use format::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind, RingId};
pub use futures::{CommitFuture, Room, RoomFuture};
use image::Image;
pub(crate) use image::Place;
use ring::{Gathered, RingState};
pub(crate) use ring::{PlaceRequest, StakeSlot};

/// Which commit something is part of. Later is larger: of several, waiting for the largest is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub(crate) u64);

/// The last link of the chain of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ChainPoint {
    /// Where the next commit begins (or at the ring's start, when it does not fit there).
    pub(crate) position: u64,
    /// The last commit's number.
    pub(crate) sequence: u64,
    /// The last commit's checksum.
    pub(crate) crc: u32,
    /// Where the last commit begins.
    pub(crate) last_start: u64,
}

/// Where a journal lies and how it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) ring_id: RingId,
    pub(crate) block: u64,
    pub(crate) capacity: u64,
}

impl Geometry {
    /// Where in the file a logical position lies: the header takes the first block.
    fn file_position(&self, position: u64) -> u64 {
        self.block + position % self.capacity
    }
}

/// What a journal is started with, once recovery has read it.
#[derive(Debug)]
pub(crate) struct JournalStart {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) geometry: Geometry,
    pub(crate) memory: crate::disk::AlignedBuffer,
    pub(crate) mode: FlushMode,
    pub(crate) start_number: u32,
    pub(crate) tail: u64,
    pub(crate) chain: ChainPoint,
    pub(crate) checkpoint_number: u64,
    /// When the oldest entry above the tail was appended.
    pub(crate) oldest_ms: Option<i64>,
    pub(crate) health: Arc<Health>,
    pub(crate) listener: Arc<dyn CommitListener>,
}

/// The one journal of a log directory.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    geometry: Geometry,
    mode: FlushMode,
    start_number: u32,
    image: Image,
    state: Mutex<RingState>,
    /// Held by whoever writes a commit.
    chain: Mutex<ChainPoint>,
    /// Held shared while bytes of the ring are copied out, exclusively while the tail moves.
    readers: RwLock<()>,
    tail: AtomicU64,
    committed_end: AtomicU64,
    committed_ticket: AtomicU64,
    checkpoint_number: AtomicU64,
    health: Arc<Health>,
    listener: Arc<dyn CommitListener>,
    /// Rung when there is something to commit, in flush mode `ack`.
    pub(crate) commit_bell: Bell,
    /// Rung when the ring is half full or the segment writer has something to do.
    pub(crate) storage_bell: Bell,
}

/// Keeps the ring's committed bytes from being overwritten while they are copied out. Never held across an await.
pub(crate) struct RingPin<'a> {
    journal: &'a Journal,
    _shared: RwLockReadGuard<'a, ()>,
}

impl RingPin<'_> {
    /// Committed bytes of the ring.
    #[allow(unsafe_code, reason = "the image's argument: committed ranges have readers only")]
    pub(crate) fn bytes(&self, position: u64, length: usize) -> &[u8] {
        let journal = self.journal;
        let committed = position >= journal.tail.load(Ordering::Acquire)
            && position + length as u64 <= journal.committed_end.load(Ordering::Acquire);
        assert!(committed, "only committed bytes that are not freed are read");
        // SAFETY: the range is committed, so no place covers it and nobody seals it any more; the tail does not move while `_shared`
        // is held, so it is not freed as long as the slice, which borrows this pin, lives.
        unsafe { journal.image.bytes(position, length) }
    }
}

impl Journal {
    pub(crate) fn new(start: JournalStart) -> Self {
        let JournalStart { geometry, tail, chain, .. } = start;
        Self {
            path: start.path,
            file: start.file,
            geometry,
            mode: start.mode,
            start_number: start.start_number,
            image: Image::new(start.memory),
            state: Mutex::new(RingState::new(
                geometry.block,
                geometry.capacity,
                tail,
                chain.position,
                start.oldest_ms,
            )),
            chain: Mutex::new(chain),
            readers: RwLock::new(()),
            tail: AtomicU64::new(tail),
            committed_end: AtomicU64::new(chain.position),
            committed_ticket: AtomicU64::new(0),
            checkpoint_number: AtomicU64::new(start.checkpoint_number),
            health: start.health,
            listener: start.listener,
            commit_bell: Bell::default(),
            storage_bell: Bell::default(),
        }
    }

    pub(crate) fn start_number(&self) -> u32 {
        self.start_number
    }

    /// The largest payload that is taken.
    pub(crate) fn payload_limit(&self) -> usize {
        RingState::payload_limit(self.geometry.capacity)
    }

    /// Bytes of the data area.
    pub(crate) fn capacity(&self) -> u64 {
        self.geometry.capacity
    }

    /// Lets committed bytes be copied out.
    pub(crate) fn pin(&self) -> RingPin<'_> {
        RingPin { journal: self, _shared: self.readers.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Places an entry whose room was promised. The caller copies it at once with [`Journal::fill`].
    pub(crate) fn place(
        &self,
        mut room: Room,
        request: PlaceRequest<'_>,
    ) -> Result<(Place, Ticket), CommitError> {
        assert!(
            request.payload_bytes <= room.payload_bytes(),
            "the caller compares the room with what it places"
        );
        let mut state = lock(&self.state);
        self.health.check()?;
        let charge = std::mem::take(&mut room.charge);
        let (place, ticket) = state.place(request);
        let granted = state.give_back(charge);
        let wanted = state.used() * limits::CHECKPOINT_SHARE_OF_JOURNAL >= self.geometry.capacity;
        drop(state);
        granted.into_iter().for_each(Waker::wake);
        if wanted {
            self.storage_bell.ring();
        }
        Ok((place, Ticket(ticket)))
    }

    /// Copies an entry into its place, and with that gives the place up.
    pub(crate) fn fill(&self, mut place: Place, parts: &[&[u8]]) {
        self.image.fill(&mut place, parts);
    }

    /// Commits what is gathered, as long as there is any and nobody else is at it; whoever is looks again. At most `rounds` commits;
    /// then those who wait are woken, and the first of them goes on.
    pub(crate) fn commit_gathered(&self, rounds: usize) -> Result<(), CommitError> {
        for _ in 0..rounds {
            let mut chain = match self.chain.try_lock() {
                Ok(chain) => chain,
                Err(TryLockError::Poisoned(broken)) => broken.into_inner(),
                Err(TryLockError::WouldBlock) => return Ok(()),
            };
            // Under the commit lock, so that a closed directory is never written by a late request.
            self.health.check()?;
            let Some(gathered) = lock(&self.state).take_gathered() else {
                drop(chain);
                if lock(&self.state).has_gathered() { continue } else { return Ok(()) }
            };
            self.write_commit(&mut chain, gathered)?;
        }
        let state = lock(&self.state);
        let handed_on = if state.has_gathered() { state.waiting_for_commit.clone() } else { Vec::new() };
        drop(state);
        handed_on.into_iter().for_each(|(_, waker)| waker.wake());
        Ok(())
    }

    /// Commits the next entries; waits for whoever is at it. Returns whether there were any. For the commit worker.
    pub(crate) fn commit_next(&self) -> Result<bool, CommitError> {
        let mut chain = lock(&self.chain);
        self.health.check()?;
        let Some(gathered) = lock(&self.state).take_gathered() else { return Ok(false) };
        self.write_commit(&mut chain, gathered).map(|()| true)
    }

    /// Commits everything gathered so far, also while the directory is being closed. For threads that may block.
    pub(crate) fn commit_all(&self) -> Result<(), CommitError> {
        loop {
            let mut chain = lock(&self.chain);
            let Some(gathered) = lock(&self.state).take_gathered() else { return Ok(()) };
            self.write_commit(&mut chain, gathered)?;
        }
    }

    fn write_commit(
        &self,
        chain: &mut MutexGuard<'_, ChainPoint>,
        gathered: Gathered,
    ) -> Result<(), CommitError> {
        let mut spins = 0u32;
        while gathered.copies.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < limits::SPINS_BEFORE_YIELD { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let result = self
            .health
            .check_writable()
            .map_err(CommitError::from)
            .and_then(|()| self.write_out(chain, &gathered));
        if let Err(error) = result {
            self.wake_all();
            return Err(error);
        }
        for touched in &gathered.touched {
            touched.partition.committed(touched.effect);
        }
        self.listener.high_watermarks_moved(&mut gathered.touched.iter().map(|touched| &touched.partition));
        let ticket = gathered.ticket;
        let mut wakers = Vec::new();
        let mut state = lock(&self.state);
        self.committed_ticket.store(ticket, Ordering::Release);
        state.waiting_for_commit.retain_mut(|(waiting, waker)| {
            let done = *waiting <= ticket;
            if done {
                wakers.push(std::mem::replace(waker, Waker::noop().clone()));
            }
            !done
        });
        state.recycle(gathered);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    #[allow(
        unsafe_code,
        reason = "the image's argument: a gathered range belongs to the holder of the commit lock"
    )]
    fn write_out(&self, chain: &mut ChainPoint, gathered: &Gathered) -> Result<(), CommitError> {
        let end = gathered.end.next_multiple_of(self.geometry.block);
        let length = (end - gathered.start) as usize;
        let used = (gathered.end - gathered.start) as usize;
        let header = CommitHeader {
            sequence: chain.sequence + 1,
            start_number: self.start_number,
            mode: self.mode,
            length: u32::try_from(length).expect("a journal is at most a gibibyte"),
            entries_bytes: (used - COMMIT_HEADER_BYTES) as u32,
            previous_crc: chain.crc,
            checkpoint_number: self.checkpoint_number.load(Ordering::Acquire),
        };
        // SAFETY: the range was taken from the ring's state, so no place is made in it any more, and the count of copies is zero: all
        // places in it are gone. It is not committed, so nobody reads it, and `chain` is the commit lock's.
        let bytes = unsafe { self.image.bytes_mut(gathered.start, length) };
        bytes[used..].fill(0);
        let crc = header.seal(self.geometry.ring_id, bytes);
        let (durability, sync) = match self.mode {
            FlushMode::Ack => (Durability::Durable(SyncSite::JournalCommit), false),
            FlushMode::Os => (Durability::Cached, gathered.synced),
        };
        let fail =
            |error: &std::io::Error| self.health.poison(&format!("writing {}", self.path.display()), error);
        let position = self.geometry.file_position(gathered.start);
        self.file.write_at(bytes, position, durability).map_err(|error| fail(&error))?;
        if sync {
            self.file.sync(SyncSite::JournalCommitSynced).map_err(|error| fail(&error))?;
        }
        *chain = ChainPoint { position: end, sequence: header.sequence, crc, last_start: gathered.start };
        self.committed_end.store(end, Ordering::Release);
        Ok(())
    }

    /// The chain's present end, which everything below has been committed.
    pub(crate) fn chain_point(&self) -> ChainPoint {
        *lock(&self.chain)
    }

    /// A checkpoint with this cut begins: the age of what it does not cover counts from now.
    pub(crate) fn restart_age(&self, cut: u64, now_ms: i64) {
        lock(&self.state).restart_age(cut, now_ms);
    }

    /// The logical position that the next entry does not lie below.
    pub(crate) fn head(&self) -> u64 {
        lock(&self.state).head()
    }

    /// Whether a checkpoint is due.
    pub(crate) fn wants_checkpoint(&self, now_ms: i64, interval_ms: i64) -> bool {
        let state = lock(&self.state);
        let full = state.used() * limits::CHECKPOINT_SHARE_OF_JOURNAL >= self.geometry.capacity;
        let old = state.oldest_ms().is_some_and(|oldest_ms| now_ms.saturating_sub(oldest_ms) >= interval_ms);
        full || old || (state.room_is_wanted() && state.used() > 0)
    }

    /// A durable checkpoint covers everything below `cut`: it may be overwritten once nobody copies from it any more.
    pub(crate) fn free(&self, cut: u64, checkpoint_number: u64) {
        self.checkpoint_number.store(checkpoint_number, Ordering::Release);
        let exclusive = self.readers.write().unwrap_or_else(PoisonError::into_inner);
        self.tail.store(cut, Ordering::Release);
        drop(exclusive);
        let granted = lock(&self.state).free(cut);
        granted.into_iter().for_each(Waker::wake);
    }

    /// Lets go of what no commit took, and of the partitions in it. The directory is closed, so nothing is placed after.
    pub(crate) fn forget_gathered(&self) {
        let forgotten = lock(&self.state).forget_gathered();
        drop(forgotten);
    }

    /// Wakes everybody who waits, because the directory is poisoned or closed.
    pub(crate) fn wake_all(&self) {
        let wakers = lock(&self.state).take_all_waiting();
        wakers.into_iter().for_each(Waker::wake);
        self.commit_bell.ring();
        self.storage_bell.ring();
    }

    fn is_committed(&self, ticket: Ticket) -> bool {
        self.committed_ticket.load(Ordering::Acquire) >= ticket.0
    }
}
