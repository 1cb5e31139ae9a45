//! The history against a brute-force model: one epoch per offset.

use proptest::prelude::*;
use wire::ids::{LeaderEpoch, Offset};

use super::*;

fn history(entries: &[(i32, i64)]) -> EpochHistory {
    let mut history = EpochHistory::default();
    for &(epoch, start) in entries {
        history.assign(LeaderEpoch(epoch), Offset(start));
    }
    history
}

fn end(entries: &[(i32, i64)], epoch: i32, log_end: i64) -> Option<(i32, i64)> {
    history(entries)
        .end_offset_for(LeaderEpoch(epoch), Offset(log_end))
        .map(|end| (end.epoch.0, end.end_offset.0))
}

const THREE: &[(i32, i64)] = &[(2, 0), (5, 10), (7, 30)];

#[test]
fn the_end_of_an_epoch_is_the_start_of_the_next() {
    assert_eq!(end(THREE, 2, 99), Some((2, 10)));
    assert_eq!(end(THREE, 5, 99), Some((5, 30)));
}

#[test]
fn the_latest_epoch_ends_at_the_log_end() {
    assert_eq!(end(THREE, 7, 99), Some((7, 99)));
}

#[test]
fn an_epoch_between_two_ends_where_the_larger_begins() {
    assert_eq!(end(THREE, 6, 99), Some((5, 30)));
}

#[test]
fn an_epoch_before_all_keeps_its_own_number() {
    assert_eq!(end(THREE, 1, 99), Some((1, 0)));
}

#[test]
fn an_epoch_after_all_and_an_empty_history_are_unknown() {
    assert_eq!(end(THREE, 8, 99), None);
    assert_eq!(end(&[], 0, 0), None);
}

#[test]
fn a_contradicting_assignment_wins_over_what_a_longer_log_left() {
    assert_eq!(history(&[(1, 0), (3, 10), (2, 20)]), history(&[(1, 0), (2, 20)]));
    assert_eq!(history(&[(1, 0), (2, 20), (3, 10)]), history(&[(1, 0), (3, 10)]));
}

#[test]
fn an_epoch_whose_records_are_all_cut_away_is_not_listed() {
    let mut cut = history(THREE);
    cut.truncate_from_end(Offset(10));
    assert_eq!(cut, history(&[(2, 0)]));
}

#[test]
fn the_oldest_epoch_goes_when_the_history_is_full() {
    let mut full = EpochHistory::default();
    for epoch in 0..=MAX_EPOCHS as i32 {
        full.assign(LeaderEpoch(epoch), Offset(i64::from(epoch)));
    }
    assert_eq!(full.entries().len(), MAX_EPOCHS);
    assert_eq!(full.entries()[0].epoch, LeaderEpoch(1));
}

#[test]
fn steps_that_overflow_or_stand_still_are_refused() {
    let mut flat = Vec::new();
    for value in [2, 1, 5, 0, 5] {
        put_varint(&mut flat, value);
    }
    assert!(EpochHistory::decode(&flat).is_err());
    let mut over = Vec::new();
    for value in [2, i32::MAX as u64, 5, 1, 5] {
        put_varint(&mut over, value);
    }
    assert!(EpochHistory::decode(&over).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Append { raise_epoch: i32, records: usize },
    CutEnd(usize),
    CutStart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3i32, 1..6usize).prop_map(|(raise_epoch, records)| Step::Append { raise_epoch, records }),
        1 => (0..40usize).prop_map(Step::CutEnd),
        1 => (0..40usize).prop_map(Step::CutStart),
    ]
}

proptest! {
    /// The model is the epoch of every single offset; the history must agree about each, and about every end.
    #[test]
    fn agrees_with_one_epoch_per_offset(steps in prop::collection::vec(step(), 1..30)) {
        let mut history = EpochHistory::default();
        let mut model: Vec<i32> = Vec::new();
        let (mut epoch, mut log_start) = (1i32, 0usize);
        for step in steps {
            match step {
                Step::Append { raise_epoch, records } => {
                    epoch += raise_epoch;
                    history.assign(LeaderEpoch(epoch), Offset(model.len() as i64));
                    model.extend(std::iter::repeat_n(epoch, records));
                }
                Step::CutEnd(to) => {
                    let to = to.clamp(log_start, model.len().max(log_start));
                    model.truncate(to);
                    history.truncate_from_end(Offset(to as i64));
                }
                Step::CutStart(to) => {
                    log_start = to.clamp(log_start, model.len());
                    history.truncate_from_start(Offset(log_start as i64));
                }
            }
        }
        for (offset, &epoch) in model.iter().enumerate().skip(log_start) {
            prop_assert_eq!(history.epoch_of(Offset(offset as i64)), Some(LeaderEpoch(epoch)));
        }
        let live = &model[log_start..];
        for asked in 0..=epoch {
            let Some(&newest) = live.last() else { break };
            let found = history.end_offset_for(LeaderEpoch(asked), Offset(model.len() as i64));
            if asked <= newest {
                let above = live.iter().position(|&epoch| epoch > asked).map_or(model.len(), |at| at + log_start);
                prop_assert_eq!(found.map(|end| end.end_offset), Some(Offset(above as i64)));
            }
        }
        let mut bytes = Vec::new();
        history.encode(&mut bytes);
        prop_assert_eq!(EpochHistory::decode(&bytes), Ok(history));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(history) = EpochHistory::decode(&bytes) {
            prop_assert!(history.entries().windows(2).all(|pair| pair[0].epoch < pair[1].epoch));
        }
    }
}
