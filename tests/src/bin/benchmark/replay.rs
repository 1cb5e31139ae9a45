//! Replay of a long history out of S3: one lean consumer through the broker, against one raw stream of ranged GETs.
//!
//! Owns: the data, the two readers, the mark. Does not own: the server (MinIO by the harness), or how objects are laid
//! out; they are found as `longhaul tier inspect` finds them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use client::cluster::{Cluster, ClusterOptions, Lane};
use client::fetch::{FetchFrom, FetchRound};
use client::produce::ProduceBatch;
use client::transport::Address;
use client::{Isolation, TopicPartition};
use futures::StreamExt;
use tests::clients::java::{Tool, call};
use tests::deadline::{Deadline, sleep};
use tests::longhaul::{Broker, BrokerSettings, verb_with};
use tests::minio::{ACCESS_KEY, Minio, REGION, SECRET_KEY};
use tests::scratch::Scratch;
use tiering::store::{Secret, StoreKey, StoreUrl, open_store};
use wire::batch::{BatchBuilder, BatchHeader, BatchOptions, NewRecord};
use wire::{LeaderEpoch, Offset, TopicId};

use crate::Options;
use crate::cost::process_time;
use crate::table::{Mark, Row, Table, median};

const TOPIC: &str = "history";
const STORE: &str = "s3://longhaul/replay";
const HISTORY_BYTES: u64 = 2 << 30;
const RECORD_BYTES: usize = 1024;
const BATCH_RECORDS: usize = 256;
/// Requests of the writer under way.
const PIPELINE: usize = 8;
/// A quarter of a gibibyte would be usual; smaller segments leave less of the history in the broker.
const SEGMENT_BYTES: &str = "segment.bytes=67108864";
/// What one ranged GET asks for, and what the consumer asks for.
const READ_BYTES: u64 = 8 << 20;
/// How long it may take until the history is in the store.
const TIER_SECONDS: u64 = 300;

pub(crate) fn measure(options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scratch = Scratch::new()?;
    let minio = Minio::start(scratch.join("minio"))?;
    verb_with(&["tier", "init", "--store", STORE], &minio.environment())?.success()?;
    let settings = BrokerSettings { environment: minio.environment(), ..BrokerSettings::default() };
    let mut broker = Broker::start(
        scratch.join("broker"),
        settings.with("--flush").with("os").with("--store").with(STORE),
    )?;
    let bootstrap = broker.bootstrap();
    let mut arguments =
        vec!["--bootstrap-server", &bootstrap, "--create", "--topic", TOPIC, "--partitions", "1"];
    for setting in [SEGMENT_BYTES, "local.retention.bytes=1", "retention.ms=-1"] {
        arguments.extend(["--config", setting]);
    }
    call(Tool::Topics, &arguments, &[])?;
    eprintln!("  writing {} MB of random records", HISTORY_BYTES / 1_000_000);
    let history = runtime.block_on(History::write(&broker))?;
    let url = store_url(&minio)?;
    let (mut raw, mut replay, mut processor) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..options.runs {
        eprintln!("  run {} of {}: replay", run + 1, options.runs);
        raw.push(runtime.block_on(raw_stream(&url))?);
        let before = process_time(broker.process().id())?;
        replay.push(runtime.block_on(history.replay())?);
        let seconds = (process_time(broker.process().id())? - before).as_secs_f64();
        processor.push(seconds / (history.end.0 as f64 * RECORD_BYTES as f64 / 1e9));
    }
    let (raw, replay) = (median(raw), median(replay));
    let work = "replay from MinIO, incompressible";
    let row = |side: &str, figures| Row { work: work.to_owned(), side: side.to_owned(), figures };
    table.row(row("one stream of ranged GETs", vec![("MB/s", raw)]));
    table.row(row("Longhaul, one consumer", vec![("MB/s", replay), ("core-s/GB", median(processor))]));
    table.ratio("replay rate: Longhaul / raw ranged GETs", replay / raw, Mark::AtLeast(0.5));
    Ok(())
}

/// The store as the benchmark itself reaches it.
fn store_url(minio: &Minio) -> anyhow::Result<StoreUrl> {
    let mut url: StoreUrl = STORE.parse()?;
    url.endpoint = Some(minio.endpoint());
    url.region = Some(REGION.to_owned());
    url.credentials = Some((ACCESS_KEY.to_owned(), Secret::new(SECRET_KEY)));
    Ok(url)
}

/// A topic whose first `end` offsets are in the store and not on the broker's disk.
struct History {
    cluster: Cluster,
    end: Offset,
}

