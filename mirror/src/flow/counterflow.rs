//! The flows that come back: what the source's map topic says of copies from this flow's own target.
//!
//! Owns: finding the offset map of the other direction, reading on, and telling what is not there from what is not known.
//! Does not own: what it means for a position (`both_ways`), whose batches are left out (`provenance`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::Cluster;

use super::FlowError;
use super::map_log::MapReader;
use crate::both_ways::BothWays;
use crate::groups::{Place, Reason};
use crate::map_topic::{Ledger, PartitionKey, PartitionLedger, Scope};
use crate::offset_map::{OffsetMap, SourceOffset};

/// The maps from the target to the source.
#[derive(Debug)]
pub(crate) struct Counterflow {
    source: Cluster,
    target_id: Arc<str>,
    reader: MapReader,
    ledger: Ledger,
    /// Maps that were asked for, as of the last reading.
    made: Mutex<HashMap<PartitionKey, Arc<OffsetMap>>>,
}

/// What is known of the way back of a partition.
#[derive(Clone, Debug)]
pub(crate) enum Counter {
    /// Nothing comes back.
    None,
    /// It comes back by this map.
    Map(Arc<OffsetMap>),
    /// It comes back, and how is not known.
    Unknown,
}

impl Counterflow {
    /// Nothing is read yet.
    pub(crate) fn new(source: &Cluster, target_id: Arc<str>) -> Self {
        let scope = Scope::CopiesFrom { source_cluster: Arc::clone(&target_id) };
        let (reader, ledger) = (MapReader::new(source), Ledger::within(scope));
        Self { source: source.clone(), target_id, reader, ledger, made: Mutex::default() }
    }

    /// Reads what the source knows now.
    ///
    /// # Errors
    /// [`FlowError`]: the source does not answer, or no longer shows what it had.
    pub(crate) async fn read(&mut self) -> Result<(), FlowError> {
        if MapReader::exists(&self.source).await? {
            let before = self.reader.log_end();
            self.reader.read_to_end(&mut self.ledger).await?;
            if self.reader.log_end() != before {
                self.made().clear();
            }
            return Ok(());
        }
        // A topic may be missing from one answer; what it said would be missing from many positions.
        if self.ledger.has_partitions() { Err(FlowError::MapTopicMissing) } else { Ok(()) }
    }

    /// The way back of a partition that this flow copies under `own`; `is_expected` where something says that there is one.
    pub(crate) fn counter(&self, own: &PartitionKey, is_expected: bool) -> Counter {
        if let Some(made) = self.made().get(own) {
            return Counter::Map(Arc::clone(made));
        }
        let key = PartitionKey {
            source_cluster: Arc::clone(&self.target_id),
            source_topic: own.target_topic,
            target_topic: own.source_topic,
            partition: own.partition,
        };
        match self.ledger.partition(&key).and_then(PartitionLedger::offset_map) {
            Some(map) => {
                let map = Arc::new(map);
                self.made().insert(own.clone(), Arc::clone(&map));
                Counter::Map(map)
            }
            // What is left out may have come from another topic of the target.
            None if is_expected && !self.ledger.copies_into(own.source_topic, own.partition) => {
                Counter::Unknown
            }
            None => Counter::None,
        }
    }

    fn made(&self) -> MutexGuard<'_, HashMap<PartitionKey, Arc<OffsetMap>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a position by a flow's own map and what is known of the way back.
pub(crate) fn place(own: &OffsetMap, counter: &Counter, is_settled: bool, next: SourceOffset) -> Place {
    match counter {
        Counter::None => Place::one_way(own, next),
        Counter::Map(counter) => Place::both_ways(BothWays { own, counter, is_settled }, next),
        Counter::Unknown => Place::unknown(Reason::NeedsSource),
    }
}
