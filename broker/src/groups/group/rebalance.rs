//! How members come, change and go, and how a rebalance starts and completes.

use bytes::Bytes;

use super::{
    Action, ErrorCode, Group, InitialDelay, Join, JoinAnswer, JoinedMember, Phase, Rebalance, SyncAnswer,
};
use crate::groups::NEW_MEMBER_TIMEOUT_MS;
use crate::groups::member::Member;

impl Group {
    pub(super) fn add_member(&mut self, join: Join, now_ms: i64, actions: &mut Vec<Action>) {
        let id = join.fresh_member_id.clone();
        if let Some(instance) = &join.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.protocol_type = Some(join.protocol_type.clone());
        self.members.insert(
            id.clone(),
            Member {
                id: id.clone(),
                instance_id: join.instance_id,
                client_id: join.client_id,
                client_host: join.client_host,
                rebalance_timeout_ms: join.rebalance_timeout_ms,
                session_timeout_ms: join.session_timeout_ms,
                protocols: join.protocols,
                assignment: Bytes::new(),
                waiting_join: Some(join.token),
                waiting_sync: None,
                expires_at_ms: now_ms + NEW_MEMBER_TIMEOUT_MS,
                synced: false,
            },
        );
        if let Some(delay) = self.rebalance.as_mut().and_then(|rebalance| rebalance.initial.as_mut()) {
            delay.member_added = true;
        }
        self.prepare_rebalance(now_ms, actions);
    }

    /// A known member joins again: what follows depends on whether anything changed.
    pub(super) fn rejoin(&mut self, join: Join, now_ms: i64, actions: &mut Vec<Action>) {
        let member = self.members.get(&join.member_id).expect("the caller checked the member");
        let unchanged = member.protocols == join.protocols;
        let leads = self.leader.as_deref() == Some(join.member_id.as_str());
        let answer_now = match self.phase {
            Phase::CompletingRebalance => unchanged,
            Phase::Stable => unchanged && !leads,
            Phase::Empty | Phase::PreparingRebalance | Phase::Dead => false,
        };
        if answer_now {
            // The answer to an earlier join was lost: the generation stands.
            self.touch(&join.member_id, now_ms);
            let answer = self.join_answer(&join.member_id);
            actions.push(Action::Joined(join.token, answer));
            return;
        }
        let id = join.member_id.clone();
        self.update_member(&id, join, now_ms, actions);
        self.prepare_rebalance(now_ms, actions);
    }

    pub(super) fn update_member(&mut self, id: &str, join: Join, now_ms: i64, actions: &mut Vec<Action>) {
        let member = self.members.get_mut(id).expect("the caller checked the member");
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        member.protocols = join.protocols;
        member.client_id = join.client_id;
        member.client_host = join.client_host;
        member.expires_at_ms = now_ms + member.session_timeout_ms;
        if let Some(earlier) = member.waiting_join.replace(join.token) {
            actions.push(Action::Joined(earlier, JoinAnswer::refused(ErrorCode::REBALANCE_IN_PROGRESS, id)));
        }
    }

    pub(super) fn remove_member(&mut self, id: &str, actions: &mut Vec<Action>) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(token) = member.waiting_join {
            actions.push(Action::Joined(token, JoinAnswer::refused(ErrorCode::UNKNOWN_MEMBER_ID, id)));
        }
        if let Some(token) = member.waiting_sync {
            actions.push(Action::Synced(token, SyncAnswer::refused(ErrorCode::UNKNOWN_MEMBER_ID)));
        }
        if let Some(instance) = &member.instance_id
            && self.static_members.get(instance).is_some_and(|current| current == id)
        {
            self.static_members.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    pub(super) fn after_removal(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Stable | Phase::CompletingRebalance => self.prepare_rebalance(now_ms, actions),
            Phase::PreparingRebalance => self.try_complete_join(now_ms, actions),
            Phase::Empty | Phase::Dead => {}
        }
    }

    pub(super) fn refuse_syncs(&mut self, error: ErrorCode) -> Vec<Action> {
        self.members
            .values_mut()
            .filter_map(|member| member.waiting_sync.take())
            .map(|token| Action::Synced(token, SyncAnswer::refused(error)))
            .collect()
    }

