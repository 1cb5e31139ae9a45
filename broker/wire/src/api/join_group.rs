//! JoinGroup (key 11): enters a classic group, and waits until its members have gathered.
//!
//! Served: versions 0 to 9.
//! Behaviour: protocol type, names and metadata belong to the members; nothing here looks into them. From version 4 a new
//! dynamic member is first given an id and has to come back with it (KIP-394).
//! Versions: 1 rebalance timeout; 2 throttle; 5 static members (KIP-345); 6 flexible; 7 protocol type in the response;
//! 8 reason; 9 a returning static leader may skip the assignment.
//! Does not own: the rebalance (`broker::groups::group`), the bytes of a consumer's metadata (`client::assignor`).

use bytes::Bytes;

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 11, name: "JoinGroup", served: (0, 9), advertised_since: 0, flexible_since: 6 };

messages! {
    flexible API.flexible_since;

    /// Asks to enter a group.
    JoinGroupRequest {
        group_id: Text,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32 { since: 1, ignorable: true } = -1,
        /// Empty for a member that has none yet.
        member_id: Text,
        group_instance_id: Option<Text> { since: 5, null_since: 5 },
        protocol_type: Text,
        protocols: Vec<JoinGroupRequestProtocol>,
        reason: Option<Text> { since: 8, null_since: 8, ignorable: true },
    }

    /// A protocol that the member supports; the most wanted comes first.
    JoinGroupRequestProtocol {
        name: Text,
        /// The member's own; not looked into.
        metadata: Bytes,
    }

    /// The generation that has gathered.
    JoinGroupResponse {
        throttle_time_ms: i32 { since: 2, ignorable: true },
        error_code: ErrorCode,
        generation_id: i32 = -1,
        protocol_type: Option<Text> { since: 7, null_since: 7, ignorable: true },
        /// Null beside an error, where the version has null.
        protocol_name: Option<Text> { null_since: 7 } = Some(Text::EMPTY),
        leader: Text,
        skip_assignment: bool { since: 9 },
        member_id: Text,
        members: Vec<JoinGroupResponseMember>,
    }

    /// One member, told to the leader only.
    JoinGroupResponseMember {
        member_id: Text,
        group_instance_id: Option<Text> { since: 5, null_since: 5, ignorable: true },
        metadata: Bytes,
    }
}
