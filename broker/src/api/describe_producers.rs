//! DescribeProducers: who writes to a partition, and how far (KIP-664).
//!
//! Owns: finding the partitions.
//! Does not own: what is remembered of a producer, and for how long (`hotlog::producers`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};

use super::{Context, message};
use crate::broker::Broker;
use crate::partition::Partition;

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = broker.topics();
    let mut response = DescribeProducersResponse::default();
    for topic in request.topics {
        let found = topics.named(&topic.name);
        let partitions = topic.partition_indexes.iter().map(|index| {
            match found.and_then(|topic| topic.partition(*index)) {
                Some(partition) => describe(*index, partition),
                None => PartitionResponse {
                    partition_index: *index,
                    error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    error_message: message(&"there is no such partition"),
                    ..PartitionResponse::default()
                },
            }
        });
        response.topics.push(TopicResponse { partitions: partitions.collect(), name: topic.name });
    }
    response
}

fn describe(index: i32, partition: &Partition) -> PartitionResponse {
    let producers = partition.hot().producers();
    let described = producers.into_iter().map(|producer| ProducerState {
        producer_id: producer.producer_id.0,
        producer_epoch: i32::from(producer.producer_epoch.0),
        last_sequence: producer.last_sequence.unwrap_or(-1),
        last_timestamp: producer.last_append_time_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.map_or(-1, |offset| offset.0),
    });
    PartitionResponse {
        partition_index: index,
        active_producers: described.collect(),
        ..PartitionResponse::default()
    }
}
