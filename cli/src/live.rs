//! The live clusters: what topics they have, and changing them.
//!
//! Owns: the questions and changes that `plan` and `up` need. Does not own: what should change (`plan`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::admin::{NewTopic, Resource};
use client::transport::{Address, ParseAddressError};
use client::{Cluster, ClusterOptions, RequestError};
use topology::Topology;

use crate::plan::{LiveTopic, Step, World};
use crate::status::Report;

/// How long a cluster may take before it counts as down; short, because a person waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a cluster could not be asked or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveError {
    #[error(transparent)]
    Address(#[from] ParseAddressError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("{cluster} does not say what topics it has: {reason}; run `longhaul up` again once it serves")]
    Unknown { cluster: String, reason: String },
}

/// Connects to a cluster of the file.
pub(crate) async fn connect(topology: &Topology, cluster: &str) -> Result<Cluster, LiveError> {
    connect_to(&topology.clusters[cluster].bootstrap()).await
}

/// Connects to the first of these brokers that answers.
pub(crate) async fn connect_to(bootstrap: &[String]) -> Result<Cluster, LiveError> {
    let bootstrap = bootstrap.iter().map(|address| address.parse::<Address>());
    let mut options = ClusterOptions::new(bootstrap.collect::<Result<_, _>>()?);
    options.retry_for = ANSWER_TIMEOUT;
    Ok(Cluster::connect(options).await?)
}

/// What is known of the file's clusters now; `report` says which flows run.
pub(crate) async fn look(topology: &Topology, report: &Report) -> World {
    let running = report.flows.iter().filter(|(_, flow)| flow.failure.is_none());
    let running_flows: BTreeSet<String> = running.map(|(name, _)| name.clone()).collect();
    let mut clusters = BTreeMap::new();
    for name in topology.clusters.keys() {
        let topics = declared_topics(topology, name).await.map_err(|error| error.to_string());
        clusters.insert(name.clone(), topics);
    }
    World { clusters, running_flows }
}

/// The topics that the file declares on a cluster, as far as they are there.
async fn declared_topics(
    topology: &Topology,
    cluster_name: &str,
) -> Result<BTreeMap<String, LiveTopic>, LiveError> {
    let cluster = connect(topology, cluster_name).await?;
    let layout = cluster.refresh_all().await?;
    let mut found = BTreeMap::new();
    let declared =
        topology.topics.iter().filter(|(_, topic)| topic.clusters.iter().any(|name| name == cluster_name));
    for (name, topic) in declared {
        let Some(live) = layout.topics.get(name.as_str()) else { continue };
        let entries = cluster.describe_configs(&Resource::Topic(name.clone())).await?;
        let config = entries
            .into_iter()
            .filter(|entry| topic.config.contains_key(&entry.name))
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect();
        let partitions = i32::try_from(live.partitions.len()).unwrap_or(i32::MAX);
        found.insert(name.clone(), LiveTopic { partitions, config });
    }
    Ok(found)
}

/// Makes one change to a topic; steps that are no such change do nothing. What could not be compared is not changed.
pub(crate) async fn apply(topology: &Topology, step: &Step) -> Result<(), LiveError> {
    match step {
        Step::CreateTopic { cluster, topic, partitions, config } => {
            let new = NewTopic {
                name: topic.clone(),
                partitions: *partitions,
                replication_factor: -1,
                configs: config.clone().into_iter().collect(),
            };
            connect(topology, cluster).await?.create_topic(&new).await?;
        }
        Step::AddPartitions { cluster, topic, to, .. } => {
            connect(topology, cluster).await?.create_partitions(topic, *to).await?;
        }
        Step::SetConfig { cluster, topic, key, to, .. } => {
            let resource = Resource::Topic(topic.clone());
            connect(topology, cluster)
                .await?
                .alter_configs(&resource, &[(key.as_str(), Some(to.as_str()))])
                .await?;
        }
        Step::EnsureTopic { cluster, reason, .. } => {
            return Err(LiveError::Unknown { cluster: cluster.clone(), reason: reason.clone() });
        }
        Step::StartBroker { .. } | Step::StartFlow { .. } | Step::Blocked { .. } => {}
    }
    Ok(())
}
