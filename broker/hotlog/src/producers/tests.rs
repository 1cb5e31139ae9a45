//! Kafka's rules as named facts, then the whole against a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wire::ids::{Offset, ProducerEpoch, ProducerId};

use super::*;

fn batch(id: i64, epoch: i16, base_sequence: i32, records: i32) -> ProducerBatch {
    ProducerBatch {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence,
        last_offset_delta: records - 1,
        transactional: false,
    }
}

fn transactional(id: i64, epoch: i16, base_sequence: i32) -> ProducerBatch {
    ProducerBatch { transactional: true, ..batch(id, epoch, base_sequence, 1) }
}

fn marker(id: i64, epoch: i16, coordinator_epoch: i32) -> TransactionMarker {
    TransactionMarker {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        coordinator_epoch,
        committed: false,
    }
}

fn at(offset: i64) -> AppendedAt {
    AppendedAt { base_offset: Offset(offset), append_time_ms: 1_000 + offset }
}

/// Appends one batch of ten records per sequence start, offsets equal to sequences.
fn after(starts: &[i32]) -> ProducerStates {
    let mut states = ProducerStates::default();
    for &start in starts {
        states.record(&batch(7, 0, start, 10), at(i64::from(start)));
    }
    states
}

fn out_of_order(found: Result<Admission, ProducerError>, expected: i32) -> bool {
    matches!(found, Err(ProducerError::OutOfOrderSequence { expected: wanted, .. }) if wanted == expected)
}

#[test]
fn each_of_the_last_five_batches_is_answered_with_where_it_was_appended() {
    let states = after(&[0, 10, 20, 30, 40, 50]);
    for start in [10, 20, 30, 40, 50] {
        let offset = i64::from(start);
        let expected = Admission::Duplicate {
            base_offset: Offset(offset),
            last_offset: Offset(offset + 9),
            append_time_ms: 1_000 + offset,
        };
        assert_eq!(states.check(&batch(7, 0, start, 10)), Ok(expected));
    }
}

#[test]
fn the_sixth_newest_batch_is_out_of_order_not_a_duplicate() {
    assert!(out_of_order(after(&[0, 10, 20, 30, 40, 50]).check(&batch(7, 0, 0, 10)), 60));
}

#[test]
fn a_batch_with_the_same_start_but_another_end_is_no_duplicate() {
    assert!(out_of_order(after(&[0, 10]).check(&batch(7, 0, 10, 9)), 20));
}

#[test]
fn a_gap_is_out_of_order_and_the_next_sequence_is_welcome() {
    assert!(out_of_order(after(&[0, 10]).check(&batch(7, 0, 21, 1)), 20));
    assert_eq!(after(&[0, 10]).check(&batch(7, 0, 20, 1)), Ok(Admission::Append));
}

#[test]
fn sequences_wrap_from_the_largest_to_zero() {
    let mut states = ProducerStates::default();
    states.record(&batch(7, 0, i32::MAX - 9, 10), at(0));
    assert_eq!(states.check(&batch(7, 0, 0, 5)), Ok(Admission::Append));
    assert!(out_of_order(states.check(&batch(7, 0, 1, 5)), 0));
}

#[test]
fn a_batch_across_the_wrap_is_recognised_and_continued() {
    let mut states = ProducerStates::default();
    let across = batch(7, 0, i32::MAX - 1, 5);
    assert_eq!(across.last_sequence(), 2);
    states.record(&across, at(0));
    assert!(matches!(states.check(&across), Ok(Admission::Duplicate { .. })));
    assert_eq!(states.check(&batch(7, 0, 3, 1)), Ok(Admission::Append));
}

#[test]
fn an_unknown_producer_may_start_anywhere() {
    assert_eq!(ProducerStates::default().check(&batch(7, 3, 1234, 1)), Ok(Admission::Append));
}

#[test]
fn a_higher_epoch_starts_at_zero() {
    assert!(out_of_order(after(&[0]).check(&batch(7, 1, 10, 1)), 0));
    assert_eq!(after(&[0]).check(&batch(7, 1, 0, 1)), Ok(Admission::Append));
}

#[test]
fn a_lower_epoch_is_fenced_even_for_what_was_a_duplicate() {
    let mut states = after(&[0]);
    states.record(&batch(7, 1, 0, 10), at(10));
    assert!(matches!(states.check(&batch(7, 0, 0, 10)), Err(ProducerError::StaleEpoch { .. })));
}

