//! ListOffsets: where a log starts and ends, and which offset a time has.
//!
//! Behaviour: -1 the end that the isolation level may read, -2 the log's start, -3 the record with the largest time,
//! -4 the first offset on local disk (KIP-405), -5 the last offset in the store (KIP-1005), -6 the first offset not
//! yet in the store (KIP-1023); any other number is a time in milliseconds. Beside the offset stands the epoch that wrote
//! it; for an end of the log the one that will.
//! Version notes: 0 answers with a list; 4 leader epochs; 7, 8, 9 and 11 bring -3, -4, -5 and -6.
//! Owns: the meaning of the negative numbers, each from its version on.
//! Does not own: the ends of a log and the search by time (`partition`).

use std::sync::Arc;

use hotlog::Isolation;
use wire::ErrorCode;
use wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use wire::ids::Offset;

use super::{Context, check_epoch};
use crate::broker::Broker;
use crate::error_codes;
use crate::partition::{Partition, TimedOffset};

/// First version that tells leader epochs.
const EPOCHS_SINCE: i16 = 4;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation =
        if request.isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let found = broker.topics().named(&topic.name).cloned();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let partition = found.as_ref().and_then(|topic| topic.partition(asked.partition_index));
            partitions.push(match partition {
                Some(partition) => answer(context, partition, asked, isolation).await,
                None => refused(asked, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            });
        }
        response.topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    response
}

fn refused(asked: &ListOffsetsPartition, error_code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse { partition_index: asked.partition_index, error_code, ..Default::default() }
}

async fn answer(
    context: &Context,
    partition: &Partition,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
) -> ListOffsetsPartitionResponse {
    if let Err(code) = check_epoch(asked.current_leader_epoch, partition.leader_epoch().0) {
        return refused(asked, code);
    }
    let found = match find(context.version(), partition, asked.timestamp, isolation).await {
        Ok(found) => found,
        Err(code) => return refused(asked, code),
    };
    let (offset, timestamp) = found.map_or((-1, -1), |found| (found.offset.0, found.timestamp_ms));
    let tells_epoch = context.version() >= EPOCHS_SINCE;
    if context.version() == 0 {
        let wanted = usize::try_from(asked.max_num_offsets).unwrap_or(0);
        let old_style_offsets = Some(offset).filter(|offset| *offset >= 0).into_iter().take(wanted).collect();
        return ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            old_style_offsets,
            ..Default::default()
        };
    }
    ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        timestamp,
        offset,
        leader_epoch: found.filter(|_| tells_epoch).map_or(-1, |found| found.leader_epoch.0),
        ..Default::default()
    }
}

async fn find(
    version: i16,
    partition: &Partition,
    timestamp: i64,
    isolation: Isolation,
) -> Result<Option<TimedOffset>, ErrorCode> {
    let timeless =
        |offset| TimedOffset { offset, timestamp_ms: -1, leader_epoch: partition.epoch_of(offset) };
    let plain = |offset| Ok(Some(timeless(offset)));
    let since = |first| if version >= first { Ok(()) } else { Err(ErrorCode::UNSUPPORTED_VERSION) };
    let found = match timestamp {
        // Of the epoch that serves, also where readers of committed records stop before the log's end.
        LATEST => {
            let leader_epoch = partition.leader_epoch();
            return Ok(Some(TimedOffset { leader_epoch, ..timeless(partition.readable_end(isolation)) }));
        }
        EARLIEST => return plain(partition.log_start()),
        EARLIEST_LOCAL => return since(8).and_then(|()| plain(partition.hot().local_log_start())),
        LATEST_TIERED => {
            since(9)?;
            let range = partition.tiered().filter(|range| range.end > range.start);
            return Ok(range.map(|range| timeless(Offset(range.end.0 - 1))));
        }
        EARLIEST_PENDING_UPLOAD => {
            since(11)?;
            return Ok(partition.tiered().map(|range| timeless(range.end)));
        }
        MAX_TIMESTAMP => {
            since(7)?;
            partition.offset_of_max_timestamp().await
        }
        timestamp if timestamp < 0 => return Err(ErrorCode::UNSUPPORTED_VERSION),
        timestamp => partition.offset_for_time(timestamp, isolation).await,
    };
    found.map_err(|error| {
        tracing::warn!(partition = %partition.id(), timestamp, %error, "no offset can be found by time");
        error_codes::of_read(&error)
    })
}
