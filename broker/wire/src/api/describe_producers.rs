//! DescribeProducers (key 61): the producers that a partition's leader remembers (KIP-664).
//!
//! Served: version 0, flexible.
//! Does not own: what is remembered of a producer, and for how long (`hotlog::producers`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 61, name: "DescribeProducers", served: (0, 0), advertised_since: 0, flexible_since: 0 };

messages! {
    flexible API.flexible_since;

    /// Asks for the producers of partitions.
    DescribeProducersRequest {
        topics: Vec<TopicRequest>,
    }

    /// The partitions of one topic.
    TopicRequest {
        name: Text,
        partition_indexes: Vec<i32>,
    }

    /// The producers asked for.
    DescribeProducersResponse {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse>,
    }

    /// The producers of one topic's partitions.
    TopicResponse {
        name: Text,
        partitions: Vec<PartitionResponse>,
    }

    /// The producers of one partition.
    PartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<Text> { null_since: 0 },
        active_producers: Vec<ProducerState>,
    }

    /// One producer.
    ProducerState {
        producer_id: i64,
        producer_epoch: i32,
        last_sequence: i32 = -1,
        last_timestamp: i64 = -1,
        coordinator_epoch: i32,
        /// -1 outside of a transaction.
        current_txn_start_offset: i64 = -1,
    }
}
