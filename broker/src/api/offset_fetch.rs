//! OffsetFetch: positions of groups.
//!
//! Behaviour: a partition without a position is answered with -1 and no error. A position committed for a topic that
//! was deleted and made anew under its name does not count for the new one.
//! Version notes: 2 all topics by null; 7 RequireStable, which without transactions asks for nothing more; 8 several
//! groups; 9 the reader's member id; 10 topic ids.
//! Owns: which positions count for the topic that has the name now.
//! Does not own: the positions and their expiry (`groups::offsets`).

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::ErrorCode;
use wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use wire::codec::Text;
use wire::ids::TopicId;

use super::Context;
use crate::broker::Broker;
use crate::groups::offsets::GroupOffsets;
use crate::groups::records::OffsetValue;
use crate::topics::Topics;

/// First version with several groups.
const GROUPS_SINCE: i16 = 8;
/// First version that names topics by id.
const IDS_SINCE: i16 = 10;
/// First version with an error for the whole group.
const GROUP_ERROR_SINCE: i16 = 2;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let version = context.version();
    if version >= GROUPS_SINCE {
        let groups = request.groups.iter().map(|group| fetch(broker, version, group)).collect();
        return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
    }
    let topics = request.topics.map(|topics| {
        let grouped = |topic: wire::api::offset_fetch::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        };
        topics.into_iter().map(grouped).collect()
    });
    let group =
        OffsetFetchRequestGroup { group_id: request.group_id, topics, ..OffsetFetchRequestGroup::default() };
    one_group(version, fetch(broker, version, &group))
}

fn one_group(version: i16, group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let partition = |one: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: one.partition_index,
        committed_offset: one.committed_offset,
        committed_leader_epoch: one.committed_leader_epoch,
        metadata: one.metadata,
        error_code: if version < GROUP_ERROR_SINCE { group.error_code } else { one.error_code },
    };
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    }
}

fn fetch(broker: &Broker, version: i16, request: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let topics = broker.topics();
    let member = request.member_id.as_deref().map(|member_id| (member_id, request.member_epoch));
    let found = broker.groups.with_offsets(&request.group_id, member, |offsets| match &request.topics {
        Some(asked) => asked.iter().map(|topic| asked_topic(&topics, version, topic, offsets)).collect(),
        None => all_topics(&topics, offsets),
    });
    let found = match found {
        // Without its topic there are no positions yet.
        Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) => Ok(match &request.topics {
            Some(asked) => asked.iter().map(|topic| asked_topic(&topics, version, topic, None)).collect(),
            None => Vec::new(),
        }),
        found => found,
    };
    let group_id = request.group_id.clone();
    match found {
        Ok(topics) => OffsetFetchResponseGroup { group_id, topics, ..OffsetFetchResponseGroup::default() },
        Err(error_code) => {
            OffsetFetchResponseGroup { group_id, error_code, ..OffsetFetchResponseGroup::default() }
        }
    }
}

fn asked_topic(
    topics: &Topics,
    version: i16,
    asked: &OffsetFetchRequestTopics,
    offsets: Option<&GroupOffsets>,
) -> OffsetFetchResponseTopics {
    let by_id = version >= IDS_SINCE;
    let topic = if by_id { topics.with_id(asked.topic_id) } else { topics.named(&asked.name) };
    let name = topic.map_or(&*asked.name, |topic| &*topic.name);
    let unknown_id = by_id && topic.is_none();
    let partitions = asked.partition_indexes.iter().map(|index| {
        if unknown_id {
            return OffsetFetchResponsePartitions {
                error_code: ErrorCode::UNKNOWN_TOPIC_ID,
                ..position(*index, None)
            };
        }
        let value = offsets.and_then(|offsets| offsets.get(name, *index));
        position(*index, value.filter(|value| belongs(value, topic.map(|topic| topic.id))))
    });
    OffsetFetchResponseTopics {
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        partitions: partitions.collect(),
    }
}

/// Whether a position is of the topic that has the name now.
fn belongs(value: &OffsetValue, current: Option<TopicId>) -> bool {
    value.topic_id.is_none() || value.topic_id == current
}

fn all_topics(topics: &Topics, offsets: Option<&GroupOffsets>) -> Vec<OffsetFetchResponseTopics> {
    let mut found: BTreeMap<&str, OffsetFetchResponseTopics> = BTreeMap::new();
    for ((name, partition), value) in offsets.into_iter().flat_map(GroupOffsets::iter) {
        let current = topics.named(name).map(|topic| topic.id);
        if !belongs(value, current) {
            continue;
        }
        let topic = found.entry(name).or_insert_with(|| OffsetFetchResponseTopics {
            name: Text::from(name),
            topic_id: current.unwrap_or(TopicId::ZERO),
            ..OffsetFetchResponseTopics::default()
        });
        topic.partitions.push(position(*partition, Some(value)));
    }
    found.into_values().collect()
}

fn position(partition_index: i32, value: Option<&OffsetValue>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: value.map_or(-1, |value| value.offset),
        committed_leader_epoch: value.map_or(-1, |value| value.leader_epoch),
        metadata: Some(value.map_or(Text::EMPTY, |value| Text::from(&value.metadata))),
        error_code: ErrorCode::NONE,
    }
}
