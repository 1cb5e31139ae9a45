//! A flow behind its admin address: what `mirror run` says of it in status, metrics and health.
//!
//! Owns: turning the figures of `mirror` into the control API's words, and the moments that lag in time is measured by.
//! Does not own: the figures (`mirror::Board`), the listener (`control`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use control::v1::{FlowPartitionStatus, FlowStatus, GroupStatus, MapTopicStatus, StatusReply};
use control::{Kind, Metric, Sample, Subject};
use mirror::{Board, FlowFigures, FlowSpec, FlowState, PartitionFigures, StatusReader};
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;

/// How often the partitions are looked at for having caught up.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often what only the target knows is read again. A reading asks for what came to the map topic since the last.
const TARGET_INTERVAL: Duration = Duration::from_secs(1);

type PartitionKey = (String, i32);

/// One flow of this process.
#[derive(Debug)]
pub(crate) struct FlowSubject {
    spec: FlowSpec,
    board: Board,
    started_at_ms: i64,
    stop: CancellationToken,
    seen: Mutex<Seen>,
}

/// What was seen beside the board.
#[derive(Debug, Default)]
struct Seen {
    /// When each partition was last caught up.
    caught_up_at_ms: BTreeMap<PartitionKey, i64>,
    /// The target's own account of the flow.
    at_target: Option<mirror::FlowStatus>,
}

impl FlowSubject {
    /// Begins to watch a flow; the watching ends with `stop`.
    pub(crate) fn start(spec: FlowSpec, board: Board, stop: CancellationToken) -> Arc<Self> {
        let subject = Arc::new(Self { spec, board, started_at_ms: now_ms(), stop, seen: Mutex::default() });
        tokio::spawn(watch_catching_up(Arc::clone(&subject)));
        tokio::spawn(watch_target(Arc::clone(&subject)));
        subject
    }

