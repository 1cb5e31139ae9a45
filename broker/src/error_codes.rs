//! The one place where what went wrong becomes a Kafka error code.
//!
//! Owns: the mapping. Does not own: the errors, which say more in the log than a code can.

use hotlog::error::{AppendError, ChangeError, CommitError, ReadError, RoomError, StorageError};
use hotlog::producers::ProducerError;
use tiering::ReadError as TierReadError;
use wire::ErrorCode;
use wire::batch::BatchError;

use crate::broker::ChangeError as TopicChangeError;
use crate::metadata::CommitMetadataError;
use crate::metadata::changes::ChangeRefused;
use crate::partition::{AppendRefused, ReadRefused};
use crate::validation::BatchRefused;

/// The code of a batch that failed validation.
pub(crate) fn of_batch(refused: &BatchRefused) -> ErrorCode {
    match refused {
        BatchRefused::Missing | BatchRefused::Several(_) | BatchRefused::Header(_) => {
            ErrorCode::INVALID_RECORD
        }
        BatchRefused::Malformed(error) => of_batch_error(error),
        BatchRefused::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        BatchRefused::LargerThanSegment { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
        BatchRefused::Compression { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        BatchRefused::Transactional => ErrorCode::INVALID_TXN_STATE,
        BatchRefused::UnknownProducer(_) => ErrorCode::UNKNOWN_PRODUCER_ID,
        BatchRefused::Timestamp(_) => ErrorCode::INVALID_TIMESTAMP,
        BatchRefused::Records(error) if error.is_timestamp() => ErrorCode::INVALID_TIMESTAMP,
        BatchRefused::Records(_) => ErrorCode::INVALID_RECORD,
    }
}

fn of_batch_error(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Magic { .. } => ErrorCode::INVALID_RECORD,
        BatchError::Codec { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        BatchError::Length { .. } | BatchError::Truncated { .. } | BatchError::Crc { .. } => {
            ErrorCode::CORRUPT_MESSAGE
        }
        _ => ErrorCode::INVALID_RECORD,
    }
}

/// The code of an append that failed.
pub(crate) fn of_append(refused: &AppendRefused) -> ErrorCode {
    match refused {
        AppendRefused::Batch(refused) => of_batch(refused),
        AppendRefused::Room(error) => of_room(error),
        AppendRefused::Append(error) => match error {
            AppendError::Batch(error) => of_batch_error(error),
            AppendError::Control(_) => ErrorCode::INVALID_RECORD,
            AppendError::Producer(error) => of_producer(error),
            AppendError::StorageFull => ErrorCode::KAFKA_STORAGE_ERROR,
            AppendError::Room { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
            AppendError::OffsetsUsedUp(_) => ErrorCode::KAFKA_STORAGE_ERROR,
            AppendError::Deleted(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            AppendError::Commit(error) => of_commit(error),
        },
        AppendRefused::Commit(error) => of_commit(error),
        AppendRefused::Store(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

fn of_producer(error: &ProducerError) -> ErrorCode {
    match error {
        ProducerError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ProducerError::StaleEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        ProducerError::OutsideTransaction { .. } => ErrorCode::INVALID_TXN_STATE,
        ProducerError::StaleCoordinator { .. } => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// The code of a refusal of room in the journal.
pub(crate) fn of_room(error: &RoomError) -> ErrorCode {
    match error {
        RoomError::TooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
        RoomError::Commit(error) => of_commit(error),
    }
}

/// The code of a commit that did not come about.
pub(crate) fn of_commit(error: &CommitError) -> ErrorCode {
    match error {
        CommitError::Poisoned(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        CommitError::Closed => ErrorCode::NOT_LEADER_OR_FOLLOWER,
    }
}

/// The code of a read that failed.
pub(crate) fn of_read(refused: &ReadRefused) -> ErrorCode {
    match refused {
        ReadRefused::Hot(error) => of_hot_read(error),
        ReadRefused::Cold(error) => match error {
            // Clients try again: a store comes back, and so do rights.
            TierReadError::NotReady { .. }
            | TierReadError::Unavailable { .. }
            | TierReadError::Denied { .. } => ErrorCode::REPLICA_NOT_AVAILABLE,
            // What is out of the log's range the hot log says. What is only not in the store is no reason for a reader to begin
            // anew elsewhere.
            TierReadError::OutOfRange { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
            // Not a code that clients try again without a word.
            TierReadError::Damaged { .. } => ErrorCode::CORRUPT_MESSAGE,
        },
        ReadRefused::Nowhere { .. } | ReadRefused::Unreadable(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        ReadRefused::CutShort { .. } => ErrorCode::CORRUPT_MESSAGE,
    }
}

fn of_hot_read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        // It is in a store that this broker was not given: nothing that a reader should be reset for.
        ReadError::NotLocal { .. } | ReadError::Missing { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
        ReadError::Deleted(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ReadError::Storage(error) => of_storage(error),
    }
}

fn of_storage(error: &StorageError) -> ErrorCode {
    match error {
        StorageError::Damaged { .. } => ErrorCode::CORRUPT_MESSAGE,
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// The code of a change of a log's bounds.
pub(crate) fn of_change(error: &ChangeError) -> ErrorCode {
    match error {
        ChangeError::OutOfRange { .. } | ChangeError::NotEmpty(_) => ErrorCode::OFFSET_OUT_OF_RANGE,
        ChangeError::Deleted(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ChangeError::Room { .. } | ChangeError::Beginning { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
        ChangeError::Commit(error) => of_commit(error),
        ChangeError::Read(error) => of_storage(error),
    }
}

/// The code of a change of topics that did not come about.
pub(crate) fn of_topic_change(error: &TopicChangeError) -> ErrorCode {
    match error {
        TopicChangeError::Refused(refused) => of_change_refused(refused),
        TopicChangeError::Commit(error) => of_metadata(error),
        TopicChangeError::Log(error) => of_commit(error),
    }
}

/// The code of a metadata change that is refused.
pub(crate) fn of_change_refused(refused: &ChangeRefused) -> ErrorCode {
    match refused {
        // Kafka's code also for what may not be done to its internal topics.
        ChangeRefused::InvalidName { .. } | ChangeRefused::OffsetsTopicStays => {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        }
        ChangeRefused::TopicExists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        ChangeRefused::UnknownTopic => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ChangeRefused::UnknownTopicId => ErrorCode::UNKNOWN_TOPIC_ID,
        ChangeRefused::InvalidPartitions(_) => ErrorCode::INVALID_PARTITIONS,
        ChangeRefused::InvalidReplicationFactor(_) => ErrorCode::INVALID_REPLICATION_FACTOR,
        ChangeRefused::InvalidAssignment(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        ChangeRefused::Contradiction(_) => ErrorCode::INVALID_REQUEST,
        ChangeRefused::InvalidConfig(_) | ChangeRefused::InvalidOperation(_) => ErrorCode::INVALID_CONFIG,
        ChangeRefused::ConfigTooLarge => ErrorCode::INVALID_CONFIG,
        ChangeRefused::TooManyPartitions => ErrorCode::POLICY_VIOLATION,
    }
}

/// The code of a metadata log that cannot be written.
fn of_metadata(_error: &CommitMetadataError) -> ErrorCode {
    ErrorCode::KAFKA_STORAGE_ERROR
}

#[cfg(test)]
mod tests {
    use hotlog::PartitionId;
    use wire::ids::Offset;

    use super::*;

    #[test]
    fn only_what_is_out_of_the_logs_own_range_makes_clients_begin_anew() {
        let (offset, start, end) = (Offset(5), Offset(10), Offset(20));
        let outside = ReadError::OutOfRange { offset, log_start: start, high_watermark: end };
        assert_eq!(of_read(&outside.into()), ErrorCode::OFFSET_OUT_OF_RANGE);
        let untiered = TierReadError::OutOfRange { offset: 5, start: 10, end: 20 };
        assert_eq!(of_read(&untiered.into()), ErrorCode::KAFKA_STORAGE_ERROR);
        let partition = PartitionId::METADATA;
        let nowhere = ReadRefused::Nowhere { partition, offset, start, end };
        assert_eq!(of_read(&nowhere), ErrorCode::KAFKA_STORAGE_ERROR);
    }
}
