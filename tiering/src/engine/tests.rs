//! The whole engine over a store in memory that fails, stalls, lies and stops, on paused time and a seeded plan.
//!
//! Each test prints the seed or the call of a failing run in its message; the same one repeats the run.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use hotlog::aborted::AbortedTransaction;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use wire::ids::{Offset, ProducerId};

use super::*;
use crate::cluster_record::TopicRecord;
use crate::manifest::PartitionManifest;
use crate::recover::recover_from;
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore, Operation, Right};
use crate::test_support::*;
use crate::tier::{ColdRead, ReadError};

fn topic() -> TopicRecord {
    TopicRecord {
        topic_id: TOPIC,
        name: "flights".into(),
        partitions: 1,
        configs: [("retention.ms".to_owned(), "-1".to_owned())].into(),
        deleted_at_ms: None,
    }
}

async fn engine(store: Arc<dyn Store>, seed: u64) -> Arc<Engine> {
    let engine = Engine::start(options(), store, seams(seed).0).await.expect("the store can be used");
    engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
    engine
}

async fn eventually(what: &str, done: impl Fn() -> bool) {
    assert!(in_time(done).await, "{what} did not happen");
}

/// Waits for half an hour of the engine's time.
async fn in_time(done: impl Fn() -> bool) -> bool {
    for _ in 0..18_000 {
        if done() {
            return true;
        }
        crate::timers::sleep(Duration::from_millis(100)).await;
    }
    false
}

fn all_released(log: &MemoryLog) -> bool {
    log.released.load(Ordering::Relaxed) == log.log_end().0
}

async fn archived(engine: &Arc<Engine>, log: &Arc<MemoryLog>, what: &str) {
    engine.attach(PARTITION, POLICY, log.clone());
    eventually(what, || all_released(log)).await;
}

async fn fetch(engine: &Arc<Engine>, from: i64, max_bytes: usize) -> Result<ColdRead, ReadError> {
    let tiered = engine.partition(PARTITION).expect("the partition is attached");
    engine.replay.fetch(&tiered.source, Offset(from), max_bytes).await
}

/// Reads from `from` to the end of the store.
async fn read_all(engine: &Arc<Engine>, from: i64, max_bytes: usize) -> Vec<u8> {
    let (mut all, mut next) = (Vec::new(), from);
    loop {
        let read = fetch(engine, next, max_bytes).await.unwrap();
        read.batches.iter().for_each(|bytes| all.extend_from_slice(bytes));
        if read.batches.is_empty() {
            return all;
        }
        assert!(read.next_offset.0 > next, "a read must advance");
        next = read.next_offset.0;
    }
}

fn manifest(engine: &Engine) -> Arc<PartitionManifest> {
    engine.partition(PARTITION).and_then(|tiered| tiered.source.view.get()).expect("the manifest is loaded")
}

/// Every object that the manifest names is there, and the manifest is sound.
fn assert_sound(engine: &Engine, memory: &MemoryStore) {
    let manifest = manifest(engine);
    manifest.check().unwrap();
    let keys = memory.keys();
    for row in &manifest.segments {
        let key =
            crate::keys::segment(&manifest.log, row.base_offset, row.leader_epoch, row.attempt).to_string();
        assert!(keys.contains(&key), "{key} is named and not there");
    }
    for file in &manifest.spilled {
        let key = crate::keys::spilled(&manifest.log, file.file_base, file.attempt).to_string();
        assert!(keys.contains(&key), "{key} is named and not there");
    }
}

#[tokio::test]
async fn what_was_archived_is_read_back_byte_for_byte() {
    let memory = MemoryStore::default();
    let engine = engine(Arc::new(memory.clone()), 1).await;
    // More segments than are kept in memory, so that rows spill; some larger than one request.
    let mut made = segments(20, SMALL);
    let base_offset = made.last().unwrap().next_offset.0;
    let large = Shape { base_offset, batches: 200, value_bytes: 30_000, compressible: false, ..SMALL };
    made.extend(segments(2, large));
    let log = MemoryLog::new(made);
    archived(&engine, &log, "archiving").await;
    assert!(!manifest(&engine).spilled.is_empty());
    assert_sound(&engine, &memory);
    let bytes = log.bytes();
    for max_bytes in [1, 1_000, 100_000, 1 << 20, 64 << 20] {
        assert_eq!(read_all(&engine, 0, max_bytes).await, bytes, "with at most {max_bytes} bytes per read");
    }
    // From any offset, also inside a batch: the batch that holds it comes whole.
    let mut start = 0;
    for (end, next) in batch_ends(&bytes) {
        if next % 7 == 0 {
            assert_eq!(
                read_all(&engine, next - 1, 4 << 20).await,
                bytes[start..],
                "from offset {}",
                next - 1
            );
        }
        start = end;
    }
    assert!(matches!(fetch(&engine, log.log_end().0 + 1, 1).await, Err(ReadError::OutOfRange { .. })));
}

