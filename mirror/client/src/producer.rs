//! A small idempotent producer: records in, offsets out.
//!
//! One task per partition gathers records into a batch, sends it, and sends the same batch again until the broker has
//! said what became of it; one batch is under way per partition, so order holds and a repeated batch is recognised.
//!
//! A repeated batch is recognised for as long as the broker remembers the producer. Apache Kafka counts that by record
//! time (`producer.id.expiration.ms`): killed after it appended records older than that and before it answered, it takes
//! the repetition for a new batch, for this producer as for Kafka's own. Longhaul counts by append time.
//!
//! Owns: batching, sequences, repetition. Does not own: copying batches as they are (`produce.rs` is for that).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use wire::Offset;
use wire::batch::{BatchBuilder, BatchOptions, Header, NewRecord, ProducerFields, sequence_after};
use wire::compress::Codec;

use crate::admin::ProducerIdentity;
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::layout::TopicPartition;
use crate::limits;
use crate::partitioner::partition_of;
use crate::produce::{Outcome, ProduceBatch, ProduceError, Refusal};

/// How a producer batches and how long it tries.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// How batches are compressed.
    pub codec: Codec,
    /// A batch is sent when it holds this much, before compression.
    pub batch_bytes: usize,
    /// A batch is sent when its first record has waited so long.
    pub linger: Duration,
    /// How long a batch is sent again.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            batch_bytes: 64 * 1024,
            linger: Duration::from_millis(5),
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// A record to send.
#[derive(Clone, Debug, Default)]
pub struct OutgoingRecord {
    /// Where to; by key, or in turn, when it is not said.
    pub partition: Option<i32>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Where a record is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset; none when the broker only knows that it has it.
    pub offset: Option<Offset>,
}

/// Why a record is not in the log, or may not be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProducerError {
    /// The topic could not be looked up, or no producer id was given.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The broker does not take the batch that the record was in.
    #[error("{partition} refused a batch: {:?}{}", refusal.code, refusal.message.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// The partition.
        partition: TopicPartition,
        /// The broker's reason.
        refusal: Refusal,
    },
    /// Time ran out; the batch may be in the log. Nothing more is sent to that partition: what came after it could
    /// overtake it.
    #[error("{partition} did not acknowledge a batch in time; it may have it: {reason}")]
    Unknown {
        /// The partition.
        partition: TopicPartition,
        /// What was last heard.
        reason: String,
    },
    /// An earlier batch of the partition failed in a way that ends the sequence.
    #[error("an earlier batch to {0} failed, and the order of what follows cannot be kept")]
    Ended(TopicPartition),
}

enum Command {
    Record(OutgoingRecord, oneshot::Sender<Result<Delivered, ProducerError>>),
    Flush(oneshot::Sender<()>),
}

/// What becomes of a record that was taken.
#[derive(Debug)]
pub struct Delivery {
    partition: TopicPartition,
    receiver: oneshot::Receiver<Result<Delivered, ProducerError>>,
}

impl Delivery {
    /// Waits until the record is in the log, or is known not to be.
    ///
    /// # Errors
    /// [`ProducerError`].
    pub async fn delivered(self) -> Result<Delivered, ProducerError> {
        self.receiver.await.unwrap_or(Err(ProducerError::Ended(self.partition)))
    }
}

/// A producer; what it has taken is sent even when it is dropped, unless the program ends first.
#[derive(Debug)]
pub struct Producer {
    cluster: Cluster,
    options: ProducerOptions,
    identity: ProducerIdentity,
    partitions: Mutex<HashMap<TopicPartition, mpsc::Sender<Command>>>,
    turn: Mutex<HashMap<Arc<str>, i32>>,
}

