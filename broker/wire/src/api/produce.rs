//! Produce (key 0): appends batches to partitions.
//!
//! Served: versions 3 to 13. Announced: 0 to 13, as Kafka does, since librdkafka before 2.12 takes an announced minimum
//! above 0 for "no compression" and sends uncompressed data; versions 0 to 2 are refused all the same.
//! Behaviour: one entry per partition, each with exactly one batch (version 3 on). Records pass as a slice of the frame.
//! With `acks` 0 there is no response at all.
//! Versions: 5 log start offset in the response; 7 zstd allowed; 8 per-record errors; 9 flexible; 10 leader hints
//! (KIP-951); 11 and 12 differ in transactions only (KIP-890); 13 topics by id instead of by name.
//! Does not own: the batch (`batch`), whether it is taken (`broker::validation`), what an error says of its fate
//! (`client::produce`).

use super::Api;
use crate::codec::{Records, Text};
use crate::error_code::ErrorCode;
use crate::ids::TopicId;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api = Api { key: 0, name: "Produce", served: (3, 13), advertised_since: 0, flexible_since: 9 };

messages! {
    flexible API.flexible_since;

    /// Asks for batches to be appended.
    ProduceRequest {
        transactional_id: Option<Text> { null_since: 3 },
        /// 0 none and no response, 1 the leader, -1 all in-sync replicas.
        acks: i16,
        timeout_ms: i32,
        /// The topics, each at most once.
        topic_data: Vec<TopicProduceData>,
    }

    /// The batches for one topic.
    TopicProduceData {
        name: Text { until: 12, ignorable: true },
        topic_id: TopicId { since: 13, ignorable: true },
        partition_data: Vec<PartitionProduceData>,
    }

    /// The batch for one partition.
    PartitionProduceData {
        index: i32,
        /// Exactly one batch of magic 2.
        records: Option<Records> { null_since: 0 } = Some(Records::default()),
    }

    /// What became of each batch.
    ProduceResponse {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32 { ignorable: true },
        node_endpoints: Vec<NodeEndpoint> { since: 10, tag: 0 },
    }

    /// What became of the batches of one topic.
    TopicProduceResponse {
        name: Text { until: 12, ignorable: true },
        topic_id: TopicId { since: 13, ignorable: true },
        partition_responses: Vec<PartitionProduceResponse>,
    }

    /// What became of one partition's batch.
    PartitionProduceResponse {
        index: i32,
        error_code: ErrorCode,
        /// -1 beside an error.
        base_offset: i64,
        /// -1 where the record times are the producer's.
        log_append_time_ms: i64 { ignorable: true } = -1,
        log_start_offset: i64 { since: 5, ignorable: true } = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> { since: 8, ignorable: true },
        error_message: Option<Text> { since: 8, null_since: 8, ignorable: true },
        current_leader: LeaderIdAndEpoch { since: 10, tag: 0 },
    }

    /// A record that caused its batch to be refused.
    BatchIndexAndErrorMessage {
        batch_index: i32,
        batch_index_error_message: Option<Text> { null_since: 8 },
    }

    /// Who leads the partition now, for a client that asked another.
    LeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    /// Address of a broker that the response names as a leader.
    NodeEndpoint {
        node_id: i32,
        host: Text,
        port: i32,
        rack: Option<Text> { null_since: 10 },
    }
}
