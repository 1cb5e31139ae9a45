//! DescribeTopicPartitions: topics page by page (KIP-966).
//!
//! Owns: the order of topics, the limit of a page, the cursor. Does not own: the topics (`topics`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use wire::codec::Text;

use super::Context;
use crate::broker::{BROKER_ID, Broker};
use crate::error_codes;
use crate::metadata::changes::check_name;
use crate::topics::Topic;

/// Partitions one answer describes at most, as Kafka's `max.request.partition.size.limit`.
const MAX_PARTITIONS: usize = 2_000;

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let topics = broker.topics();
    let mut names: Vec<String> = if request.topics.is_empty() {
        topics.iter().map(|topic| topic.name.to_string()).collect()
    } else {
        request.topics.iter().map(|topic| String::from(&topic.name)).collect()
    };
    names.sort();
    names.dedup();
    let cursor = request.cursor.as_ref();
    if let Some(cursor) = cursor {
        names.retain(|name| name.as_str() >= &*cursor.topic_name);
    }
    let mut response = DescribeTopicPartitionsResponse::default();
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, MAX_PARTITIONS);
    let mut left = limit;
    for name in names {
        let Some(topic) = topics.named(&name) else {
            response.topics.push(unknown(&name));
            continue;
        };
        let first = cursor
            .filter(|cursor| *cursor.topic_name == *name)
            .map_or(0, |cursor| cursor.partition_index.max(0));
        let first = usize::try_from(first).unwrap_or(0).min(topic.partitions.len());
        let last = topic.partitions.len().min(first + left);
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: Text::from(&name), partition_index: 0 });
            break;
        }
        response.topics.push(describe(topic, first..last));
        left -= last - first;
        if last < topic.partitions.len() {
            let partition_index = i32::try_from(last).unwrap_or(i32::MAX);
            response.next_cursor = Some(Cursor { topic_name: Text::from(&name), partition_index });
            break;
        }
    }
    response
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error_code = match check_name(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(refused) => error_codes::of_change_refused(&refused),
    };
    DescribeTopicPartitionsResponseTopic { error_code, name: Some(Text::from(name)), ..Default::default() }
}

fn describe(topic: &Topic, range: std::ops::Range<usize>) -> DescribeTopicPartitionsResponseTopic {
    let first = i32::try_from(range.start).unwrap_or(i32::MAX);
    let partitions = topic.partitions[range].iter().zip(first..).map(|(partition, index)| {
        DescribeTopicPartitionsResponsePartition {
            partition_index: index,
            leader_id: BROKER_ID,
            leader_epoch: partition.leader_epoch().0,
            replica_nodes: vec![BROKER_ID],
            isr_nodes: vec![BROKER_ID],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..Default::default()
        }
    });
    DescribeTopicPartitionsResponseTopic {
        name: Some(Text::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