impl Producer {
    /// A producer with an id of its own.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn new(cluster: &Cluster, options: ProducerOptions) -> Result<Self, RequestError> {
        let identity = cluster.init_producer_id().await?;
        Ok(Self {
            cluster: cluster.clone(),
            options,
            identity,
            partitions: Mutex::default(),
            turn: Mutex::default(),
        })
    }

    /// Takes a record, waiting while its partition's queue is full. It is in the log once the delivery says so.
    ///
    /// # Errors
    /// [`ProducerError`], when the topic is unknown or the partition's sequence has ended.
    pub async fn send(&self, topic: &Arc<str>, record: OutgoingRecord) -> Result<Delivery, ProducerError> {
        let partition = match record.partition {
            Some(partition) => partition,
            None => self.choose(topic, record.key.as_deref()).await?,
        };
        let partition = TopicPartition { topic: Arc::clone(topic), partition };
        let (sender, receiver) = oneshot::channel();
        let queue = self.queue(&partition);
        match queue.send(Command::Record(record, sender)).await {
            Ok(()) => Ok(Delivery { partition, receiver }),
            Err(_) => Err(ProducerError::Ended(partition)),
        }
    }

    /// Sends a record and waits until it is in the log.
    ///
    /// # Errors
    /// [`ProducerError`].
    pub async fn send_now(
        &self,
        topic: &Arc<str>,
        record: OutgoingRecord,
    ) -> Result<Delivered, ProducerError> {
        self.send(topic, record).await?.delivered().await
    }

    /// Waits until all that was taken so far is in the log, or is known not to be.
    pub async fn flush(&self) {
        let queues: Vec<_> = {
            let partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
            partitions.values().cloned().collect()
        };
        let mut flushed = Vec::new();
        for queue in queues {
            let (sender, receiver) = oneshot::channel();
            // A queue that has ended has nothing to flush.
            if queue.send(Command::Flush(sender)).await.is_ok() {
                flushed.push(receiver);
            }
        }
        for receiver in flushed {
            let _ = receiver.await;
        }
    }

    async fn choose(&self, topic: &Arc<str>, key: Option<&[u8]>) -> Result<i32, RequestError> {
        let known = self.cluster.layout().topics.get(topic).map(|known| known.partitions.len());
        let count = match known {
            Some(count) => count,
            None => {
                let layout = self.cluster.refresh(std::slice::from_ref(topic)).await?;
                let unknown = || RequestError::UnknownPartition(TopicPartition::new(Arc::clone(topic), 0));
                layout.topics.get(topic).ok_or_else(unknown)?.partitions.len()
            }
        };
        let count = i32::try_from(count).unwrap_or(i32::MAX).max(1);
        if let Some(key) = key {
            return Ok(partition_of(key, count));
        }
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let next = turn.entry(Arc::clone(topic)).or_default();
        *next = (*next + 1) % count;
        Ok(*next)
    }

    fn queue(&self, partition: &TopicPartition) -> mpsc::Sender<Command> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let (sender, queue) = mpsc::channel(limits::PRODUCER_QUEUE_RECORDS);
            let sequencer = Sequencer {
                cluster: self.cluster.clone(),
                options: self.options,
                identity: self.identity,
                partition: partition.clone(),
                next_sequence: 0,
            };
            tokio::spawn(sequencer.run(queue));
            sender
        };
        partitions.entry(partition.clone()).or_insert_with(start).clone()
    }
}

/// One partition's batches, one after the other.
struct Sequencer {
    cluster: Cluster,
    options: ProducerOptions,
    identity: ProducerIdentity,
    partition: TopicPartition,
    next_sequence: i32,
}

/// A batch being gathered, and who waits for it.
struct Gathered {
    builder: BatchBuilder,
    waiting: Vec<oneshot::Sender<Result<Delivered, ProducerError>>>,
    flush: Vec<oneshot::Sender<()>>,
}

