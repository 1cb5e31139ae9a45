//! What the records of the map topic come to, read from first to last.

use std::collections::{BTreeMap, HashMap, HashSet};

use wire::ids::{ProducerId, TopicId};

use super::value::{self, ValueError};
use super::{
    Binding, Claim, GroupSync, Key, MapRecord, PartitionKey, Progress, Promotion, RegisteredProducer, Scope,
    SyncPass,
};
use crate::events::Event;
use crate::offset_map::{Block, OffsetMap, SourceOffset};

/// Everything known of one partition.
#[derive(Clone, Debug, Default)]
pub struct PartitionLedger {
    blocks: BTreeMap<(u64, i64), Block>,
    progress: BTreeMap<u64, Progress>,
}

impl PartitionLedger {
    /// The progress of the newest generation.
    #[must_use]
    pub fn progress(&self) -> Option<(u64, &Progress)> {
        self.progress.last_key_value().map(|(generation, progress)| (*generation, progress))
    }

    /// The offset map, `None` before the first progress. Blocks below its start were forgotten, or were written by an
    /// owner that was replaced, after its successor had forgotten that part.
    #[must_use]
    pub fn offset_map(&self) -> Option<OffsetMap> {
        let (_, progress) = self.progress()?;
        let is_held = |block: &&Block| progress.map_start.is_none_or(|start| block.start().source.0 >= start);
        let held = self.blocks.values().filter(is_held).cloned();
        let map = OffsetMap::from_blocks(held.collect(), progress.position());
        map.map(|map| map.forgot_before(progress.shed))
    }

    /// Tombstones of all that a new owner's first commit takes the place of: the progress of owners before, and blocks
    /// that are not in `map`, which was made of this ledger: forgotten, replaced by an own block, or written too late.
    #[must_use]
    pub fn superseded(&self, partition: &PartitionKey, map: &OffsetMap) -> Vec<MapRecord> {
        let place = |block: &Block| (block.provenance().generation, block.start().source.0);
        let held: HashSet<(u64, i64)> = map.blocks().map(place).collect();
        let progress = self.progress.keys();
        let progress = progress.map(|&generation| Key::Progress { partition: partition.clone(), generation });
        let blocks = self.blocks.keys().filter(|place| !held.contains(*place));
        let blocks = blocks.map(|&(generation, start)| {
            let start = SourceOffset(start);
            Key::Block { partition: partition.clone(), generation, start }
        });
        progress.chain(blocks).map(|key| MapRecord::forget(&key)).collect()
    }
}

/// The fold of the map topic, as far as its scope reaches.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    scope: Scope,
    /// Of all flows, whatever the scope.
    newest_generation: u64,
    partitions: HashMap<PartitionKey, PartitionLedger>,
    claims: BTreeMap<(String, u64), Vec<(u64, Claim)>>,
    bindings: BTreeMap<(String, String), Binding>,
    producers: HashMap<ProducerId, RegisteredProducer>,
    promotions: BTreeMap<String, Promotion>,
    groups: BTreeMap<(String, String), GroupSync>,
    passes: BTreeMap<String, SyncPass>,
    events: BTreeMap<(String, String, i32), Event>,
}

impl Ledger {
    /// A ledger that keeps no more than its scope.
    #[must_use]
    pub fn within(scope: Scope) -> Self {
        Self { scope, ..Self::default() }
    }

    /// Forgets all that was read: the log turned out to be another one.
    pub fn begin_again(&mut self) {
        *self = Self::within(std::mem::take(&mut self.scope));
    }

