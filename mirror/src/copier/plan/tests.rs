//! What the planner passes through, rebuilds, leaves out and refuses, batch by batch.

use wire::batch::{BatchBuilder, BatchOptions, BatchView, HEADER_BYTES, NewRecord};
use wire::ids::{LeaderEpoch, Offset};

use super::*;
use crate::copier::Producer;
use crate::offset_map::{OffsetMap, Position, Provenance, Run, TargetOffset};

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

fn planner(next: i64, read: ReadTo, options: PlanOptions) -> Planner {
    Planner::new(SourceOffset(next), read, Vec::new(), options)
}

fn read_to(epoch: i32, offsets: std::ops::Range<i64>) -> ReadTo {
    ReadTo { epoch, since: SourceOffset(offsets.start), end: SourceOffset(offsets.end) }
}

fn fetched(batches: &[Vec<u8>]) -> Fetched {
    Fetched { bytes: batches.concat().into(), ..Fetched::default() }
}

fn batch_of_epoch(epoch: i32, base: i64) -> Vec<u8> {
    let mut bytes = batch(base, &[b"one", b"two"], BatchOptions::default());
    // The leader sets its epoch in what producers sent; the checksum does not cover it.
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    bytes
}

fn plan_with(options: PlanOptions, next: i64, bytes: Vec<u8>) -> Result<Planned, PlanFault> {
    let fetched = Fetched { bytes: bytes.into(), ..Fetched::default() };
    planner(next, ReadTo::NOTHING, options).plan(&fetched, &|_| false)
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
    let mut planner = planner(4, ReadTo::NOTHING, PlanOptions::default());
    let fault = planner.plan(&fetched, &|_| false).unwrap_err();
    assert_eq!(fault, PlanFault::Event(EventKind::SourceTruncated { from: 4, to: 10 }));
}

#[test]
fn an_older_leader_epoch_is_an_event() {
    // Epoch 7 was read from 6 on, and epoch 3 goes on behind it: nothing of 7 is in this log.
    let mut planner = planner(10, read_to(7, 6..10), PlanOptions::default());
    let fault = planner.plan(&fetched(&[batch_of_epoch(3, 10)]), &|_| false).unwrap_err();
    let (side, leader_epoch) = (Side::Source, 7);
    let event = EventKind::EpochRollback { side, leader_epoch, position: 10, common: 6 };
    assert_eq!(fault, PlanFault::Event(event));
    assert_eq!((planner.next(), planner.read()), (SourceOffset(10), read_to(7, 6..10)));
}

#[test]
fn epochs_that_fall_within_one_answer_are_damage() {
    let mut planner = planner(10, ReadTo::NOTHING, PlanOptions::default());
    let fault = planner.plan(&fetched(&[batch_of_epoch(5, 10), batch_of_epoch(3, 12)]), &|_| false);
    assert!(matches!(fault, Err(PlanFault::Event(EventKind::CorruptSource { .. }))), "{fault:?}");
}

#[test]
fn it_is_known_which_epoch_was_read_last_and_since_when() {
    let mut planner = planner(10, read_to(3, 4..9), PlanOptions::default());
    // Between what was copied and the start lies what was not copied: of which epoch is not known.
    assert_eq!(planner.last_read_epoch(), -1);
    planner.plan(&fetched(&[batch_of_epoch(3, 10)]), &|_| false).unwrap();
    assert_eq!((planner.read(), planner.last_read_epoch()), (read_to(3, 4..12), 3));
    planner.plan(&fetched(&[batch_of_epoch(5, 12), batch_of_epoch(5, 14)]), &|_| false).unwrap();
    assert_eq!((planner.read(), planner.last_read_epoch()), (read_to(5, 12..16), 5));
    // What is left out was read as well.
    planner.plan(&fetched(&[batch_of_epoch(6, 16)]), &|_| true).unwrap();
    assert_eq!((planner.read(), planner.last_read_epoch()), (read_to(6, 16..18), 6));
}

#[test]
fn what_is_read_again_may_be_of_older_epochs() {
    let log = [batch_of_epoch(3, 10), batch_of_epoch(5, 12)];
    let mut planner = planner(10, ReadTo::NOTHING, PlanOptions::default());
    planner.plan(&fetched(&log), &|_| false).unwrap();
    planner.rewind(SourceOffset(10));
    assert_eq!(planner.last_read_epoch(), 5, "the log must still reach that far");
    let again = planner.plan(&fetched(&log), &|_| false).unwrap();
    let epochs: Vec<i32> = again.batches.iter().map(|batch| batch.source_leader_epoch).collect();
    assert_eq!((epochs, planner.read()), (vec![3, 5], read_to(5, 12..14)));
    // Not so beyond what was read.
    planner.rewind(SourceOffset(12));
    let other = fetched(&[batch_of_epoch(3, 12), batch_of_epoch(3, 14)]);
    assert!(matches!(planner.plan(&other, &|_| false), Err(PlanFault::Event(_))));
}

#[test]
fn a_newer_leader_is_seen_in_what_was_fetched() {
    let bytes = [batch_of_epoch(3, 10), batch_of_epoch(4, 12)].concat();
    assert!(read_to(3, 0..10).goes_on_under_a_newer_leader(&bytes));
    assert!(!read_to(3, 0..10).goes_on_under_a_newer_leader(&bytes[..bytes.len() / 2]));
    assert!(!read_to(4, 0..10).goes_on_under_a_newer_leader(&bytes));
    assert!(!ReadTo::NOTHING.goes_on_under_a_newer_leader(&bytes), "there is nothing to lose yet");
}

#[test]
fn a_map_tells_which_epoch_was_copied_last_and_since_when() {
    let start = Position { source: SourceOffset(5), target: TargetOffset(0) };
    let under = |source_leader_epoch| Provenance { source_leader_epoch, ..Provenance::default() };
    let mut map = OffsetMap::new(start, under(-1));
    let mut copy = |epoch, source, target| {
        let run = Run { source: SourceOffset(source), target: TargetOffset(target), length: 10 };
        map.record(run, under(epoch)).unwrap();
    };
    copy(2, 10, 0);
    copy(4, 20, 10);
    copy(4, 40, 20);
    // Nothing was copied of what the position has passed since, and a new owner has copied nothing yet.
    map.advance(SourceOffset(60));
    map.begin_generation(Provenance { generation: 2, ..under(4) });
    assert_eq!(ReadTo::copied(&map, 4), read_to(4, 20..50));
    assert_eq!(ReadTo::copied(&map, -1), ReadTo::NOTHING);
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
    let replay =
        |intent| Planner::new(SourceOffset(10), ReadTo::NOTHING, vec![intent], PlanOptions::default());
    assert_eq!(replay(intent).plan(&fetched, &|_| false), Err(PlanFault::ReplayDiffers));
    let intent =
        |epoch| BatchIntent::new(SourceOffset(10)..SourceOffset(12), epoch, &[(SourceOffset(10), 2)]);
    assert_eq!(replay(intent(3)).plan(&fetched, &|_| false).unwrap().batches[0].made, Made::Passed);
    // The same offsets, but another leader wrote them.
    assert_eq!(replay(intent(2)).plan(&fetched, &|_| false), Err(PlanFault::ReplayDiffers));
}
