//! Where groups go on once a flow is promoted.
//!
//! Where they stand at the source now, or, when it no longer answers, where they stood when they were last seen; by the
//! map as it was settled. What a group has committed in another topic, or in another log, than the one that was copied
//! says nothing: it stays where it was synced.
//!
//! Owns: asking the source for the last time, and which of its answers count. Does not own: the translation
//! (`offset_map`, `both_ways`), the decision on a position (`groups`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use client::{Cluster, TopicPartition};
use tokio::time::timeout;
use wire::TopicId;

use crate::clock::Clock;
use crate::events::Event;
use crate::flow::counterflow::{self, Counter, Counterflow, Own};
use crate::flow::fence::Fence;
use crate::flow::group_sync::{self, Carrier, GroupPositions, SourcePositions};
use crate::flow::map_log::MapWriter;
use crate::flow::tail::Target;
use crate::flow::{FlowError, cluster_id, connect, places};
use crate::groups::{Place, Reason};
use crate::map_topic::{GroupPartition, GroupSync, Ledger, MapRecord, PartitionKey, SyncPass};
use crate::offset_map::{OffsetMap, SourceOffset, TargetOffset, Translation};
use crate::spec::FlowSpec;
use crate::status::{PartitionStatus, from_ledger};
use crate::translate::key_of;

/// How long the target may take to say where its logs begin.
const LOG_STARTS_WITHIN: Duration = Duration::from_secs(5);
/// How long the source may take to say where its groups stand.
const SOURCE_WITHIN: Duration = Duration::from_secs(10);
/// How much of that it may take to say where the groups stand: where a coordinator is away, the others still count.
const GROUPS_WITHIN: Duration = Duration::from_secs(4);
/// How much of that it may take to say what comes back to it.
const COUNTERFLOW_WITHIN: Duration = Duration::from_secs(5);

/// What is to be written down of the groups.
pub(super) struct Carried {
    records: Vec<MapRecord>,
    /// The pass that this was; `None` where the source did not answer: the age of the positions is that of the pass that
    /// saw them.
    pass: Option<SyncPass>,
}

impl Carried {
    pub(super) async fn write(mut self, spec: &FlowSpec, writer: &MapWriter) -> Result<(), FlowError> {
        self.records.extend(self.pass.map(|pass| group_sync::pass_record(spec, &pass)));
        writer.commit_each(self.records).await
    }
}

/// What the source says while it still answers.
struct AtSource {
    standing: GroupPositions,
    /// Groups of which it does not say where they stand.
    unread: BTreeSet<String>,
    topic_ids: HashMap<Arc<str>, TopicId>,
    /// `None` where it could not be read in time.
    counterflow: Option<Counterflow>,
}

/// A copied partition.
struct Copied {
    key: PartitionKey,
    map: OffsetMap,
    /// Whether it is, or was, copied back too.
    comes_back: bool,
    /// Whether batches were left out because they came from the target.
    left_out: bool,
    /// Whether the map holds all that was sent.
    is_map_complete: bool,
    /// Whether an event says that its source, or its target, is not the log that was copied.
    is_spoilt: bool,
    /// Where the target's log begins; asked where it is or was copied back too.
    target_log_start: Option<TargetOffset>,
}

/// All that a position is translated by.
struct Known {
    copied: HashMap<TopicPartition, Copied>,
    /// Names at the source, by those at the target.
    names: HashMap<(String, i32), TopicPartition>,
    at_source: Option<AtSource>,
}

/// A group's positions, and the places of those of which no map is to be asked.
#[derive(Default)]
struct Stands {
    at_ms: i64,
    positions: SourcePositions,
    held: HashMap<TopicPartition, Place>,
}

