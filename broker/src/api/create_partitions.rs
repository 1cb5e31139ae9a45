//! CreatePartitions: more partitions for a topic, never fewer.
//!
//! Owns: the check of replicas assigned by hand.
//! Does not own: whether the topic may grow (`metadata::changes`), opening what is new (`broker`).

use std::sync::Arc;

use wire::api::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};

use super::{Context, message};
use crate::broker::{BROKER_ID, Broker, ChangeError};
use crate::error_codes;
use crate::metadata::changes::{self, ChangeRefused};

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut response = CreatePartitionsResponse::default();
    for topic in &request.topics {
        let mut result = CreatePartitionsTopicResult { name: topic.name.clone(), ..Default::default() };
        if let Err(error) = grow(broker, topic, request.validate_only).await {
            result.error_code = error_codes::of_topic_change(&error);
            result.error_message = message(&error);
        }
        response.results.push(result);
    }
    response
}

async fn grow(
    broker: &Arc<Broker>,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), ChangeError> {
    if let Some(assignments) = &topic.assignments {
        let current = broker.topics().named(&topic.name).map_or(0, |topic| topic.partitions.len());
        let more = usize::try_from(topic.count).unwrap_or(0).saturating_sub(current);
        if assignments.len() != more
            || assignments.iter().any(|assignment| assignment.broker_ids != [BROKER_ID])
        {
            let reason = "every new partition must have one replica, on broker 1";
            return Err(ChangeRefused::InvalidAssignment(reason).into());
        }
    }
    if validate_only {
        changes::add_partitions(&*broker.metadata().await, &topic.name, topic.count)?;
        return Ok(());
    }
    broker.change(|image| changes::add_partitions(image, &topic.name, topic.count)).await.map(drop)
}