impl Sequencer {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(first) = queue.recv().await {
            let gathered = self.gather(first, &mut queue).await;
            if gathered.waiting.is_empty() {
                continue;
            }
            let records = gathered.builder.record_count();
            let result = self.deliver(gathered.builder).await;
            let ended = matches!(result, Err((_, Next::Nothing)));
            let base_offset = result.map_err(|(error, _)| error);
            for (index, waiting) in (0i64..).zip(gathered.waiting) {
                let delivered = base_offset.clone().map(|base| Delivered {
                    partition: self.partition.clone(),
                    offset: base.map(|base| Offset(base.0 + index)),
                });
                // Who does not wait for its delivery does not want to know.
                let _ = waiting.send(delivered);
            }
            if ended {
                return;
            }
            if base_offset.is_ok() {
                self.next_sequence = sequence_after(self.next_sequence, records);
            }
        }
    }

    async fn gather(&self, first: Command, queue: &mut mpsc::Receiver<Command>) -> Gathered {
        let deadline = Instant::now() + self.options.linger;
        let producer = ProducerFields {
            id: self.identity.id,
            epoch: self.identity.epoch,
            base_sequence: self.next_sequence,
        };
        let options = BatchOptions { codec: self.options.codec, producer, ..Default::default() };
        let mut gathered =
            Gathered { builder: BatchBuilder::new(options), waiting: Vec::new(), flush: Vec::new() };
        let mut next = Some(first);
        loop {
            match next {
                Some(Command::Record(record, waiting)) => {
                    push(&mut gathered.builder, &record);
                    gathered.waiting.push(waiting);
                }
                Some(Command::Flush(done)) => {
                    gathered.flush.push(done);
                    return gathered;
                }
                None => return gathered,
            }
            if gathered.builder.size_bytes() >= self.options.batch_bytes {
                return gathered;
            }
            next = timeout_at(deadline, queue.recv()).await.unwrap_or(None);
        }
    }

    /// Sends the batch until it is known what became of it. Returns the offset of its first record.
    async fn deliver(&self, builder: BatchBuilder) -> Result<Option<Offset>, (ProducerError, Next)> {
        let batch = Bytes::from(builder.build());
        let deadline = Instant::now() + self.options.delivery_timeout;
        let mut backoff = Backoff::new(self.cluster.options().backoff);
        let mut may_be_there = false;
        loop {
            let reason = match self.attempt(&batch).await {
                Attempt::Done(offset) => return Ok(offset),
                Attempt::Refused(refusal) => {
                    let fatal = may_be_there || ends_sequence(&refusal);
                    let next = if fatal { Next::Nothing } else { Next::SameSequence };
                    return Err((
                        ProducerError::Refused { partition: self.partition.clone(), refusal },
                        next,
                    ));
                }
                Attempt::NotYet(reason) => reason,
                Attempt::Ambiguous(reason) => {
                    may_be_there = true;
                    reason
                }
            };
            let wait = backoff.next();
            if Instant::now() + wait > deadline {
                let partition = self.partition.clone();
                return Err((ProducerError::Unknown { partition, reason }, Next::Nothing));
            }
            sleep(wait).await;
        }
    }

    async fn attempt(&self, batch: &Bytes) -> Attempt {
        let leader = match self.cluster.leader(&self.partition).await {
            Ok(leader) => leader,
            Err(error) => return Attempt::NotYet(error.to_string()),
        };
        let batch = ProduceBatch {
            partition: self.partition.clone(),
            topic_id: leader.topic_id,
            pieces: vec![batch.clone()],
        };
        let timeout = self.cluster.options().connection.request_timeout;
        match self.cluster.produce(leader.broker, vec![batch], timeout).await {
            Ok(mut produced) => match produced.pop().map(|produced| produced.outcome) {
                Some(Outcome::Acknowledged { base_offset, .. }) => Attempt::Done(Some(base_offset)),
                Some(Outcome::Duplicate) => Attempt::Done(None),
                Some(Outcome::Ambiguous(refusal)) => Attempt::Ambiguous(format!("{:?}", refusal.code)),
                Some(Outcome::Refused(refusal)) if refusal.code.retriable() => {
                    Attempt::NotYet(format!("{:?}", refusal.code))
                }
                Some(Outcome::Refused(refusal)) => Attempt::Refused(refusal),
                None => Attempt::NotYet("no outcome".to_owned()),
            },
            Err(ProduceError::NotSent(error)) => Attempt::NotYet(error.to_string()),
            Err(ProduceError::Ambiguous(error)) => Attempt::Ambiguous(error.to_string()),
        }
    }
}

/// What may follow a failed batch.
enum Next {
    /// The next batch, at the sequence that the failed one had.
    SameSequence,
    /// Nothing.
    Nothing,
}

enum Attempt {
    Done(Option<Offset>),
    NotYet(String),
    Ambiguous(String),
    Refused(Refusal),
}

/// Whether a refusal says that the broker and this producer do not agree on the sequence.
fn ends_sequence(refusal: &Refusal) -> bool {
    use wire::ErrorCode;
    matches!(
        refusal.code,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::PRODUCER_FENCED
    )
}

fn push(builder: &mut BatchBuilder, record: &OutgoingRecord) {
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|(key, value)| Header { key: key.as_bytes(), value: value.as_deref() })
        .collect();
    builder.push(&NewRecord {
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
    });
}
