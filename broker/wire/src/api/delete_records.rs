//! DeleteRecords (key 21): moves the log start of partitions up (KIP-107).
//!
//! Served: versions 0 to 2.
//! Behaviour: offset -1 means the high watermark. The response tells the new log start.
//! Versions: 2 flexible.
//! Does not own: how far a start may be moved (`broker::api::delete_records`), the move (`broker::partition`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 21, name: "DeleteRecords", served: (0, 2), advertised_since: 0, flexible_since: 2 };

messages! {
    flexible API.flexible_since;

    /// Log starts to move.
    DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic>,
        timeout_ms: i32,
    }

    /// Log starts to move in one topic.
    DeleteRecordsTopic {
        name: Text,
        partitions: Vec<DeleteRecordsPartition>,
    }

    /// The new log start of one partition.
    DeleteRecordsPartition {
        partition_index: i32,
        /// -1 for the high watermark.
        offset: i64,
    }

    /// What became of each log start.
    DeleteRecordsResponse {
        throttle_time_ms: i32,
        topics: Vec<DeleteRecordsTopicResult>,
    }

    /// What became of the log starts in one topic.
    DeleteRecordsTopicResult {
        name: Text,
        partitions: Vec<DeleteRecordsPartitionResult>,
    }

    /// What became of one log start.
    DeleteRecordsPartitionResult {
        partition_index: i32,
        /// The log start afterwards; -1 beside an error.
        low_watermark: i64,
        error_code: ErrorCode,
    }
}
