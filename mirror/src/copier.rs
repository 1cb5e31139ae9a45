//! One partition's copy: what may be produced when, and what an answer means.
//!
//! Owns: the order intent, produce, acknowledgement, run; the limit of requests in flight; the offset map while
//! the partition is copied; what is written of it, and when (`gathering`: not for each batch that trickles in).
//! Does not own: sockets, waiting, the clock (`flow`), what the target's tail says after a doubtful answer
//! (`recovery`), how a source batch becomes a target batch (`copier::plan`).
//!
//! It is a state machine without I/O: `step` takes what happened and answers what to do.
//!
//! ```text
//!   Copying --doubtful answer--> Draining --all answered--> ReadingBack --matched--> Copying
//!      |                                                        |
//!      |--stop, nothing in flight, position written--> Stopped  '--not matched--> Paused
//!      '--refused for good, fenced--> Paused
//! ```
//!
//! Invariants:
//!   A. A batch is produced only after the record that lists it as an intent was acknowledged.
//!   B. At most `MAX_IN_FLIGHT` batches are unanswered, in the order of their sequences.
//!   C. The position passes a batch only when it, and all before it, were acknowledged or read back.
//!   D. All intents of one progress record are of one producer id and epoch.
//!   E. Whoever reads the map topic has the map as of the last commit, whatever it forgot (`unwritten` says how).
//!   F. What trickles in waits for the next flush at the longest, and from one flush to the next one commit at most is
//!      made for less than is worth a commit of its own (`gathering` has the bound).

pub mod batch;
mod entry;
mod exchange;
mod gathering;
mod listing;
pub mod plan;
#[cfg(test)]
mod prompt_target;
mod rebuild;
#[cfg(test)]
mod simulation;
mod unwritten;

use std::collections::VecDeque;

pub use batch::Outgoing;
use entry::{Entry, State};
pub use exchange::{Action, Failure, Input, Producer, ReplanReason, Resume};
pub use gathering::FLUSH_EVERY;
use gathering::{Gathering, Unlisted};
use listing::Listing;
pub use listing::{LISTED_BYTES, MAX_LISTED};
use unwritten::Unwritten;

use crate::events::{EventKind, Side};
use crate::map_topic::{BatchIntent, Key, MapRecord, PartitionKey, Progress};
use crate::offset_map::{OffsetMap, Position, Provenance, Run, SourceOffset, TargetOffset};

/// Batches of a partition that may be unanswered: what a broker remembers of a producer.
pub const MAX_IN_FLIGHT: usize = 5;
/// Below this many listed batches that wait to be sent, the next ones are listed.
const LISTED_LOW_WATER: usize = 16;

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Copying,
    Draining(Option<(u64, ReplanReason)>),
    ReadingBack(Option<(u64, ReplanReason)>),
    Stopped,
    Paused,
}

/// The state machine of one partition.
#[derive(Debug)]
pub struct Copier {
    key: PartitionKey,
    map: OffsetMap,
    provenance: Provenance,
    phase: Phase,
    stopping: bool,
    queue: VecDeque<Entry>,
    queued_bytes: usize,
    next_id: u64,
    producer: Producer,
    /// Batches of the owner before that were not planned again yet: they stay intents.
    unplanned: VecDeque<BatchIntent>,
    then_as: Producer,
    source_epoch: i32,
    covered_to: SourceOffset,
    /// False until the target has acknowledged one batch: then one may follow another unanswered.
    target_knows_producer: bool,
    revision: u64,
    durable: u64,
    commit_in_flight: bool,
    /// Whether the progress that was last written is no longer true.
    progress_dirty: bool,
    /// Whether batches were left out because they came from the target.
    left_out: bool,
    /// Where the target's log began at the last look; `None` before the first.
    target_log_start: Option<TargetOffset>,
    gathering: Gathering,
    unwritten: Unwritten,
    now_ms: i64,
}

