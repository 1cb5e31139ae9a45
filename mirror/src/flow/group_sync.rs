//! One pass after another over the groups of the source.
//!
//! Owns: asking both clusters, committing, what is written down of it.
//! Does not own: the decision on a position (`groups`), the translation (`offset_map`).

use std::collections::BTreeMap;
use std::time::Duration;

use client::group::{Group, Membership, Position};
use client::{Cluster, RequestError, TopicPartition};
use wire::{ErrorCode, LeaderEpoch, Offset};

use super::FlowError;
use super::board::Board;
use super::map_log::MapWriter;
use crate::clock::Clock;
use crate::groups::{AtTarget, Reason, Verdict, decide};
use crate::map_topic::{GroupPartition, GroupSync, Key, MapRecord, SyncPass};
use crate::offset_map::{SourceOffset, TargetOffset, Translation};
use crate::ownership::PROTOCOL_TYPE;
use crate::spec::FlowSpec;

/// How often all groups are looked at.
pub(crate) const PASS_EVERY: Duration = Duration::from_secs(1);
/// Group states in which nobody reads: positions may be set from outside.
const IDLE_STATES: [&str; 3] = ["Empty", "Dead", ""];
/// How often a pass that changed nothing is still written down, in passes.
const SAY_AGAIN_AFTER: u32 = 5;

/// Where a source offset of a partition, by its name at the source, is at the target; `None` if it is not copied.
pub(crate) type Translate<'a> =
    dyn Fn(&TopicPartition, SourceOffset) -> Option<Translation<TargetOffset>> + Sync + 'a;

/// A group's positions at the source.
pub(crate) type SourcePositions = BTreeMap<TopicPartition, SourceOffset>;

/// Syncs the groups of one flow.
pub(crate) struct GroupSyncer<'a> {
    pub(crate) spec: &'a FlowSpec,
    pub(crate) source: &'a Cluster,
    pub(crate) target: &'a Cluster,
    pub(crate) writer: &'a MapWriter,
    pub(crate) board: &'a Board,
    pub(crate) translate: &'a Translate<'a>,
}

impl GroupSyncer<'_> {
    /// Goes over the groups until the future is dropped.
    pub(crate) async fn run(&self) {
        let mut said: BTreeMap<String, Vec<GroupPartition>> = BTreeMap::new();
        let mut passes = 0;
        loop {
            match self.pass(&mut said, passes % SAY_AGAIN_AFTER == 0).await {
                Ok(()) => passes += 1,
                Err(error) => tracing::warn!(flow = self.spec.name, %error, "the groups could not be synced"),
            }
            tokio::time::sleep(PASS_EVERY).await;
        }
    }

    async fn pass(
        &self,
        said: &mut BTreeMap<String, Vec<GroupPartition>>,
        say_again: bool,
    ) -> Result<(), FlowError> {
        let at_ms = Clock::system().now_ms();
        let mut pass = SyncPass { at_ms, groups: 0, synced: 0, unsynced: 0 };
        let mut records = Vec::new();
        for group in groups_at_source(self.source, self.spec).await? {
            let standing = positions_at_source(self.source, self.spec, &group).await?;
            if standing.is_empty() {
                continue;
            }
            let partitions = carry_over(self.target, self.spec, &group, &standing, self.translate).await?;
            count(&mut pass, &partitions);
            if said.get(&group) != Some(&partitions) {
                records.push(record(self.spec, &group, at_ms, &partitions));
                said.insert(group, partitions);
            }
        }
        self.board.change(&self.spec.name, |flow| flow.groups_synced_at_ms = Some(at_ms));
        if say_again || !records.is_empty() {
            records.push(pass_record(self.spec, &pass));
            self.writer.commit_each(records).await?;
        }
        Ok(())
    }
}

/// The groups of the source whose positions the flow carries over.
pub(crate) async fn groups_at_source(source: &Cluster, spec: &FlowSpec) -> Result<Vec<String>, RequestError> {
    let listed = source.list_groups().await?;
    let carried = listed.into_iter().filter(|group| *group.protocol_type != *PROTOCOL_TYPE);
    let names = carried.map(|group| group.group_id.to_string());
    Ok(names.filter(|name| spec.syncs(name)).collect())
}

/// Where a group stands at the source, in the topics that the flow copies.
pub(crate) async fn positions_at_source(
    source: &Cluster,
    spec: &FlowSpec,
    group: &str,
) -> Result<SourcePositions, RequestError> {
    let positions = source.group(group).positions(None, false).await?;
    let copied = positions.into_iter().filter(|(partition, _)| spec.copies(&partition.topic));
    Ok(copied.map(|(partition, position)| (partition, SourceOffset(position.offset.0))).collect())
}

/// Carries one group's positions over; answers what became of each.
pub(crate) async fn carry_over(
    target: &Cluster,
    spec: &FlowSpec,
    group: &str,
    standing: &SourcePositions,
    translate: &Translate<'_>,
) -> Result<Vec<GroupPartition>, FlowError> {
    let renamed = |partition: &TopicPartition| {
        TopicPartition::new(spec.rename.apply(&partition.topic), partition.partition)
    };
    let at_target = target.group(group);
    let active = match at_target.describe().await {
        Ok(described) => !IDLE_STATES.contains(&&*described.group_state),
        Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => false,
        Err(error) => return Err(error.into()),
    };
    let there = positions_there(&at_target, standing.keys().map(renamed).collect()).await?;
    let mut commits = BTreeMap::new();
    let mut outcome = Vec::new();
    for (partition, source) in standing {
        let target_partition = renamed(partition);
        let position = there.get(&target_partition).map(|position| position.offset.0);
        let verdict =
            decide(translate(partition, *source), AtTarget { active, position, may_go_back: false });
        let (target, reason) = match verdict {
            Verdict::Commit(offset, reason) => {
                commits.insert(target_partition.clone(), at(offset));
                (Some(offset.0), reason)
            }
            Verdict::InPlace(offset, reason) => (Some(offset.0), reason),
            Verdict::Leave(reason) => (position, Some(reason)),
        };
        outcome.push((target_partition, source.0, target, reason));
    }
    if !commits.is_empty()
        && let Err(error) = at_target.commit(&Membership::OUTSIDE, &commits).await
    {
        tracing::warn!(group, %error, "the target did not take the group's positions");
        for (partition, _, target, reason) in &mut outcome {
            if commits.contains_key(partition) {
                *target = there.get(partition).map(|position| position.offset.0);
                *reason = Some(Reason::Refused);
            }
        }
    }
    let say = |(partition, source, target, reason): (TopicPartition, i64, Option<i64>, Option<Reason>)| {
        GroupPartition {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            source,
            target,
            reason: reason.map(|reason| reason.to_string()),
        }
    };
    Ok(outcome.into_iter().map(say).collect())
}

async fn positions_there(
    group: &Group,
    asked: Vec<TopicPartition>,
) -> Result<BTreeMap<TopicPartition, Position>, RequestError> {
    match group.positions(Some(&asked), false).await {
        Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => Ok(BTreeMap::new()),
        found => found,
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
