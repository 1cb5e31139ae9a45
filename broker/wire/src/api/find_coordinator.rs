//! FindCoordinator (key 10): which broker coordinates a group or a transactional id.
//!
//! Served: versions 0 to 6.
//! Behaviour: key type 0 is a group, 1 a transactional id, 2 a share group.
//! Versions: 1 key type, error message, throttle; 3 flexible; 4 several keys at once, which moves everything into
//! `coordinators`; 5 and 6 differ in meaning only.
//! Does not own: which keys have a coordinator (`broker::api::find_coordinator`), when to look for it again
//! (`client::group`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 10, name: "FindCoordinator", served: (0, 6), advertised_since: 0, flexible_since: 3 };

messages! {
    flexible API.flexible_since;

    /// Asks for coordinators: one key up to version 3, several from 4 on.
    FindCoordinatorRequest {
        key: Text { until: 3 },
        /// 0 group, 1 transactional id, 2 share group.
        key_type: i8 { since: 1 },
        coordinator_keys: Vec<Text> { since: 4 },
    }

    /// The coordinators asked for.
    FindCoordinatorResponse {
        throttle_time_ms: i32 { since: 1, ignorable: true },
        error_code: ErrorCode { until: 3 },
        error_message: Option<Text> { since: 1, until: 3, null_since: 1, ignorable: true } = Some(Text::EMPTY),
        node_id: i32 { until: 3 },
        host: Text { until: 3 },
        port: i32 { until: 3 },
        coordinators: Vec<Coordinator> { since: 4 },
    }

    /// The coordinator of one key.
    Coordinator {
        key: Text,
        node_id: i32,
        host: Text,
        port: i32,
        error_code: ErrorCode,
        error_message: Option<Text> { null_since: 4, ignorable: true } = Some(Text::EMPTY),
    }
}
