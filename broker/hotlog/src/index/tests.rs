//! The index against a list of every batch.

use proptest::prelude::*;
use wire::ids::Offset;

use super::*;

const BASE: i64 = 1_000;

fn batches() -> impl Strategy<Value = Vec<IndexedBatch>> {
    let one = (1..4i64, prop_oneof![70..600u32, 3_000..9_000u32], prop_oneof![Just(-1i64), 0..50i64]);
    prop::collection::vec(one, 0..60).prop_map(|parts| {
        let mut next = BASE;
        let place = |(records, size_bytes, max_timestamp_ms)| {
            let batch = IndexedBatch { base_offset: Offset(next), size_bytes, max_timestamp_ms };
            next += records;
            batch
        };
        parts.into_iter().map(place).collect()
    })
}

fn index_of(batches: &[IndexedBatch]) -> SegmentIndex {
    let mut index = SegmentIndex::new(Offset(BASE));
    batches.iter().for_each(|batch| index.append(batch));
    index
}

fn positions(batches: &[IndexedBatch]) -> Vec<u32> {
    let mut next = 0;
    let place = |batch: &IndexedBatch| {
        let position = next;
        next += batch.size_bytes;
        position
    };
    batches.iter().map(place).collect()
}

proptest! {
    #[test]
    fn an_offset_is_found_at_or_after_the_position_and_soon(batches in batches()) {
        let (index, positions) = (index_of(&batches), positions(&batches));
        for (batch, &position) in batches.iter().zip(&positions) {
            let found = index.position_of_offset(batch.base_offset);
            prop_assert!(positions.contains(&found) && found <= position);
            let longest = batches.iter().map(|batch| batch.size_bytes).max().unwrap_or(0);
            prop_assert!(position - found < INDEX_INTERVAL_BYTES + longest);
        }
    }

    #[test]
    fn no_record_young_enough_lies_before_the_position_found(batches in batches(), asked in -1..55i64) {
        let (index, positions) = (index_of(&batches), positions(&batches));
        let first = batches.iter().position(|batch| batch.max_timestamp_ms >= asked && asked >= 0);
        match index.position_of_time(asked) {
            Some(found) => {
                prop_assert!(positions.contains(&found) || found == 0);
                if let Some(first) = first {
                    prop_assert!(found <= positions[first]);
                }
            }
            None => prop_assert_eq!(first, None),
        }
    }

    #[test]
    fn truncation_and_appending_again_equals_never_having_had_the_rest(batches in batches(), cut in 0..70usize) {
        let (mut index, positions) = (index_of(&batches), positions(&batches));
        let cut = cut.min(batches.len());
        let end_offset = batches.get(cut).map_or(Offset(i64::MAX), |batch| batch.base_offset);
        let from = index.truncate(end_offset);
        prop_assert_eq!(index.size_bytes(), from);
        for (batch, &position) in batches[..cut].iter().zip(&positions) {
            if position >= from {
                index.append(batch);
            }
        }
        prop_assert_eq!(index, index_of(&batches[..cut]));
    }

    #[test]
    fn bytes_come_back(batches in batches()) {
        let index = index_of(&batches);
        let mut bytes = Vec::new();
        index.encode(&mut bytes);
        prop_assert_eq!(SegmentIndex::decode(&bytes), Ok(index));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(index) = SegmentIndex::decode(&bytes) {
            let mut again = Vec::new();
            index.encode(&mut again);
            prop_assert_eq!(SegmentIndex::decode(&again), Ok(index));
        }
    }
}

#[test]
fn an_indexed_batch_is_found_at_its_own_position() {
    let at = |offset| IndexedBatch { base_offset: Offset(offset), size_bytes: 5_000, max_timestamp_ms: 0 };
    let index = index_of(&[at(1_000), at(1_001), at(1_002)]);
    assert_eq!(index.position_of_offset(Offset(1_001)), 5_000);
}

#[test]
fn the_maximum_names_the_first_batch_that_reached_it() {
    let at = |offset, max_timestamp_ms| IndexedBatch {
        base_offset: Offset(offset),
        size_bytes: 100,
        max_timestamp_ms,
    };
    let index = index_of(&[at(1_000, 5), at(1_001, 9), at(1_002, 9), at(1_003, 7)]);
    let expected = MaxTimestamp { timestamp_ms: 9, batch_base_offset: Offset(1_001) };
    assert_eq!(index.max_timestamp(), expected);
}

#[test]
fn a_full_gibibyte_of_small_batches_costs_about_six_bytes_per_entry() {
    let mut index = SegmentIndex::new(Offset(0));
    let batches = (1u32 << 30) / 16_384;
    for number in 0..batches {
        index.append(&IndexedBatch {
            base_offset: Offset(i64::from(number) * 16),
            size_bytes: 16_384,
            max_timestamp_ms: 1_700_000_000_000 + i64::from(number) * 3,
        });
    }
    let mut bytes = Vec::new();
    index.encode(&mut bytes);
    assert!(bytes.len() < batches as usize * 7, "{} bytes for {batches} entries", bytes.len());
}
