//! CreatePartitions (key 37): raises the number of partitions of topics.
//!
//! Served: versions 0 to 3.
//! Behaviour: `count` is the new total, not an increase.
//! Versions: 2 flexible; 3 may report a throttling quota.
//! Does not own: whether a topic may grow (`broker::metadata::changes`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 37, name: "CreatePartitions", served: (0, 3), advertised_since: 0, flexible_since: 2 };

messages! {
    flexible API.flexible_since;

    /// Topics that shall have more partitions.
    CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>,
        timeout_ms: i32,
        validate_only: bool,
    }

    /// One topic and its new number of partitions.
    CreatePartitionsTopic {
        name: Text,
        /// The new total.
        count: i32,
        assignments: Option<Vec<CreatePartitionsAssignment>> { null_since: 0 } = Some(Vec::new()),
    }

    /// Brokers for one new partition, chosen by the client.
    CreatePartitionsAssignment {
        broker_ids: Vec<i32>,
    }

    /// What became of each topic.
    CreatePartitionsResponse {
        throttle_time_ms: i32,
        results: Vec<CreatePartitionsTopicResult>,
    }

    /// What became of one topic.
    CreatePartitionsTopicResult {
        name: Text,
        error_code: ErrorCode,
        error_message: Option<Text> { null_since: 0 },
    }
}
