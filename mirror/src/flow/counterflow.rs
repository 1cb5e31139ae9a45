//! The flows that come back: what the source's map topic says of copies from this flow's own target.
//!
//! Owns: finding the offset map of the other direction, and reading on. Does not own: what it means for a position
//! (`both_ways`), whose batches are left out (`provenance`).

use std::sync::Arc;

use client::Cluster;

use super::FlowError;
use super::map_log::MapReader;
use crate::map_topic::{Ledger, PartitionKey, Scope};
use crate::offset_map::OffsetMap;

/// The maps from the target to the source.
#[derive(Debug)]
pub(crate) struct Counterflow {
    source: Cluster,
    target_id: Arc<str>,
    reader: MapReader,
    ledger: Ledger,
}

impl Counterflow {
    /// Nothing is read yet.
    pub(crate) fn new(source: &Cluster, target_id: Arc<str>) -> Self {
        let scope = Scope::CopiesFrom { source_cluster: Arc::clone(&target_id) };
        Self {
            source: source.clone(),
            target_id,
            reader: MapReader::new(source),
            ledger: Ledger::within(scope),
        }
    }

    /// Reads what the source knows now.
    ///
    /// # Errors
    /// [`FlowError`]: the source does not answer.
    pub(crate) async fn read(&mut self) -> Result<(), FlowError> {
        if MapReader::exists(&self.source).await? {
            return self.reader.read_to_end(&mut self.ledger).await;
        }
        self.reader = MapReader::new(&self.source);
        self.ledger.begin_again();
        Ok(())
    }

    /// The map from the target to the source of a partition that this flow copies under `own`; `None` where nothing
    /// comes back.
    pub(crate) fn map(&self, own: &PartitionKey) -> Option<OffsetMap> {
        let counter = PartitionKey {
            source_cluster: Arc::clone(&self.target_id),
            source_topic: own.target_topic,
            target_topic: own.source_topic,
            partition: own.partition,
        };
        self.ledger.partition(&counter)?.offset_map()
    }
}
