//! DescribeGroups (key 15): state and members of groups.
//!
//! Served: versions 0 to 6.
//! Behaviour: a group that does not exist is reported as `Dead` without error up to version 5, and with
//! `GROUP_ID_NOT_FOUND` and a message from 6 on.
//! Versions: 1 throttle; 3 authorized operations; 4 static members; 5 flexible; 6 error message.
//! Does not own: the groups (`broker::groups`), what is in a member's metadata and assignment (`client::assignor`).

use bytes::Bytes;

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 15, name: "DescribeGroups", served: (0, 6), advertised_since: 0, flexible_since: 5 };

messages! {
    flexible API.flexible_since;

    /// Asks for groups by name.
    DescribeGroupsRequest {
        groups: Vec<Text>,
        include_authorized_operations: bool { since: 3 },
    }

    /// The groups.
    DescribeGroupsResponse {
        throttle_time_ms: i32 { since: 1, ignorable: true },
        groups: Vec<DescribedGroup>,
    }

    /// One group.
    DescribedGroup {
        error_code: ErrorCode,
        error_message: Option<Text> { since: 6, null_since: 6 },
        group_id: Text,
        group_state: Text,
        protocol_type: Text,
        protocol_data: Text,
        members: Vec<DescribedGroupMember>,
        authorized_operations: i32 { since: 3 } = i32::MIN,
    }

    /// One member.
    DescribedGroupMember {
        member_id: Text,
        group_instance_id: Option<Text> { since: 4, null_since: 4, ignorable: true },
        client_id: Text,
        client_host: Text,
        member_metadata: Bytes,
        member_assignment: Bytes,
    }
}
