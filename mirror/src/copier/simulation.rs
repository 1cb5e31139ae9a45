//! Whole lives of a partition's copy against a simulated source, target and map topic, crashes included.
//!
//! Each seed makes one story: what the source holds, where the process dies, which answers are lost, which requests
//! arrive late, when the target forgets its producers, what it deletes, how large a map may become. In the end each
//! committed record at or above the start is in the target once, in order, and every offset translates as the plain
//! list of pairs says, but for what the map had to forget. After every single commit, whatever dies next, the map topic
//! gives exactly the map that the copier had; and there are no more commits than `gathering` says.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use wire::batch::{
    Attributes, BatchBuilder, BatchHeader, BatchOptions, BatchView, EndMarker, EndMarkerPlace, NewRecord,
    ProducerFields, Records, TimestampType, TransactionEnd, crc32c, sequence_after,
};
use wire::compress::Codec;
use wire::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId};

use super::gathering::{ENOUGH_BATCHES, ENOUGH_BYTES};
use super::plan::{AbortedTransaction, Fetched, PlanFault, PlanOptions, Planner, ReadTo};
use super::*;
use crate::map_topic::Ledger;
use crate::offset_map::{Block, MAX_MAP_BYTES, Translation};
use crate::recovery::{Expected, KnownProducer, Left, TailBatch, Verdict, expect_foreign, match_tail};

const FLOW_PRODUCER: i64 = 9_000;
const FROM_TARGET: i64 = 666;

/// A small xorshift, so that a seed says it all.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// What a record must look like in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    value: Vec<u8>,
    timestamp_ms: i64,
}

/// The source partition.
struct SourceLog {
    bytes: Vec<(i64, Bytes)>,
    /// With the offset of its marker: an answer lists those that end at or after its start.
    aborted: Vec<(AbortedTransaction, i64)>,
    /// Offset and looks of each committed record that did not come from the target.
    committed: Vec<(i64, Seen)>,
    log_start: i64,
    end: i64,
}

fn raw_record(bytes: &mut Vec<u8>, delta: i64, timestamp_delta: i64, value: &[u8]) {
    let zigzag = |number: i64| ((number << 1) ^ (number >> 63)) as u64;
    let mut body = vec![0];
    for number in [timestamp_delta, delta, -1, value.len() as i64] {
        crate::offset_map::write_varint(&mut body, zigzag(number));
    }
    body.extend_from_slice(value);
    body.push(0);
    crate::offset_map::write_varint(bytes, zigzag(body.len() as i64));
    bytes.extend_from_slice(&body);
}

