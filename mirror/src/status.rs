//! What a flow has come to, read from its target; and how far behind it is, where the source answers.

use std::time::Duration;

use client::offsets::Place;
use client::{Isolation, TopicPartition};
use serde::Serialize;

use crate::events::Event;
use crate::flow::map_log::MapReader;
use crate::flow::{FlowError, connect};
use crate::groups::{NotSynced, ReadAgain};
use crate::map_topic::{GroupSync, Ledger, Promotion, SyncPass};
use crate::spec::FlowSpec;
use crate::translate::key_of;

/// How long a source may take to say where its logs end.
const SOURCE_WITHIN: Duration = Duration::from_secs(3);

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
}

impl PartitionStatus {
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
    let target = connect(&spec.to).await?;
    let mut ledger = Ledger::default();
    if MapReader::exists(&target).await? {
        MapReader::new(&target).read_to_end(&mut ledger).await?;
    }
    let mut status = from_ledger(&ledger, spec);
    let ends = tokio::time::timeout(SOURCE_WITHIN, source_ends(spec, &status)).await;
    if let Ok(Ok(ends)) = ends {
        for (partition, end) in status.partitions.iter_mut().zip(ends) {
            partition.source_end = end;
        }
    }
    Ok(status)
}

async fn source_ends(spec: &FlowSpec, status: &FlowStatus) -> Result<Vec<Option<i64>>, FlowError> {
    let source = connect(&spec.from).await?;
    let partition = |known: &PartitionStatus| TopicPartition::new(known.topic.as_str(), known.partition);
    let asked: Vec<_> = status.partitions.iter().map(|known| (partition(known), Place::Latest)).collect();
    let found = source.list_offsets(&asked, Isolation::ReadCommitted).await?;
    Ok(found.into_iter().map(|found| found.offset.map(|offset| offset.0)).collect())
}

/// What the ledger says of a flow.
pub(crate) fn from_ledger(ledger: &Ledger, spec: &FlowSpec) -> FlowStatus {
    let holder = ledger.holder(&spec.name);
    let mut partitions = Vec::new();
    for (topic, bound) in ledger.bindings(&spec.name) {
        for partition in 0.. {
            let key = key_of(ledger, spec, topic, partition);
            let known =
                key.and_then(|key| ledger.partition(&key)?.progress().map(|(_, progress)| progress.clone()));
            let Some(progress) = known else { break };
            partitions.push(PartitionStatus {
                topic: topic.to_owned(),
                target_topic: bound.target_name.clone(),
                partition,
                source_position: progress.source,
                target_position: progress.target,
                at_ms: progress.at_ms,
                source_end: None,
            });
        }
    }
    FlowStatus {
        flow: spec.name.clone(),
        promotion: ledger.promotion(&spec.name).cloned(),
        owner: holder.map(|(_, _, claim)| claim.owner.clone()),
        generation: holder.map_or(0, |(generation, ..)| generation),
        sync_pass: ledger.sync_pass(&spec.name).cloned(),
        groups: read_again(ledger, spec, &partitions),
        partitions,
        events: ledger.events(&spec.name).cloned().collect(),
    }
}

/// What each group may read again: from its synced position to the end of the copy.
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
                to: copied.map_or(0, |known| known.target_position),
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
    let missing = |known: &&PartitionStatus| known.target_position > 0 && reads(known) && !stands_in(known);
    let say = |known: &PartitionStatus| NotSynced {
        group: group.to_owned(),
        topic: known.target_topic.clone(),
        partition: known.partition,
        to: known.target_position,
    };
    partitions.iter().filter(missing).map(say).collect()
}

#[cfg(test)]
mod tests {
    use crate::map_topic::GroupPartition;

    use super::*;

    fn copied(target_topic: &str, partition: i32, target_position: i64) -> PartitionStatus {
        PartitionStatus {
            topic: format!("source-of-{target_topic}"),
            target_topic: target_topic.to_owned(),
            partition,
            source_position: 2 * target_position,
            target_position,
            at_ms: 0,
            source_end: None,
        }
    }

    #[test]
    fn a_group_is_told_of_the_partitions_of_its_topics_in_which_it_has_no_position() {
        let stands = |partition| GroupPartition {
            topic: "flights".to_owned(),
            partition,
            source: 5,
            target: None,
            reason: None,
        };
        let sync = GroupSync { at_ms: 0, partitions: vec![stands(1), stands(2)] };
        let partitions = [
            copied("bookings", 0, 9),
            copied("flights", 0, 7),
            copied("flights", 1, 8),
            copied("flights", 2, 0),
            copied("flights", 3, 0),
        ];
        let found = not_synced("readers", &sync, &partitions);
        let expected =
            NotSynced { group: "readers".to_owned(), topic: "flights".to_owned(), partition: 0, to: 7 };
        assert_eq!(found, [expected]);
        assert!(
            not_synced("nobody", &GroupSync { at_ms: 0, partitions: Vec::new() }, &partitions).is_empty()
        );
    }
}
