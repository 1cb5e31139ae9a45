//! The process of a story that copies: what it holds, and what it sent and has no answer to.
//!
//! Owns: how many commits it may make. Does not own: what happens to it (`world`).

use std::collections::VecDeque;

use super::target_log::Request;
use crate::copier::Copier;
use crate::copier::gathering::{ENOUGH_BATCHES, ENOUGH_BYTES};
use crate::copier::plan::Planner;
use crate::map_topic::MapRecord;
use crate::offset_map::OffsetMap;

/// A write to the map topic, and the map that it must leave there.
pub(super) struct Commit {
    pub(super) revision: u64,
    pub(super) records: Vec<MapRecord>,
    pub(super) map: OffsetMap,
}

/// The process: gone after a crash, but for what it sent.
pub(super) struct Process {
    pub(super) copier: Copier,
    pub(super) planner: Planner,
    pub(super) commits: VecDeque<Commit>,
    pub(super) requests: VecDeque<Request>,
    pub(super) stopped: bool,
    pub(super) pace: Pace,
}

/// How many commits a process made, and what bounds their number.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pub(super) commits: usize,
    pub(super) flushes: usize,
    pub(super) batches: usize,
    pub(super) size_bytes: usize,
}

impl Pace {
    /// Until the stop, which does not wait for a flush.
    pub(super) fn check(&self) {
        let worth = self.batches / ENOUGH_BATCHES + self.size_bytes / ENOUGH_BYTES;
        // The first commit comes before any flush; and where the batches of the owner before end, so does the list.
        assert!(self.commits <= self.flushes + worth + 2, "too many commits: {self:?}");
    }
}
