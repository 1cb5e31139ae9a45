//! A window in doubt, settled by what the target holds; a source that has, or has not, what was read of it.

use super::*;
use crate::offset_map::SourceOffset;

const OURS: Producer = Producer { id: 7, epoch: 2, sequence: 100 };

fn intents() -> Vec<BatchIntent> {
    let whole = |from: i64, records: u64| {
        let from = SourceOffset(from);
        BatchIntent::new(from..from.plus(records), 0, &[(from, records)])
    };
    vec![whole(50, 10), whole(60, 5), whole(65, 10)]
}

fn batch(base_offset: i64, offsets: i64, producer: Producer) -> TailBatch {
    TailBatch { base_offset: TargetOffset(base_offset), offsets, leader_epoch: 4, producer }
}

fn at(sequence: i32) -> Producer {
    Producer { sequence, ..OURS }
}

fn judge(tail: &[TailBatch], known: Option<KnownProducer>) -> Verdict {
    let position = Position { source: SourceOffset(50), target: TargetOffset(40) };
    match_tail(Expected { position, producer: OURS, intents: &intents() }, tail, known)
}

fn settled(bases: &[i64]) -> Verdict {
    Verdict::Settled(bases.iter().map(|base| (TargetOffset(*base), 4)).collect())
}

#[track_caller]
fn contradicts(verdict: Verdict, word: &str) {
    match verdict {
        Verdict::Contradicted(event) => assert!(event.to_string().contains(word), "{event}"),
        other => panic!("expected a contradiction, got {other:?}"),
    }
}

#[test]
fn an_empty_tail_means_nothing_arrived() {
    assert_eq!(judge(&[], None), settled(&[]));
}

#[test]
fn batches_that_arrived_are_known_by_sequence_and_count() {
    let tail = [batch(40, 10, at(100)), batch(50, 5, at(110))];
    assert_eq!(judge(&tail, None), settled(&[40, 50]));
}

#[test]
fn records_of_others_in_between_do_not_matter() {
    let other = Producer { id: 9, epoch: 0, sequence: 0 };
    let tail = [batch(40, 3, other), batch(43, 10, at(100)), batch(53, 3, other), batch(56, 5, at(110))];
    assert_eq!(judge(&tail, None), settled(&[43, 56]));
}

#[test]
fn what_lies_below_the_position_was_settled_before() {
    assert_eq!(judge(&[batch(30, 10, at(90)), batch(40, 10, at(100))], None), settled(&[40]));
}

#[test]
fn what_the_leader_has_but_does_not_show_is_waited_for() {
    let tail = [batch(40, 10, at(100))];
    let known = |last_sequence| Some(KnownProducer { epoch: 2, last_sequence });
    assert_eq!(judge(&tail, known(114)), Verdict::NotYetVisible);
    assert_eq!(judge(&tail, known(124)), Verdict::NotYetVisible);
    assert_eq!(judge(&tail, known(109)), settled(&[40]));
    assert_eq!(judge(&[], known(99)), settled(&[]));
}

#[test]
fn a_batch_taken_twice_is_an_event() {
    contradicts(judge(&[batch(40, 10, at(100)), batch(50, 10, at(100))], None), "repeats sequence 100");
}

#[test]
fn a_batch_behind_a_missing_one_is_an_event() {
    contradicts(judge(&[batch(40, 5, at(110))], None), "no intent is at sequence 110");
}

#[test]
fn a_batch_of_another_length_is_an_event() {
    contradicts(judge(&[batch(40, 9, at(100))], None), "9 records");
}

#[test]
fn a_late_batch_of_a_replaced_owner_is_an_event() {
    let zombie = Producer { epoch: 1, ..at(100) };
    contradicts(judge(&[batch(40, 10, zombie)], None), "replaced owner");
}

#[test]
fn a_newer_epoch_fences() {
    contradicts(judge(&[batch(40, 10, Producer { epoch: 3, ..at(0) })], None), "another owner");
    contradicts(judge(&[], Some(KnownProducer { epoch: 3, last_sequence: 5 })), "another owner");
}

#[test]
fn sequences_wrap() {
    let near_end = Producer { sequence: i32::MAX - 4, ..OURS };
    let position = Position { source: SourceOffset(50), target: TargetOffset(40) };
    let tail = [batch(40, 10, near_end), batch(50, 5, at(5))];
    let verdict = match_tail(Expected { position, producer: near_end, intents: &intents() }, &tail, None);
    assert_eq!(verdict, settled(&[40, 50]));
}

#[test]
fn a_target_that_lost_its_end_says_so_whether_it_grew_again_or_not() {
    let judge = |log_end: i64, epoch_end: Option<i64>| {
        let epoch = epoch_end.map(|end| EpochEnd { leader_epoch: 3, end: TargetOffset(end) });
        expect_copy(TargetOffset(100), TargetOffset(log_end), epoch)
    };
    let side = Side::Target;
    let shrank = |end| Err(EventKind::LogShrank { side, position: 100, end });
    let replaced = |common| Err(EventKind::EpochRollback { side, leader_epoch: 3, position: 100, common });
    for epoch_end in [None, Some(100), Some(120)] {
        assert_eq!(judge(100, epoch_end), Ok(()), "all is there");
        assert_eq!(judge(130, epoch_end), Ok(()), "others wrote behind it");
    }
    assert_eq!(judge(60, None), shrank(60));
    assert_eq!(judge(60, Some(60)), shrank(60), "nothing is in the place of what was lost");
    assert_eq!(judge(0, Some(0)), shrank(0));
    assert_eq!(judge(60, Some(40)), replaced(40), "other records are, but fewer");
    assert_eq!(judge(100, Some(60)), replaced(60));
    assert_eq!(judge(500, Some(60)), replaced(60));
    assert_eq!(judge(500, Some(0)), replaced(0), "not one record of the copy is left");
}