#[test]
fn a_batch_of_the_old_epoch_is_not_a_duplicate_in_the_new() {
    let mut states = after(&[0, 10]);
    states.record(&batch(7, 1, 0, 10), at(20));
    assert!(out_of_order(states.check(&batch(7, 1, 0, 9)), 10));
    assert!(matches!(
        states.check(&batch(7, 1, 0, 10)),
        Ok(Admission::Duplicate { base_offset: Offset(20), .. })
    ));
}

#[test]
fn after_a_marker_that_raised_the_epoch_the_producer_starts_at_zero() {
    let mut states = after(&[0]);
    states.record_marker(&marker(7, 1, 0), at(10));
    assert!(out_of_order(states.check(&batch(7, 1, 10, 1)), 0));
    assert_eq!(states.check(&batch(7, 1, 0, 1)), Ok(Admission::Append));
}

#[test]
fn after_a_marker_of_the_same_epoch_sequences_go_on() {
    let mut states = ProducerStates::default();
    states.record(&transactional(7, 0, 0), at(0));
    states.record_marker(&marker(7, 0, 0), at(1));
    assert_eq!(states.check(&transactional(7, 0, 1)), Ok(Admission::Append));
}

#[test]
fn a_plain_batch_inside_a_transaction_is_refused() {
    let mut states = ProducerStates::default();
    states.record(&transactional(7, 0, 0), at(5));
    let refused = ProducerError::OutsideTransaction { producer_id: ProducerId(7), open_since: Offset(5) };
    assert_eq!(states.check(&batch(7, 0, 1, 1)), Err(refused));
}

#[test]
fn a_marker_of_a_deposed_coordinator_or_a_stale_producer_is_refused() {
    let mut states = ProducerStates::default();
    states.record_marker(&marker(7, 3, 5), at(0));
    assert!(matches!(states.check_marker(&marker(7, 3, 4)), Err(ProducerError::StaleCoordinator { .. })));
    assert!(matches!(states.check_marker(&marker(7, 2, 5)), Err(ProducerError::StaleEpoch { .. })));
    assert_eq!(states.check_marker(&marker(7, 3, 5)), Ok(()));
}

#[test]
fn the_last_stable_offset_waits_for_the_marker_to_be_below_the_high_watermark() {
    let mut states = ProducerStates::default();
    states.record(&transactional(1, 0, 0), at(10));
    states.record(&transactional(2, 0, 0), at(11));
    assert_eq!(states.last_stable_offset(Offset(5)), Offset(5));
    assert_eq!(states.last_stable_offset(Offset(12)), Offset(10));

    let ended = states.record_marker(&marker(1, 0, 0), at(12)).unwrap();
    assert_eq!((ended.first_offset, ended.last_stable_offset), (Offset(10), Offset(11)));
    assert_eq!(states.last_stable_offset(Offset(12)), Offset(10), "the marker itself is not committed");
    states.advance_high_watermark(Offset(12));
    assert_eq!(states.last_stable_offset(Offset(12)), Offset(10));
    states.advance_high_watermark(Offset(13));
    assert_eq!(states.last_stable_offset(Offset(13)), Offset(11));

    let ended = states.record_marker(&marker(2, 0, 0), at(13)).unwrap();
    assert_eq!(ended.last_stable_offset, Offset(14));
    states.advance_high_watermark(Offset(14));
    assert_eq!(states.last_stable_offset(Offset(14)), Offset(14));
}

#[test]
fn a_marker_without_a_transaction_ends_nothing() {
    let mut states = ProducerStates::default();
    assert_eq!(states.record_marker(&marker(1, 0, 0), at(0)), None);
    assert_eq!(states.last_stable_offset(Offset(1)), Offset(1));
}

#[test]
fn expiry_goes_by_append_time_and_spares_open_transactions() {
    let mut states = ProducerStates::default();
    states.record(&batch(1, 0, 0, 1), AppendedAt { base_offset: Offset(0), append_time_ms: 100 });
    states.record(&transactional(2, 0, 0), AppendedAt { base_offset: Offset(1), append_time_ms: 100 });
    states.record(&batch(3, 0, 0, 1), AppendedAt { base_offset: Offset(2), append_time_ms: 900 });
    assert_eq!(states.expire(1_099, 1_000), 0);
    assert_eq!(states.expire(1_100, 1_000), 1);
    let left: Vec<_> = states.iter().map(|view| view.producer_id.0).collect();
    assert_eq!(left, [2, 3]);
    assert_eq!(states.expire(-5_000, 1_000), 0, "a clock that stepped back");
    assert_eq!(states.check(&batch(1, 0, 99, 1)), Ok(Admission::Append), "forgotten, so any sequence");
}

