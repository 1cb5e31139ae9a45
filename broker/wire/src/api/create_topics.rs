//! CreateTopics (key 19): creates topics, or says whether it would.
//!
//! Served: versions 2 to 7.
//! Behaviour: partitions and replication factor of -1 mean the broker's defaults (version 4).
//! Versions: 5 flexible, and the response tells partitions and configs; 7 topic id in the response.
//! Does not own: which names and numbers are legal (`broker::metadata::changes`), what a config means
//! (`broker::topic_config`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::ids::TopicId;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 19, name: "CreateTopics", served: (2, 7), advertised_since: 2, flexible_since: 5 };

messages! {
    flexible API.flexible_since;

    /// Topics to create.
    CreateTopicsRequest {
        topics: Vec<CreatableTopic>,
        timeout_ms: i32 = 60000,
        validate_only: bool,
    }

    /// One topic to create.
    CreatableTopic {
        name: Text,
        /// -1 for the broker's default, or beside assignments.
        num_partitions: i32,
        /// -1 for the broker's default, or beside assignments.
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig>,
    }

    /// Brokers for one partition, chosen by the client.
    CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }

    /// A config to set.
    CreatableTopicConfig {
        name: Text,
        value: Option<Text> { null_since: 0 } = Some(Text::EMPTY),
    }

    /// What became of each topic.
    CreateTopicsResponse {
        throttle_time_ms: i32 { ignorable: true },
        topics: Vec<CreatableTopicResult>,
    }

    /// What became of one topic.
    CreatableTopicResult {
        name: Text,
        topic_id: TopicId { since: 7, ignorable: true },
        error_code: ErrorCode,
        error_message: Option<Text> { null_since: 1, ignorable: true } = Some(Text::EMPTY),
        topic_config_error_code: ErrorCode { since: 5, tag: 0, ignorable: true },
        num_partitions: i32 { since: 5, ignorable: true } = -1,
        replication_factor: i16 { since: 5, ignorable: true } = -1,
        configs: Option<Vec<CreatableTopicConfigs>> { since: 5, null_since: 5, ignorable: true } = Some(Vec::new()),
    }

    /// A config that the topic has.
    CreatableTopicConfigs {
        name: Text,
        value: Option<Text> { null_since: 5 } = Some(Text::EMPTY),
        read_only: bool,
        config_source: i8 { ignorable: true } = -1,
        is_sensitive: bool,
    }
}
