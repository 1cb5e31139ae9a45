//! What a client may append.

use crate::batch::*;
use crate::compress::Codec;
use crate::ids::{Offset, ProducerId};

const NOW_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

const RULES: RecordRules = RecordRules {
    now_ms: NOW_MS,
    timestamp_before_max_ms: 24 * HOUR_MS,
    timestamp_after_max_ms: HOUR_MS,
    timestamp_type: TimestampType::CreateTime,
    compacted: false,
    budget_bytes: 1 << 20,
};

fn batch(options: BatchOptions, times_ms: &[i64]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for (index, &timestamp_ms) in times_ms.iter().enumerate() {
        let key = (index != 1).then_some(b"key".as_slice());
        builder.push(&NewRecord { timestamp_ms, key, value: Some(b"value"), headers: &[] });
    }
    builder.build()
}

fn compressed() -> BatchOptions {
    BatchOptions { codec: Codec::Lz4, ..Default::default() }
}

fn check(bytes: &[u8], rules: &RecordRules) -> Result<CheckedRecords, CheckRecordsError> {
    check_records(&BatchView::only(bytes).unwrap(), rules)
}

fn rejections(result: Result<CheckedRecords, CheckRecordsError>) -> Vec<(i32, RecordRejection)> {
    let Err(CheckRecordsError::Rejected { rejected, total }) = result else {
        panic!("not refused: {result:?}")
    };
    assert_eq!(rejected.len(), total);
    rejected.into_iter().map(|record| (record.index, record.rejection)).collect()
}

#[test]
fn a_sound_batch_needs_no_patch() {
    for options in [BatchOptions::default(), compressed()] {
        let checked = check(&batch(options, &[NOW_MS, NOW_MS - 5, -1]), &RULES).unwrap();
        assert_eq!(checked, CheckedRecords { patch: HeaderPatch::default(), sequential: true });
    }
}

#[test]
fn times_out_of_range_are_refused_one_by_one() {
    let result =
        check(&batch(compressed(), &[NOW_MS, NOW_MS + HOUR_MS + 1, NOW_MS - 24 * HOUR_MS - 1]), &RULES);
    assert!(result.as_ref().unwrap_err().is_timestamp());
    let (earliest_ms, latest_ms) = (NOW_MS - 24 * HOUR_MS, NOW_MS + HOUR_MS);
    let out = |timestamp_ms| RecordRejection::Timestamp { timestamp_ms, earliest_ms, latest_ms };
    assert_eq!(rejections(result), [(1, out(latest_ms + 1)), (2, out(earliest_ms - 1))]);
    for extreme in [i64::MIN, i64::MAX, -2] {
        assert_eq!(rejections(check(&batch(compressed(), &[extreme]), &RULES)), [(0, out(extreme))]);
    }
    let unlimited =
        RecordRules { timestamp_before_max_ms: i64::MAX, timestamp_after_max_ms: i64::MAX, ..RULES };
    check(&batch(compressed(), &[0, i64::MAX]), &unlimited).unwrap();
}

#[test]
fn compacted_topics_need_keys() {
    let result = check(&batch(compressed(), &[NOW_MS; 3]), &RecordRules { compacted: true, ..RULES });
    assert!(!result.as_ref().unwrap_err().is_timestamp());
    assert_eq!(rejections(result), [(1, RecordRejection::NoKey)]);
}

#[test]
fn described_records_are_bounded() {
    let Err(CheckRecordsError::Rejected { rejected, total }) = check(&batch(compressed(), &[0; 500]), &RULES)
    else {
        panic!("not refused")
    };
    assert_eq!((rejected.len(), total), (RECORD_ERRORS_MAX, 500));
}

