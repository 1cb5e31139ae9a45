//! Measures replay from a store against one raw stream of ranged GETs, in one run.
//!
//! `cargo run --release -p tiering --example replay_rate -- STORE_URL [MEBIBYTES]` on a prefix of its own; the usual AWS
//! variables say how to reach it. It archives incompressible records through the ordinary path, then reads all objects
//! by one raw ranged-GET stream (8 MiB each, one after the other), then replays the log with one consumer that drops
//! what it gets. It prints both rates, their ratio, and the CPU seconds of this process for each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use hotlog::epochs::EpochHistory;
use hotlog::index::{IndexedBatch, SegmentIndex};
use hotlog::producers::ProducerStates;
use hotlog::sidecar::Sidecar;
use rand::RngExt as _;
use tiering::cluster_record::{ClusterIdentity, TopicRecord};
use tiering::local::{LocalLog, LocalSegment, SealedRange, SegmentContent};
use tiering::manifest::Committed;
use tiering::store::{StoreKey, StoreUrl, open_store};
use tiering::{PartitionId, PartitionPolicy, Tier, TierOptions};
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
use wire::ids::{LeaderEpoch, Offset, TopicId};

const TOPIC: TopicId = TopicId([3; 16]);
const PARTITION: PartitionId = PartitionId { topic_id: TOPIC, partition: 0 };
const SEGMENT_BATCHES: i64 = 2048;
const RECORDS: i64 = 64;
const RANGE_BYTES: u64 = 8 << 20;

/// A log of equal segments: one segment's batches, stamped with each segment's offsets when they are read.
#[derive(Debug)]
struct RepeatedLog {
    segments: i64,
}

#[derive(Debug)]
struct Repeated {
    bytes: Vec<u8>,
    sidecar: Bytes,
}

fn offsets_per_segment() -> i64 {
    SEGMENT_BATCHES * RECORDS
}

