//! The loop around one partition's copier: fetches in, produces and commits out.
//!
//! Owns: at most one fetch under way, answers carried back in order, waits between attempts, the share of the memory
//! budget, which leader of the source had all that was read.
//! Does not own: what any of it means (`copier`, `copier::plan`, `recovery`), asking either log (`source`, `look`).

mod fetch_bytes;
mod look;
mod refusal;
mod source;
mod start;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::fetch::Fetched as Answer;
use client::produce::{Outcome, ProduceBatch};
use client::{Cluster, Lane, RequestError, TopicPartition};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use wire::{ErrorCode, LeaderEpoch};

use fetch_bytes::FetchBytes;
use refusal::{MAY_PASS, failure, missing_topic, topic_event};
use source::{Checked, Source, Wanted};
use start::Recovered;

use super::FlowError;
use super::board::Board;
use super::map_log::MapWriter;
use super::memory::MemoryShares;
use super::provenance::Provenance;
use super::tail::{TailError, Target};
use crate::clock::Clock;
use crate::copier::plan::{AbortedTransaction, Fetched, PlanFault, PlanOptions, Planner};
use crate::copier::{Action, Copier, FLUSH_EVERY, Failure, Input, Outgoing, Producer, ReplanReason};
use crate::events::{Event, EventKind, Side};
use crate::map_topic::{Key, MapRecord, PartitionKey, PartitionLedger};
use crate::offset_map::TargetOffset;

/// Answers of fetches, produces and commits that may wait for the loop.
const ANSWERS: usize = 64;
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// How often the target is asked where its log begins: retention moves that now and then, and nothing waits for it.
const LOG_START_EVERY: Duration = Duration::from_secs(30);
/// Looks between batches that may be unanswered before nothing more is fetched: each is kept until it is answered.
const MAX_LOOKS: usize = 64;
/// How long a topic must be missing before it counts as deleted.
const MISSING_FOR: u32 = 12;

/// What a partition's loop needs.
pub(crate) struct PartitionTask {
    pub(crate) flow: Arc<str>,
    pub(crate) key: PartitionKey,
    pub(crate) source: Cluster,
    pub(crate) source_partition: TopicPartition,
    pub(crate) source_lane: Lane,
    pub(crate) target: Target,
    pub(crate) writer: MapWriter,
    pub(crate) provenance: Provenance,
    pub(crate) board: Board,
    pub(crate) generation: u64,
    /// Producer id for a partition that has none yet.
    pub(crate) producer_id: i64,
    pub(crate) start: topology::Start,
    pub(crate) plan: PlanOptions,
    pub(crate) memory: MemoryShares,
    pub(crate) stop: CancellationToken,
    pub(crate) shared: SharedCopier,
}

/// What group sync finds of a partition.
#[derive(Debug, Default)]
pub(crate) enum Shared {
    /// Where it goes on is not known yet.
    #[default]
    Recovering,
    /// Its copier, and with it the offset map.
    Copied(Box<Copier>),
    /// An event says that its map says nothing any more of where groups stand.
    Spoilt,
}

/// A partition's copier, where group sync finds it.
pub(crate) type SharedCopier = Arc<Mutex<Shared>>;

enum Happened {
    Fetched(Result<Checked, TailError>),
    Produced(u64, ProduceAnswer),
    Committed(u64, Result<(), FlowError>),
    /// Where the target's log begins; `None` when it did not answer.
    LogStart(Option<TargetOffset>),
    ReadBack(Vec<(TargetOffset, i32)>),
    Event(EventKind),
}

/// An outcome and the epoch of the leader that was asked.
struct ProduceAnswer {
    outcome: Result<Outcome, String>,
    leader_epoch: i32,
}

/// Why a partition's loop ended.
pub(crate) enum Ended {
    /// It was told to, and its position is written.
    Stopped,
    /// It paused at an event.
    Paused {
        /// Whether the offset map says nothing any more of where groups stand.
        spoils_positions: bool,
    },
    /// The map topic is no longer this owner's to write, or refuses what it writes.
    Replaced(FlowError),
}

