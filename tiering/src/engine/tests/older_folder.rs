//! A data folder that is older than its store, one that went on as such, and one that is given another store: nothing is
//! let go of, declared missing or sent, and the log takes no records where the store has some.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::running::{all_released, archived, engine, eventually, fetch, manifest, read_all, topic};
use crate::engine::{Engine, TierState};
use crate::recover::recover_from;
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore, Store};
use crate::test_support::{
    MemoryLog, PARTITION, POLICY, SMALL, Shape, TOPIC, TestSegment, log, options, seams, segment, segments,
};
use crate::tier::{OpenTierError, PartitionPolicy, TierOptions};

/// A store with what a log of six segments had.
async fn store_of_six() -> MemoryStore {
    let memory = MemoryStore::default();
    let first = engine(Arc::new(memory.clone()), 1).await;
    archived(&first, &MemoryLog::new(segments(6, PLAIN)), "archiving").await;
    first.close().await;
    memory
}

/// Records of random bytes: of the same sizes whatever the seed.
const PLAIN: Shape = Shape { compressible: false, ..SMALL };

/// The key of what the store has of a segment.
fn object_of(engine: &Engine, index: usize) -> String {
    let row = manifest(engine).segments[index];
    crate::keys::segment(&log(), row.base_offset, row.leader_epoch, row.attempt).to_string()
}

fn said(log: &MemoryLog) -> Option<String> {
    log.disagreement.lock().unwrap().clone()
}

fn trouble(engine: &Engine) -> String {
    engine.status().partitions.remove(0).trouble.unwrap_or_default()
}

/// Damages a copy, or mends one that was.
fn damage(log: &MemoryLog, index: usize) {
    let mut segments = log.segments.lock().unwrap();
    let mut bytes = segments[index].bytes.to_vec();
    bytes[200] ^= 1;
    segments[index].bytes = bytes.into();
}

/// The first three segments as they were, and others behind them.
fn gone_on(count: usize, shape: Shape) -> Vec<TestSegment> {
    let mut log = segments(3, PLAIN);
    let base_offset = log[2].next_offset.0;
    log.extend(segments(count, Shape { base_offset, ..shape }));
    log
}

#[tokio::test]
async fn a_log_that_is_older_than_its_store_takes_no_records_and_lets_go_of_none() {
    let memory = store_of_six().await;
    let older = MemoryLog::new(segments(3, PLAIN));
    let engine = engine(Arc::new(memory), 2).await;
    engine.attach(PARTITION, POLICY, older.clone());
    // Known before a broker would serve its first client.
    engine.first_looks().await;
    assert!(said(&older).is_some_and(|why| why.contains("older than the store")), "{:?}", said(&older));
    crate::timers::sleep(Duration::from_secs(120)).await;
    assert_eq!(older.released.load(Ordering::Relaxed), 0);
    assert!(trouble(&engine).contains("up to 120, the local log ends at 60"), "{}", trouble(&engine));
    // The newer folder comes back: all is well again.
    *older.segments.lock().unwrap() = segments(7, PLAIN);
    eventually("going on", || all_released(&older)).await;
    assert_eq!(said(&older), None);
    assert_eq!(read_all(&engine, 0, 1 << 20).await, older.bytes());
}

#[tokio::test]
async fn a_log_that_went_on_from_an_older_copy_keeps_what_only_it_has() {
    let cases = [
        ("another size", Shape { value_bytes: 90, seed: 50, ..PLAIN }, 8),
        ("another epoch", Shape { epoch: 2, seed: 50, ..PLAIN }, 8),
        ("other borders", Shape { batches: 7, seed: 50, ..PLAIN }, 5),
        ("other bytes of the same size", Shape { seed: 50, ..PLAIN }, 8),
        ("other bytes, up to where the store ends", Shape { seed: 50, ..PLAIN }, 3),
    ];
    for (what, shape, count) in cases {
        let memory = store_of_six().await;
        let before = memory.keys().iter().filter(|key| key.ends_with(".seg")).count();
        let log = MemoryLog::new(gone_on(count, shape));
        let engine = engine(Arc::new(memory.clone()), 2).await;
        engine.attach(PARTITION, POLICY, log.clone());
        let told = || said(&log).is_some_and(|why| why.contains("went on by itself"));
        eventually(what, told).await;
        crate::timers::sleep(Duration::from_secs(120)).await;
        assert!(told(), "{what}");
        assert_eq!(log.released.load(Ordering::Relaxed), 0, "{what}");
        assert_eq!(manifest(&engine).end_offset().0, 120, "{what}: the store is as it was");
        assert_eq!(memory.keys().iter().filter(|key| key.ends_with(".seg")).count(), before, "{what}");
        assert!(trouble(&engine).contains("from offset 60 on"), "{what}: {}", trouble(&engine));
        engine.close().await;
    }
}