impl Copier {
    /// A copier that goes on from where recovery ended.
    #[must_use]
    pub fn new(resume: Resume) -> Self {
        let Resume { key, map, provenance, replay_as, replay, then_as, source_epoch, left_out, superseded } =
            resume;
        let unwritten = Unwritten::new(&map, provenance.generation, superseded);
        let covered_to = map.position().source;
        Self {
            key,
            map,
            provenance,
            phase: Phase::Copying,
            stopping: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            next_id: 0,
            producer: if replay.is_empty() { then_as } else { replay_as },
            unplanned: replay.into(),
            then_as,
            source_epoch,
            covered_to,
            target_knows_producer: false,
            revision: 0,
            durable: 0,
            commit_in_flight: false,
            progress_dirty: true,
            left_out,
            target_log_start: None,
            gathering: Gathering::new(),
            unwritten,
            now_ms: 0,
        }
    }

    /// The offset map as acknowledged so far.
    #[must_use]
    pub fn map(&self) -> &OffsetMap {
        &self.map
    }

    /// Takes note that the source holds records which came from the target; they are not planned. From the next commit on
    /// whoever reads the map topic knows it too.
    pub fn note_left_out(&mut self) {
        self.progress_dirty |= !self.left_out;
        self.left_out = true;
    }

    /// Whether it ever left out records which came from the target.
    #[must_use]
    pub fn has_left_out(&self) -> bool {
        self.left_out
    }

    /// Where the target's log begins, as far as it was asked.
    #[must_use]
    pub fn target_log_start(&self) -> Option<TargetOffset> {
        self.target_log_start
    }

    /// Whether the map holds all that was sent to the target.
    #[must_use]
    pub fn is_map_complete(&self) -> bool {
        self.queue.is_empty()
            && self.unplanned.is_empty()
            && matches!(self.phase, Phase::Copying | Phase::Stopped)
    }

