//! The ring's book-keeping: who has room, where the next entry goes, what is gathered for the next commit.
//!
//! Owns: the arithmetic of positions, first come first served among those who wait. Pure state, no bytes, no I/O.
//! Does not own: the memory, the file, the order of commits on disk.
//!
//! Positions are logical and only rise. Between `tail` and `head` lies what may not be overwritten; `promised` is room given
//! out and not placed yet. Each promise covers its entry and the worst that a commit of its own would add; `headroom` covers the bytes
//! left unused at the ring's end, where an entry does not fit any more: within one capacity that happens once.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::format::{COMMIT_HEADER_BYTES, entry_bytes};
use super::image::Place;
use crate::health::lock;
use crate::limits;
use crate::partition::{CommitEffect, Partition};

/// A partition's stake in a commit.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) partition: Arc<Partition>,
    pub(super) effect: CommitEffect,
}

/// Entries gathered for one commit.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) ticket: u64,
    /// Where the commit's header goes.
    pub(super) start: u64,
    /// Where the next entry goes.
    pub(super) end: u64,
    /// Whether it is synced in flush mode `os` too.
    pub(super) synced: bool,
    pub(super) copies: Arc<AtomicU32>,
    pub(super) touched: Vec<Touched>,
}

/// Where a partition's stake in the commit being gathered is, so that each partition has one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StakeSlot {
    ticket: u64,
    index: usize,
}

/// What an entry needs to know to be placed.
pub(crate) struct PlaceRequest<'a> {
    pub(crate) payload_bytes: usize,
    pub(crate) synced: bool,
    pub(crate) partition: &'a Arc<Partition>,
    pub(crate) effect: CommitEffect,
    pub(crate) slot: &'a mut StakeSlot,
    pub(crate) now_ms: i64,
}

/// Someone who waits for room.
#[derive(Debug)]
pub(super) struct RoomWaiter {
    pub(super) charge: u64,
    pub(super) state: Mutex<WaitState>,
}

#[derive(Debug)]
pub(super) enum WaitState {
    Waiting(Option<Waker>),
    Granted,
    /// The future is gone, or has taken its grant.
    Left,
}

/// The state behind the ring's lock.
#[derive(Debug)]
pub(super) struct RingState {
    block: u64,
    capacity: u64,
    head: u64,
    tail: u64,
    promised: u64,
    next_ticket: u64,
    /// Oldest first; only the last one still takes entries.
    gathered: VecDeque<Gathered>,
    /// Emptied ones, to be used again.
    spare: Vec<Gathered>,
    waiting_for_room: VecDeque<Arc<RoomWaiter>>,
    pub(super) waiting_for_commit: Vec<(u64, Waker)>,
    /// When the oldest entry that no checkpoint covers was placed.
    oldest_ms: Option<i64>,
}

impl RingState {
    pub(super) fn new(block: u64, capacity: u64, tail: u64, head: u64, oldest_ms: Option<i64>) -> Self {
        Self {
            block,
            capacity,
            head,
            tail,
            promised: 0,
            next_ticket: 1,
            gathered: VecDeque::new(),
            spare: Vec::new(),
            waiting_for_room: VecDeque::new(),
            waiting_for_commit: Vec::new(),
            oldest_ms,
        }
    }

    /// The largest payload that is ever taken.
    pub(super) fn payload_limit(capacity: u64) -> usize {
        (capacity / limits::BATCH_SHARE_OF_JOURNAL) as usize
    }

    /// What a payload may cost at worst: its entry, and a commit of its own around it.
    pub(super) fn charge(block: u64, payload_bytes: usize) -> u64 {
        (entry_bytes(payload_bytes) + COMMIT_HEADER_BYTES) as u64 + block
    }

    fn headroom(&self) -> u64 {
        Self::charge(self.block, Self::payload_limit(self.capacity))
    }

    fn fits(&self, charge: u64) -> bool {
        self.head + self.promised + charge + self.headroom() <= self.tail + self.capacity
    }

    /// Promises room at once when nobody waits before.
    pub(super) fn try_promise(&mut self, charge: u64) -> bool {
        let free = self.waiting_for_room.is_empty() && self.fits(charge);
        if free {
            self.promised += charge;
        }
        free
    }

    pub(super) fn wait_for_room(&mut self, waiter: Arc<RoomWaiter>) {
        self.waiting_for_room.push_back(waiter);
    }

    /// Gives a promise back, and what that frees to those who wait; they are to be woken without the ring's lock.
    #[must_use]
    pub(super) fn give_back(&mut self, charge: u64) -> Vec<Waker> {
        self.promised -= charge;
        self.grant()
    }