#[tokio::test]
async fn what_an_earlier_start_sent_is_let_go_of_once_it_was_read_again() {
    let memory = store_of_six().await;
    let log = MemoryLog::new(segments(6, PLAIN));
    let engine = engine(Arc::new(memory.clone()), 2).await;
    archived(&engine, &log, "a restart").await;
    assert_eq!(said(&log), None);
    // The newest was read first; the others go one by one, each before the next is read.
    assert_eq!(*log.releases.lock().unwrap(), [0, 20, 40, 60, 80, 120]);
    // A copy that is damaged is not what the store has, and no other history either. It stays as long as the object is gone.
    let key = object_of(&engine, 4);
    let object = memory.with(|objects| objects.remove(&key)).unwrap();
    let damaged = MemoryLog::new(segments(7, PLAIN));
    damage(&damaged, 4);
    let again = super::running::engine(Arc::new(memory.clone()), 3).await;
    again.attach(PARTITION, POLICY, damaged.clone());
    eventually("archiving", || manifest_end(&again) == Some(140)).await;
    assert_eq!(said(&damaged), None);
    let released = || damaged.released.load(Ordering::Relaxed);
    eventually("what is before the damage goes", || released() == 80).await;
    eventually("the note", || trouble(&again).contains("local copy of segment 80 is damaged")).await;
    crate::timers::sleep(Duration::from_secs(60)).await;
    assert_eq!(released(), 80, "what is behind it stays");
    eventually("the object's note", || manifest(&again).segments[4].quarantined).await;
    // The object is put back. Since the newest copy is the store's, so is this one's history, and it can be done without.
    memory.with(|objects| objects.insert(key.clone(), object.clone()));
    eventually("the rest", || all_released(&damaged)).await;
    assert_eq!(said(&damaged), None);
    eventually("no note", || trouble(&again).is_empty()).await;
}

#[tokio::test]
async fn a_copy_that_cannot_be_opened_stops_neither_archiving_nor_retention() {
    let memory = store_of_six().await;
    let log = MemoryLog::new(segments(7, PLAIN));
    log.unreadable.store(20, Ordering::Relaxed);
    let engine = engine(Arc::new(memory), 2).await;
    // One segment is too many.
    let segment_bytes = log.segments.lock().unwrap()[0].bytes.len() as u64;
    let policy = PartitionPolicy { retention_bytes: Some(6 * segment_bytes), ..POLICY };
    engine.attach(PARTITION, policy, log.clone());
    eventually("archiving", || manifest_end(&engine) == Some(140)).await;
    eventually("the note", || trouble(&engine).contains("local copies from offset 20 on stay")).await;
    eventually("retention", || manifest(&engine).start_offset.0 == 20).await;
    assert_eq!(said(&log), None);
    log.unreadable.store(-1, Ordering::Relaxed);
    eventually("the rest", || all_released(&log)).await;
    eventually("no note", || trouble(&engine).is_empty()).await;
}

#[tokio::test]
async fn a_newest_copy_that_cannot_be_opened_stops_no_archiving() {
    let memory = store_of_six().await;
    let log = MemoryLog::new(segments(7, PLAIN));
    log.unreadable.store(100, Ordering::Relaxed);
    let engine = engine(Arc::new(memory), 2).await;
    engine.attach(PARTITION, POLICY, log.clone());
    eventually("archiving", || manifest_end(&engine) == Some(140)).await;
    eventually("the note", || trouble(&engine).contains("input/output error")).await;
    assert_eq!(said(&log), None);
    log.unreadable.store(-1, Ordering::Relaxed);
    eventually("the rest", || all_released(&log)).await;
    eventually("no note", || trouble(&engine).is_empty()).await;
}

