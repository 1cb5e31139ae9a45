//! What the planner passes through, rebuilds, leaves out and refuses, batch by batch.

use wire::batch::{BatchBuilder, BatchOptions, BatchView, HEADER_BYTES, NewRecord};
use wire::ids::{LeaderEpoch, Offset};

use super::*;
use crate::copier::Producer;

fn batch(base: i64, values: &[&[u8]], options: BatchOptions) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: Offset(base),
        leader_epoch: LeaderEpoch(3),
        ..options
    });
    for (step, value) in values.iter().enumerate() {
        let timestamp_ms = 1_000 + step as i64;
        builder.push(&NewRecord { timestamp_ms, value: Some(value), ..NewRecord::default() });
    }
    builder.build()
}

fn plan_with(options: PlanOptions, next: i64, bytes: Vec<u8>) -> Result<Planned, PlanFault> {
    let fetched = Fetched { bytes: bytes.into(), ..Fetched::default() };
    Planner::new(SourceOffset(next), -1, Vec::new(), options).plan(&fetched, &|_| false)
}

fn plan(next: i64, bytes: Vec<u8>) -> Planned {
    plan_with(PlanOptions::default(), next, bytes).unwrap()
}

fn values(outgoing: &Outgoing) -> Vec<(i64, Vec<u8>)> {
    let producer = Producer { id: 1, epoch: 0, sequence: 0 };
    let mut bytes = outgoing.stamped(producer).unwrap().to_vec();
    bytes.extend_from_slice(&outgoing.payload);
    let view = BatchView::only(&bytes).unwrap();
    view.check_crc().unwrap();
    view.check_produced().unwrap();
    let mut records = Records::new(&view, 1 << 20);
    let mut seen = Vec::new();
    while let Some(record) = records.next_record().unwrap() {
        seen.push((record.timestamp_ms, record.value.unwrap().to_vec()));
    }
    seen
}

#[test]
fn a_whole_batch_passes_with_its_payload_untouched() {
    for codec in Codec::ALL {
        let bytes = batch(10, &[b"one", b"two"], BatchOptions { codec, ..BatchOptions::default() });
        let planned = plan(10, bytes.clone());
        let [only] = planned.batches.as_slice() else { panic!("one batch") };
        assert_eq!(only.made, Made::Passed);
        assert_eq!(only.payload, bytes[HEADER_BYTES..]);
        assert_eq!(values(only), [(1_000, b"one".to_vec()), (1_001, b"two".to_vec())]);
        assert_eq!(planned.covered_to, SourceOffset(12));
    }
}

#[test]
fn what_lies_below_the_start_is_cut_off() {
    let bytes = batch(10, &[b"one", b"two", b"three"], BatchOptions::default());
    let planned = plan(11, bytes);
    let [only] = planned.batches.as_slice() else { panic!("one batch") };
    assert_eq!(only.made, Made::Rebuilt(RebuildReason::Cut));
    assert_eq!(only.runs, [(SourceOffset(11), 2)]);
    assert_eq!(values(only), [(1_001, b"two".to_vec()), (1_002, b"three".to_vec())]);
}

#[test]
fn a_log_start_beyond_the_position_is_an_event() {
    let bytes = batch(10, &[b"one"], BatchOptions::default());
    let fetched = Fetched { bytes: bytes.into(), log_start: 10, ..Fetched::default() };
    let mut planner = Planner::new(SourceOffset(4), -1, Vec::new(), PlanOptions::default());
    let fault = planner.plan(&fetched, &|_| false).unwrap_err();
    assert_eq!(fault, PlanFault::Event(EventKind::SourceTruncated { from: 4, to: 10 }));
}

#[test]
fn an_older_leader_epoch_is_an_event() {
    let bytes = batch(10, &[b"one"], BatchOptions::default());
    let fetched = Fetched { bytes: bytes.into(), ..Fetched::default() };
    let mut planner = Planner::new(SourceOffset(10), 7, Vec::new(), PlanOptions::default());
    let fault = planner.plan(&fetched, &|_| false).unwrap_err();
    assert!(matches!(fault, PlanFault::Event(EventKind::EpochRollback { side: Side::Source, .. })));
}

#[test]
fn broker_time_survives() {
    let options = BatchOptions { append_time_ms: Some(77_000), codec: Codec::Lz4, ..BatchOptions::default() };
    let planned = plan(10, batch(10, &[b"one", b"two"], options));
    assert_eq!(planned.batches[0].made, Made::Rebuilt(RebuildReason::LogAppendTime));
    assert_eq!(values(&planned.batches[0]), [(77_000, b"one".to_vec()), (77_000, b"two".to_vec())]);
}

