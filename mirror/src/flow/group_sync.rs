//! One pass after another over the groups of the source.
//!
//! Owns: asking both clusters, committing, what is written down of it.
//! Does not own: the decision on a position (`groups`), where it is at the target (`places`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::group::{Group, Membership, Position};
use client::{Cluster, RequestError, TopicPartition};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use wire::{ErrorCode, LeaderEpoch, Offset};

use super::FlowError;
use super::board::Board;
use super::fence::Fence;
use super::map_log::MapWriter;
use super::places::Places;
use crate::clock::Clock;
use crate::groups::{AtTarget, Place, Reason, Verdict, decide};
use crate::map_topic::{GroupPartition, GroupSync, Key, MapRecord, SyncPass};
use crate::offset_map::{SourceOffset, TargetOffset};
use crate::ownership::PROTOCOL_TYPE;
use crate::spec::FlowSpec;

/// How often all groups are looked at.
pub(crate) const PASS_EVERY: Duration = Duration::from_secs(1);
/// Group states in which nobody reads: positions may be set from outside.
const IDLE_STATES: [&str; 3] = ["Empty", "Dead", ""];
/// How long a cluster may take to say where one group stands: as a rule its coordinator is away then.
const GROUP_WITHIN: Duration = Duration::from_secs(15);
/// Of how many groups in a row there may be no answer before it is the cluster that is silent.
const SILENT_IN_A_ROW: u32 = 3;
/// What is said of one that took longer.
const NO_ANSWER: &str = "nothing in time";
/// How often a pass that changed nothing is still written down, in passes.
const SAY_AGAIN_AFTER: u32 = 5;

/// Where a source offset of a partition, by its name at the source, is at the target.
pub(crate) type PlaceOf<'a> = dyn Fn(&TopicPartition, SourceOffset) -> Place + Send + Sync + 'a;

/// A group's positions at the source.
pub(crate) type SourcePositions = BTreeMap<TopicPartition, SourceOffset>;

/// The positions of all groups at the source.
pub(crate) type GroupPositions = BTreeMap<String, SourcePositions>;

/// What was last written down of each group.
type Said = BTreeMap<String, Vec<GroupPartition>>;

/// Syncs the groups of one flow, in a task of its own.
pub(crate) struct GroupSyncer {
    pub(crate) spec: FlowSpec,
    pub(crate) source: Cluster,
    pub(crate) target: Cluster,
    pub(crate) writer: MapWriter,
    pub(crate) board: Board,
    pub(crate) places: Places,
    pub(crate) stop: CancellationToken,
}

impl GroupSyncer {
    /// Goes over the groups until the stop. The group whose positions are on their way to the target by then is
    /// finished and written down, so that nothing reaches a group later than this returns.
    pub(crate) async fn run(mut self) {
        let (mut said, mut passes) = (Said::new(), 0);
        while !self.stop.is_cancelled() {
            let passed = self.pass(&mut said, passes % SAY_AGAIN_AFTER == 0).await;
            passes += u32::from(passed.is_ok());
            if !self.stop.is_cancelled() {
                self.note(passed.unwrap_or_else(Some));
            }
            self.stop.run_until_cancelled(tokio::time::sleep(PASS_EVERY)).await;
        }
    }

    fn note(&self, error: Option<FlowError>) {
        if let Some(error) = &error {
            tracing::warn!(flow = self.spec.name, %error, "the groups could not be synced");
        }
        let error = error.map(|error| format!("groups are not synced: {error}"));
        self.board.change(&self.spec.name, |flow| flow.groups_error = error);
    }

    /// One pass; answers why the target refused a group for good, if it did. Such a group is gone over all the same.
    async fn pass(&mut self, said: &mut Said, say_again: bool) -> Result<Option<FlowError>, FlowError> {
        let at_ms = Clock::system().now_ms();
        let mut pass = SyncPass { at_ms, groups: 0, synced: 0, unsynced: 0 };
        let mut records = Vec::new();
        let gone_over = self.go_over_all(&mut pass, said, &mut records).await;
        if matches!(gone_over, Ok(GoneOver::All(_))) {
            self.board.change(&self.spec.name, |flow| flow.groups_synced_at_ms = Some(at_ms));
            if say_again || !records.is_empty() {
                records.push(pass_record(&self.spec, &pass));
            }
        }
        // What became of a group is written down even when the next could not be asked.
        self.writer.commit_each(records).await?;
        match gone_over? {
            GoneOver::All(refused) => Ok(refused),
            GoneOver::Stopped => Ok(None),
        }
    }

