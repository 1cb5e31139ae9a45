//! The world of a story: a source, a target, a map topic, and whatever may happen to the process between them.
//!
//! Owns: what happens, and what must be true of it in the end. Does not own: how long a story lasts.

use std::collections::VecDeque;

use wire::ids::TopicId;

use super::dice::Dice;
use super::process::{Commit, Pace, Process};
use super::source_log::{FROM_TARGET, SourceLog};
use super::target_log::{Answer, Request, TargetLog, records_of};
use crate::copier::plan::{PlanFault, PlanOptions, Planner, ReadTo};
use crate::copier::{Action, Copier, Failure, Input, MAX_IN_FLIGHT, Outgoing, Producer, Resume};
use crate::map_topic::{BatchIntent, Ledger, PartitionKey};
use crate::offset_map::{
    Block, MAX_MAP_BYTES, OffsetMap, Position, Provenance, SourceOffset, TargetOffset, Translation,
};
use crate::recovery::{Expected, Left, Verdict, expect_foreign, match_tail};

const FLOW_PRODUCER: i64 = 9_000;

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) source: SourceLog,
    target: TargetLog,
    pub(super) ledger: Ledger,
    generation: u64,
    /// Requests whose sender gave up or died, and that the target may still take.
    late: Vec<Request>,
    target_start: i64,
    pub(super) crashes: u32,
    /// Either the target forgets producers, or requests come later than anybody waits; with both, Kafka stores twice.
    forgetful: bool,
    /// Whether the target deletes what is old, and how far it has.
    deletes: bool,
    target_log_start: i64,
    /// Bound of the offset map.
    pub(super) map_bytes: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let source = SourceLog::grow(&mut dice);
        let mut target = TargetLog::default();
        if dice.one_in(3) {
            target.append_foreign(4);
        }
        let target_start = target.end;
        let ledger = Ledger::default();
        let forgetful = dice.one_in(2);
        let deletes = dice.one_in(2);
        // Room for a few blocks of few runs.
        let map_bytes =
            if dice.one_in(4) { size_of::<Block>() * (2 + dice.below(4) as usize) } else { MAX_MAP_BYTES };
        Self {
            dice,
            source,
            target,
            ledger,
            generation: 0,
            late: Vec::new(),
            target_start,
            crashes: 0,
            forgetful,
            deletes,
            target_log_start: 0,
            map_bytes,
        }
    }

    pub(super) fn key() -> PartitionKey {
        PartitionKey {
            source_cluster: "west".into(),
            source_topic: TopicId([1; 16]),
            target_topic: TopicId([2; 16]),
            partition: 0,
        }
    }

    fn write(&mut self, commit: &Commit) {
        for record in &commit.records {
            let key = std::str::from_utf8(&record.key).unwrap().parse().unwrap();
            self.ledger.apply(key, record.value.as_deref()).unwrap();
        }
        let kept = self.ledger.partition(&World::key()).unwrap().offset_map().unwrap();
        assert_eq!(kept.position(), commit.map.position());
        let (kept, held): (Vec<&Block>, Vec<&Block>) =
            (kept.blocks().collect(), commit.map.blocks().collect());
        assert_eq!(kept, held, "the map topic against the copier's memory");
    }

    /// All that is still in the air arrives, or never will, but for what comes later than anybody waits.
    fn drain(&mut self) {
        for request in std::mem::take(&mut self.late) {
            if !self.forgetful && self.dice.one_in(3) {
                self.late.push(request);
            } else if self.dice.one_in(2) {
                self.target.append(&request);
            }
        }
        if self.forgetful && self.dice.one_in(3) {
            self.target.forget_producers();
        }
    }

    fn settle(
        &mut self,
        position: Position,
        producer: Producer,
        intents: &[BatchIntent],
    ) -> Vec<(TargetOffset, i32)> {
        self.drain();
        let known = self.target.known(producer.id);
        let expected = Expected { position, producer, intents };
        match match_tail(expected, &self.target.tail(), known) {
            Verdict::Settled(arrived) => arrived,
            other => panic!("the tail must fit: {other:?}"),
        }
    }

    /// A new owner reads the map topic and the target's tail, and goes on.
    pub(super) fn start(&mut self) -> Process {
        self.generation += 1;
        let provenance = Provenance { generation: self.generation, ..Provenance::default() };
        let known = self.ledger.partition(&World::key());
        let found = known.and_then(|known| Some((known.progress()?.1.clone(), known.offset_map()?)));
        let first = Producer { id: FLOW_PRODUCER, epoch: 0, sequence: 0 };
        let (map, replay_as, intents, source_epoch, then_as) = match found {
            None => {
                let start = Position {
                    source: SourceOffset(self.source.log_start),
                    target: TargetOffset(self.target.end),
                };
                self.target_start = self.target.end;
                (OffsetMap::new(start, provenance).limited_to(self.map_bytes), first, Vec::new(), -1, first)
            }
            Some((progress, map)) => {
                let old = Producer {
                    id: progress.producer_id,
                    epoch: progress.producer_epoch,
                    sequence: progress.sequence,
                };
                let then_as = Producer { id: old.id, epoch: old.epoch + 1, sequence: 0 };
                (map.limited_to(self.map_bytes), old, progress.intents, progress.source_epoch, then_as)
            }
        };
        let arrived = self.settle(map.position(), replay_as, &intents);
        let left = Left { map, producer: replay_as, intents, source_epoch };
        let Left { map, producer: replay_as, intents, source_epoch } =
            left.take_arrived(&arrived, provenance).unwrap();
        let next = map.position().source;
        let options = PlanOptions { max_batch_bytes: 400, ..PlanOptions::default() };
        let read = ReadTo::copied(&map, source_epoch);
        let planner = Planner::new(next, read, intents.clone(), options);
        let replay = intents;
        let key = World::key();
        let known = self.ledger.partition(&key);
        let superseded = known.map(|known| known.superseded(&key, &map)).unwrap_or_default();
        let resume = Resume {
            key,
            map,
            provenance,
            replay_as,
            replay,
            then_as,
            source_epoch,
            left_out: false,
            superseded,
        };
        let copier = Copier::new(resume);
        let (commits, requests, pace) = (VecDeque::new(), VecDeque::new(), Pace::default());
        Process { copier, planner, commits, requests, stopped: false, pace }
    }

    pub(super) fn handle(&mut self, process: &mut Process, mut actions: Vec<Action>) {
        while !actions.is_empty() {
            let mut more = Vec::new();
            for action in actions {
                match action {
                    Action::Commit { revision, records } => {
                        process.pace.commits += 1;
                        let map = process.copier.map().clone();
                        process.commits.push_back(Commit { revision, records, map });
                    }
                    Action::Produce { id, producer, batch } => {
                        assert!(self.is_intended(&batch), "invariant A: no intent for {:?}", batch.covers);
                        let records = records_of(&batch, producer);
                        process.requests.push_back(Request { id, producer, records });
                        assert!(process.copier.in_flight() <= MAX_IN_FLIGHT, "invariant B");
                    }
                    Action::ReadBack { position, producer, intents } => {
                        let arrived = self.settle(position, producer, &intents);
                        more.extend(process.copier.step(Input::ReadBack { arrived }, 0));
                    }
                    Action::LookBetween { producer_id, source, from, to } => {
                        let mut between = self.target.tail();
                        between.retain(|batch| (from..to).contains(&batch.base_offset));
                        expect_foreign(&between, producer_id, source).expect("acknowledged to nobody");
                    }
                    Action::Replan { from, .. } => process.planner.rewind(from),
                    Action::Paused(event) => panic!("paused: {event}"),
                    Action::Stopped => process.stopped = true,
                }
            }
            actions = more;
        }
    }

    fn is_intended(&self, batch: &Outgoing) -> bool {
        let known = self.ledger.partition(&World::key());
        let progress = known.and_then(|known| known.progress());
        progress.is_some_and(|(_, progress)| progress.intents.contains(&batch.intent()))
    }

    /// One thing that happens while the process lives.
    pub(super) fn happen(&mut self, process: &mut Process) {
        let actions = match self.dice.below(11) {
            0..=2 if process.copier.is_replaying() || process.copier.queued_bytes() < 2_000 => {
                self.fetch(process)
            }
            3..=5 => match process.commits.pop_front() {
                Some(commit) => {
                    self.write(&commit);
                    process.copier.step(Input::Committed { revision: commit.revision }, 0)
                }
                None => Vec::new(),
            },
            6..=7 => self.answer(process),
            8 => {
                process.pace.flushes += 1;
                process.copier.step(Input::Flush, 0)
            }
            9 if self.deletes && self.dice.one_in(5) => self.delete(process),
            _ => {
                if self.dice.one_in(4) {
                    let count = 1 + self.dice.below(3);
                    self.target.append_foreign(count);
                }
                if let Some(request) = self.late.pop().filter(|_| !self.forgetful) {
                    self.target.append(&request);
                }
                Vec::new()
            }
        };
        self.handle(process, actions);
    }

    /// The target deletes some of what was copied and written down; nothing that is in doubt, for a tail without it
    /// could not be judged.
    fn delete(&mut self, process: &mut Process) -> Vec<Action> {
        let known = self.ledger.partition(&World::key());
        let written = known.and_then(|known| Some(known.progress()?.1.target)).unwrap_or(0);
        let left = TargetOffset(written).since(TargetOffset(self.target_log_start));
        self.target_log_start += self.dice.below(left / 2 + 1) as i64;
        process.copier.step(Input::TargetLogStart(TargetOffset(self.target_log_start)), 0)
    }

    fn fetch(&mut self, process: &mut Process) -> Vec<Action> {
        let fetched = self.source.fetch(process.planner.next().0, &mut self.dice);
        match process.planner.plan(&fetched, &|producer| producer.0 == FROM_TARGET) {
            Ok(planned) => {
                let (batches, covered_to) = (planned.batches, planned.covered_to);
                process.pace.batches += batches.len();
                process.pace.size_bytes += batches.iter().map(Outgoing::size_bytes).sum::<usize>();
                process.copier.step(Input::Planned { batches, covered_to }, 0)
            }
            Err(PlanFault::Event(event)) => panic!("planned an event: {event}"),
            Err(PlanFault::ReplayDiffers) => panic!("the source did not change, so a replay cannot differ"),
        }
    }

    /// The oldest request reaches the target, or its connection breaks with all that are behind it.
    fn answer(&mut self, process: &mut Process) -> Vec<Action> {
        let Some(request) = process.requests.pop_front() else { return Vec::new() };
        let id = request.id;
        let mut actions = Vec::new();
        if self.dice.one_in(8) {
            process.requests.push_front(request);
            for request in std::mem::take(&mut process.requests) {
                let failure = Failure::Doubtful("the connection broke".to_owned());
                let id = request.id;
                self.late.push(request);
                actions.extend(process.copier.step(Input::Failed { id, failure }, 0));
            }
            return actions;
        }
        let input = match self.target.append(&request) {
            Answer::Appended(base) => {
                Input::Acked { id, base_offset: TargetOffset(base), target_leader_epoch: 0 }
            }
            Answer::Refused => Input::Failed { id, failure: Failure::Doubtful("out of order".to_owned()) },
            Answer::Fenced => Input::Failed { id, failure: Failure::Fenced("old epoch".to_owned()) },
        };
        process.copier.step(input, 0)
    }

    /// The process dies: each thing it sent arrives now, later or never, in order.
    pub(super) fn crash(&mut self, mut process: Process) {
        self.crashes += 1;
        if !process.stopped {
            process.pace.check();
        }
        while let Some(commit) = process.commits.pop_front() {
            if self.dice.one_in(2) {
                break;
            }
            self.write(&commit);
        }
        while let Some(request) = process.requests.pop_front() {
            if self.dice.one_in(3) {
                process.requests.push_front(request);
                break;
            }
            self.target.append(&request);
        }
        if self.dice.one_in(2) {
            self.late.extend(process.requests);
        }
    }

    pub(super) fn check(&self, map: &OffsetMap) {
        let mut expected = self.source.committed.iter();
        let mut pairs = Vec::new();
        for (base, producer, records) in &self.target.batches {
            if producer.id != FLOW_PRODUCER {
                continue;
            }
            for (step, seen) in records.iter().enumerate() {
                let (offset, wanted) = expected.next().expect("no record more than was committed");
                assert_eq!(seen, wanted, "records arrive once and in order");
                pairs.push((*offset, base + step as i64));
            }
        }
        assert_eq!(expected.next(), None, "every committed record arrives");
        let start = map.start();
        if self.has_forgotten(map) && self.map_bytes == MAX_MAP_BYTES {
            assert!(start.target.0 <= self.target_log_start, "only what was deleted is forgotten");
        }
        for next in self.source.log_start..=self.source.end {
            let exact = pairs.iter().find(|(source, _)| *source == next).map(|(_, target)| *target);
            let before = pairs.iter().rev().find(|(source, _)| *source < next).map(|(_, target)| target + 1);
            let wanted = match SourceOffset(next) < start.source {
                true => Translation::Before(start.target),
                false => Translation::Exact(TargetOffset(exact.or(before).unwrap_or(self.target_start))),
            };
            assert_eq!(map.translate(SourceOffset(next)), wanted, "source offset {next}");
        }
        for next in self.target_start..map.position().target.0 {
            let exact = pairs.iter().find(|(_, target)| *target == next);
            let before = pairs.iter().rev().find(|(_, target)| *target < next);
            let wanted = match exact {
                _ if TargetOffset(next) < start.target => Translation::Before(start.source),
                Some((source, _)) => Translation::Exact(SourceOffset(*source)),
                None => Translation::Foreign(SourceOffset(
                    before.map_or(self.source.log_start, |pair| pair.0 + 1),
                )),
            };
            assert_eq!(map.translate_back(TargetOffset(next)), wanted, "target offset {next}");
        }
    }

    /// Whether the map begins later than the copy did.
    pub(super) fn has_forgotten(&self, map: &OffsetMap) -> bool {
        map.start().source.0 > self.source.log_start
    }
}
