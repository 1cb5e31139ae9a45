//! Records and builders: round trips, and hostile payloads under sound headers.

use proptest::prelude::*;

use crate::batch::*;
use crate::compress::{Codec, DecompressError};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

const BUDGET: usize = 1 << 20;

type Field = Option<Vec<u8>>;

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp_ms: i64,
    key: Field,
    value: Field,
    headers: Vec<(Vec<u8>, Field)>,
}

fn any_field() -> impl Strategy<Value = Field> {
    proptest::option::of(prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..70_000usize).prop_map(|(byte, times)| vec![byte; times]),
    ])
}

fn any_record() -> impl Strategy<Value = Owned> {
    let header = (proptest::collection::vec(any::<u8>(), 0..9), any_field());
    (any::<i64>(), any_field(), any_field(), proptest::collection::vec(header, 0..3))
        .prop_map(|(timestamp_ms, key, value, headers)| Owned { timestamp_ms, key, value, headers })
}

fn any_options() -> impl Strategy<Value = BatchOptions> {
    let codec = prop::sample::select(&Codec::ALL);
    (codec, any::<(i64, i16, i32)>(), any::<[bool; 2]>(), proptest::option::of(any::<i64>()), 0..1i64 << 60)
        .prop_map(
            |(codec, (id, epoch, base_sequence), [transactional, control], append_time_ms, base_offset)| {
                BatchOptions {
                    codec,
                    producer: ProducerFields {
                        id: ProducerId(id),
                        epoch: ProducerEpoch(epoch),
                        base_sequence,
                    },
                    transactional,
                    control,
                    append_time_ms,
                    base_offset: Offset(base_offset),
                    leader_epoch: LeaderEpoch(i32::from(epoch)),
                }
            },
        )
}

fn build(options: BatchOptions, records: &[Owned]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let headers: Vec<_> =
            record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        builder.push(&NewRecord {
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        });
    }
    let plain_bytes = builder.size_bytes();
    let batch = builder.build();
    assert!(options.codec != Codec::None || batch.len() == plain_bytes);
    batch
}

fn read(batch: &[u8]) -> Result<Vec<(Offset, Owned)>, RecordsError> {
    let view = BatchView::only(batch).unwrap();
    let mut records = Records::new(&view, BUDGET);
    let mut all = Vec::new();
    while let Some(record) = records.next_record()? {
        let owned = Owned {
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        };
        all.push((record.offset, owned));
    }
    assert!(records.next_record().unwrap().is_none());
    Ok(all)
}

/// A plain batch around `payload` that claims `count` records.
fn around(payload: &[u8], count: i32) -> Vec<u8> {
    around_with(Codec::None, payload, count)
}

fn around_with(codec: Codec, payload: &[u8], count: i32) -> Vec<u8> {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.push(&NewRecord::default());
    let header = BatchHeader::parse(&batch.build()).unwrap();
    let header = BatchHeader {
        size_bytes: HEADER_BYTES + payload.len(),
        attributes: header.attributes.with_codec(codec),
        last_offset_delta: count - 1,
        record_count: count,
        ..header
    };
    [header.encode().as_slice(), payload].concat()
}

proptest! {
    #[test]
    fn records_round_trip(options in any_options(), records in proptest::collection::vec(any_record(), 1..5)) {
        let batch = build(options, &records);
        let view = BatchView::only(&batch).unwrap();
        view.check_crc().unwrap();
        let header = view.header();
        let latest = records.iter().map(|record| record.timestamp_ms).max().unwrap().max(-1);
        prop_assert_eq!(header.max_timestamp_ms, options.append_time_ms.unwrap_or(latest));
        prop_assert_eq!(header.base_offset, options.base_offset);
        prop_assert_eq!(header.attributes.is_control(), options.control);
        prop_assert_eq!(header.attributes.is_transactional(), options.transactional);
        let expected: Vec<_> = records
            .into_iter()
            .zip(options.base_offset.0..)
            .map(|(mut record, offset)| {
                record.timestamp_ms = options.append_time_ms.unwrap_or(record.timestamp_ms);
                (Offset(offset), record)
            })
            .collect();
        prop_assert_eq!(read(&batch).unwrap(), expected);
    }

    #[test]
    fn truncated_payloads_are_errors(
        options in any_options(), records in proptest::collection::vec(any_record(), 1..5), at: prop::sample::Index,
    ) {
        let batch = build(options, &records);
        let payload = &batch[HEADER_BYTES..];
        let cut = around_with(options.codec, &payload[..at.index(payload.len())], records.len() as i32);
        match BatchView::only(&cut) {
            // Some codecs end with a checksum that nobody misses once all records are out.
            Ok(_) => prop_assert!(read(&cut).is_err() || options.codec != Codec::None),
            Err(error) => {
                let named = matches!(error, BatchError::CountBeyondPayload { .. });
                prop_assert!(named);
            }
        }
    }

    #[test]
    fn noise_never_panics_nor_outgrows_the_budget(
        codec in prop::sample::select(&Codec::ALL), noise in proptest::collection::vec(any::<u8>(), 0..300), count in 1..40i32,
    ) {
        let batch = around_with(codec, &noise, count);
        if BatchView::only(&batch).is_ok() {
            let _ = read(&batch);
        }
    }

    #[test]
    fn flipped_bits_in_records_never_panic(
        records in proptest::collection::vec(any_record(), 1..4), at: prop::sample::Index, bit in 0..8,
    ) {
        let mut batch = build(BatchOptions::default(), &records);
        let at = HEADER_BYTES + at.index((batch.len() - HEADER_BYTES).min(40));
        batch[at] ^= 1u8 << bit;
        prop_assert!(BatchView::only(&batch).unwrap().check_crc().is_err());
        let _ = read(&batch);
    }
}

