//! Metadata: the broker, and topics with their leaders.
//!
//! Behaviour: unknown topics are made only where the broker was told to (`--dev`) and the client allows it.
//! Version notes: 0 has no null, so an empty list asks for all topics; 4 lets the client forbid creation; 12 asks by id.
//! Owns: which topics are asked for, and when one is made.
//! Does not own: the topics (`topics`), how one is made (`broker`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use wire::codec::Text;

use super::Context;
use crate::broker::{BROKER_ID, Broker, ChangeError};
use crate::error_codes;
use crate::groups::OFFSETS_TOPIC;
use crate::metadata::changes::check_name;
use crate::topics::Topic;

/// What a client may do where nobody is asked who they are; Kafka's codes of operations as bits.
const ALL_TOPIC_OPERATIONS: i32 = 0b1_1101_1111_1000 & !(1 << 9);
const ALL_CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: MetadataRequest,
) -> MetadataResponse {
    let all = match &request.topics {
        None => true,
        Some(topics) => context.version() == 0 && topics.is_empty(),
    };
    let operations =
        if request.include_topic_authorized_operations { ALL_TOPIC_OPERATIONS } else { i32::MIN };
    let mut topics: Vec<MetadataResponseTopic> = Vec::new();
    if all {
        topics.extend(broker.topics().iter().map(|topic| describe(topic)));
    } else {
        for asked in request.topics.unwrap_or_default() {
            topics.push(one(broker, &asked, request.allow_auto_topic_creation).await);
        }
    }
    for topic in &mut topics {
        topic.topic_authorized_operations = operations;
    }
    let wants_cluster = request.include_cluster_authorized_operations;
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: BROKER_ID,
            host: Text::from(&*broker.advertised.host),
            port: broker.port(),
            ..MetadataResponseBroker::default()
        }],
        cluster_id: Some(Text::from(broker.identity.cluster_id.to_string())),
        controller_id: BROKER_ID,
        topics,
        cluster_authorized_operations: if wants_cluster { ALL_CLUSTER_OPERATIONS } else { i32::MIN },
        ..MetadataResponse::default()
    }
}

async fn one(broker: &Arc<Broker>, asked: &MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let unknown = |error_code| MetadataResponseTopic {
        error_code,
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        ..MetadataResponseTopic::default()
    };
    if !asked.topic_id.is_zero() {
        let found = broker.topics().with_id(asked.topic_id).map(|topic| describe(topic));
        return found.unwrap_or_else(|| unknown(ErrorCode::UNKNOWN_TOPIC_ID));
    }
    let Some(name) = asked.name.as_deref() else { return unknown(ErrorCode::UNKNOWN_TOPIC_ID) };
    if let Some(topic) = broker.topics().named(name) {
        return describe(topic);
    }
    if let Err(refused) = check_name(name) {
        return unknown(error_codes::of_change_refused(&refused));
    }
    if !(may_create && broker.auto_create) {
        return unknown(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let made = if name == OFFSETS_TOPIC {
        broker.ensure_offsets_topic().await
    } else {
        broker.auto_create_topic(name).await
    };
    match made {
        Ok(()) => match broker.topics().named(name) {
            Some(topic) => describe(topic),
            None => unknown(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        },
        Err(ChangeError::Refused(refused)) => unknown(error_codes::of_change_refused(&refused)),
        Err(error) => {
            tracing::error!(topic = name, %error, "a topic cannot be made");
            unknown(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
    }
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| MetadataResponsePartition {
        partition_index: index,
        leader_id: BROKER_ID,
        leader_epoch: partition.leader_epoch().0,
        replica_nodes: vec![BROKER_ID],
        isr_nodes: vec![BROKER_ID],
        ..MetadataResponsePartition::default()
    });
    MetadataResponseTopic {
        name: Some(Text::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}
