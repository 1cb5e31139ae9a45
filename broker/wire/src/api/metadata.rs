//! Metadata (key 3): brokers, controller, topics and their partitions' leaders.
//!
//! Served: versions 0 to 13.
//! Behaviour: an empty list of topics means all of them in version 0, and none from 1 on, where null means all.
//! Versions: 1 rack, controller, internal topics; 2 cluster id; 4 may forbid the creation of missing topics; 5 offline
//! replicas; 7 leader epochs; 8 authorized operations; 9 flexible; 10 topic ids; 11 cluster operations moved to
//! DescribeCluster; 12 topics asked for by id alone; 13 a top-level error that tells clients to bootstrap again.
//! Does not own: whether a missing topic is made (`broker::api::metadata`), what a client keeps of the answer
//! (`client::layout`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::ids::TopicId;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 3, name: "Metadata", served: (0, 13), advertised_since: 0, flexible_since: 9 };

messages! {
    flexible API.flexible_since;

    /// Asks for the cluster's layout.
    MetadataRequest {
        /// Null for all topics; in version 0, which has no null, empty for all.
        topics: Option<Vec<MetadataRequestTopic>> { null_since: 1 } = Some(Vec::new()),
        allow_auto_topic_creation: bool { since: 4 } = true,
        include_cluster_authorized_operations: bool { since: 8, until: 10 },
        include_topic_authorized_operations: bool { since: 8 },
    }

    /// One topic to describe.
    MetadataRequestTopic {
        topic_id: TopicId { since: 10, ignorable: true },
        name: Option<Text> { null_since: 10 } = Some(Text::EMPTY),
    }

    /// The cluster's layout.
    MetadataResponse {
        throttle_time_ms: i32 { since: 3, ignorable: true },
        brokers: Vec<MetadataResponseBroker>,
        cluster_id: Option<Text> { since: 2, null_since: 2, ignorable: true },
        controller_id: i32 { since: 1, ignorable: true } = -1,
        topics: Vec<MetadataResponseTopic>,
        /// A bit per operation; `i32::MIN` where it was not asked for.
        cluster_authorized_operations: i32 { since: 8, until: 10 } = i32::MIN,
        error_code: ErrorCode { since: 13, ignorable: true },
    }

    /// One broker.
    MetadataResponseBroker {
        node_id: i32,
        host: Text,
        port: i32,
        rack: Option<Text> { since: 1, null_since: 1, ignorable: true },
    }

    /// One topic.
    MetadataResponseTopic {
        error_code: ErrorCode,
        name: Option<Text> { null_since: 12 } = Some(Text::EMPTY),
        topic_id: TopicId { since: 10, ignorable: true },
        is_internal: bool { since: 1, ignorable: true },
        partitions: Vec<MetadataResponsePartition>,
        /// A bit per operation; `i32::MIN` where it was not asked for.
        topic_authorized_operations: i32 { since: 8 } = i32::MIN,
    }

    /// One partition.
    MetadataResponsePartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 { since: 7, ignorable: true } = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> { since: 5, ignorable: true },
    }
}
