//! DeleteGroups (key 42): removes groups that have no members, with their positions.
//!
//! Served: versions 0 to 2.
//! Versions: 2 flexible.
//! Does not own: which groups may go, and what goes with them (`broker::groups::coordinator`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 42, name: "DeleteGroups", served: (0, 2), advertised_since: 0, flexible_since: 2 };

messages! {
    flexible API.flexible_since;

    /// Groups to remove.
    DeleteGroupsRequest {
        groups_names: Vec<Text>,
    }

    /// What became of each group.
    DeleteGroupsResponse {
        throttle_time_ms: i32,
        results: Vec<DeletableGroupResult>,
    }

    /// What became of one group.
    DeletableGroupResult {
        group_id: Text,
        error_code: ErrorCode,
    }
}
