//! The state machine of one classic group.
//!
//! ```text
//!            join                      everyone joined,            leader's assignment
//!                                      or the time is up           written and committed
//!   Empty ---------> PreparingRebalance ----------> CompletingRebalance ----------> Stable
//!     ^                |    ^     ^                     |                             |
//!     |   nobody left  |    |     +---------------------+-----------------------------+
//!     +----------------+    |        a member joins, leaves, changes or falls silent
//!                           +-- the time is up, and no leader is among those who came
//! ```
//!
//! Owns: members, generation, protocol, leader, deadlines, committed offsets.
//! Does not own: time (each call is told `now_ms`), answers (named by [`super::Token`]), or the log: it asks for
//! [`Action::Persist`] or [`Action::PersistReplacement`] and is told the outcome. KIP-345 (static members), KIP-394
//! (member id required) and KIP-814 (a returning static leader skips the assignment) are decided here.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ErrorCode;

use self::replacement::Replacement;
use super::member::Member;
use super::offsets::GroupOffsets;
use super::{MAX_MEMBERS_PER_GROUP, SESSION_TIMEOUT_MS};

mod messages;
mod rebalance;
mod replacement;
mod view;

pub(crate) use messages::{Action, Caller, Join, JoinAnswer, JoinedMember, Sync, SyncAnswer};

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No members; offsets may be left.
    Empty,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Members hold assignments.
    Stable,
    /// Deleted; whoever still holds it must look the group up again.
    Dead,
}

impl Phase {
    /// The name Kafka's tools know.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// A rebalance that waits for members.
#[derive(Clone, Debug)]
struct Rebalance {
    deadline_ms: i64,
    /// The first rebalance of an empty group waits a little for more members, and again while they come.
    initial: Option<InitialDelay>,
}

#[derive(Clone, Copy, Debug)]
struct InitialDelay {
    remaining_ms: i64,
    member_added: bool,
}

/// One classic group.
#[derive(Debug)]
pub(crate) struct Group {
    id: String,
    phase: Phase,
    phase_since_ms: i64,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    generation: i32,
    members: BTreeMap<String, Member>,
    static_members: BTreeMap<String, String>,
    /// Static members whose new ids are not durable yet, in a group that is stable otherwise; one per record under way.
    replacements: Vec<Replacement>,
    /// Ids given by KIP-394 that have not come back, with the time they are forgotten.
    pending: BTreeMap<String, i64>,
    rebalance: Option<Rebalance>,
    sync_deadline_ms: Option<i64>,
    initial_delay_ms: i64,
    /// Committed offsets.
    pub(crate) offsets: GroupOffsets,
}

impl Group {
    /// An empty group. `initial_delay_ms` is Kafka's `group.initial.rebalance.delay.ms`.
    pub(crate) fn new(id: &str, initial_delay_ms: i64, now_ms: i64) -> Self {
        Self {
            id: id.to_owned(),
            phase: Phase::Empty,
            phase_since_ms: now_ms,
            protocol_type: None,
            protocol: None,
            leader: None,
            generation: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            replacements: Vec::new(),
            pending: BTreeMap::new(),
            rebalance: None,
            sync_deadline_ms: None,
            initial_delay_ms,
            offsets: GroupOffsets::default(),
        }
    }

    /// A JoinGroup: the answer comes as an action, now or when the rebalance completes.
    pub(crate) fn join(&mut self, join: Join, now_ms: i64) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Err(error) = self.admit(join, now_ms, &mut actions) {
            actions.push(error);
        }
        actions
    }

    #[allow(clippy::result_large_err, reason = "the refusal is moved once, into the list of actions")]
    fn admit(&mut self, join: Join, now_ms: i64, actions: &mut Vec<Action>) -> Result<(), Action> {
        let refuse = |error| Action::Joined(join.token, JoinAnswer::refused(error, &join.member_id));
        if !SESSION_TIMEOUT_MS.contains(&join.session_timeout_ms) {
            return Err(refuse(ErrorCode::INVALID_SESSION_TIMEOUT));
        }
        if self.phase == Phase::Dead {
            return Err(refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE));
        }
        if !self.accepts_protocols(&join) {
            return Err(refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
        }
        let known = self.members.contains_key(&join.member_id) || self.pending.contains_key(&join.member_id);
        if !known && self.members.len() + self.pending.len() >= MAX_MEMBERS_PER_GROUP {
            return Err(refuse(ErrorCode::GROUP_MAX_SIZE_REACHED));
        }
        match (&join.instance_id, join.member_id.is_empty()) {
            (Some(instance), true) => match self.static_members.get(instance).cloned() {
                Some(old_id) => self.replace_static(&old_id, join, now_ms, actions),
                None => self.add_member(join, now_ms, actions),
            },
            (None, true) if join.require_known_member_id => {
                let fresh = join.fresh_member_id.clone();
                self.pending.insert(fresh.clone(), now_ms + join.session_timeout_ms);
                return Err(Action::Joined(
                    join.token,
                    JoinAnswer::refused(ErrorCode::MEMBER_ID_REQUIRED, &fresh),
                ));
            }
            (None, true) => self.add_member(join, now_ms, actions),
            (_, false) if self.pending.remove(&join.member_id).is_some() => {
                self.add_member(Join { fresh_member_id: join.member_id.clone(), ..join }, now_ms, actions);
            }
            (_, false) => {
                self.check_member(&join.member_id, join.instance_id.as_deref()).map_err(refuse)?;
                self.rejoin(join, now_ms, actions);
            }
        }
        Ok(())
    }