/// Carries the groups over.
pub(super) async fn carry_over(
    target: &Cluster,
    spec: &FlowSpec,
    writer: &MapWriter,
    (ledger, unsettled): (&Ledger, &[Event]),
) -> Result<Carried, FlowError> {
    let at_ms = Clock::system().now_ms();
    let mut known = Known::of(spec, ledger, unsettled);
    // What is not told in time is not known.
    drop(timeout(LOG_STARTS_WITHIN, known.ask_target(target, spec)).await);
    known.at_source = known.ask_source(spec, cluster_id(target, &spec.to)?).await;
    let fence = Fence::new(writer, spec);
    let carrier = Carrier { target, spec, fence: &fence, is_last: true };
    let mut pass = SyncPass { at_ms, groups: 0, synced: 0, unsynced: 0 };
    let mut records = Vec::new();
    let before: HashMap<&str, &GroupSync> = ledger.groups(&spec.name).collect();
    for (group, stands) in known.standing(spec, ledger, at_ms) {
        let Stands { at_ms, positions, held } = stands;
        let place_of = |partition: &TopicPartition, next| match held.get(partition) {
            Some(place) => *place,
            None => known.place(partition, next),
        };
        // One that the target refuses is left as it is, with that for a reason, and holds no other up.
        let carried = group_sync::carry_over(&carrier, (&group, &positions), &place_of).await?;
        let before = before.get(&*group).map_or(&[][..], |sync| &sync.partitions);
        let partitions = carried.or_where_it_stood(before);
        group_sync::count(&mut pass, &partitions);
        records.push(group_sync::record(spec, &group, at_ms, &partitions));
    }
    Ok(Carried { records, pass: known.at_source.map(|_| pass) })
}

async fn at_source(spec: &FlowSpec, target_id: Arc<str>) -> Result<(Arc<str>, AtSource), FlowError> {
    let source = connect(&spec.from).await?;
    let group_sync::Standing { positions: standing, unread } =
        group_sync::positions_of_groups(&source, spec, GROUPS_WITHIN).await?;
    for (group, why_not) in &unread {
        tracing::warn!(group, %why_not, "the source does not say where the group stands: it goes on where it was last seen");
    }
    let topics = group_sync::topics_of(&standing);
    let topic_ids = match topics.is_empty() {
        true => HashMap::new(),
        // Asked last: a position that was read before is of the topic that had the name by then, or of none.
        false => places::topic_ids(&source, &topics).await?,
    };
    let mut counterflow = Counterflow::new(spec, &source, target_id);
    // Where nothing comes back, nothing depends on it.
    let read = timeout(COUNTERFLOW_WITHIN, counterflow.read()).await;
    let counterflow = matches!(read, Ok(Ok(()))).then_some(counterflow);
    let unread = unread.into_keys().collect();
    let found = cluster_id(&source, &spec.from)?;
    Ok((found, AtSource { standing, unread, topic_ids, counterflow }))
}

impl Known {
    /// What the target knows; the source was not asked.
    fn of(spec: &FlowSpec, ledger: &Ledger, unsettled: &[Event]) -> Self {
        let spoils = |event: &&Event| event.kind.spoils_positions();
        let spoilt: Vec<&Event> = ledger.events(&spec.name).chain(unsettled).filter(spoils).collect();
        let mut known = Self { copied: HashMap::new(), names: HashMap::new(), at_source: None };
        for PartitionStatus { topic, target_topic, partition, .. } in from_ledger(ledger, spec).partitions {
            let Some(key) = key_of(ledger, spec, &topic, partition) else { continue };
            let Some(known_of_it) = ledger.partition(&key) else { continue };
            let (Some((_, progress)), Some(map)) = (known_of_it.progress(), known_of_it.offset_map()) else {
                continue;
            };
            let left_out = progress.left_out;
            let comes_back = left_out || spec.comes_back(&topic);
            let is_map_complete = progress.intents.is_empty();
            let is_spoilt = spoilt.iter().any(|event| {
                event.topic == topic && event.partition.is_none_or(|spoilt| spoilt == partition)
            });
            let at_source = TopicPartition::new(topic.as_str(), partition);
            known.names.insert((target_topic, partition), at_source.clone());
            let copied =
                Copied { key, map, comes_back, left_out, is_map_complete, is_spoilt, target_log_start: None };
            known.copied.insert(at_source, copied);
        }
        known
    }

    /// Asks the target where the logs begin of what is copied both ways. One that does not say is not known.
    async fn ask_target(&mut self, target: &Cluster, spec: &FlowSpec) {
        for (at_source, copied) in self.copied.iter_mut().filter(|(_, copied)| copied.comes_back) {
            let partition = TopicPartition::new(spec.rename.apply(&at_source.topic), at_source.partition);
            let asked = Target { cluster: target.clone(), partition, topic_id: copied.key.target_topic };
            match asked.log_start().await {
                Ok(log_start) => copied.target_log_start = Some(log_start),
                Err(error) => {
                    tracing::warn!(partition = %asked.partition, %error, "not known where the target's log begins");
                }
            }
        }
    }