    pub(super) fn prepare_rebalance(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        if self.phase == Phase::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            actions.extend(self.refuse_syncs(ErrorCode::REBALANCE_IN_PROGRESS));
        }
        if self.phase != Phase::PreparingRebalance {
            let timeout_ms = self.rebalance_timeout_ms();
            let first = self.phase == Phase::Empty && self.initial_delay_ms > 0;
            self.rebalance = Some(if first {
                let wait_ms = self.initial_delay_ms.min(timeout_ms);
                let remaining_ms = (timeout_ms - self.initial_delay_ms).max(0);
                Rebalance {
                    deadline_ms: now_ms + wait_ms,
                    initial: Some(InitialDelay { remaining_ms, member_added: false }),
                }
            } else {
                Rebalance { deadline_ms: now_ms.saturating_add(timeout_ms), initial: None }
            });
            self.sync_deadline_ms = None;
            self.enter(Phase::PreparingRebalance, now_ms);
        }
        self.try_complete_join(now_ms, actions);
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    pub(super) fn try_complete_join(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        let waits_for_more = self.rebalance.as_ref().is_none_or(|rebalance| rebalance.initial.is_some());
        let everyone =
            self.members.values().all(|member| member.waiting_join.is_some()) && self.pending.is_empty();
        if self.phase == Phase::PreparingRebalance && everyone && (!waits_for_more || self.members.is_empty())
        {
            self.complete_join(now_ms, actions);
        }
    }

    pub(super) fn end_rebalance_wait(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        let Some(rebalance) = self.rebalance.as_mut().filter(|rebalance| rebalance.deadline_ms <= now_ms)
        else {
            return;
        };
        if let Some(delay) =
            rebalance.initial.as_mut().filter(|delay| delay.member_added && delay.remaining_ms > 0)
        {
            let wait_ms = self.initial_delay_ms.min(delay.remaining_ms);
            delay.member_added = false;
            delay.remaining_ms -= wait_ms;
            rebalance.deadline_ms = now_ms + wait_ms;
            return;
        }
        self.complete_join(now_ms, actions);
    }

    fn complete_join(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        let absent: Vec<String> = self
            .members
            .values()
            .filter(|member| member.waiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in absent {
            self.remove_member(&id, actions);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left and none has come: wait for them once more.
            let deadline_ms = now_ms.saturating_add(self.rebalance_timeout_ms());
            self.rebalance = Some(Rebalance { deadline_ms, initial: None });
            return;
        }
        self.rebalance = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.enter(Phase::Empty, now_ms);
            actions.push(Action::Persist(self.generation));
            return;
        }
        self.protocol = self.elect_protocol();
        self.enter(Phase::CompletingRebalance, now_ms);
        self.sync_deadline_ms = Some(now_ms.saturating_add(self.rebalance_timeout_ms()));
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.join_answer(&id);
            let member = self.members.get_mut(&id).expect("the id was just listed");
            member.synced = false;
            if let Some(token) = member.waiting_join.take() {
                member.expires_at_ms = now_ms + member.session_timeout_ms;
                actions.push(Action::Joined(token, answer));
            }
        }
    }

    /// Keeps the leader if it has joined, else takes the first that has. False when nobody has.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|member| member.waiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        match self.members.values().find(|member| member.waiting_join.is_some()) {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// Each member votes for the first protocol it offers that all support; most votes win.
    pub(super) fn elect_protocol(&self) -> Option<String> {
        let supported = |name: &str| self.members.values().all(|member| member.supports(name));
        let first = self.members.values().next()?;
        let candidates: Vec<&str> =
            first.protocols.iter().map(|offer| offer.name.as_str()).filter(|name| supported(name)).collect();
        let vote = |member: &Member| {
            let choice = member.protocols.iter().find(|offer| candidates.contains(&offer.name.as_str()));
            choice.map(|offer| offer.name.clone())
        };
        let votes: Vec<String> = self.members.values().filter_map(vote).collect();
        let count = |name: &str| votes.iter().filter(|vote| vote.as_str() == name).count();
        // `rev` makes the first of equals win, so that the choice is stable.
        candidates.iter().rev().max_by_key(|name| count(name)).map(|name| (*name).to_owned())
    }

    pub(super) fn join_answer(&self, member_id: &str) -> JoinAnswer {
        let protocol = self.protocol.clone().unwrap_or_default();
        let leads = self.leader.as_deref() == Some(member_id);
        let members = if leads {
            self.members
                .values()
                .map(|member| JoinedMember {
                    member_id: member.id.clone(),
                    instance_id: member.instance_id.clone(),
                    metadata: member.metadata_for(&protocol),
                })
                .collect()
        } else {
            Vec::new()
        };
        JoinAnswer {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members,
        }
    }
}
