//! A store that is dead, denies or hangs: named, waited for, and used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use super::running::{all_released, archived, assert_sound, engine, eventually, fetch, read_all, topic};
use crate::engine::{Engine, TierState};
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore, Operation, Right};
use crate::test_support::{MemoryLog, PARTITION, POLICY, SMALL, TOPIC, options, seams, segments};
use crate::tier::{OpenTierError, ReadError};

#[tokio::test]
async fn a_dead_store_stops_nothing_local_and_is_shown_by_age() {
    let dead = Arc::new(AtomicBool::new(false));
    let (memory, is_dead) = (MemoryStore::default(), dead.clone());
    let store =
        FaultyStore::new(Arc::new(memory.clone()), move |_, _, _| match is_dead.load(Ordering::Relaxed) {
            true => Fault::FailBefore,
            false => Fault::None,
        });
    let (seams, clock) = seams(1);
    let engine = Engine::start(options(), Arc::new(store), seams).await.unwrap();
    engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
    let log = MemoryLog::new(segments(2, SMALL));
    archived(&engine, &log, "archiving").await;
    dead.store(true, Ordering::Relaxed);
    *log.segments.lock().unwrap() = segments(4, SMALL);
    crate::timers::sleep(Duration::from_secs(60)).await;
    clock.0.fetch_add(3_600_000, Ordering::Relaxed);
    crate::timers::sleep(Duration::from_secs(300)).await;
    let status = engine.status().partitions.remove(0);
    assert_eq!(status.copy_lag_segments, 2);
    assert!(status.oldest_unprotected_age_ms >= 3_600_000, "{status:?}");
    assert!(status.trouble.is_some());
    assert!(!all_released(&log), "nothing local is given up for a store that does not answer");
    dead.store(false, Ordering::Relaxed);
    eventually("catching up", || all_released(&log)).await;
    assert_eq!(read_all(&engine, 0, 1 << 20).await, log.bytes());
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_named_and_used_again_when_it_is_back() {
    for taken in [Right::Write, Right::Read] {
        let memory = MemoryStore::default();
        let missing = Arc::new(AtomicBool::new(false));
        let denies = missing.clone();
        let store = FaultyStore::new(Arc::new(memory.clone()), move |_, operation, _| {
            let denied = operation.right() == taken && denies.load(Ordering::Relaxed);
            if denied { Fault::Deny } else { Fault::None }
        });
        let engine = engine(Arc::new(store), 1).await;
        let log = MemoryLog::new(segments(2, SMALL));
        archived(&engine, &log, "archiving").await;

        missing.store(true, Ordering::Relaxed);
        *log.segments.lock().unwrap() = segments(4, SMALL);
        let says = format!("the right to {taken}");
        let trouble = || engine.status().partitions.remove(0).trouble.unwrap_or_default();
        eventually(&says, || trouble().contains(&says)).await;
        let failing = || engine.store_failures().iter().map(|failure| failure.right).collect::<Vec<_>>();
        assert_eq!(failing(), [taken]);
        let read = fetch(&engine, 0, 1 << 20).await;
        match taken {
            Right::Read => {
                assert!(matches!(&read, Err(ReadError::Denied { detail }) if detail.contains(&says)))
            }
            _ => assert!(!read.unwrap().batches.is_empty(), "what is there is still served"),
        }
        crate::timers::sleep(Duration::from_secs(120)).await;
        assert!(!all_released(&log), "nothing local is given up");
        let objects = memory.keys().iter().filter(|key| key.ends_with(".seg")).count();
        assert!(objects <= 5, "{objects} objects for four segments: one more at every try");

        missing.store(false, Ordering::Relaxed);
        eventually("catching up", || all_released(&log)).await;
        assert!(failing().is_empty(), "{:?}", failing());
        assert_eq!(read_all(&engine, 0, 1 << 20).await, log.bytes());
        assert_sound(&engine, &memory);
    }
}

/// A store that gives out what it has and takes no segment.
fn takes_no_segments(memory: MemoryStore) -> Arc<FaultyStore> {
    Arc::new(FaultyStore::new(Arc::new(memory), |_, operation, key| {
        let is_upload = operation == Operation::Put && key.ends_with(".seg");
        if is_upload { Fault::FailBefore } else { Fault::None }
    }))
}

#[tokio::test]
async fn local_copies_go_while_nothing_can_be_sent() {
    let memory = MemoryStore::default();
    let first = engine(Arc::new(memory.clone()), 1).await;
    archived(&first, &MemoryLog::new(segments(30, SMALL)), "archiving").await;
    first.close().await;
    let engine = engine(takes_no_segments(memory), 2).await;
    let log = MemoryLog::new(segments(31, SMALL));
    engine.attach(PARTITION, POLICY, log.clone());
    eventually("letting go of the copies", || log.released.load(Ordering::Relaxed) == 600).await;
    let failed = engine.metrics.read().remote_copy_errors;
    assert!(failed < 20, "{failed} tries of the next segment for thirty copies: one goes at each");
}

#[tokio::test]
async fn segments_that_wait_for_the_store_are_not_held_open() {
    let engine = engine(takes_no_segments(MemoryStore::default()), 1).await;
    let log = MemoryLog::new(segments(40, SMALL));
    engine.attach(PARTITION, POLICY, log.clone());
    eventually("some tries", || engine.metrics.read().remote_copy_errors >= 3).await;
    assert_eq!(engine.status().partitions[0].copy_lag_segments, 40);
    let opened = log.opened.load(Ordering::Relaxed) as u64;
    let tried = engine.metrics.read().remote_copy_requests;
    assert!(opened <= tried + 1, "{opened} segments opened to try one {tried} times");
}

#[tokio::test]
async fn a_store_that_denies_at_first_is_used_once_it_allows() {
    let missing = Arc::new(AtomicBool::new(true));
    let (calls, denies) = (AtomicI64::new(0), missing.clone());
    let memory = MemoryStore::default();
    let store =
        FaultyStore::new(Arc::new(memory), move |_, _, _| match calls.fetch_add(1, Ordering::Relaxed) < 30 {
            true => Fault::FailBefore,
            false if denies.load(Ordering::Relaxed) => Fault::Deny,
            false => Fault::None,
        });
    let engine = engine(Arc::new(store), 1).await;
    let says = |wanted: &str| match engine.status().state {
        TierState::Connecting { last_error } => last_error.contains(wanted),
        _ => false,
    };
    eventually("the missing right is named", || says("s3:PutObject")).await;
    missing.store(false, Ordering::Relaxed);
    let log = MemoryLog::new(segments(2, SMALL));
    archived(&engine, &log, "archiving after the rights came").await;
    assert_eq!(engine.status().state, TierState::Ready);
}

#[tokio::test]
async fn a_start_without_the_store_connects_later_unless_the_folder_is_new() {
    let calls = Arc::new(AtomicI64::new(0));
    let memory = MemoryStore::default();
    let store = || {
        let calls = calls.clone();
        Arc::new(FaultyStore::new(Arc::new(memory.clone()), move |_, _, _| {
            if calls.fetch_add(1, Ordering::Relaxed) < 30 { Fault::FailBefore } else { Fault::None }
        }))
    };
    let mut fresh = options();
    fresh.identity.fresh = true;
    let refused = Engine::start(fresh, store(), seams(1).0).await.unwrap_err();
    assert!(matches!(refused, OpenTierError::Unavailable { .. }), "{refused}");
    let engine = engine(store(), 2).await;
    assert!(matches!(engine.status().state, TierState::Connecting { .. }));
    let log = MemoryLog::new(segments(2, SMALL));
    archived(&engine, &log, "archiving after the store came").await;
    assert_eq!(engine.status().state, TierState::Ready);
}

#[tokio::test]
async fn an_upload_that_hangs_is_abandoned_and_tried_again() {
    let hung = AtomicBool::new(false);
    let memory = MemoryStore::default();
    let store = FaultyStore::new(Arc::new(memory.clone()), move |_, operation, key| {
        let first =
            operation == Operation::Put && key.ends_with(".seg") && !hung.swap(true, Ordering::Relaxed);
        if first { Fault::Hang } else { Fault::None }
    });
    let engine = engine(Arc::new(store), 1).await;
    let log = MemoryLog::new(segments(2, SMALL));
    archived(&engine, &log, "archiving").await;
    assert_eq!(read_all(&engine, 0, 1 << 20).await, log.bytes());
}