    /// Gives room to those who wait, as long as the first one's fits; they are to be woken without the ring's lock.
    #[must_use]
    pub(super) fn grant(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(first) = self.waiting_for_room.front() {
            let mut state = lock(&first.state);
            if let WaitState::Waiting(waker) = &mut *state {
                if !self.fits(first.charge) {
                    break;
                }
                wakers.extend(waker.take());
                *state = WaitState::Granted;
                self.promised += first.charge;
            }
            drop(state);
            self.waiting_for_room.pop_front();
        }
        wakers
    }

    /// Whether someone waits for room.
    pub(super) fn room_is_wanted(&self) -> bool {
        !self.waiting_for_room.is_empty()
    }

    /// Everybody who waits for anything, to be woken because nothing will come.
    pub(super) fn take_all_waiting(&mut self) -> Vec<Waker> {
        let mut wakers: Vec<Waker> = self.waiting_for_commit.drain(..).map(|(_, waker)| waker).collect();
        for waiter in self.waiting_for_room.drain(..) {
            if let WaitState::Waiting(waker) = &mut *lock(&waiter.state) {
                wakers.extend(waker.take());
            }
        }
        wakers
    }

    /// The place of an entry whose room was promised, and the ticket of its commit.
    pub(super) fn place(&mut self, request: PlaceRequest<'_>) -> (Place, u64) {
        let bytes = entry_bytes(request.payload_bytes);
        let lap_end = |position: u64| (position / self.capacity + 1) * self.capacity;
        let open = self.gathered.back().is_some_and(|last| last.end + bytes as u64 <= lap_end(last.start));
        if !open {
            let mut start = match self.gathered.back() {
                Some(full) => full.end.next_multiple_of(self.block),
                None => self.head,
            };
            if start + (COMMIT_HEADER_BYTES + bytes) as u64 > lap_end(start) {
                start = lap_end(start);
            }
            let mut fresh = self.spare.pop().unwrap_or_default();
            fresh.ticket = self.next_ticket;
            fresh.start = start;
            fresh.end = start + COMMIT_HEADER_BYTES as u64;
            self.next_ticket += 1;
            self.gathered.push_back(fresh);
        }
        let last = self.gathered.back_mut().expect("one was pushed if none was open");
        let place = Place::new(last.end, bytes, &last.copies);
        last.end += bytes as u64;
        last.synced |= request.synced;
        self.head = last.end;
        self.oldest_ms.get_or_insert(request.now_ms);
        if request.slot.ticket == last.ticket {
            last.touched[request.slot.index].effect.merge(request.effect);
        } else {
            *request.slot = StakeSlot { ticket: last.ticket, index: last.touched.len() };
            last.touched.push(Touched { partition: Arc::clone(request.partition), effect: request.effect });
        }
        (place, last.ticket)
    }

    /// The next commit's entries; nothing joins them any more.
    pub(super) fn take_gathered(&mut self) -> Option<Gathered> {
        let taken = self.gathered.pop_front()?;
        if self.gathered.is_empty() {
            self.head = taken.end.next_multiple_of(self.block);
        }
        Some(taken)
    }

    /// What no commit will take any more, to be dropped without the ring's lock.
    #[must_use]
    pub(super) fn forget_gathered(&mut self) -> VecDeque<Gathered> {
        std::mem::take(&mut self.gathered)
    }

    pub(super) fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Keeps an emptied commit for the next one.
    pub(super) fn recycle(&mut self, mut done: Gathered) {
        if self.spare.len() < limits::SPARE_COMMITS {
            done.touched.clear();
            done.synced = false;
            self.spare.push(done);
        }
    }

    pub(super) fn head(&self) -> u64 {
        self.head
    }

    pub(super) fn used(&self) -> u64 {
        self.head - self.tail
    }

    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.oldest_ms
    }

    /// A checkpoint begins that covers what was placed so far; `now_ms` is the age of whatever is gathered or on its way.
    pub(super) fn restart_age(&mut self, committed_end: u64, now_ms: i64) {
        self.oldest_ms = (self.head > committed_end).then_some(now_ms);
    }

    /// Everything below `cut` may be overwritten; those who get room by that are to be woken without the ring's lock.
    #[must_use]
    pub(super) fn free(&mut self, cut: u64) -> Vec<Waker> {
        assert!(self.tail <= cut && cut <= self.head, "a cut lies between what is free and what is placed");
        self.tail = cut;
        self.grant()
    }
}
