//! What a commit tells the map topic of blocks that went: once, in bounded writes, and never more than is true.

use super::*;
use crate::copier::prompt_target::{Partition, RECORDS, key, new_map};
use crate::copier::{Action, Input};
use crate::offset_map::{Provenance, TargetOffset, Translation};

fn block(generation: u64, start: i64) -> Key {
    Key::Block { partition: key(), generation, start: SourceOffset(start) }
}

fn progress(generation: u64) -> Key {
    Key::Progress { partition: key(), generation }
}

#[test]
fn what_the_target_deleted_is_forgotten_once_and_an_idle_partition_rests() {
    let mut partition = Partition::start(new_map(1), 1, Vec::new());
    partition.copy(0..4);
    assert_eq!(partition.translate(3), Translation::Exact(TargetOffset(3)));
    assert_eq!(partition.rest(), 0, "nothing is new");

    // Half of the second block is still there, and so is the whole block.
    assert_eq!(partition.target_starts_at(15), 0, "nothing waits for it");
    assert_eq!(partition.rest(), 1);
    assert_eq!(partition.forgotten, [block(1, 0)]);
    assert_eq!(partition.translate(9), Translation::Before(TargetOffset(10)));
    assert_eq!(partition.translate(10), Translation::Exact(TargetOffset(10)));
    for log_start in [15, 15, 19, 0] {
        assert_eq!(partition.target_starts_at(log_start) + partition.rest(), 0, "{log_start}");
    }

    // The block that runs are added to stays, and what is copied next is found.
    partition.target_starts_at(40);
    assert_eq!(partition.rest(), 1);
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
    second.rest();
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
    partition.set.clear();
    assert_eq!(partition.rest(), 2);
    assert_eq!(partition.forgotten.len(), TOMBSTONES_AT_ONCE * 2 - 1);
    assert_eq!(partition.set, [progress(1)], "the second commit changes nothing of it");
    assert!(partition.copier.is_settled());
}

#[test]
fn only_blocks_that_changed_are_written() {
    let mut partition = Partition::start(new_map(1), 1, Vec::new());
    partition.copy(0..1);
    partition.set.clear();
    // The same leader epoch, so the same block; then one that begins the next.
    partition.copy(0..1);
    assert_eq!(partition.set, [progress(1), block(1, 0), progress(1)]);
    partition.set.clear();
    partition.copy(1..2);
    assert_eq!(partition.set, [progress(1), block(1, 20), progress(1)]);
}

#[test]
fn a_stop_says_nothing_of_batches_that_no_record_lists() {
    let mut partition = Partition::start(new_map(1), 1, Vec::new());
    partition.copy(0..1);
    assert_eq!(partition.come(1, 0), 1, "it is listed and copied at once");
    assert_eq!(partition.step(Input::Flush), 1, "and then its position");
    assert_eq!(partition.come(1, 0), 0, "this one waits");
    assert_eq!(partition.copier.step(Input::Stop, 0), [Action::Stopped]);
}