    /// Asks the source where its groups stand, if it answers and is the cluster that was copied.
    async fn ask_source(&self, spec: &FlowSpec, target_id: Arc<str>) -> Option<AtSource> {
        let why_not = match timeout(SOURCE_WITHIN, at_source(spec, target_id)).await {
            Ok(Ok((found, at_source))) => {
                if self.copied.values().any(|copied| copied.key.source_cluster == found) {
                    return Some(at_source);
                }
                format!("cluster {found} answers in its place")
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer in time".to_owned(),
        };
        tracing::warn!(why_not, "the source cannot be asked: groups go on where they were last seen");
        None
    }

    /// Where each group stands, as far as that counts.
    fn standing(&self, spec: &FlowSpec, ledger: &Ledger, at_ms: i64) -> Vec<(String, Stands)> {
        let mut recorded: HashMap<String, Stands> =
            ledger.groups(&spec.name).map(|(group, sync)| (group.to_owned(), self.recorded(sync))).collect();
        let Some(at_source) = &self.at_source else {
            recorded.retain(|_, stands| !stands.positions.is_empty());
            return recorded.into_iter().collect();
        };
        let is_unread = |group: &str| at_source.unread.contains(group);
        let mut standing: Vec<_> = recorded.extract_if(|group, _| is_unread(group)).collect();
        for (group, live) in &at_source.standing {
            let mut stands = recorded.remove(group).unwrap_or_default();
            // What the group no longer has at the source is no place to go on from.
            let has = |partition: &TopicPartition| live.contains_key(partition) || self.is_spoilt(partition);
            stands.positions.retain(|partition, _| has(partition));
            for (partition, next) in live {
                if self.is_another_log(partition, at_source) {
                    stands.held.insert(partition.clone(), Place::unknown(Reason::NotTheLog));
                } else {
                    stands.positions.insert(partition.clone(), *next);
                    stands.held.remove(partition);
                }
            }
            stands.at_ms = at_ms;
            standing.push((group.clone(), stands));
        }
        standing.retain(|(_, stands)| !stands.positions.is_empty());
        standing
    }

    /// What was written down of a group, by the partitions' names at the source.
    fn recorded(&self, sync: &GroupSync) -> Stands {
        let mut stands = Stands { at_ms: sync.at_ms, ..Stands::default() };
        for known in &sync.partitions {
            let Some(partition) = self.names.get(&(known.topic.clone(), known.partition)) else { continue };
            if known.needs_source || self.is_spoilt(partition) || self.was_not_asked(partition, known) {
                stands.held.insert(partition.clone(), held_at(known));
            }
            stands.positions.insert(partition.clone(), SourceOffset(known.source));
        }
        stands
    }

    /// Whether nothing comes of a record of a partition which the flow had not come to yet: not even whether its own map would do.
    fn was_not_asked(&self, partition: &TopicPartition, known: &GroupPartition) -> bool {
        let comes_back = self.copied.get(partition).is_some_and(|copied| copied.comes_back);
        comes_back && known.reason == Some(Reason::NotCopied.to_string())
    }

    fn is_spoilt(&self, partition: &TopicPartition) -> bool {
        self.copied.get(partition).is_some_and(|copied| copied.is_spoilt)
    }

    /// Whether what the source has under the name is not what was copied.
    fn is_another_log(&self, partition: &TopicPartition, at_source: &AtSource) -> bool {
        let Some(copied) = self.copied.get(partition) else { return false };
        copied.is_spoilt || at_source.topic_ids.get(&partition.topic) != Some(&copied.key.source_topic)
    }

    fn place(&self, partition: &TopicPartition, next: SourceOffset) -> Place {
        let Some(copied) = self.copied.get(partition) else { return Place::not_yet() };
        let Copied { key, map, comes_back, left_out, is_map_complete, target_log_start, .. } = copied;
        let counterflow = self.at_source.as_ref().and_then(|at_source| at_source.counterflow.as_ref());
        let counter = match counterflow {
            Some(counterflow) => counterflow.counter(&partition.topic, key, *left_out),
            // Of what is only on record, the own map tells all that is not held.
            None if self.at_source.is_some() && *comes_back => Counter::Unknown,
            None => Counter::None,
        };
        let own = Own { map, is_settled: *is_map_complete, target_log_start: *target_log_start };
        counterflow::place(&own, &counter, next)
    }
}

/// The place that was found while the source still told of it: where the group was put, if that was the very place.
fn held_at(known: &GroupPartition) -> Place {
    let found = match (known.target, &known.reason) {
        (Some(target), None) => Ok(Translation::Exact(TargetOffset(target))),
        _ => Err(Reason::NeedsSource),
    };
    Place { found, needs_source: true, read_to: known.read_to.map(TargetOffset) }
}
