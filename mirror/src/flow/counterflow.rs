//! The flows that come back: what the source's map topic says of copies from this flow's own target.
//!
//! Owns: finding the offset map of the other direction, reading on, and telling what is not there from what is not known.
//! Does not own: what it means for a position (`both_ways`), whose batches are left out (`provenance`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::Cluster;

use super::FlowError;
use super::map_log::MapReader;
use crate::both_ways::{BothWays, nothing_came_back};
use crate::groups::{Place, Reason};
use crate::map_topic::{Ledger, PartitionKey, Progress, Scope};
use crate::offset_map::{OffsetMap, SourceOffset, TargetOffset};
use crate::spec::FlowSpec;

/// The maps from the target to the source.
#[derive(Debug)]
pub(crate) struct Counterflow {
    spec: FlowSpec,
    source: Cluster,
    target_id: Arc<str>,
    reader: MapReader,
    ledger: Ledger,
    /// Maps that were asked for, by the keys of the flow back.
    made: Mutex<HashMap<PartitionKey, Made>>,
}

/// A map that was put together. Whatever changes it comes with another progress.
#[derive(Debug)]
struct Made {
    generation: u64,
    progress: Progress,
    map: Arc<OffsetMap>,
}

/// What is known of the way back of a partition.
#[derive(Clone, Debug)]
pub(crate) enum Counter {
    /// Nothing comes back.
    None,
    /// The file declares a flow back, which has brought nothing of it yet.
    Nothing,
    /// It comes back by this map, from the target to the source.
    Map(Arc<OffsetMap>),
    /// It comes back, and how is not known without the source.
    Unknown,
}

impl Counterflow {
    /// Nothing is read yet.
    pub(crate) fn new(spec: &FlowSpec, source: &Cluster, target_id: Arc<str>) -> Self {
        let scope = Scope::CopiesFrom { source_cluster: Arc::clone(&target_id) };
        let (reader, ledger) = (MapReader::new(source), Ledger::within(scope));
        let (spec, source) = (spec.clone(), source.clone());
        Self { spec, source, target_id, reader, ledger, made: Mutex::default() }
    }

    /// Reads what the source knows now.
    ///
    /// # Errors
    /// [`FlowError`]: the source does not answer, or no longer shows what it had.
    pub(crate) async fn read(&mut self) -> Result<(), FlowError> {
        if MapReader::exists(&self.source).await? {
            return self.reader.read_to_end(&mut self.ledger).await;
        }
        // A topic may be missing from one answer; what it said would be missing from many positions.
        if self.ledger.has_partitions() { Err(FlowError::MapTopicMissing) } else { Ok(()) }
    }

    /// Puts the map of a partition's way back together, if there is one. What that takes need not be done where others
    /// wait: [`Self::counter`] has it at hand then.
    pub(crate) fn prepare(&self, own: &PartitionKey) {
        drop(self.map(&self.key_back(own)));
    }

    /// The way back of a partition of a topic, by its name at the source, that this flow copies under `own`; `left_out`
    /// where batches were left out because they came from the target.
    pub(crate) fn counter(&self, topic: &str, own: &PartitionKey, left_out: bool) -> Counter {
        match self.map(&self.key_back(own)) {
            Some(map) => Counter::Map(map),
            // What is left out may have come from another topic of the target.
            None if left_out && !self.ledger.copies_into(own.source_topic, own.partition) => Counter::Unknown,
            None if self.spec.comes_back(topic) => Counter::Nothing,
            None => Counter::None,
        }
    }

    /// The key under which the flow back copies what this flow copies under `own`.
    fn key_back(&self, own: &PartitionKey) -> PartitionKey {
        PartitionKey {
            source_cluster: Arc::clone(&self.target_id),
            source_topic: own.target_topic,
            target_topic: own.source_topic,
            partition: own.partition,
        }
    }

    fn map(&self, key: &PartitionKey) -> Option<Arc<OffsetMap>> {
        let known = self.ledger.partition(key)?;
        let (generation, progress) = known.progress()?;
        let is_now = |made: &&Made| made.generation == generation && made.progress == *progress;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.get(key).filter(is_now) {
            return Some(Arc::clone(&made.map));
        }
        let map = Arc::new(known.offset_map()?);
        let progress = progress.clone();
        made.insert(key.clone(), Made { generation, progress, map: Arc::clone(&map) });
        Some(map)
    }
}

/// What is known of a partition at the flow's own target.
pub(crate) struct Own<'a> {
    pub(crate) map: &'a OffsetMap,
    /// Whether the map holds all that was sent.
    pub(crate) is_settled: bool,
    /// Where the log begins; `None` where it was not asked.
    pub(crate) target_log_start: Option<TargetOffset>,
}

/// The place of a position by a flow's own map and what is known of the way back.
pub(crate) fn place(own: &Own<'_>, counter: &Counter, next: SourceOffset) -> Place {
    let Own { map: own, is_settled, target_log_start } = *own;
    match counter {
        Counter::None => Place::one_way(own, next),
        Counter::Nothing => match target_log_start {
            Some(target_log_start) => {
                let counter = &nothing_came_back(target_log_start);
                Place::both_ways(BothWays { own, counter, is_settled }, next)
            }
            None => Place::unknown(Reason::NotCopied),
        },
        Counter::Map(counter) => Place::both_ways(BothWays { own, counter, is_settled }, next),
        Counter::Unknown => Place::unknown(Reason::NeedsSource),
    }
}