/// Enough for rows to spill.
const CRASH_SEGMENTS: usize = 18;

/// A crash at every call to the store, before or after its effect; then a new start finds everything.
#[tokio::test]
async fn a_crash_at_every_store_call_loses_and_doubles_nothing() {
    let clean = FaultyStore::new(Arc::new(MemoryStore::default()), |_, _, _| Fault::None);
    let first = engine(Arc::new(clean.clone()), 0).await;
    archived(&first, &MemoryLog::new(segments(CRASH_SEGMENTS, SMALL)), "the clean run").await;
    let calls = clean.calls();
    first.close().await;
    let points: Vec<_> = (0..calls).flat_map(|call| [(call, false), (call, true)]).collect();
    println!("{} crashes tried", points.len());
    for some in points.chunks(32) {
        futures::future::join_all(some.iter().map(|(call, effect)| crash_and_start_again(*call, *effect)))
            .await;
    }
}

async fn crash_and_start_again(call: u64, effect: bool) {
    let memory = MemoryStore::default();
    let log = MemoryLog::new(segments(CRASH_SEGMENTS, SMALL));
    let dying = FaultyStore::new(Arc::new(memory.clone()), move |now, _, _| match now.cmp(&call) {
        std::cmp::Ordering::Less => Fault::None,
        std::cmp::Ordering::Equal if effect => Fault::HangAfter,
        _ => Fault::Hang,
    });
    // The start itself may be what hangs.
    let start = crate::timers::timeout(Duration::from_secs(20), engine(Arc::new(dying), call)).await;
    if let Ok(old) = start {
        old.attach(PARTITION, POLICY, log.clone());
        crate::timers::sleep(Duration::from_secs(30)).await;
        old.close().await;
    }
    let released = log.released.load(Ordering::Relaxed);
    let new = engine(Arc::new(memory.clone()), 1_000 + call).await;
    new.attach(PARTITION, POLICY, log.clone());
    eventually("loading", || new.partition(PARTITION).unwrap().source.view.get().is_some()).await;
    let end = manifest(&new).end_offset().0;
    assert!(released <= end, "crash at call {call}: {released} was released, the store holds {end}");
    eventually("archiving", || all_released(&log)).await;
    assert_sound(&new, &memory);
    assert!(read_all(&new, 0, 1 << 20).await == log.bytes(), "crash at call {call}, effect {effect}");
    new.close().await;
}

/// Random faults on every kind of call, with two brokers that both believe to own the log.
#[tokio::test]
async fn random_faults_and_a_second_writer_lose_and_double_nothing() {
    for seeds in (0..64u64).collect::<Vec<_>>().chunks(16) {
        futures::future::join_all(seeds.iter().map(|seed| two_writers(*seed))).await;
    }
}

