//! What a group is told and what it answers, in words of its own.

use bytes::Bytes;
use wire::ErrorCode;

use crate::groups::Token;
use crate::groups::member::Protocol;

/// A JoinGroup, in the group's words.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Names the answer.
    pub(crate) token: Token,
    /// Empty for a member that is new.
    pub(crate) member_id: String,
    /// The static identity, if any.
    pub(crate) instance_id: Option<String>,
    /// The client's own name for itself.
    pub(crate) client_id: String,
    /// The peer's address.
    pub(crate) client_host: String,
    /// How long a rebalance waits for this member.
    pub(crate) rebalance_timeout_ms: i64,
    /// How long the member may stay silent.
    pub(crate) session_timeout_ms: i64,
    /// What the protocols are for (`consumer`, `connect`, any word).
    pub(crate) protocol_type: String,
    /// In order of preference.
    pub(crate) protocols: Vec<Protocol>,
    /// Whether a new dynamic member must come back with the id it is given (JoinGroup v4, KIP-394).
    pub(crate) require_known_member_id: bool,
    /// Whether the member understands `skip_assignment` (JoinGroup v9, KIP-814).
    pub(crate) understands_skip: bool,
    /// The id to give should the member be new.
    pub(crate) fresh_member_id: String,
}

/// The answer to a JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinAnswer {
    /// `None` when the member is in.
    pub(crate) error: ErrorCode,
    /// The generation joined, -1 with an error.
    pub(crate) generation: i32,
    /// What the group's protocols are for.
    pub(crate) protocol_type: Option<String>,
    /// The protocol chosen.
    pub(crate) protocol: Option<String>,
    /// The leader's member id.
    pub(crate) leader: String,
    /// Whether the leader must keep the assignment that stands.
    pub(crate) skip_assignment: bool,
    /// The member's id.
    pub(crate) member_id: String,
    /// For the leader: every member with its metadata.
    pub(crate) members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    /// The member's id.
    pub(crate) member_id: String,
    /// The static identity, if any.
    pub(crate) instance_id: Option<String>,
    /// Opaque to the broker.
    pub(crate) metadata: Bytes,
}

impl JoinAnswer {
    /// A refusal.
    pub(crate) fn refused(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// A SyncGroup, in the group's words.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    /// Names the answer.
    pub(crate) token: Token,
    /// Who asks.
    pub(crate) caller: Caller,
    /// What the member believes the protocols are for (v5).
    pub(crate) protocol_type: Option<String>,
    /// What the member believes was chosen (v5).
    pub(crate) protocol: Option<String>,
    /// From the leader: assignment per member id.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// Who speaks: member, generation and static identity, as most requests carry them.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The member's id.
    pub(crate) member_id: String,
    /// The static identity, if any.
    pub(crate) instance_id: Option<String>,
    /// The generation the member believes in.
    pub(crate) generation: i32,
}

/// The answer to a SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyncAnswer {
    /// `None` when an assignment is given.
    pub(crate) error: ErrorCode,
    /// What the group's protocols are for.
    pub(crate) protocol_type: Option<String>,
    /// The protocol chosen.
    pub(crate) protocol: Option<String>,
    /// Opaque, from the leader.
    pub(crate) assignment: Bytes,
}

impl SyncAnswer {
    /// A refusal.
    pub(crate) fn refused(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// What the coordinator must do after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send the answer to a JoinGroup.
    Joined(Token, JoinAnswer),
    /// Send the answer to a SyncGroup.
    Synced(Token, SyncAnswer),
    /// Write the group's record, then call [`Group::persisted`] with this generation.
    Persist(i32),
    /// Write the group's record of this generation, then call [`Group::replacement_persisted`] with this token: it names the
    /// JoinGroup of a static member that took a new id.
    PersistReplacement(i32, Token),
}
