//! What flows show of themselves while they run: counters and places, for metrics and status.
//!
//! Owns: the shared figures, and when a lag is known. Does not own: how they are served, whether a cluster answers and
//! an error is mended (`watch`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::clock::Clock;
use crate::copier::batch::{Made, RebuildReason};
use crate::events::{Event, Side};

/// How long the end of a partition's source holds. Partitions share connections and take turns, so it is not heard as
/// often as the source answers.
const END_HOLDS_FOR_MS: i64 = 60_000;

/// Figures of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionFigures {
    /// Next source offset to copy.
    pub source_position: i64,
    /// Target offset after the last copied record.
    pub target_position: i64,
    /// The source's last stable offset, when it was last fetched from.
    pub source_end: i64,
    /// When that was, milliseconds since 1970; `None` before the first time of an ownership.
    pub source_end_at_ms: Option<i64>,
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
    /// Source offsets that were not copied when the source's end was last heard.
    pub(crate) fn behind(&self) -> u64 {
        u64::try_from(self.source_end - self.source_position).unwrap_or(0)
    }

    /// Takes note of the source's end, as it says now.
    pub(crate) fn saw_source_end(&mut self, end: i64) {
        (self.source_end, self.source_end_at_ms) = (end, Some(Clock::system().now_ms()));
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
    /// Why it is not connected, or what it could not do and has not done since.
    pub last_error: Option<String>,
    /// Why the last pass over the groups was not complete; `None` once one was.
    pub groups_error: Option<String>,
    /// Since when the source is asked and does not answer, milliseconds since 1970; `None` while it answers.
    pub source_silent_since_ms: Option<i64>,
    /// The same of the target.
    pub target_silent_since_ms: Option<i64>,
    /// Its partitions by source topic and number.
    #[serde(serialize_with = "by_name")]
    pub partitions: BTreeMap<(String, i32), PartitionFigures>,
    /// When the last complete pass over the groups began, milliseconds since 1970.
    pub groups_synced_at_ms: Option<i64>,
}

impl FlowFigures {
    /// Source offsets of a partition that are not copied yet; `None` while it is not known where the source ends.
    #[must_use]
    pub fn lag(&self, partition: &PartitionFigures, now_ms: i64) -> Option<u64> {
        let holds = partition.source_end_at_ms.is_some_and(|at_ms| now_ms - at_ms < END_HOLDS_FOR_MS);
        let runs = matches!(self.state, FlowState::Running { .. });
        (holds && runs && self.source_silent_since_ms.is_none()).then(|| partition.behind())
    }

    /// An ownership begins: where the one before stood is looked at anew.
    pub(crate) fn begin(&mut self, generation: u64) {
        (self.state, self.last_error) = (FlowState::Running { generation }, None);
        // Those below 0 are topics that stood as a whole.
        self.partitions.retain(|(_, number), _| *number >= 0);
        for partition in self.partitions.values_mut() {
            (partition.paused, partition.source_end_at_ms) = (None, None);
        }
    }

    /// The flow does nothing here: nothing is in its way, and nobody asks its source.
    pub(crate) fn rest(&mut self, state: FlowState) {
        self.state = state;
        (self.last_error, self.groups_error, self.source_silent_since_ms) = (None, None, None);
    }

    /// A topic stands as a whole; its partition -1 says so, and so do those that are not copied.
    pub(crate) fn pause_topic(&mut self, event: &Event) {
        let whole = (event.topic.clone(), -1);
        self.partitions.entry(whole).or_default();
        for ((topic, _), partition) in &mut self.partitions {
            if *topic == event.topic && partition.source_end_at_ms.is_none() {
                partition.paused = Some(event.clone());
            }
        }
    }

    /// Since when a cluster does not answer.
    pub(crate) fn silent_since_ms(&mut self, side: Side) -> &mut Option<i64> {
        match side {
            Side::Source => &mut self.source_silent_since_ms,
            Side::Target => &mut self.target_silent_since_ms,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventKind;

    fn seen(end: i64, at_ms: i64) -> PartitionFigures {
        PartitionFigures { source_end: end, source_end_at_ms: Some(at_ms), ..PartitionFigures::default() }
    }

    #[test]
    fn a_lag_is_known_only_while_it_is_known_where_the_source_ends() {
        let state = FlowState::Running { generation: 1 };
        let mut flow = FlowFigures { state, ..FlowFigures::default() };
        assert_eq!(flow.lag(&PartitionFigures::default(), 0), None, "nothing was heard yet");
        assert_eq!(flow.lag(&seen(7, 1_000), 2_000), Some(7));
        assert_eq!(flow.lag(&seen(7, 1_000), 1_000 + END_HOLDS_FOR_MS), None, "that was long ago");
        flow.source_silent_since_ms = Some(1_500);
        assert_eq!(flow.lag(&seen(7, 1_000), 2_000), None, "the source does not answer");
        flow.source_silent_since_ms = None;
        flow.state = FlowState::Connecting;
        assert_eq!(flow.lag(&seen(7, 1_000), 2_000), None, "nobody asks the source");
    }

    #[test]
    fn a_new_ownership_looks_at_everything_anew() {
        let kind = EventKind::TopicDeleted { side: Side::Source };
        let (flow, topic) = ("over".to_owned(), "gone".to_owned());
        let event = Event { flow, topic, partition: None, at_ms: 1, kind };
        let mut figures = FlowFigures::default();
        for (topic, partition) in [("gone", seen(7, 1)), ("gone too", seen(7, 1)), ("stays", seen(7, 1))] {
            figures.partitions.insert((topic.to_owned(), 0), partition);
        }
        figures.last_error = Some("refused".to_owned());
        figures.begin(2);
        assert_eq!((&figures.state, &figures.last_error), (&FlowState::Running { generation: 2 }, &None));
        assert!(figures.partitions.values().all(|partition| partition.source_end_at_ms.is_none()));
        figures.pause_topic(&event);
        let paused = |figures: &FlowFigures| -> Vec<(String, i32)> {
            let paused = figures.partitions.iter().filter(|(_, partition)| partition.paused.is_some());
            paused.map(|(key, _)| key.clone()).collect()
        };
        assert_eq!(paused(&figures), [("gone".to_owned(), -1), ("gone".to_owned(), 0)]);
        figures.begin(3);
        assert_eq!((paused(&figures).len(), figures.partitions.len()), (0, 3));
    }
}
