//! `longhaul mirror failover`: the flow ends for good, and its groups go on at the target.
//!
//! Owns: taking the flow over from whoever owns it, settling what was in the air, the durable mark, the report.
//! Does not own: where groups go on (`failover::groups`) and how far they may have read (`failover::target_ends`); the
//! source, which may be dead: nothing depends on its answer.

mod groups;
mod target_ends;

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Cluster, TopicPartition};
use serde::Serialize;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::copier::Producer;
use crate::events::Event;
use crate::flow::map_log::{self, MapReader, MapWriter, Ownership};
use crate::flow::tail::{TailError, Target};
use crate::flow::{FlowError, connect, owner};
use crate::groups::{NotSynced, ReadAgain};
use crate::map_topic::{
    Key, Ledger, MapRecord, PartitionKey, PartitionLedger, Progress, Promotion, SyncPass,
};
use crate::offset_map::Provenance;
use crate::ownership::{CHOSEN, Role};
use crate::recovery::{Expected, Left};
use crate::spec::FlowSpec;
use crate::status::{FlowStatus, from_ledger, not_synced};
use crate::translate::key_of;

/// How long the owner may take to drain and hand over; a dead one is given up after its session.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(60);
const TAIL_ATTEMPTS: usize = 40;
const ASK_AGAIN_IN: Duration = Duration::from_millis(500);

/// What a failover came to.
#[derive(Clone, Debug, Serialize)]
pub struct Failover {
    /// The flow.
    pub flow: String,
    /// The mark that keeps it stopped.
    pub promotion: Promotion,
    /// What each group may read again: nothing it has read lies beyond.
    pub groups: Vec<ReadAgain>,
    /// Where these groups have no position to go on from.
    pub not_synced: Vec<NotSynced>,
    /// When the positions of groups were last compared, and so how old they may be.
    pub sync_pass: Option<SyncPass>,
    /// Partitions whose tail could not be settled: their groups are where they were synced, the copy may hold more.
    pub unsettled: Vec<Event>,
}

/// Promotes a flow: the owner drains and hands over, the tail is settled, and the flow stays stopped at every later
/// start until [`redeclare`]. Doing it again reports the same.
///
/// # Errors
/// [`FlowError`]: the target does not answer, the flow never ran, or its owner does not hand over.
pub async fn failover(spec: &FlowSpec) -> Result<Failover, FlowError> {
    let target = connect(&spec.to).await?;
    let (mut reader, mut ledger) = read(&target, spec).await?;
    if let Some(promotion) = ledger.promotion(&spec.name).cloned() {
        return Ok(report(&ledger, spec, promotion));
    }
    let mut member = owner::member(&target, spec, Role::Promoting);
    let hand_over = async {
        loop {
            let assignment = member.join(&owner::assign).await?;
            if *assignment.data == *CHOSEN {
                return Ok::<_, FlowError>(());
            }
            // Another promotes at the same time: it will be done when the group gathers again.
            member.hold().await;
        }
    };
    let seconds = HAND_OVER_WITHIN.as_secs();
    timeout(HAND_OVER_WITHIN, hand_over).await.map_err(|_| FlowError::NoHandOver(seconds))??;
    let promoted = {
        let work = promote(&target, spec, &mut reader, &mut ledger);
        tokio::select! {
            promoted = work => promoted,
            ended = member.hold() => Err(FlowError::Replaced(format!("{ended:?}"))),
        }
    };
    if let Err(error) = member.leave().await {
        tracing::debug!(%error, "the group notices later that this member left");
    }
    promoted
}

/// Lifts the mark of a promotion, so that the flow copies again from where it stood.
///
/// # Errors
/// [`FlowError`]: the target does not answer, or the flow never ran.
pub async fn redeclare(spec: &FlowSpec) -> Result<(), FlowError> {
    let target = connect(&spec.to).await?;
    let (mut reader, mut ledger) = read(&target, spec).await?;
    let owner = map_log::claim(&target, &spec.name, &mut reader, &mut ledger).await?;
    let key = Key::Promotion { flow: spec.name.clone() };
    let writer = MapWriter::start(&target, owner, Box::new(|_: &str| {}));
    writer.commit(vec![MapRecord::forget(&key)]).await
}

async fn read(target: &Cluster, spec: &FlowSpec) -> Result<(MapReader, Ledger), FlowError> {
    if !MapReader::exists(target).await? {
        return Err(FlowError::NeverRan(spec.name.clone()));
    }
    let (mut reader, mut ledger) = (MapReader::new(target), Ledger::default());
    reader.read_to_end(&mut ledger).await?;
    if ledger.bindings(&spec.name).next().is_none() {
        return Err(FlowError::NeverRan(spec.name.clone()));
    }
    Ok((reader, ledger))
}

