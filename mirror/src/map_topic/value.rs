//! Values of the map topic. All but the blocks are JSON objects, so that `kcat` can read them; a reader passes
//! over fields it does not know.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::offset_map::{BlockFormatError, SourceOffset, TargetOffset};

/// Batches that one progress record may list: those in flight and those whose intent waits.
pub(crate) const MAX_INTENTS: usize = 128;

/// Why a value cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// Not the JSON that the key promises.
    #[error("map topic value is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// Not a block.
    #[error(transparent)]
    Block(#[from] BlockFormatError),
    /// The numbers contradict each other.
    #[error("map topic value contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// A batch that is about to be produced: enough to know it again in the target's log without the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchIntent {
    /// First source offset that the batch answers for.
    pub from: i64,
    /// First source offset that it does not answer for.
    pub to: i64,
    /// Leader epoch of the source batch.
    pub epoch: i32,
    /// The records it holds: gap to the record before (to `from` at first), length, gap, length, ...
    pub runs: Vec<u64>,
}

impl BatchIntent {
    /// Describes a batch by its runs of source offsets.
    #[must_use]
    pub fn new(covers: std::ops::Range<SourceOffset>, epoch: i32, runs: &[(SourceOffset, u64)]) -> Self {
        let mut at = covers.start;
        let mut flat = Vec::with_capacity(runs.len() * 2);
        for (start, length) in runs {
            flat.extend([start.since(at), *length]);
            at = start.plus(*length);
        }
        Self { from: covers.start.0, to: covers.end.0, epoch, runs: flat }
    }

    /// Records in the batch.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.runs.iter().skip(1).step_by(2).fold(0, |sum, length| sum.saturating_add(*length))
    }

    /// The runs of source offsets, in rising order.
    pub fn source_runs(&self) -> impl Iterator<Item = (SourceOffset, u64)> + '_ {
        let mut at = SourceOffset(self.from);
        self.runs.chunks_exact(2).map(move |pair| {
            let start = at.plus(pair[0]);
            at = start.plus(pair[1]);
            (start, pair[1])
        })
    }

    fn is_sound(&self) -> bool {
        let end = self.source_runs().last().map_or(self.from, |(start, length)| start.plus(length).0);
        let records = self.records();
        self.from >= 0
            && self.runs.len().is_multiple_of(2)
            && self.runs.iter().skip(1).step_by(2).all(|length| *length > 0)
            && (1..=i32::MAX as u64).contains(&records)
            && end <= self.to
    }
}

/// Where a partition stands, who writes it, and the batches it may have produced beyond that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Next source offset: everything below is in the blocks, or is nothing to copy.
    pub source: i64,
    /// Target offset after the last copied record.
    pub target: i64,
    /// Leader epoch of the last copied source batch, -1 before the first.
    pub source_epoch: i32,
    /// Leader epoch of the target when it last acknowledged, -1 before that.
    pub target_epoch: i32,
    /// Producer id that the flow writes with.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence of the first record of the first intent.
    pub sequence: i32,
    /// Batches that may be in the target's log beyond `target`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<BatchIntent>,
    /// Whether batches were left out because they came from the target: the topic is copied both ways then, and this
    /// partition's map alone does not tell what a reader at the source has read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
    /// Whether the map's beginning went: the target no longer has those records, or the map would have been too large.
    /// A Longhaul of before said so of the second only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shed: bool,
    /// Source offset at which the offset map starts. Blocks that start below it were forgotten, though their tombstones
    /// may still be on their way; `None` where none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_start: Option<i64>,
    /// When this was written, milliseconds since 1970.
    pub at_ms: i64,
}

impl Progress {
    /// The position as a pair.
    #[must_use]
    pub fn position(&self) -> crate::offset_map::Position {
        crate::offset_map::Position { source: SourceOffset(self.source), target: TargetOffset(self.target) }
    }

    fn check(self) -> Result<Self, ValueError> {
        if self.source < 0 || self.target < 0 || self.sequence < 0 {
            return Err(ValueError::Contradiction("a negative position"));
        }
        if self.map_start.is_some_and(|start| start > self.source) {
            return Err(ValueError::Contradiction("a map that starts beyond its position"));
        }
        if self.intents.len() > MAX_INTENTS {
            return Err(ValueError::Contradiction("more intents than may be in flight"));
        }
        let mut at = self.source;
        for intent in &self.intents {
            if intent.from < at || !intent.is_sound() {
                return Err(ValueError::Contradiction("an intent that overlaps another or is empty"));
            }
            at = intent.to;
        }
        Ok(self)
    }
}

/// An owner's claim on a flow. The first claim of a generation in the log holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who claims, for people.
    pub owner: String,
    /// Producer id with which this flow writes the map topic.
    pub map_producer_id: i64,
    /// Its epoch: each claim raises it, so that the owner before cannot write on.
    pub map_producer_epoch: i16,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

/// The two topics that a flow ties together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Cluster id of the source.
    pub source_cluster: String,
    /// Topic id at the source.
    pub source_topic: String,
    /// Name at the target.
    pub target_name: String,
    /// Topic id at the target.
    pub target_topic: String,
}

/// A producer id and the flow that writes with it: its batches came from `source_cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredProducer {
    /// The flow.
    pub flow: String,
    /// Cluster id of the flow's source.
    pub source_cluster: String,
}

/// A flow that was promoted: its target is written by others now, and it stays stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// Generation of the owner that promoted it.
    pub generation: u64,
    /// `topic-partition` to its last position, source then target.
    pub positions: BTreeMap<String, (i64, i64)>,
    /// `topic-partition` to where the target's log ended, of partitions that hold more there than settled copies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub target_ends: BTreeMap<String, i64>,
    /// Partitions whose tail could not be settled, and why: what is said when the promotion is asked for again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsettled: Vec<crate::events::Event>,
}

/// One partition of a synced group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPartition {
    /// Topic at the target.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The group's position at the source.
    pub source: i64,
    /// The group's position at the target; `None` when it has none there.
    pub target: Option<i64>,
    /// Why that is not the very place of `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Target offset behind the last record that the group has read, where it goes on before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_to: Option<i64>,
    /// Whether the offset map alone does not tell the place of `source`, so that `target` stands as it is once the source
    /// no longer answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_source: bool,
}

/// The synced positions of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSync {
    /// When the source was read, milliseconds since 1970.
    pub at_ms: i64,
    /// Its partitions.
    pub partitions: Vec<GroupPartition>,
}

/// A complete pass over the groups of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPass {
    /// When it began, milliseconds since 1970.
    pub at_ms: i64,
    /// Groups seen.
    pub groups: u64,
    /// Group partitions whose exact position the target has.
    pub synced: u64,
    /// Group partitions that carry a reason.
    pub unsynced: u64,
}

/// The JSON of a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with text keys always have a JSON form")
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
    Ok(serde_json::from_slice(bytes)?)
}

impl Progress {
    /// Reads and checks a value.
    pub fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        decode::<Self>(bytes)?.check()
    }
}

macro_rules! json_value {
    ($($value:ty),+) => { $(
        impl $value {
            /// The value's bytes.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                encode(self)
            }
        }
    )+ };
}
json_value!(
    Progress,
    Claim,
    Binding,
    RegisteredProducer,
    Promotion,
    GroupSync,
    SyncPass,
    crate::events::Event
);