#[test]
fn a_producer_beyond_the_limit_takes_the_place_of_the_idlest_without_a_transaction() {
    let mut states = ProducerStates::with_limit(3);
    states.record(&transactional(1, 0, 0), at(0));
    states.record(&batch(2, 0, 0, 1), at(1));
    states.record(&batch(3, 0, 0, 1), at(2));
    states.record(&batch(2, 0, 1, 1), at(3));
    states.record(&batch(4, 0, 0, 1), at(4));
    let left: Vec<_> = states.iter().map(|view| view.producer_id.0).collect();
    assert_eq!(left, [2, 1, 4]);
}

#[test]
fn a_new_producer_is_refused_when_every_remembered_one_has_a_transaction() {
    let mut states = ProducerStates::with_limit(2);
    states.record(&transactional(1, 0, 0), at(0));
    states.record(&transactional(2, 0, 0), at(1));
    let refused = ProducerError::TooManyOpenTransactions { producer_id: ProducerId(3), limit: 2 };
    assert_eq!(states.check(&batch(3, 0, 0, 1)), Err(refused));
    assert_eq!(states.check(&transactional(1, 0, 1)), Ok(Admission::Append));
}

#[test]
fn a_vacant_slot_is_not_taken_for_its_last_tenant() {
    let mut states = after(&[0]);
    states.expire(i64::MAX, 0);
    assert!(states.is_empty());
    assert_eq!(states.check(&batch(7, 0, 77, 1)), Ok(Admission::Append));
    states.record(&batch(8, 0, 0, 1), at(20));
    assert_eq!(states.len(), 1);
}

/// The rules once more, written for shortness: every batch ever appended, per producer.
#[derive(Default)]
struct Model {
    producers: BTreeMap<i64, ModelProducer>,
    ended: Vec<(i64, i64)>,
}

struct ModelProducer {
    epoch: i16,
    batches: Vec<(ProducerBatch, AppendedAt)>,
    open: Option<i64>,
}

impl Model {
    fn check(&self, asked: &ProducerBatch) -> Result<Admission, &'static str> {
        let Some(known) = self.producers.get(&asked.producer_id.0) else { return Ok(Admission::Append) };
        if asked.producer_epoch.0 < known.epoch {
            return Err("epoch");
        }
        let next = if asked.producer_epoch.0 > known.epoch {
            0
        } else {
            let same = |(kept, _): &&(ProducerBatch, AppendedAt)| {
                (kept.base_sequence, kept.last_offset_delta) == (asked.base_sequence, asked.last_offset_delta)
            };
            if let Some((kept, at)) = known.batches.iter().rev().take(5).find(same) {
                return Ok(Admission::Duplicate {
                    base_offset: at.base_offset,
                    last_offset: Offset(at.base_offset.0 + i64::from(kept.last_offset_delta)),
                    append_time_ms: at.append_time_ms,
                });
            }
            known.batches.last().map_or(0, |(last, _)| {
                ((i64::from(last.base_sequence) + i64::from(last.last_offset_delta) + 1) % (1 << 31)) as i32
            })
        };
        match known.open {
            _ if asked.base_sequence != next => Err("sequence"),
            Some(_) if !asked.transactional => Err("transaction"),
            _ => Ok(Admission::Append),
        }
    }

    fn record(&mut self, batch: &ProducerBatch, at: AppendedAt) {
        let known = self.turn(batch.producer_id.0, batch.producer_epoch.0);
        known.batches.push((*batch, at));
        if batch.transactional {
            known.open.get_or_insert(at.base_offset.0);
        }
    }

    fn mark(&mut self, id: i64, epoch: i16, offset: i64) {
        if let Some(first) = self.turn(id, epoch).open.take() {
            self.ended.push((first, offset));
        }
    }

    fn turn(&mut self, id: i64, epoch: i16) -> &mut ModelProducer {
        let fresh = || ModelProducer { epoch, batches: Vec::new(), open: None };
        let known = self.producers.entry(id).or_insert_with(fresh);
        if known.epoch != epoch {
            known.epoch = epoch;
            known.batches.clear();
        }
        known
    }

    fn last_stable(&self, high_watermark: i64) -> i64 {
        let open = self.producers.values().filter_map(|known| known.open);
        let ended =
            self.ended.iter().filter(|(_, marker)| *marker >= high_watermark).map(|(first, _)| *first);
        open.chain(ended).fold(high_watermark, i64::min)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Data { id: i64, epoch: i16, sequence: Sequence, records: i32, transactional: bool },
    Mark { id: i64, raise: i16 },
    Committed(i64),
    Reload,
}

