//! `longhaul mirror translate`: one offset, from what the target's map topic says. The source may be dead.

use crate::flow::map_log::MapReader;
use crate::flow::{FlowError, connect};
use crate::map_topic::{Ledger, PartitionKey};
use crate::offset_map::{OffsetMap, SourceOffset, TargetOffset, Translation};
use crate::spec::FlowSpec;

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
    let map = offset_map(spec, &question.topic, question.partition).await?;
    Ok(match question.direction {
        Direction::ToTarget => number(map.translate(SourceOffset(question.offset)), |offset| offset.0),
        Direction::ToSource => number(map.translate_back(TargetOffset(question.offset)), |offset| offset.0),
    })
}

/// The offset map of a partition (by its topic's name at the source), as the target holds it: for many questions.
///
/// # Errors
/// As [`translate`].
pub async fn offset_map(spec: &FlowSpec, topic: &str, partition: i32) -> Result<OffsetMap, FlowError> {
    let target = connect(&spec.to).await?;
    if !MapReader::exists(&target).await? {
        return Err(FlowError::NeverRan(spec.name.clone()));
    }
    let mut ledger = Ledger::default();
    MapReader::new(&target).read_to_end(&mut ledger).await?;
    let known = key_of(&ledger, spec, topic, partition).and_then(|key| ledger.partition(&key)?.offset_map());
    let (flow, topic) = (spec.name.clone(), topic.to_owned());
    known.ok_or(FlowError::NotCopied { flow, topic, partition })
}

fn number<T>(answer: Translation<T>, of: impl Fn(T) -> i64) -> Translation<i64> {
    match answer {
        Translation::Exact(offset) => Translation::Exact(of(offset)),
        Translation::Ahead(offset) => Translation::Ahead(of(offset)),
        Translation::Before(offset) => Translation::Before(of(offset)),
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
