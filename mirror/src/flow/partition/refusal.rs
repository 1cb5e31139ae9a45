//! What an answer of a cluster means for a partition.

use std::sync::Arc;

use client::{Cluster, TopicPartition};
use wire::{ErrorCode, TopicId};

use crate::copier::Failure;
use crate::events::{EventKind, Side};

/// Refusals that a late request, or a byte that flipped on the way, explains once or twice.
pub(super) const MAY_PASS: [ErrorCode; 2] =
    [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::CORRUPT_MESSAGE];
/// So many of them in a row, with the log read back between them, are an event.
const REFUSED_IN_A_ROW: u32 = 12;

/// What a refusal means for a batch.
pub(super) fn failure(refusal: &client::produce::Refusal, refused_in_a_row: u32) -> Failure {
    let said = || match &refusal.message {
        Some(message) => format!("{}: {message}", refusal.code),
        None => refusal.code.to_string(),
    };
    match refusal.code {
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Failure::TooLarge,
        ErrorCode::UNSUPPORTED_COMPRESSION_TYPE => Failure::CodecRefused,
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => Failure::Fenced(said()),
        code if MAY_PASS.contains(&code) && refused_in_a_row >= REFUSED_IN_A_ROW => {
            Failure::Refused(format!("{}, although the log was read back each time", said()))
        }
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        | ErrorCode::UNKNOWN_PRODUCER_ID
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Failure::Doubtful(said()),
        code if code.retriable() => Failure::Doubtful(said()),
        _ => Failure::Refused(said()),
    }
}

/// Whether the name is gone, or belongs to another topic now.
pub(super) async fn missing_topic(cluster: &Cluster, partition: &TopicPartition, id: TopicId) -> bool {
    match cluster.refresh(&[Arc::clone(&partition.topic)]).await {
        Ok(layout) => layout.topics.get(&partition.topic).is_none_or(|topic| topic.id != id),
        Err(_) => false,
    }
}

/// The event that goes with it.
pub(super) fn topic_event(
    cluster: &Cluster,
    partition: &TopicPartition,
    id: TopicId,
    side: Side,
) -> EventKind {
    match cluster.layout().topics.get(&partition.topic) {
        None => EventKind::TopicDeleted { side },
        Some(topic) => {
            let (known, found) = (id.to_string(), topic.id.to_string());
            EventKind::TopicRecreated { side, known, found }
        }
    }
}
