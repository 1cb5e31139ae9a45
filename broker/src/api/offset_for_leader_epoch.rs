//! OffsetForLeaderEpoch: where an epoch ended, so that a consumer notices a log that lost records (KIP-320).
//!
//! Owns: that an epoch nobody knows is no error.
//! Does not own: the search in log and store (`partition`), the history (`hotlog::epochs`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use wire::ids::LeaderEpoch;

use super::{Context, check_epoch};
use crate::broker::Broker;
use crate::topics::Topic;

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = broker.topics();
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let found = topics.named(&topic.topic);
        let partitions = topic.partitions.iter().map(|asked| answer(found.map(Arc::as_ref), asked)).collect();
        response.topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    response
}

fn answer(topic: Option<&Topic>, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let refused =
        |error_code| EpochEndOffset { partition: asked.partition, error_code, ..Default::default() };
    let Some(partition) = topic.and_then(|topic| topic.partition(asked.partition)) else {
        return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    if let Err(code) = check_epoch(asked.current_leader_epoch, partition.leader_epoch().0) {
        return refused(code);
    }
    match partition.offset_for_leader_epoch(LeaderEpoch(asked.leader_epoch)) {
        Some((epoch, end)) => EpochEndOffset {
            partition: asked.partition,
            leader_epoch: epoch.0,
            end_offset: end.0,
            ..Default::default()
        },
        None => refused(ErrorCode::NONE),
    }
}
