//! Where the positions of groups at the source are at the target, while a session copies.
//!
//! Owns: the partitions that a session copies, for whoever asks from outside; that a position is of the topic that was
//! copied. Does not own: the translation (`offset_map`, `both_ways`), what is done with it (`groups`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::{Cluster, TopicPartition};
use wire::TopicId;

use super::FlowError;
use super::counterflow::{self, Counterflow, Own};
use super::partition::{Shared, SharedCopier};
use crate::groups::{Place, Reason};
use crate::map_topic::PartitionKey;
use crate::offset_map::SourceOffset;
use crate::spec::FlowSpec;

/// A partition that a session copies.
#[derive(Clone)]
pub(crate) struct Copy {
    pub(crate) key: PartitionKey,
    pub(crate) shared: SharedCopier,
    /// Whether owners before left out what came from the target.
    pub(crate) had_left_out: bool,
}

/// The partitions that a session copies.
pub(crate) type Copied = Arc<Mutex<HashMap<TopicPartition, Copy>>>;

/// What is asked in a pass over the groups.
pub(crate) struct Places {
    spec: FlowSpec,
    source: Cluster,
    copied: Copied,
    counterflow: Counterflow,
    /// Which topics the source had under these names, at the last look.
    topic_ids: HashMap<Arc<str>, TopicId>,
}

impl Places {
    pub(crate) fn new(spec: &FlowSpec, source: &Cluster, copied: Copied, target_id: Arc<str>) -> Self {
        let counterflow = Counterflow::new(spec, source, target_id);
        Self { spec: spec.clone(), source: source.clone(), copied, counterflow, topic_ids: HashMap::new() }
    }

    /// Looks which topics these are. To be called after the positions in them were read: those of a topic that had its
    /// name before are then not taken for positions in the one that was copied, nor the other way round.
    pub(crate) async fn look(&mut self, topics: &[Arc<str>]) -> Result<(), FlowError> {
        if topics.is_empty() {
            return Ok(());
        }
        self.topic_ids = topic_ids(&self.source, topics).await?;
        self.counterflow.read().await
    }

    /// The place of a position of a partition, by its name at the source.
    pub(crate) fn of(&self, partition: &TopicPartition, next: SourceOffset) -> Place {
        let copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner).get(partition).cloned();
        let comes_back = self.spec.comes_back(&partition.topic);
        let Some(Copy { key, shared, had_left_out }) = copied else {
            // Not come to yet in this session: that is no word on whether its own map would do.
            return if comes_back { Place::unknown(Reason::NotCopied) } else { Place::not_yet() };
        };
        if self.topic_ids.get(&partition.topic) != Some(&key.source_topic) {
            return Place::unknown(Reason::NotTheLog);
        }
        // Not while the copier is held: a large map takes its time.
        self.counterflow.prepare(&key);
        let shared = &*shared.lock().unwrap_or_else(PoisonError::into_inner);
        match shared {
            Shared::Copied(copier) => {
                let counter = self.counterflow.counter(&partition.topic, &key, copier.has_left_out());
                let own = Own {
                    map: copier.map(),
                    is_settled: copier.is_map_complete(),
                    target_log_start: copier.target_log_start(),
                };
                counterflow::place(&own, &counter, next)
            }
            Shared::Recovering if comes_back || had_left_out => Place::unknown(Reason::NotCopied),
            Shared::Recovering => Place::not_yet(),
            Shared::Spoilt => Place::unknown(Reason::NotTheLog),
        }
    }
}

/// Which topics a cluster has under these names.
pub(crate) async fn topic_ids(
    cluster: &Cluster,
    topics: &[Arc<str>],
) -> Result<HashMap<Arc<str>, TopicId>, FlowError> {
    let layout = cluster.refresh(topics).await?;
    let id = |name: &Arc<str>| Some((Arc::clone(name), layout.topics.get(name)?.id));
    Ok(topics.iter().filter_map(id).collect())
}