async fn two_writers(seed: u64) {
    {
        let memory = MemoryStore::default();
        let faulty = |seed: u64| {
            let random = Mutex::new(StdRng::seed_from_u64(seed));
            let plan = move |_: u64, operation: Operation, _: &str| {
                let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
                match random.random_range(0..24) {
                    0 => Fault::FailBefore,
                    1 | 2 => Fault::FailAfter,
                    3 => Fault::Slow(Duration::from_millis(random.random_range(1..20_000))),
                    4 if operation == Operation::List => Fault::Lie,
                    _ => Fault::None,
                }
            };
            Arc::new(FaultyStore::new(Arc::new(memory.clone()), plan)) as Arc<dyn Store>
        };
        let start = async |seed: u64| loop {
            // A start that meets too many faults is simply tried again, as a supervisor would.
            if let Ok(engine) = Engine::start(options(), faulty(seed), seams(seed).0).await {
                engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
                return engine;
            }
        };
        let (log, twin) = (MemoryLog::new(segments(20, SMALL)), MemoryLog::new(segments(20, SMALL)));
        let old = start(seed * 2).await;
        old.attach(PARTITION, POLICY, log.clone());
        crate::timers::sleep(Duration::from_millis(500 * (seed % 16))).await;
        let new = start(seed * 2 + 1).await;
        new.attach(PARTITION, POLICY, twin.clone());
        // Whoever reached the store last owns it: the old one too, when it could not connect before.
        let archived = in_time(|| all_released(&twin) || (new.is_refused() && all_released(&log))).await;
        assert!(archived, "seed {seed}: nobody archived all: {:?}, {:?}", old.status(), new.status());
        let calm = engine(Arc::new(memory.clone()), 5_000 + seed).await;
        calm.attach(PARTITION, POLICY, twin.clone());
        eventually("loading", || calm.partition(PARTITION).unwrap().source.view.get().is_some()).await;
        assert_sound(&calm, &memory);
        assert_eq!(read_all(&calm, 0, 1 << 20).await, twin.bytes(), "seed {seed}");
        for engine in [old, new, calm] {
            engine.close().await;
        }
    }
}

#[tokio::test]
async fn the_zombie_is_fenced_and_says_so() {
    let memory = MemoryStore::default();
    let log = MemoryLog::new(segments(3, SMALL));
    let old = engine(Arc::new(memory.clone()), 1).await;
    archived(&old, &log, "the old broker").await;
    let longer = MemoryLog::new(segments(5, SMALL));
    let new = engine(Arc::new(memory.clone()), 2).await;
    archived(&new, &longer, "the new broker").await;
    *log.segments.lock().unwrap() = segments(6, SMALL);
    eventually("the zombie to notice", || old.is_refused()).await;
    assert!(log.released.load(Ordering::Relaxed) <= segments(3, SMALL)[2].next_offset.0);
    assert!(
        old.status().partitions[0].trouble.as_ref().is_some_and(|trouble| trouble.contains("taken over"))
    );
}

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

