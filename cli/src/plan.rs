//! What would change, and why: a topology file against the live clusters.
//!
//! Owns: the comparison, as pure data. Does not own: asking the clusters (`live`), doing it (`up`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use topology::{Topic, Topology};

/// What is known of the world outside the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// Every cluster of the file: its topics, or why they are not known.
    pub(crate) clusters: BTreeMap<String, Result<BTreeMap<String, LiveTopic>, String>>,
    /// Flows that run now.
    pub(crate) running_flows: BTreeSet<String>,
}

impl World {
    /// The topics of a cluster, or why they are not known.
    fn topics_of(&self, cluster: &str) -> Result<&BTreeMap<String, LiveTopic>, &str> {
        match self.clusters.get(cluster) {
            Some(Ok(topics)) => Ok(topics),
            Some(Err(reason)) => Err(reason),
            None => Err("it was not asked"),
        }
    }
}

/// A topic as its cluster has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveTopic {
    pub(crate) partitions: i32,
    /// Values of the settings that the file declares, where the cluster has them.
    pub(crate) config: BTreeMap<String, String>,
}

/// One thing that `up` would do, or that it cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Start one of our brokers.
    StartBroker { cluster: String, listen: String, data: String },
    /// Make a topic.
    CreateTopic { cluster: String, topic: String, partitions: i32, config: BTreeMap<String, String> },
    /// See to it that a topic is so, on a cluster that does not say now what it has.
    EnsureTopic {
        cluster: String,
        topic: String,
        partitions: i32,
        config: BTreeMap<String, String>,
        /// Why it does not say it.
        reason: String,
    },
    /// Add partitions to a topic.
    AddPartitions { cluster: String, topic: String, from: i32, to: i32 },
    /// Change one setting of a topic.
    SetConfig { cluster: String, topic: String, key: String, from: Option<String>, to: String },
    /// Start a flow.
    StartFlow { flow: String, source: String, target: String },
    /// Something that the file asks for and nobody can do.
    Blocked { cluster: String, topic: Option<String>, reason: String },
}

impl Step {
    /// The cluster whose topic the step is about; none if it is about something else.
    pub(crate) fn changed_topic_of(&self) -> Option<&str> {
        match self {
            Self::CreateTopic { cluster, .. }
            | Self::EnsureTopic { cluster, .. }
            | Self::AddPartitions { cluster, .. }
            | Self::SetConfig { cluster, .. }
            | Self::Blocked { cluster, topic: Some(_), .. } => Some(cluster),
            Self::StartBroker { .. } | Self::StartFlow { .. } | Self::Blocked { topic: None, .. } => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartBroker { cluster, listen, data } => {
                write!(f, "start   broker of cluster {cluster} on {listen} with data in {data}")
            }
            Self::CreateTopic { cluster, topic, partitions, config } => {
                write!(f, "create  topic {topic} on {cluster}: {partitions} partitions")?;
                config.iter().try_for_each(|(key, value)| write!(f, ", {key}={value}"))
            }
            Self::EnsureTopic { cluster, topic, partitions, config, .. } => {
                write!(f, "ensure  topic {topic} on {cluster}: {partitions} partitions")?;
                config.iter().try_for_each(|(key, value)| write!(f, ", {key}={value}"))?;
                write!(f, " ({cluster} is not running, so what it has cannot be compared)")
            }
            Self::AddPartitions { cluster, topic, from, to } => {
                write!(f, "grow    topic {topic} on {cluster}: {from} to {to} partitions; ")?;
                write!(f, "a key may then go to another partition than before")
            }
            Self::SetConfig { cluster, topic, key, from, to } => {
                let from = from.as_deref().unwrap_or("its default");
                write!(f, "change  topic {topic} on {cluster}: {key} from {from} to {to}")
            }
            Self::StartFlow { flow, source, target } => {
                write!(f, "start   flow {flow} from {source} to {target}")
            }
            Self::Blocked { cluster, topic: Some(topic), reason } => {
                write!(f, "blocked topic {topic} on {cluster}: {reason}")
            }
            Self::Blocked { cluster, topic: None, reason } => {
                write!(f, "blocked cluster {cluster}: {reason}")
            }
        }
    }
}

/// Prints the steps, one a line.
pub(crate) fn show(steps: &[Step], json: bool) -> Result<(), serde_json::Error> {
    if json {
        println!("{}", serde_json::to_string(steps)?);
    } else if steps.is_empty() {
        println!("everything is as the file says");
    } else {
        steps.iter().for_each(|step| println!("{step}"));
    }
    Ok(())
}

