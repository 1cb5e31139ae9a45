//! ListOffsets (key 2): finds an offset by time, or by one of the names that negative times stand for.
//!
//! Served: versions 0 to 11. Kafka 4.3 itself begins at 1; old clients still send 0.
//! Behaviour: -1 is the end (high watermark, or last stable offset for read-committed), -2 the log start, -3 the record
//! with the largest time (version 7), -4 the local log start (8), -5 the last tiered offset (9), -6 the first offset that
//! is not uploaded yet (11).
//! Versions: 0 answers a list of offsets; 1 one offset and its time; 2 isolation level and throttle; 4 leader epochs;
//! 6 flexible; 10 a timeout for answers that need the remote store.
//! Does not own: how a place is found (`broker::api::list_offsets`), which of them a client asks for
//! (`client::offsets`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 2, name: "ListOffsets", served: (0, 11), advertised_since: 0, flexible_since: 6 };

messages! {
    flexible API.flexible_since;

    /// Asks for offsets by time.
    ListOffsetsRequest {
        replica_id: i32,
        isolation_level: i8 { since: 2 },
        topics: Vec<ListOffsetsTopic>,
        timeout_ms: i32 { since: 10, ignorable: true },
    }

    /// The partitions of one topic.
    ListOffsetsTopic {
        name: Text,
        partitions: Vec<ListOffsetsPartition>,
    }

    /// One partition and the time to look for.
    ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 { since: 4, ignorable: true } = -1,
        timestamp: i64,
        max_num_offsets: i32 { until: 0, ignorable: true } = 1,
    }

    /// The offsets asked for.
    ListOffsetsResponse {
        throttle_time_ms: i32 { since: 2, ignorable: true },
        topics: Vec<ListOffsetsTopicResponse>,
    }

    /// The offsets of one topic.
    ListOffsetsTopicResponse {
        name: Text,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    /// The offset of one partition.
    ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        /// The offsets of version 0, the largest first, as many as were asked for.
        old_style_offsets: Vec<i64> { until: 0 },
        timestamp: i64 { since: 1, ignorable: true } = -1,
        offset: i64 { since: 1 } = -1,
        leader_epoch: i32 { since: 4 } = -1,
    }
}