#[tokio::test]
async fn a_newest_copy_that_can_be_opened_late_is_held_against_the_store_then() {
    let log = MemoryLog::new(gone_on(8, Shape { value_bytes: 90, seed: 50, ..PLAIN }));
    log.keeps_all.store(true, Ordering::Relaxed);
    log.unreadable.store(100, Ordering::Relaxed);
    let engine = engine(Arc::new(store_of_six().await), 2).await;
    engine.attach(PARTITION, POLICY, log.clone());
    eventually("archiving", || manifest_end(&engine) == Some(220)).await;
    eventually("the note", || trouble(&engine).contains("cannot be held against the store")).await;
    assert_eq!(said(&log), None);
    log.unreadable.store(-1, Ordering::Relaxed);
    eventually("the disagreement", || {
        said(&log).is_some_and(|why| why.contains("other records than this disk from offset 60 on"))
    })
    .await;
    assert_eq!(log.released.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_copy_that_ends_short_of_the_newest_row_is_another_history() {
    let mut made = segments(5, PLAIN);
    made.push(segment(Shape { base_offset: 100, batches: 2, ..PLAIN }));
    made.push(segment(Shape { base_offset: 140, ..PLAIN }));
    let log = MemoryLog::new(made);
    log.keeps_all.store(true, Ordering::Relaxed);
    let engine = engine(Arc::new(store_of_six().await), 2).await;
    engine.attach(PARTITION, POLICY, log.clone());
    eventually("the disagreement", || {
        said(&log).is_some_and(|why| why.contains("other records than this disk from offset 100 on"))
    })
    .await;
    assert_eq!(manifest_end(&engine), Some(120));
}

#[tokio::test]
async fn an_archived_copy_before_a_hole_that_cannot_be_opened_stops_no_archiving() {
    let memory = MemoryStore::default();
    let first = engine(Arc::new(memory.clone()), 1).await;
    archived(&first, &MemoryLog::new(segments(2, PLAIN)), "archiving").await;
    first.close().await;
    let mut made = segments(2, PLAIN);
    made.extend(segments(2, Shape { base_offset: 100, ..PLAIN }));
    let log = MemoryLog::new(made);
    log.unreadable.store(20, Ordering::Relaxed);
    let engine = engine(Arc::new(memory), 2).await;
    engine.attach(PARTITION, POLICY, log.clone());
    eventually("archiving", || manifest_end(&engine) == Some(140)).await;
    log.unreadable.store(-1, Ordering::Relaxed);
    eventually("letting go", || all_released(&log)).await;
    assert_eq!(said(&log), None);
}

#[tokio::test]
async fn a_damaged_copy_goes_also_where_the_newest_is_damaged() {
    let log = MemoryLog::new(segments(6, PLAIN));
    (1..6).for_each(|index| damage(&log, index));
    let engine = engine(Arc::new(store_of_six().await), 2).await;
    engine.attach(PARTITION, POLICY, log.clone());
    let released = || log.released.load(Ordering::Relaxed);
    eventually("what is before the damage goes", || released() == 20).await;
    eventually("the note", || trouble(&engine).contains("local copy of segment 20 is damaged")).await;
    // One that was passed over is mended: what is before it is the store's, damaged or not.
    damage(&log, 4);
    eventually("what is before the newest goes", || released() == 100).await;
    eventually("its note", || trouble(&engine).contains("local copy of segment 100 is damaged")).await;
    damage(&log, 5);
    eventually("the rest", || all_released(&log)).await;
    assert_eq!(said(&log), None);
    eventually("no note", || trouble(&engine).is_empty()).await;
}

#[tokio::test]
async fn a_copy_whose_object_is_damaged_stays_and_is_named() {
    let memory = MemoryStore::default();
    let first = engine(Arc::new(memory.clone()), 1).await;
    archived(&first, &MemoryLog::new(segments(6, PLAIN)), "archiving").await;
    let key = object_of(&first, 2);
    let object = memory.with(|objects| objects.remove(&key)).unwrap();
    fetch(&first, 40, 1 << 20).await.unwrap_err();
    eventually("the object's note", || manifest(&first).segments[2].quarantined).await;
    first.close().await;
    let engine = engine(Arc::new(memory.clone()), 2).await;
    let log = MemoryLog::new(segments(6, PLAIN));
    engine.attach(PARTITION, POLICY, log.clone());
    let says = "object of segment 40 is noted as damaged";
    eventually("the copy's note", || trouble(&engine).contains(says)).await;
    assert_eq!(log.released.load(Ordering::Relaxed), 40);
    memory.with(|objects| objects.insert(key.clone(), object.clone()));
    eventually("the rest", || all_released(&log)).await;
    eventually("no note", || trouble(&engine).is_empty()).await;
}

fn manifest_end(engine: &Engine) -> Option<i64> {
    let view = engine.partition(PARTITION)?.source.view.get()?;
    Some(view.end_offset().0)
}

#[tokio::test]
async fn a_store_that_never_had_what_was_let_go_of_gets_nothing() {
    let relying = TierOptions { relies_on_store: true, ..options() };
    let memory = MemoryStore::default();
    let refused = Engine::start(relying.clone(), Arc::new(memory.clone()), seams(1).0).await.unwrap_err();
    assert!(matches!(refused, OpenTierError::NotTheFormer { .. }), "{refused}");
    assert!(refused.to_string().contains("the store that it had before"), "{refused}");
    assert_eq!(memory.keys(), [""; 0], "nobody took the prefix");

    // The same when it is reached late.
    let calls = AtomicI64::new(0);
    let late = FaultyStore::new(Arc::new(memory.clone()), move |_, _, _| {
        if calls.fetch_add(1, Ordering::Relaxed) < 30 { Fault::FailBefore } else { Fault::None }
    });
    let engine = Engine::start(relying, Arc::new(late), seams(2).0).await.unwrap();
    engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
    let log = MemoryLog::new(segments(3, Shape { base_offset: 60, ..SMALL }));
    log.log_start.store(0, Ordering::Relaxed);
    engine.attach(PARTITION, POLICY, log.clone());
    eventually("the refusal", || matches!(engine.status().state, TierState::Refused { .. })).await;
    crate::timers::sleep(Duration::from_secs(60)).await;
    assert_eq!(memory.keys(), [""; 0]);
    assert_eq!(log.released.load(Ordering::Relaxed), 0);
    assert_eq!(engine.superseded_by(), None, "the local log goes on");
}

#[tokio::test]
async fn what_was_let_go_of_elsewhere_is_not_declared_missing() {
    // The prefix is this cluster's, and has nothing of the partition.
    let memory = MemoryStore::default();
    let engine = engine(Arc::new(memory.clone()), 1).await;
    let log = MemoryLog::new(segments(3, Shape { base_offset: 60, ..SMALL }));
    log.log_start.store(0, Ordering::Relaxed);
    engine.attach(PARTITION, POLICY, log.clone());
    eventually("the trouble", || trouble(&engine).contains("offsets 0 to 60 are not on local disk")).await;
    assert!(manifest(&engine).gaps.is_empty());
    assert_eq!(log.released.load(Ordering::Relaxed), 0);
    assert_eq!(said(&log), None, "its new offsets are nobody else's");
}

#[tokio::test]
async fn a_folder_that_was_replaced_learns_it_when_the_store_is_back() {
    let memory = store_of_six().await;
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    recover_from(store, &"file:lake".parse().unwrap(), &seams(50).0).await.unwrap();
    let calls = AtomicI64::new(0);
    let late = FaultyStore::new(Arc::new(memory), move |_, _, _| {
        if calls.fetch_add(1, Ordering::Relaxed) < 30 { Fault::FailBefore } else { Fault::None }
    });
    let engine = engine(Arc::new(late), 2).await;
    assert_eq!(engine.superseded_by(), None);
    let error = engine.superseded().await;
    assert!(matches!(error, OpenTierError::Superseded { current: 1, found: 0, .. }), "{error}");
    assert!(engine.is_refused());
    assert_eq!(engine.superseded_by(), Some(error));
}

#[tokio::test]
async fn a_folder_that_is_replaced_while_it_runs_learns_it_at_its_next_record() {
    let memory = MemoryStore::default();
    let engine = engine(Arc::new(memory.clone()), 1).await;
    let log = MemoryLog::new(segments(2, SMALL));
    archived(&engine, &log, "archiving").await;
    recover_from(Arc::new(memory), &"file:lake".parse().unwrap(), &seams(50).0).await.unwrap();
    engine.desire(|desired| desired.next_producer_id = Some(4_000));
    let error = engine.superseded().await;
    assert!(matches!(error, OpenTierError::Superseded { current: 1, found: 0, .. }), "{error}");
}
