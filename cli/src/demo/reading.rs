//! Reading the demo's topic with our own client.
//!
//! Owns: where reading begins and ends. Does not own: what is expected of it (`ledger`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::consumer::ConsumedRecord;
use client::offsets::Place;
use client::{Cluster, Consumer, ConsumerOptions, Isolation, TopicPartition};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use wire::Offset;

use super::DemoError;
use super::world::{PARTITIONS, PATIENCE, TOPIC};

/// What a member of a group does with the records of one poll, as far as it takes time.
const PAUSE: Duration = Duration::from_millis(15);

fn options() -> ConsumerOptions {
    ConsumerOptions {
        isolation: Isolation::ReadCommitted,
        max_wait: Duration::from_millis(50),
        ..ConsumerOptions::default()
    }
}

/// The first offset and the end of every partition.
pub(super) async fn bounds(
    cluster: &Cluster,
) -> Result<BTreeMap<TopicPartition, (Offset, Offset)>, DemoError> {
    let partitions: Vec<TopicPartition> = (0..PARTITIONS).map(|n| TopicPartition::new(TOPIC, n)).collect();
    let at = |place| partitions.iter().map(|partition| (partition.clone(), place)).collect::<Vec<_>>();
    let starts = cluster.list_offsets(&at(Place::Earliest), Isolation::ReadCommitted).await?;
    let ends = cluster.list_offsets(&at(Place::Latest), Isolation::ReadCommitted).await?;
    let offset = |found: &client::offsets::Found| found.offset.unwrap_or(Offset(0));
    let pairs = starts.iter().zip(&ends).map(|(start, end)| (offset(start), offset(end)));
    Ok(partitions.iter().cloned().zip(pairs).collect())
}

/// Every record from these offsets, or from the first ones, to the ends of now.
pub(super) async fn all(
    cluster: &Cluster,
    from: Option<&BTreeMap<i32, i64>>,
) -> Result<Vec<ConsumedRecord>, DemoError> {
    let bounds = bounds(cluster).await?;
    let begin = |partition: &TopicPartition, first: Offset| {
        from.and_then(|from| from.get(&partition.partition)).map_or(first, |offset| Offset(*offset))
    };
    let positions =
        bounds.iter().map(|(partition, (first, _))| (partition.clone(), begin(partition, *first)));
    let mut consumer = Consumer::assign(cluster, positions.collect(), options());
    let started_at = Instant::now();
    let mut read = Vec::new();
    while consumer.positions().iter().any(|(partition, position)| *position < bounds[partition].1) {
        if started_at.elapsed() > PATIENCE {
            return Err(DemoError::Disproved(format!(
                "{} records were read, and then no more came",
                read.len()
            )));
        }
        read.extend(consumer.poll().await?);
    }
    Ok(read)
}

/// Reads as a member of a group until `enough` records came, commits and leaves. Gives the committed positions too.
pub(super) async fn as_group(
    cluster: &Cluster,
    group: &str,
    enough: usize,
) -> Result<(Vec<ConsumedRecord>, BTreeMap<i32, i64>), DemoError> {
    // Small answers, so that the group can stop somewhere in the middle of every partition.
    let options = ConsumerOptions { partition_max_bytes: 256 * 1024, ..options() };
    let mut consumer = Consumer::subscribe(cluster, group, BTreeSet::from([Arc::from(TOPIC)]), options);
    let started_at = Instant::now();
    let mut read = Vec::new();
    while read.len() < enough {
        if started_at.elapsed() > PATIENCE {
            let got = read.len();
            return Err(DemoError::Disproved(format!(
                "group {group} read {got} records, and then no more came"
            )));
        }
        read.extend(consumer.poll().await?);
    }
    let positions =
        consumer.positions().iter().map(|(partition, offset)| (partition.partition, offset.0)).collect();
    consumer.close().await?;
    Ok((read, positions))
}

/// Reads as a member of a group from where it stands to the ends of now.
pub(super) async fn as_group_to_the_end(
    cluster: &Cluster,
    group: &str,
) -> Result<Vec<ConsumedRecord>, DemoError> {
    let bounds = bounds(cluster).await?;
    let mut consumer = Consumer::subscribe(cluster, group, BTreeSet::from([Arc::from(TOPIC)]), options());
    let started_at = Instant::now();
    let mut read = Vec::new();
    let at_end = |consumer: &Consumer| {
        let positions = consumer.positions();
        bounds.iter().all(|(partition, (_, end))| positions.get(partition).is_some_and(|at| at >= end))
    };
    while !at_end(&consumer) {
        if started_at.elapsed() > PATIENCE {
            let got = read.len();
            return Err(DemoError::Disproved(format!(
                "group {group} read {got} records, and then no more came"
            )));
        }
        read.extend(consumer.poll().await?);
    }
    consumer.close().await?;
    Ok(read)
}

/// A member of a group that reads and commits until its cluster, or somebody, stops it.
pub(super) struct Endless {
    given: Arc<Mutex<Vec<ConsumedRecord>>>,
    task: AbortHandle,
}

impl Endless {
    pub(super) fn start(cluster: &Cluster, group: &str) -> Self {
        // Small answers and a pause after each, as work takes time.
        let options = ConsumerOptions { partition_max_bytes: 32 * 1024, ..options() };
        let mut consumer = Consumer::subscribe(cluster, group, BTreeSet::from([Arc::from(TOPIC)]), options);
        let given = Arc::new(Mutex::new(Vec::new()));
        let giving = Arc::clone(&given);
        let task = tokio::spawn(async move {
            while let Ok(records) = consumer.poll().await {
                giving.lock().unwrap_or_else(PoisonError::into_inner).extend(records);
                if consumer.commit().await.is_err() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { given, task: task.abort_handle() }
    }

    /// Ends the member without a word to the group, and gives what it was given.
    pub(super) fn stop(self) -> Vec<ConsumedRecord> {
        self.task.abort();
        std::mem::take(&mut self.given.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