#[tokio::test]
async fn damage_is_read_again_then_named_and_never_served() {
    let memory = MemoryStore::default();
    let lies = Arc::new(AtomicI64::new(0));
    let lying = lies.clone();
    let store = FaultyStore::new(Arc::new(memory.clone()), move |_, operation, key| {
        let lie = operation == Operation::GetRange
            && key.ends_with(".seg")
            && lying.fetch_sub(1, Ordering::Relaxed) > 0;
        if lie { Fault::Lie } else { Fault::None }
    });
    let engine = engine(Arc::new(store), 1).await;
    let log = MemoryLog::new(segments(3, Shape { compressible: false, ..SMALL }));
    archived(&engine, &log, "archiving").await;
    // Damaged on the way: the second read is good.
    lies.store(1, Ordering::Relaxed);
    assert_eq!(read_all(&engine, 0, 1 << 20).await, log.bytes(), "one damaged answer");
    // Damaged in the store: named, noted, and its neighbours are served.
    let row = manifest(&engine).segments[1];
    let key =
        crate::keys::segment(&log_identity(), row.base_offset, row.leader_epoch, row.attempt).to_string();
    memory.with(|objects| {
        let mut bytes = BytesMut::from(&objects[&key][..]);
        bytes[90] ^= 4;
        objects.insert(key.clone(), bytes.freeze());
    });
    let (first, second) = (row.base_offset.0, row.next_offset.0);
    assert_eq!(fetch(&engine, 0, 1 << 20).await.unwrap().next_offset, Offset(first));
    let damaged = fetch(&engine, first, 1 << 20).await.unwrap_err();
    assert!(matches!(&damaged, ReadError::Damaged { key: named, .. } if *named == key), "{damaged}");
    assert!(!fetch(&engine, second, 1 << 20).await.unwrap().batches.is_empty());
    eventually("the note", || manifest(&engine).segments[1].quarantined).await;
    assert_eq!(engine.status().partitions[0].quarantined_segments, 1);
    // Swapped with a healthy neighbour, cut short, gone.
    let other = manifest(&engine).segments[2];
    let other = crate::keys::segment(&log_identity(), other.base_offset, other.leader_epoch, other.attempt)
        .to_string();
    let swapped = memory.with(|objects| objects[&other].clone());
    for (bytes, says) in [
        (Some(swapped), "another object"),
        (Some(bytes::Bytes::from_static(b"x")), "instead of"),
        (None, "missing"),
    ] {
        memory.with(|objects| match bytes {
            Some(bytes) => drop(objects.insert(key.clone(), bytes)),
            None => drop(objects.remove(&key)),
        });
        let fresh = super::Replay::new(
            Arc::new(memory.clone()),
            seams(1).0,
            tokio::runtime::Handle::current(),
            1 << 20,
        );
        let tiered = engine.partition(PARTITION).unwrap();
        let error = fresh.fetch(&tiered.source, Offset(first), 1 << 20).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

fn log_identity() -> LogIdentity {
    crate::test_support::log()
}

#[tokio::test]
async fn many_readers_share_a_small_budget_and_all_end() {
    let memory = MemoryStore::default();
    let engine = engine(Arc::new(memory.clone()), 1).await;
    let large = Shape { batches: 120, value_bytes: 30_000, compressible: false, ..SMALL };
    let log = MemoryLog::new(segments(2, large));
    archived(&engine, &log, "archiving").await;
    let small = Replay::new(Arc::new(memory), seams(2).0, tokio::runtime::Handle::current(), 3 << 20);
    let source = engine.partition(PARTITION).unwrap().source.clone();
    let expected = log.bytes();
    // Readers that stop in the middle stay parked with what they read ahead.
    for from in 0..20 {
        small.fetch(&source, Offset(from), 1).await.unwrap();
    }
    let readers = (0..6).map(|_| {
        let (small, source) = (small.clone(), source.clone());
        tokio::spawn(async move {
            let (mut all, mut next) = (Vec::new(), Offset(0));
            loop {
                let read = small.fetch(&source, next, 1 << 20).await.unwrap();
                if read.batches.is_empty() {
                    return all;
                }
                read.batches.iter().for_each(|bytes| all.extend_from_slice(bytes));
                next = read.next_offset;
            }
        })
    });
    for read in futures::future::join_all(readers).await {
        assert!(read.unwrap() == expected);
    }
}

#[tokio::test]
async fn a_record_is_found_by_its_time() {
    let engine = engine(Arc::new(MemoryStore::default()), 1).await;
    let log = MemoryLog::new(segments(20, SMALL));
    archived(&engine, &log, "archiving").await;
    let source = engine.partition(PARTITION).unwrap().source.clone();
    let end = log.log_end().0;
    for offset in [0, 1, 4, 5, 99, end - 1] {
        let found = engine.replay.offset_for_time(&source, time_of(offset) - 500).await.unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp_ms), (Offset(offset), time_of(offset)));
    }
    assert_eq!(engine.replay.offset_for_time(&source, time_of(end)).await.unwrap(), None);
}

#[tokio::test]
async fn aborted_transactions_are_told_from_later_segments_too() {
    let engine = engine(Arc::new(MemoryStore::default()), 1).await;
    let aborted = AbortedTransaction {
        producer_id: ProducerId(77),
        first_offset: Offset(3),
        marker_offset: Offset(25),
        last_stable_offset: Offset(26),
    };
    let mut made = segments(1, SMALL);
    made.push(segment_with_aborts(Shape { base_offset: 20, ..SMALL }, &[aborted]));
    let log = MemoryLog::new(made);
    archived(&engine, &log, "archiving").await;
    let read = fetch(&engine, 0, 1_000).await.unwrap();
    assert_eq!(read.aborted.len(), 1);
    assert_eq!((read.aborted[0].producer_id, read.aborted[0].first_offset), (ProducerId(77), Offset(3)));
    assert!(fetch(&engine, 30, 1_000).await.unwrap().aborted.is_empty());
}

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
    let again = super::tests::engine(Arc::new(memory.clone()), 9).await;
    archived(&again, &log, "a restart").await;
    eventually("loading", || again.partition(PARTITION).unwrap().source.view.get().is_some()).await;
    assert_eq!(read_all(&again, 400, 1 << 20).await, expected);
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