    /// Bytes of planned batches that wait or are in flight: what the memory budget counts.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Batches unanswered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.queue.iter().filter(|entry| entry.state == State::InFlight).count()
    }

    /// Whether batches of the owner before wait to be planned again. Nothing is sent until all of them are, so they
    /// are fetched whatever the memory budget says; `MAX_LISTED` bounds them.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        !self.unplanned.is_empty()
    }

    /// Whether planned batches are of use now.
    #[must_use]
    pub fn is_copying(&self) -> bool {
        self.phase == Phase::Copying && !self.stopping
    }

    /// Whether everything planned was acknowledged and written down.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty() && !self.progress_dirty && !self.commit_in_flight
    }

    /// Takes in what happened at `now_ms` (milliseconds since 1970, only written down) and answers what to do.
    pub fn step(&mut self, input: Input, now_ms: i64) -> Vec<Action> {
        self.now_ms = now_ms;
        let mut actions = Vec::new();
        if matches!(self.phase, Phase::Paused | Phase::Stopped) {
            return actions;
        }
        match input {
            Input::Planned { batches, covered_to } => self.enqueue(batches, covered_to),
            Input::Committed { revision } => {
                self.commit_in_flight = false;
                self.durable = self.durable.max(revision);
            }
            Input::Acked { id, base_offset, target_leader_epoch } => {
                self.answer(id, State::Acked(base_offset, target_leader_epoch));
            }
            Input::Failed { id, failure } => self.fail(id, failure, &mut actions),
            Input::ReadBack { arrived } => self.resume_after_read_back(&arrived, &mut actions),
            Input::Halt(event) => self.pause(event, &mut actions),
            Input::TargetLogStart(log_start) => self.trim_below(log_start),
            Input::Flush => {
                self.gathering.flush();
                let due = self.progress_dirty || self.unwritten.has_tombstones();
                self.commit_if(due, &mut actions);
            }
            Input::Stop => self.stopping = true,
        }
        self.go_on(&mut actions);
        actions
    }

    fn enqueue(&mut self, batches: Vec<Outgoing>, covered_to: SourceOffset) {
        if self.stopping {
            return;
        }
        for batch in batches {
            let producer = self.producer;
            self.producer = producer.after(batch.records);
            // A batch of the owner before may arrive without having been sent by this one.
            let sent = self.unplanned.pop_front().is_some();
            if sent && self.unplanned.is_empty() {
                self.producer = self.then_as;
            }
            self.queued_bytes += batch.size_bytes();
            let id = self.next_id;
            self.next_id += 1;
            self.queue.push_back(Entry { id, producer, batch, listed: None, sent, state: State::Waiting });
        }
        self.covered_to = self.covered_to.max(covered_to);
    }

    /// Forgets blocks of which the target has no record any more. Nothing waits for that, so the map topic is told with
    /// the next commit, at a flush if there is nothing else to say.
    fn trim_below(&mut self, target_log_start: TargetOffset) {
        self.target_log_start = Some(target_log_start);
        let gone = self.map.trim_below(target_log_start);
        self.progress_dirty |= !gone.is_empty();
        self.unwritten.forget(&self.key, &gone);
    }

    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        self.queue.iter_mut().find(|entry| entry.id == id)
    }

    fn answer(&mut self, id: u64, state: State) {
        if let Some(entry) = self.entry(id).filter(|entry| entry.state == State::InFlight) {
            entry.state = state;
        }
    }

    fn fail(&mut self, id: u64, failure: Failure, actions: &mut Vec<Action>) {
        let Some(entry) = self.entry(id).filter(|entry| entry.state == State::InFlight) else { return };
        entry.state = State::Doubtful;
        let (from, to) = (entry.batch.covers.start.0, entry.batch.covers.end.0);
        let size_bytes = entry.batch.size_bytes();
        let replan = match failure {
            Failure::Doubtful(_) => None,
            Failure::TooLarge => Some((id, ReplanReason::TooLarge { size_bytes })),
            Failure::CodecRefused => Some((id, ReplanReason::CodecRefused)),
            Failure::Refused(reason) => {
                return self.pause(EventKind::Refused { from, to, reason }, actions);
            }
            Failure::Fenced(reason) => return self.pause(EventKind::Fenced { reason }, actions),
        };
        match &mut self.phase {
            // The first failure is the cause; those behind it fail because a sequence is missing.
            Phase::Draining(_) | Phase::ReadingBack(_) => {}
            phase => *phase = Phase::Draining(replan),
        }
    }

    fn pause(&mut self, event: EventKind, actions: &mut Vec<Action>) {
        self.phase = Phase::Paused;
        self.queue.clear();
        self.queued_bytes = 0;
        actions.push(Action::Paused(event));
    }

    fn finish_once_drained(&mut self, actions: &mut Vec<Action>) {
        if self.in_flight() == 0 {
            self.finish(actions);
        }
    }

    /// Moves on as far as the phase allows.
    fn go_on(&mut self, actions: &mut Vec<Action>) {
        self.settle_acked(actions);
        match self.phase.clone() {
            Phase::Copying if self.stopping => self.finish_once_drained(actions),
            Phase::Copying => {
                let wanted = self.sendable() < LISTED_LOW_WATER && self.gathering.is_due(&self.unlisted());
                self.commit_if(wanted, actions);
                self.send(actions);
            }
            Phase::Draining(replan) if self.in_flight() == 0 => self.read_back(replan, actions),
            _ => {}
        }
    }

    /// Records the runs of the batches that were acknowledged with none missing before them.
    fn settle_acked(&mut self, actions: &mut Vec<Action>) {
        while let Some(State::Acked(base_offset, leader_epoch)) = self.queue.front().map(|entry| entry.state)
        {
            let entry = self.queue.pop_front().expect("the front was just looked at");
            self.queued_bytes -= entry.batch.size_bytes();
            self.target_knows_producer = true;
            let Position { source, target } = self.map.position();
            if base_offset > target {
                let producer_id = entry.producer.id;
                actions.push(Action::LookBetween { producer_id, source, from: target, to: base_offset });
            }
            if let Err(event) = self.record(&entry.batch, base_offset, leader_epoch) {
                return self.pause(event, actions);
            }
        }
        if self.queue.is_empty() && self.covered_to > self.map.position().source {
            self.map.advance(self.covered_to);
            self.progress_dirty = true;
        }
    }

    fn record(&mut self, batch: &Outgoing, base: TargetOffset, leader_epoch: i32) -> Result<(), EventKind> {
        self.provenance.target_leader_epoch = leader_epoch;
        let provenance = Provenance { source_leader_epoch: batch.source_leader_epoch, ..self.provenance };
        let mut target = base;
        for (source, length) in &batch.runs {
            let run = Run { source: *source, target, length: *length };
            let position = self.map.position().target.0;
            let shed = self.map.record(run, provenance).map_err(|_| EventKind::LogShrank {
                side: Side::Target,
                position,
                end: run.target.0,
            })?;
            self.unwritten.note_run(&self.map);
            // Those of a map that grew too large go from the topic too: read back, they would be shed again.
            self.unwritten.forget(&self.key, &shed);
            target = run.target_end();
        }
        self.source_epoch = batch.source_leader_epoch;
        self.map.advance(batch.covers.end);
        self.progress_dirty = true;
        Ok(())
    }

    /// The batches that one progress record can list: the first ones, of one life of the producer.
    fn listable(&self) -> impl Iterator<Item = &Entry> {
        let life = self.queue.front().map_or(self.producer, |entry| entry.producer);
        let mut listing = Listing::default();
        self.queue.iter().take_while(move |entry| {
            entry.producer.is_same_life(&life) && listing.takes(&entry.batch, entry.sent)
        })
    }

    /// What of it no record lists yet.
    fn unlisted(&self) -> Unlisted {
        let (mut unlisted, mut listable) = (Unlisted::default(), 0);
        for entry in self.listable() {
            listable += 1;
            if entry.listed.is_none() {
                unlisted.add(entry.batch.size_bytes());
            }
        }
        unlisted.is_cut_off = listable < self.queue.len();
        unlisted
    }

    /// Batches that are listed and wait to be sent.
    fn sendable(&self) -> usize {
        let waiting = self.queue.iter().filter(|entry| entry.state == State::Waiting);
        waiting.filter(|entry| entry.listed.is_some()).count()
    }

    fn commit_if(&mut self, wanted: bool, actions: &mut Vec<Action>) {
        if !wanted || self.commit_in_flight {
            return;
        }
        self.revision += 1;
        self.commit_in_flight = true;
        self.gathering.commit();
        let revision = self.revision;
        let mut records = self.unwritten.take_blocks(&self.key, &self.map);
        // Tombstones alone change nothing of it.
        if self.progress_dirty || self.unlisted().batches > 0 {
            records.push(self.list(revision));
        }
        records.extend(self.unwritten.take_tombstones());
        self.progress_dirty = false;
        actions.push(Action::Commit { revision, records });
    }

    /// The progress as it is now, which lists what one record can list.
    fn list(&mut self, revision: u64) -> MapRecord {
        let life = self.queue.front().map_or(self.producer, |entry| entry.producer);
        let mut intents: Vec<BatchIntent> = self.listable().map(|entry| entry.batch.intent()).collect();
        for entry in self.queue.iter_mut().take(intents.len()) {
            entry.listed = entry.listed.or(Some(revision));
        }
        // Nothing follows them in the queue until all of them are planned.
        intents.extend(self.unplanned.iter().cloned());
        let Position { source, target } = self.map.position();
        let progress = Progress {
            source: source.0,
            target: target.0,
            source_epoch: self.source_epoch,
            target_epoch: self.provenance.target_leader_epoch,
            producer_id: life.id,
            producer_epoch: life.epoch,
            sequence: life.sequence,
            intents,
            left_out: self.left_out,
            shed: self.map.has_forgotten(),
            map_start: Some(self.map.start().source.0),
            at_ms: self.now_ms,
        };
        let generation = self.provenance.generation;
        MapRecord::set(&Key::Progress { partition: self.key.clone(), generation }, progress.encode())
    }

    fn send(&mut self, actions: &mut Vec<Action>) {
        if !self.unplanned.is_empty() {
            return;
        }
        let limit = if self.target_knows_producer { MAX_IN_FLIGHT } else { 1 };
        let mut in_flight = self.in_flight();
        let life = self.queue.front().map(|entry| entry.producer);
        for entry in &mut self.queue {
            if in_flight >= limit {
                return;
            }
            if entry.state != State::Waiting {
                continue;
            }
            let durable = entry.listed.is_some_and(|revision| revision <= self.durable);
            if !durable || !life.is_some_and(|life| life.is_same_life(&entry.producer)) {
                return;
            }
            entry.state = State::InFlight;
            entry.sent = true;
            in_flight += 1;
            actions.push(Action::Produce {
                id: entry.id,
                producer: entry.producer,
                batch: entry.batch.clone(),
            });
        }
    }

    fn read_back(&mut self, replan: Option<(u64, ReplanReason)>, actions: &mut Vec<Action>) {
        self.phase = Phase::ReadingBack(replan);
        let producer = self.queue.front().map_or(self.producer, |entry| entry.producer);
        let sent = self.queue.iter().take_while(|entry| entry.sent);
        let intents = sent.map(|entry| entry.batch.intent()).collect();
        actions.push(Action::ReadBack { position: self.map.position(), producer, intents });
    }

    fn resume_after_read_back(&mut self, arrived: &[(TargetOffset, i32)], actions: &mut Vec<Action>) {
        let Phase::ReadingBack(replan) = self.phase.clone() else { return };
        if let Some(lost) = self.queue.iter().skip(arrived.len()).find(|entry| entry.is_acked()) {
            let (from, to) = (lost.batch.covers.start.0, lost.batch.covers.end.0);
            let reason = "an acknowledged batch is not in the log".to_owned();
            let offset = self.map.position().target.0;
            return self.pause(EventKind::Unmatched { offset, from, to, reason }, actions);
        }
        self.phase = Phase::Copying;
        for (entry, (base_offset, leader_epoch)) in self.queue.iter_mut().zip(arrived) {
            entry.state = State::Acked(*base_offset, *leader_epoch);
        }
        for entry in self.queue.iter_mut().skip(arrived.len()) {
            entry.state = State::Waiting;
        }
        self.settle_acked(actions);
        self.target_knows_producer = false;
        // The refused batch never got there, so nothing of it or behind it can come late.
        if let Some((id, because)) = replan
            && let Some(at) = self.queue.iter().position(|entry| entry.id == id)
        {
            let first = &self.queue[at];
            let (from, producer) = (first.batch.covers.start, first.producer);
            self.unplanned.clear();
            self.producer = if producer.is_same_life(&self.then_as) { producer } else { self.then_as };
            self.queue.truncate(at);
            self.queued_bytes = self.queue.iter().map(|entry| entry.batch.size_bytes()).sum();
            self.covered_to = from;
            self.progress_dirty = true;
            actions.push(Action::Replan { from, because });
        }
    }

    fn finish(&mut self, actions: &mut Vec<Action>) {
        // What was never sent is planned again by the next owner; what was sent and has not arrived stays listed.
        if let Some(at) = self.queue.iter().position(|entry| !entry.sent) {
            self.producer = self.queue[at].producer;
            self.covered_to = self.queue[at].batch.covers.start;
            // What no record lists goes without a word.
            self.progress_dirty |= self.queue.iter().skip(at).any(|entry| entry.listed.is_some());
            self.queue.truncate(at);
        }
        if self.commit_in_flight {
            return;
        }
        if self.progress_dirty {
            return self.commit_if(true, actions);
        }
        self.phase = Phase::Stopped;
        actions.push(Action::Stopped);
    }
}
