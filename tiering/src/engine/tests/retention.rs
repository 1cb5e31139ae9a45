//! Retention over the whole engine: the start moves first, deletes wait for the grace, an alarm stays until it is resolved.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wire::ids::Offset;

use super::running::{
    all_released, archived, assert_sound, engine, eventually, fetch, manifest, read_all, topic,
};
use crate::engine::Engine;
use crate::local::LocalLog as _;
use crate::retention::RetentionAlarm;
use crate::store::memory::MemoryStore;
use crate::test_support::{MemoryLog, PARTITION, POLICY, SMALL, TOPIC, batch_ends, options, seams, segments};
use crate::tier::{PartitionPolicy, ReadError};

#[tokio::test]
async fn retention_moves_the_start_first_and_deletes_after_the_grace() {
    let memory = MemoryStore::default();
    let (seams, clock) = seams(1);
    let engine = Engine::start(options(), Arc::new(memory.clone()), seams).await.unwrap();
    engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
    let log = MemoryLog::new(segments(40, SMALL));
    archived(&engine, &log, "archiving").await;
    let objects = || memory.keys().iter().filter(|key| key.ends_with(".seg")).count();
    assert_eq!(objects(), 40);
    // DeleteRecords in the middle of a segment: the manifest follows, the segment stays.
    log.log_start.store(27, Ordering::Relaxed);
    eventually("following", || manifest(&engine).start_offset == Offset(27)).await;
    assert!(matches!(fetch(&engine, 26, 1).await, Err(ReadError::OutOfRange { .. })));
    assert_eq!(fetch(&engine, 27, 1).await.unwrap().next_offset, Offset(30));
    // By age: record times are offsets in seconds, and now is 1,000 s.
    let policy = PartitionPolicy { retention_ms: Some(600_000), ..POLICY };
    engine.partition(PARTITION).unwrap().set_policy(policy);
    eventually("the start", || manifest(&engine).start_offset == Offset(400)).await;
    assert_eq!(log.log_start.load(Ordering::Relaxed), 400, "the hot log's start moved before");
    let dead_segments = || manifest(&engine).dead.iter().filter(|dead| dead.leader_epoch.is_some()).count();
    eventually("the marks", || dead_segments() == 20).await;
    assert_eq!(objects(), 40, "nothing is deleted within the grace");
    // Time goes on; the limit goes with it, so that nothing more is due.
    engine
        .partition(PARTITION)
        .unwrap()
        .set_policy(PartitionPolicy { retention_ms: Some(1_000_000), ..POLICY });
    clock.0.fetch_add(400_000, Ordering::Relaxed);
    eventually("the deletes", || objects() == 20).await;
    eventually("the end of the list", || manifest(&engine).dead.is_empty()).await;
    assert_sound(&engine, &memory);
    let expected = &log.bytes()[batch_ends(&log.bytes()).iter().find(|(_, next)| *next == 400).unwrap().0..];
    assert_eq!(read_all(&engine, 400, 1 << 20).await, expected);
    // What is left outlives a restart.
    engine.close().await;
    let again = super::running::engine(Arc::new(memory.clone()), 9).await;
    archived(&again, &log, "a restart").await;
    eventually("loading", || again.partition(PARTITION).unwrap().source.view.get().is_some()).await;
    assert_eq!(read_all(&again, 400, 1 << 20).await, expected);
}

/// DeleteRecords beyond what is archived, as stream processors do with what they have read.
#[tokio::test]
async fn a_start_within_a_segment_that_is_not_archived_holds_nothing_up() {
    let engine = engine(Arc::new(MemoryStore::default()), 1).await;
    let log = MemoryLog::new(segments(12, SMALL));
    log.log_start.store(47, Ordering::Relaxed);
    archived(&engine, &log, "archiving").await;
    eventually("following", || manifest(&engine).start_offset == Offset(47)).await;
    let bases: Vec<_> = manifest(&engine).segments.iter().map(|row| row.base_offset.0).collect();
    assert_eq!(bases, (40..240).step_by(20).collect::<Vec<_>>());
    assert_eq!(engine.status().partitions[0].trouble, None);
    assert_eq!(fetch(&engine, 47, 1).await.unwrap().next_offset, Offset(50));
    assert!(matches!(fetch(&engine, 46, 1).await, Err(ReadError::OutOfRange { .. })));
}

#[tokio::test]
async fn a_retention_alarm_stays_until_it_is_resolved_and_is_no_trouble_of_archiving() {
    let engine = engine(Arc::new(MemoryStore::default()), 1).await;
    let log = MemoryLog::new(segments(12, SMALL));
    // Record times are offsets in seconds, and now is 1,000 s: ten of twelve segments are due at once.
    let policy = PartitionPolicy { retention_ms: Some(800_000), ..POLICY };
    engine.attach(PARTITION, policy, log.clone());
    let alarmed = || matches!(engine.retention_alarms()[..], [(_, RetentionAlarm::Share { .. })]);
    eventually("the alarm", alarmed).await;
    // Neither time nor a change of something else lifts it.
    engine.partition(PARTITION).unwrap().set_policy(PartitionPolicy { archive: false, ..policy });
    for _ in 0..1_000 {
        crate::timers::sleep(Duration::from_millis(100)).await;
        assert!(alarmed(), "{:?}", engine.retention_alarms());
    }
    assert_eq!(log.log_start.load(Ordering::Relaxed), 0);
    assert_eq!(engine.status().partitions[0].trouble, None);
    assert_eq!(engine.metrics.read().remote_copy_errors, 0);
    let changed = PartitionPolicy { retention_ms: Some(800_001), ..policy };
    engine.partition(PARTITION).unwrap().set_policy(changed);
    eventually("the start", || log.log_start.load(Ordering::Relaxed) == 200).await;
    eventually("the end of the alarm", || engine.retention_alarms().is_empty()).await;
}

#[tokio::test]
async fn a_clock_that_stepped_deletes_nothing_until_it_is_back_or_confirmed() {
    const STEP_MS: i64 = 40_000_000;
    let (seams, clock) = seams(1);
    let engine = Engine::start(options(), Arc::new(MemoryStore::default()), seams).await.unwrap();
    engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
    let log = MemoryLog::new(segments(6, SMALL));
    let policy = PartitionPolicy { retention_ms: Some(2_000_000), ..POLICY };
    engine.attach(PARTITION, policy, log.clone());
    eventually("archiving", || all_released(&log)).await;
    let alarmed = || matches!(engine.retention_alarms()[..], [(_, RetentionAlarm::Clock { .. })]);
    for _ in 0..2 {
        clock.0.fetch_add(STEP_MS, Ordering::Relaxed);
        eventually("the alarm", alarmed).await;
        // Several passes with a clock that is steady again, where it does not belong.
        crate::timers::sleep(Duration::from_secs(150)).await;
        assert!(alarmed(), "{:?}", engine.retention_alarms());
        assert_eq!(log.log_start.load(Ordering::Relaxed), 0, "a step deletes nothing");
        clock.0.fetch_sub(STEP_MS, Ordering::Relaxed);
        eventually("the end of the alarm", || engine.retention_alarms().is_empty()).await;
    }
    clock.0.fetch_add(STEP_MS, Ordering::Relaxed);
    eventually("the alarm", alarmed).await;
    let changed = PartitionPolicy { retention_ms: Some(2_000_001), ..policy };
    engine.partition(PARTITION).unwrap().set_policy(changed);
    eventually("the start", || log.log_start.load(Ordering::Relaxed) == log.log_end().0).await;
    assert!(engine.retention_alarms().is_empty());
}
