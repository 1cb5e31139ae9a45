//! DeleteTopics, by name or (version 6) by id.
//!
//! Owns: finding the topic that is meant.
//! Does not own: the decision (`metadata::changes`), taking its partitions out of service (`broker`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};

use super::{Context, message};
use crate::broker::{Broker, ChangeError};
use crate::error_codes;
use crate::metadata::changes;

/// First version that takes ids.
const STATES_SINCE: i16 = 6;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let asked = if context.version() >= STATES_SINCE {
        request.topics
    } else {
        let named = |name| DeleteTopicState { name: Some(name), ..DeleteTopicState::default() };
        request.topic_names.into_iter().map(named).collect()
    };
    let mut response = DeleteTopicsResponse::default();
    for topic in asked {
        response.responses.push(delete(broker, topic).await);
    }
    response
}

async fn delete(broker: &Arc<Broker>, asked: DeleteTopicState) -> DeletableTopicResult {
    let mut result = DeletableTopicResult {
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        error_message: None,
        ..DeletableTopicResult::default()
    };
    let topics = broker.topics();
    let found = match (&asked.name, asked.topic_id) {
        (Some(_), id) if !id.is_zero() => Err(ErrorCode::INVALID_REQUEST),
        (Some(name), _) => topics.named(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (None, id) => topics.with_id(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
    };
    let topic = match found {
        Ok(topic) => topic,
        Err(code) => {
            result.error_code = code;
            result.error_message = message(&"there is no such topic, or it is named twice over");
            return result;
        }
    };
    result.name = Some(wire::codec::Text::from(&*topic.name));
    result.topic_id = topic.id;
    let now_ms = broker.clock.wall_ms();
    match broker.change(|image| changes::delete_topic(image, topic.id, now_ms)).await {
        Ok(_) => tracing::info!(topic = %topic.name, id = %topic.id, "topic deleted"),
        Err(error) => {
            if !matches!(error, ChangeError::Refused(_)) {
                tracing::error!(topic = %topic.name, %error, "a topic cannot be deleted");
            }
            result.error_code = error_codes::of_topic_change(&error);
            result.error_message = message(&error);
        }
    }
    result
}
