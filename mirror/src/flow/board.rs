//! What flows show of themselves while they run: counters and places, for metrics and status.
//!
//! Owns: the shared figures. Does not own: how they are served.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::copier::batch::{Made, RebuildReason};
use crate::events::Event;

/// Figures of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionFigures {
    /// Next source offset to copy.
    pub source_position: i64,
    /// Target offset after the last copied record.
    pub target_position: i64,
    /// The source's last stable offset, when it was last fetched from.
    pub source_end: i64,
    /// Batches acknowledged, passed as they were.
    pub passed_batches: u64,
    /// Batches acknowledged that were built anew, by reason.
    pub rebuilt_batches: BTreeMap<String, u64>,
    /// Records acknowledged.
    pub records: u64,
    /// Bytes of batches acknowledged.
    pub bytes: u64,
    /// Times that the target's tail was read back.
    pub recoveries: u64,
    /// The event at which the partition stands.
    pub paused: Option<Event>,
}

impl PartitionFigures {
    /// Source offsets that are not copied yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        u64::try_from(self.source_end - self.source_position).unwrap_or(0)
    }

    pub(crate) fn count(&mut self, made: Made, records: u64, bytes: u64) {
        match made {
            Made::Passed => self.passed_batches += 1,
            Made::Rebuilt(reason) => self.count_rebuilt(reason),
        }
        self.records += records;
        self.bytes += bytes;
    }

    fn count_rebuilt(&mut self, reason: RebuildReason) {
        *self.rebuilt_batches.entry(reason.label().to_owned()).or_default() += 1;
    }
}

/// What a flow does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum FlowState {
    /// It has not reached both clusters yet, or lost them.
    #[default]
    Connecting,
    /// Another process owns it.
    Waiting,
    /// It copies.
    Running {
        /// The owner's generation.
        generation: u64,
    },
    /// It was promoted and stays stopped.
    Promoted {
        /// When, milliseconds since 1970.
        at_ms: i64,
    },
    /// It was told to stop.
    Stopped,
}

/// Figures of one flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowFigures {
    /// What it does.
    pub state: FlowState,
    /// Why it is not connected, or could not go on the last time.
    pub last_error: Option<String>,
    /// Its partitions by source topic and number.
    #[serde(serialize_with = "by_name")]
    pub partitions: BTreeMap<(String, i32), PartitionFigures>,
    /// When the last complete pass over the groups began, milliseconds since 1970.
    pub groups_synced_at_ms: Option<i64>,
}

fn by_name<S: serde::Serializer>(
    partitions: &BTreeMap<(String, i32), PartitionFigures>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        partitions.iter().map(|((topic, partition), figures)| (format!("{topic}-{partition}"), figures)),
    )
}

/// All flows of a process; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Board {
    flows: Arc<Mutex<BTreeMap<String, FlowFigures>>>,
}

impl Board {
    /// A copy of the figures.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, FlowFigures> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change(&self, flow: &str, change: impl FnOnce(&mut FlowFigures)) {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        match flows.get_mut(flow) {
            Some(figures) => change(figures),
            None => change(flows.entry(flow.to_owned()).or_default()),
        }
    }

    pub(crate) fn change_partition(
        &self,
        flow: &str,
        partition: (&str, i32),
        change: impl FnOnce(&mut PartitionFigures),
    ) {
        let key = (partition.0.to_owned(), partition.1);
        self.change(flow, |figures| change(figures.partitions.entry(key).or_default()));
    }
}
