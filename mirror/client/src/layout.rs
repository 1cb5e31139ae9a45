//! What is known of a cluster: brokers, topics, leaders. Pure data; [`crate::cluster`] fetches it.
//!
//! Owns: how an answer to Metadata changes what was known. A partition never goes back to an older leader epoch of the
//! same topic, since a broker that lags behind may answer (KIP-320).
//! Does not own: when to ask again and whom (`cluster`), how an address is reached (`transport`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use wire::api::metadata::{MetadataResponse, MetadataResponseTopic};
use wire::{ErrorCode, LeaderEpoch, TopicId};

use crate::transport::Address;

/// The number of a broker in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A partition by its topic's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition of that number in that topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.partition)
    }
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: BrokerId,
    /// Where it listens.
    pub address: Address,
    /// Where it stands.
    pub rack: Option<String>,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The broker.
    pub broker: BrokerId,
    /// Since which epoch; -1 from brokers that do not say.
    pub epoch: LeaderEpoch,
    /// The topic's id; [`TopicId::ZERO`] from brokers before 2.8.
    pub topic_id: TopicId,
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicLayout {
    /// Its id; [`TopicId::ZERO`] from brokers before 2.8.
    pub id: TopicId,
    /// Whether it is one of Kafka's own.
    pub is_internal: bool,
    /// Its partitions in order.
    pub partitions: Vec<PartitionLayout>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLayout {
    /// Its number.
    pub partition: i32,
    /// Who leads it, if anybody.
    pub leader: Option<BrokerId>,
    /// Since which epoch; -1 from brokers that do not say.
    pub leader_epoch: LeaderEpoch,
    /// All that have a copy.
    pub replicas: Vec<BrokerId>,
    /// Those that are in sync.
    pub in_sync: Vec<BrokerId>,
}

/// What is known of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The cluster's own id.
    pub cluster_id: Option<String>,
    /// Whom to ask for changes.
    pub controller: Option<BrokerId>,
    /// Its brokers.
    pub brokers: HashMap<BrokerId, Broker>,
    /// Topics that somebody asked for and that exist.
    pub topics: HashMap<Arc<str>, Arc<TopicLayout>>,
    /// Partitions whose leader a broker has denied.
    stale: HashSet<TopicPartition>,
}

/// Which topics a request for metadata named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked<'a> {
    All,
    Named(&'a [Arc<str>]),
}

impl Layout {
    /// What is known after an answer.
    pub(crate) fn merged(&self, response: &MetadataResponse, asked: Asked<'_>) -> Self {
        let mut layout = self.clone();
        layout.cluster_id = response.cluster_id.as_ref().map(String::from).or(layout.cluster_id);
        layout.controller = Some(response.controller_id).filter(|&id| id >= 0).map(BrokerId);
        layout.brokers = response
            .brokers
            .iter()
            .filter_map(|broker| {
                let port = u16::try_from(broker.port).ok()?;
                let address = Address { host: broker.host.to_string(), port };
                let rack = broker.rack.as_ref().map(String::from);
                Some((BrokerId(broker.node_id), Broker { id: BrokerId(broker.node_id), address, rack }))
            })
            .collect();
        match asked {
            Asked::All => {
                layout.topics.clear();
                layout.stale.clear();
            }
            Asked::Named(names) => {
                for name in names {
                    layout.topics.remove(name);
                }
                layout.stale.retain(|stale| !names.contains(&stale.topic));
            }
        }
        for topic in &response.topics {
            let Some(name) = topic.name.as_deref().filter(|_| topic.error_code == ErrorCode::NONE) else {
                continue;
            };
            let layout_of_topic = self.topic_after(name, topic);
            layout.topics.insert(name.into(), Arc::new(layout_of_topic));
        }
        layout
    }

    fn topic_after(&self, name: &str, topic: &MetadataResponseTopic) -> TopicLayout {
        let before = self.topics.get(name).filter(|before| before.id == topic.topic_id);
        let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
        let mut partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| {
                let now = PartitionLayout {
                    partition: partition.partition_index,
                    leader: Some(partition.leader_id).filter(|&id| id >= 0).map(BrokerId),
                    leader_epoch: LeaderEpoch(partition.leader_epoch),
                    replicas: brokers(&partition.replica_nodes),
                    in_sync: brokers(&partition.isr_nodes),
                };
                let known = before.and_then(|before| before.partition(now.partition));
                known.filter(|known| known.leader_epoch > now.leader_epoch).cloned().unwrap_or(now)
            })
            .collect();
        partitions.sort_by_key(|partition| partition.partition);
        TopicLayout { id: topic.topic_id, is_internal: topic.is_internal, partitions }
    }

    /// Takes a leader that a broker named in passing (KIP-951), unless a newer one is known.
    pub(crate) fn learn(&mut self, partition: &TopicPartition, leader: BrokerId, epoch: LeaderEpoch) {
        let Some(topic) = self.topics.get_mut(&partition.topic) else { return };
        let topic = Arc::make_mut(topic);
        let Some(known) = topic.partitions.iter_mut().find(|known| known.partition == partition.partition)
        else {
            return;
        };
        if epoch > known.leader_epoch && self.brokers.contains_key(&leader) {
            known.leader = Some(leader);
            known.leader_epoch = epoch;
            self.stale.remove(partition);
        }
    }

    pub(crate) fn mark_stale(&mut self, partition: &TopicPartition) {
        if self.topics.contains_key(&partition.topic) {
            self.stale.insert(partition.clone());
        }
    }

    /// Who leads the partition, unless that has been denied since.
    pub(crate) fn trusted_leader(&self, partition: &TopicPartition) -> Option<Leader> {
        if self.stale.contains(partition) { None } else { self.leader(partition) }
    }

    /// Who leads the partition, as far as is known.
    #[must_use]
    pub fn leader(&self, partition: &TopicPartition) -> Option<Leader> {
        let topic = self.topics.get(&partition.topic)?;
        let known = topic.partition(partition.partition)?;
        Some(Leader { broker: known.leader?, epoch: known.leader_epoch, topic_id: topic.id })
    }

    /// The name of the topic with this id.
    #[must_use]
    pub fn topic_name(&self, id: TopicId) -> Option<Arc<str>> {
        self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| Arc::clone(name))
    }
}

