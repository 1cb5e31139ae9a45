//! For tests: a copier whose requests are all answered at once, and the map topic that it writes.
//!
//! Owns: the answers, the comparison of what was written with what the copier holds.
//! Does not own: what a test wants of it. Lost and late answers are those of `simulation`.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::batch::HEADER_BYTES;
use wire::ids::TopicId;

use super::batch::{Made, Outgoing};
use super::unwritten::TOMBSTONES_AT_ONCE;
use super::{Action, Copier, Input, Producer, Resume};
use crate::map_topic::{Key, Ledger, MapRecord, PartitionKey};
use crate::offset_map::{OffsetMap, Position, Provenance, SourceOffset, TargetOffset, Translation};

/// Records of a batch.
pub(super) const RECORDS: i64 = 10;

pub(super) struct Partition {
    pub(super) copier: Copier,
    pub(super) ledger: Ledger,
    target_end: i64,
    /// First source offset that was not planned.
    planned_to: i64,
    /// Keys that were set, in order.
    pub(super) set: Vec<Key>,
    /// Blocks that tombstones named, in order.
    pub(super) forgotten: Vec<Key>,
}

pub(super) fn key() -> PartitionKey {
    PartitionKey {
        source_cluster: "west".into(),
        source_topic: TopicId([1; 16]),
        target_topic: TopicId([2; 16]),
        partition: 0,
    }
}

pub(super) fn new_map(generation: u64) -> OffsetMap {
    OffsetMap::new(Position::default(), Provenance { generation, ..Provenance::default() })
}

/// A batch of which the source offsets are contiguous; each leader epoch has a block of its own.
pub(super) fn batch(from: i64, source_leader_epoch: i32) -> Outgoing {
    let from = SourceOffset(from);
    let records = RECORDS.unsigned_abs();
    Outgoing {
        covers: from..from.plus(records),
        source_leader_epoch,
        runs: vec![(from, records)],
        records: RECORDS as i32,
        header: [0; HEADER_BYTES],
        payload: Bytes::new(),
        made: Made::Passed,
    }
}

impl Partition {
    pub(super) fn start(map: OffsetMap, generation: u64, superseded: Vec<MapRecord>) -> Self {
        let producer = Producer { id: 1_000, epoch: 0, sequence: 0 };
        let (target_end, planned_to) = (map.position().target.0, map.position().source.0);
        let copier = Copier::new(Resume {
            key: key(),
            map,
            provenance: Provenance { generation, ..Provenance::default() },
            replay_as: producer,
            replay: Vec::new(),
            then_as: producer,
            source_epoch: -1,
            left_out: false,
            superseded,
        });
        let (set, forgotten) = (Vec::new(), Vec::new());
        Self { copier, ledger: Ledger::default(), target_end, planned_to, set, forgotten }
    }

    /// Answers how many commits there were.
    pub(super) fn step(&mut self, input: Input) -> usize {
        let mut inputs = VecDeque::from([input]);
        let mut commits = 0;
        while let Some(input) = inputs.pop_front() {
            for action in self.copier.step(input, 0) {
                match action {
                    Action::Commit { revision, records } => {
                        commits += 1;
                        self.write(&records);
                        inputs.push_back(Input::Committed { revision });
                    }
                    Action::Produce { id, batch, .. } => {
                        let base_offset = TargetOffset(self.target_end);
                        self.target_end += i64::from(batch.records);
                        inputs.push_back(Input::Acked { id, base_offset, target_leader_epoch: 0 });
                    }
                    other => panic!("nothing else is asked for: {other:?}"),
                }
            }
        }
        commits
    }

    pub(super) fn write(&mut self, records: &[MapRecord]) {
        let tombstones = records.iter().filter(|record| record.value.is_none()).count();
        assert!(tombstones <= TOMBSTONES_AT_ONCE, "{tombstones} in one commit");
        for record in records {
            let key: Key = std::str::from_utf8(&record.key).unwrap().parse().unwrap();
            match (&key, &record.value) {
                (_, Some(_)) => self.set.push(key.clone()),
                (Key::Block { .. }, None) => self.forgotten.push(key.clone()),
                (_, None) => {}
            }
            self.ledger.apply(key, record.value.as_deref()).unwrap();
        }
        let kept = self.kept();
        assert!(kept.blocks().eq(self.copier.map().blocks()), "the map topic against memory: {kept:?}");
    }

    /// The map as the topic has it.
    pub(super) fn kept(&self) -> OffsetMap {
        self.ledger.partition(&key()).unwrap().offset_map().unwrap()
    }

    /// The source answers with these batches, which follow each other.
    pub(super) fn plan(&mut self, batches: Vec<Outgoing>) -> usize {
        let covered_to = batches.last().expect("there is something to copy").covers.end;
        self.planned_to = covered_to.0;
        self.step(Input::Planned { batches, covered_to })
    }

    /// The source answers with so many batches of so many bytes each, beside their headers.
    pub(super) fn come(&mut self, batches: usize, payload_bytes: usize) -> usize {
        let places = (self.planned_to..).step_by(RECORDS as usize).take(batches);
        let payload = Bytes::from(vec![0_u8; payload_bytes]);
        self.plan(places.map(|from| Outgoing { payload: payload.clone(), ..batch(from, 0) }).collect())
    }

    /// Copies one batch under each of these leader epochs, and writes all down.
    pub(super) fn copy(&mut self, epochs: std::ops::Range<i32>) {
        let places = (self.planned_to..).step_by(RECORDS as usize).zip(epochs);
        self.plan(places.map(|(from, epoch)| batch(from, epoch)).collect());
        self.rest();
        assert!(self.is_copied());
        assert_eq!(self.kept().position(), self.copier.map().position());
    }

    /// Whether nothing that was planned still waits.
    pub(super) fn is_copied(&self) -> bool {
        self.copier.map().position().source.0 == self.planned_to
    }

    /// Flushes until there is nothing left to say; answers how many commits that took.
    pub(super) fn rest(&mut self) -> usize {
        let mut commits = 0;
        loop {
            match self.step(Input::Flush) {
                0 => return commits,
                made => commits += made,
            }
        }
    }

    pub(super) fn target_starts_at(&mut self, log_start: i64) -> usize {
        self.step(Input::TargetLogStart(TargetOffset(log_start)))
    }

    pub(super) fn translate(&self, next: i64) -> Translation<TargetOffset> {
        self.kept().translate(SourceOffset(next))
    }
}
