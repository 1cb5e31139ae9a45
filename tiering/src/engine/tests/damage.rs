//! Objects that are damaged, swapped or gone: named, noted, never served, and forgiven once they are whole again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::BytesMut;
use wire::ids::Offset;

use super::running::{archived, engine, eventually, fetch, manifest, read_all};
use crate::object::LogIdentity;
use crate::replay::Replay;
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore, Operation, Store};
use crate::test_support::{MemoryLog, PARTITION, SMALL, Shape, seams, segments};
use crate::tier::ReadError;

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
        let fresh =
            Replay::new(Arc::new(memory.clone()), seams(1).0, tokio::runtime::Handle::current(), 1 << 20);
        let tiered = engine.partition(PARTITION).unwrap();
        let error = fresh.fetch(&tiered.source, Offset(first), 1 << 20).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

fn log_identity() -> LogIdentity {
    crate::test_support::log()
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
