//! Which producer ids of the source belong to flows that come from this flow's own target.
//!
//! Owns: reading the source's map topic as far as a decision needs it.
//! Does not own: leaving the batches out (`copier::plan`).
//!
//! A producer id is registered, and the record acknowledged, before its first batch; so once a batch is in hand, a
//! look at the register that starts afterwards tells whose it is, for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::Cluster;
use wire::ProducerId;

use super::FlowError;
use super::map_log::MapReader;
use crate::map_topic::{Ledger, Scope};

/// Producer ids whose answer is remembered.
const REMEMBERED: usize = 100_000;

struct Register {
    reader: MapReader,
    ledger: Ledger,
    known: BTreeMap<ProducerId, bool>,
}

/// The register of the source cluster; clones share it.
#[derive(Clone)]
pub(crate) struct Provenance {
    source: Cluster,
    target_id: Arc<str>,
    register: Arc<tokio::sync::Mutex<Register>>,
}

impl Provenance {
    pub(crate) fn new(source: &Cluster, target_id: Arc<str>) -> Self {
        let (reader, ledger) = (MapReader::new(source), Ledger::within(Scope::Producers));
        let register = Register { reader, ledger, known: BTreeMap::new() };
        Self { source: source.clone(), target_id, register: Arc::new(tokio::sync::Mutex::new(register)) }
    }

    /// Which of these producers write what came from the target.
    pub(crate) async fn producers_from_target(
        &self,
        producers: &BTreeSet<ProducerId>,
    ) -> Result<BTreeSet<ProducerId>, FlowError> {
        let mut register = self.register.lock().await;
        if producers.iter().any(|producer| !register.known.contains_key(producer)) {
            if MapReader::exists(&self.source).await? {
                let Register { reader, ledger, .. } = &mut *register;
                reader.read_to_end(ledger).await?;
            }
            if register.known.len() > REMEMBERED {
                register.known.clear();
            }
            for producer in producers {
                let registered = register.ledger.producer(*producer);
                let from_target = registered.is_some_and(|by| *by.source_cluster == *self.target_id);
                register.known.insert(*producer, from_target);
            }
        }
        let ours = producers.iter().filter(|producer| register.known.get(producer) == Some(&true));
        Ok(ours.copied().collect())
    }
}
