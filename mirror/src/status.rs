//! What a flow has come to, read from its target; and how far behind it is, where the source answers.
//!
//! Owns: the account of one flow, and reading it again without reading the whole map topic again.
//! Does not own: the reading itself (`flow::map_log`), what a ledger keeps (`map_topic::Scope`).

#[cfg(test)]
mod tests;

use std::time::Duration;

use client::offsets::Place;
use client::{Cluster, Isolation, TopicPartition};
use serde::Serialize;

use crate::events::Event;
use crate::flow::map_log::MapReader;
use crate::flow::{FlowError, connect};
use crate::groups::{NotSynced, ReadAgain};
use crate::map_topic::{GroupSync, Ledger, Promotion, Scope, SyncPass};
use crate::spec::FlowSpec;
use crate::translate::key_of;

/// How long a source may take to say where its logs end.
const SOURCE_WITHIN: Duration = Duration::from_secs(3);
/// A reader that goes on still counts what the target has compacted away. It begins again when so much has come, and no
/// less than there was at first.
const COUNTED_AGAIN_AFTER_BYTES: u64 = 64 * 1024 * 1024;

/// A flow as its target knows it.
#[derive(Clone, Debug, Serialize)]
pub struct FlowStatus {
    /// The flow.
    pub flow: String,
    /// Whether, and when, it was promoted.
    pub promotion: Option<Promotion>,
    /// Who owned it last.
    pub owner: Option<String>,
    /// Generation of that owner.
    pub generation: u64,
    /// The last complete pass over the groups, and with it the age of their positions.
    pub sync_pass: Option<SyncPass>,
    /// What each synced group may read again after a failover now.
    pub groups: Vec<ReadAgain>,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
    /// Events at which it stands.
    pub events: Vec<Event>,
    /// The map topic, which all flows to that target share; `None` where there is none.
    pub map_topic: Option<MapTopicStatus>,
}

/// How large the map topic is on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MapTopicStatus {
    /// Its first offset.
    pub log_start_offset: i64,
    /// The offset after its last record.
    pub log_end_offset: i64,
    /// Bytes of the batches between them, as they were read.
    pub size_bytes: u64,
}

/// A partition as its target knows it.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    /// The topic at the source.
    pub topic: String,
    /// The topic at the target.
    pub target_topic: String,
    /// The partition.
    pub partition: i32,
    /// Next source offset to copy, as written down.
    pub source_position: i64,
    /// Target offset after the last copied record, as written down.
    pub target_position: i64,
    /// When that was written, milliseconds since 1970.
    pub at_ms: i64,
    /// The source's last stable offset; `None` when the source does not answer.
    pub source_end: Option<i64>,
    /// Where the target's log ended when the flow was promoted, if it held more than settled copies by then.
    pub target_end: Option<i64>,
}

impl PartitionStatus {
    /// What it is called in a promotion: `topic-partition`, by the topic's name at the source.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }

    /// First target offset that no group can have read before.
    fn unread_from(&self) -> i64 {
        self.target_position.max(self.target_end.unwrap_or(0))
    }

    /// Source offsets not copied yet, as far as is known.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        self.source_end.map(|end| u64::try_from(end - self.source_position).unwrap_or(0))
    }
}

/// Reads a flow's status. The source may be dead.
///
/// # Errors
/// [`FlowError`]: the target does not answer.
pub async fn status(spec: &FlowSpec) -> Result<FlowStatus, FlowError> {
    let mut status = StatusReader::new(spec.clone()).read().await?;
    let ends = tokio::time::timeout(SOURCE_WITHIN, source_ends(spec, &status)).await;
    if let Ok(Ok(ends)) = ends {
        for (partition, end) in status.partitions.iter_mut().zip(ends) {
            partition.source_end = end;
        }
    }
    Ok(status)
}

/// Reads a flow's status again and again, each time only what came to the map topic since. It holds what the flow has
/// come to, and no offset maps.
#[derive(Debug)]
pub struct StatusReader {
    spec: FlowSpec,
    /// `None` before the first reading and after one that failed.
    target: Option<ReadTarget>,
}

impl StatusReader {
    /// A reader that has not asked yet.
    #[must_use]
    pub fn new(spec: FlowSpec) -> Self {
        Self { spec, target: None }
    }

    /// Reads what the target knows of the flow; the source is not asked.
    ///
    /// # Errors
    /// [`FlowError`]: the target does not answer. The next reading begins anew.
    pub async fn read(&mut self) -> Result<FlowStatus, FlowError> {
        let mut target = match self.target.take() {
            Some(target) => target,
            None => ReadTarget::connect(&self.spec).await?,
        };
        let map_topic = target.read().await?;
        let mut status = from_ledger(&target.ledger, &self.spec);
        status.map_topic = map_topic;
        self.target = Some(target).filter(|target| !target.is_to_begin_again(map_topic));
        Ok(status)
    }
}

/// What a [`StatusReader`] goes on with.
#[derive(Debug)]
struct ReadTarget {
    cluster: Cluster,
    reader: MapReader,
    ledger: Ledger,
    /// Size of the map topic when it was first read.
    first_bytes: Option<u64>,
}

impl ReadTarget {
    async fn connect(spec: &FlowSpec) -> Result<Self, FlowError> {
        let cluster = connect(&spec.to).await?;
        let reader = MapReader::new(&cluster);
        let ledger = Ledger::within(Scope::Account { flow: spec.name.clone() });
        Ok(Self { cluster, reader, ledger, first_bytes: None })
    }