#[tokio::test]
async fn an_object_that_is_put_back_is_not_called_damaged_any_more() {
    let memory = MemoryStore::default();
    let engine = engine(Arc::new(memory.clone()), 1).await;
    let log = MemoryLog::new(segments(3, SMALL));
    archived(&engine, &log, "archiving").await;
    let rows = manifest(&engine).segments.clone();
    let key = |row: &crate::manifest::SegmentRow| {
        crate::keys::segment(&log_identity(), row.base_offset, row.leader_epoch, row.attempt).to_string()
    };
    let whole = memory.with(|objects| objects.clone());
    for row in &rows[..2] {
        memory.with(|objects| objects.remove(&key(row)));
        fetch(&engine, row.base_offset.0, 1 << 20).await.unwrap_err();
    }
    let damaged = || engine.status().partitions[0].quarantined_segments;
    eventually("the notes", || damaged() == 2).await;
    memory.with(|objects| objects.insert(key(&rows[1]), whole[&key(&rows[1])].clone()));
    eventually("one note less", || damaged() == 1).await;
    assert!(manifest(&engine).segments[0].quarantined, "this one is still away");
    memory.with(|objects| objects.insert(key(&rows[0]), whole[&key(&rows[0])].clone()));
    eventually("no note", || damaged() == 0).await;
    assert_eq!(read_all(&engine, 0, 1 << 20).await, log.bytes());
}

#[tokio::test]
async fn a_deletion_is_forgotten_once_it_is_recorded() {
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = dead.clone();
    let store = FaultyStore::new(Arc::new(MemoryStore::default()), move |_, _, _| {
        match is_dead.load(Ordering::Relaxed) {
            true => Fault::FailBefore,
            false => Fault::None,
        }
    });
    let engine = engine(Arc::new(store), 1).await;
    eventually("the topic", || engine.knows_topic(TOPIC)).await;
    dead.store(true, Ordering::Relaxed);
    let never_there = TopicId([8; 16]);
    engine.desire(|desired| {
        for topic_id in [TOPIC, never_there] {
            let deleted = TopicRecord { topic_id, deleted_at_ms: Some(1_000_000), ..topic() };
            desired.topics.insert(topic_id, deleted);
        }
    });
    let remembered = |topic_id| engine.desired.lock().unwrap().topics.contains_key(&topic_id);
    crate::timers::sleep(Duration::from_secs(30)).await;
    assert!(remembered(TOPIC), "the store has not taken it yet");
    dead.store(false, Ordering::Relaxed);
    eventually("forgetting", || !remembered(TOPIC) && !remembered(never_there)).await;
    assert!(!engine.knows_topic(TOPIC));
}

#[tokio::test]
async fn a_deleted_topic_leaves_nothing_and_a_namesake_is_untouched() {
    let memory = MemoryStore::default();
    let (seams, clock) = seams(1);
    let engine = Engine::start(options(), Arc::new(memory.clone()), seams).await.unwrap();
    engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
    archived(&engine, &MemoryLog::new(segments(3, SMALL)), "archiving").await;
    engine.detach(PARTITION);
    let namesake = TopicId([8; 16]);
    engine.desire(|desired| {
        desired.topics.insert(TOPIC, TopicRecord { deleted_at_ms: Some(1_000_000), ..topic() });
        desired.topics.insert(namesake, TopicRecord { topic_id: namesake, ..topic() });
    });
    let left = || memory.keys().iter().filter(|key| key.contains(&TOPIC.to_string())).count();
    crate::timers::sleep(Duration::from_secs(30)).await;
    assert!(left() > 0, "within the grace everything stays");
    clock.0.fetch_add(400_000, Ordering::Relaxed);
    eventually("the purge", || left() == 0).await;
    assert!(engine.knows_topic(namesake));
}

#[tokio::test]
async fn one_prefix_belongs_to_one_cluster() {
    let memory = MemoryStore::default();
    engine(Arc::new(memory.clone()), 1).await.close().await;
    let mut other = options();
    other.identity.cluster_id = "other-id".into();
    let owned = Engine::start(other.clone(), Arc::new(memory.clone()), seams(2).0).await.unwrap_err();
    assert!(
        matches!(&owned, OpenTierError::OwnedByAnother { owner_name, .. } if owner_name == "west"),
        "{owned}"
    );
    other.identity.fresh = true;
    let in_use = Engine::start(other, Arc::new(memory.clone()), seams(3).0).await.unwrap_err();
    assert!(in_use.to_string().contains("longhaul tier recover"), "{in_use}");
    let overwriting = FaultyStore::new(Arc::new(memory), |_, operation, key| match operation {
        Operation::Put if key.starts_with("probe/") => Fault::Lie,
        _ => Fault::None,
    });
    let unusable = Engine::start(options(), Arc::new(overwriting), seams(4).0).await.unwrap_err();
    assert!(unusable.to_string().contains("ignores conditional writes"), "{unusable}");
}

