//! ListGroups (key 16): the groups that this broker coordinates.
//!
//! Served: versions 0 to 5.
//! Versions: 1 throttle; 3 flexible; 4 filter by state, and states in the response; 5 the same for types.
//! Does not own: the groups (`broker::groups`), how a filter is read (`broker::api::list_groups`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 16, name: "ListGroups", served: (0, 5), advertised_since: 0, flexible_since: 3 };

messages! {
    flexible API.flexible_since;

    /// Asks for all groups that pass the filters; an empty filter lets all pass.
    ListGroupsRequest {
        states_filter: Vec<Text> { since: 4 },
        types_filter: Vec<Text> { since: 5 },
    }

    /// The groups.
    ListGroupsResponse {
        throttle_time_ms: i32 { since: 1, ignorable: true },
        error_code: ErrorCode,
        groups: Vec<ListedGroup>,
    }

    /// One group.
    ListedGroup {
        group_id: Text,
        protocol_type: Text,
        group_state: Text { since: 4, ignorable: true },
        group_type: Text { since: 5, ignorable: true },
    }
}
