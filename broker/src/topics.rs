//! Topics as requests look them up: by name or by id, with resolved settings and open partitions.
//!
//! Owns: the table.
//! Does not own: what exists (`metadata::image`), opening and publishing it (`broker`), what settings mean
//! (`topic_config`).
//!
//! A table is never changed: a new one takes its place, so a request sees one state from start to end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use wire::ids::TopicId;

use crate::groups::OFFSETS_TOPIC;
use crate::partition::Partition;
use crate::topic_config::{Overrides, TopicConfig};

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Its id.
    pub(crate) id: TopicId,
    /// Its name.
    pub(crate) name: Arc<str>,
    /// What was set explicitly.
    pub(crate) overrides: Overrides,
    /// What is in force.
    pub(crate) config: TopicConfig,
    /// Its partitions, by number.
    pub(crate) partitions: Vec<Arc<Partition>>,
}

impl Topic {
    /// The partition of a number.
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// Whether only the broker itself writes to it.
    pub(crate) fn is_internal(&self) -> bool {
        &*self.name == OFFSETS_TOPIC
    }
}

/// All topics at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
}

impl Topics {
    /// The topic of a name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of an id.
    pub(crate) fn with_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// All topics, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// The same with a topic put in or replaced.
    pub(crate) fn with(&self, topic: Topic) -> Self {
        let mut topics = self.clone();
        let topic = Arc::new(topic);
        topics.by_id.insert(topic.id, Arc::clone(&topic));
        topics.by_name.insert(Arc::clone(&topic.name), topic);
        topics
    }

    /// The same without a topic.
    pub(crate) fn without(&self, id: TopicId) -> Self {
        let mut topics = self.clone();
        if let Some(topic) = topics.by_id.remove(&id) {
            topics.by_name.remove(&topic.name);
        }
        topics
    }
}
