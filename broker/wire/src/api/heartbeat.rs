//! Heartbeat (key 12): keeps a member of a classic group alive.
//!
//! Served: versions 0 to 4.
//! Versions: 1 throttle; 3 static members (KIP-345); 4 flexible.
//! Does not own: when a silent member is taken for dead (`broker::groups`), how often one is heard
//! (`client::member`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 12, name: "Heartbeat", served: (0, 4), advertised_since: 0, flexible_since: 4 };

messages! {
    flexible API.flexible_since;

    /// A sign of life.
    HeartbeatRequest {
        group_id: Text,
        generation_id: i32,
        member_id: Text,
        group_instance_id: Option<Text> { since: 3, null_since: 3 },
    }

    /// Whether the generation still stands.
    HeartbeatResponse {
        throttle_time_ms: i32 { since: 1, ignorable: true },
        error_code: ErrorCode,
    }
}