fn report(ledger: &Ledger, spec: &FlowSpec, promotion: Promotion) -> Failover {
    let FlowStatus { flow, groups, sync_pass, partitions, .. } = from_ledger(ledger, spec);
    let known = ledger.groups(&spec.name);
    let not_synced = known.flat_map(|(group, sync)| not_synced(group, sync, &partitions)).collect();
    let unsettled = promotion.unsettled.clone();
    Failover { flow, promotion, groups, not_synced, sync_pass, unsettled }
}

async fn promote(
    target: &Cluster,
    spec: &FlowSpec,
    reader: &mut MapReader,
    ledger: &mut Ledger,
) -> Result<Failover, FlowError> {
    // The claim fences whoever still writes the map topic; what it wrote before is read with it.
    let owner = map_log::claim(target, &spec.name, reader, ledger).await?;
    let writer = MapWriter::start(target, owner, Box::new(|_: &str| {}));
    let mut unsettled = Vec::new();
    for known in from_ledger(ledger, spec).partitions {
        let Some(key) = key_of(ledger, spec, &known.topic, known.partition) else { continue };
        let tail = Target {
            cluster: target.clone(),
            partition: TopicPartition::new(known.target_topic.as_str(), known.partition),
            topic_id: key.target_topic,
        };
        let Some(partition) = ledger.partition(&key) else { continue };
        match settle(&tail, partition, &key, owner).await {
            Ok(records) if records.is_empty() => {}
            Ok(records) => writer.commit(records).await?,
            Err(TailError::Request(error)) => return Err(error.into()),
            Err(TailError::Event(kind)) => unsettled.push(Event {
                flow: spec.name.clone(),
                topic: known.topic.clone(),
                partition: Some(known.partition),
                at_ms: Clock::system().now_ms(),
                kind,
            }),
        }
    }
    reader.read_to_end(ledger).await?;
    let carried = groups::carry_over(target, spec, &writer, (&*ledger, unsettled.as_slice())).await?;
    carried.write(spec, &writer).await?;
    reader.read_to_end(ledger).await?;
    let mut positions = BTreeMap::new();
    for known in from_ledger(ledger, spec).partitions {
        positions.insert(known.name(), (known.source_position, known.target_position));
    }
    let target_ends = target_ends::ask(target, spec, (&*ledger, unsettled.as_slice())).await;
    let at_ms = Clock::system().now_ms();
    let promotion = Promotion { at_ms, generation: owner.generation, positions, target_ends, unsettled };
    let key = Key::Promotion { flow: spec.name.clone() };
    writer.commit(vec![MapRecord::set(&key, promotion.encode())]).await?;
    reader.read_to_end(ledger).await?;
    Ok(report(ledger, spec, promotion))
}

/// Takes what arrived at the target into the map; what did not arrive is no longer awaited.
async fn settle(
    tail: &Target,
    ledger: &PartitionLedger,
    key: &PartitionKey,
    owner: Ownership,
) -> Result<Vec<MapRecord>, TailError> {
    let (Some((_, progress)), Some(map)) = (ledger.progress(), ledger.offset_map()) else {
        return Ok(Vec::new());
    };
    if progress.intents.is_empty() {
        return Ok(Vec::new());
    }
    let Progress { producer_id: id, producer_epoch: epoch, sequence, .. } = *progress;
    let producer = Producer { id, epoch, sequence };
    let expected = Expected { position: map.position(), producer, intents: &progress.intents };
    let mut attempts = 0;
    let arrived = loop {
        match tail.settle(expected, progress.target_epoch).await {
            Err(TailError::Request(error)) if attempts < TAIL_ATTEMPTS => {
                tracing::debug!(%error, "reading the tail again");
                attempts += 1;
                tokio::time::sleep(ASK_AGAIN_IN).await;
            }
            settled => break settled?,
        }
    };
    let generation = owner.generation;
    let (source_leader_epoch, target_leader_epoch) = (progress.source_epoch, progress.target_epoch);
    let made_by = Provenance { source_leader_epoch, target_leader_epoch, generation };
    let intents = progress.intents.clone();
    let left = Left { map, producer, intents, source_epoch: progress.source_epoch };
    let Ok(left) = left.take_arrived(&arrived, made_by) else { return Ok(Vec::new()) };
    let own = left.map.blocks().filter(|block| block.provenance().generation == generation);
    let mut records: Vec<_> = own
        .map(|block| {
            let start = block.start().source;
            MapRecord::set(&Key::Block { partition: key.clone(), generation, start }, block.encode())
        })
        .collect();
    let position = left.map.position();
    let settled = Progress {
        source: position.source.0,
        target: position.target.0,
        source_epoch: left.source_epoch,
        sequence: left.producer.sequence,
        intents: left.intents,
        at_ms: Clock::system().now_ms(),
        ..progress.clone()
    };
    records.push(MapRecord::set(&Key::Progress { partition: key.clone(), generation }, settled.encode()));
    Ok(records)
}
