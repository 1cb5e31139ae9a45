//! SyncGroup (key 14): the leader hands in assignments, every member gets its own.
//!
//! Served: versions 0 to 5.
//! Versions: 1 throttle; 3 static members (KIP-345); 4 flexible; 5 protocol type and name, checked against the group's.
//! Does not own: who gets what and its bytes (`client::assignor`), when the answer comes (`broker::groups::group`).

use bytes::Bytes;

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 14, name: "SyncGroup", served: (0, 5), advertised_since: 0, flexible_since: 4 };

messages! {
    flexible API.flexible_since;

    /// Asks for the member's assignment, and brings all of them if it is the leader's.
    SyncGroupRequest {
        group_id: Text,
        generation_id: i32,
        member_id: Text,
        group_instance_id: Option<Text> { since: 3, null_since: 3 },
        protocol_type: Option<Text> { since: 5, null_since: 5, ignorable: true },
        protocol_name: Option<Text> { since: 5, null_since: 5, ignorable: true },
        /// Empty unless the member leads.
        assignments: Vec<SyncGroupRequestAssignment>,
    }

    /// The assignment of one member.
    SyncGroupRequestAssignment {
        member_id: Text,
        assignment: Bytes,
    }

    /// The member's assignment.
    SyncGroupResponse {
        throttle_time_ms: i32 { since: 1, ignorable: true },
        error_code: ErrorCode,
        protocol_type: Option<Text> { since: 5, null_since: 5, ignorable: true },
        protocol_name: Option<Text> { since: 5, null_since: 5, ignorable: true },
        assignment: Bytes,
    }
}
