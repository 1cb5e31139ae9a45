//! `status`: how everything of a topology file fares, asked of every process at once.
//!
//! Owns: the asking, the answer's JSON, what of it needs somebody. Does not own: its text for people (`status/text`), the
//! figures (`broker`, `mirror`).

mod text;

pub(crate) use self::text::bytes;

use std::collections::BTreeMap;
use std::time::Duration;

use control::v1::{BrokerStatus, FlowStatus, StatusReply};
use serde::Serialize;
use topology::Topology;

/// How often `--watch` asks again.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// All of it.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) clusters: BTreeMap<String, ClusterReport>,
    pub(crate) flows: BTreeMap<String, FlowReport>,
}

impl Report {
    /// What needs somebody: nothing, if all is well.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let clusters = self.clusters.iter().filter_map(|(name, cluster)| {
            let ills = match (&cluster.failure, cluster.alarms.len()) {
                (Some(_), _) => "is down".to_owned(),
                (None, 0) => return None,
                (None, alarms) => counted(alarms, "alarm"),
            };
            Some(format!("cluster {name} {ills}"))
        });
        let flows = self.flows.iter().filter_map(|(name, flow)| {
            let paused = flow.partitions.iter().filter(|partition| partition.event.is_some()).count();
            let ills = match (&flow.failure, flow.alarms.len() + flow.silent().len(), paused) {
                (Some(_), ..) => "is down".to_owned(),
                (None, 0, 0) => return None,
                (None, 0, paused) => counted(paused, "paused partition"),
                (None, alarms, 0) => counted(alarms, "alarm"),
                (None, alarms, paused) => {
                    format!("{} and {paused} paused", counted(alarms, "alarm"))
                }
            };
            Some(format!("flow {name} {ills}"))
        });
        clusters.chain(flows).collect()
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("has {count} {what}{}", if count == 1 { "" } else { "s" })
}

/// One of our clusters.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct ClusterReport {
    pub(crate) datacenter: String,
    pub(crate) listen: String,
    pub(crate) admin: String,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    pub(crate) topics: BTreeMap<String, TopicReport>,
    pub(crate) alarms: Vec<String>,
    pub(crate) connections: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<StoreReport>,
}

/// A cluster's store.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct StoreReport {
    pub(crate) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failing_since_ms: Option<i64>,
}

/// A topic of one of our clusters.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct TopicReport {
    pub(crate) topic_id: String,
    pub(crate) partitions: Vec<PartitionReport>,
}

/// A partition; what is not known is absent.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct PartitionReport {
    pub(crate) partition: i32,
    pub(crate) log_start_offset: i64,
    pub(crate) local_log_start_offset: i64,
    pub(crate) high_watermark: i64,
    pub(crate) local_bytes: u64,
    pub(crate) tiered_end_offset: Option<i64>,
    pub(crate) tiered_stored_bytes: Option<u64>,
    pub(crate) unprotected_bytes: Option<u64>,
    pub(crate) unprotected_age_ms: Option<u64>,
}

/// A flow.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct FlowReport {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) admin: String,
    /// "waiting", "running", "paused", "promoted", "stopped", or "unreachable".
    pub(crate) state: String,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    /// The names and patterns that it copies, as its process knows them; empty where that does not answer.
    pub(crate) topics: Vec<String>,
    pub(crate) records_copied: u64,
    pub(crate) bytes_copied: u64,
    pub(crate) partitions: Vec<FlowPartitionReport>,
    pub(crate) groups: Vec<GroupReport>,
    /// Absent until the flow has read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) map_topic: Option<MapTopicReport>,
    /// Since when the flow asks its source and gets no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_silent_since_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target_silent_since_ms: Option<i64>,
    pub(crate) alarms: Vec<String>,
}

impl FlowReport {
    /// Which of its clusters does not answer the flow, as which end, and since when.
    fn silent(&self) -> Vec<(&'static str, &str, i64)> {
        let ends = [
            ("source", &self.source, self.source_silent_since_ms),
            ("target", &self.target, self.target_silent_since_ms),
        ];
        ends.into_iter().filter_map(|(end, name, since_ms)| Some((end, name.as_str(), since_ms?))).collect()
    }

    /// Whether it runs, its source answers, and no partition is copied. That it found no topic is not certain: it may not have
    /// been able to make one on the target.
    fn is_idle(&self) -> bool {
        self.state == "running" && self.partitions.is_empty() && self.source_silent_since_ms.is_none()
    }
}

/// The topic on the target in which all flows that end there keep their maps.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct MapTopicReport {
    pub(crate) log_start_offset: i64,
    pub(crate) log_end_offset: i64,
    /// As they were read: what the target has compacted away since may still count.
    pub(crate) size_bytes: u64,
}

