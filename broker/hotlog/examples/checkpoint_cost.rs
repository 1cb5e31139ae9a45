//! What a checkpoint costs with many active partitions: time, processor time and bytes, on the disk of the folder given.
//!
//! `cargo run --release -p hotlog --example checkpoint_cost -- [FOLDER]`

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement, not the product")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use hotlog::worker::{Spawner, Worker};
use hotlog::{
    CommitFuture, FlushMode, LogDirectory, LogOptions, Origin, Partition, PartitionConfig, PartitionId,
    TopicDirectory,
};
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
use wire::ids::TopicId;

/// Keeps the workers idle, so that only what is measured runs.
#[derive(Debug)]
struct Nobody;

impl Spawner for Nobody {
    fn start(&self, _worker: Box<dyn Worker>) -> std::io::Result<()> {
        Ok(())
    }
}

const TOPIC: TopicId = TopicId([7; 16]);

fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into).join("checkpoint-cost");
    println!("partitions  bytes each  appended MB  checkpoint ms  processor ms  file MB  replaced");
    for (count, bytes) in
        [(6, 4 << 20), (1_000, 16 << 10), (1_000, 1 << 10), (10_000, 2 << 10), (10_000, 300)]
    {
        std::fs::remove_dir_all(&folder).ok();
        measure(&folder, count, bytes);
    }
    std::fs::remove_dir_all(&folder).ok();
}

fn measure(folder: &std::path::Path, count: i32, bytes: usize) {
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    let mut options = LogOptions::new(folder.to_owned());
    options.flush = FlushMode::Os;
    options.spawner = Arc::new(Nobody);
    let mut topics = TopicDirectory::default();
    topics.live.insert(TOPIC);
    let (directory, _) = LogDirectory::open(options).unwrap().finish(&topics).unwrap();
    let partitions: Vec<Arc<Partition>> = (0..count)
        .map(|partition| {
            let id = PartitionId { topic_id: TOPIC, partition };
            directory.create_partition(id, PartitionConfig::default()).unwrap()
        })
        .collect();
    let batch_bytes = bytes.min(16 << 10);
    let batch = batch(batch_bytes);
    for round in 0..6 {
        let mut appended = 0;
        for partition in &partitions {
            for _ in 0..bytes / batch_bytes {
                appended += append(&directory, partition, &batch);
            }
        }
        let (wall, processor) = (Instant::now(), processor_time());
        let figures = directory.checkpoint().unwrap();
        println!(
            "{count:>10}  {bytes:>10}  {:>11.1}  {:>13.1}  {:>12.1}  {:>7.2}  {}",
            appended as f64 / 1e6,
            wall.elapsed().as_secs_f64() * 1e3,
            (processor_time() - processor).as_secs_f64() * 1e3,
            figures.file_bytes as f64 / 1e6,
            if figures.replaced {
                "yes"
            } else if round == 0 {
                "first"
            } else {
                ""
            },
        );
    }
}

fn append(directory: &LogDirectory, partition: &Arc<Partition>, batch: &[u8]) -> usize {
    let room = poll_once(directory.reserve_room(batch.len())).unwrap();
    let appended = partition.append(room, batch, Origin::Client).unwrap();
    let commit: CommitFuture = directory.commit(appended.ticket);
    poll_once(commit).unwrap();
    batch.len()
}

/// Neither room nor a commit has to be waited for here: the ring is never full, and this thread commits.
fn poll_once<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the ring is full: lower the bytes"),
    }
}

fn batch(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let value = vec![b'x'; bytes - 90];
    builder.push(&NewRecord { timestamp_ms: 1, value: Some(&value), ..NewRecord::default() });
    builder.build()
}

/// User and system time of this process so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
