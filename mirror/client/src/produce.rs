//! Produce: batches as they are, to one broker, with acks from all in-sync replicas.
//!
//! Owns: the request, and what each error code says of a batch: in the log, not in it, or nobody knows.
//! Does not own: the batches and their sequences, sending again (`producer`, `mirror::copier`), who leads
//! (`cluster`).
//!
//! Versions 3 to 13; topics by id where both sides know it (13 on), else by name. Never repeated here: whether a batch
//! may be sent again is the caller's to know, from its producer id and sequence.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use wire::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use wire::{ApiKey, ErrorCode, LeaderEpoch, Offset, Piece, Records, Text, TopicId};

use crate::cluster::{Cluster, Lane};
use crate::connection::{Connection, Pending};
use crate::error::{CallError, Nonsense};
use crate::layout::{BrokerId, TopicPartition};

/// The last version that speaks of topics by name.
const BY_NAME_LAST: i16 = 12;
/// All in-sync replicas.
const ACKS_ALL: i16 = -1;

/// One batch for one partition.
#[derive(Clone, Debug)]
pub struct ProduceBatch {
    /// The partition.
    pub partition: TopicPartition,
    /// The topic's id, or [`TopicId::ZERO`]: a topic made again under the name then takes the batch.
    pub topic_id: TopicId,
    /// The batch in any number of pieces, such as a patched header and a payload from elsewhere.
    pub pieces: Vec<Bytes>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log.
    Acknowledged {
        /// Offset of its first record. For a duplicate, that of the first time.
        base_offset: Offset,
        /// The time the log took it at, milliseconds since 1970; -1 where record times are the producer's.
        log_append_time_ms: i64,
        /// The first offset there is; -1 where it is not known.
        log_start_offset: Offset,
    },
    /// It is a duplicate of a batch so far back that its offset is no longer known: it is in the log.
    Duplicate,
    /// It is not in the log.
    Refused(Refusal),
    /// The broker says that it does not know: it may be in the log, now or later.
    Ambiguous(Refusal),
}

/// How a broker refused a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What the broker said besides.
    pub message: Option<String>,
    /// Records that are to blame, by their place in the batch, and why.
    pub records: Vec<(i32, Option<String>)>,
}

/// What became of one partition's batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The partition.
    pub partition: TopicPartition,
    /// What became of it.
    pub outcome: Outcome,
}

/// Why it is not known what became of any batch of the request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProduceError {
    /// The broker has not seen the request: none of it is in a log.
    #[error(transparent)]
    NotSent(CallError),
    /// The request was sent, at least in part, and not answered: each batch may be in its log, now or later.
    #[error(transparent)]
    Ambiguous(CallError),
}

impl From<CallError> for ProduceError {
    fn from(error: CallError) -> Self {
        if error.may_have_been_done() { Self::Ambiguous(error) } else { Self::NotSent(error) }
    }
}

/// A Produce request under way.
#[derive(Debug)]
pub struct PendingProduce {
    cluster: Cluster,
    /// Keeps the socket open until the answer is there.
    connection: Arc<Connection>,
    pending: Pending<ProduceResponse>,
    partitions: Vec<(TopicPartition, TopicId)>,
    by_id: bool,
}

impl Cluster {
    /// Sends batches to `broker`, which [`Cluster::leader`] names; at most one for each partition. Requests to one
    /// broker go out in the order in which this returns, so batches of one partition stay in order; the answer is
    /// awaited by [`PendingProduce::outcomes`].
    ///
    /// # Errors
    /// [`ProduceError::NotSent`].
    pub async fn start_produce(
        &self,
        broker: BrokerId,
        batches: Vec<ProduceBatch>,
        timeout: Duration,
    ) -> Result<PendingProduce, ProduceError> {
        let connection = self.connection(broker, Lane::Produce).await?;
        let by_id = batches.iter().all(|batch| !batch.topic_id.is_zero());
        let (first, last) = ApiKey::Produce.api().served;
        let version = connection.version(ApiKey::Produce, first, if by_id { last } else { BY_NAME_LAST })?;
        let by_id = version > BY_NAME_LAST;
        let partitions = batches.iter().map(|batch| (batch.partition.clone(), batch.topic_id)).collect();
        let request = request(batches, timeout, by_id);
        let pending = connection.start(version, &request).await?;
        Ok(PendingProduce { cluster: self.clone(), connection, pending, partitions, by_id })
    }

    /// Sends batches to `broker` and waits for what became of them.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub async fn produce(
        &self,
        broker: BrokerId,
        batches: Vec<ProduceBatch>,
        timeout: Duration,
    ) -> Result<Vec<Produced>, ProduceError> {
        self.start_produce(broker, batches, timeout).await?.outcomes().await
    }
}