impl History {
    async fn write(broker: &Broker) -> anyhow::Result<Self> {
        let cluster =
            Cluster::connect(ClusterOptions::new(vec![broker.bootstrap().parse::<Address>()?])).await?;
        let partition = TopicPartition::new(TOPIC, 0);
        cluster.refresh(&[Arc::clone(&partition.topic)]).await?;
        let leader = cluster.leader(&partition).await?;
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let mut under_way = std::collections::VecDeque::new();
        let batches = HISTORY_BYTES / (BATCH_RECORDS * RECORD_BYTES) as u64;
        for _ in 0..batches {
            if under_way.len() == PIPELINE {
                acknowledged(under_way.pop_front()).await?;
            }
            let pieces = vec![Bytes::from(noise.batch())];
            let batch = ProduceBatch { partition: partition.clone(), topic_id: TopicId::ZERO, pieces };
            let pending = cluster.start_produce(leader.broker, vec![batch], Duration::from_secs(30)).await?;
            under_way.push_back(pending);
        }
        while let Some(pending) = under_way.pop_front() {
            acknowledged(Some(pending)).await?;
        }
        let deadline = Deadline::seconds(TIER_SECONDS);
        let admin = broker.admin().to_string();
        // Only the active segment stays.
        let wanted = batches as i64 * BATCH_RECORDS as i64 * 9 / 10;
        loop {
            let status = control::ask_status(&admin).await?.broker.context("a broker answers for itself")?;
            let topic = status.topics.into_iter().find(|topic| topic.name == TOPIC).context("the topic")?;
            let start = topic.partitions.first().context("its partition")?.local_log_start_offset;
            if start >= wanted {
                return Ok(Self { cluster, end: Offset(start) });
            }
            anyhow::ensure!(!deadline.passed(), "only {start} of {wanted} offsets have left the broker");
            sleep(Duration::from_millis(200));
        }
    }

    /// Reads the history once, keeps nothing, and gives MB of batches per second.
    async fn replay(&self) -> anyhow::Result<f64> {
        let partition = TopicPartition::new(TOPIC, 0);
        let leader = self.cluster.leader(&partition).await?;
        let watch = Deadline::seconds(TIER_SECONDS);
        let (mut offset, mut bytes) = (Offset(0), 0);
        while offset < self.end {
            anyhow::ensure!(!watch.passed(), "the replay came to offset {} of {}", offset.0, self.end.0);
            let from = FetchFrom {
                partition: partition.clone(),
                topic_id: TopicId::ZERO,
                offset,
                leader_epoch: LeaderEpoch(-1),
                last_fetched_epoch: LeaderEpoch(-1),
                max_bytes: READ_BYTES as i32,
            };
            let round = FetchRound {
                partitions: vec![from],
                max_wait: Duration::from_millis(500),
                min_bytes: 1,
                max_bytes: READ_BYTES as i32,
                isolation: Isolation::ReadUncommitted,
                lane: Lane::Fetch,
            };
            let fetched = self.cluster.fetch(leader.broker, &round).await?.remove(0);
            anyhow::ensure!(fetched.code == wire::ErrorCode::NONE, "fetch at {}: {}", offset.0, fetched.code);
            let mut rest = &fetched.records[..];
            while let Ok(header) = BatchHeader::parse(rest)
                && header.size_bytes <= rest.len()
            {
                anyhow::ensure!(
                    header.base_offset == offset,
                    "{} follows {}",
                    header.base_offset.0,
                    offset.0
                );
                offset = header.next_offset();
                bytes += header.size_bytes as u64;
                rest = &rest[header.size_bytes..];
            }
        }
        Ok(bytes as f64 / 1e6 / watch.spent().as_secs_f64())
    }
}

async fn acknowledged(pending: Option<client::produce::PendingProduce>) -> anyhow::Result<()> {
    let Some(pending) = pending else { return Ok(()) };
    for produced in pending.outcomes().await? {
        anyhow::ensure!(
            matches!(produced.outcome, client::produce::Outcome::Acknowledged { .. }),
            "the broker refused: {:?}",
            produced.outcome
        );
    }
    Ok(())
}

/// All objects of the topic, one ranged GET after the other: MB per second.
async fn raw_stream(url: &StoreUrl) -> anyhow::Result<f64> {
    let inspection = tiering::admin::inspect(url).await?;
    let topic =
        inspection.topics.iter().find(|topic| topic.name == TOPIC).context("the topic in the store")?;
    let store = open_store(url)?;
    let (watch, mut bytes) = (Deadline::seconds(TIER_SECONDS), 0);
    for segment in topic.partitions.iter().flat_map(|partition| &partition.segments) {
        let key = StoreKey::new(segment.key.clone());
        let mut position = 0;
        while position < segment.object_bytes {
            let end = (position + READ_BYTES).min(segment.object_bytes);
            let mut body = store.get_range(&key, position..end).await?;
            while let Some(piece) = body.next().await {
                bytes += piece?.len() as u64;
            }
            position = end;
        }
    }
    Ok(bytes as f64 / 1e6 / watch.spent().as_secs_f64())
}

/// Bytes that no codec makes smaller (xorshift).
struct Noise(u64);

impl Noise {
    fn batch(&mut self) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let mut value = [0; RECORD_BYTES];
        for _ in 0..BATCH_RECORDS {
            for word in value.chunks_exact_mut(8) {
                self.0 ^= self.0 << 13;
                self.0 ^= self.0 >> 7;
                self.0 ^= self.0 << 17;
                word.copy_from_slice(&self.0.to_le_bytes());
            }
            builder.push(&NewRecord { value: Some(&value), ..NewRecord::default() });
        }
        builder.build()
    }
}
