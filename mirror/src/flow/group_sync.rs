//! One pass after another over the groups of the source.
//!
//! Owns: asking both clusters, committing, what is written down of it.
//! Does not own: the decision on a position (`groups`), the translation (`offset_map`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::group::{Membership, Position};
use client::{Cluster, RequestError, TopicPartition};
use wire::{ErrorCode, LeaderEpoch, Offset};

use super::FlowError;
use super::board::Board;
use super::map_log::MapWriter;
use super::partition::SharedCopier;
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

/// The partitions that a session copies, and their copiers.
pub(crate) type Copied = Mutex<HashMap<TopicPartition, SharedCopier>>;

/// Syncs the groups of one flow.
pub(crate) struct GroupSyncer<'a> {
    pub(crate) spec: &'a FlowSpec,
    pub(crate) source: &'a Cluster,
    pub(crate) target: &'a Cluster,
    pub(crate) writer: &'a MapWriter,
    pub(crate) board: &'a Board,
    pub(crate) copied: &'a Copied,
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
        for listed in self.source.list_groups().await? {
            let group = listed.group_id.to_string();
            if *listed.protocol_type == *PROTOCOL_TYPE || !self.spec.syncs(&group) {
                continue;
            }
            let partitions = self.sync(&group).await?;
            if partitions.is_empty() {
                continue;
            }
            pass.groups += 1;
            let synced = partitions.iter().filter(|partition| partition.target.is_some()).count() as u64;
            pass.synced += synced;
            pass.unsynced += partitions.len() as u64 - synced;
            if said.get(&group) != Some(&partitions) {
                let key = Key::Group { flow: self.spec.name.clone(), group: group.clone() };
                let sync = GroupSync { at_ms, partitions: partitions.clone() };
                records.push(MapRecord::set(&key, sync.encode()));
                said.insert(group, partitions);
            }
        }
        self.board.change(&self.spec.name, |flow| flow.groups_synced_at_ms = Some(at_ms));
        if say_again || !records.is_empty() {
            let key = Key::SyncPass { flow: self.spec.name.clone() };
            records.push(MapRecord::set(&key, pass.encode()));
            self.writer.commit(records).await?;
        }
        Ok(())
    }

    /// Carries one group's positions over; answers what became of each.
    async fn sync(&self, group: &str) -> Result<Vec<GroupPartition>, FlowError> {
        let positions = self.source.group(group).positions(None, false).await?;
        let wanted: Vec<_> = positions
            .iter()
            .filter(|(partition, _)| self.spec.copies(&partition.topic))
            .map(|(partition, position)| {
                (partition, position.offset.0, self.translate(partition, position.offset))
            })
            .collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let target_group = self.target.group(group);
        let active = match target_group.describe().await {
            Ok(described) => !IDLE_STATES.contains(&&*described.group_state),
            Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => false,
            Err(error) => return Err(error.into()),
        };
        let there = self.positions_there(&target_group, &wanted).await?;
        let mut commits = BTreeMap::new();
        let mut outcome = Vec::new();
        for (partition, source, translated) in wanted {
            let target_partition =
                TopicPartition::new(self.spec.rename.apply(&partition.topic), partition.partition);
            let position = there.get(&target_partition).map(|position| position.offset.0);
            let verdict = decide(translated, AtTarget { active, position, may_go_back: false });
            let (target, reason) = match verdict {
                Verdict::Commit(offset) => {
                    commits.insert(target_partition.clone(), at(offset));
                    (Some(offset.0), None)
                }
                Verdict::InPlace(offset) => (Some(offset.0), None),
                Verdict::Leave(reason) => (None, Some(reason)),
            };
            outcome.push((target_partition, source, target, reason));
        }
        if !commits.is_empty()
            && let Err(error) = target_group.commit(&Membership::OUTSIDE, &commits).await
        {
            tracing::warn!(group, %error, "the target did not take the group's positions");
            for (partition, _, target, reason) in &mut outcome {
                if commits.contains_key(partition) {
                    (*target, *reason) = (None, Some(Reason::Refused));
                }
            }
        }
        let say =
            |(partition, source, target, reason): (TopicPartition, i64, Option<i64>, Option<Reason>)| {
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
        &self,
        group: &client::group::Group,
        wanted: &[(&TopicPartition, i64, Option<Translation<TargetOffset>>)],
    ) -> Result<BTreeMap<TopicPartition, Position>, RequestError> {
        let renamed = |partition: &TopicPartition| {
            TopicPartition::new(self.spec.rename.apply(&partition.topic), partition.partition)
        };
        let asked: Vec<_> = wanted.iter().map(|(partition, ..)| renamed(partition)).collect();
        match group.positions(Some(&asked), false).await {
            Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => Ok(BTreeMap::new()),
            found => found,
        }
    }

    fn translate(&self, partition: &TopicPartition, next: Offset) -> Option<Translation<TargetOffset>> {
        let copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = copied.get(partition)?;
        let copier = shared.lock().unwrap_or_else(PoisonError::into_inner);
        Some(copier.as_ref()?.map().translate(SourceOffset(next.0)))
    }
}

fn at(offset: TargetOffset) -> Position {
    // An epoch of the source would make no sense to the target's leader.
    Position { offset: Offset(offset.0), leader_epoch: LeaderEpoch::NONE, metadata: String::new() }
}