fn make(segment: i64) -> Repeated {
    let (mut bytes, mut value, mut next) = (Vec::new(), vec![0u8; 1024], segment * offsets_per_segment());
    let mut index = SegmentIndex::new(Offset(next));
    let base = next;
    for _ in 0..SEGMENT_BATCHES {
        let base_offset = Offset(next);
        let options = BatchOptions { base_offset, leader_epoch: LeaderEpoch(1), ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        for _ in 0..RECORDS {
            rand::rng().fill(&mut value[..]);
            builder.push(&NewRecord { timestamp_ms: next, value: Some(&value), ..NewRecord::default() });
            next += 1;
        }
        let batch = builder.build();
        index.append(&IndexedBatch {
            base_offset,
            size_bytes: batch.len() as u32,
            max_timestamp_ms: next - 1,
        });
        bytes.extend_from_slice(&batch);
    }
    let mut epochs = EpochHistory::default();
    epochs.assign(LeaderEpoch(1), Offset(base));
    let sidecar = Sidecar {
        topic_id: TOPIC,
        partition: 0,
        leader_epoch: LeaderEpoch(1),
        next_offset: Offset(next),
        first_append_time_ms: 0,
        last_append_time_ms: 0,
        index,
        aborted: Default::default(),
        producers: ProducerStates::default(),
        epochs,
    };
    Repeated { bytes, sidecar: sidecar.encode().into() }
}

impl SegmentContent for Repeated {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> std::io::Result<()> {
        let start = position as usize;
        buffer.copy_from_slice(&self.bytes[start..start + buffer.len()]);
        Ok(())
    }

    fn sidecar(&self) -> std::io::Result<Bytes> {
        Ok(self.sidecar.clone())
    }
}

impl LocalLog for RepeatedLog {
    fn sealed_ranges(&self, from: Offset) -> std::io::Result<Vec<SealedRange>> {
        let first = self.first_sealed_segment(from)?;
        let range = |segment: LocalSegment| SealedRange {
            base_offset: segment.base_offset,
            next_offset: segment.next_offset,
            size_bytes: segment.size_bytes,
        };
        Ok(first.map(range).into_iter().collect())
    }

    fn first_sealed_segment(&self, from: Offset) -> std::io::Result<Option<LocalSegment>> {
        let segment = from.0 / offsets_per_segment();
        if segment >= self.segments {
            return Ok(None);
        }
        let content = make(segment);
        Ok(Some(LocalSegment {
            base_offset: Offset(segment * offsets_per_segment()),
            next_offset: Offset((segment + 1) * offsets_per_segment()),
            leader_epoch: LeaderEpoch(1),
            size_bytes: content.bytes.len() as u64,
            content: Arc::new(content),
        }))
    }

    fn sealed_end(&self) -> Offset {
        self.log_end()
    }

    fn last_stable_offset(&self) -> Offset {
        self.log_end()
    }

    fn log_start(&self) -> Offset {
        Offset(0)
    }

    fn local_log_start(&self) -> Offset {
        Offset(0)
    }

    fn log_end(&self) -> Offset {
        Offset(self.segments * offsets_per_segment())
    }

    fn local_bytes(&self) -> u64 {
        0
    }

    fn release_wanted(&self, _below: Offset) -> std::io::Result<Offset> {
        Ok(Offset(0))
    }

    fn release(&self, _committed: Committed) {}

    fn disagree(&self, _why: Option<String>) {}

    fn advance_log_start(&self, _to: Offset) -> BoxFuture<'static, std::io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// CPU seconds of this process so far.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(") ").context("odd /proc/self/stat")?.1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url: StoreUrl = arguments.next().context("usage: replay_rate STORE_URL [MEBIBYTES]")?.parse()?;
    let mebibytes: i64 = arguments.next().map_or(Ok(2048), |text| text.parse())?;
    let segment_bytes = make(0).bytes.len() as i64;
    let segments = ((mebibytes << 20) / segment_bytes).max(1);
    let identity = ClusterIdentity {
        cluster_id: "replay-rate".into(),
        cluster_name: "replay-rate".into(),
        recovery_generation: 0,
        fresh: false,
    };
    tiering::admin::init(&url).await?;
    let tier = Tier::open(TierOptions::new(url.clone(), identity)).await?;
    tier.record_topics(vec![TopicRecord {
        topic_id: TOPIC,
        name: "replay".into(),
        partitions: 1,
        configs: Default::default(),
        deleted_at_ms: None,
    }]);
    let policy = PartitionPolicy { retention_ms: None, retention_bytes: None, archive: true, delete: false };
    tier.attach(PARTITION, policy, Arc::new(RepeatedLog { segments }));
    let end = Offset(segments * offsets_per_segment());
    while tier.range(PARTITION).is_none_or(|range| range.end < end) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let raw = raw_stream(&url).await?;
    let replay = replay(&tier, end).await?;
    println!("raw ranged GETs: {:.0} MB/s, {:.2} CPU s/GB", raw.0, raw.1);
    println!("replay:          {:.0} MB/s, {:.2} CPU s/GB", replay.0, replay.1);
    println!("ratio:           {:.2}", replay.0 / raw.0);
    tier.close().await;
    Ok(())
}

/// All objects of the partition, by one stream of ranged GETs: MB/s and CPU seconds per GB.
async fn raw_stream(url: &StoreUrl) -> anyhow::Result<(f64, f64)> {
    let inspection = tiering::admin::inspect(url).await?;
    let store = open_store(url)?;
    let (start, cpu, mut bytes) = (now(), cpu_seconds()?, 0u64);
    for segment in &inspection.topics[0].partitions[0].segments {
        let key = StoreKey::new(segment.key.clone());
        let mut position = 0;
        while position < segment.object_bytes {
            let end = (position + RANGE_BYTES).min(segment.object_bytes);
            let mut body = store.get_range(&key, position..end).await?;
            while let Some(piece) = body.next().await {
                bytes += piece?.len() as u64;
            }
            position = end;
        }
    }
    rate(bytes, start, cpu)
}

/// The whole log by one consumer.
async fn replay(tier: &Tier, end: Offset) -> anyhow::Result<(f64, f64)> {
    let (start, cpu, mut bytes, mut next) = (now(), cpu_seconds()?, 0u64, Offset(0));
    while next < end {
        let read = tier.fetch(PARTITION, next, 8 << 20).await?;
        ensure!(!read.batches.is_empty(), "the store ends at {} instead of {}", next.0, end.0);
        bytes += read.batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
        next = read.next_offset;
    }
    rate(bytes, start, cpu)
}

fn rate(bytes: u64, start: Instant, cpu: f64) -> anyhow::Result<(f64, f64)> {
    let (megabytes, seconds) = (bytes as f64 / 1e6, start.elapsed().as_secs_f64());
    Ok((megabytes / seconds, (cpu_seconds()? - cpu) / (megabytes / 1e3)))
}
