//! Headers, patches and views, against full recomputation.

use proptest::prelude::*;

use crate::batch::*;
use crate::compress::Codec;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// A batch with a sound header and any payload; the records need not parse.
fn any_batch() -> impl Strategy<Value = Vec<u8>> {
    let place = (0..i64::MAX - (1 << 31), any::<i32>(), 0..i32::MAX);
    let times = (any::<i64>(), any::<i64>());
    let producer = (any::<i64>(), any::<i16>(), any::<i32>());
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::collection::vec(any::<u8>(), 60_000..70_000),
    ];
    (place, times, producer, 1..5i16, any::<i16>(), payload).prop_map(
        |(
            (base, epoch, delta),
            (base_time, max_time),
            (id, producer_epoch, sequence),
            codec,
            bits,
            payload,
        )| {
            let header = BatchHeader {
                base_offset: Offset(base),
                size_bytes: HEADER_BYTES + payload.len(),
                leader_epoch: LeaderEpoch(epoch),
                crc: 0,
                attributes: Attributes((bits & !0b111) | codec),
                last_offset_delta: delta,
                base_timestamp_ms: base_time,
                max_timestamp_ms: max_time,
                producer_id: ProducerId(id),
                producer_epoch: ProducerEpoch(producer_epoch),
                base_sequence: sequence,
                record_count: delta / 2,
            };
            let mut batch = [header.encode().as_slice(), &payload].concat();
            let crc = crc32c(&batch[21..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
            batch
        },
    )
}

fn any_patch() -> impl Strategy<Value = HeaderPatch> {
    let producer = (any::<i64>(), any::<i16>(), any::<i32>()).prop_map(|(id, epoch, base_sequence)| {
        ProducerFields { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence }
    });
    let attributes = (any::<i16>(), 0..5i16).prop_map(|(bits, codec)| Attributes((bits & !0b111) | codec));
    (proptest::option::of(attributes), proptest::option::of(any::<i64>()), proptest::option::of(producer))
        .prop_map(|(attributes, max_timestamp_ms, producer)| HeaderPatch {
            attributes,
            max_timestamp_ms,
            producer,
        })
}

proptest! {
    #[test]
    fn headers_round_trip(batch in any_batch()) {
        let header = BatchHeader::parse(&batch).unwrap();
        prop_assert_eq!(&header.encode()[..], &batch[..HEADER_BYTES]);
        BatchView::only(&batch).unwrap().check_crc().unwrap();
    }

    #[test]
    fn placement_leaves_the_checksum_valid(batch in any_batch(), base in 0..i64::MAX / 2, epoch: i32) {
        let mut patched = batch.clone();
        patch_placement(patched.first_chunk_mut().unwrap(), Offset(base), LeaderEpoch(epoch));
        let view = BatchView::only(&patched).unwrap();
        view.check_crc().unwrap();
        prop_assert_eq!((view.header().base_offset, view.header().leader_epoch), (Offset(base), LeaderEpoch(epoch)));
        prop_assert_eq!(&patched[16..], &batch[16..]);
        prop_assert_eq!(&patched[8..12], &batch[8..12]);
    }

    #[test]
    fn a_patch_equals_full_recomputation(batch in any_batch(), patch in any_patch()) {
        let mut patched = batch.clone();
        let fields = patch.apply(patched.first_chunk_mut().unwrap()).unwrap();
        prop_assert_eq!(fields.crc, crc32c(&patched[21..]));
        prop_assert_eq!(fields, BatchHeader::parse(&patched).unwrap());
        let before = BatchHeader::parse(&batch).unwrap();
        let expected = BatchHeader {
            crc: fields.crc,
            attributes: patch.attributes.unwrap_or(before.attributes),
            max_timestamp_ms: patch.max_timestamp_ms.unwrap_or(before.max_timestamp_ms),
            producer_id: patch.producer.map_or(before.producer_id, |producer| producer.id),
            producer_epoch: patch.producer.map_or(before.producer_epoch, |producer| producer.epoch),
            base_sequence: patch.producer.map_or(before.base_sequence, |producer| producer.base_sequence),
            ..before
        };
        prop_assert_eq!(fields, expected);
        prop_assert_eq!(&patched[HEADER_BYTES..], &batch[HEADER_BYTES..]);
    }

    #[test]
    fn a_patch_does_not_sign_over_damage(batch in any_batch(), patch in any_patch(), at: prop::sample::Index, bit in 0..8) {
        let mut damaged = batch;
        let at = 21 + at.index(damaged.len() - 21);
        damaged[at] ^= 1u8 << bit;
        if BatchHeader::parse(&damaged).is_ok() {
            let before = crc32c(&damaged[21..]) ^ BatchHeader::parse(&damaged).unwrap().crc;
            patch.apply(damaged.first_chunk_mut().unwrap()).unwrap();
            let after = crc32c(&damaged[21..]) ^ BatchHeader::parse(&damaged).unwrap().crc;
            prop_assert_ne!(before, 0);
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn every_truncation_is_named(batch in any_batch(), at: prop::sample::Index) {
        let available_bytes = at.index(batch.len());
        let needed_bytes = if available_bytes < HEADER_BYTES { HEADER_BYTES } else { batch.len() };
        let error = BatchView::first(&batch[..available_bytes]).unwrap_err();
        prop_assert_eq!(error, BatchError::Truncated { needed_bytes, available_bytes });
    }

    #[test]
    fn every_flipped_bit_is_seen(batch in any_batch(), at: prop::sample::Index, bit in 0..8) {
        let mut damaged = batch;
        // Base offset and leader epoch are outside the checksum, by design.
        let at = 16 + at.index(damaged.len() - 16);
        damaged[at] ^= 1u8 << bit;
        let seen = BatchView::only(&damaged).and_then(|view| view.check_crc());
        prop_assert!(seen.is_err());
    }

    #[test]
    fn runs_of_batches_come_apart_where_they_were_joined(
        batches in proptest::collection::vec(any_batch(), 0..4),
        garbage in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let joined = [batches.concat(), garbage.clone()].concat();
        let mut seen = Batches::new(&joined);
        let mut position = 0;
        for batch in &batches {
            prop_assert_eq!(seen.position(), position);
            prop_assert_eq!(seen.next().unwrap().unwrap().bytes(), batch.as_slice());
            position += batch.len();
        }
        if garbage.is_empty() {
            prop_assert!(seen.next().is_none());
        } else {
            prop_assert_eq!(seen.next().unwrap().unwrap_err().position, position);
            prop_assert!(seen.next().is_none());
        }
    }

    #[test]
    fn no_header_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = BatchHeader::parse(&bytes);
        let _ = BatchView::only(&bytes);
    }
}

fn check(change: impl FnOnce(&mut BatchHeader), expected: BatchError) {
    let mut header = BatchHeader {
        base_offset: Offset(5),
        size_bytes: HEADER_BYTES,
        leader_epoch: LeaderEpoch(-1),
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: 9,
        base_timestamp_ms: 0,
        max_timestamp_ms: 0,
        producer_id: ProducerId(-1),
        producer_epoch: ProducerEpoch(-1),
        base_sequence: SEQUENCE_NONE,
        record_count: 0,
    };
    change(&mut header);
    assert_eq!(BatchView::only(&header.encode()).unwrap_err(), expected);
}

#[test]
fn unsound_headers_are_named() {
    check(|header| header.size_bytes = 60, BatchError::Length { length: 48 });
    check(|header| header.size_bytes = 62, BatchError::Truncated { needed_bytes: 62, available_bytes: 61 });
    check(|header| header.attributes = Attributes(6), BatchError::Codec { id: 6 });
    check(|header| header.record_count = -1, BatchError::Count { record_count: -1, offsets: 10 });
    check(|header| header.record_count = 11, BatchError::Count { record_count: 11, offsets: 10 });
    check(
        |header| header.record_count = 10,
        BatchError::CountBeyondPayload { record_count: 10, payload_bytes: 0 },
    );
    check(
        |header| header.last_offset_delta = -1,
        BatchError::Offsets { base_offset: 5, last_offset_delta: -1 },
    );
    check(
        |header| header.base_offset = Offset(-1),
        BatchError::Offsets { base_offset: -1, last_offset_delta: 9 },
    );
    check(
        |header| header.base_offset = Offset(i64::MAX - 9),
        BatchError::Offsets { base_offset: i64::MAX - 9, last_offset_delta: 9 },
    );
}

#[test]
fn other_magics_and_trailing_bytes_are_named() {
    let mut bytes = [0; HEADER_BYTES + 3];
    for magic in [0, 1, 3, 127, -1] {
        bytes[16] = magic as u8;
        assert_eq!(BatchHeader::parse(&bytes).unwrap_err(), BatchError::Magic { magic });
        assert_eq!(BatchHeader::parse(&bytes[..20]).unwrap_err(), BatchError::Magic { magic });
    }
    bytes[16] = 2;
    bytes[8..12].copy_from_slice(&49i32.to_be_bytes());
    assert_eq!(BatchView::only(&bytes).unwrap_err(), BatchError::Trailing { extra_bytes: 3 });
}

#[test]
fn sequences_wrap_as_kafka_wraps_them() {
    assert_eq!(sequence_after(0, 5), 5);
    assert_eq!(sequence_after(i32::MAX, 0), i32::MAX);
    assert_eq!(sequence_after(i32::MAX, 1), 0);
    assert_eq!(sequence_after(i32::MAX - 1, 4), 2);
    assert_eq!(sequence_after(i32::MAX, i32::MAX), i32::MAX - 1);
}

#[test]
fn attribute_bits_are_kafkas() {
    let all = Attributes::default()
        .with_codec(Codec::Zstd)
        .with_timestamp_type(TimestampType::LogAppendTime)
        .with_transactional(true)
        .with_control(true)
        .with_delete_horizon(true);
    assert_eq!(all, Attributes(0b111_1100));
    assert_eq!(all.codec(), Ok(Codec::Zstd));
    assert_eq!(all.with_delete_horizon(false).with_transactional(false), Attributes(0b010_1100));
    assert!(all.is_transactional() && all.is_control() && all.has_delete_horizon());
    assert_eq!(all.timestamp_type(), TimestampType::LogAppendTime);
}
