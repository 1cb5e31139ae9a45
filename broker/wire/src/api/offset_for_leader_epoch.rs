//! OffsetForLeaderEpoch (key 23): where the log of a leader epoch ends (KIP-101, KIP-320).
//!
//! Served: versions 2 to 4.
//! Behaviour: answers the largest epoch that is not above the one asked for, and the offset after its last record.
//! Versions: 3 replica id; 4 flexible.
//! Does not own: the history of epochs (`hotlog::epochs`), the search in log and store (`broker::partition`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 23, name: "OffsetForLeaderEpoch", served: (2, 4), advertised_since: 2, flexible_since: 4 };

messages! {
    flexible API.flexible_since;

    /// Asks for ends of leader epochs.
    OffsetForLeaderEpochRequest {
        /// -1 for a consumer.
        replica_id: i32 { since: 3, ignorable: true } = -2,
        topics: Vec<OffsetForLeaderTopic>,
    }

    /// The partitions of one topic.
    OffsetForLeaderTopic {
        topic: Text,
        partitions: Vec<OffsetForLeaderPartition>,
    }

    /// One partition and the epoch to look for.
    OffsetForLeaderPartition {
        partition: i32,
        current_leader_epoch: i32 { ignorable: true } = -1,
        leader_epoch: i32,
    }

    /// The ends asked for.
    OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 { ignorable: true },
        topics: Vec<OffsetForLeaderTopicResult>,
    }

    /// The ends in one topic.
    OffsetForLeaderTopicResult {
        topic: Text,
        partitions: Vec<EpochEndOffset>,
    }

    /// The end in one partition.
    EpochEndOffset {
        error_code: ErrorCode,
        partition: i32,
        leader_epoch: i32 { ignorable: true } = -1,
        end_offset: i64 = -1,
    }
}
