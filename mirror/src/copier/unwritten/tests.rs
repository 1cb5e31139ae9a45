//! What a commit tells the map topic of blocks that went: once, in bounded writes, and never more than is true.

use bytes::Bytes;
use wire::batch::HEADER_BYTES;
use wire::ids::TopicId;

use super::*;
use crate::copier::batch::{Made, Outgoing};
use crate::copier::{Action, Copier, Input, Producer, Resume};
use crate::map_topic::Ledger;
use crate::offset_map::{Position, Provenance, TargetOffset, Translation};

const RECORDS: i64 = 10;

/// A copier whose requests are all answered at once, and the map topic that it writes.
struct Partition {
    copier: Copier,
    ledger: Ledger,
    target_end: i64,
    /// Blocks that tombstones named, in order.
    forgotten: Vec<Key>,
}

fn key() -> PartitionKey {
    PartitionKey {
        source_cluster: "west".into(),
        source_topic: TopicId([1; 16]),
        target_topic: TopicId([2; 16]),
        partition: 0,
    }
}

fn block(generation: u64, start: i64) -> Key {
    Key::Block { partition: key(), generation, start: SourceOffset(start) }
}

/// A batch of which the source offsets are contiguous; each leader epoch has a block of its own.
fn batch(from: i64, source_leader_epoch: i32) -> Outgoing {
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
    fn start(map: OffsetMap, generation: u64, superseded: Vec<MapRecord>) -> Self {
        let producer = Producer { id: 1_000, epoch: 0, sequence: 0 };
        let target_end = map.position().target.0;
        let copier = Copier::new(Resume {
            key: key(),
            map,
            provenance: Provenance { generation, ..Provenance::default() },
            replay_as: producer,
            replay: Vec::new(),
            then_as: producer,
            source_epoch: -1,
            superseded,
        });
        Self { copier, ledger: Ledger::default(), target_end, forgotten: Vec::new() }
    }

    /// Answers how many commits there were.
    fn step(&mut self, input: Input) -> usize {
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

    fn write(&mut self, records: &[MapRecord]) {
        let tombstones = records.iter().filter(|record| record.value.is_none()).count();
        assert!(tombstones <= TOMBSTONES_AT_ONCE, "{tombstones} in one commit");
        for record in records {
            let key: Key = std::str::from_utf8(&record.key).unwrap().parse().unwrap();
            if record.value.is_none() && matches!(key, Key::Block { .. }) {
                self.forgotten.push(key.clone());
            }
            self.ledger.apply(key, record.value.as_deref()).unwrap();
        }
        let kept = self.ledger.partition(&key()).unwrap().offset_map().unwrap();
        assert!(kept.blocks().eq(self.copier.map().blocks()), "the map topic against memory: {kept:?}");
    }

    /// Copies one batch under each of these leader epochs, and writes all down.
    fn copy(&mut self, epochs: std::ops::Range<i32>) {
        let from = self.copier.map().position().source.0;
        let places = (from..).step_by(RECORDS as usize).zip(epochs);
        let batches: Vec<_> = places.map(|(from, epoch)| batch(from, epoch)).collect();
        let covered_to = batches.last().expect("there is something to copy").covers.end;
        self.step(Input::Planned { batches, covered_to });
        self.step(Input::Flush);
        assert_eq!(self.copier.map().position().source, covered_to);
    }

    fn target_starts_at(&mut self, log_start: i64) -> usize {
        self.step(Input::TargetLogStart(TargetOffset(log_start)))
    }

    fn translate(&self, next: i64) -> Translation<TargetOffset> {
        let kept = self.ledger.partition(&key()).unwrap().offset_map().unwrap();
        kept.translate(SourceOffset(next))
    }
}

fn new_map(generation: u64) -> OffsetMap {
    OffsetMap::new(Position::default(), Provenance { generation, ..Provenance::default() })
}

#[test]
fn what_the_target_deleted_is_forgotten_once_and_an_idle_partition_rests() {
    let mut partition = Partition::start(new_map(1), 1, Vec::new());
    partition.copy(0..4);
    assert_eq!(partition.translate(3), Translation::Exact(TargetOffset(3)));
    assert_eq!(partition.step(Input::Flush), 0, "nothing is new");

    // Half of the second block is still there, and so is the whole block.
    assert_eq!(partition.target_starts_at(15), 0, "nothing waits for it");
    assert_eq!(partition.step(Input::Flush), 1);
    assert_eq!(partition.forgotten, [block(1, 0)]);
    assert_eq!(partition.translate(9), Translation::Before(TargetOffset(10)));
    assert_eq!(partition.translate(10), Translation::Exact(TargetOffset(10)));
    for log_start in [15, 15, 19, 0] {
        assert_eq!(partition.target_starts_at(log_start) + partition.step(Input::Flush), 0, "{log_start}");
    }

    // The block that runs are added to stays, and what is copied next is found.
    partition.target_starts_at(40);
    assert_eq!(partition.step(Input::Flush), 1);
    assert_eq!(partition.forgotten, [block(1, 0), block(1, 10), block(1, 20)]);
    partition.copy(3..4);
    assert_eq!(partition.translate(29), Translation::Before(TargetOffset(30)));
    assert_eq!(partition.translate(45), Translation::Exact(TargetOffset(45)));
    assert!(partition.copier.is_settled());
}

#[test]
fn a_trim_that_nothing_follows_is_written_by_a_stop() {
    let mut partition = Partition::start(new_map(1), 1, Vec::new());
    partition.copy(0..2);
    partition.target_starts_at(10);
    let commits = partition.copier.step(Input::Stop, 0);
    let [Action::Commit { records, .. }] = commits.as_slice() else { panic!("{commits:?}") };
    partition.write(records);
    assert_eq!(partition.forgotten, [block(1, 0)]);
}

#[test]
fn a_map_that_grew_too_large_is_forgotten_in_the_topic_too() {
    let limit = size_of::<Block>() * 3;
    let mut partition = Partition::start(new_map(1).limited_to(limit), 1, Vec::new());
    for turn in 0..10 {
        partition.copy(turn * 2..turn * 2 + 2);
    }
    let gone: Vec<_> = (0..17).map(|number| block(1, number * RECORDS)).collect();
    assert_eq!(partition.forgotten, gone);
    assert_eq!(partition.translate(169), Translation::Before(TargetOffset(170)));
    assert_eq!(partition.translate(170), Translation::Exact(TargetOffset(170)));
    // The same in one go, so that blocks come and go between two commits.
    let mut at_once = Partition::start(new_map(1).limited_to(limit), 1, Vec::new());
    at_once.copy(0..20);
    assert!(at_once.copier.map().blocks().eq(partition.copier.map().blocks()));
}

#[test]
fn a_block_of_an_owner_before_is_forgotten_under_its_own_generation() {
    let mut first = Partition::start(new_map(1), 1, Vec::new());
    first.copy(0..2);
    let mut map = first.ledger.partition(&key()).unwrap().offset_map().unwrap();
    map.begin_generation(Provenance { generation: 2, ..Provenance::default() });
    let superseded = first.ledger.partition(&key()).unwrap().superseded(&key(), &map);
    let mut second = Partition::start(map, 2, superseded);
    second.ledger = first.ledger;
    second.copy(1..2);
    assert!(second.forgotten.is_empty(), "both blocks are still true: {:?}", second.forgotten);
    second.target_starts_at(25);
    second.step(Input::Flush);
    assert_eq!(second.forgotten, [block(1, 0), block(1, 10)]);
    assert_eq!(second.translate(19), Translation::Before(TargetOffset(20)));
    assert_eq!(second.translate(20), Translation::Exact(TargetOffset(20)));
}

#[test]
fn many_tombstones_take_several_commits_and_readers_need_not_wait_for_them() {
    let epochs = TOMBSTONES_AT_ONCE as i32 * 2;
    let mut partition = Partition::start(new_map(1), 1, Vec::new());
    for from in (0..epochs).step_by(32) {
        partition.copy(from..from + 32);
    }
    // Each write compares the topic's map with the one in memory, which has forgotten all but one block at once.
    partition.target_starts_at(i64::from(epochs) * RECORDS);
    let mut commits = 0;
    while partition.step(Input::Flush) > 0 {
        commits += 1;
    }
    assert_eq!(commits, 2);
    assert_eq!(partition.forgotten.len(), TOMBSTONES_AT_ONCE * 2 - 1);
    assert!(partition.copier.is_settled());
}
