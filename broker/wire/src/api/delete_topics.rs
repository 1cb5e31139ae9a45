//! DeleteTopics (key 20): deletes topics by name or by id.
//!
//! Served: versions 1 to 6.
//! Versions: 4 flexible; 5 error message; 6 topics by id, which replaces `topic_names` by `topics`.
//! Does not own: which topic is meant (`broker::api::delete_topics`), what its deletion takes along
//! (`broker::broker`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::ids::TopicId;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 20, name: "DeleteTopics", served: (1, 6), advertised_since: 1, flexible_since: 4 };

messages! {
    flexible API.flexible_since;

    /// Topics to delete.
    DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> { since: 6 },
        topic_names: Vec<Text> { until: 5, ignorable: true },
        timeout_ms: i32,
    }

    /// One topic to delete, by name or by id.
    DeleteTopicState {
        name: Option<Text> { null_since: 6 },
        topic_id: TopicId,
    }

    /// What became of each topic.
    DeleteTopicsResponse {
        throttle_time_ms: i32 { ignorable: true },
        responses: Vec<DeletableTopicResult>,
    }

    /// What became of one topic.
    DeletableTopicResult {
        name: Option<Text> { null_since: 6 } = Some(Text::EMPTY),
        topic_id: TopicId { since: 6, ignorable: true },
        error_code: ErrorCode,
        error_message: Option<Text> { since: 5, null_since: 5, ignorable: true },
    }
}
