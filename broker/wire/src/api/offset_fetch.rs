//! OffsetFetch (key 9): reads positions of groups.
//!
//! Served: versions 1 to 10.
//! Behaviour: null topics (version 2) mean all that the group has; a position of -1 means none.
//! Versions: 2 top-level error; 3 throttle; 5 leader epoch; 6 flexible; 7 can insist on stable offsets (KIP-447);
//! 8 several groups at once, which moves everything into `groups`; 9 KIP-848 members; 10 topics by id instead of by name.
//! Does not own: which positions still count (`broker::api::offset_fetch`), where they are kept
//! (`broker::groups::offsets`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::ids::TopicId;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 9, name: "OffsetFetch", served: (1, 10), advertised_since: 1, flexible_since: 6 };

messages! {
    flexible API.flexible_since;

    /// Asks for positions: of one group up to version 7, of several from 8 on.
    OffsetFetchRequest {
        group_id: Text { until: 7 },
        /// Null for all of the group's topics.
        topics: Option<Vec<OffsetFetchRequestTopic>> { until: 7, null_since: 2 } = Some(Vec::new()),
        groups: Vec<OffsetFetchRequestGroup> { since: 8 },
        require_stable: bool { since: 7 },
    }

    /// The partitions of one topic, up to version 7.
    OffsetFetchRequestTopic {
        name: Text,
        partition_indexes: Vec<i32>,
    }

    /// One group and what to tell of it.
    OffsetFetchRequestGroup {
        group_id: Text,
        member_id: Option<Text> { since: 9, null_since: 9, ignorable: true },
        member_epoch: i32 { since: 9, ignorable: true } = -1,
        /// Null for all of the group's topics.
        topics: Option<Vec<OffsetFetchRequestTopics>> { null_since: 8 } = Some(Vec::new()),
    }

    /// The partitions of one topic, from version 8 on.
    OffsetFetchRequestTopics {
        name: Text { until: 9, ignorable: true },
        topic_id: TopicId { since: 10, ignorable: true },
        partition_indexes: Vec<i32>,
    }

    /// The positions asked for.
    OffsetFetchResponse {
        throttle_time_ms: i32 { since: 3, ignorable: true },
        topics: Vec<OffsetFetchResponseTopic> { until: 7 },
        error_code: ErrorCode { since: 2, until: 7, ignorable: true },
        groups: Vec<OffsetFetchResponseGroup> { since: 8 },
    }

    /// Positions in one topic, up to version 7.
    OffsetFetchResponseTopic {
        name: Text,
        partitions: Vec<OffsetFetchResponsePartition>,
    }

    /// A position in one partition, up to version 7.
    OffsetFetchResponsePartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 { since: 5, ignorable: true } = -1,
        metadata: Option<Text> { null_since: 0 } = Some(Text::EMPTY),
        error_code: ErrorCode,
    }

    /// The positions of one group.
    OffsetFetchResponseGroup {
        group_id: Text,
        topics: Vec<OffsetFetchResponseTopics>,
        error_code: ErrorCode,
    }

    /// Positions in one topic, from version 8 on.
    OffsetFetchResponseTopics {
        name: Text { until: 9, ignorable: true },
        topic_id: TopicId { since: 10, ignorable: true },
        partitions: Vec<OffsetFetchResponsePartitions>,
    }

    /// A position in one partition, from version 8 on.
    OffsetFetchResponsePartitions {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 { ignorable: true } = -1,
        metadata: Option<Text> { null_since: 8 } = Some(Text::EMPTY),
        error_code: ErrorCode,
    }
}
