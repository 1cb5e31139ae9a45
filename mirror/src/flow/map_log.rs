//! The map topic as a log: read to its end, written by one owner, many waiting writers to a batch.
//!
//! Owns: making the topic, its one partition, the producer epoch that fences the owner before, retries.
//! Does not own: what the records say (`map_topic`), reading them (`map_log::reader`), when a partition has something to
//! write (`copier::gathering`).

mod reader;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use client::produce::{Outcome, ProduceBatch, Refusal};
use client::{Cluster, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use wire::batch::{BatchBuilder, BatchOptions, NewRecord, ProducerFields};
use wire::{ErrorCode, ProducerEpoch, ProducerId, TopicId};

pub(crate) use reader::MapReader;

use super::FlowError;
use crate::clock::Clock;
use crate::copier::Producer;
use crate::map_topic::{Claim, Key, Ledger, MAP_TOPIC, MapRecord};

/// Commits that may wait for one another.
const WAITING_COMMITS: usize = 1_024;
/// Bytes that one write gathers, if one commit alone is not larger.
const WRITE_BYTES: usize = 512 * 1024;
/// Largest batch of the topic: the intents of thinned batches list each hole.
const MAX_MESSAGE_BYTES: &str = "8388608";
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// Claims that another claimant may win before this one gives up.
const CLAIM_ATTEMPTS: usize = 8;

fn map_partition() -> TopicPartition {
    TopicPartition::new(MAP_TOPIC, 0)
}

/// Makes the map topic where it is missing.
pub(crate) async fn ensure(cluster: &Cluster) -> Result<(), FlowError> {
    let topic = client::admin::NewTopic {
        name: MAP_TOPIC.to_owned(),
        partitions: 1,
        replication_factor: -1,
        configs: vec![
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("max.message.bytes".to_owned(), MAX_MESSAGE_BYTES.to_owned()),
        ],
    };
    let layout = cluster.refresh(&[Arc::from(MAP_TOPIC)]).await?;
    if layout.topics.contains_key(MAP_TOPIC) {
        return Ok(());
    }
    match cluster.create_topic(&topic).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn batch_of(records: &[MapRecord], producer: Producer, now_ms: i64) -> Bytes {
    let fields = ProducerFields {
        id: ProducerId(producer.id),
        epoch: ProducerEpoch(producer.epoch),
        base_sequence: producer.sequence,
    };
    let mut builder = BatchBuilder::new(BatchOptions { producer: fields, ..BatchOptions::default() });
    for record in records {
        let (key, value) = (Some(&record.key[..]), record.value.as_deref());
        builder.push(&NewRecord { timestamp_ms: now_ms, key, value, headers: &[] });
    }
    builder.build().into()
}

/// How a write ended for good.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Written {
    Done,
    Fenced(String),
    Refused(String),
}

/// Takes note of why a write is made again.
pub(crate) type Trouble = Box<dyn Fn(&str) + Send + Sync>;

/// Writes one batch until its fate is known: the producer's sequence makes repeating it harmless.
///
/// A topic that is missing is waited for: an owner that began anew would make it again, empty, and copy everything
/// twice.
async fn write(cluster: &Cluster, batch: &Bytes, trouble: &(dyn Fn(&str) + Send + Sync)) -> Written {
    loop {
        let attempt = async {
            let leader = cluster.leader(&map_partition()).await.map_err(|error| error.to_string())?;
            let pieces = vec![batch.clone()];
            let produce = ProduceBatch { partition: map_partition(), topic_id: TopicId::ZERO, pieces };
            let produced = cluster.produce(leader.broker, vec![produce], PRODUCE_TIMEOUT).await;
            produced.map_err(|error| error.to_string())
        };
        let ended = attempt.await.and_then(|mut produced| end_of(&produced.swap_remove(0).outcome));
        match ended {
            Ok(written) => return written,
            Err(reason) => {
                tracing::warn!(reason, "writing the map topic again");
                trouble(&reason);
            }
        }
        tokio::time::sleep(RETRY_WAIT).await;
    }
}

/// How an answer ends a write, or else why it is made again.
fn end_of(outcome: &Outcome) -> Result<Written, String> {
    let said = |refusal: &Refusal| match &refusal.message {
        Some(message) => format!("{}: {message}", refusal.code),
        None => refusal.code.to_string(),
    };
    match outcome {
        Outcome::Acknowledged { .. } | Outcome::Duplicate => Ok(Written::Done),
        Outcome::Refused(refusal) if fences(refusal.code) => Ok(Written::Fenced(refusal.code.to_string())),
        Outcome::Refused(refusal) if !refusal.code.retriable() => Ok(Written::Refused(said(refusal))),
        Outcome::Refused(refusal) | Outcome::Ambiguous(refusal) => Err(said(refusal)),
    }
}

fn fences(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::PRODUCER_FENCED
            | ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::UNKNOWN_PRODUCER_ID
    )
}