/// A partition of a flow, or a topic that stands as a whole.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct FlowPartitionReport {
    pub(crate) source_topic: String,
    pub(crate) target_topic: String,
    /// Below 0 for a topic as a whole.
    pub(crate) partition: i32,
    pub(crate) state: String,
    pub(crate) source_position: i64,
    pub(crate) target_position: i64,
    pub(crate) source_end_offset: Option<i64>,
    pub(crate) lag_offsets: Option<u64>,
    pub(crate) lag_bytes: Option<u64>,
    pub(crate) lag_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<String>,
}

/// A group's position as the flow last carried it over.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct GroupReport {
    pub(crate) group: String,
    pub(crate) source_topic: String,
    pub(crate) partition: i32,
    pub(crate) source_offset: i64,
    pub(crate) target_offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) synced_at_ms: Option<i64>,
}

/// Asks every process of the file, all at once.
pub(crate) async fn ask(topology: &Topology) -> Report {
    let mut asked = tokio::task::JoinSet::new();
    let clusters = topology.clusters.iter().filter_map(|(name, cluster)| Some((name, cluster.ours()?)));
    for (name, ours) in clusters {
        let (name, admin) = (name.clone(), ours.admin.to_string());
        asked.spawn(async move { (true, name, control::ask_status(&admin).await) });
    }
    for (name, flow) in &topology.flows {
        let (name, admin) = (name.clone(), flow.admin.to_string());
        asked.spawn(async move { (false, name, control::ask_status(&admin).await) });
    }
    let mut report = Report { clusters: BTreeMap::new(), flows: BTreeMap::new() };
    while let Some(answer) = asked.join_next().await {
        let (is_cluster, name, reply) = answer.expect("asking does not panic");
        let reply = reply.map_err(|error| error.to_string());
        if is_cluster {
            report.clusters.insert(name.clone(), cluster_report(topology, &name, reply));
        } else {
            report.flows.insert(name.clone(), flow_report(topology, &name, reply));
        }
    }
    report
}

