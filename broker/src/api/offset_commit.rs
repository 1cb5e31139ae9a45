//! OffsetCommit: positions of a group, kept in `__consumer_offsets`.
//!
//! Behaviour: what cannot be kept (an unknown partition, a note that is too long, a negative offset) is refused by
//! itself, the rest is committed. The answer follows the commit of the log.
//! Version notes: up to 4 a retention time that is passed over, as the broker's own holds; 6 leader epochs; 7 static
//! identities; 10 topic ids.
//! Owns: which positions are refused.
//! Does not own: who may commit (`groups::group`), writing and expiry (`groups::coordinator`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use wire::codec::Text;

use super::Context;
use crate::broker::Broker;
use crate::groups::MAX_OFFSET_METADATA_BYTES;
use crate::groups::coordinator::NewOffset;
use crate::groups::group::Caller;
use crate::groups::records::OffsetValue;
use crate::topics::Topic;

/// First version that names topics by id.
const IDS_SINCE: i16 = 10;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let topics = broker.topics();
    let by_id = context.version() >= IDS_SINCE;
    let mut response = OffsetCommitResponse::default();
    let mut offsets = Vec::new();
    let now_ms = broker.groups.now_ms();
    for asked in &request.topics {
        let topic = if by_id { topics.with_id(asked.topic_id) } else { topics.named(&asked.name) };
        let missing = if by_id { ErrorCode::UNKNOWN_TOPIC_ID } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
        let partitions = asked.partitions.iter().map(|position| {
            let kept = topic.ok_or(missing).and_then(|topic| new_offset(topic, position, now_ms));
            let error_code = match kept {
                Ok(offset) => {
                    offsets.push(offset);
                    ErrorCode::NONE
                }
                Err(code) => code,
            };
            OffsetCommitResponsePartition { partition_index: position.partition_index, error_code }
        });
        let partitions = partitions.collect();
        response.topics.push(OffsetCommitResponseTopic {
            name: Text::from(&*asked.name),
            topic_id: asked.topic_id,
            partitions,
        });
    }
    let caller = Caller {
        member_id: String::from(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(String::from),
        generation: request.generation_id_or_member_epoch,
    };
    let group = String::from(&request.group_id);
    drop(request);
    let committed = match broker.ensure_offsets_topic().await {
        Ok(()) => broker.groups.commit(&group, caller, offsets).await,
        Err(_) => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
    };
    if let Err(code) = committed {
        for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.error_code == ErrorCode::NONE {
                partition.error_code = code;
            }
        }
    }
    response
}

fn new_offset(
    topic: &Topic,
    position: &OffsetCommitRequestPartition,
    now_ms: i64,
) -> Result<NewOffset, ErrorCode> {
    topic.partition(position.partition_index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let metadata = position.committed_metadata.as_deref().unwrap_or("");
    if metadata.len() > MAX_OFFSET_METADATA_BYTES {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    if position.committed_offset < 0 {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok(NewOffset {
        key: (topic.name.to_string(), position.partition_index),
        value: OffsetValue {
            offset: position.committed_offset,
            leader_epoch: position.committed_leader_epoch,
            metadata: metadata.to_owned(),
            commit_timestamp: now_ms,
            expire_timestamp: None,
            topic_id: Some(topic.id),
        },
    })
}
