//! What is archived, and what not yet or not again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wire::ids::Offset;

use super::running::{all_released, archived, engine, eventually, manifest, read_all, topic};
use crate::engine::Engine;
use crate::manifest::{Gap, GapReason};
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore, Operation};
use crate::test_support::{MemoryLog, PARTITION, POLICY, SMALL, Shape, TOPIC, options, seams, segments};

#[tokio::test]
async fn an_object_that_is_there_already_is_adopted() {
    let memory = MemoryStore::default();
    let fail_records = |_: u64, operation: Operation, key: &str| match operation {
        Operation::Put if key.contains("manifest/records") => Fault::FailBefore,
        _ => Fault::None,
    };
    let log = MemoryLog::new(segments(1, SMALL));
    let old = engine(Arc::new(FaultyStore::new(Arc::new(memory.clone()), fail_records)), 1).await;
    old.attach(PARTITION, POLICY, log.clone());
    let objects = || memory.keys().into_iter().filter(|key| key.ends_with(".seg")).collect::<Vec<_>>();
    eventually("the upload", || !objects().is_empty()).await;
    old.close().await;
    let orphans = objects();
    let new = engine(Arc::new(memory.clone()), 2).await;
    archived(&new, &log, "archiving").await;
    assert_eq!(objects(), orphans, "the same bytes were sent again");
    assert_eq!(read_all(&new, 0, 1 << 20).await, log.bytes());
}

/// The list of local segments lets the one before a hole reach up to the one behind it.
#[tokio::test]
async fn a_hole_between_two_segments_is_declared_and_jumped() {
    let mut made = segments(2, SMALL);
    made.extend(segments(2, Shape { base_offset: 100, ..SMALL }));
    let log = MemoryLog::new(made);
    let engine = engine(Arc::new(MemoryStore::default()), 1).await;
    archived(&engine, &log, "archiving").await;
    let gap = Gap { from: Offset(40), to: Offset(100), reason: GapReason::NotArchived };
    assert_eq!(manifest(&engine).gaps, [gap]);
    assert_eq!(manifest(&engine).segments.len(), 4);
    let lag = || {
        let status = engine.status().partitions.remove(0);
        (status.copy_lag_segments, status.copy_lag_bytes)
    };
    // It is counted at the next look.
    eventually("no lag", || lag() == (0, 0)).await;
}

#[tokio::test]
async fn a_segment_that_is_listed_and_not_handed_out_is_named() {
    let mut made = segments(3, SMALL);
    // By its own account there is nothing in it.
    made[1].next_offset = made[1].base_offset;
    let log = MemoryLog::new(made);
    let engine = engine(Arc::new(MemoryStore::default()), 1).await;
    engine.attach(PARTITION, POLICY, log.clone());
    let trouble = || engine.status().partitions.remove(0).trouble.unwrap_or_default();
    eventually("the trouble", || trouble().contains("hands out none before segment 40")).await;
    // Once the log begins behind it, nobody may ask for it any more.
    log.log_start.store(40, Ordering::Relaxed);
    eventually("going on", || all_released(&log) && trouble().is_empty()).await;
}

#[tokio::test]
async fn what_was_deleted_is_not_waited_for_as_unprotected() {
    let (seams, clock) = seams(1);
    let engine = Engine::start(options(), Arc::new(MemoryStore::default()), seams).await.unwrap();
    engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
    // Records in the active segment alone, all of them deleted.
    let log = MemoryLog::new(Vec::new());
    log.log_start.store(60, Ordering::Relaxed);
    engine.attach(PARTITION, POLICY, log);
    eventually("a look", || engine.status().partitions[0].end_offset == 0).await;
    crate::timers::sleep(Duration::from_secs(10)).await;
    clock.0.fetch_add(3_600_000, Ordering::Relaxed);
    crate::timers::sleep(Duration::from_secs(10)).await;
    let status = engine.status().partitions.remove(0);
    assert_eq!((status.oldest_unprotected_age_ms, status.copy_lag_bytes), (0, 0), "{status:?}");
}

#[tokio::test]
async fn nothing_beyond_the_last_stable_offset_and_no_unknown_topic_is_archived() {
    let memory = MemoryStore::default();
    let engine = Engine::start(options(), Arc::new(memory.clone()), seams(1).0).await.unwrap();
    let log = MemoryLog::new(segments(3, SMALL));
    log.stable.store(25, Ordering::Relaxed);
    engine.attach(PARTITION, POLICY, log.clone());
    crate::timers::sleep(Duration::from_secs(30)).await;
    assert_eq!(log.released.load(Ordering::Relaxed), 0, "the cluster manifest does not name the topic yet");
    engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
    crate::timers::sleep(Duration::from_secs(30)).await;
    assert_eq!(log.released.load(Ordering::Relaxed), 20);
    log.stable.store(-1, Ordering::Relaxed);
    eventually("archiving", || all_released(&log)).await;
}
