//! How many commits batches make that trickle in, and how long each of them waits.

use wire::batch::HEADER_BYTES;

use super::*;
use crate::copier::prompt_target::{Partition, batch, new_map};
use crate::copier::{Input, Outgoing};
use crate::offset_map::SourceOffset;

/// A partition that has nothing to say, and whose target knows its producer.
fn resting() -> Partition {
    let mut partition = Partition::start(new_map(1), 1, Vec::new());
    partition.copy(0..1);
    partition
}

#[test]
fn batches_that_trickle_in_make_a_commit_for_each_flush() {
    let mut partition = resting();
    let (mut flushes, mut commits, mut batches) = (0, 0, 0);
    for now_ms in 0..40_000_u128 {
        // Forty-eight batches a second.
        if now_ms % 21 == 0 {
            batches += 1;
            commits += partition.come(1, 100);
        }
        if now_ms % FLUSH_EVERY.as_millis() == 0 {
            flushes += 1;
            commits += partition.step(Input::Flush);
            assert!(partition.is_copied(), "a batch waits beyond a flush, at {now_ms} ms");
        }
    }
    assert!(batches > 1_900, "{batches}");
    assert!(commits <= flushes + 1, "{commits} commits in {flushes} flushes");
}

#[test]
fn after_a_flush_without_a_commit_a_batch_goes_at_once() {
    let mut partition = resting();
    for _ in 0..3 {
        assert_eq!(partition.come(1, 100), 1);
        assert!(partition.is_copied());
        assert_eq!(partition.step(Input::Flush), 1, "its position");
        assert_eq!(partition.kept().position(), partition.copier.map().position());
        assert_eq!(partition.come(1, 100), 0, "the flush has just made a commit");
        assert!(!partition.is_copied());
        assert_eq!(partition.step(Input::Flush), 1);
        assert!(partition.is_copied());
        assert_eq!(partition.step(Input::Flush), 1, "its position");
        assert_eq!(partition.step(Input::Flush), 0);
    }
}

#[test]
fn what_is_worth_a_commit_does_not_wait_for_the_flush() {
    let mut partition = resting();
    assert_eq!(partition.come(1, 0), 1);
    assert_eq!(partition.come(ENOUGH_BATCHES - 1, 0), 0);
    assert!(!partition.is_copied());
    assert_eq!(partition.come(1, 0), 1, "enough batches");
    assert!(partition.is_copied());
    assert_eq!(partition.come(1, ENOUGH_BYTES - HEADER_BYTES - 1), 0);
    assert!(!partition.is_copied());
    assert_eq!(partition.come(1, 0), 1, "enough bytes");
    assert!(partition.is_copied());
}

/// A batch that a log cleaner left every other record of: four of them fill a record.
fn thinned(from: i64) -> Outgoing {
    const RECORDS: i64 = 40_000;
    let run = |record: i64| (SourceOffset(from + record * 2), 1);
    Outgoing {
        covers: SourceOffset(from)..SourceOffset(from + RECORDS * 2),
        runs: (0..RECORDS).map(run).collect(),
        records: RECORDS as i32,
        ..batch(from, 0)
    }
}

#[test]
fn a_queue_that_one_record_cannot_list_does_not_wait_for_the_flush() {
    let mut partition = Partition::start(new_map(1), 1, Vec::new());
    let mut batches: Vec<Outgoing> = Vec::new();
    for _ in 0..8 {
        let from = batches.last().map_or(0, |batch| batch.covers.end.0);
        batches.push(thinned(from));
    }
    let of_first_record = batches[3].covers.end;
    let commits = partition.plan(batches);
    assert!(commits > 1 && partition.copier.map().position().source > of_first_record, "{commits}");
    partition.step(Input::Flush);
    assert!(partition.is_copied());
}