    fn figures(&self) -> FlowFigures {
        self.board.snapshot().remove(&self.spec.name).unwrap_or_default()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_caught_up(&self, now_ms: i64) {
        let figures = self.figures();
        let mut seen = self.seen();
        for (key, partition) in &figures.partitions {
            if figures.lag(partition, now_ms) == Some(0) {
                seen.caught_up_at_ms.insert(key.clone(), now_ms);
            }
        }
    }

    fn partition_status(&self, key: &PartitionKey, flow: &FlowFigures) -> FlowPartitionStatus {
        let figures = &flow.partitions[key];
        let lag = flow.lag(figures, now_ms());
        let caught_up_at_ms = self.seen().caught_up_at_ms.get(key).copied().unwrap_or(self.started_at_ms);
        let behind_ms =
            if lag == Some(0) { 0 } else { u64::try_from(now_ms() - caught_up_at_ms).unwrap_or(0) };
        let state = match (&figures.paused, lag) {
            (Some(_), _) => "paused",
            (None, None) => "unknown",
            (None, Some(0)) => "caught-up",
            (None, Some(_)) => "copying",
        };
        FlowPartitionStatus {
            source_topic: key.0.clone(),
            target_topic: self.spec.rename.apply(&key.0),
            partition: key.1,
            state: state.to_owned(),
            source_position: figures.source_position,
            target_position: figures.target_position,
            source_end_offset: figures.source_end_at_ms.map(|_| figures.source_end),
            lag_offsets: lag,
            lag_bytes: lag.and_then(|lag| estimated_bytes(lag, figures)),
            lag_ms: Some(behind_ms),
            event: figures.paused.as_ref().map(|event| event.kind.to_string()),
        }
    }

    fn groups(&self) -> Vec<GroupStatus> {
        let seen = self.seen();
        let Some(at_target) = &seen.at_target else { return Vec::new() };
        let source_name = |target: &str| {
            let bound = at_target.partitions.iter().find(|partition| partition.target_topic == target);
            bound.map_or_else(|| target.to_owned(), |partition| partition.topic.clone())
        };
        let status = |group: &mirror::groups::ReadAgain| GroupStatus {
            group: group.group.clone(),
            source_topic: source_name(&group.topic),
            partition: group.partition,
            source_offset: group.source,
            target_offset: group.from,
            reason: group.reason.clone(),
            synced_at_ms: at_target.sync_pass.as_ref().map(|pass| pass.at_ms),
        };
        at_target.groups.iter().map(status).collect()
    }

    fn map_topic(&self) -> Option<MapTopicStatus> {
        let found = self.seen().at_target.as_ref()?.map_topic?;
        Some(MapTopicStatus {
            log_start_offset: found.log_start_offset,
            log_end_offset: found.log_end_offset,
            size_bytes: found.size_bytes,
        })
    }
}

/// Bytes of offsets that were not copied yet, by the mean size of the records that were.
fn estimated_bytes(lag: u64, figures: &PartitionFigures) -> Option<u64> {
    let mean = figures.bytes.checked_div(figures.records)?;
    Some(lag.saturating_mul(mean))
}

/// Says nothing of partitions whose lag is not known.
fn lag_metric(flow: &str, figures: &FlowFigures, now_ms: i64) -> Metric {
    let sample = |(key, partition): (&PartitionKey, &PartitionFigures)| {
        let (topic, number) = (key.0.clone(), key.1.to_string());
        let labels = vec![("flow", flow.to_owned()), ("topic", topic), ("partition", number)];
        Some(Sample { labels, value: figures.lag(partition, now_ms)? as f64 })
    };
    Metric {
        name: "longhaul_flow_lag_offsets",
        help: "Source offsets not copied yet; absent while that is not known",
        kind: Kind::Gauge,
        samples: figures.partitions.iter().filter_map(sample).collect(),
    }
}

fn silence_metric(flow: &str, figures: &FlowFigures, now_ms: i64) -> Metric {
    let ends = [("source", figures.source_silent_since_ms), ("target", figures.target_silent_since_ms)];
    let sample = |(end, since_ms): (&str, Option<i64>)| Sample {
        labels: vec![("flow", flow.to_owned()), ("end", end.to_owned())],
        value: since_ms.map_or(0.0, |since_ms| (now_ms - since_ms).max(0) as f64 / 1e3),
    };
    Metric {
        name: "longhaul_flow_silent_seconds",
        help: "How long a cluster of the flow has been asked and has not answered; 0 while it answers",
        kind: Kind::Gauge,
        samples: ends.map(sample).into(),
    }
}

async fn watch_catching_up(subject: Arc<FlowSubject>) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => subject.note_caught_up(now_ms()),
            () = subject.stop.cancelled() => return,
        }
    }
}

/// Reads the target's account: the whole map topic at first, then what has come to it.
async fn watch_target(subject: Arc<FlowSubject>) {
    let mut target = StatusReader::new(subject.spec.clone());
    loop {
        let read = tokio::select! {
            read = target.read() => read,
            () = subject.stop.cancelled() => return,
        };
        match read {
            Ok(status) => subject.seen().at_target = Some(status),
            Err(error) => {
                tracing::debug!(flow = %subject.spec.name, %error, "the target says nothing of the flow")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(TARGET_INTERVAL) => {}
            () = subject.stop.cancelled() => return,
        }
    }
}

fn state_name(figures: &FlowFigures) -> &'static str {
    match figures.state {
        FlowState::Running { .. } if figures.partitions.values().any(|p| p.paused.is_some()) => "paused",
        FlowState::Running { .. } => "running",
        FlowState::Connecting | FlowState::Waiting => "waiting",
        FlowState::Promoted { .. } => "promoted",
        FlowState::Stopped => "stopped",
    }
}