    /// Takes in the next record of the topic.
    ///
    /// # Errors
    /// A value that its key does not promise; the record is passed over, and no more is known than that an owner of its
    /// generation was there.
    pub fn apply(&mut self, key: Key, value: Option<&[u8]>) -> Result<(), ValueError> {
        self.newest_generation = self.newest_generation.max(key.generation().unwrap_or(0));
        if !self.scope.keeps(&key) {
            return Ok(());
        }
        match (key, value) {
            (Key::Block { partition, generation, start }, Some(bytes)) => {
                let block = Block::decode(bytes)?;
                if block.start().source != start || block.provenance().generation != generation {
                    return Err(ValueError::Contradiction("a block under another block's key"));
                }
                self.partitions.entry(partition).or_default().blocks.insert((generation, start.0), block);
            }
            (Key::Block { partition, generation, start }, None) => {
                if let Some(known) = self.partitions.get_mut(&partition) {
                    known.blocks.remove(&(generation, start.0));
                }
            }
            (Key::Progress { partition, generation }, Some(bytes)) => {
                let mut progress = Progress::decode(bytes)?;
                if !self.scope.keeps_intents() {
                    progress.intents = Vec::new();
                }
                self.partitions.entry(partition).or_default().progress.insert(generation, progress);
            }
            (Key::Progress { partition, generation }, None) => {
                if let Some(known) = self.partitions.get_mut(&partition) {
                    known.progress.remove(&generation);
                }
            }
            (Key::Claim { flow, generation, nonce }, value) => {
                self.apply_claim((flow, generation), nonce, value)?;
            }
            (Key::Binding { flow, topic }, value) => put(&mut self.bindings, (flow, topic), value)?,
            (Key::Producer(id), Some(bytes)) => {
                self.producers.insert(id, value::decode(bytes)?);
            }
            (Key::Producer(id), None) => {
                self.producers.remove(&id);
            }
            (Key::Promotion { flow }, value) => put(&mut self.promotions, flow, value)?,
            (Key::Group { flow, group }, value) => put(&mut self.groups, (flow, group), value)?,
            (Key::SyncPass { flow }, value) => put(&mut self.passes, flow, value)?,
            (Key::Event { flow, topic, partition }, value) => {
                put(&mut self.events, (flow, topic, partition), value)?;
            }
        }
        Ok(())
    }

    fn apply_claim(&mut self, at: (String, u64), nonce: u64, value: Option<&[u8]>) -> Result<(), ValueError> {
        if let Some(bytes) = value {
            let claim = value::decode(bytes)?;
            let claims = self.claims.entry(at).or_default();
            // The place in the log decides who came first; saying it again does not move a claim.
            if !claims.iter().any(|(known, _)| *known == nonce) {
                claims.push((nonce, claim));
            }
        } else if let Some(claims) = self.claims.get_mut(&at) {
            claims.retain(|(known, _)| *known != nonce);
            if claims.is_empty() {
                self.claims.remove(&at);
            }
        }
        Ok(())
    }

    /// Forgets the partitions of topics that only other flows copy: those whose two topics a binding ties together, and
    /// none of a topic that `copies` names. Before Kafka 2.8 topics have no ids, so it takes both.
    pub fn leave_to_others(&mut self, copies: impl Fn(&str) -> bool) {
        let (mut own, mut others) = (HashSet::new(), HashSet::new());
        for ((_, topic), binding) in &self.bindings {
            let ids = (binding.source_topic.parse::<TopicId>(), binding.target_topic.parse::<TopicId>());
            if let (Ok(source_topic), Ok(target_topic)) = ids {
                let of = if copies(topic) { &mut own } else { &mut others };
                of.insert((source_topic, target_topic));
            }
        }
        let is_left = |key: &PartitionKey| {
            let ids = (key.source_topic, key.target_topic);
            others.contains(&ids) && !own.contains(&ids)
        };
        self.partitions.retain(|key, _| !is_left(key));
    }

