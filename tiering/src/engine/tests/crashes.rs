//! A crash at every call to the store, and random faults with a second writer: nothing is lost, nothing is there twice.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::running::{
    all_released, archived, assert_sound, engine, eventually, in_time, manifest, read_all, topic,
};
use crate::engine::Engine;
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore, Operation, Store};
use crate::test_support::{MemoryLog, PARTITION, POLICY, SMALL, TOPIC, options, seams, segments};

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
