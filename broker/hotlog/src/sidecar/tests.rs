//! The frozen file, and what is refused.

use proptest::prelude::*;
use wire::ids::{ProducerEpoch, ProducerId};

use super::*;
use crate::aborted::AbortedTransaction;
use crate::index::IndexedBatch;
use crate::producers::{AppendedAt, ProducerBatch, TransactionMarker};

/// Written by the first release of version 1, and never again: `example().encode()`.
const GOLDEN: &[u8] = include_bytes!("golden-v1.bin");

fn example() -> Sidecar {
    let mut index = SegmentIndex::new(Offset(1_000));
    let mut producers = ProducerStates::default();
    let mut aborted = AbortedTransactions::default();
    for number in 0..6i64 {
        let at = AppendedAt {
            base_offset: Offset(1_000 + number * 10),
            append_time_ms: 1_700_000_000_000 + number,
        };
        index.append(&IndexedBatch {
            base_offset: at.base_offset,
            size_bytes: 3_000,
            max_timestamp_ms: 1_357_000_000_000 + (number % 4) * 3_600_000,
        });
        producers.record(
            &ProducerBatch {
                producer_id: ProducerId(40 + number % 2),
                producer_epoch: ProducerEpoch(3),
                base_sequence: (number / 2 * 10) as i32,
                last_offset_delta: 9,
                transactional: number % 2 == 1,
            },
            at,
        );
    }
    let marker = TransactionMarker {
        producer_id: ProducerId(41),
        producer_epoch: ProducerEpoch(3),
        coordinator_epoch: 2,
        committed: false,
    };
    let at = AppendedAt { base_offset: Offset(1_060), append_time_ms: 1_700_000_000_900 };
    let ended = producers.record_marker(&marker, at).unwrap();
    producers.advance_high_watermark(Offset(1_061));
    aborted.push(AbortedTransaction {
        producer_id: ended.producer_id,
        first_offset: ended.first_offset,
        marker_offset: ended.marker_offset,
        last_stable_offset: ended.last_stable_offset,
    });
    index.append(&IndexedBatch { base_offset: Offset(1_060), size_bytes: 78, max_timestamp_ms: 5 });
    let mut epochs = EpochHistory::default();
    epochs.assign(LeaderEpoch(1), Offset(0));
    epochs.assign(LeaderEpoch(4), Offset(1_020));
    Sidecar {
        topic_id: TopicId(*b"sixteen bytes id"),
        partition: 7,
        leader_epoch: LeaderEpoch(4),
        next_offset: Offset(1_061),
        first_append_time_ms: 1_700_000_000_000,
        last_append_time_ms: 1_700_000_000_900,
        index,
        aborted,
        producers,
        epochs,
    }
}

/// The bytes with a checksum that fits, after `change`.
fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = example().encode();
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    change(&mut bytes);
    let length = (bytes.len() + CHECKSUM_BYTES) as u32;
    bytes[12..16].copy_from_slice(&length.to_be_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

#[test]
fn the_first_version_is_written_and_read_for_ever() {
    assert_eq!(Sidecar::decode(GOLDEN), Ok(example()));
    assert_eq!(example().encode(), GOLDEN);
}

#[test]
fn every_flipped_bit_is_noticed() {
    for bit in 0..GOLDEN.len() * 8 {
        let mut bytes = GOLDEN.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Sidecar::decode(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn every_shorter_and_longer_file_is_noticed() {
    for length in 0..GOLDEN.len() {
        assert!(Sidecar::decode(&GOLDEN[..length]).is_err(), "{length} bytes");
    }
    let longer = [GOLDEN, &[0]].concat();
    assert!(matches!(Sidecar::decode(&longer), Err(SidecarError::Length { .. })));
}

#[test]
fn another_version_is_named() {
    let bytes = resealed(|bytes| bytes[9] = 2);
    assert_eq!(Sidecar::decode(&bytes), Err(SidecarError::Version { found: 2, known: 1 }));
}

#[test]
fn a_missing_and_a_doubled_section_are_named() {
    let missing = resealed(|bytes| bytes[FIXED_BYTES + 1] = 99);
    assert_eq!(Sidecar::decode(&missing), Err(SidecarError::Sections(Section::Index)));
    let doubled = resealed(|bytes| bytes[FIXED_BYTES + DIRECTORY_ENTRY_BYTES + 1] = Section::Epochs as u8);
    assert!(matches!(Sidecar::decode(&doubled), Err(SidecarError::Sections(Section::Aborted))));
}

#[test]
fn a_section_that_this_version_does_not_know_is_skipped() {
    let bytes = resealed(|bytes| {
        let directory_end = FIXED_BYTES + SECTIONS.len() * DIRECTORY_ENTRY_BYTES;
        bytes[11] = SECTIONS.len() as u8 + 1;
        bytes.splice(directory_end..directory_end, [0, 9, 0, 0, 0, 0, 0, 3]);
        bytes.extend(b"new");
    });
    assert_eq!(Sidecar::decode(&bytes), Ok(example()));
}

#[test]
fn a_header_that_contradicts_the_index_is_refused() {
    let bytes = resealed(|bytes| bytes[63] ^= 1);
    assert_eq!(Sidecar::decode(&bytes), Err(SidecarError::Disagree("the segment's size")));
}

proptest! {
    /// Past the checksum, so that the sections' own checks are met.
    #[test]
    fn hostile_bytes_never_panic(changes in prop::collection::vec((16..1_000usize, any::<u8>()), 1..8)) {
        let bytes = resealed(|bytes| {
            let length = bytes.len();
            changes.iter().for_each(|&(at, value)| bytes[at % length] = value);
        });
        if let Ok(sidecar) = Sidecar::decode(&bytes) {
            prop_assert_eq!(Sidecar::decode(&sidecar.encode()), Ok(sidecar));
        }
    }
}
