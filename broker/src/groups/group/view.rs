//! What others may see of a group, and how it becomes a record and back.

use super::{Group, Phase, Replacement};
use crate::groups::member::{Member, Protocol};
use crate::groups::records::{GroupValue, MemberValue};

impl Group {
    /// The group's name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where the group stands.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// What the protocols are for; `None` for a group that only holds offsets.
    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The current generation.
    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    /// Whether nothing is left: no members, no offsets, nobody on the way in.
    pub(crate) fn is_forgettable(&self) -> bool {
        matches!(self.phase, Phase::Empty)
            && self.members.is_empty()
            && self.pending.is_empty()
            && self.offsets.is_empty()
    }

    /// Whether the group never came about: no generation, no offsets, and nobody on the way in whose time is not up.
    pub(crate) fn is_unformed(&self, now_ms: i64) -> bool {
        matches!(self.phase, Phase::Empty)
            && self.generation == 0
            && self.members.is_empty()
            && self.offsets.is_empty()
            && self.pending.values().all(|expires_at_ms| *expires_at_ms <= now_ms)
    }

    /// What members, and ids that were given, take in memory. Offsets are counted apart, and have a bound of their own.
    pub(crate) fn held_bytes(&self) -> usize {
        let members: usize = self.members.values().map(Member::held_bytes).sum();
        let replaced: usize = self.replacements.iter().map(Replacement::held_bytes).sum();
        members + replaced + self.pending.keys().map(String::len).sum::<usize>()
    }

    /// Since when the group has been in its phase.
    pub(crate) fn phase_since_ms(&self) -> i64 {
        self.phase_since_ms
    }

    /// The record that holds this group; it shares the members' metadata and assignments with them.
    pub(crate) fn to_record(&self) -> GroupValue {
        let protocol = self.protocol.clone().unwrap_or_default();
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.phase_since_ms,
            members: self
                .members
                .values()
                .map(|member| MemberValue {
                    member_id: member.id.clone(),
                    group_instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout_ms: i32::try_from(member.rebalance_timeout_ms).unwrap_or(i32::MAX),
                    session_timeout_ms: i32::try_from(member.session_timeout_ms).unwrap_or(i32::MAX),
                    subscription: member.metadata_for(&protocol),
                    assignment: member.assignment.clone(),
                })
                .collect(),
        }
    }

    /// Takes over what a record says; members get a full session to be heard from again.
    pub(crate) fn restore(&mut self, value: GroupValue, now_ms: i64) {
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type).filter(|name| !name.is_empty());
        self.phase = if value.members.is_empty() { Phase::Empty } else { Phase::Stable };
        self.phase_since_ms =
            if value.current_state_timestamp < 0 { now_ms } else { value.current_state_timestamp };
        self.members.clear();
        self.static_members.clear();
        for member in value.members {
            if let Some(instance) = &member.group_instance_id {
                self.static_members.insert(instance.clone(), member.member_id.clone());
            }
            let session_timeout_ms = i64::from(member.session_timeout_ms);
            let name = value.protocol.clone().unwrap_or_default();
            let restored = Member {
                id: member.member_id.clone(),
                instance_id: member.group_instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: i64::from(member.rebalance_timeout_ms),
                session_timeout_ms,
                protocols: vec![Protocol { name, metadata: member.subscription }],
                assignment: member.assignment,
                waiting_join: None,
                waiting_sync: None,
                expires_at_ms: now_ms + session_timeout_ms,
                synced: true,
            };
            self.members.insert(member.member_id, restored);
        }
        self.protocol = value.protocol;
        self.leader = value.leader;
    }
}