impl PendingProduce {
    /// What became of each batch, in the order in which they were given.
    ///
    /// # Errors
    /// [`ProduceError::Ambiguous`], or [`ProduceError::NotSent`] when the connection ended before its turn came.
    pub async fn outcomes(self) -> Result<Vec<Produced>, ProduceError> {
        let response = self.pending.answer().await?;
        let mut answers: Vec<(Text, TopicId, PartitionProduceResponse)> = Vec::new();
        for topic in response.responses {
            for answer in topic.partition_responses {
                answers.push((topic.name.clone(), topic.topic_id, answer));
            }
        }
        let mut all = Vec::with_capacity(self.partitions.len());
        for (partition, topic_id) in self.partitions {
            let found = answers.iter().position(|(name, id, answer)| {
                let topic = if self.by_id { *id == topic_id } else { **name == *partition.topic };
                topic && answer.index == partition.partition
            });
            let Some(at) = found else {
                return Err(ProduceError::Ambiguous(CallError::Malformed {
                    api: ApiKey::Produce,
                    broker: Arc::clone(self.connection.broker()),
                    fault: Nonsense::Missing(partition.to_string()),
                }));
            };
            let (.., answer) = answers.swap_remove(at);
            let leader = &answer.current_leader;
            let hint = (BrokerId(leader.leader_id), LeaderEpoch(leader.leader_epoch));
            self.cluster.heed(&partition, answer.error_code, Some(hint));
            all.push(Produced { partition, outcome: outcome(answer) });
        }
        Ok(all)
    }
}

fn request(batches: Vec<ProduceBatch>, timeout: Duration, by_id: bool) -> ProduceRequest {
    let mut topic_data: Vec<TopicProduceData> = Vec::new();
    let mut last: Option<(Arc<str>, TopicId)> = None;
    for batch in batches {
        let topic = (Arc::clone(&batch.partition.topic), batch.topic_id);
        if last.as_ref() != Some(&topic) {
            let name = if by_id { Text::EMPTY } else { Text::from(&*topic.0) };
            let topic_id = if by_id { topic.1 } else { TopicId::ZERO };
            topic_data.push(TopicProduceData { name, topic_id, partition_data: Vec::new() });
            last = Some(topic);
        }
        let pieces: Vec<Piece> = batch.pieces.into_iter().map(Piece::Memory).collect();
        let data =
            PartitionProduceData { index: batch.partition.partition, records: Some(Records::from(pieces)) };
        topic_data.last_mut().expect("one was pushed").partition_data.push(data);
    }
    ProduceRequest {
        transactional_id: None,
        acks: ACKS_ALL,
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data,
    }
}

fn outcome(answer: PartitionProduceResponse) -> Outcome {
    let refusal = || Refusal {
        code: answer.error_code,
        message: answer.error_message.as_ref().map(String::from),
        records: answer
            .record_errors
            .iter()
            .map(|record| (record.batch_index, record.batch_index_error_message.as_ref().map(String::from)))
            .collect(),
    };
    match answer.error_code {
        ErrorCode::NONE if answer.base_offset >= 0 => Outcome::Acknowledged {
            base_offset: Offset(answer.base_offset),
            log_append_time_ms: answer.log_append_time_ms,
            log_start_offset: Offset(answer.log_start_offset),
        },
        // Success without an offset is what Kafka answers for a duplicate it no longer has the offset of.
        ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Outcome::Duplicate,
        // The leader has it; the others may get it yet, or it is cut off with the leader.
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::UNKNOWN_SERVER_ERROR
        | ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::KAFKA_STORAGE_ERROR
        // After an append, a leader that steps down answers so to those that wait for its followers.
        | ErrorCode::NOT_LEADER_OR_FOLLOWER => Outcome::Ambiguous(refusal()),
        _ => Outcome::Refused(refusal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_may_have_kept_is_never_called_refused() {
        let after = |code, base_offset| {
            outcome(PartitionProduceResponse { error_code: code, base_offset, ..Default::default() })
        };
        assert!(matches!(after(ErrorCode::NONE, 7), Outcome::Acknowledged { base_offset: Offset(7), .. }));
        assert_eq!(after(ErrorCode::NONE, -1), Outcome::Duplicate);
        assert_eq!(after(ErrorCode::DUPLICATE_SEQUENCE_NUMBER, -1), Outcome::Duplicate);
        assert!(matches!(after(ErrorCode::REQUEST_TIMED_OUT, -1), Outcome::Ambiguous(_)));
        assert!(matches!(after(ErrorCode::NOT_LEADER_OR_FOLLOWER, -1), Outcome::Ambiguous(_)));
        assert!(matches!(after(ErrorCode::MESSAGE_TOO_LARGE, -1), Outcome::Refused(_)));
        assert!(matches!(after(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1), Outcome::Refused(_)));
    }
}
