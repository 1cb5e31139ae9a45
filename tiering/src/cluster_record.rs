//! What the bucket knows of a cluster besides its logs: topics, producer ids, group offsets.
//!
//! Owns: the plain records. Does not own: their commit (see `manifest::cluster`), nor their truth: the broker's own
//! metadata log has that; these are copies, as old as their age says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wire::ids::TopicId;

/// Who a data folder belongs to, as its own metadata says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterIdentity {
    /// The cluster's id: 1 to 64 of `A-Z a-z 0-9 - _`.
    pub cluster_id: String,
    /// The cluster's name, for people.
    pub cluster_name: String,
    /// How often the cluster was recovered from its bucket before this data folder was made: 0 for a first one, else
    /// what [`crate::recover::RecoveredCluster::recovery_generation`] said. It tells an old folder that it was replaced.
    pub recovery_generation: u32,
    /// Whether the data folder was made just now. Such a one never takes over a prefix that is in use.
    pub fresh: bool,
}

/// A topic as the bucket knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its id.
    #[serde(with = "topic_id_text")]
    pub topic_id: TopicId,
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Configs set on the topic, by Kafka's names.
    pub configs: BTreeMap<String, String>,
    /// When it was deleted, milliseconds; its objects go after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at_ms: Option<i64>,
}

/// The committed offsets of all groups at one time.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupSnapshot {
    /// When it was taken, milliseconds.
    pub taken_at_ms: i64,
    /// Per group, what it had committed.
    pub groups: BTreeMap<String, Vec<GroupOffset>>,
}

impl GroupSnapshot {
    /// The highest offset that any group had committed for a partition.
    pub fn highest(&self, topic_id: TopicId, partition: i32) -> Option<i64> {
        let offsets = self.groups.values().flatten();
        let own = offsets.filter(|offset| offset.topic_id == topic_id && offset.partition == partition);
        own.map(|offset| offset.offset).max()
    }
}

/// One committed offset.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupOffset {
    /// The topic.
    #[serde(with = "topic_id_text")]
    pub topic_id: TopicId,
    /// The partition.
    pub partition: i32,
    /// Next offset to read.
    pub offset: i64,
    /// Leader epoch of the commit, -1 without.
    pub leader_epoch: i32,
    /// The commit's metadata text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
}

mod topic_id_text {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use wire::ids::TopicId;

    pub(super) fn serialize<S: Serializer>(id: &TopicId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TopicId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom("not a topic id"))
    }
}
