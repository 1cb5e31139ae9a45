//! A partition against a log of its own: what a checkpoint splits between file and memory, and searches in it.

use hotlog::{FlushMode, LogOptions, PartitionConfig, TopicDirectory};
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
use wire::ids::TopicId;

use super::*;

/// Batches of a kilobyte and a little: no number of them ends where a block does.
const VALUE_BYTES: usize = 1_000;
/// More than a checkpoint keeps in its own file, in blocks of any size.
const BATCHES: i64 = 100;

struct Bench {
    partition: Partition,
    directory: LogDirectory,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions { flush: FlushMode::Os, ..LogOptions::new(folder.path().join("data")) };
        let (directory, _) = LogDirectory::open(options).unwrap().finish(&TopicDirectory::default()).unwrap();
        let id = PartitionId { topic_id: TopicId([4; 16]), partition: 0 };
        let hot = directory.create_partition(id, PartitionConfig::default()).unwrap();
        let partition = Partition::new(hot, directory.clone(), None, Arc::default());
        Self { partition, directory, _folder: folder }
    }

    /// One batch with a record for each time.
    async fn append(&self, times_ms: &[i64]) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for timestamp_ms in times_ms {
            let value = [b'v'; VALUE_BYTES];
            builder.push(&NewRecord {
                timestamp_ms: *timestamp_ms,
                value: Some(&value),
                ..NewRecord::default()
            });
        }
        self.partition.append_committed(&builder.build()).await.unwrap();
    }

    /// Batches of one record each, whose times are their offsets, of which a checkpoint has split one between file and memory.
    async fn split() -> Self {
        let bench = Self::new();
        for time_ms in 0..BATCHES {
            bench.append(&[time_ms]).await;
        }
        bench.directory.checkpoint().unwrap();
        let limits = ReadLimits { max_bytes: SCAN_BYTES, at_least_one_batch: true };
        let read = bench.partition.read(Offset(0), limits, Isolation::ReadUncommitted).await.unwrap();
        let [Piece::File(file), Piece::Memory(memory)] = &read.pieces[..] else {
            panic!("nothing is split: {:?}", read.pieces)
        };
        let batch_bytes = (file.length + memory.len()) / BATCHES as usize;
        assert_ne!(file.length % batch_bytes, 0, "the file ends where a batch does");
        bench
    }

    async fn at_time(&self, timestamp_ms: i64) -> Option<(i64, i64)> {
        let found = self.partition.offset_for_time(timestamp_ms, Isolation::ReadUncommitted).await.unwrap();
        found.map(|found| {
            assert_eq!(found.leader_epoch, self.partition.leader_epoch());
            (found.offset.0, found.timestamp_ms)
        })
    }
}

#[tokio::test]
async fn a_scan_reads_the_batch_that_begins_in_the_file_and_ends_in_memory() {
    let bench = Bench::split().await;
    let mut offsets = Vec::new();
    let scanned = bench.partition.scan(|batch| {
        batch.check_crc().expect("a batch that was put together wrongly");
        offsets.push(batch.header().base_offset.0);
        Ok(())
    });
    scanned.await.unwrap();
    assert_eq!(offsets, Vec::from_iter(0..BATCHES));
}

#[tokio::test]
async fn a_time_is_found_in_the_batch_that_begins_in_the_file_and_ends_in_memory() {
    let bench = Bench::split().await;
    for time_ms in 0..BATCHES {
        assert_eq!(bench.at_time(time_ms).await, Some((time_ms, time_ms)));
    }
    assert_eq!(bench.at_time(BATCHES).await, None);
    let newest = bench.partition.offset_of_max_timestamp().await.unwrap().unwrap();
    assert_eq!((newest.offset.0, newest.timestamp_ms), (BATCHES - 1, BATCHES - 1));
}

#[tokio::test]
async fn a_search_by_time_goes_on_behind_the_batch_that_the_log_start_cuts() {
    let bench = Bench::new();
    bench.append(&[9, 1, 2]).await;
    bench.append(&[5]).await;
    bench.append(&[9]).await;
    bench.partition.move_log_start(Offset(1)).await.unwrap();
    // First from the journal's memory, then from what a checkpoint made of it.
    for _ in 0..2 {
        assert_eq!(bench.at_time(2).await, Some((2, 2)), "it is in the batch that is cut");
        assert_eq!(bench.at_time(3).await, Some((3, 5)), "the 9 of the first batch is gone");
        assert_eq!(bench.at_time(6).await, Some((4, 9)));
        assert_eq!(bench.at_time(10).await, None);
        bench.directory.checkpoint().unwrap();
    }
}

#[tokio::test]
async fn the_end_of_a_log_has_the_epoch_that_will_write_there() {
    let bench = Bench::new();
    let current = bench.partition.leader_epoch();
    assert_eq!(bench.partition.epoch_of(Offset(0)), current, "nothing was ever written");
    bench.append(&[1]).await;
    assert_eq!([0, 1].map(|offset| bench.partition.epoch_of(Offset(offset))), [current; 2]);
}
