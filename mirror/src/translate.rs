//! `longhaul mirror translate`: one offset, from what the target's map topic says; the source may be dead. Where a topic
//! is copied both ways the source's map topic counts too, as `both_ways` says, and without it there is no answer.
//!
//! Owns: finding the maps. Does not own: the translation (`offset_map`, `both_ways`).

use std::time::Duration;

use client::TopicPartition;
use tokio::time::timeout;

use crate::both_ways::{BothWays, nothing_came_back};
use crate::flow::counterflow::{Counter, Counterflow};
use crate::flow::map_log::MapReader;
use crate::flow::tail::Target;
use crate::flow::{FlowError, cluster_id, connect};
use crate::map_topic::{Ledger, PartitionKey};
use crate::offset_map::{OffsetMap, SourceOffset, TargetOffset, Translation};
use crate::spec::FlowSpec;

/// How long the source may take to say what comes back to it.
const SOURCE_WITHIN: Duration = Duration::from_secs(5);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A source offset, to where it lives on the target.
    ToTarget,
    /// A target offset, to where it came from.
    ToSource,
}

/// The offset to translate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The topic's name at the source.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Which way.
    pub direction: Direction,
}

/// Translates one offset.
///
/// # Errors
/// [`FlowError`]: the target does not answer, or has no map of that partition.
pub async fn translate(spec: &FlowSpec, question: &Question) -> Result<Translation<i64>, FlowError> {
    // What comes back is read first: what the own map then lacks is nothing that the other flow has seen.
    let counterflow = match timeout(SOURCE_WITHIN, counterflow(spec)).await {
        Ok(Ok(counterflow)) => Some(counterflow),
        _ => None,
    };
    let known = known(spec, &question.topic, question.partition).await?;
    let (own, offset) = (&known.map, question.offset);
    let counter = match counterflow {
        Some(counterflow) => counterflow.counter(&question.topic, &known.key, known.left_out),
        None if known.left_out || spec.comes_back(&question.topic) => Counter::Unknown,
        None => Counter::None,
    };
    let (to_target, to_source) = (|offset: TargetOffset| offset.0, |offset: SourceOffset| offset.0);
    match (question.direction, &counter) {
        (_, Counter::Unknown) => {
            let (topic, partition) = (question.topic.clone(), question.partition);
            Err(FlowError::NeedsSource { topic, partition })
        }
        (Direction::ToTarget, Counter::None) => Ok(number(own.translate(SourceOffset(offset)), to_target)),
        // All that the source has is its own then.
        (Direction::ToSource, Counter::None | Counter::Nothing) => {
            Ok(number(own.translate_back(TargetOffset(offset)), to_source))
        }
        (Direction::ToTarget, Counter::Nothing) => {
            let counter = &nothing_came_back(known.tail.log_start().await?);
            let maps = BothWays { own, counter, is_settled: known.is_map_complete };
            Ok(number(maps.translate(SourceOffset(offset)).at, to_target))
        }
        (Direction::ToTarget, Counter::Map(counter)) => {
            let maps = BothWays { own, counter, is_settled: known.is_map_complete };
            Ok(number(maps.translate(SourceOffset(offset)).at, to_target))
        }
        // The way back is the way of the flow that comes back; what that has in the air is not known here.
        (Direction::ToSource, Counter::Map(counter)) => {
            let maps = BothWays { own: counter, counter: own, is_settled: false };
            Ok(number(maps.translate(SourceOffset(offset)).at, to_target))
        }
    }
}

/// What the target knows of a partition.
struct Known {
    key: PartitionKey,
    map: OffsetMap,
    /// Whether batches were left out because they came from the target.
    left_out: bool,
    /// Whether the map holds all that was sent to the target.
    is_map_complete: bool,
    tail: Target,
}

/// What the source says of the flows that come back.
async fn counterflow(spec: &FlowSpec) -> Result<Counterflow, FlowError> {
    let (source, target) = (connect(&spec.from).await?, connect(&spec.to).await?);
    let mut counterflow = Counterflow::new(spec, &source, cluster_id(&target, &spec.to)?);
    counterflow.read().await?;
    Ok(counterflow)
}

/// The offset map of a partition (by its topic's name at the source), as the target holds it: for many questions.
///
/// # Errors
/// As [`translate`].
pub async fn offset_map(spec: &FlowSpec, topic: &str, partition: i32) -> Result<OffsetMap, FlowError> {
    known(spec, topic, partition).await.map(|known| known.map)
}

async fn known(spec: &FlowSpec, topic: &str, partition: i32) -> Result<Known, FlowError> {
    let target = connect(&spec.to).await?;
    if !MapReader::exists(&target).await? {
        return Err(FlowError::NeverRan(spec.name.clone()));
    }
    let mut ledger = Ledger::default();
    MapReader::new(&target).read_to_end(&mut ledger).await?;
    let known = || {
        let key = key_of(&ledger, spec, topic, partition)?;
        let of_it = ledger.partition(&key)?;
        let (_, progress) = of_it.progress()?;
        let (left_out, is_map_complete) = (progress.left_out, progress.intents.is_empty());
        let partition = TopicPartition::new(spec.rename.apply(topic), partition);
        let tail = Target { cluster: target.clone(), partition, topic_id: key.target_topic };
        Some(Known { map: of_it.offset_map()?, left_out, is_map_complete, key, tail })
    };
    let (flow, topic) = (spec.name.clone(), topic.to_owned());
    known().ok_or(FlowError::NotCopied { flow, topic, partition })
}

fn number<T>(answer: Translation<T>, of: impl Fn(T) -> i64) -> Translation<i64> {
    match answer {
        Translation::Exact(offset) => Translation::Exact(of(offset)),
        Translation::Ahead(offset) => Translation::Ahead(of(offset)),
        Translation::Before(offset) => Translation::Before(of(offset)),
        Translation::Unread(offset) => Translation::Unread(of(offset)),
        Translation::Foreign(offset) => Translation::Foreign(of(offset)),
    }
}

/// The identity under which a flow copied a partition.
pub(crate) fn key_of(ledger: &Ledger, spec: &FlowSpec, topic: &str, partition: i32) -> Option<PartitionKey> {
    let bound = ledger.binding(&spec.name, topic)?;
    Some(PartitionKey {
        source_cluster: bound.source_cluster.as_str().into(),
        source_topic: bound.source_topic.parse().ok()?,
        target_topic: bound.target_topic.parse().ok()?,
        partition,
    })
}
