//! What was archived is read back: by offset, by time, by many at once, with its aborted transactions.

use std::sync::Arc;

use hotlog::aborted::AbortedTransaction;
use wire::ids::{Offset, ProducerId};

use super::running::{archived, assert_sound, engine, fetch, manifest, read_all};
use crate::local::LocalLog as _;
use crate::replay::Replay;
use crate::store::memory::MemoryStore;
use crate::test_support::{
    MemoryLog, PARTITION, SMALL, Shape, batch_ends, seams, segment_with_aborts, segments, time_of,
};
use crate::tier::ReadError;

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
