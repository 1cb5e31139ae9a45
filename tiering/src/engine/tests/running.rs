//! An engine that runs over a store which the test gives it, and one topic in it.
//!
//! Owns: how it is started, waited for and read back. Does not own: any test, what is archived (`test_support`), the store
//! and its faults.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wire::ids::Offset;

use crate::cluster_record::TopicRecord;
use crate::engine::Engine;
use crate::local::LocalLog as _;
use crate::manifest::PartitionManifest;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::test_support::{MemoryLog, PARTITION, POLICY, TOPIC, options, seams};
use crate::tier::{ColdRead, ReadError};

pub(super) fn topic() -> TopicRecord {
    TopicRecord {
        topic_id: TOPIC,
        name: "flights".into(),
        partitions: 1,
        configs: [("retention.ms".to_owned(), "-1".to_owned())].into(),
        deleted_at_ms: None,
    }
}

pub(super) async fn engine(store: Arc<dyn Store>, seed: u64) -> Arc<Engine> {
    let engine = Engine::start(options(), store, seams(seed).0).await.expect("the store can be used");
    engine.desire(|desired| drop(desired.topics.insert(TOPIC, topic())));
    engine
}

pub(super) async fn eventually(what: &str, done: impl Fn() -> bool) {
    assert!(in_time(done).await, "{what} did not happen");
}

/// Waits for half an hour of the engine's time.
pub(super) async fn in_time(done: impl Fn() -> bool) -> bool {
    for _ in 0..18_000 {
        if done() {
            return true;
        }
        crate::timers::sleep(Duration::from_millis(100)).await;
    }
    false
}

pub(super) fn all_released(log: &MemoryLog) -> bool {
    log.released.load(Ordering::Relaxed) == log.log_end().0
}

pub(super) async fn archived(engine: &Arc<Engine>, log: &Arc<MemoryLog>, what: &str) {
    engine.attach(PARTITION, POLICY, log.clone());
    eventually(what, || all_released(log)).await;
}

pub(super) async fn fetch(engine: &Arc<Engine>, from: i64, max_bytes: usize) -> Result<ColdRead, ReadError> {
    let tiered = engine.partition(PARTITION).expect("the partition is attached");
    engine.replay.fetch(&tiered.source, Offset(from), max_bytes).await
}

/// Reads from `from` to the end of the store.
pub(super) async fn read_all(engine: &Arc<Engine>, from: i64, max_bytes: usize) -> Vec<u8> {
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

pub(super) fn manifest(engine: &Engine) -> Arc<PartitionManifest> {
    engine.partition(PARTITION).and_then(|tiered| tiered.source.view.get()).expect("the manifest is loaded")
}

/// Every object that the manifest names is there, and the manifest is sound.
pub(super) fn assert_sound(engine: &Engine, memory: &MemoryStore) {
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