const EPOCH: i32 = 5;

/// Epoch 5 was read from 60 up to 100; the next fetch starts at 104, behind what was not copied.
fn judge_source(log_end: i64, found: Option<(i32, i64)>) -> Result<(), EventKind> {
    let read = ReadTo { epoch: EPOCH, since: SourceOffset(60), end: SourceOffset(100) };
    let epoch = found.map(|(leader_epoch, end)| SourceEpoch { leader_epoch, end: SourceOffset(end) });
    let log = SourceLog { log_start: SourceOffset(10), end: SourceOffset(log_end), epoch };
    let whole = expect_source(SourceOffset(104), read, log);
    if let Some(found) = epoch
        && !matches!(whole, Err(EventKind::LogShrank { .. }))
    {
        assert_eq!(expect_read(read, found), whole, "a fetch that says so says the same");
    }
    whole
}

fn source_replaced(common: i64) -> Result<(), EventKind> {
    Err(EventKind::EpochRollback { side: Side::Source, leader_epoch: EPOCH, position: 100, common })
}

#[test]
fn a_source_that_only_has_a_new_leader_goes_on() {
    for found in [None, Some((EPOCH, 100)), Some((EPOCH, 104)), Some((EPOCH, 120))] {
        assert_eq!(judge_source(104, found), Ok(()));
        assert_eq!(judge_source(120, found), Ok(()));
    }
}

#[test]
fn a_source_whose_log_was_replaced_by_a_longer_one_says_so() {
    assert_eq!(judge_source(500, Some((EPOCH, 80))), source_replaced(80));
    assert_eq!(judge_source(500, Some((EPOCH, 99))), source_replaced(99));
    assert_eq!(judge_source(500, Some((4, 50))), source_replaced(50), "also what was read of older epochs");
    assert_eq!(judge_source(500, Some((4, 60))), source_replaced(60));
    // Another leader wrote more under epoch 4 than what was read of it (KIP-279).
    assert_eq!(judge_source(500, Some((4, 80))), source_replaced(60));
    assert_eq!(judge_source(500, Some((4, 300))), source_replaced(60));
    // All its leaders are older: it was restored with its epochs.
    assert_eq!(judge_source(500, Some((-1, -1))), source_replaced(60));
}

#[test]
fn a_source_that_lost_its_end_says_so_whether_it_grew_again_or_not() {
    let shrank = |end| Err(EventKind::LogShrank { side: Side::Source, position: 104, end });
    assert_eq!(judge_source(80, None), shrank(80));
    assert_eq!(judge_source(80, Some((EPOCH, 80))), shrank(80), "nothing is in the place of what was lost");
    assert_eq!(judge_source(102, Some((EPOCH, 100))), shrank(102), "what was read and not copied is gone");
    assert_eq!(judge_source(90, Some((EPOCH, 80))), source_replaced(80), "other records are, but fewer");
    assert_eq!(judge_source(80, Some((-1, -1))), source_replaced(60));
}

#[test]
fn a_source_that_deleted_what_was_not_read_yet_says_so_before_anything_else() {
    let read = ReadTo { epoch: EPOCH, since: SourceOffset(60), end: SourceOffset(100) };
    let epoch = Some(SourceEpoch { leader_epoch: EPOCH, end: SourceOffset(80) });
    let judge = |log_start| {
        let log = SourceLog { log_start: SourceOffset(log_start), end: SourceOffset(200), epoch };
        expect_source(SourceOffset(100), read, log)
    };
    assert_eq!(judge(130), Err(EventKind::SourceTruncated { from: 100, to: 130 }));
    assert_eq!(judge(100), source_replaced(80));
}

#[test]
fn before_the_first_batch_there_is_nothing_to_lose() {
    let log = |end| SourceLog { log_start: SourceOffset(0), end: SourceOffset(end), epoch: None };
    assert_eq!(expect_source(SourceOffset(7), ReadTo::NOTHING, log(7)), Ok(()));
    assert!(expect_source(SourceOffset(7), ReadTo::NOTHING, log(6)).is_err());
    let found = SourceEpoch { leader_epoch: 3, end: SourceOffset(0) };
    assert_eq!(expect_read(ReadTo::NOTHING, found), Ok(()));
}

#[test]
fn the_flows_own_last_batch_is_known_whatever_the_epochs_say() {
    let is_last = |batch: TailBatch| {
        let position = Position { source: SourceOffset(50), target: TargetOffset(40) };
        is_last_copied(&batch, Expected { position, producer: OURS, intents: &[] })
    };
    assert!(is_last(batch(30, 10, at(90))));
    assert!(is_last(batch(30, 10, Producer { epoch: 1, ..at(7) })), "the owner before wrote it");
    assert!(!is_last(batch(30, 9, at(91))), "it ends below the position");
    assert!(!is_last(batch(35, 10, at(90))), "it reaches beyond the position");
    assert!(!is_last(batch(30, 10, at(80))), "it is an earlier one, at another place");
    assert!(!is_last(batch(30, 10, Producer { id: 9, ..at(90) })), "somebody else's");
}
