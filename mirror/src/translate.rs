//! `longhaul mirror translate`: one offset, from what the target's map topic says; the source may be dead. Where a topic
//! is copied both ways the source's map topic counts too, as `both_ways` says, and without it there is no answer.
//!
//! Owns: finding the maps. Does not own: the translation (`offset_map`, `both_ways`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::both_ways;
use crate::flow::counterflow::Counterflow;
use crate::flow::map_log::MapReader;
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
    let known = known(spec, &question.topic, question.partition).await?;
    let offset = question.offset;
    let own = &known.map;
    let counter = match timeout(SOURCE_WITHIN, counter_map(spec, &known)).await {
        Ok(Ok(counter)) => counter,
        _ if known.left_out => {
            let (topic, partition) = (question.topic.clone(), question.partition);
            return Err(FlowError::NeedsSource { topic, partition });
        }
        _ => None,
    };
    Ok(match (question.direction, &counter) {
        (Direction::ToTarget, None) => number(own.translate(SourceOffset(offset)), |offset| offset.0),
        (Direction::ToSource, None) => number(own.translate_back(TargetOffset(offset)), |offset| offset.0),
        (Direction::ToTarget, Some(counter)) => {
            number(both_ways::translate(own, counter, SourceOffset(offset)), |offset| offset.0)
        }
        // The way back is the way of the flow that comes back.
        (Direction::ToSource, Some(counter)) => {
            number(both_ways::translate(counter, own, SourceOffset(offset)), |offset| offset.0)
        }
    })
}

/// What the target knows of a partition.
struct Known {
    target_id: Arc<str>,
    key: PartitionKey,
    map: OffsetMap,
    /// Whether batches were left out because they came from the target.
    left_out: bool,
}

/// The map of the flow that comes back, if there is one.
async fn counter_map(spec: &FlowSpec, known: &Known) -> Result<Option<OffsetMap>, FlowError> {
    let source = connect(&spec.from).await?;
    let mut counterflow = Counterflow::new(&source, Arc::clone(&known.target_id));
    counterflow.read().await?;
    Ok(counterflow.map(&known.key))
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
    let target_id = cluster_id(&target, &spec.to)?;
    let known = || {
        let key = key_of(&ledger, spec, topic, partition)?;
        let partition = ledger.partition(&key)?;
        let (_, progress) = partition.progress()?;
        Some(Known { target_id, map: partition.offset_map()?, left_out: progress.left_out, key })
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