    /// Reads what is new; `None` where there is no map topic.
    async fn read(&mut self) -> Result<Option<MapTopicStatus>, FlowError> {
        if !MapReader::exists(&self.cluster).await? {
            self.ledger.begin_again();
            return Ok(None);
        }
        self.reader.read_to_end(&mut self.ledger).await?;
        let size_bytes = self.reader.size_bytes();
        self.first_bytes.get_or_insert(size_bytes);
        let (log_start, log_end) = (self.reader.log_start(), self.reader.log_end());
        Ok(Some(MapTopicStatus { log_start_offset: log_start.0, log_end_offset: log_end.0, size_bytes }))
    }

    /// Whether what was read is of no use for the next reading.
    fn is_to_begin_again(&self, found: Option<MapTopicStatus>) -> bool {
        match (self.first_bytes, found) {
            (Some(first_bytes), Some(found)) => is_counted_again(first_bytes, found.size_bytes),
            // A topic that was there and is not may come again as another one.
            (first_bytes, _) => first_bytes.is_some(),
        }
    }
}

/// Whether a reader that found `first_bytes` at first and has now read `size_bytes` in all begins again.
fn is_counted_again(first_bytes: u64, size_bytes: u64) -> bool {
    size_bytes.saturating_sub(first_bytes) > first_bytes.max(COUNTED_AGAIN_AFTER_BYTES)
}

async fn source_ends(spec: &FlowSpec, status: &FlowStatus) -> Result<Vec<Option<i64>>, FlowError> {
    let source = connect(&spec.from).await?;
    let partition = |known: &PartitionStatus| TopicPartition::new(known.topic.as_str(), known.partition);
    let asked: Vec<_> = status.partitions.iter().map(|known| (partition(known), Place::Latest)).collect();
    let found = source.list_offsets(&asked, Isolation::ReadCommitted).await?;
    Ok(found.into_iter().map(|found| found.offset.map(|offset| offset.0)).collect())
}

/// What the ledger says of a flow; the size of what it was read from is not in it.
pub(crate) fn from_ledger(ledger: &Ledger, spec: &FlowSpec) -> FlowStatus {
    let (holder, promotion) = (ledger.holder(&spec.name), ledger.promotion(&spec.name));
    let mut partitions = Vec::new();
    for (topic, bound) in ledger.bindings(&spec.name) {
        for partition in 0.. {
            let key = key_of(ledger, spec, topic, partition);
            let known =
                key.and_then(|key| ledger.partition(&key)?.progress().map(|(_, progress)| progress.clone()));
            let Some(progress) = known else { break };
            let mut found = PartitionStatus {
                topic: topic.to_owned(),
                target_topic: bound.target_name.clone(),
                partition,
                source_position: progress.source,
                target_position: progress.target,
                at_ms: progress.at_ms,
                source_end: None,
                target_end: None,
            };
            found.target_end =
                promotion.and_then(|promotion| promotion.target_ends.get(&found.name()).copied());
            partitions.push(found);
        }
    }
    FlowStatus {
        flow: spec.name.clone(),
        promotion: promotion.cloned(),
        owner: holder.map(|(_, _, claim)| claim.owner.clone()),
        generation: holder.map_or(0, |(generation, ..)| generation),
        sync_pass: ledger.sync_pass(&spec.name).cloned(),
        groups: read_again(ledger, spec, &partitions),
        partitions,
        events: ledger.events(&spec.name).cloned().collect(),
        map_topic: None,
    }
}

/// What each group may read again: from its synced position to the end of the copy, or of what else it may have read.
pub(crate) fn read_again(ledger: &Ledger, spec: &FlowSpec, partitions: &[PartitionStatus]) -> Vec<ReadAgain> {
    let mut ranges = Vec::new();
    for (group, sync) in ledger.groups(&spec.name) {
        for synced in &sync.partitions {
            let copied = partitions
                .iter()
                .find(|known| known.target_topic == synced.topic && known.partition == synced.partition);
            ranges.push(ReadAgain {
                group: group.to_owned(),
                topic: synced.topic.clone(),
                partition: synced.partition,
                source: synced.source,
                from: synced.target,
                to: copied.map_or(0, PartitionStatus::unread_from).max(synced.read_to.unwrap_or(0)),
                reason: synced.reason.clone(),
            });
        }
    }
    ranges
}

/// Where a group has no position, of what it reads: the copied partitions, with records in them, of the topics in which
/// it has one elsewhere. Of other topics nothing says that it reads them at all.
pub(crate) fn not_synced(group: &str, sync: &GroupSync, partitions: &[PartitionStatus]) -> Vec<NotSynced> {
    let reads = |known: &PartitionStatus| sync.partitions.iter().any(|has| has.topic == known.target_topic);
    let stands_in = |known: &PartitionStatus| {
        let mut synced = sync.partitions.iter();
        synced.any(|has| has.topic == known.target_topic && has.partition == known.partition)
    };
    let missing = |known: &&PartitionStatus| known.unread_from() > 0 && reads(known) && !stands_in(known);
    let say = |known: &PartitionStatus| NotSynced {
        group: group.to_owned(),
        topic: known.target_topic.clone(),
        partition: known.partition,
        to: known.unread_from(),
    };
    partitions.iter().filter(missing).map(say).collect()
}
