//! What is awaited of the journal: room before an append, the commit after it. Plain futures; any executor, or none, drives them.
//!
//! Owns: waiting and being woken. Does not own: who gets room first, or when a commit is made.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::ring::{RingState, RoomWaiter, WaitState};
use super::{Journal, Ticket};
use crate::error::{CommitError, RoomError};
use crate::health::lock;
use crate::limits;
use crate::options::FlushMode;

/// Bytes of the ring that nobody else gets. Dropping it gives them back.
#[derive(Debug)]
pub struct Room {
    journal: Arc<Journal>,
    payload_bytes: usize,
    /// What the ring holds for it; 0 once it is placed.
    pub(super) charge: u64,
}

impl Room {
    /// The largest payload it is for.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.charge > 0 {
            let granted = lock(&self.journal.state).give_back(self.charge);
            granted.into_iter().for_each(Waker::wake);
        }
    }
}

/// Resolves to room, first come first served. Dropping it gives up the place in the queue.
#[derive(Debug)]
pub struct RoomFuture {
    journal: Arc<Journal>,
    payload_bytes: usize,
    waiter: Option<Arc<RoomWaiter>>,
}

impl RoomFuture {
    pub(crate) fn new(journal: Arc<Journal>, payload_bytes: usize) -> Self {
        Self { journal, payload_bytes, waiter: None }
    }

    fn room(&self, charge: u64) -> Room {
        Room { journal: Arc::clone(&self.journal), payload_bytes: self.payload_bytes, charge }
    }

    fn poll_waiter(&self, waiter: &RoomWaiter, waker: &Waker) -> Poll<Result<Room, RoomError>> {
        let mut state = lock(&waiter.state);
        match &mut *state {
            WaitState::Granted => {
                *state = WaitState::Left;
                Poll::Ready(Ok(self.room(waiter.charge)))
            }
            WaitState::Waiting(known) => {
                match known {
                    Some(known) => known.clone_from(waker),
                    None => *known = Some(waker.clone()),
                }
                drop(state);
                // After the waker is known, so that whoever poisons the directory either is seen here or sees it.
                self.journal
                    .health
                    .check()
                    .map_or_else(|error| Poll::Ready(Err(error.into())), |()| Poll::Pending)
            }
            WaitState::Left => panic!("a room future is not polled after it is done"),
        }
    }
}

impl Future for RoomFuture {
    type Output = Result<Room, RoomError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let limit = self.journal.payload_limit();
        if self.payload_bytes > limit {
            return Poll::Ready(Err(RoomError::TooLarge { bytes: self.payload_bytes, limit }));
        }
        if let Some(waiter) = &self.waiter {
            return self.poll_waiter(waiter, context.waker());
        }
        self.journal.health.check().map_err(RoomError::from)?;
        let charge = RingState::charge(self.journal.geometry.block, self.payload_bytes);
        let mut state = lock(&self.journal.state);
        if state.try_promise(charge) {
            drop(state);
            return Poll::Ready(Ok(self.room(charge)));
        }
        let waker = Some(context.waker().clone());
        let waiter = Arc::new(RoomWaiter { charge, state: Mutex::new(WaitState::Waiting(waker)) });
        state.wait_for_room(Arc::clone(&waiter));
        drop(state);
        self.journal.storage_bell.ring();
        let result = self.poll_waiter(&waiter, context.waker());
        self.waiter = Some(waiter);
        result
    }
}

impl Drop for RoomFuture {
    fn drop(&mut self) {
        let Some(waiter) = &self.waiter else { return };
        let before = std::mem::replace(&mut *lock(&waiter.state), WaitState::Left);
        let granted = match before {
            WaitState::Granted => lock(&self.journal.state).give_back(waiter.charge),
            // The next one in the queue may fit where this one did not.
            WaitState::Waiting(_) => lock(&self.journal.state).grant(),
            WaitState::Left => return,
        };
        granted.into_iter().for_each(Waker::wake);
    }
}

/// Resolves once the ticket is committed.
#[derive(Debug)]
pub struct CommitFuture {
    journal: Arc<Journal>,
    ticket: Ticket,
}

impl CommitFuture {
    /// Starts the commit; see [`crate::LogDirectory::commit`].
    pub(crate) fn start(journal: Arc<Journal>, ticket: Ticket) -> Self {
        if !journal.is_committed(ticket) {
            match journal.mode {
                FlushMode::Ack => journal.commit_bell.ring(),
                // A failure shows when the future is polled.
                FlushMode::Os => drop(journal.commit_gathered(limits::COMMITS_PER_REQUEST)),
            }
        }
        Self { journal, ticket }
    }
}

impl Future for CommitFuture {
    type Output = Result<(), CommitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { journal, ticket } = &*self;
        if journal.is_committed(*ticket) {
            return Poll::Ready(Ok(()));
        }
        let mut state = lock(&journal.state);
        let known = state.waiting_for_commit.last();
        if !known.is_some_and(|(waiting, waker)| waiting == &ticket.0 && waker.will_wake(context.waker())) {
            state.waiting_for_commit.push((ticket.0, context.waker().clone()));
        }
        drop(state);
        // After the waker is known: whoever leaves the ring now either sees it, or has left the ring free.
        if journal.mode == FlushMode::Os {
            journal.commit_gathered(limits::COMMITS_PER_REQUEST)?;
        }
        if journal.is_committed(*ticket) {
            return Poll::Ready(Ok(()));
        }
        match journal.health.check() {
            Ok(()) => Poll::Pending,
            Err(_) if journal.is_committed(*ticket) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