#[derive(Clone, Debug)]
enum Sequence {
    Next,
    Back(i32),
    At(i32),
}

fn step() -> impl Strategy<Value = Step> {
    let sequence = prop_oneof![
        6 => Just(Sequence::Next),
        3 => (1..30i32).prop_map(Sequence::Back),
        1 => prop_oneof![0..3i32, i32::MAX - 6..=i32::MAX].prop_map(Sequence::At),
    ];
    let data = (0..4i64, -1..2i16, sequence, 1..4i32, any::<bool>());
    prop_oneof![
        12 => data.prop_map(|(id, epoch, sequence, records, transactional)| Step::Data { id, epoch, sequence, records, transactional }),
        2 => (0..4i64, 0..2i16).prop_map(|(id, raise)| Step::Mark { id, raise }),
        2 => (0..6i64).prop_map(Step::Committed),
        1 => Just(Step::Reload),
    ]
}

fn kind(error: &ProducerError) -> &'static str {
    match error {
        ProducerError::StaleEpoch { .. } => "epoch",
        ProducerError::OutOfOrderSequence { .. } => "sequence",
        ProducerError::OutsideTransaction { .. } => "transaction",
        ProducerError::StaleCoordinator { .. } | ProducerError::TooManyOpenTransactions { .. } => "other",
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_with_the_naive_model(steps in prop::collection::vec(step(), 1..80)) {
        let (mut states, mut model) = (ProducerStates::default(), Model::default());
        let (mut end, mut high_watermark) = (0i64, 0i64);
        for step in steps {
            match step {
                Step::Data { id, epoch, sequence, records, transactional } => {
                    let known = model.producers.get(&id);
                    let epoch = (known.map_or(0, |known| known.epoch) + epoch).max(0);
                    let last = known.and_then(|known| known.batches.last()).map_or(-1, |(last, _)| last.last_sequence());
                    let base_sequence = match sequence {
                        Sequence::Next => last.wrapping_add(1) & i32::MAX,
                        Sequence::Back(by) => last.saturating_sub(by).max(0),
                        Sequence::At(exact) => exact,
                    };
                    let asked = ProducerBatch { transactional, ..batch(id, epoch, base_sequence, records) };
                    let found = states.check(&asked);
                    prop_assert_eq!(found.map_err(|error| kind(&error)), model.check(&asked));
                    if found == Ok(Admission::Append) {
                        states.record(&asked, at(end));
                        model.record(&asked, at(end));
                        end += i64::from(records);
                    }
                }
                Step::Mark { id, raise } => {
                    let epoch = model.producers.get(&id).map_or(0, |known| known.epoch) + raise;
                    prop_assert_eq!(states.check_marker(&marker(id, epoch, 0)), Ok(()));
                    states.record_marker(&marker(id, epoch, 0), at(end));
                    model.mark(id, epoch, end);
                    end += 1;
                }
                Step::Committed(back) => {
                    high_watermark = high_watermark.max(end - back);
                    states.advance_high_watermark(Offset(high_watermark));
                }
                Step::Reload => {
                    high_watermark = end;
                    states.advance_high_watermark(Offset(high_watermark));
                    let mut bytes = Vec::new();
                    states.encode(&mut bytes);
                    let reloaded = ProducerStates::decode(&bytes).unwrap();
                    prop_assert_eq!(&reloaded, &states);
                    states = reloaded;
                }
            }
            let stable = model.last_stable(high_watermark);
            prop_assert_eq!(states.last_stable_offset(Offset(high_watermark)), Offset(stable));
        }
        prop_assert_eq!(states.len(), model.producers.len());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(states) = ProducerStates::decode(&bytes) {
            let mut again = Vec::new();
            states.encode(&mut again);
            prop_assert_eq!(ProducerStates::decode(&again), Ok(states));
        }
    }
}