/// An owner: its generation, and who it writes the map topic as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ownership {
    pub(crate) generation: u64,
    pub(crate) nonce: u64,
    pub(crate) producer: Producer,
}

/// Claims a flow: raises the epoch of its map producer, which fences the owner before, and takes the next generation.
/// The first claim of a generation in the log holds it.
pub(crate) async fn claim(
    cluster: &Cluster,
    flow: &str,
    reader: &mut MapReader,
    ledger: &mut Ledger,
) -> Result<Ownership, FlowError> {
    let clock = Clock::system();
    for _ in 0..CLAIM_ATTEMPTS {
        reader.read_to_end(ledger).await?;
        let held = ledger.holder(flow).map(|(_, _, claim)| (claim.map_producer_id, claim.map_producer_epoch));
        let producer = match held {
            Some((id, epoch)) if epoch < i16::MAX => Producer { id, epoch: epoch + 1, sequence: 0 },
            _ => Producer { id: cluster.init_producer_id().await?.id.0, epoch: 0, sequence: 0 },
        };
        let generation = ledger.newest_generation() + 1;
        let nonce: u64 = rand::random();
        let claim = Claim {
            owner: format!("pid {}", std::process::id()),
            map_producer_id: producer.id,
            map_producer_epoch: producer.epoch,
            at_ms: clock.now_ms(),
        };
        let key = Key::Claim { flow: flow.to_owned(), generation, nonce };
        let record = MapRecord::set(&key, claim.encode());
        let batch = batch_of(&[record], producer, clock.now_ms());
        match write(cluster, &batch, &|_: &str| {}).await {
            Written::Done => {}
            Written::Fenced(code) => tracing::info!(flow, code, "another owner claimed the flow first"),
            Written::Refused(reason) => return Err(FlowError::MapRefused(reason)),
        }
        reader.read_to_end(ledger).await?;
        if ledger.holder(flow).is_some_and(|(_, held, _)| held == nonce) {
            return Ok(Ownership { generation, nonce, producer: producer.after(1) });
        }
        tokio::time::sleep(RETRY_WAIT).await;
    }
    Err(FlowError::ClaimLost)
}

type Waiting = (Vec<MapRecord>, oneshot::Sender<Result<(), FlowError>>);

/// Hands commits to the one task that writes them.
#[derive(Clone, Debug)]
pub(crate) struct MapWriter {
    commits: mpsc::Sender<Waiting>,
    /// Why the task ended before its handles did.
    end: Arc<OnceLock<FlowError>>,
}

impl MapWriter {
    /// Starts the task; it ends when the last handle is dropped, or at the first write that is refused for good.
    pub(crate) fn start(cluster: &Cluster, owner: Ownership, trouble: Trouble) -> Self {
        let (commits, waiting) = mpsc::channel(WAITING_COMMITS);
        let end = Arc::new(OnceLock::new());
        let writing =
            Writing { cluster: cluster.clone(), producer: owner.producer, end: Arc::clone(&end), trouble };
        tokio::spawn(writing.run(waiting));
        Self { commits, end }
    }

    /// Why nothing is written any more; `None` while it is.
    pub(crate) fn ended_by(&self) -> Option<FlowError> {
        self.end.get().cloned()
    }

