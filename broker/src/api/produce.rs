//! Produce: batches into the log.
//!
//! Behaviour: the thread that read the request appends, and never blocks: room in the journal is awaited batch by
//! batch, with nothing uncommitted held. The answer follows the commit, whether acks is 1 or all: with one broker both
//! mean the same. With acks=0 there is no answer; a failure closes the connection, as in Kafka.
//! Version notes: 3 to 12 name topics; 13 gives ids.
//! Owns: the way of one request's batches into the log, and who may write to internal topics.
//! Does not own: which batches are valid (`validation`), sequences (`hotlog::producers`), the order of requests
//! (`connection::pipeline`).

use std::borrow::Cow;
use std::sync::Arc;

use hotlog::{Appended, Origin, Ticket};
use wire::ErrorCode;
use wire::api::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use wire::batch::CheckRecordsError;

use super::{Context, message};
use crate::broker::Broker;
use crate::connection::{AppendGate, Disconnect, Outcome};
use crate::error_codes;
use crate::metrics::Metrics;
use crate::partition::{AppendRefused, Partition, poll_once};
use crate::topics::{Topic, Topics};
use crate::validation::{BatchRefused, Judge};

/// First version that names topics by id.
const IDS_SINCE: i16 = 13;
/// The only client that may write to internal topics, as in Kafka.
const ADMIN_CLIENT: &str = "__admin_client";

pub(super) async fn run(
    broker: Arc<Broker>,
    context: Context,
    request: ProduceRequest,
    gate: AppendGate,
) -> Outcome {
    let acks = request.acks;
    let mut response = ProduceResponse::default();
    response.responses.reserve(request.topic_data.len());
    let mut work = Work::new(&broker, &context, gate);
    for topic in request.topic_data {
        response.responses.push(work.topic(topic, acks).await);
    }
    if let Some(ticket) = work.ticket
        && let Err(error) = broker.directory.commit(ticket).await
    {
        tracing::error!(%error, "appended batches were not committed");
        fail_all(&mut response, error_codes::of_commit(&error));
    }
    if acks == 0 {
        let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let failed = partitions.any(|partition| partition.error_code != ErrorCode::NONE);
        return if failed { Err(Disconnect::UnansweredFailure) } else { Ok(None) };
    }
    context.answer(&response)
}

/// What was appended is not committed, so nobody may believe in it.
fn fail_all(response: &mut ProduceResponse, code: ErrorCode) {
    for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
        if partition.error_code == ErrorCode::NONE {
            *partition = refusal(partition.index, code, None);
        }
    }
}

/// One request on its way into the log.
struct Work<'a> {
    broker: &'a Broker,
    context: &'a Context,
    gate: AppendGate,
    topics: Arc<Topics>,
    /// The last thing appended; committing it commits all before.
    ticket: Option<Ticket>,
    now_ms: i64,
}

impl<'a> Work<'a> {
    fn new(broker: &'a Broker, context: &'a Context, gate: AppendGate) -> Self {
        let (topics, now_ms) = (broker.topics(), broker.clock.wall_ms());
        Self { broker, context, gate, topics, ticket: None, now_ms }
    }

    async fn topic(&mut self, request: TopicProduceData, acks: i16) -> TopicProduceResponse {
        let topics = Arc::clone(&self.topics);
        let by_id = self.context.version() >= IDS_SINCE;
        let found = if by_id { topics.with_id(request.topic_id) } else { topics.named(&request.name) };
        let verdict = match found {
            _ if !(-1..=1).contains(&acks) => Err(ErrorCode::INVALID_REQUIRED_ACKS),
            None if by_id => Err(ErrorCode::UNKNOWN_TOPIC_ID),
            None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Some(topic) if topic.is_internal() && self.context.client_id() != ADMIN_CLIENT => {
                Err(ErrorCode::INVALID_TOPIC_EXCEPTION)
            }
            Some(topic) => Ok(topic),
        };
        let mut partition_responses = Vec::with_capacity(request.partition_data.len());
        for data in request.partition_data {
            partition_responses.push(match verdict {
                Ok(topic) => self.partition(topic, data).await,
                Err(code) => refusal(data.index, code, None),
            });
        }
        TopicProduceResponse { name: request.name, topic_id: request.topic_id, partition_responses }
    }

    async fn partition(&mut self, topic: &Topic, data: PartitionProduceData) -> PartitionProduceResponse {
        let Some(partition) = topic.partition(data.index) else {
            return refusal(data.index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None);
        };
        match self.append(topic, partition, &data).await {
            Ok(appended) => PartitionProduceResponse {
                index: data.index,
                base_offset: appended.base_offset.0,
                log_append_time_ms: if topic.config.log_append_time { appended.append_time_ms } else { -1 },
                log_start_offset: appended.log_start.0,
                ..PartitionProduceResponse::default()
            },
            Err(refused) => {
                Metrics::add(&self.broker.metrics.refused_batches, 1);
                tracing::debug!(topic = %topic.name, partition = data.index, error = %refused, "a batch is refused");
                refusal(data.index, error_codes::of_append(&refused), Some(&refused))
            }
        }
    }

    async fn append(
        &mut self,
        topic: &Topic,
        partition: &Partition,
        data: &PartitionProduceData,
    ) -> Result<Appended, AppendRefused> {
        let judge = Judge {
            config: &topic.config,
            version: self.context.version(),
            now_ms: self.now_ms,
            next_producer_id: self.broker.next_producer_id(),
        };
        let bytes = data.records.as_ref().and_then(|records| records.as_bytes());
        let batch: Cow<'_, [u8]> = judge.check(bytes.map(|bytes| &bytes[..]))?;
        let mut reserving = std::pin::pin!(partition.reserve(batch.len()));
        let room = match poll_once(&mut reserving).await {
            Some(room) => room?,
            None => {
                // Nothing uncommitted may be held while waiting, and no later request may overtake this one.
                let _guard = self.gate.close();
                if let Some(ticket) = self.ticket.take() {
                    partition.commit(ticket).await?;
                }
                reserving.await?
            }
        };
        partition.check_append()?;
        let appended = partition.append(room, &batch, Origin::Client)?;
        self.ticket = self.ticket.max(Some(appended.ticket));
        Metrics::add(&self.broker.metrics.produced_batches, 1);
        Metrics::add(&self.broker.metrics.produced_bytes, batch.len());
        Ok(appended)
    }
}

fn refusal(index: i32, code: ErrorCode, refused: Option<&AppendRefused>) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse {
        index,
        error_code: code,
        base_offset: -1,
        ..PartitionProduceResponse::default()
    };
    response.error_message = refused.and_then(message);
    if let Some(AppendRefused::Batch(BatchRefused::Records(CheckRecordsError::Rejected {
        rejected, ..
    }))) = refused
    {
        response.record_errors = rejected
            .iter()
            .map(|record| BatchIndexAndErrorMessage {
                batch_index: record.index,
                batch_index_error_message: message(&record.rejection),
            })
            .collect();
    }
    response
}
