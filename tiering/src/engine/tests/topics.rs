//! Deleted topics: forgotten once that is recorded, and purged after the grace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wire::ids::TopicId;

use super::running::{archived, engine, eventually, topic};
use crate::cluster_record::TopicRecord;
use crate::engine::Engine;
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore};
use crate::test_support::{MemoryLog, PARTITION, SMALL, TOPIC, options, seams, segments};

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
