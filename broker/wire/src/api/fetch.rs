//! Fetch (key 1): reads batches from partitions, waiting for data if asked to.
//!
//! Served: versions 4 to 18.
//! Behaviour: `records` is never null in a response, not even beside an error: librdkafka relies on it. A session
//! (version 7, KIP-227) lets both sides leave out partitions that did not change.
//! Versions: 5 log start offset; 7 sessions and a top-level error; 9 current leader epoch (KIP-320); 10 zstd allowed;
//! 11 rack and preferred read replica (KIP-392); 12 flexible, diverging epoch; 13 topics by id instead of by name;
//! 15 replica state (KIP-903); 16 leader hints (KIP-951); 17 replica directory id; 18 the follower's high watermark.
//! Does not own: waiting for data (`broker::api::fetch`), what a session remembers (`broker::fetch_sessions`), what
//! is in `records` (`batch`).

use super::Api;
use crate::codec::{Records, Text};
use crate::error_code::ErrorCode;
use crate::ids::TopicId;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api = Api { key: 1, name: "Fetch", served: (4, 18), advertised_since: 4, flexible_since: 12 };

messages! {
    flexible API.flexible_since;

    /// Asks for batches.
    FetchRequest {
        cluster_id: Option<Text> { since: 12, null_since: 12, tag: 0, ignorable: true },
        /// -1 for a consumer.
        replica_id: i32 { until: 14 } = -1,
        replica_state: ReplicaState { since: 15, tag: 1 },
        max_wait_ms: i32,
        min_bytes: i32,
        /// For the response as a whole; the first batch comes even if it is larger.
        max_bytes: i32 { ignorable: true } = i32::MAX,
        /// 0 reads up to the high watermark, 1 up to the last stable offset.
        isolation_level: i8 { ignorable: true },
        /// 0 for none, or for a new one.
        session_id: i32 { since: 7, ignorable: true },
        /// -1 without or to end a session, 0 for a new one.
        session_epoch: i32 { since: 7, ignorable: true } = -1,
        topics: Vec<FetchTopic>,
        forgotten_topics_data: Vec<ForgottenTopic> { since: 7 },
        rack_id: Text { since: 11, ignorable: true },
    }

    /// Who fetches, when it is a replica.
    ReplicaState {
        replica_id: i32 = -1,
        replica_epoch: i64 = -1,
    }

    /// The partitions of one topic to fetch.
    FetchTopic {
        topic: Text { until: 12, ignorable: true },
        topic_id: TopicId { since: 13, ignorable: true },
        partitions: Vec<FetchPartition>,
    }

    /// One partition to fetch.
    FetchPartition {
        partition: i32,
        current_leader_epoch: i32 { since: 9, ignorable: true } = -1,
        fetch_offset: i64,
        last_fetched_epoch: i32 { since: 12 } = -1,
        log_start_offset: i64 { since: 5, ignorable: true } = -1,
        /// As for the request: the first batch comes even if it is larger.
        partition_max_bytes: i32,
        replica_directory_id: TopicId { since: 17, tag: 0, ignorable: true },
        high_watermark: i64 { since: 18, tag: 1, ignorable: true } = i64::MAX,
    }

    /// Partitions to drop from the session.
    ForgottenTopic {
        topic: Text { until: 12, ignorable: true },
        topic_id: TopicId { since: 13, ignorable: true },
        partitions: Vec<i32>,
    }

    /// The batches asked for.
    FetchResponse {
        throttle_time_ms: i32 { ignorable: true },
        error_code: ErrorCode { since: 7, ignorable: true },
        session_id: i32 { since: 7 },
        responses: Vec<FetchableTopicResponse>,
        node_endpoints: Vec<NodeEndpoint> { since: 16, tag: 0 },
    }

    /// The batches of one topic.
    FetchableTopicResponse {
        topic: Text { until: 12, ignorable: true },
        topic_id: TopicId { since: 13, ignorable: true },
        partitions: Vec<PartitionData>,
    }

    /// The batches of one partition.
    PartitionData {
        partition_index: i32,
        error_code: ErrorCode,
        high_watermark: i64,
        /// -1 where it is not known.
        last_stable_offset: i64 { ignorable: true } = -1,
        log_start_offset: i64 { since: 5, ignorable: true } = -1,
        diverging_epoch: EpochEndOffset { since: 12, tag: 0 },
        current_leader: LeaderIdAndEpoch { since: 12, tag: 1 },
        snapshot_id: SnapshotId { since: 12, tag: 2 },
        /// Null unless the fetch reads committed records only.
        aborted_transactions: Option<Vec<AbortedTransaction>> { null_since: 4, ignorable: true } = Some(Vec::new()),
        preferred_read_replica: i32 { since: 11 } = -1,
        /// Whole batches; never null in an answer of ours.
        records: Option<Records> { null_since: 0 } = Some(Records::default()),
    }

    /// Where the fetcher's log and the leader's part.
    EpochEndOffset {
        epoch: i32 = -1,
        end_offset: i64 = -1,
    }

    /// Who leads the partition now, for a client that asked another.
    LeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    /// A snapshot to read before the log; only for the metadata log.
    SnapshotId {
        end_offset: i64 = -1,
        epoch: i32 = -1,
    }

    /// A transaction in the range whose records are to be left out.
    AbortedTransaction {
        producer_id: i64,
        first_offset: i64,
    }

    /// Address of a broker that the response names as a leader.
    NodeEndpoint {
        node_id: i32,
        host: Text,
        port: i32,
        rack: Option<Text> { null_since: 16 },
    }
}
