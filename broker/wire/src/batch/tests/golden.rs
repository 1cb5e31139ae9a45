//! Bytes written by Apache Kafka's own client library, by `golden/MakeGolden.java`.

use crate::batch::*;
use crate::compress::Codec;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

const FIRST_TIME_MS: i64 = 1_356_998_400_000;
const BUDGET: usize = 1 << 20;

fn key(index: i64) -> Option<Vec<u8>> {
    (index % 5 != 4).then(|| format!("key-{index}").into_bytes())
}

fn value(index: i64) -> Option<Vec<u8>> {
    match index {
        10 => Some("longhaul ".repeat(12_000).into_bytes()),
        _ => (index % 7 != 6).then(|| format!("value-{index}").into_bytes()),
    }
}

fn headers(index: i64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    (0..index % 3)
        .map(|place| {
            (format!("header-{place}").into_bytes(), (place != 1).then(|| format!("of-{index}").into_bytes()))
        })
        .collect()
}

fn time_ms(index: i64) -> i64 {
    if index == 3 { FIRST_TIME_MS - 1 } else { FIRST_TIME_MS + index * 3_600_000 }
}

/// Reads every record of `file` and compares it with what the script wrote.
fn check(file: &[u8], records: i64, expected_time_ms: impl Fn(i64) -> i64) {
    let mut index = 0;
    for entry in Entries::new(file) {
        let entry = entry.unwrap();
        entry.check_crc().unwrap();
        let with_headers = matches!(entry, Entry::Batch(_));
        let mut reader = entry.records(BUDGET).unwrap();
        let mut last_offset = Offset(-1);
        while let Some(record) = reader.next_record().unwrap() {
            assert_eq!(record.offset, Offset(1000 + index));
            assert_eq!(record.timestamp_ms, expected_time_ms(index));
            assert_eq!(record.key.map(<[u8]>::to_vec), key(index));
            assert_eq!(record.value.map(<[u8]>::to_vec), value(index));
            let seen: Vec<_> = record
                .headers
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect();
            assert_eq!(seen, if with_headers { headers(index) } else { Vec::new() });
            last_offset = record.offset;
            index += 1;
        }
        assert_eq!(entry.last_offset(), last_offset);
    }
    assert_eq!(index, records);
}

#[test]
fn batches_of_every_codec_are_read() {
    check(include_bytes!("../golden/v2-none.bin"), 10, time_ms);
    check(include_bytes!("../golden/v2-gzip.bin"), 20, time_ms);
    check(include_bytes!("../golden/v2-snappy.bin"), 20, time_ms);
    check(include_bytes!("../golden/v2-lz4.bin"), 20, time_ms);
    check(include_bytes!("../golden/v2-zstd.bin"), 20, time_ms);
    check(include_bytes!("../golden/v2-transactional.bin"), 20, time_ms);
    check(include_bytes!("../golden/v2-append-time.bin"), 20, |_| FIRST_TIME_MS + 77);
}

#[test]
fn message_sets_of_every_codec_are_read() {
    check(include_bytes!("../golden/v1-none.bin"), 10, time_ms);
    check(include_bytes!("../golden/v1-gzip.bin"), 20, time_ms);
    check(include_bytes!("../golden/v1-snappy.bin"), 20, time_ms);
    check(include_bytes!("../golden/v1-lz4.bin"), 20, time_ms);
    check(include_bytes!("../golden/v1-append-time.bin"), 20, |_| FIRST_TIME_MS + 77);
    check(include_bytes!("../golden/v0-none.bin"), 10, |_| -1);
    check(include_bytes!("../golden/v0-gzip.bin"), 20, |_| -1);
    check(include_bytes!("../golden/v0-snappy.bin"), 20, |_| -1);
}