    /// Writes records as one: all are acknowledged, or this owner was replaced or refused.
    pub(crate) async fn commit(&self, records: Vec<MapRecord>) -> Result<(), FlowError> {
        let (done, answer) = oneshot::channel();
        let lost = || FlowError::Replaced("the map writer has stopped".to_owned());
        let ended = || self.ended_by().unwrap_or_else(lost);
        self.commits.send((records, done)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Writes records that need not be read together, in writes of a bounded size.
    pub(crate) async fn commit_each(&self, records: Vec<MapRecord>) -> Result<(), FlowError> {
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        for record in records {
            if bytes > 0 && bytes + record.size_bytes() > WRITE_BYTES {
                self.commit(std::mem::take(&mut gathered)).await?;
                bytes = 0;
            }
            bytes += record.size_bytes();
            gathered.push(record);
        }
        if gathered.is_empty() { Ok(()) } else { self.commit(gathered).await }
    }
}

/// The task behind a [`MapWriter`].
struct Writing {
    cluster: Cluster,
    producer: Producer,
    end: Arc<OnceLock<FlowError>>,
    trouble: Trouble,
}

impl Writing {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut held_over = None;
        loop {
            let first = match held_over.take() {
                Some(first) => Some(first),
                None => waiting.recv().await,
            };
            let Some((mut records, done)) = first else { return };
            let mut all_done = vec![done];
            let mut bytes = size_bytes(&records);
            while bytes < WRITE_BYTES
                && let Ok((more, done)) = waiting.try_recv()
            {
                bytes += size_bytes(&more);
                // Together they might be refused as too large, where each alone is taken.
                if bytes > WRITE_BYTES {
                    held_over = Some((more, done));
                    break;
                }
                records.extend(more);
                all_done.push(done);
            }
            let end = self.write(&records).await;
            if let Some(error) = &end {
                // Before any answer, so that whoever finds the task gone finds the reason too.
                let _ = self.end.set(error.clone());
            }
            for done in all_done {
                // Who no longer waits has stopped.
                let _ = done.send(end.clone().map_or(Ok(()), Err));
            }
            if end.is_some() {
                return;
            }
        }
    }

    /// Writes records in one batch; answers what ends the task.
    async fn write(&mut self, records: &[MapRecord]) -> Option<FlowError> {
        let batch = batch_of(records, self.producer, Clock::system().now_ms());
        let written = write(&self.cluster, &batch, &*self.trouble).await;
        self.producer = self.producer.after(i32::try_from(records.len()).unwrap_or(i32::MAX));
        match written {
            Written::Done => None,
            Written::Fenced(code) => Some(FlowError::Replaced(code)),
            Written::Refused(reason) => Some(FlowError::MapRefused(reason)),
        }
    }
}

fn size_bytes(records: &[MapRecord]) -> usize {
    records.iter().map(MapRecord::size_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: ErrorCode) -> Refusal {
        Refusal { code, message: None, records: Vec::new() }
    }

    #[test]
    fn a_refusal_that_no_retry_heals_ends_the_writer() {
        for code in [
            ErrorCode::MESSAGE_TOO_LARGE,
            ErrorCode::RECORD_LIST_TOO_LARGE,
            ErrorCode::INVALID_RECORD,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            ErrorCode::POLICY_VIOLATION,
        ] {
            let ended = end_of(&Outcome::Refused(refusal(code)));
            assert!(matches!(ended, Ok(Written::Refused(_))), "{code}");
        }
        let fenced = end_of(&Outcome::Refused(refusal(ErrorCode::INVALID_PRODUCER_EPOCH)));
        assert!(matches!(fenced, Ok(Written::Fenced(_))));
    }

    #[test]
    fn what_may_pass_is_written_again() {
        for code in [
            ErrorCode::NOT_ENOUGH_REPLICAS,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::CORRUPT_MESSAGE,
            ErrorCode::THROTTLING_QUOTA_EXCEEDED,
        ] {
            assert!(end_of(&Outcome::Refused(refusal(code))).is_err(), "{code}");
        }
        let unclear = Outcome::Ambiguous(refusal(ErrorCode::UNKNOWN_SERVER_ERROR));
        assert!(end_of(&unclear).is_err());
        assert_eq!(end_of(&Outcome::Duplicate), Ok(Written::Done));
    }
}
