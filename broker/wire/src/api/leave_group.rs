//! LeaveGroup (key 13): takes members out of a classic group.
//!
//! Served: versions 0 to 5.
//! Versions: 1 throttle; 3 several members at once, static ones by instance id (KIP-345); 4 flexible; 5 reason.
//! Does not own: what follows for those who stay (`broker::groups::group`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 13, name: "LeaveGroup", served: (0, 5), advertised_since: 0, flexible_since: 4 };

messages! {
    flexible API.flexible_since;

    /// Members that leave.
    LeaveGroupRequest {
        group_id: Text,
        member_id: Text { until: 2 },
        members: Vec<MemberIdentity> { since: 3 },
    }

    /// One member that leaves.
    MemberIdentity {
        member_id: Text,
        group_instance_id: Option<Text> { null_since: 3 },
        reason: Option<Text> { since: 5, null_since: 5, ignorable: true },
    }

    /// What became of each.
    LeaveGroupResponse {
        throttle_time_ms: i32 { since: 1, ignorable: true },
        error_code: ErrorCode,
        members: Vec<MemberResponse> { since: 3 },
    }

    /// What became of one member's leave.
    MemberResponse {
        member_id: Text,
        group_instance_id: Option<Text> { null_since: 3 } = Some(Text::EMPTY),
        error_code: ErrorCode,
    }
}
