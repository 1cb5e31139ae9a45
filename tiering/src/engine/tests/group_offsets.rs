//! Group offsets in the bucket, however many: they come back whole, and nothing else is hostage to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use wire::ids::TopicId;

use super::running::{engine, eventually};
use crate::cluster_record::{GroupOffset, GroupSnapshot};
use crate::recover::recover_from;
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore, Operation, Store};
use crate::test_support::{TOPIC, seams};

/// Groups with a hundred offsets each, and notes of characters that JSON makes six bytes of.
fn snapshot(taken_at_ms: i64, groups: usize, note_bytes: usize) -> GroupSnapshot {
    let offset = |partition: i32| GroupOffset {
        topic_id: TopicId([7; 16]),
        partition,
        offset: 42,
        leader_epoch: 3,
        metadata: "\u{1}".repeat(note_bytes),
    };
    let group = |number: usize| (format!("group-{number}"), (0..100).map(offset).collect());
    GroupSnapshot { taken_at_ms, groups: (0..groups).map(group).collect::<BTreeMap<_, _>>() }
}

fn files(memory: &MemoryStore) -> Vec<String> {
    memory.keys().into_iter().filter(|key| key.contains("/cluster/groups/")).collect()
}

/// The bytes of everything that the cluster manifest is read from.
fn records_bytes(memory: &MemoryStore) -> usize {
    let of_cluster = |key: &str| key.contains("/cluster/records/");
    memory
        .with(|objects| objects.iter().filter(|(key, _)| of_cluster(key)).map(|(_, bytes)| bytes.len()).sum())
}

#[tokio::test]
async fn however_many_they_are_they_come_back_and_older_ones_go() {
    let memory = MemoryStore::default();
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    let engine = engine(store.clone(), 1).await;
    eventually("the topic", || engine.knows_topic(TOPIC)).await;
    let large = snapshot(1, 4, 4_000);
    engine.desire(|desired| desired.groups = Some(Arc::new(large.clone())));
    eventually("the files", || files(&memory).len() > 10).await;
    crate::timers::sleep(Duration::from_secs(30)).await;
    let first = files(&memory);
    // The same, later: nothing is written anew. Others: they take the place of the first.
    engine.desire(|desired| desired.groups = Some(Arc::new(GroupSnapshot { taken_at_ms: 2, ..large })));
    crate::timers::sleep(Duration::from_secs(60)).await;
    assert_eq!(files(&memory), first);
    let other = snapshot(3, 5, 3_000);
    engine.desire(|desired| desired.groups = Some(Arc::new(other.clone())));
    eventually("the end of the older files", || files(&memory).iter().all(|key| !first.contains(key))).await;
    assert!(!files(&memory).is_empty());
    assert!(records_bytes(&memory) < 60_000, "the manifest itself stays small");
    assert_eq!(engine.cluster_trouble(), None);
    engine.close().await;
    let found = recover_from(store.clone(), &"file:lake".parse().unwrap(), &seams(50).0).await.unwrap();
    assert_eq!(found.groups, Some(other));
    assert!(found.report.damage.is_empty(), "{:?}", found.report.damage);
    // What is missing of them is told, and the topics are there all the same.
    memory.with(|objects| objects.retain(|key, _| !key.contains("/cluster/groups/")));
    let found = recover_from(store, &"file:lake".parse().unwrap(), &seams(51).0).await.unwrap();
    assert_eq!((found.topics.len(), found.groups), (1, None));
    assert!(found.report.damage[0].contains("group offsets are lost"), "{:?}", found.report.damage);
}

#[tokio::test]
async fn files_of_a_snapshot_that_was_not_written_whole_go_with_the_next_that_is() {
    let many = Arc::new(snapshot(1, 4, 4_000));
    let sound = MemoryStore::default();
    let first = engine(Arc::new(sound.clone()), 1).await;
    first.desire(|desired| desired.groups = Some(many.clone()));
    eventually("the files", || !files(&sound).is_empty()).await;
    crate::timers::sleep(Duration::from_secs(60)).await;
    let wanted = files(&sound).len();
    assert!(wanted > 10, "{wanted}");
    let (memory, puts) = (MemoryStore::default(), AtomicI64::new(0));
    let faulty = FaultyStore::new(Arc::new(memory.clone()), move |_, operation, key| {
        let is_file = operation == Operation::Put && key.contains("/cluster/groups/");
        let fails = is_file && (3..30).contains(&puts.fetch_add(1, Ordering::Relaxed));
        if fails { Fault::FailBefore } else { Fault::None }
    });
    let second = engine(Arc::new(faulty), 2).await;
    second.desire(|desired| desired.groups = Some(many));
    crate::timers::sleep(Duration::from_secs(60)).await;
    eventually("the snapshot", || second.cluster_trouble().is_none() && files(&memory).len() == wanted).await;
    crate::timers::sleep(Duration::from_secs(60)).await;
    assert_eq!(files(&memory).len(), wanted, "nothing is left of what failed");
}

#[tokio::test]
async fn a_few_stand_in_the_manifest_and_take_the_place_of_many() {
    let memory = MemoryStore::default();
    let engine = engine(Arc::new(memory.clone()), 1).await;
    let many = snapshot(1, 4, 1_000);
    engine.desire(|desired| desired.groups = Some(Arc::new(many.clone())));
    eventually("the files", || !files(&memory).is_empty()).await;
    crate::timers::sleep(Duration::from_secs(30)).await;
    let few = GroupSnapshot { taken_at_ms: 2, groups: [("g".to_owned(), Vec::new())].into() };
    engine.desire(|desired| desired.groups = Some(Arc::new(few.clone())));
    eventually("the end of the files", || files(&memory).is_empty()).await;
    // Files that are gone are never named again, even for the very same offsets.
    engine.desire(|desired| desired.groups = Some(Arc::new(many.clone())));
    eventually("the files", || !files(&memory).is_empty()).await;
    crate::timers::sleep(Duration::from_secs(30)).await;
    engine.close().await;
    let url = "file:lake".parse().unwrap();
    let found = recover_from(Arc::new(memory), &url, &seams(50).0).await.unwrap();
    assert_eq!(found.groups, Some(many));
}
