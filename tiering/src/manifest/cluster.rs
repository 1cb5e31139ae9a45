//! The state of the cluster manifest and its edits: what a recovery needs besides the logs.
//!
//! Owns: what each edit means. Does not own: the records' plain data (`cluster_record`), commits (`register`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wire::ids::TopicId;

use super::groups::NotedGroups;
use super::invariants::Violation;
use crate::cluster_record::TopicRecord;

/// The state of the cluster manifest.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterManifest {
    /// The cluster's name.
    pub cluster_name: String,
    /// How often the cluster was recovered from this bucket.
    pub recovery_generation: u32,
    /// The writer that may commit; rises with every start of a broker and every recovery.
    pub writer_epoch: u64,
    /// Topics by id, deleted ones until their objects are gone.
    pub topics: BTreeMap<String, TopicRecord>,
    /// No producer id at or above this one was handed out when this was written.
    pub next_producer_id: i64,
    /// When `next_producer_id` was written, milliseconds.
    pub producer_ids_at_ms: i64,
    /// The newest snapshot of group offsets.
    pub groups: Option<NotedGroups>,
}

/// One change of the cluster manifest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ClusterEdit {
    /// A broker starts, or a recovery takes over.
    Claim {
        /// The new writer.
        writer_epoch: u64,
        /// The recovery generation of its data folder.
        recovery_generation: u32,
        /// The cluster's name.
        cluster_name: String,
    },
    /// A topic as it is now.
    PutTopic(TopicRecord),
    /// A deleted topic has no object left.
    DropTopic {
        /// Its id, as text.
        topic_id: String,
    },
    /// Producer ids below this one may have been handed out.
    ProducerIds {
        /// The next one.
        next: i64,
        /// When, milliseconds.
        at_ms: i64,
    },
    /// What groups have committed.
    Groups(NotedGroups),
}

impl ClusterManifest {
    /// The record of a topic.
    pub fn topic(&self, topic_id: TopicId) -> Option<&TopicRecord> {
        self.topics.get(&topic_id.to_string())
    }

    /// Makes one edit.
    ///
    /// # Errors
    /// The edit is not allowed in this state; the state is then undefined and must be dropped.
    pub fn apply(&mut self, edit: &ClusterEdit) -> Result<(), Violation> {
        let refuse = |detail: String| Err(Violation { name: "edit-fits-state", detail });
        match edit {
            ClusterEdit::Claim { writer_epoch, recovery_generation, cluster_name } => {
                if *writer_epoch <= self.writer_epoch || *recovery_generation < self.recovery_generation {
                    return refuse(format!("writer {writer_epoch} does not follow {}", self.writer_epoch));
                }
                self.writer_epoch = *writer_epoch;
                self.recovery_generation = *recovery_generation;
                self.cluster_name.clone_from(cluster_name);
            }
            ClusterEdit::PutTopic(topic) => {
                if let Some(before) = self.topics.get(&topic.topic_id.to_string()) {
                    if topic.partitions < before.partitions {
                        return refuse(format!("topic {} loses partitions", topic.name));
                    }
                    if before.deleted_at_ms.is_some() && topic.deleted_at_ms.is_none() {
                        return refuse(format!("topic {} was deleted", topic.name));
                    }
                }
                self.topics.insert(topic.topic_id.to_string(), topic.clone());
            }
            ClusterEdit::DropTopic { topic_id } => {
                if self.topics.get(topic_id).is_some_and(|topic| topic.deleted_at_ms.is_none()) {
                    return refuse(format!("topic {topic_id} is not deleted"));
                }
                self.topics.remove(topic_id);
            }
            ClusterEdit::ProducerIds { next, at_ms } => {
                self.next_producer_id = self.next_producer_id.max(*next);
                self.producer_ids_at_ms = *at_ms;
            }
            ClusterEdit::Groups(snapshot) => self.groups = Some(snapshot.clone()),
        }
        Ok(())
    }

    /// Checks all named invariants.
    ///
    /// # Errors
    /// The first one that fails.
    pub fn check(&self) -> Result<(), Violation> {
        let mut names = std::collections::HashSet::new();
        for (id, topic) in &self.topics {
            let broken =
                |name: &'static str| Err(Violation { name, detail: format!("topic {:?}", topic.name) });
            if *id != topic.topic_id.to_string() {
                return broken("topics-are-keyed-by-id");
            }
            if topic.partitions < 1 {
                return broken("topics-have-partitions");
            }
            if topic.deleted_at_ms.is_none() && !names.insert(&topic.name) {
                return broken("live-topic-names-are-unique");
            }
        }
        Ok(())
    }
}