impl Subject for FlowSubject {
    fn status(&self) -> StatusReply {
        let figures = self.figures();
        let partitions = figures.partitions.keys().map(|key| self.partition_status(key, &figures));
        let flow = FlowStatus {
            name: self.spec.name.clone(),
            source: self.spec.from.name.clone(),
            target: self.spec.to.name.clone(),
            state: state_name(&figures).to_owned(),
            partitions: partitions.collect(),
            groups: self.groups(),
            alarms: [&figures.last_error, &figures.groups_error].into_iter().flatten().cloned().collect(),
            records_copied: figures.partitions.values().map(|partition| partition.records).sum(),
            bytes_copied: figures.partitions.values().map(|partition| partition.bytes).sum(),
            map_topic: self.map_topic(),
            source_silent_since_ms: figures.source_silent_since_ms,
            target_silent_since_ms: figures.target_silent_since_ms,
            topics: self.spec.topics.iter().map(ToString::to_string).collect(),
        };
        StatusReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms: self.started_at_ms,
            broker: None,
            flows: vec![flow],
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let figures = self.figures();
        let per_partition = |name, help, kind, value: fn(&PartitionFigures) -> u64| {
            let sample = |(key, partition): (&PartitionKey, &PartitionFigures)| Sample {
                labels: vec![
                    ("flow", self.spec.name.clone()),
                    ("topic", key.0.clone()),
                    ("partition", key.1.to_string()),
                ],
                value: value(partition) as f64,
            };
            Metric { name, help, kind, samples: figures.partitions.iter().map(sample).collect() }
        };
        vec![
            per_partition(
                "longhaul_flow_records",
                "Records acknowledged by the target",
                Kind::Counter,
                |p| p.records,
            ),
            per_partition("longhaul_flow_bytes", "Bytes of batches acknowledged", Kind::Counter, |p| p.bytes),
            per_partition(
                "longhaul_flow_passed_batches",
                "Batches that went through as they were",
                Kind::Counter,
                |p| p.passed_batches,
            ),
            per_partition(
                "longhaul_flow_rebuilt_batches",
                "Batches that were built anew",
                Kind::Counter,
                |p| p.rebuilt_batches.values().sum(),
            ),
            per_partition("longhaul_flow_recoveries", "Readings of the target's tail", Kind::Counter, |p| {
                p.recoveries
            }),
            lag_metric(&self.spec.name, &figures, now_ms()),
            silence_metric(&self.spec.name, &figures, now_ms()),
            per_partition(
                "longhaul_flow_paused",
                "1 while an event pauses the partition",
                Kind::Gauge,
                |p| u64::from(p.paused.is_some()),
            ),
        ]
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        let figures = self.figures();
        match figures.state {
            FlowState::Connecting => {
                Err(figures.last_error.unwrap_or_else(|| "the clusters are not reached yet".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn drain(&self) {
        self.stop.cancel();
    }

    fn flush_log(&self) -> Result<(), String> {
        Err("a flow keeps no log: name the admin address of a broker".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_follow_the_mean_record() {
        let figures = PartitionFigures { records: 10, bytes: 1_000, ..PartitionFigures::default() };
        assert_eq!(estimated_bytes(7, &figures), Some(700));
        assert_eq!(estimated_bytes(7, &PartitionFigures::default()), None);
    }

    #[test]
    fn a_lag_that_is_not_known_is_no_sample_and_a_silence_is_one() {
        let partition = PartitionFigures { source_end: 7, source_end_at_ms: Some(900), ..Default::default() };
        let mut figures = FlowFigures {
            state: FlowState::Running { generation: 1 },
            partitions: [(("flights".to_owned(), 0), partition)].into(),
            ..FlowFigures::default()
        };
        let values = |metric: Metric| metric.samples.iter().map(|sample| sample.value).collect::<Vec<_>>();
        assert_eq!(values(lag_metric("over", &figures, 1_000)), [7.0]);
        assert_eq!(values(silence_metric("over", &figures, 1_000)), [0.0, 0.0]);
        figures.source_silent_since_ms = Some(900);
        assert_eq!(values(lag_metric("over", &figures, 13_400)), [0.0; 0]);
        assert_eq!(values(silence_metric("over", &figures, 13_400)), [12.5, 0.0]);
    }

    #[test]
    fn a_paused_partition_shows_in_the_flows_state() {
        let mut figures =
            FlowFigures { state: FlowState::Running { generation: 1 }, ..FlowFigures::default() };
        assert_eq!(state_name(&figures), "running");
        figures.state = FlowState::Promoted { at_ms: 1 };
        assert_eq!(state_name(&figures), "promoted");
    }
}