/// A batch as a log cleaner leaves it: records missing, offsets kept.
fn thinned(base: i64, epoch: i32, span: i64, kept: &[(i64, Vec<u8>)]) -> Bytes {
    let mut payload = Vec::new();
    for (delta, value) in kept {
        raw_record(&mut payload, *delta, *delta, value);
    }
    let header = BatchHeader {
        base_offset: Offset(base),
        size_bytes: wire::batch::HEADER_BYTES + payload.len(),
        leader_epoch: LeaderEpoch(epoch),
        crc: 0,
        attributes: Attributes::default().with_delete_horizon(true),
        last_offset_delta: span as i32 - 1,
        base_timestamp_ms: base,
        max_timestamp_ms: base + span,
        producer_id: ProducerId(-1),
        producer_epoch: ProducerEpoch(-1),
        base_sequence: -1,
        record_count: kept.len() as i32,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&payload);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

impl SourceLog {
    fn grow(dice: &mut Dice) -> Self {
        let mut log =
            Self { bytes: Vec::new(), aborted: Vec::new(), committed: Vec::new(), log_start: 0, end: 0 };
        let mut epoch = 0;
        for _ in 0..5 + dice.below(40) {
            epoch += i32::from(dice.one_in(12));
            match dice.below(7) {
                0 => log.append_thinned(dice, epoch),
                1 => log.append_transaction(dice, epoch),
                2 => log.append_from_target(epoch),
                3 => log.append_plain(dice, epoch, Some(5_000_000 + log.end)),
                _ => log.append_plain(dice, epoch, None),
            }
        }
        if dice.one_in(3) {
            log.log_start = dice.below(log.end as u64 / 2) as i64;
            let start = log.log_start;
            log.committed.retain(|(offset, _)| *offset >= start);
        }
        log
    }

    fn batch(&mut self, options: BatchOptions, count: u64) -> Vec<(i64, Seen)> {
        let mut builder = BatchBuilder::new(BatchOptions { base_offset: Offset(self.end), ..options });
        let mut records = Vec::new();
        for step in 0..count as i64 {
            let offset = self.end + step;
            let value = format!("value {offset}").into_bytes();
            let record = NewRecord { timestamp_ms: offset * 10, value: Some(&value), ..NewRecord::default() };
            builder.push(&record);
            let timestamp_ms = options.append_time_ms.unwrap_or(offset * 10);
            records.push((offset, Seen { value, timestamp_ms }));
        }
        self.bytes.push((self.end, builder.build().into()));
        self.end += count as i64;
        records
    }

    fn append_plain(&mut self, dice: &mut Dice, epoch: i32, append_time_ms: Option<i64>) {
        let codec = Codec::ALL[dice.below(5) as usize];
        let options = BatchOptions {
            codec,
            append_time_ms,
            leader_epoch: LeaderEpoch(epoch),
            ..BatchOptions::default()
        };
        let records = self.batch(options, 1 + dice.below(6));
        self.committed.extend(records);
    }

    fn append_from_target(&mut self, epoch: i32) {
        let producer =
            ProducerFields { id: ProducerId(FROM_TARGET), epoch: ProducerEpoch(0), base_sequence: 0 };
        let options = BatchOptions { producer, leader_epoch: LeaderEpoch(epoch), ..BatchOptions::default() };
        self.batch(options, 3);
    }

    fn append_transaction(&mut self, dice: &mut Dice, epoch: i32) {
        let producer = ProducerFields { id: ProducerId(77), epoch: ProducerEpoch(0), base_sequence: 0 };
        let leader_epoch = LeaderEpoch(epoch);
        let options = BatchOptions { producer, transactional: true, leader_epoch, ..BatchOptions::default() };
        let first_offset = self.end;
        let mut records = self.batch(options, 1 + dice.below(4));
        self.append_plain(dice, epoch, None);
        records.extend(self.batch(options, 1 + dice.below(4)));
        let end = if dice.one_in(2) { TransactionEnd::Abort } else { TransactionEnd::Commit };
        if end == TransactionEnd::Abort {
            self.aborted.push((AbortedTransaction { first_offset, producer_id: 77 }, self.end));
        } else {
            self.committed.extend(records);
            self.committed.sort_by_key(|(offset, _)| *offset);
        }
        let place = EndMarkerPlace {
            producer_id: ProducerId(77),
            producer_epoch: ProducerEpoch(0),
            timestamp_ms: 0,
            base_offset: Offset(self.end),
            leader_epoch,
        };
        let marker = EndMarker { end, coordinator_epoch: 0 }.batch(&place);
        self.bytes.push((self.end, marker.into()));
        self.end += 1;
    }

    fn append_thinned(&mut self, dice: &mut Dice, epoch: i32) {
        let span = 2 + dice.below(8) as i64;
        let mut kept = Vec::new();
        for delta in 0..span {
            if dice.one_in(2) {
                let value = format!("value {}", self.end + delta).into_bytes();
                let seen = Seen { value: value.clone(), timestamp_ms: self.end + delta };
                self.committed.push((self.end + delta, seen));
                kept.push((delta, value));
            }
        }
        self.bytes.push((self.end, thinned(self.end, epoch, span, &kept)));
        self.end += span;
    }

    /// A few batches from the one that holds `from` on, the last perhaps cut short.
    fn fetch(&self, from: i64, dice: &mut Dice) -> Fetched {
        let first = self.bytes.partition_point(|(base, _)| *base <= from).saturating_sub(1);
        let count = 1 + dice.below(8) as usize;
        let mut bytes = Vec::new();
        for (_, batch) in self.bytes.iter().skip(first).take(count) {
            bytes.extend_from_slice(batch);
        }
        if let Some((_, next)) = self.bytes.get(first + count).filter(|_| dice.one_in(2)) {
            bytes.extend_from_slice(&next[..dice.below(next.len() as u64) as usize]);
        }
        let ends_later = self.aborted.iter().filter(|(_, marker)| *marker >= from);
        let aborted = ends_later.map(|(transaction, _)| *transaction).collect();
        Fetched { bytes: bytes.into(), aborted, log_start: self.log_start }
    }
}

#[derive(Clone)]
struct Request {
    id: u64,
    producer: Producer,
    records: Vec<Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Appended(i64),
    Refused,
    Fenced,
}

struct Remembered {
    epoch: i16,
    next_sequence: i32,
    last: VecDeque<(i32, i32, i64)>,
}

/// The target partition, with Kafka's rules for idempotent producers.
#[derive(Default)]
struct TargetLog {
    batches: Vec<(i64, Producer, Vec<Seen>)>,
    end: i64,
    producers: HashMap<i64, Remembered>,
}

impl TargetLog {
    fn append(&mut self, request: &Request) -> Answer {
        let Producer { id, epoch, sequence } = request.producer;
        let count = request.records.len() as i32;
        if let Some(known) = self.producers.get(&id) {
            if epoch < known.epoch {
                return Answer::Fenced;
            }
            let same = |(first, length, _): &&(i32, i32, i64)| (*first, *length) == (sequence, count);
            if let Some((.., base)) = known.last.iter().find(same).filter(|_| epoch == known.epoch) {
                return Answer::Appended(*base);
            }
            let expected = if epoch > known.epoch { 0 } else { known.next_sequence };
            if sequence != expected {
                return Answer::Refused;
            }
        }
        let base = self.end;
        self.end += i64::from(count);
        self.batches.push((base, request.producer, request.records.clone()));
        let fresh = || Remembered { epoch, next_sequence: 0, last: VecDeque::new() };
        let known = self.producers.entry(id).or_insert_with(fresh);
        if known.epoch != epoch {
            *known = fresh();
        }
        known.next_sequence = sequence_after(sequence, count);
        known.last.push_back((sequence, count, base));
        if known.last.len() > 5 {
            known.last.pop_front();
        }
        Answer::Appended(base)
    }

    fn append_foreign(&mut self, count: u64) {
        let seen = Seen { value: b"foreign".to_vec(), timestamp_ms: 0 };
        let request = Request {
            id: 0,
            producer: Producer { id: -1, epoch: -1, sequence: -1 },
            records: vec![seen; count as usize],
        };
        self.batches.push((self.end, request.producer, request.records));
        self.end += count as i64;
    }

    fn tail(&self) -> Vec<TailBatch> {
        let header = |(base, producer, records): &(i64, Producer, Vec<Seen>)| TailBatch {
            base_offset: TargetOffset(*base),
            offsets: records.len() as i64,
            leader_epoch: 0,
            producer: *producer,
        };
        self.batches.iter().map(header).collect()
    }

    fn known(&self, id: i64) -> Option<KnownProducer> {
        let known = self.producers.get(&id)?;
        let last_sequence = known.next_sequence.wrapping_sub(1) & i32::MAX;
        Some(KnownProducer { epoch: known.epoch, last_sequence })
    }
}

fn records_of(batch: &Outgoing, producer: Producer) -> Vec<Seen> {
    let mut bytes = batch.stamped(producer).unwrap().to_vec();
    bytes.extend_from_slice(&batch.payload);
    let view = BatchView::only(&bytes).unwrap();
    view.check_crc().unwrap();
    let header = view.header();
    view.check_produced().expect("a broker takes the batch");
    assert!(!header.attributes.is_transactional() && !header.attributes.has_delete_horizon());
    assert_eq!(header.attributes.timestamp_type(), TimestampType::CreateTime);
    assert_eq!((header.producer_id.0, header.base_sequence), (producer.id, producer.sequence));
    let mut seen = Vec::new();
    let mut records = Records::new(&view, 1 << 20);
    while let Some(record) = records.next_record().unwrap() {
        let value = record.value.unwrap().to_vec();
        seen.push(Seen { value, timestamp_ms: record.timestamp_ms });
    }
    assert_eq!(seen.len(), batch.records as usize);
    seen
}

/// A write to the map topic, and the map that it must leave there.
struct Commit {
    revision: u64,
    records: Vec<MapRecord>,
    map: OffsetMap,
}

/// The process: gone after a crash, but for what it sent.
struct Process {
    copier: Copier,
    planner: Planner,
    commits: VecDeque<Commit>,
    requests: VecDeque<Request>,
    stopped: bool,
    pace: Pace,
}

/// How many commits a process made, and what bounds their number.
#[derive(Debug, Default)]
struct Pace {
    commits: usize,
    flushes: usize,
    batches: usize,
    size_bytes: usize,
}

impl Pace {
    /// Until the stop, which does not wait for a flush.
    fn check(&self) {
        let worth = self.batches / ENOUGH_BATCHES + self.size_bytes / ENOUGH_BYTES;
        // The first commit comes before any flush; and where the batches of the owner before end, so does the list.
        assert!(self.commits <= self.flushes + worth + 2, "too many commits: {self:?}");
    }
}

struct World {
    dice: Dice,
    source: SourceLog,
    target: TargetLog,
    ledger: Ledger,
    generation: u64,
    /// Requests whose sender gave up or died, and that the target may still take.
    late: Vec<Request>,
    target_start: i64,
    crashes: u32,
    /// Either the target forgets producers, or requests come later than anybody waits; with both, Kafka stores twice.
    forgetful: bool,
    /// Whether the target deletes what is old, and how far it has.
    deletes: bool,
    target_log_start: i64,
    /// Bound of the offset map.
    map_bytes: usize,
}

impl World {
    fn new(seed: u64) -> Self {
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

    fn key() -> PartitionKey {
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
            self.target.producers.clear();
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
    fn start(&mut self) -> Process {
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
        let resume = Resume { key, map, provenance, replay_as, replay, then_as, source_epoch, superseded };
        let copier = Copier::new(resume);
        let (commits, requests, pace) = (VecDeque::new(), VecDeque::new(), Pace::default());
        Process { copier, planner, commits, requests, stopped: false, pace }
    }

    fn handle(&mut self, process: &mut Process, mut actions: Vec<Action>) {
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
    fn happen(&mut self, process: &mut Process) {
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
    fn crash(&mut self, mut process: Process) {
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

    fn check(&self, map: &OffsetMap) {
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
    fn has_forgotten(&self, map: &OffsetMap) -> bool {
        map.start().source.0 > self.source.log_start
    }
}

/// What a story held: crashes, and maps that forgot because the target deleted, or because they grew too large.
#[derive(Default)]
struct Told {
    crashes: u32,
    trimmed: u32,
    shed: u32,
}

fn live(seed: u64) -> Told {
    let mut world = World::new(seed);
    let crashes = world.dice.below(6);
    for _ in 0..crashes {
        let mut process = world.start();
        for _ in 0..world.dice.below(120) {
            world.happen(&mut process);
        }
        if world.dice.one_in(4) {
            stop(&mut world, &mut process);
        }
        world.crash(process);
    }
    let mut process = world.start();
    for _ in 0..20_000 {
        world.happen(&mut process);
        if process.copier.map().position().source.0 == world.source.end && process.copier.is_settled() {
            break;
        }
    }
    stop(&mut world, &mut process);
    world.check(process.copier.map());
    let kept = world.ledger.partition(&World::key()).unwrap().offset_map().unwrap();
    world.check(&kept);
    let forgot = u32::from(world.has_forgotten(&kept));
    match world.map_bytes {
        MAX_MAP_BYTES => Told { crashes: world.crashes, trimmed: forgot, shed: 0 },
        _ => Told { crashes: world.crashes, trimmed: 0, shed: forgot },
    }
}

fn stop(world: &mut World, process: &mut Process) {
    process.pace.check();
    let actions = process.copier.step(Input::Stop, 0);
    world.handle(process, actions);
    for _ in 0..2_000 {
        if process.stopped {
            return;
        }
        world.happen(process);
    }
    panic!("the copier does not stop");
}

#[test]
fn every_committed_record_arrives_once_whatever_dies() {
    let stories = std::env::var("LONGHAUL_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = stories.map_or(1..=1_000, |seed| seed..=seed);
    let told = seeds.clone().count() as u32;
    let mut all = Told::default();
    for seed in seeds {
        let story = std::panic::catch_unwind(|| live(seed));
        let story = story.unwrap_or_else(|_| panic!("the story of LONGHAUL_SEED={seed} ends badly"));
        all.crashes += story.crashes;
        all.trimmed += story.trimmed;
        all.shed += story.shed;
    }
    assert!(told == 1 || all.crashes > 1_000, "the stories must hold crashes: {}", all.crashes);
    assert!(told == 1 || all.trimmed > 50, "maps must forget what the target deletes: {}", all.trimmed);
    assert!(told == 1 || all.shed > 50, "maps must grow too large: {}", all.shed);
}