/// Everything that `up` would do, in its order: brokers, topics, flows.
pub(crate) fn decide(topology: &Topology, world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, cluster) in &topology.clusters {
        match (world.topics_of(name), cluster.ours()) {
            (Ok(_), _) => {}
            (Err(_), Some(ours)) => steps.push(Step::StartBroker {
                cluster: name.clone(),
                listen: ours.listen.to_string(),
                data: ours.data.display().to_string(),
            }),
            (Err(reason), None) => {
                steps.push(Step::Blocked { cluster: name.clone(), topic: None, reason: reason.to_owned() })
            }
        }
    }
    for (name, topic) in &topology.topics {
        for cluster in &topic.clusters {
            match world.topics_of(cluster) {
                Ok(topics) => steps.extend(topic_steps(cluster, (name, topic), topics.get(name))),
                Err(reason) => steps.push(Step::EnsureTopic {
                    cluster: cluster.clone(),
                    topic: name.clone(),
                    partitions: topic.partitions,
                    config: topic.config.clone(),
                    reason: reason.to_owned(),
                }),
            }
        }
    }
    for (name, flow) in &topology.flows {
        if !world.running_flows.contains(name) {
            steps.push(Step::StartFlow {
                flow: name.clone(),
                source: flow.from.clone(),
                target: flow.to.clone(),
            });
        }
    }
    steps
}

fn topic_steps(cluster: &str, (name, topic): (&String, &Topic), live: Option<&LiveTopic>) -> Vec<Step> {
    let (cluster, name) = (cluster.to_owned(), name.clone());
    let Some(live) = live else {
        let (partitions, config) = (topic.partitions, topic.config.clone());
        return vec![Step::CreateTopic { cluster, topic: name, partitions, config }];
    };
    let mut steps = Vec::new();
    if topic.partitions > live.partitions {
        let (from, to) = (live.partitions, topic.partitions);
        steps.push(Step::AddPartitions { cluster: cluster.clone(), topic: name.clone(), from, to });
    }
    if topic.partitions < live.partitions {
        let reason = format!(
            "it has {} partitions, the file says {}, and partitions are never taken away (write {} in the file)",
            live.partitions, topic.partitions, live.partitions
        );
        steps.push(Step::Blocked { cluster: cluster.clone(), topic: Some(name.clone()), reason });
    }
    for (key, to) in &topic.config {
        let from = live.config.get(key);
        if from != Some(to) {
            steps.push(Step::SetConfig {
                cluster: cluster.clone(),
                topic: name.clone(),
                key: key.clone(),
                from: from.cloned(),
                to: to.clone(),
            });
        }
    }
    steps
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
[topic.flights]
clusters = ["west"]
partitions = 3
config = { "retention.ms" = "-1", "segment.bytes" = "1MiB" }
[flow.in]
from = "old"
to = "west"
topics = ["*"]
"#;

    fn shown(world: &World) -> Vec<String> {
        let topology = topology::parse(FILE).unwrap();
        decide(&topology, world).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_runs_so_everything_is_started() {
        let mut world = World::default();
        world.clusters.insert("old".to_owned(), Err("nobody answers at 127.0.0.1:1".to_owned()));
        world.clusters.insert("west".to_owned(), Err("nobody answers at 127.0.0.1:9092".to_owned()));
        assert_eq!(
            shown(&world),
            [
                "blocked cluster old: nobody answers at 127.0.0.1:1",
                "start   broker of cluster west on 127.0.0.1:9092 with data in data/west",
                "ensure  topic flights on west: 3 partitions, retention.ms=-1, segment.bytes=1048576 (west is not \
                 running, so what it has cannot be compared)",
                "start   flow in from old to west",
            ]
        );
    }

    #[test]
    fn what_a_running_cluster_lacks_is_made() {
        let mut world = world_with(LiveTopic::default());
        world.clusters.insert("west".to_owned(), Ok(BTreeMap::new()));
        assert_eq!(
            shown(&world),
            ["create  topic flights on west: 3 partitions, retention.ms=-1, segment.bytes=1048576"]
        );
    }

    fn world_with(flights: LiveTopic) -> World {
        let mut world = World::default();
        world.clusters.insert("old".to_owned(), Ok(BTreeMap::new()));
        world.clusters.insert("west".to_owned(), Ok(BTreeMap::from([("flights".to_owned(), flights)])));
        world.running_flows.insert("in".to_owned());
        world
    }

    #[test]
    fn what_is_as_declared_needs_nothing() {
        let config = [("retention.ms", "-1"), ("segment.bytes", "1048576")];
        let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(shown(&world_with(LiveTopic { partitions: 3, config })), [""; 0]);
    }

    #[test]
    fn differences_are_named_with_both_values() {
        let config = [("retention.ms".to_owned(), "604800000".to_owned())].into();
        assert_eq!(
            shown(&world_with(LiveTopic { partitions: 2, config })),
            [
                "grow    topic flights on west: 2 to 3 partitions; a key may then go to another partition than before",
                "change  topic flights on west: retention.ms from 604800000 to -1",
                "change  topic flights on west: segment.bytes from its default to 1048576",
            ]
        );
    }

    #[test]
    fn partitions_are_never_taken_away() {
        let steps = shown(&world_with(LiveTopic { partitions: 8, config: BTreeMap::new() }));
        assert!(steps[0].starts_with("blocked topic flights on west: it has 8 partitions"), "{steps:?}");
    }
}