#[test]
fn a_batch_above_the_limit_is_split_and_one_record_above_it_is_an_event() {
    let big = [7u8; 300];
    let bytes = batch(10, &[&big, &big, &big, &big, &big], BatchOptions::default());
    let options = PlanOptions { max_batch_bytes: 800, ..PlanOptions::default() };
    let planned = plan_with(options.clone(), 10, bytes.clone()).unwrap();
    assert!(planned.batches.iter().all(|batch| batch.size_bytes() <= 800));
    let records: u64 = planned.batches.iter().flat_map(|batch| &batch.runs).map(|run| run.1).sum();
    assert_eq!((planned.batches.len(), records), (3, 5));
    let touching = planned.batches.windows(2).all(|pair| pair[0].covers.end == pair[1].covers.start);
    assert!(touching && planned.covered_to == SourceOffset(15));
    let options = PlanOptions { max_batch_bytes: 200, ..options };
    match plan_with(options, 10, bytes) {
        Err(PlanFault::Event(EventKind::Refused { reason, .. })) => {
            assert!(reason.contains("max.message.bytes"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_codec_is_written_in_another() {
    let options = PlanOptions { refused_codecs: vec![Codec::Zstd], ..PlanOptions::default() };
    let bytes = batch(10, &[b"one"], BatchOptions { codec: Codec::Zstd, ..BatchOptions::default() });
    let planned = plan_with(options, 10, bytes).unwrap();
    let only = &planned.batches[0];
    assert_eq!(only.made, Made::Rebuilt(RebuildReason::Codec));
    assert_eq!(only.header[22] & 7, Codec::Lz4.id());
    assert_eq!(values(only), [(1_000, b"one".to_vec())]);
}

#[test]
fn small_batches_are_joined_for_a_far_target() {
    let mut bytes = Vec::new();
    for base in 0..10 {
        bytes.extend(batch(base * 2, &[b"one", b"two"], BatchOptions::default()));
    }
    let options = PlanOptions { coalesce_to_bytes: Some(400), ..PlanOptions::default() };
    let planned = plan_with(options, 0, bytes).unwrap();
    assert!(planned.batches.len() < 5, "{}", planned.batches.len());
    assert_eq!(planned.batches[0].made, Made::Rebuilt(RebuildReason::Coalesced));
    assert_eq!(planned.batches.iter().map(|batch| batch.records).sum::<i32>(), 20);
}

/// CRC-32 as the old formats have it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn old_messages_become_batches() {
    let mut bytes = Vec::new();
    for offset in 5i64..8 {
        let mut body = vec![1, 0];
        body.extend_from_slice(&(9_000 + offset).to_be_bytes());
        body.extend_from_slice(&(-1i32).to_be_bytes());
        body.extend_from_slice(&3i32.to_be_bytes());
        body.extend_from_slice(b"old");
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&(4 + body.len() as i32).to_be_bytes());
        bytes.extend_from_slice(&crc32(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
    }
    let planned = plan(6, bytes);
    assert_eq!(planned.covered_to, SourceOffset(8));
    let seen: Vec<_> = planned.batches.iter().flat_map(values).collect();
    assert_eq!(seen, [(9_006, b"old".to_vec()), (9_007, b"old".to_vec())]);
    assert!(planned.batches.iter().all(|batch| batch.made == Made::Rebuilt(RebuildReason::OldMagic)));
}

#[test]
fn damage_is_an_event_and_is_never_signed_over() {
    let mut bytes = batch(10, &[b"one", b"two", b"three"], BatchOptions::default());
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let fault = plan_with(PlanOptions::default(), 11, bytes.clone()).unwrap_err();
    assert!(matches!(fault, PlanFault::Event(EventKind::CorruptSource { .. })), "a rebuilt batch: {fault:?}");
    let planned = plan(10, bytes);
    let mut passed = planned.batches[0].stamped(Producer { id: 1, epoch: 0, sequence: 0 }).unwrap().to_vec();
    passed.extend_from_slice(&planned.batches[0].payload);
    assert!(
        BatchView::only(&passed).unwrap().check_crc().is_err(),
        "a passed batch keeps its wrong checksum"
    );
}

#[test]
fn a_replay_that_the_source_no_longer_holds_is_told() {
    let bytes = batch(10, &[b"one", b"two"], BatchOptions::default());
    let fetched = Fetched { bytes: bytes.into(), ..Fetched::default() };
    let intent = BatchIntent::new(SourceOffset(10)..SourceOffset(12), 3, &[(SourceOffset(11), 1)]);
    let mut planner = Planner::new(SourceOffset(10), -1, vec![intent], PlanOptions::default());
    assert_eq!(planner.plan(&fetched, &|_| false), Err(PlanFault::ReplayDiffers));
    let intent = BatchIntent::new(SourceOffset(10)..SourceOffset(12), 3, &[(SourceOffset(10), 2)]);
    let mut planner = Planner::new(SourceOffset(10), -1, vec![intent], PlanOptions::default());
    assert_eq!(planner.plan(&fetched, &|_| false).unwrap().batches[0].made, Made::Passed);
}
