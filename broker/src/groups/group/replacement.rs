//! A static member that comes back under a new member id (KIP-345).
//!
//! Owns: whether that needs a rebalance, and taking it back when it could not be recorded.
//! Does not own: rebalances (`rebalance`), the order of record and answer (`coordinator`).
//!
//! In a stable group the new id is answered once it is durable: a broker that came back with the old one would fence the
//! client that was given the new, for good.

use super::{Action, ErrorCode, Group, Join, JoinAnswer, Phase, SyncAnswer};
use crate::groups::Token;
use crate::groups::member::Member;

/// A replacement whose record is not durable yet.
#[derive(Debug)]
pub(super) struct Replacement {
    /// The JoinGroup that waits for it.
    token: Token,
    new_id: String,
    understands_skip: bool,
    /// The member as it was, without the answers that it waited for.
    before: Member,
    leader_before: Option<String>,
}

impl Replacement {
    /// What the member that was replaced takes in memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.before.held_bytes()
    }
}

impl Group {
    /// A static member is back under a new member id; its predecessor is fenced.
    pub(super) fn replace_static(
        &mut self,
        old_id: &str,
        join: Join,
        now_ms: i64,
        actions: &mut Vec<Action>,
    ) {
        let mut member = self.members.remove(old_id).expect("static ids name members");
        if let Some(token) = member.waiting_join.take() {
            actions.push(Action::Joined(token, JoinAnswer::refused(ErrorCode::FENCED_INSTANCE_ID, old_id)));
        }
        if let Some(token) = member.waiting_sync.take() {
            actions.push(Action::Synced(token, SyncAnswer::refused(ErrorCode::FENCED_INSTANCE_ID)));
        }
        let replacement = Replacement {
            token: join.token,
            new_id: join.fresh_member_id.clone(),
            understands_skip: join.understands_skip,
            before: member.clone(),
            leader_before: self.leader.clone(),
        };
        let new_id = replacement.new_id.clone();
        member.id.clone_from(&new_id);
        self.put_in_place(member, old_id);
        self.update_member(&new_id, join, now_ms, actions);
        if self.phase == Phase::Stable && self.protocol == self.elect_protocol() {
            actions.push(Action::PersistReplacement(self.generation, replacement.token));
            self.replacements.push(replacement);
        } else {
            self.prepare_rebalance(now_ms, actions);
        }
    }

    /// Puts a static member where the one of another id stood, which is out of the table.
    fn put_in_place(&mut self, member: Member, other_id: &str) {
        if self.leader.as_deref() == Some(other_id) {
            self.leader = Some(member.id.clone());
        }
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    /// The outcome of an [`Action::PersistReplacement`]. A join that was answered meanwhile, or that a rebalance answers by and
    /// by, is none of it any more.
    pub(crate) fn replacement_persisted(&mut self, token: Token, written: bool, now_ms: i64) -> Vec<Action> {
        let Some(at) = self.replacements.iter().position(|each| each.token == token) else {
            return Vec::new();
        };
        let replacement = self.replacements.swap_remove(at);
        let new_id = replacement.new_id.clone();
        let waits = |member: &&mut Member| member.waiting_join == Some(token);
        let Some(member) = self.members.get_mut(&new_id).filter(waits) else { return Vec::new() };
        if self.phase != Phase::Stable {
            return Vec::new();
        }
        member.waiting_join = None;
        member.expires_at_ms = now_ms + member.session_timeout_ms;
        let answer = if written {
            self.replacement_answer(replacement)
        } else {
            self.take_back(replacement, now_ms);
            // The client comes again with its instance id alone.
            JoinAnswer::refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, "")
        };
        vec![Action::Joined(token, answer)]
    }

    fn replacement_answer(&self, replacement: Replacement) -> JoinAnswer {
        let mut answer = self.join_answer(&replacement.new_id);
        if replacement.understands_skip {
            answer.skip_assignment = self.leader.as_deref() == Some(replacement.new_id.as_str());
        } else {
            // An older client that found itself leader would assign anew: it is told of the old leader.
            answer.members.clear();
            answer.leader = replacement.leader_before.unwrap_or_default();
        }
        answer
    }

    /// The member is the one it was, with a session to be heard from again.
    fn take_back(&mut self, replacement: Replacement, now_ms: i64) {
        self.members.remove(&replacement.new_id);
        let mut before = replacement.before;
        before.expires_at_ms = now_ms + before.session_timeout_ms;
        self.put_in_place(before, &replacement.new_id);
    }
}