impl TopicLayout {
    /// The partition of that number.
    #[must_use]
    pub fn partition(&self, partition: i32) -> Option<&PartitionLayout> {
        let at = self.partitions.binary_search_by_key(&partition, |known| known.partition).ok()?;
        self.partitions.get(at)
    }
}

#[cfg(test)]
mod tests {
    use wire::Text;
    use wire::api::metadata::{MetadataResponseBroker, MetadataResponsePartition};

    use super::*;

    fn answer(topic_id: u8, leader_id: i32, leader_epoch: i32) -> MetadataResponse {
        let brokers = [1, 2]
            .map(|node_id| MetadataResponseBroker { node_id, host: Text::from("h"), port: 9092, rack: None })
            .to_vec();
        let partition = MetadataResponsePartition {
            error_code: ErrorCode::NONE,
            partition_index: 0,
            leader_id,
            leader_epoch,
            replica_nodes: vec![1, 2],
            isr_nodes: vec![1],
            offline_replicas: Vec::new(),
        };
        let topic = MetadataResponseTopic {
            name: Some(Text::from("t")),
            topic_id: TopicId([topic_id; 16]),
            partitions: vec![partition],
            ..Default::default()
        };
        MetadataResponse { brokers, topics: vec![topic], controller_id: 1, ..Default::default() }
    }

    fn leader_after(layout: &Layout, response: &MetadataResponse) -> (Layout, Option<(i32, i32)>) {
        let after = layout.merged(response, Asked::Named(&["t".into()]));
        let leader =
            after.leader(&TopicPartition::new("t", 0)).map(|leader| (leader.broker.0, leader.epoch.0));
        (after, leader)
    }

    #[test]
    fn an_older_epoch_of_the_same_topic_is_not_believed() {
        let (layout, leader) = leader_after(&Layout::default(), &answer(7, 1, 5));
        assert_eq!(leader, Some((1, 5)));
        assert_eq!(leader_after(&layout, &answer(7, 2, 4)).1, Some((1, 5)));
        assert_eq!(leader_after(&layout, &answer(7, 2, 6)).1, Some((2, 6)));
        // Made again: epochs start anew.
        assert_eq!(leader_after(&layout, &answer(8, 2, 0)).1, Some((2, 0)));
        assert_eq!(leader_after(&layout, &answer(7, -1, 6)).1, None);
    }

    #[test]
    fn topics_that_are_gone_are_forgotten() {
        let (layout, _) = leader_after(&Layout::default(), &answer(7, 1, 5));
        let mut gone = answer(7, 1, 5);
        gone.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert!(leader_after(&layout, &gone).0.topics.is_empty());
        let nothing = MetadataResponse::default();
        assert!(layout.merged(&nothing, Asked::All).topics.is_empty());
        assert_eq!(layout.merged(&nothing, Asked::Named(&[])).topics.len(), 1);
    }

    #[test]
    fn a_denied_leader_is_not_trusted_until_the_next_answer() {
        let partition = TopicPartition::new("t", 0);
        let (mut layout, _) = leader_after(&Layout::default(), &answer(7, 1, 5));
        layout.mark_stale(&partition);
        assert_eq!(layout.trusted_leader(&partition), None);
        layout.learn(&partition, BrokerId(2), LeaderEpoch(5));
        assert_eq!(layout.trusted_leader(&partition), None);
        layout.learn(&partition, BrokerId(2), LeaderEpoch(6));
        assert_eq!(layout.trusted_leader(&partition).map(|leader| leader.broker), Some(BrokerId(2)));
        layout.mark_stale(&partition);
        let (layout, leader) = leader_after(&layout, &answer(7, 2, 6));
        assert_eq!((layout.trusted_leader(&partition).is_some(), leader), (true, Some((2, 6))));
    }
}