/// Asks and prints; again and again with `watch`. Gives what needs somebody.
pub(crate) async fn status(
    topology: &Topology,
    watch: bool,
    json: bool,
) -> Result<Vec<String>, serde_json::Error> {
    loop {
        let report = ask(topology).await;
        if json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            if watch {
                // Clears the terminal and goes to its first line (ECMA-48, ED and CUP).
                print!("\x1b[2J\x1b[H");
            }
            print!("{}", text::of(&report, crate::clock::now_ms()));
        }
        if !watch {
            return Ok(report.complaints());
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

fn cluster_report(topology: &Topology, name: &str, reply: Result<StatusReply, String>) -> ClusterReport {
    let cluster = &topology.clusters[name];
    let ours = cluster.ours().expect("only our clusters are asked");
    let mut report = ClusterReport {
        datacenter: cluster.datacenter.clone(),
        listen: ours.listen.to_string(),
        admin: ours.admin.to_string(),
        failure: None,
        topics: BTreeMap::new(),
        alarms: Vec::new(),
        connections: 0,
        store: None,
    };
    match reply.and_then(|reply| reply.broker.ok_or_else(|| "the process there is no broker".to_owned())) {
        Err(failure) => report.failure = Some(failure),
        Ok(broker) => fill_cluster(&mut report, broker),
    }
    report
}

fn fill_cluster(report: &mut ClusterReport, broker: BrokerStatus) {
    report.alarms = broker.alarms;
    report.connections = broker.connections;
    report.store = broker.store.map(|store| StoreReport {
        url: store.url,
        failure: store.failure,
        failing_since_ms: store.failing_since_ms,
    });
    for topic in broker.topics {
        let partitions = topic.partitions.into_iter().map(|partition| PartitionReport {
            partition: partition.partition,
            log_start_offset: partition.log_start_offset,
            local_log_start_offset: partition.local_log_start_offset,
            high_watermark: partition.high_watermark,
            local_bytes: partition.local_bytes,
            tiered_end_offset: partition.tiered_end_offset,
            tiered_stored_bytes: partition.tiered_stored_bytes,
            unprotected_bytes: partition.unprotected_bytes,
            unprotected_age_ms: partition.unprotected_age_ms,
        });
        let partitions = partitions.collect();
        report.topics.insert(topic.name, TopicReport { topic_id: topic.topic_id, partitions });
    }
}

fn flow_report(topology: &Topology, name: &str, reply: Result<StatusReply, String>) -> FlowReport {
    let flow = &topology.flows[name];
    let mut report = FlowReport {
        source: flow.from.clone(),
        target: flow.to.clone(),
        admin: flow.admin.to_string(),
        state: "unreachable".to_owned(),
        failure: None,
        topics: Vec::new(),
        records_copied: 0,
        bytes_copied: 0,
        partitions: Vec::new(),
        groups: Vec::new(),
        map_topic: None,
        source_silent_since_ms: None,
        target_silent_since_ms: None,
        alarms: Vec::new(),
    };
    let found = reply.and_then(|reply| {
        let found = reply.flows.into_iter().find(|flow| flow.name == name);
        found.ok_or_else(|| "the process there does not run this flow".to_owned())
    });
    match found {
        Err(failure) => report.failure = Some(failure),
        Ok(status) => fill_flow(&mut report, status),
    }
    report
}

fn fill_flow(report: &mut FlowReport, status: FlowStatus) {
    report.state = status.state;
    report.topics = status.topics;
    report.records_copied = status.records_copied;
    report.bytes_copied = status.bytes_copied;
    report.alarms = status.alarms;
    (report.source_silent_since_ms, report.target_silent_since_ms) =
        (status.source_silent_since_ms, status.target_silent_since_ms);
    let partitions = status.partitions.into_iter().map(|partition| FlowPartitionReport {
        source_topic: partition.source_topic,
        target_topic: partition.target_topic,
        partition: partition.partition,
        state: partition.state,
        source_position: partition.source_position,
        target_position: partition.target_position,
        source_end_offset: partition.source_end_offset,
        lag_offsets: partition.lag_offsets,
        lag_bytes: partition.lag_bytes,
        lag_ms: partition.lag_ms,
        event: partition.event,
    });
    report.partitions = partitions.collect();
    let groups = status.groups.into_iter().map(|group| GroupReport {
        group: group.group,
        source_topic: group.source_topic,
        partition: group.partition,
        source_offset: group.source_offset,
        target_offset: group.target_offset,
        reason: group.reason,
        synced_at_ms: group.synced_at_ms,
    });
    report.groups = groups.collect();
    report.map_topic = status.map_topic.map(|map_topic| MapTopicReport {
        log_start_offset: map_topic.log_start_offset,
        log_end_offset: map_topic.log_end_offset,
        size_bytes: map_topic.size_bytes,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[cluster.west]
datacenter = "w"
listen = "127.0.0.1:9092"
data = "data/west"
[cluster.old]
datacenter = "o"
bootstrap = ["127.0.0.1:1"]
[flow.in]
from = "old"
to = "west"
topics = ["*"]
"#;

    fn complaints(broker: Result<BrokerStatus, String>, flow: Result<FlowStatus, String>) -> Vec<String> {
        let topology = topology::parse(FILE).unwrap();
        let reply = broker.map(|broker| StatusReply { broker: Some(broker), ..StatusReply::default() });
        let clusters = [("west".to_owned(), cluster_report(&topology, "west", reply))].into();
        let reply = flow.map(|flow| StatusReply {
            flows: vec![FlowStatus { name: "in".to_owned(), ..flow }],
            ..StatusReply::default()
        });
        let flows = [("in".to_owned(), flow_report(&topology, "in", reply))].into();
        Report { clusters, flows }.complaints()
    }

    fn flow(alarms: &[&str], events: &[Option<&str>]) -> FlowStatus {
        let partition = |event: &Option<&str>| control::v1::FlowPartitionStatus {
            event: event.map(str::to_owned),
            ..Default::default()
        };
        FlowStatus {
            state: "promoted".to_owned(),
            alarms: alarms.iter().map(|alarm| (*alarm).to_owned()).collect(),
            partitions: events.iter().map(partition).collect(),
            ..FlowStatus::default()
        }
    }

    #[test]
    fn what_is_as_asked_for_is_no_complaint() {
        assert_eq!(complaints(Ok(BrokerStatus::default()), Ok(flow(&[], &[None]))), [""; 0]);
    }

    #[test]
    fn whatever_needs_somebody_is_a_complaint() {
        let down = || "nothing answers".to_owned();
        assert_eq!(complaints(Err(down()), Err(down())), ["cluster west is down", "flow in is down"]);
        let alarmed = BrokerStatus { alarms: vec!["the store fails".to_owned()], ..BrokerStatus::default() };
        assert_eq!(
            complaints(Ok(alarmed), Ok(flow(&[], &[None, Some("lost 3 to 7")]))),
            ["cluster west has 1 alarm", "flow in has 1 paused partition"]
        );
        assert_eq!(
            complaints(Ok(BrokerStatus::default()), Ok(flow(&["a", "b"], &[Some("lost 3 to 7")]))),
            ["flow in has 2 alarms and 1 paused"]
        );
        let silent = FlowStatus { source_silent_since_ms: Some(1), ..flow(&[], &[None]) };
        assert_eq!(complaints(Ok(BrokerStatus::default()), Ok(silent)), ["flow in has 1 alarm"]);
    }

    #[test]
    fn a_report_names_what_the_process_copies() {
        let topology = topology::parse(FILE).unwrap();
        let running =
            FlowStatus { name: "in".to_owned(), topics: vec!["orders".to_owned()], ..flow(&[], &[]) };
        let reply = StatusReply { flows: vec![running], ..StatusReply::default() };
        let report = flow_report(&topology, "in", Ok(reply));
        assert_eq!(serde_json::to_value(&report).unwrap()["topics"], serde_json::json!(["orders"]));
    }
}