#[test]
fn every_header_field_stands_where_kafka_puts_it() {
    let header = BatchHeader::parse(include_bytes!("../golden/v2-transactional.bin")).unwrap();
    assert_eq!(header.base_offset, Offset(1000));
    assert_eq!(header.leader_epoch, LeaderEpoch(5));
    assert_eq!(header.attributes, Attributes::default().with_codec(Codec::Zstd).with_transactional(true));
    assert_eq!((header.last_offset_delta, header.record_count), (19, 20));
    assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (time_ms(0), time_ms(19)));
    assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(4711), ProducerEpoch(3)));
    assert_eq!((header.base_sequence, header.last_sequence()), (2_147_483_640, 11));
}

#[test]
fn the_builder_writes_what_kafka_writes() {
    let golden = include_bytes!("../golden/v2-none.bin");
    let options =
        BatchOptions { base_offset: Offset(1000), leader_epoch: LeaderEpoch(5), ..Default::default() };
    let mut fresh = BatchBuilder::new(options);
    let mut copy = BatchBuilder::new(options);
    let view = BatchView::only(golden).unwrap();
    let mut records = Records::new(&view, BUDGET);
    while let Some(record) = records.next_record().unwrap() {
        copy.push_copy(&record);
        let headers: Vec<_> = record.headers.collect();
        let Record { timestamp_ms, key, value, .. } = record;
        fresh.push(&NewRecord { timestamp_ms, key, value, headers: &headers });
    }
    assert_eq!(fresh.build(), golden);
    assert_eq!(copy.build(), golden);
}

#[test]
fn transaction_markers_are_kafkas() {
    let place = EndMarkerPlace {
        producer_id: ProducerId(4711),
        producer_epoch: ProducerEpoch(3),
        timestamp_ms: FIRST_TIME_MS,
        base_offset: Offset(1234),
        leader_epoch: LeaderEpoch(5),
    };
    let commit: &[u8] = include_bytes!("../golden/v2-commit.bin");
    let abort: &[u8] = include_bytes!("../golden/v2-abort.bin");
    for (end, golden) in [(TransactionEnd::Commit, commit), (TransactionEnd::Abort, abort)] {
        let marker = EndMarker { end, coordinator_epoch: 9 };
        assert_eq!(marker.batch(&place), golden);
        let view = BatchView::only(golden).unwrap();
        assert!(view.header().attributes.is_control() && view.check_crc().is_ok());
        let mut records = Records::new(&view, BUDGET);
        let record = records.next_record().unwrap().unwrap();
        assert_eq!(ControlRecord::parse(&record), Ok(ControlRecord::End(marker)));
    }
}

#[test]
fn damage_to_old_messages_is_an_error() {
    let files: [&[u8]; 4] = [
        include_bytes!("../golden/v0-none.bin"),
        include_bytes!("../golden/v1-none.bin"),
        include_bytes!("../golden/v0-gzip.bin"),
        include_bytes!("../golden/v1-lz4.bin"),
    ];
    for file in files {
        let whole = Entries::new(file).count();
        for length in 0..file.len() {
            let entries = Entries::new(&file[..length]);
            let sound = entries.clone().take_while(Result::is_ok).count();
            assert!(sound < whole, "cut at {length}");
            let ends = Entries::new(file).scan(0, |end, entry| {
                *end += entry.unwrap().bytes().len();
                Some(*end)
            });
            assert_eq!(sound, ends.filter(|&end| end <= length).count());
        }
        for bit in 0..file.len() * 8 {
            let mut damaged = file.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let entries: Result<Vec<_>, _> = Entries::new(&damaged).collect();
            let seen = entries.is_err_and(|_| true)
                || Entries::new(&damaged).any(|entry| entry.is_ok_and(|entry| entry.check_crc().is_err()));
            // Offsets lie outside the checksum; all else must be seen.
            let in_offset = Entries::new(file)
                .scan(0, |start, entry| Some((*start, *start += entry.unwrap().bytes().len()).0))
                .any(|start| (start..start + 8).contains(&(bit / 8)));
            assert!(seen || in_offset, "bit {bit}");
        }
    }
}