    /// Whether anything is known of any partition.
    #[must_use]
    pub fn has_partitions(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Whether anything is known of a copy into this partition.
    #[must_use]
    pub fn copies_into(&self, target_topic: TopicId, partition: i32) -> bool {
        self.partitions.keys().any(|key| key.target_topic == target_topic && key.partition == partition)
    }

    /// A partition's facts.
    #[must_use]
    pub fn partition(&self, key: &PartitionKey) -> Option<&PartitionLedger> {
        self.partitions.get(key)
    }

    /// A partition's facts, taken out: the copier keeps them from here on.
    pub fn take_partition(&mut self, key: &PartitionKey) -> PartitionLedger {
        self.partitions.remove(key).unwrap_or_default()
    }

    /// The claim that holds a flow: of the newest generation, the first in the log.
    #[must_use]
    pub fn holder(&self, flow: &str) -> Option<(u64, u64, &Claim)> {
        self.claims_of(flow)
            .filter_map(|(generation, claims)| {
                claims.first().map(|(nonce, claim)| (generation, *nonce, claim))
            })
            .max_by_key(|(generation, ..)| *generation)
    }

    /// All claims on a flow, as generation and nonce.
    pub fn claims<'a>(&'a self, flow: &str) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        self.claims_of(flow)
            .flat_map(move |(generation, claims)| claims.iter().map(move |(nonce, _)| (generation, *nonce)))
    }

    fn claims_of<'a>(&'a self, flow: &str) -> impl Iterator<Item = (u64, &'a Vec<(u64, Claim)>)> + use<'a> {
        let of_flow = (flow.to_owned(), 0)..=(flow.to_owned(), u64::MAX);
        self.claims.range(of_flow).map(|((_, generation), claims)| (*generation, claims))
    }

    /// The newest generation that any owner of any flow has used.
    #[must_use]
    pub fn newest_generation(&self) -> u64 {
        self.newest_generation
    }

    /// The topics that a flow tied together, by name at the source.
    #[must_use]
    pub fn binding(&self, flow: &str, topic: &str) -> Option<&Binding> {
        self.bindings.get(&(flow.to_owned(), topic.to_owned()))
    }

    /// Takes in a binding that this process has just written.
    pub fn bind(&mut self, flow: &str, topic: &str, binding: Binding) {
        self.bindings.insert((flow.to_owned(), topic.to_owned()), binding);
    }

    /// All bindings of a flow: name at the source, and what it is tied to.
    pub fn bindings<'a>(&'a self, flow: &'a str) -> impl Iterator<Item = (&'a str, &'a Binding)> {
        let of_flow = self.bindings.iter().filter(move |((bound, _), _)| bound == flow);
        of_flow.map(|((_, topic), binding)| (topic.as_str(), binding))
    }

    /// The flow that writes with a producer id, if one does.
    #[must_use]
    pub fn producer(&self, id: ProducerId) -> Option<&RegisteredProducer> {
        self.producers.get(&id)
    }

    /// All registered producer ids.
    pub fn producers(&self) -> impl Iterator<Item = (ProducerId, &RegisteredProducer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// Whether, and when, a flow was promoted.
    #[must_use]
    pub fn promotion(&self, flow: &str) -> Option<&Promotion> {
        self.promotions.get(flow)
    }

    /// The synced groups of a flow.
    pub fn groups<'a>(&'a self, flow: &'a str) -> impl Iterator<Item = (&'a str, &'a GroupSync)> {
        let of_flow = self.groups.iter().filter(move |((synced, _), _)| synced == flow);
        of_flow.map(|((_, group), sync)| (group.as_str(), sync))
    }

    /// The last complete pass over a flow's groups.
    #[must_use]
    pub fn sync_pass(&self, flow: &str) -> Option<&SyncPass> {
        self.passes.get(flow)
    }

    /// The events that a flow still stands at.
    pub fn events<'a>(&'a self, flow: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |((paused, ..), _)| paused == flow).map(|(_, event)| event)
    }
}

fn put<K: Ord, V: serde::de::DeserializeOwned>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: Option<&[u8]>,
) -> Result<(), ValueError> {
    match value {
        Some(bytes) => map.insert(key, value::decode(bytes)?),
        None => map.remove(&key),
    };
    Ok(())
}
