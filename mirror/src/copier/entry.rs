//! A planned batch, from the queue to its acknowledgement.
//!
//! Owns: what is remembered of it. Does not own: what may happen to it next (`copier`), its bytes (`copier::batch`).

use super::Producer;
use super::batch::Outgoing;
use crate::offset_map::TargetOffset;

/// How far a batch has come.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum State {
    /// Not sent, or known not to have arrived.
    Waiting,
    InFlight,
    /// Answered with doubt while others are in flight.
    Doubtful,
    Acked(TargetOffset, i32),
}

/// A batch of the queue.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) producer: Producer,
    pub(super) batch: Outgoing,
    /// The commit that lists it.
    pub(super) listed: Option<u64>,
    /// Whether it ever left: from then on it may arrive, and stays an intent until it did.
    pub(super) sent: bool,
    pub(super) state: State,
}

impl Entry {
    pub(super) fn is_acked(&self) -> bool {
        matches!(self.state, State::Acked(..))
    }
}
