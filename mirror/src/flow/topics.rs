//! Which topics a flow copies, and their counterparts on the target.
//!
//! Owns: matching names, making target topics and more partitions, the settings that are carried over, noticing that
//! a name belongs to another topic than before, or that what was known of a copy is lost.
//! Does not own: copying.

use std::sync::Arc;

use client::admin::{NewTopic, Resource};
use client::{Cluster, RequestError};
use wire::{ErrorCode, Offset, TopicId};

use super::FlowError;
use crate::events::{EventKind, Side};
use crate::map_topic::{Binding, PartitionKey};
use crate::spec::FlowSpec;

/// Settings that decide what the target keeps and takes. Times are not among them: a target of LogAppendTime would
/// lose those of the records.
const CARRIED_CONFIGS: [&str; 4] = ["cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes"];
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// Kafka's default of it.
const MAX_MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// A topic of the source and its counterpart.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) source: Arc<str>,
    pub(crate) target: Arc<str>,
    pub(crate) source_id: TopicId,
    pub(crate) target_id: TopicId,
    /// Partitions to copy: those of the source.
    pub(crate) partitions: i32,
    /// Largest batch that the target takes.
    pub(crate) max_batch_bytes: usize,
}

impl Pair {
    pub(crate) fn binding(&self, source_cluster: &str) -> Binding {
        Binding {
            source_cluster: source_cluster.to_owned(),
            source_topic: self.source_id.to_string(),
            target_name: self.target.to_string(),
            target_topic: self.target_id.to_string(),
        }
    }

    pub(crate) fn key(&self, source_cluster: &Arc<str>, partition: i32) -> PartitionKey {
        PartitionKey {
            source_cluster: Arc::clone(source_cluster),
            source_topic: self.source_id,
            target_topic: self.target_id,
            partition,
        }
    }
}

/// The source topics that the flow copies.
pub(crate) async fn matching(source: &Cluster, spec: &FlowSpec) -> Result<Vec<Arc<str>>, RequestError> {
    let layout = source.refresh_all().await?;
    let copied = layout.topics.iter().filter(|(name, topic)| {
        spec.copies(name)
            && (!topic.is_internal || spec.topics.iter().any(|pattern| pattern.as_str() == &***name))
    });
    let mut names: Vec<_> = copied.map(|(name, _)| Arc::clone(name)).collect();
    names.sort();
    Ok(names)
}

/// The pair of a source topic, its target made, or grown, where it lacks something.
pub(crate) async fn pair(
    source: &Cluster,
    target: &Cluster,
    spec: &FlowSpec,
    name: &Arc<str>,
) -> Result<Pair, FlowError> {
    let target_name: Arc<str> = spec.rename.apply(name).into();
    let known = source.layout().topics.get(name).cloned();
    let known = known.ok_or_else(|| gone(spec, name))?;
    let partitions = i32::try_from(known.partitions.len()).unwrap_or(i32::MAX);
    let names = [Arc::clone(&target_name)];
    let mut layout = target.refresh(&names).await?;
    if !layout.topics.contains_key(&target_name) {
        make(source, target, name, &target_name, partitions).await?;
        layout = target.refresh(&names).await?;
    }
    let there = layout.topics.get(&target_name).ok_or_else(|| gone(spec, &target_name))?;
    if there.partitions.len() < known.partitions.len() {
        tracing::info!(flow = spec.name, topic = &*target_name, partitions, "growing the target topic");
        target.create_partitions(&target_name, partitions).await?;
    }
    let configs = target.describe_configs(&Resource::Topic(target_name.to_string())).await?;
    let limit = configs.iter().find(|entry| entry.name == MAX_MESSAGE_BYTES);
    let limit = limit.and_then(|entry| entry.value.as_deref()?.parse().ok());
    Ok(Pair {
        source: Arc::clone(name),
        target: target_name,
        source_id: known.id,
        target_id: there.id,
        partitions,
        max_batch_bytes: limit.unwrap_or(MAX_MESSAGE_BYTES_DEFAULT),
    })
}

fn gone(spec: &FlowSpec, topic: &str) -> FlowError {
    FlowError::NotCopied { flow: spec.name.clone(), topic: topic.to_owned(), partition: 0 }
}

async fn make(
    source: &Cluster,
    target: &Cluster,
    name: &str,
    target_name: &str,
    partitions: i32,
) -> Result<(), FlowError> {
    // Effective values, defaults too: with another default at the target, old records would be deleted there.
    let configs = source.describe_configs(&Resource::Topic(name.to_owned())).await?;
    let carried = configs.into_iter().filter(|entry| CARRIED_CONFIGS.contains(&entry.name.as_str()));
    let configs = carried.filter_map(|entry| Some((entry.name, entry.value?))).collect();
    let topic = NewTopic { name: target_name.to_owned(), partitions, replication_factor: -1, configs };
    tracing::info!(topic = target_name, partitions, "making the target topic");
    match target.create_topic(&topic).await {
        Err(error) if error.code() != Some(ErrorCode::TOPIC_ALREADY_EXISTS) => Err(error.into()),
        _ => Ok(()),
    }
}

/// What changed since the flow tied the two topics together, if anything.
pub(crate) fn rebound(bound: &Binding, now: &Binding) -> Option<EventKind> {
    let recreated = |side, known: &str, found: &str| EventKind::TopicRecreated {
        side,
        known: known.to_owned(),
        found: found.to_owned(),
    };
    if bound.source_cluster != now.source_cluster || bound.source_topic != now.source_topic {
        return Some(recreated(Side::Source, &bound.source_topic, &now.source_topic));
    }
    if bound.target_name == now.target_name && bound.target_topic != now.target_topic {
        return Some(recreated(Side::Target, &bound.target_topic, &now.target_topic));
    }
    None
}

/// Whether a start from nothing would copy a topic twice. `unknown_ends` are the ends of those target partitions of
/// which the map topic says nothing. The map topic is only compacted, so its log starts above 0 when its beginning was
/// lost, as by the recovery of a target whose disk was: what lies in those partitions may be this flow's own copy.
pub(crate) fn forgotten(map_log_start: Offset, unknown_ends: &[Offset]) -> Option<EventKind> {
    let may_be_copies = unknown_ends.iter().any(|end| *end > Offset(0));
    let lost = map_log_start > Offset(0) && may_be_copies;
    lost.then_some(EventKind::MapLost { map_log_start: map_log_start.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lost_map_and_a_target_that_holds_records_stop_a_fresh_start() {
        let (whole, lost) = (Offset(0), Offset(1_000));
        assert_eq!(
            forgotten(whole, &[Offset(7)]),
            None,
            "a first start into a topic that others have filled"
        );
        assert_eq!(forgotten(lost, &[]), None, "every partition is known");
        assert_eq!(forgotten(lost, &[Offset(0), Offset(0)]), None, "there is nothing to copy twice");
        let event = forgotten(lost, &[Offset(0), Offset(7)]);
        assert_eq!(event, Some(EventKind::MapLost { map_log_start: 1_000 }));
    }
}
