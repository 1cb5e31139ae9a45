//! OffsetCommit (key 8): stores positions of a group.
//!
//! Served: versions 2 to 10.
//! Behaviour: the metadata string comes back from OffsetFetch exactly as it was sent. A generation of -1 with an empty
//! member id is a commit from outside of the group's membership.
//! Versions: 2 to 4 a retention time; 3 throttle; 6 leader epoch; 7 static members (KIP-345); 8 flexible; 9 for KIP-848
//! members; 10 topics by id instead of by name.
//! Does not own: which positions are refused (`broker::api::offset_commit`), how they are stored
//! (`broker::groups::records`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::ids::TopicId;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 8, name: "OffsetCommit", served: (2, 10), advertised_since: 2, flexible_since: 8 };

messages! {
    flexible API.flexible_since;

    /// Positions to store.
    OffsetCommitRequest {
        group_id: Text,
        generation_id_or_member_epoch: i32 { ignorable: true } = -1,
        member_id: Text { ignorable: true },
        group_instance_id: Option<Text> { since: 7, null_since: 7 },
        retention_time_ms: i64 { until: 4, ignorable: true } = -1,
        topics: Vec<OffsetCommitRequestTopic>,
    }

    /// Positions in one topic.
    OffsetCommitRequestTopic {
        name: Text { until: 9, ignorable: true },
        topic_id: TopicId { since: 10, ignorable: true },
        partitions: Vec<OffsetCommitRequestPartition>,
    }

    /// A position in one partition.
    OffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 { since: 6, ignorable: true } = -1,
        committed_metadata: Option<Text> { null_since: 0 } = Some(Text::EMPTY),
    }

    /// What became of each position.
    OffsetCommitResponse {
        throttle_time_ms: i32 { since: 3, ignorable: true },
        topics: Vec<OffsetCommitResponseTopic>,
    }

    /// What became of the positions in one topic.
    OffsetCommitResponseTopic {
        name: Text { until: 9, ignorable: true },
        topic_id: TopicId { since: 10, ignorable: true },
        partitions: Vec<OffsetCommitResponsePartition>,
    }

    /// What became of one position.
    OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
