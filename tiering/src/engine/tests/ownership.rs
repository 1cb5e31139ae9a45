//! Whose log and whose prefix it is: the old broker, another cluster, and a new one that recovers from the bucket.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wire::ids::Offset;

use super::running::{archived, engine, eventually, manifest, read_all, topic};
use crate::engine::Engine;
use crate::local::LocalLog as _;
use crate::recover::recover_from;
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore, Operation, Store};
use crate::test_support::{MemoryLog, SMALL, Shape, batch_ends, options, seams, segments};
use crate::tier::{OpenTierError, TierOptions};

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
