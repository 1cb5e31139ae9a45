//! `status`: how everything of a topology file fares, asked of every process at once.
//!
//! Owns: the asking, the answer's JSON. Does not own: its text for people (`status/text`), the figures
//! (`broker`, `mirror`).

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
    pub(crate) records_copied: u64,
    pub(crate) bytes_copied: u64,
    pub(crate) partitions: Vec<FlowPartitionReport>,
    pub(crate) groups: Vec<GroupReport>,
    pub(crate) alarms: Vec<String>,
}

/// A partition of a flow.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct FlowPartitionReport {
    pub(crate) source_topic: String,
    pub(crate) target_topic: String,
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

/// Asks and prints; again and again with `watch`.
pub(crate) async fn status(topology: &Topology, watch: bool, json: bool) -> Result<(), serde_json::Error> {
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
            return Ok(());
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
        records_copied: 0,
        bytes_copied: 0,
        partitions: Vec::new(),
        groups: Vec::new(),
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
    report.records_copied = status.records_copied;
    report.bytes_copied = status.bytes_copied;
    report.alarms = status.alarms;
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
}
