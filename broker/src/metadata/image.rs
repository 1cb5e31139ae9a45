//! What the metadata records add up to.
//!
//! Owns: topics by name and by id, deleted topics until they are handed over, the cluster's identity, the next producer id.
//! Does not own: whether a change is allowed (`changes`), open partitions (`topics`).

use std::collections::{BTreeMap, HashMap};

use wire::ids::TopicId;

use super::records::MetadataRecord;
use crate::topic_config::Overrides;

/// A topic in the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicEntry {
    /// Its id.
    pub(crate) topic_id: TopicId,
    /// Its name.
    pub(crate) name: String,
    /// How many partitions it has.
    pub(crate) partitions: i32,
    /// What was set explicitly.
    pub(crate) configs: Overrides,
    /// When it was made, milliseconds since 1970.
    pub(crate) created_ms: i64,
}

/// A topic that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeletedTopic {
    /// What it was.
    pub(crate) entry: Option<TopicEntry>,
    /// When it was deleted, milliseconds since 1970.
    pub(crate) deleted_ms: i64,
}

/// Who the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterIdentity {
    /// The cluster's id.
    pub(crate) cluster_id: TopicId,
    /// The name given by the user.
    pub(crate) name: String,
    /// This broker's id.
    pub(crate) broker_id: i32,
    /// How often the cluster was rebuilt from its store.
    pub(crate) recovery_generation: u32,
}

/// The metadata as of some record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MetadataImage {
    /// Who the cluster is; `None` before the first record.
    pub(crate) identity: Option<ClusterIdentity>,
    topics: BTreeMap<String, TopicEntry>,
    names: HashMap<TopicId, String>,
    /// Those of a whole log after a replay, else those since the last hand-over: a cluster may delete topics for ever.
    deleted: BTreeMap<TopicId, DeletedTopic>,
    /// Producer ids below are taken.
    pub(crate) next_producer_id: i64,
    /// Whether there is a store to tier to. The broker's start says so, no record; changes go by it.
    pub(crate) has_store: bool,
}

impl MetadataImage {
    /// Applies a record. What it names is there: `changes` checked it before it was written.
    pub(crate) fn apply(&mut self, record: &MetadataRecord) {
        match record.clone() {
            MetadataRecord::Cluster { cluster_id, name, broker_id, recovery_generation, .. } => {
                self.identity = Some(ClusterIdentity { cluster_id, name, broker_id, recovery_generation });
            }
            MetadataRecord::TopicCreated { topic_id, name, partitions, configs, created_ms } => {
                self.names.insert(topic_id, name.clone());
                self.topics
                    .insert(name.clone(), TopicEntry { topic_id, name, partitions, configs, created_ms });
            }
            MetadataRecord::PartitionsAdded { topic_id, partitions } => {
                if let Some(topic) = self.entry(topic_id) {
                    topic.partitions = partitions;
                }
            }
            MetadataRecord::TopicConfigs { topic_id, configs } => {
                if let Some(topic) = self.entry(topic_id) {
                    topic.configs = configs;
                }
            }
            MetadataRecord::TopicDeleted { topic_id, deleted_ms } => {
                let entry = self.names.remove(&topic_id).and_then(|name| self.topics.remove(&name));
                self.deleted.insert(topic_id, DeletedTopic { entry, deleted_ms });
            }
            MetadataRecord::ProducerIds { next } => self.next_producer_id = self.next_producer_id.max(next),
        }
    }

    fn entry(&mut self, topic_id: TopicId) -> Option<&mut TopicEntry> {
        self.topics.get_mut(self.names.get(&topic_id)?)
    }

    /// The topic of a name.
    pub(crate) fn topic(&self, name: &str) -> Option<&TopicEntry> {
        self.topics.get(name)
    }

    /// The topic of an id.
    pub(crate) fn topic_by_id(&self, topic_id: TopicId) -> Option<&TopicEntry> {
        self.topics.get(self.names.get(&topic_id)?)
    }

    /// All topics, by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &TopicEntry> {
        self.topics.values()
    }

    /// Topics that were deleted and not forgotten.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = (TopicId, &DeletedTopic)> {
        self.deleted.iter().map(|(id, topic)| (*id, topic))
    }

    /// Forgets deleted topics once everybody who has to know of them was told: the hot log's recovery, and the store's
    /// side, which remembers them until they are in the bucket. The records stay, so the next start tells them again.
    pub(crate) fn forget_deleted(&mut self) {
        self.deleted.clear();
    }

    /// All partitions of all topics.
    pub(crate) fn partition_count(&self) -> usize {
        self.topics.values().map(|topic| usize::try_from(topic.partitions).unwrap_or(0)).sum()
    }
}
