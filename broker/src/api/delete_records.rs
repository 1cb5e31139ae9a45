//! DeleteRecords: moves a log's start up (KIP-107), into the middle of a batch too.
//!
//! Owns: which topics and offsets allow it.
//! Does not own: the move (`partition`), the deletes that follow from it (`hotlog`, `tiering`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use wire::ids::Offset;

use super::Context;
use crate::broker::Broker;
use crate::error_codes;
use crate::partition::{MoveStartError, Partition};
use crate::topics::Topic;

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let found = broker.topics().named(&topic.name).cloned();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let moved = move_start(found.as_deref(), asked).await;
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: moved.unwrap_or(-1),
                error_code: moved.err().unwrap_or(ErrorCode::NONE),
            });
        }
        response.topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    response
}

async fn move_start(topic: Option<&Topic>, asked: &DeleteRecordsPartition) -> Result<i64, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if !topic.config.delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let partition = topic.partition(asked.partition_index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let end = partition.hot().high_watermark();
    let to = match asked.offset {
        HIGH_WATERMARK => end,
        offset if (0..=end.0).contains(&offset) => Offset(offset),
        _ => return Err(ErrorCode::OFFSET_OUT_OF_RANGE),
    };
    move_partition(partition, to).await?;
    Ok(partition.log_start().0)
}

async fn move_partition(partition: &Partition, to: Offset) -> Result<(), ErrorCode> {
    if to <= partition.log_start() {
        return Ok(());
    }
    partition.move_log_start(to).await.map_err(|error| {
        tracing::warn!(partition = %partition.id(), %error, "a log start cannot be moved");
        match error {
            MoveStartError::Room(error) => error_codes::of_room(&error),
            MoveStartError::Change(error) => error_codes::of_change(&error),
        }
    })
}