#[test]
fn append_time_is_the_brokers_to_set() {
    let rules = RecordRules { timestamp_type: TimestampType::LogAppendTime, ..RULES };
    let checked = check(&batch(compressed(), &[0, 5]), &rules).unwrap();
    let attributes =
        Attributes::default().with_codec(Codec::Lz4).with_timestamp_type(TimestampType::LogAppendTime);
    let patch = HeaderPatch { attributes: Some(attributes), max_timestamp_ms: Some(NOW_MS), producer: None };
    assert_eq!(checked.patch, patch);
    let set_by_client = batch(BatchOptions { append_time_ms: Some(NOW_MS), ..compressed() }, &[0]);
    assert_eq!(rejections(check(&set_by_client, &rules)), [(0, RecordRejection::TimestampType)]);
    // On a topic of create times Kafka clears the bit, as long as the time is within bounds.
    let attributes = Attributes::default().with_codec(Codec::Lz4);
    assert_eq!(check(&set_by_client, &RULES).unwrap().patch.attributes, Some(attributes));
}

#[test]
fn a_wrong_greatest_time_is_corrected() {
    let mut bytes = batch(compressed(), &[NOW_MS - 9, NOW_MS - 7]);
    let lie = HeaderPatch { max_timestamp_ms: Some(NOW_MS), ..Default::default() };
    lie.apply(bytes.first_chunk_mut().unwrap()).unwrap();
    assert_eq!(check(&bytes, &RULES).unwrap().patch.max_timestamp_ms, Some(NOW_MS - 7));
}

#[test]
fn counts_that_lie_are_found() {
    let bytes = batch(compressed(), &[NOW_MS; 3]);
    for count in [2i32, 4] {
        let mut lie = bytes.clone();
        lie[57..61].copy_from_slice(&count.to_be_bytes());
        lie[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        assert!(matches!(check(&lie, &RULES), Err(CheckRecordsError::Malformed(_))), "{count}");
    }
}

#[test]
fn inner_offsets_with_holes_are_told() {
    let mut plain = batch(BatchOptions::default(), &[0, 0]);
    // The second record's offset delta: after the first record of 15 bytes, a length, attributes and a time delta.
    let first_bytes = usize::from(plain[HEADER_BYTES] >> 1) + 1;
    let delta_at = HEADER_BYTES + first_bytes + 3;
    assert_eq!(plain[delta_at], 2);
    plain[delta_at] = 4;
    let rules = RecordRules { timestamp_before_max_ms: i64::MAX, ..RULES };
    assert!(!check(&plain, &rules).unwrap().sequential);
}

fn refusal(options: BatchOptions, change: impl FnOnce(&mut BatchHeader)) -> AppendFault {
    let bytes = batch(options, &[0, 0]);
    let mut header = BatchHeader::parse(&bytes).unwrap();
    change(&mut header);
    let bytes = [header.encode().as_slice(), &bytes[HEADER_BYTES..]].concat();
    BatchView::only(&bytes).unwrap().check_produced().unwrap_err()
}

#[test]
fn headers_that_no_client_may_send_are_named() {
    let plain = BatchOptions::default();
    BatchView::only(&batch(plain, &[0])).unwrap().check_produced().unwrap();
    assert_eq!(
        refusal(BatchOptions { base_offset: Offset(777), ..plain }, |_| ()),
        AppendFault::BaseOffset { base_offset: 777 },
    );
    assert_eq!(
        refusal(plain, |header| header.record_count = 1),
        AppendFault::Count { record_count: 1, offsets: 2 }
    );
    assert_eq!(
        refusal(plain, |header| header.record_count = 0),
        AppendFault::Count { record_count: 0, offsets: 2 }
    );
    assert_eq!(refusal(BatchOptions { control: true, ..plain }, |_| ()), AppendFault::Control);
    assert_eq!(refusal(BatchOptions { transactional: true, ..plain }, |_| ()), AppendFault::Transactional);
    assert_eq!(
        refusal(plain, |header| header.producer_id = ProducerId(7)),
        AppendFault::Sequence { producer_id: 7, base_sequence: -1 },
    );
}