impl PartitionTask {
    /// Runs until it is stopped, paused or replaced.
    pub(crate) async fn run(self, ledger: PartitionLedger) -> Ended {
        let start = tokio::select! {
            start = self.recover(&ledger) => start,
            () = self.stop.cancelled() => return Ended::Stopped,
        };
        // The copier has the blocks from here on; a second copy for as long as the partition is copied would be waste.
        drop(ledger);
        match start {
            Ok(Recovered { copier, planner, vouched }) => {
                self.share(Shared::Copied(Box::new(copier)));
                let (answers, answered) = mpsc::channel(ANSWERS);
                let fetch_bytes = FetchBytes::FIRST;
                let mut running = Running {
                    task: &self,
                    source: Source::of(&self),
                    planner,
                    vouched: Some(vouched),
                    answers,
                    fetching: false,
                    asking_log_start: false,
                    plan_round: 0,
                    fetch_bytes,
                    looks: Arc::new(Semaphore::new(MAX_LOOKS)),
                    refused_in_a_row: 0,
                    missing: 0,
                    end: None,
                };
                let ended = running.run(answered).await;
                if matches!(ended, Ended::Paused { spoils_positions: true }) {
                    self.share(Shared::Spoilt);
                }
                ended
            }
            Err(event) => {
                let spoils_positions = event.spoils_positions();
                if spoils_positions {
                    self.share(Shared::Spoilt);
                }
                self.report(event).await;
                Ended::Paused { spoils_positions }
            }
        }
    }

    fn share(&self, shared: Shared) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = shared;
    }

    async fn report(&self, kind: EventKind) {
        let at_ms = Clock::system().now_ms();
        let topic = self.source_partition.topic.to_string();
        let partition = Some(self.source_partition.partition);
        let event = Event { flow: self.flow.to_string(), topic, partition, at_ms, kind };
        tracing::error!(flow = %self.flow, partition = %self.source_partition, "{event}");
        let key = Key::Event {
            flow: event.flow.clone(),
            topic: event.topic.clone(),
            partition: self.source_partition.partition,
        };
        let record = MapRecord::set(&key, event.encode());
        self.figures(|figures| figures.paused = Some(event));
        if let Err(error) = self.writer.commit(vec![record]).await {
            tracing::warn!(%error, "the event could not be kept on the target");
        }
    }

    fn figures(&self, change: impl FnOnce(&mut super::board::PartitionFigures)) {
        let partition = (&*self.source_partition.topic, self.source_partition.partition);
        self.board.change_partition(&self.flow, partition, change);
    }
}

struct Running<'a> {
    task: &'a PartitionTask,
    source: Source,
    planner: Planner,
    /// Leader epoch of the source under which all that was read was found in its log; `None` when that has to be asked
    /// again.
    vouched: Option<LeaderEpoch>,
    answers: mpsc::Sender<Happened>,
    fetching: bool,
    asking_log_start: bool,
    /// Raised when the plan starts again, so that a fetch of before is not taken for one of after.
    plan_round: u64,
    fetch_bytes: FetchBytes,
    /// One permit for each look between batches that may still be begun.
    looks: Arc<Semaphore>,
    refused_in_a_row: u32,
    missing: u32,
    end: Option<Ended>,
}