/// A record of one byte of value, with this offset delta.
fn record_at(delta: u8) -> Vec<u8> {
    vec![14, 0, 0, delta << 1, 1, 2, b'v', 0]
}

fn fault(batch: &[u8]) -> (i32, RecordFault) {
    let error = read(batch).unwrap_err();
    (error.index, error.fault)
}

#[test]
fn record_faults_are_named() {
    assert_eq!(read(&around(&[record_at(0), record_at(1)].concat(), 2)).unwrap().len(), 2);
    let two_in_one = [[30, 0, 0, 0, 1, 18].as_slice(), &[b'v'; 9], &[0]].concat();
    assert_eq!(fault(&around(&two_in_one, 2)), (1, RecordFault::Missing));
    assert_eq!(fault(&around(&[record_at(0), vec![0; 7]].concat(), 1)), (1, RecordFault::Trailing));
    assert_eq!(
        fault(&around(&[14, 0, 0, 0, 1, 2, b'v'], 1)),
        (0, RecordFault::Length { length: 7, available_bytes: 6 })
    );
    assert_eq!(
        fault(&around(&[13, 0, 0, 0, 0, 0, 0], 1)),
        (0, RecordFault::Length { length: -7, available_bytes: 6 })
    );
    assert_eq!(fault(&around(&[0x80; 7], 1)), (0, RecordFault::Number));
    assert_eq!(
        fault(&around(&[14, 0, 0, 0, 3, 2, b'v', 0], 1)),
        (0, RecordFault::Length { length: -2, available_bytes: 3 })
    );
    assert_eq!(fault(&around(&[14, 0, 0, 0, 1, 0, 0, 0], 1)), (0, RecordFault::Leftover { extra_bytes: 1 }));
    assert_eq!(
        fault(&around(&[14, 0, 0, 0, 1, 1, 1, 0], 1)),
        (0, RecordFault::Length { length: -1, available_bytes: 1 })
    );
    assert_eq!(fault(&around(&[16, 0, 0, 0, 1, 1, 2, 1, 1], 1)), (0, RecordFault::NullHeaderKey));
    let huge = [14, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
    assert!(matches!(
        fault(&around(&[&[18], &huge[1..]].concat(), 1)),
        (0, RecordFault::Length { length: i32::MAX, .. })
    ));
}

#[test]
fn offsets_rise_within_the_batch_or_it_is_an_error() {
    let with = |first, second| {
        let mut batch = around(&[record_at(first), record_at(second)].concat(), 2);
        batch[23..27].copy_from_slice(&5i32.to_be_bytes());
        batch
    };
    let offsets: Vec<_> = read(&with(0, 5)).unwrap().into_iter().map(|(offset, _)| offset.0).collect();
    assert_eq!(offsets, [0, 5]);
    assert_eq!(fault(&with(0, 6)), (1, RecordFault::OffsetDelta { delta: 6 }));
    assert_eq!(fault(&with(2, 2)), (1, RecordFault::OffsetDelta { delta: 2 }));
    assert_eq!(fault(&around(&[14, 0, 0, 1, 1, 2, b'v', 0], 1)), (0, RecordFault::OffsetDelta { delta: -1 }));
}

#[test]
fn a_compressed_record_that_claims_two_gigabytes_takes_no_memory_for_it() {
    let claim = [&[0xfe, 0xff, 0xff, 0xff, 0x0f], [0; 1000].as_slice()].concat();
    for codec in &Codec::ALL[1..] {
        let mut payload = Vec::new();
        crate::compress::compress(*codec, &claim, &mut payload);
        let expected = RecordFault::Length { length: i32::MAX, available_bytes: 1000 };
        assert_eq!(fault(&around_with(*codec, &payload, 1)), (0, expected), "{codec}");
    }
}

#[test]
fn a_bomb_stops_at_the_budget() {
    let value = vec![0; 2 * BUDGET];
    for codec in &Codec::ALL[1..] {
        let mut builder = BatchBuilder::new(BatchOptions { codec: *codec, ..Default::default() });
        builder.push(&NewRecord { value: Some(&value), ..Default::default() });
        let expected = RecordFault::Decompress(DecompressError::OverBudget);
        assert_eq!(fault(&builder.build()), (0, expected), "{codec}");
    }
}

#[test]
fn an_empty_batch_that_a_cleaner_left_has_no_records() {
    let mut batch = around(&[], 1);
    batch[57..61].copy_from_slice(&0i32.to_be_bytes());
    assert_eq!(read(&batch).unwrap(), []);
}
