//! What a flow is told: from where, to where, what.
//!
//! Owns: the flow as this crate sees it. Does not own: the topology file (`topology`).

use topology::{Pattern, Rename, Start, Topology};

use crate::map_topic::MAP_TOPIC;

/// A cluster to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Its name in the topology.
    pub name: String,
    /// Brokers to ask first, `host:port`.
    pub bootstrap: Vec<String>,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSpec {
    /// Its name: under this name its target knows what was copied.
    pub name: String,
    /// Where records come from.
    pub from: ClusterSpec,
    /// Where they go.
    pub to: ClusterSpec,
    /// Topics to copy.
    pub topics: Vec<Pattern>,
    /// Groups whose positions are carried over.
    pub groups: Vec<Pattern>,
    /// Where a topic that is met for the first time starts.
    pub start: Start,
    /// Names at the target.
    pub rename: Rename,
    /// Flows of the same file from the target to the source.
    pub ways_back: Vec<WayBack>,
}

/// A flow that the file declares in the other direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayBack {
    /// Topics that it copies.
    pub topics: Vec<Pattern>,
    /// What it calls them there.
    pub rename: Rename,
}

impl FlowSpec {
    /// The flow of that name; `None` when the topology has none. A valid topology has both its clusters.
    #[must_use]
    pub fn from_topology(topology: &Topology, name: &str) -> Option<Self> {
        let flow = topology.flows.get(name)?;
        let cluster = |name: &String| {
            let bootstrap =
                topology.clusters.get(name)?.bootstrap().iter().map(ToString::to_string).collect();
            Some(ClusterSpec { name: name.clone(), bootstrap })
        };
        Some(Self {
            name: name.to_owned(),
            from: cluster(&flow.from)?,
            to: cluster(&flow.to)?,
            topics: flow.topics.clone(),
            groups: flow.groups.clone(),
            start: flow.start,
            rename: flow.rename.clone(),
            ways_back: topology
                .flows
                .values()
                .filter(|back| back.from == flow.to && back.to == flow.from)
                .map(|back| WayBack { topics: back.topics.clone(), rename: back.rename.clone() })
                .collect(),
        })
    }

    /// Whether a topic of the source is copied. The map topic of flows that end at the source never is.
    #[must_use]
    pub fn copies(&self, topic: &str) -> bool {
        topic != MAP_TOPIC && self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether another flow of the file copies a topic's counterpart back into it.
    #[must_use]
    pub fn comes_back(&self, topic: &str) -> bool {
        let there = self.rename.apply(topic);
        let copies = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&there));
        self.ways_back.iter().any(|back| copies(&back.topics) && *back.rename.apply(&there) == *topic)
    }

    /// Whether a group's positions are carried over.
    #[must_use]
    pub fn syncs(&self, group: &str) -> bool {
        self.groups.iter().any(|pattern| pattern.matches(group))
    }

    /// The group on the target through which owners agree on one.
    #[must_use]
    pub fn owner_group(&self) -> String {
        format!("__longhaul-mirror-{}", self.name)
    }
}
