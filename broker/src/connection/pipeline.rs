//! The requests of one connection that have begun, in order.
//!
//! Owns: that order, the requests under way, the gate by which a produce request holds back later ones.
//! Does not own: what a request does (`api`), the frame that may not begin yet (`session`), answers on their way
//! out (`outbound`).
//!
//! Kafka answers a connection's requests in order, and clients rely on a later one seeing what an earlier one did.
//! So a request begins only when all before it are answered, with one exception that makes pipelining worth it:
//! a produce request may begin while others wait for their commit, once those have been given their offsets.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::OwnedSemaphorePermit;
use wire::codec::Encoded;

use super::Disconnect;
use crate::limits::MAX_PIPELINED_REQUESTS;

/// A finished answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The frame to send.
    pub(crate) frame: Encoded,
    /// Memory the frame holds on behalf of a budget, given back when it has been sent.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// What a request came to: an answer, or nothing where the protocol has none (acks=0).
pub(crate) type Outcome = Result<Option<Answer>, Disconnect>;

/// A request under way.
pub(crate) type Pending = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What the dispatcher made of a request.
pub(crate) enum Handled {
    /// Done.
    Now(Outcome),
    /// Under way.
    Later(Pending),
}

/// Whether the produce requests begun so far have all been given their offsets.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppendGate {
    busy: Arc<AtomicBool>,
}

impl AppendGate {
    /// Keeps later requests back until the guard is dropped.
    pub(crate) fn close(&self) -> AppendGuard {
        self.busy.store(true, Ordering::Relaxed);
        AppendGuard { busy: Arc::clone(&self.busy) }
    }

    fn is_open(&self) -> bool {
        !self.busy.load(Ordering::Relaxed)
    }
}

/// See [`AppendGate::close`].
#[derive(Debug)]
pub(crate) struct AppendGuard {
    busy: Arc<AtomicBool>,
}

impl Drop for AppendGuard {
    fn drop(&mut self) {
        self.busy.store(false, Ordering::Relaxed);
    }
}

struct Slot {
    produces: bool,
    state: State,
}

enum State {
    Waiting(Pending),
    Done(Outcome),
}

/// Requests begun and not answered, in order.
#[derive(Default)]
pub(super) struct Pipeline {
    slots: VecDeque<Slot>,
    gate: AppendGate,
}

impl Pipeline {
    pub(super) fn gate(&self) -> &AppendGate {
        &self.gate
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether everything under way is on its way into the log, so that a stop waits for it.
    pub(super) fn only_produces(&self) -> bool {
        self.slots.iter().all(|slot| slot.produces)
    }

    /// Whether a request may begin now.
    pub(super) fn may_begin(&self, produces: bool) -> bool {
        self.slots.is_empty()
            || (produces
                && self.gate.is_open()
                && self.slots.len() < MAX_PIPELINED_REQUESTS
                && self.only_produces())
    }

    /// Takes a request that has begun, and moves it as far as it goes.
    pub(super) fn push(&mut self, produces: bool, handled: Handled, context: &mut Context<'_>) {
        let state = match handled {
            Handled::Now(outcome) => State::Done(outcome),
            Handled::Later(mut pending) => match pending.as_mut().poll(context) {
                Poll::Ready(outcome) => State::Done(outcome),
                Poll::Pending => State::Waiting(pending),
            },
        };
        self.slots.push_back(Slot { produces, state });
    }

    /// Moves everything under way as far as it goes.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) {
        for slot in &mut self.slots {
            if let State::Waiting(pending) = &mut slot.state
                && let Poll::Ready(outcome) = pending.as_mut().poll(context)
            {
                slot.state = State::Done(outcome);
            }
        }
    }

    /// The next outcome in order, if it is there.
    pub(super) fn pop(&mut self) -> Option<Outcome> {
        match self.slots.front()?.state {
            State::Waiting(_) => None,
            State::Done(_) => match self.slots.pop_front()?.state {
                State::Done(outcome) => Some(outcome),
                State::Waiting(_) => None,
            },
        }
    }
}