    /// Carries one group after the other over. One that cannot be asked for a reason of its own holds no other up.
    async fn go_over_all(
        &mut self,
        pass: &mut SyncPass,
        said: &mut Said,
        records: &mut Vec<MapRecord>,
    ) -> Result<GoneOver, FlowError> {
        let stop = self.stop.clone();
        let Some(standing) = stop.run_until_cancelled(self.stand_at_source()).await else {
            return Ok(GoneOver::Stopped);
        };
        let Standing { positions, unread } = standing?;
        let first = unread.into_iter().next();
        let mut unasked = first.map(|(group, why_not)| FlowError::GroupUnread { group, why_not });
        let (mut refused, mut silent) = (None, 0);
        let fence = Fence::new(&self.writer, &self.spec);
        let carrier = Carrier { target: &self.target, spec: &self.spec, fence: &fence, is_last: false };
        let place_of = |partition: &TopicPartition, next| self.places.of(partition, next);
        for (group, standing) in positions {
            if stop.is_cancelled() {
                return Ok(GoneOver::Stopped);
            }
            // Who was replaced moves no group any more.
            if let Some(error) = self.writer.ended_by() {
                return Err(error);
            }
            let carried = match carry_over(&carrier, (&group, &standing), &place_of).await {
                Ok(carried) => carried,
                Err(error @ FlowError::GroupUnread { .. }) if silent + 1 < SILENT_IN_A_ROW => {
                    silent += 1;
                    unasked.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            silent = 0;
            refused = refused.or_else(|| carried.refusal.clone());
            let partitions = carried.or_where_it_stood(said.get(&group).map_or(&[], |said| said));
            count(pass, &partitions);
            if said.get(&group) != Some(&partitions) {
                records.push(record(&self.spec, &group, pass.at_ms, &partitions));
                said.insert(group, partitions);
            }
        }
        unasked.map_or(Ok(GoneOver::All(refused)), Err)
    }

    /// Where the groups stand, and then the look that tells in what.
    async fn stand_at_source(&mut self) -> Result<Standing, FlowError> {
        let standing = positions_of_groups(&self.source, &self.spec, Duration::MAX).await?;
        self.places.look(&topics_of(&standing.positions)).await?;
        Ok(standing)
    }
}

/// How far a pass came.
enum GoneOver {
    /// Over all groups; the first refusal of one that the target takes neither now nor later.
    All(Option<FlowError>),
    /// Not over all of them: the stop came first.
    Stopped,
}

/// Where the groups of the source stand, as far as it says.
pub(crate) struct Standing {
    pub(crate) positions: GroupPositions,
    /// Groups that could not be read, and why.
    pub(crate) unread: BTreeMap<String, String>,
}

/// The positions of the source's groups, of those that have any in the topics which the flow copies. One that cannot be
/// read for a reason of its own holds no other up; none is asked beyond the time for all of them.
pub(crate) async fn positions_of_groups(
    source: &Cluster,
    spec: &FlowSpec,
    for_all: Duration,
) -> Result<Standing, RequestError> {
    let mut standing = Standing { positions: GroupPositions::new(), unread: BTreeMap::new() };
    let groups = groups_at_source(source, spec).await?;
    let (begun, mut silent) = (Instant::now(), 0);
    for group in groups {
        let within = for_all.saturating_sub(begun.elapsed()).min(for_all / 2).min(GROUP_WITHIN);
        let why_not = if within.is_zero() || silent >= SILENT_IN_A_ROW {
            NO_ANSWER.to_owned()
        } else {
            let answer = timeout(within, positions_at_source(source, spec, &group)).await;
            silent = if answer.is_err() { silent + 1 } else { 0 };
            match answer {
                Ok(Ok(positions)) => {
                    if !positions.is_empty() {
                        standing.positions.insert(group, positions);
                    }
                    continue;
                }
                Ok(Err(error)) if is_its_own(&error) => error.to_string(),
                Ok(Err(error)) => return Err(error),
                Err(_) => NO_ANSWER.to_owned(),
            }
        };
        standing.unread.insert(group, format!("the source says: {why_not}"));
    }
    Ok(standing)
}

/// Whether an answer, or that there is none, is about one group: the coordinator of another may be another broker.
fn is_its_own(error: &RequestError) -> bool {
    let is_the_clusters = matches!(error, RequestError::Unreachable(_));
    error.code().is_some() || (error.retriable() && !is_the_clusters)
}

/// The topics in which groups stand.
pub(crate) fn topics_of(standing: &GroupPositions) -> Vec<Arc<str>> {
    let topics = standing.values().flat_map(|positions| positions.keys());
    let topics: BTreeSet<_> = topics.map(|partition| Arc::clone(&partition.topic)).collect();
    topics.into_iter().collect()
}

/// The groups of the source whose positions the flow carries over.
async fn groups_at_source(source: &Cluster, spec: &FlowSpec) -> Result<Vec<String>, RequestError> {
    let listed = source.list_groups().await?;
    let carried = listed.into_iter().filter(|group| *group.protocol_type != *PROTOCOL_TYPE);
    let names = carried.map(|group| group.group_id.to_string());
    Ok(names.filter(|name| spec.syncs(name)).collect())
}

/// Where a group stands at the source, in the topics that the flow copies.
async fn positions_at_source(
    source: &Cluster,
    spec: &FlowSpec,
    group: &str,
) -> Result<SourcePositions, RequestError> {
    let positions = source.group(group).positions(None, false).await?;
    let copied = positions.into_iter().filter(|(partition, _)| spec.copies(&partition.topic));
    Ok(copied.map(|(partition, position)| (partition, SourceOffset(position.offset.0))).collect())
}

/// What groups are carried over by.
pub(crate) struct Carrier<'a> {
    pub(crate) target: &'a Cluster,
    pub(crate) spec: &'a FlowSpec,
    pub(crate) fence: &'a Fence,
    /// Whether no other pass will ask again what the target does not say now.
    pub(crate) is_last: bool,
}

/// What became of a group's positions.
pub(crate) struct CarriedOver {
    partitions: Vec<GroupPartition>,
    /// Why the target says nothing of the group.
    refusal: Option<FlowError>,
}

impl CarriedOver {
    /// What became of the positions; of a group of which the target says nothing, they are where they stood `before`.
    pub(crate) fn or_where_it_stood(self, before: &[GroupPartition]) -> Vec<GroupPartition> {
        let Self { mut partitions, refusal } = self;
        if refusal.is_some() {
            for known in &mut partitions {
                let is_it = |stood: &&GroupPartition| {
                    stood.topic == known.topic && stood.partition == known.partition
                };
                known.target = before.iter().find(is_it).and_then(|stood| stood.target);
            }
        }
        partitions
    }
}

/// Carries one group's positions over; answers what became of each.
pub(crate) async fn carry_over(
    carrier: &Carrier<'_>,
    (group, standing): (&str, &SourcePositions),
    place_of: &PlaceOf<'_>,
) -> Result<CarriedOver, FlowError> {
    let Carrier { target, spec, is_last, .. } = *carrier;
    let renamed = |partition: &TopicPartition| at_target(spec, partition);
    let there = target.group(group);
    let asked = stand_there(&there, standing.keys().map(renamed).collect());
    // Who asks for the last time asks as long as the client tries; without any answer it may be done all over again.
    let within = if is_last { Duration::MAX } else { GROUP_WITHIN };
    let (why_not, is_final) = match timeout(within, asked).await {
        Ok(Ok(found)) => return put_there(carrier, (group, standing), place_of, found).await,
        Ok(Err(error)) if !is_its_own(&error) || (is_last && error.code().is_none()) => {
            return Err(error.into());
        }
        Ok(Err(error)) => (error.to_string(), !error.retriable()),
        Err(_) => (NO_ANSWER.to_owned(), false),
    };
    let unread =
        FlowError::GroupUnread { group: group.to_owned(), why_not: format!("the target says: {why_not}") };
    if !is_final && !is_last {
        return Err(unread);
    }
    tracing::warn!(group, why_not, "the target says nothing of the group");
    let left = |(partition, source): (&TopicPartition, &SourceOffset)| {
        let place = place_of(partition, *source);
        known_of(&renamed(partition), *source, place, (None, Some(Reason::Refused)))
    };
    Ok(CarriedOver { partitions: standing.iter().map(left).collect(), refusal: Some(unread) })
}

/// Puts a group to its places, knowing how it stands at the target.
async fn put_there(
    Carrier { target, spec, fence, .. }: &Carrier<'_>,
    (group, standing): (&str, &SourcePositions),
    place_of: &PlaceOf<'_>,
    (active, there): (bool, BTreeMap<TopicPartition, Position>),
) -> Result<CarriedOver, FlowError> {
    let group_there = target.group(group);
    let (mut commits, mut is_to_hold) = (BTreeMap::new(), false);
    let mut outcome = Vec::new();
    for (partition, source) in standing {
        let target_partition = at_target(spec, partition);
        let position = there.get(&target_partition).map(|position| position.offset.0);
        let place = place_of(partition, *source);
        let (offset, reason) = match decide(place.found, AtTarget { active, position, may_go_back: false }) {
            Verdict::Commit(offset, reason) => {
                commits.insert(target_partition.clone(), at(offset));
                // Only where something comes back does it matter that nobody else has sent anything.
                is_to_hold |= place.read_to.is_some();
                (Some(offset.0), reason)
            }
            Verdict::InPlace(offset, reason) => (Some(offset.0), reason),
            Verdict::Leave(reason) => (position, Some(reason)),
        };
        let known = known_of(&target_partition, *source, place, (offset, reason));
        outcome.push((target_partition, known));
    }
    if is_to_hold {
        fence.hold().await?;
    }
    if !commits.is_empty()
        && let Err(error) = group_there.commit(&Membership::OUTSIDE, &commits).await
    {
        tracing::warn!(group, %error, "the target did not take the group's positions");
        for (partition, known) in &mut outcome {
            if commits.contains_key(partition) {
                known.target = there.get(partition).map(|position| position.offset.0);
                known.reason = Some(Reason::Refused.to_string());
            }
        }
    }
    let partitions = outcome.into_iter().map(|(_, known)| known).collect();
    Ok(CarriedOver { partitions, refusal: None })
}

/// What a partition of the source is called at the target.
fn at_target(spec: &FlowSpec, partition: &TopicPartition) -> TopicPartition {
    TopicPartition::new(spec.rename.apply(&partition.topic), partition.partition)
}

/// What is kept of one position: `target` is the group's own there, for this reason if that is not its very place.
fn known_of(
    partition: &TopicPartition,
    source: SourceOffset,
    place: Place,
    (target, reason): (Option<i64>, Option<Reason>),
) -> GroupPartition {
    let read_to = place.read_to.map(|offset| offset.0);
    GroupPartition {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        source: source.0,
        target,
        reason: reason.map(|reason| reason.to_string()),
        read_to: read_to.filter(|read_to| target.is_none_or(|at| at < *read_to)),
        needs_source: place.needs_source,
    }
}

/// Whether a group has members at the target, and its positions there.
async fn stand_there(
    group: &Group,
    asked: Vec<TopicPartition>,
) -> Result<(bool, BTreeMap<TopicPartition, Position>), RequestError> {
    let active = match group.describe().await {
        Ok(described) => !IDLE_STATES.contains(&&*described.group_state),
        Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => false,
        Err(error) => return Err(error),
    };
    match group.positions(Some(&asked), false).await {
        Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => Ok((active, BTreeMap::new())),
        found => found.map(|there| (active, there)),
    }
}

fn at(offset: TargetOffset) -> Position {
    // An epoch of the source would make no sense to the target's leader.
    Position { offset: Offset(offset.0), leader_epoch: LeaderEpoch::NONE, metadata: String::new() }
}

/// Counts a group into a pass.
pub(crate) fn count(pass: &mut SyncPass, partitions: &[GroupPartition]) {
    pass.groups += 1;
    let exact = partitions.iter().filter(|partition| partition.reason.is_none()).count() as u64;
    pass.synced += exact;
    pass.unsynced += partitions.len() as u64 - exact;
}

/// What is kept of a group.
pub(crate) fn record(spec: &FlowSpec, group: &str, at_ms: i64, partitions: &[GroupPartition]) -> MapRecord {
    let key = Key::Group { flow: spec.name.clone(), group: group.to_owned() };
    MapRecord::set(&key, GroupSync { at_ms, partitions: partitions.to_vec() }.encode())
}

/// What is kept of a pass.
pub(crate) fn pass_record(spec: &FlowSpec, pass: &SyncPass) -> MapRecord {
    MapRecord::set(&Key::SyncPass { flow: spec.name.clone() }, pass.encode())
}