#[tokio::test]
async fn the_bucket_alone_rebuilds_the_cluster_and_the_old_broker_is_fenced() {
    let memory = MemoryStore::default();
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    let old = engine(store.clone(), 1).await;
    old.desire(|desired| desired.next_producer_id = Some(4_000));
    let log = MemoryLog::new(segments(18, SMALL));
    archived(&old, &log, "archiving").await;
    eventually("the producer ids", || {
        let keys = memory.keys();
        keys.iter().filter(|key| key.contains("/cluster/records/")).count() >= 2
    })
    .await;
    log.log_start.store(7, Ordering::Relaxed);
    eventually("following", || manifest(&old).start_offset == Offset(7)).await;
    let url = "file:lake".parse().unwrap();
    let found = recover_from(store.clone(), &url, &seams(50).0).await.unwrap();
    assert_eq!((found.identity.cluster_id.as_str(), found.identity.recovery_generation), ("west-id", 1));
    assert_eq!(found.topics.len(), 1);
    assert_eq!(found.topics[0].record, topic());
    let partition = &found.topics[0].partitions[0];
    assert_eq!((partition.log_start, partition.tiered_end), (Offset(7), log.log_end()));
    assert!(partition.new_start.0 >= partition.tiered_end.0 + (1 << 40));
    assert!(found.next_leader_epoch.0 > 60_000 && found.next_producer_id.0 > 4_000 + (1 << 31));
    assert!(found.report.damage.is_empty());
    assert_eq!(found.report.partitions[0].lost_from, log.log_end().0);
    // The old broker, still running: not one more offset gets into the store.
    *log.segments.lock().unwrap() = segments(20, SMALL);
    eventually("the old broker to be fenced", || old.is_refused()).await;
    old.close().await;
    // The old broker, started again: refused by name.
    let superseded = Engine::start(options(), store.clone(), seams(51).0).await.unwrap_err();
    assert!(matches!(superseded, OpenTierError::Superseded { current: 1, found: 0, .. }), "{superseded}");
    // The new folder: reads the past, and goes on behind the gap.
    let options = TierOptions { identity: found.identity.clone(), ..options() };
    let new = Engine::start(options, store.clone(), seams(52).0).await.unwrap();
    let shape = Shape { base_offset: partition.new_start.0, epoch: found.next_leader_epoch.0, ..SMALL };
    let fresh = MemoryLog::new(segments(2, shape));
    fresh.log_start.store(7, Ordering::Relaxed);
    archived(&new, &fresh, "archiving behind the gap").await;
    let past = MemoryLog::new(segments(18, SMALL)).bytes();
    let first = batch_ends(&past).iter().find(|(_, next)| *next == 5).unwrap().0;
    let expected: Vec<u8> = past[first..].iter().copied().chain(fresh.bytes()).collect();
    assert_eq!(read_all(&new, 7, 1 << 20).await, expected);
    // Run again, it moves on again.
    let again = recover_from(store, &url, &seams(53).0).await.unwrap();
    assert!(again.topics[0].partitions[0].new_start.0 > partition.new_start.0 + (1 << 40));
    assert_eq!(again.identity.recovery_generation, 2);
}

#[tokio::test]
async fn verify_names_what_is_wrong_and_inspect_shows_what_is_there() {
    let memory = MemoryStore::default();
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    let engine = engine(store.clone(), 1).await;
    archived(&engine, &MemoryLog::new(segments(20, SMALL)), "archiving").await;
    let url = "file:lake".parse().unwrap();
    let inspection = crate::admin::inspect_store(store.clone(), &url, &seams(2).0).await.unwrap();
    assert_eq!(inspection.topics[0].partitions[0].segments.len(), 20);
    let report = crate::admin::verify_store(store.clone(), &url, &seams(3).0).await.unwrap();
    assert_eq!((report.objects, report.faults.len()), (20, 0));
    let key = inspection.topics[0].partitions[0].segments[3].key.clone();
    memory.with(|objects| objects.remove(&key));
    let report = crate::admin::verify_store(store, &url, &seams(4).0).await.unwrap();
    assert_eq!(report.faults.len(), 1);
    assert!(report.faults[0].starts_with(&key), "{:?}", report.faults);
}
