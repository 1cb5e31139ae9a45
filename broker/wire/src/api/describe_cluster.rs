//! DescribeCluster (key 60): cluster id, controller and brokers (KIP-700).
//!
//! Served: versions 0 to 2, all flexible.
//! Versions: 1 endpoint type, brokers or controllers; 2 fenced brokers.
//! Does not own: what a broker tells of itself (`broker::api::describe_cluster`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 60, name: "DescribeCluster", served: (0, 2), advertised_since: 0, flexible_since: 0 };

messages! {
    flexible API.flexible_since;

    /// Asks for the brokers.
    DescribeClusterRequest {
        include_cluster_authorized_operations: bool,
        endpoint_type: i8 { since: 1 } = 1,
        include_fenced_brokers: bool { since: 2 },
    }

    /// The brokers.
    DescribeClusterResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Text> { null_since: 0 },
        endpoint_type: i8 { since: 1 } = 1,
        cluster_id: Text,
        controller_id: i32 = -1,
        brokers: Vec<DescribeClusterBroker>,
        cluster_authorized_operations: i32 = i32::MIN,
    }

    /// One broker.
    DescribeClusterBroker {
        broker_id: i32,
        host: Text,
        port: i32,
        rack: Option<Text> { null_since: 0 },
        is_fenced: bool { since: 2 },
    }
}