impl Running<'_> {
    async fn run(&mut self, mut answered: mpsc::Receiver<Happened>) -> Ended {
        let mut flush = tokio::time::interval(FLUSH_EVERY);
        let mut log_start = tokio::time::interval(LOG_START_EVERY);
        let mut told = false;
        self.step(Input::Flush).await;
        loop {
            if let Some(end) = self.end.take() {
                return end;
            }
            self.fetch_if_wanted();
            let happened = tokio::select! {
                happened = answered.recv() => happened,
                _ = flush.tick() => {
                    self.step(Input::Flush).await;
                    continue;
                }
                _ = log_start.tick() => {
                    self.ask_log_start();
                    continue;
                }
                () = self.task.stop.cancelled(), if !told => {
                    told = true;
                    self.step(Input::Stop).await;
                    continue;
                }
            };
            match happened.expect("this loop holds a sender") {
                Happened::Fetched(answer) => self.take_fetched(answer).await,
                Happened::Produced(id, outcome) => self.take_produced(id, outcome).await,
                Happened::Committed(revision, Ok(())) => self.step(Input::Committed { revision }).await,
                Happened::Committed(_, Err(error)) => self.end = Some(Ended::Replaced(error)),
                Happened::LogStart(found) => self.take_log_start(found).await,
                Happened::ReadBack(arrived) => self.step(Input::ReadBack { arrived }).await,
                Happened::Event(event) => self.step(Input::Halt(event)).await,
            }
        }
    }

    fn with_copier<T>(&self, ask: impl FnOnce(&mut Copier) -> T) -> T {
        let mut shared = self.task.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *shared {
            Shared::Copied(copier) => ask(copier),
            _ => unreachable!("the copier is there from the recovery to the end of this loop"),
        }
    }

    async fn step(&mut self, input: Input) {
        let now_ms = Clock::system().now_ms();
        let actions = self.with_copier(|copier| copier.step(input, now_ms));
        let position = self.with_copier(|copier| copier.map().position());
        self.task.figures(|figures| {
            figures.source_position = position.source.0;
            figures.target_position = position.target.0;
        });
        for action in actions {
            self.act(action).await;
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Commit { revision, records } => {
                let (writer, answers) = (self.task.writer.clone(), self.answers.clone());
                tokio::spawn(async move {
                    let result = writer.commit(records).await;
                    let _ = answers.send(Happened::Committed(revision, result)).await;
                });
            }
            Action::Produce { id, producer, batch } => self.produce(id, producer, batch).await,
            Action::ReadBack { position, producer, intents } => self.read_back(position, producer, intents),
            Action::LookBetween { producer_id, source, from, to } => {
                self.look_between(producer_id, source, from..to);
            }
            Action::Replan { from, because } => {
                self.plan_round += 1;
                self.planner.rewind(from);
                let options = &mut self.planner.options;
                match because {
                    ReplanReason::TooLarge { size_bytes } => {
                        options.max_batch_bytes = options.max_batch_bytes.min(size_bytes / 2).max(1024);
                    }
                    ReplanReason::CodecRefused => {
                        options.refused_codecs =
                            vec![wire::compress::Codec::Zstd, wire::compress::Codec::Lz4];
                        options.recode_to = wire::compress::Codec::Gzip;
                    }
                }
            }
            Action::Paused(event) => {
                let spoils_positions = event.spoils_positions();
                self.task.report(event).await;
                self.end = Some(Ended::Paused { spoils_positions });
            }
            Action::Stopped => self.end = Some(Ended::Stopped),
        }
    }

    /// Sends a batch; sends of one partition go out in the order of these calls.
    async fn produce(&self, id: u64, producer: Producer, batch: Outgoing) {
        let task = self.task;
        let (records, bytes, made) =
            (batch.records.unsigned_abs().into(), batch.size_bytes() as u64, batch.made);
        let answers = self.answers.clone();
        let sent = async {
            let leader = task
                .target
                .cluster
                .leader(&task.target.partition)
                .await
                .map_err(|error| error.to_string())?;
            let header = batch.stamped(producer).map_err(|error| error.to_string())?;
            let pieces = vec![bytes::Bytes::copy_from_slice(&header), batch.payload];
            let (partition, topic_id) = (task.target.partition.clone(), task.target.topic_id);
            let produce = vec![ProduceBatch { partition, topic_id, pieces }];
            let pending = task.target.cluster.start_produce(leader.broker, produce, PRODUCE_TIMEOUT).await;
            Ok::<_, String>((pending.map_err(|error| error.to_string())?, leader.epoch.0))
        };
        let sent = sent.await;
        let (board, flow, partition) =
            (task.board.clone(), Arc::clone(&task.flow), task.source_partition.clone());
        tokio::spawn(async move {
            let (outcome, leader_epoch) = match sent {
                Ok((pending, leader_epoch)) => {
                    let produced = pending.outcomes().await.map_err(|error| error.to_string());
                    (produced.map(|mut produced| produced.swap_remove(0).outcome), leader_epoch)
                }
                Err(error) => (Err(error), -1),
            };
            if matches!(outcome, Ok(Outcome::Acknowledged { .. })) {
                let partition = (&*partition.topic, partition.partition);
                board.change_partition(&flow, partition, |figures| figures.count(made, records, bytes));
            }
            let _ = answers.send(Happened::Produced(id, ProduceAnswer { outcome, leader_epoch })).await;
        });
    }

    async fn take_produced(&mut self, id: u64, ProduceAnswer { outcome, leader_epoch }: ProduceAnswer) {
        let failure = match outcome {
            Ok(Outcome::Acknowledged { base_offset, .. }) => {
                self.refused_in_a_row = 0;
                let base_offset = TargetOffset(base_offset.0);
                let acked = Input::Acked { id, base_offset, target_leader_epoch: leader_epoch };
                return self.step(acked).await;
            }
            Ok(Outcome::Duplicate) => Failure::Doubtful("a duplicate without its offset".to_owned()),
            Ok(Outcome::Ambiguous(refusal)) => Failure::Doubtful(refusal.code.to_string()),
            Ok(Outcome::Refused(refusal)) => {
                if MAY_PASS.contains(&refusal.code) {
                    self.refused_in_a_row += 1;
                }
                failure(&refusal, self.refused_in_a_row)
            }
            Err(error) => Failure::Doubtful(error),
        };
        tracing::debug!(partition = %self.task.source_partition, ?failure, "a batch was not acknowledged");
        self.step(Input::Failed { id, failure }).await;
    }

    fn fetch_if_wanted(&mut self) {
        let wanted = self.with_copier(|copier| {
            let room =
                copier.queued_bytes() < self.task.memory.share_bytes() && self.looks.available_permits() > 0;
            copier.is_copying() && (room || copier.is_replaying())
        });
        if !wanted || self.fetching || self.task.stop.is_cancelled() {
            return;
        }
        self.fetching = true;
        let wanted = Wanted::by(&self.planner, self.vouched, self.fetch_bytes.0);
        let (source, answers) = (self.source.clone(), self.answers.clone());
        tokio::spawn(async move {
            let fetched = source.fetch(wanted).await;
            let _ = answers.send(Happened::Fetched(fetched)).await;
        });
    }

    async fn take_fetched(&mut self, fetched: Result<Checked, TailError>) {
        // After anything else, the log may have been replaced by the next fetch.
        self.vouched = match &fetched {
            Ok(Checked { answer, vouched }) if answer.code == ErrorCode::NONE => Some(*vouched),
            _ => None,
        };
        let stale = std::mem::take(&mut self.plan_round) > 0;
        match fetched {
            _ if stale => {}
            Ok(Checked { answer, .. }) if answer.code == ErrorCode::NONE => {
                self.missing = 0;
                self.plan(answer).await;
            }
            Ok(Checked { answer, .. }) => self.take_fetch_error(answer.code).await,
            Err(TailError::Event(event)) => self.halt_at_source(event).await,
            // The session closes the source when it ends.
            Err(TailError::Request(_)) if self.task.stop.is_cancelled() => {}
            Err(TailError::Request(error)) => {
                self.task.board.change(&self.task.flow, |flow| flow.last_error = Some(error.to_string()));
                self.note_missing(matches!(error, RequestError::UnknownPartition(_))).await;
            }
        }
        self.fetching = false;
    }

    async fn take_fetch_error(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::INCONSISTENT_TOPIC_ID => self.note_missing(true).await,
            // An offset out of range too: the next fetch asks first what became of the log.
            _ => sleep(RETRY_WAIT).await,
        }
    }

    /// A source is asked of its log by the topic's name: another topic under it looks like a log that was replaced.
    async fn halt_at_source(&mut self, event: EventKind) {
        let (source, partition) = (&self.task.source, &self.task.source_partition);
        let topic_id = self.task.key.source_topic;
        let is_other = missing_topic(source, partition, topic_id).await;
        let event = match topic_event(source, partition, topic_id, Side::Source) {
            recreated @ EventKind::TopicRecreated { .. } if is_other => recreated,
            _ => event,
        };
        self.step(Input::Halt(event)).await;
    }

    async fn note_missing(&mut self, missing: bool) {
        sleep(RETRY_WAIT).await;
        self.missing = if missing { self.missing + 1 } else { 0 };
        let (source, partition) = (&self.task.source, &self.task.source_partition);
        let topic_id = self.task.key.source_topic;
        if missing && missing_topic(source, partition, topic_id).await {
            let event = topic_event(source, partition, topic_id, Side::Source);
            if self.missing >= MISSING_FOR || !matches!(event, EventKind::TopicDeleted { .. }) {
                self.step(Input::Halt(event)).await;
            }
        }
    }

    async fn plan(&mut self, answer: Answer) {
        let received = answer.records.len();
        let end = answer.last_stable_offset.0.max(0);
        self.task.figures(|figures| figures.saw_source_end(end));
        let aborted = answer.aborted.iter().map(|aborted| AbortedTransaction {
            first_offset: aborted.first_offset,
            producer_id: aborted.producer_id,
        });
        let fetched = Fetched {
            bytes: answer.records,
            aborted: aborted.collect(),
            log_start: answer.log_start_offset.0,
        };
        let producers = Planner::producers_in(&fetched);
        let from_target = match self.task.provenance.producers_from_target(&producers).await {
            Ok(from_target) => from_target,
            Err(error) => {
                tracing::warn!(%error, "reading the source's register of producers again");
                return sleep(RETRY_WAIT).await;
            }
        };
        if !from_target.is_empty() {
            self.with_copier(Copier::note_left_out);
        }
        let before = self.planner.next();
        match self.planner.plan(&fetched, &|producer| from_target.contains(&producer)) {
            Ok(planned) => {
                let stuck = planned.covered_to == before && received > 0;
                self.fetch_bytes = self.fetch_bytes.after(received, stuck, self.task.memory.share_bytes());
                let (batches, covered_to) = (planned.batches, planned.covered_to);
                self.step(Input::Planned { batches, covered_to }).await;
            }
            Err(PlanFault::Event(event)) => self.step(Input::Halt(event)).await,
            Err(PlanFault::ReplayDiffers) => {
                let (from, to) = (before.0, self.planner.next().0);
                let offset = self.with_copier(|copier| copier.map().position().target.0);
                let reason = "the source changed what a batch in the air held".to_owned();
                self.step(Input::Halt(EventKind::Unmatched { offset, from, to, reason })).await;
            }
        }
    }
}
