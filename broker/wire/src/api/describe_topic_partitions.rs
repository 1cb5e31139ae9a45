//! DescribeTopicPartitions (key 75): topics in pages, with eligible leader replicas (KIP-966).
//!
//! Served: version 0, flexible.
//! Behaviour: topics come in the order of their names; the response ends at a partition limit and names where to go on.
//! Does not own: where a page ends (`broker::api::describe_topic_partitions`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::ids::TopicId;
use crate::message::{messages, nullable_structures};

/// How it is announced and framed.
pub const API: Api =
    Api { key: 75, name: "DescribeTopicPartitions", served: (0, 0), advertised_since: 0, flexible_since: 0 };

messages! {
    flexible API.flexible_since;

    /// Asks for a page of topics.
    DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest>,
        response_partition_limit: i32 = 2000,
        cursor: Option<Cursor> { null_since: 0 },
    }

    /// One topic to describe.
    TopicRequest {
        name: Text,
    }

    /// Where a page begins.
    Cursor {
        topic_name: Text,
        partition_index: i32,
    }

    /// A page of topics.
    DescribeTopicPartitionsResponse {
        throttle_time_ms: i32 { ignorable: true },
        topics: Vec<DescribeTopicPartitionsResponseTopic>,
        next_cursor: Option<Cursor> { null_since: 0 },
    }

    /// One topic, or the part of it that the page holds.
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode,
        name: Option<Text> { null_since: 0 } = Some(Text::EMPTY),
        topic_id: TopicId { ignorable: true },
        is_internal: bool { ignorable: true },
        partitions: Vec<DescribeTopicPartitionsResponsePartition>,
        topic_authorized_operations: i32 = i32::MIN,
    }

    /// One partition.
    DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 { ignorable: true } = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        eligible_leader_replicas: Option<Vec<i32>> { null_since: 0 },
        last_known_elr: Option<Vec<i32>> { null_since: 0 },
        offline_replicas: Vec<i32> { ignorable: true },
    }
}

nullable_structures! { Cursor }
