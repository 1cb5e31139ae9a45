//! CreateTopics.
//!
//! Behaviour: each topic is made or refused on its own. -1 takes the broker's default number of partitions or replicas;
//! replicas assigned by hand must all be this broker. A topic named twice is refused twice.
//! Version notes: 4 defaults by -1; 5 the configs in the answer; 7 the topic's id.
//! Owns: from an entry of the request to a wish, and back to an answer.
//! Does not own: whether the wish is granted (`metadata::changes`), whether the topic is tiered (`broker`), its
//! settings (`topic_config`).

use std::collections::HashMap;
use std::sync::Arc;

use wire::ErrorCode;
use wire::api::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use wire::codec::Text;

use super::describe_configs::source_of;
use super::{Context, message};
use crate::broker::{BROKER_ID, Broker, ChangeError, DEFAULT_PARTITIONS};
use crate::error_codes;
use crate::metadata::changes::{ChangeRefused, NewTopic};
use crate::metadata::records::MetadataRecord;
use crate::topic_config::{InvalidConfig, Overrides, SETTINGS, value_of};

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut named: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *named.entry(&topic.name).or_default() += 1;
    }
    let mut response = CreateTopicsResponse::default();
    for topic in &request.topics {
        let result = if named[&*topic.name] > 1 {
            failure(topic, ErrorCode::INVALID_REQUEST, &"the request names this topic more than once")
        } else {
            create(broker, topic, request.validate_only).await
        };
        response.topics.push(result);
    }
    response
}

async fn create(broker: &Arc<Broker>, topic: &CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let wish = match wish(broker, topic) {
        Ok(wish) => wish,
        Err(refused) => return failure(topic, error_codes::of_change_refused(&refused), &refused),
    };
    match broker.create_topic(wish, validate_only).await {
        Ok(MetadataRecord::TopicCreated { topic_id, partitions, configs, .. }) => CreatableTopicResult {
            name: topic.name.clone(),
            topic_id: if validate_only { wire::TopicId::ZERO } else { topic_id },
            error_message: None,
            num_partitions: partitions,
            replication_factor: 1,
            configs: Some(described(&configs)),
            ..CreatableTopicResult::default()
        },
        Ok(_) => failure(topic, ErrorCode::UNKNOWN_SERVER_ERROR, &"the change was not the one asked for"),
        Err(error) => {
            if !matches!(error, ChangeError::Refused(_)) {
                tracing::error!(topic = %topic.name, %error, "a topic cannot be made");
            }
            failure(topic, error_codes::of_topic_change(&error), &error)
        }
    }
}

fn wish(broker: &Broker, topic: &CreatableTopic) -> Result<NewTopic, ChangeRefused> {
    let mut configs = Overrides::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let reason = "a value is required".to_owned();
            return Err(InvalidConfig::Value {
                name: String::from(&config.name),
                value: "null".to_owned(),
                reason,
            }
            .into());
        };
        configs.insert(String::from(&config.name), String::from(value));
    }
    let partitions = if topic.assignments.is_empty() {
        if topic.num_partitions == -1 { DEFAULT_PARTITIONS } else { topic.num_partitions }
    } else {
        assigned_partitions(topic)?
    };
    let defaulted = topic.replication_factor == -1;
    Ok(NewTopic {
        replication_factor: if defaulted { 1 } else { topic.replication_factor },
        ..broker.wish(&topic.name, partitions, configs)
    })
}

fn assigned_partitions(topic: &CreatableTopic) -> Result<i32, ChangeRefused> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Err(ChangeRefused::Contradiction(
            "give either replicas by hand or a number of partitions and replicas, not both",
        ));
    }
    let mut indexes: Vec<i32> =
        topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    if indexes.iter().zip(0..).any(|(index, expected)| *index != expected) {
        return Err(ChangeRefused::InvalidAssignment("partitions must be numbered from 0 without a gap"));
    }
    if topic.assignments.iter().any(|assignment| assignment.broker_ids != [BROKER_ID]) {
        return Err(ChangeRefused::InvalidAssignment("every partition must have one replica, on broker 1"));
    }
    i32::try_from(indexes.len()).map_err(|_| ChangeRefused::TooManyPartitions)
}

fn described(configs: &Overrides) -> Vec<CreatableTopicConfigs> {
    let described = |setting: &crate::topic_config::Setting| CreatableTopicConfigs {
        name: Text::from(setting.name),
        value: Some(Text::from(value_of(configs, setting.name))),
        read_only: false,
        config_source: source_of(configs, setting.name),
        is_sensitive: false,
    };
    SETTINGS.iter().map(described).collect()
}

fn failure(
    topic: &CreatableTopic,
    error_code: ErrorCode,
    error: &impl std::fmt::Display,
) -> CreatableTopicResult {
    CreatableTopicResult {
        name: topic.name.clone(),
        error_code,
        error_message: message(error),
        configs: None,
        ..CreatableTopicResult::default()
    }
}