    fn accepts_protocols(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join
                .protocols
                .iter()
                .any(|offer| self.members.values().all(|member| member.supports(&offer.name)))
    }

    /// Finds whether the caller is who it says it is; a static identity taken over by another member fences it.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if current != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    fn check_caller(&self, caller: &Caller) -> Result<(), ErrorCode> {
        if self.phase == Phase::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        self.check_member(&caller.member_id, caller.instance_id.as_deref())?;
        if caller.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(())
    }

    /// A SyncGroup: answered at once when the group is stable, else when the leader's assignment is committed.
    pub(crate) fn sync(&mut self, sync: Sync, now_ms: i64) -> Vec<Action> {
        if let Err(error) = self.check_sync(&sync) {
            return vec![Action::Synced(sync.token, SyncAnswer::refused(error))];
        }
        let generation = self.generation;
        let stable = self.phase == Phase::Stable;
        let leads = self.leader.as_deref() == Some(sync.caller.member_id.as_str());
        let member = self.members.get_mut(&sync.caller.member_id).expect("check_sync found the member");
        member.synced = true;
        if stable {
            member.expires_at_ms = now_ms + member.session_timeout_ms;
            return vec![Action::Synced(sync.token, self.sync_answer(&sync.caller.member_id))];
        }
        let earlier = member.waiting_sync.replace(sync.token);
        let mut actions: Vec<Action> = earlier
            .map(|token| Action::Synced(token, SyncAnswer::refused(ErrorCode::REBALANCE_IN_PROGRESS)))
            .into_iter()
            .collect();
        if leads {
            for (member_id, assignment) in sync.assignments {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.assignment = assignment;
                }
            }
            actions.push(Action::Persist(generation));
        }
        actions
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        self.check_caller(&sync.caller)?;
        let differs = |theirs: &Option<String>, ours: &Option<String>| theirs.is_some() && theirs != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match self.phase {
            Phase::Empty | Phase::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    fn sync_answer(&self, member_id: &str) -> SyncAnswer {
        SyncAnswer {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// The outcome of an [`Action::Persist`]. A group that has moved on meanwhile ignores it.
    pub(crate) fn persisted(&mut self, generation: i32, written: bool, now_ms: i64) -> Vec<Action> {
        if self.phase != Phase::CompletingRebalance || generation != self.generation {
            return Vec::new();
        }
        if !written {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            let mut actions = self.refuse_syncs(ErrorCode::COORDINATOR_NOT_AVAILABLE);
            self.prepare_rebalance(now_ms, &mut actions);
            return actions;
        }
        self.enter(Phase::Stable, now_ms);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        let mut actions = Vec::new();
        for id in ids {
            let answer = self.sync_answer(&id);
            let member = self.members.get_mut(&id).expect("the id was just listed");
            if let Some(token) = member.waiting_sync.take() {
                member.expires_at_ms = now_ms + member.session_timeout_ms;
                actions.push(Action::Synced(token, answer));
            }
        }
        actions
    }

    /// A Heartbeat.
    ///
    /// # Errors
    /// The code to answer; REBALANCE_IN_PROGRESS tells the member to join again.
    pub(crate) fn heartbeat(&mut self, caller: &Caller, now_ms: i64) -> Result<(), ErrorCode> {
        self.check_caller(caller)?;
        self.touch(&caller.member_id, now_ms);
        match self.phase {
            Phase::Empty | Phase::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    fn touch(&mut self, member_id: &str, now_ms: i64) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires_at_ms = now_ms + member.session_timeout_ms;
        }
    }

    /// A member leaves; a static member may be named by its instance id alone.
    ///
    /// # Errors
    /// The code to answer for this member.
    pub(crate) fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now_ms: i64,
    ) -> (Result<(), ErrorCode>, Vec<Action>) {
        let mut actions = Vec::new();
        if self.phase == Phase::Dead {
            return (Err(ErrorCode::COORDINATOR_NOT_AVAILABLE), actions);
        }
        if self.pending.remove(member_id).is_some() {
            self.try_complete_join(now_ms, &mut actions);
            return (Ok(()), actions);
        }
        let id = match (member_id.is_empty(), instance_id) {
            (true, Some(instance)) => match self.static_members.get(instance) {
                Some(id) => id.clone(),
                None => return (Err(ErrorCode::UNKNOWN_MEMBER_ID), actions),
            },
            _ => member_id.to_owned(),
        };
        if let Err(error) = self.check_member(&id, instance_id) {
            return (Err(error), actions);
        }
        self.remove_member(&id, &mut actions);
        self.after_removal(now_ms, &mut actions);
        (Ok(()), actions)
    }

    /// Whether an OffsetCommit by this caller is in order.
    ///
    /// # Errors
    /// The code to answer for every partition of the commit.
    pub(crate) fn check_commit(&mut self, caller: &Caller, now_ms: i64) -> Result<(), ErrorCode> {
        let speaks_as_member =
            caller.generation >= 0 || !caller.member_id.is_empty() || caller.instance_id.is_some();
        // A group that is being deleted has its name back soon; clients look for the coordinator and try again.
        if self.phase == Phase::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if !speaks_as_member {
            return if self.phase == Phase::Empty { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        }
        if self.members.is_empty() && self.phase == Phase::Empty && caller.generation < 0 {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.check_caller(caller)?;
        if self.phase == Phase::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.touch(&caller.member_id, now_ms);
        Ok(())
    }

    /// Whether a reader that names itself a member (OffsetFetch v9) is one.
    ///
    /// # Errors
    /// The code to answer.
    pub(crate) fn check_reader(&self, member_id: Option<&str>, _epoch: i32) -> Result<(), ErrorCode> {
        match member_id {
            Some(id) if !id.is_empty() && !self.members.contains_key(id) => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            _ => Ok(()),
        }
    }

    /// Marks the group deleted.
    ///
    /// # Errors
    /// NON_EMPTY_GROUP while it has members.
    pub(crate) fn delete(&mut self) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::Dead => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Phase::Empty => {
                self.phase = Phase::Dead;
                // Ids that were given lead nowhere now.
                self.pending.clear();
                Ok(())
            }
            _ => Err(ErrorCode::NON_EMPTY_GROUP),
        }
    }

    /// Takes a deletion back that could not be recorded: the group is as empty as it was.
    pub(crate) fn revive(&mut self) {
        if self.phase == Phase::Dead {
            self.phase = Phase::Empty;
        }
    }

    /// Does what is due at `now_ms`: forgets pending ids, silent members, ends waits.
    pub(crate) fn tick(&mut self, now_ms: i64) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Dead {
            return actions;
        }
        let pending_before = self.pending.len();
        self.pending.retain(|_, expires_at_ms| *expires_at_ms > now_ms);
        let late_sync = self.sync_deadline_ms.is_some_and(|deadline| deadline <= now_ms);
        if late_sync {
            self.sync_deadline_ms = None;
        }
        let gone: Vec<String> = self
            .members
            .values()
            .filter(|member| {
                let silent = member.expires_at_ms <= now_ms && !member.is_waiting();
                silent || (late_sync && !member.synced && member.waiting_join.is_none())
            })
            .map(|member| member.id.clone())
            .collect();
        for id in &gone {
            self.remove_member(id, &mut actions);
        }
        if !gone.is_empty() {
            self.after_removal(now_ms, &mut actions);
        } else if self.pending.len() < pending_before {
            self.try_complete_join(now_ms, &mut actions);
        }
        self.end_rebalance_wait(now_ms, &mut actions);
        actions
    }

    /// When [`Group::tick`] has something to do next.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        let members =
            self.members.values().filter(|member| !member.is_waiting()).map(|member| member.expires_at_ms);
        members
            .chain(self.pending.values().copied())
            .chain(self.sync_deadline_ms)
            .chain(self.rebalance.as_ref().map(|rebalance| rebalance.deadline_ms))
            .min()
    }

    fn enter(&mut self, phase: Phase, now_ms: i64) {
        self.phase = phase;
        self.phase_since_ms = now_ms;
    }
}
