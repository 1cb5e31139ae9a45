//! One ownership of a flow, from its claim to the last written position.
//!
//! What goes on at the same time is a task of its own, or is polled in one `select!` whose arms await nothing: nobody
//! stands still while another waits for a cluster that does not answer, and the stop is seen at once.
//!
//! Owns: the order claim, ledger, topics, partitions; looking for new topics and partitions; the drain.
//! Does not own: who owns (`owner`), what a partition does (`partition`), how the flow fares (`watch`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use client::offsets::Place;
use client::{Cluster, Isolation, Lane, RequestError, TopicPartition};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use wire::{Offset, ProducerId};

use super::board::Board;
use super::group_sync::GroupSyncer;
use super::map_log::{self, MapReader, MapWriter, Ownership};
use super::memory::MemoryShares;
use super::partition::{Ended, PartitionTask, SharedCopier};
use super::places::{Copied, Copy, Places};
use super::provenance::Provenance;
use super::tail::Target;
use super::topics::{self, Pair};
use super::watch::{self, HeardAgo, Watch};
use super::{FlowError, cluster_id};
use crate::Options;
use crate::clock::Clock;
use crate::copier::plan::PlanOptions;
use crate::events::{Event, EventKind, Side};
use crate::map_topic::{Key, Ledger, MapRecord, PartitionLedger, RegisteredProducer, Scope};
use crate::spec::FlowSpec;

/// How often new topics and partitions are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Looks in a row that must not show a topic before it counts as deleted.
const MISSING_FOR_LOOKS: u32 = 2;
/// Connections to each source broker over which partitions are spread.
const SOURCE_LANES: usize = 16;
/// Partitions that were found and wait to be started.
const STARTS: usize = 64;
/// How long partitions may take to drain; the group waits longer than that.
pub(crate) const DRAIN_WITHIN: Duration = Duration::from_secs(8);

/// Ends a flow that was promoted.
pub(crate) async fn refuse_promoted(target: &Cluster, spec: &FlowSpec) -> Result<(), FlowError> {
    if !MapReader::exists(target).await? {
        return Ok(());
    }
    let mut ledger = Ledger::within(Scope::Account { flow: spec.name.clone() });
    MapReader::new(target).read_to_end(&mut ledger).await?;
    not_promoted(&ledger, spec)
}

fn not_promoted(ledger: &Ledger, spec: &FlowSpec) -> Result<(), FlowError> {
    match ledger.promotion(&spec.name) {
        Some(promotion) => Err(FlowError::Promoted { flow: spec.name.clone(), at_ms: promotion.at_ms }),
        None => Ok(()),
    }
}

/// Hands over partitions to be started.
type Starts = mpsc::Sender<(PartitionTask, PartitionLedger)>;

/// What a session works with.
pub(crate) struct Session<'a> {
    pub(crate) spec: &'a FlowSpec,
    pub(crate) options: &'a Options,
    pub(crate) board: &'a Board,
    pub(crate) source: &'a Cluster,
    pub(crate) target: &'a Cluster,
}

struct Claimed {
    owner: Ownership,
    ledger: Ledger,
    /// First offset of the map topic when it was read: above 0, its beginning is lost.
    map_log_start: Offset,
    writer: MapWriter,
    source_id: Arc<str>,
    target_id: Arc<str>,
    producer_id: i64,
    provenance: Provenance,
    lanes: Vec<Lane>,
    memory: MemoryShares,
    copied: Copied,
    /// Partitions whose task was started, whatever has become of it.
    started: HashSet<TopicPartition>,
    /// Topics that stand as a whole at an event.
    paused: HashSet<Arc<str>>,
    /// Topics that the source does not show, and how many looks it has not.
    missing: HashMap<Arc<str>, u32>,
    stop: CancellationToken,
}

impl Session<'_> {
    /// Copies until `stop`, then drains. Ends earlier when the flow was promoted or another owner took over.
    pub(crate) async fn run(&self, stop: CancellationToken) -> Result<(), FlowError> {
        let claiming = self.claim(stop.clone());
        let Some(claimed) = stop.run_until_cancelled(claiming).await else { return Ok(()) };
        let mut claimed = claimed?;
        let generation = claimed.owner.generation;
        self.board.change(&self.spec.name, |flow| flow.begin(generation));
        tracing::info!(flow = self.spec.name, generation, "owning the flow");
        let mut tasks = JoinSet::new();
        let copied = self.copy(&mut claimed, &mut tasks).await;
        claimed.stop.cancel();
        // A drain brings in what the target has. Whoever waits for the source now, which may hang, would hold it up.
        self.source.close().await;
        match claimed.writer.ended_by() {
            // Who was replaced can write nothing down any more, and moves no group either.
            Some(_) => tasks.shutdown().await,
            None => self.drain(&mut tasks).await,
        }
        copied
    }

    /// Waits for the tasks to end, but not for ever.
    async fn drain(&self, tasks: &mut JoinSet<Ended>) {
        let drain = async {
            while let Some(ended) = tasks.join_next().await {
                if let Ok(Ended::Replaced(error)) = ended {
                    tracing::warn!(flow = self.spec.name, %error, "replaced while draining");
                }
            }
        };
        if tokio::time::timeout(DRAIN_WITHIN, drain).await.is_err() {
            tracing::warn!(
                flow = self.spec.name,
                "not all partitions drained in time; the next owner reads back"
            );
        }
        tasks.shutdown().await;
    }

    async fn claim(&self, stop: CancellationToken) -> Result<Claimed, FlowError> {
        map_log::ensure(self.target).await?;
        let mut reader = MapReader::new(self.target);
        let source_id = cluster_id(self.source, &self.spec.from)?;
        let (flow, source_cluster) = (self.spec.name.clone(), Arc::clone(&source_id));
        let mut ledger = Ledger::within(Scope::Owner { flow, source_cluster });
        reader.read_to_end(&mut ledger).await?;
        not_promoted(&ledger, self.spec)?;
        let owner = map_log::claim(self.target, &self.spec.name, &mut reader, &mut ledger).await?;
        // Whoever promoted the flow while this one claimed it has written so before this claim.
        not_promoted(&ledger, self.spec)?;
        ledger.leave_to_others(|topic| self.spec.copies(topic));
        let (board, flow) = (self.board.clone(), self.spec.name.clone());
        let trouble = move |reason: &str| {
            let reason = format!("the map topic on the target cannot be written: {reason}");
            board.change(&flow, |figures| figures.last_error = Some(reason));
        };
        let writer = MapWriter::start(self.target, owner, Box::new(trouble));
        let target_id = cluster_id(self.target, &self.spec.to)?;
        let producer_id = self.producer_id(&ledger, &writer, &source_id).await?;
        self.tidy(&ledger, &writer, owner).await?;
        Ok(Claimed {
            owner,
            ledger,
            map_log_start: reader.log_start(),
            writer,
            source_id,
            producer_id,
            provenance: Provenance::new(self.source, Arc::clone(&target_id)),
            target_id,
            lanes: (0..SOURCE_LANES).map(|_| self.source.own_lane()).collect(),
            memory: MemoryShares::new(self.options.memory_bytes),
            copied: Copied::default(),
            started: HashSet::new(),
            paused: HashSet::new(),
            missing: HashMap::new(),
            stop,
        })
    }

    /// The producer id for new partitions: registered before its first batch, so that a flow back knows it.
    async fn producer_id(
        &self,
        ledger: &Ledger,
        writer: &MapWriter,
        source_id: &str,
    ) -> Result<i64, FlowError> {
        let ours = RegisteredProducer { flow: self.spec.name.clone(), source_cluster: source_id.to_owned() };
        if let Some((id, _)) = ledger.producers().find(|(_, registered)| **registered == ours) {
            return Ok(id.0);
        }
        let id: ProducerId = self.target.init_producer_id().await?.id;
        writer.commit(vec![MapRecord::set(&Key::Producer(id), ours.encode())]).await?;
        Ok(id.0)
    }

    /// Forgets claims of owners before and events that this owner will meet again if they still hold.
    async fn tidy(&self, ledger: &Ledger, writer: &MapWriter, owner: Ownership) -> Result<(), FlowError> {
        let flow = &self.spec.name;
        let old = ledger.claims(flow).filter(|(_, nonce)| *nonce != owner.nonce);
        let claims = old.map(|(generation, nonce)| Key::Claim { flow: flow.clone(), generation, nonce });
        let events = ledger.events(flow).map(|event| Key::Event {
            flow: flow.clone(),
            topic: event.topic.clone(),
            partition: event.partition.unwrap_or(-1),
        });
        let records: Vec<_> = claims.chain(events).map(|key| MapRecord::forget(&key)).collect();
        writer.commit_each(records).await
    }

    async fn copy(&self, claimed: &mut Claimed, tasks: &mut JoinSet<Ended>) -> Result<(), FlowError> {
        let (writer, stop) = (claimed.writer.clone(), claimed.stop.clone());
        let syncer = self.syncer(claimed);
        tasks.spawn(async move {
            syncer.run().await;
            Ended::Stopped
        });
        let (starts, mut started) = mpsc::channel(STARTS);
        let mut looking = std::pin::pin!(self.look_for_new(claimed, &starts));
        let (mut watch, mut watching) = (Watch::default(), tokio::time::interval(watch::LOOK_EVERY));
        watching.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // No arm awaits anything: while it did, the look for new topics would not be polled.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                error = &mut looking => return Err(error),
                Some((task, ledger)) = started.recv() => {
                    tasks.spawn(task.run(ledger));
                }
                _ = watching.tick() => {
                    // Partitions that have nothing to write would not meet it.
                    if let Some(error) = writer.ended_by() {
                        return Err(error);
                    }
                    self.watch(&mut watch);
                }
                Some(ended) = tasks.join_next() => match ended {
                    Ok(Ended::Replaced(error)) => return Err(error),
                    Ok(Ended::Stopped | Ended::Paused { .. }) => {}
                    Err(error) => {
                        tracing::error!(flow = self.spec.name, %error, "a task of the flow died");
                        return Err(FlowError::Replaced("a task of the flow died".to_owned()));
                    }
                },
            }
        }
    }

    fn syncer(&self, claimed: &Claimed) -> GroupSyncer {
        let copied = Arc::clone(&claimed.copied);
        GroupSyncer {
            spec: self.spec.clone(),
            source: self.source.clone(),
            target: self.target.clone(),
            writer: claimed.writer.clone(),
            board: self.board.clone(),
            places: Places::new(self.spec, self.source, copied, Arc::clone(&claimed.target_id)),
            stop: claimed.stop.clone(),
        }
    }

    fn watch(&self, watch: &mut Watch) {
        // Both have answered when they were connected to.
        let ago = |cluster: &Cluster| cluster.heard_at().map_or(Duration::ZERO, |at| at.elapsed());
        let heard_ago = HeardAgo { source: ago(self.source), target: ago(self.target) };
        let now_ms = Clock::system().now_ms();
        self.board.change(&self.spec.name, |figures| watch.look(figures, heard_ago, now_ms));
    }

    /// Looks for what is new now and then; ends with what ends the session.
    async fn look_for_new(&self, claimed: &mut Claimed, starts: &Starts) -> FlowError {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Err(error) = self.start_new(claimed, starts).await {
                return error;
            }
        }
    }

    /// Starts what is new: topics that match, partitions that were added. Notices topics that are gone.
    async fn start_new(&self, claimed: &mut Claimed, starts: &Starts) -> Result<(), FlowError> {
        let names = match topics::matching(self.source, self.spec).await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(flow = self.spec.name, %error, "the source does not say which topics it has");
                return Ok(());
            }
        };
        self.note_missing(claimed, &names).await?;
        for name in names {
            let known = self.source.layout().topics.get(&name).map_or(0, |topic| topic.partitions.len());
            let have = claimed.started.iter().filter(|partition| partition.topic == name).count();
            if have >= known || claimed.paused.contains(&name) {
                continue;
            }
            if self.has_lost_its_target(claimed, &name).await {
                self.pause_topic(claimed, &name, EventKind::TopicDeleted { side: Side::Target }).await?;
                continue;
            }
            match topics::pair(self.source, self.target, self.spec, &name).await {
                Ok(pair) => self.start_topic(claimed, starts, &pair).await?,
                Err(error) => tracing::warn!(flow = self.spec.name, topic = &*name, %error, "not copied yet"),
            }
        }
        Ok(())
    }

    /// Topics that were copied by an owner before and are no longer there. Those that this owner copies are noticed
    /// by their partitions.
    async fn note_missing(&self, claimed: &mut Claimed, names: &[Arc<str>]) -> Result<(), FlowError> {
        let bound: Vec<Arc<str>> =
            claimed.ledger.bindings(&self.spec.name).map(|(topic, _)| topic.into()).collect();
        for topic in bound {
            let copied = claimed.started.iter().any(|partition| partition.topic == topic);
            if names.contains(&topic)
                || copied
                || !self.spec.copies(&topic)
                || claimed.paused.contains(&topic)
            {
                claimed.missing.remove(&topic);
                continue;
            }
            let looks = claimed.missing.entry(Arc::clone(&topic)).or_default();
            *looks += 1;
            if *looks >= MISSING_FOR_LOOKS {
                self.pause_topic(claimed, &topic, EventKind::TopicDeleted { side: Side::Source }).await?;
            }
        }
        Ok(())
    }

    /// Whether the flow has tied the topic to one that its target no longer has.
    async fn has_lost_its_target(&self, claimed: &Claimed, name: &Arc<str>) -> bool {
        let Some(bound) = claimed.ledger.binding(&self.spec.name, name) else { return false };
        let target: Arc<str> = bound.target_name.as_str().into();
        let known = self.target.refresh(&[Arc::clone(&target)]).await;
        *target == *self.spec.rename.apply(name)
            && known.is_ok_and(|known| !known.topics.contains_key(&target))
    }

    async fn start_topic(
        &self,
        claimed: &mut Claimed,
        starts: &Starts,
        pair: &Pair,
    ) -> Result<(), FlowError> {
        let now = pair.binding(&claimed.source_id);
        let bound = claimed.ledger.binding(&self.spec.name, &pair.source);
        if let Some(event) = bound.and_then(|bound| topics::rebound(bound, &now)) {
            return self.pause_topic(claimed, &pair.source, event).await;
        }
        // Before the binding is written: it would tie the flow to a target topic that the operator may have to delete.
        let forgotten = self.forgotten(claimed, pair).await;
        match forgotten {
            Ok(None) => {}
            Ok(Some(event)) => return self.pause_topic(claimed, &pair.source, event).await,
            Err(error) => {
                tracing::warn!(flow = self.spec.name, topic = &*pair.source, %error, "not copied yet");
                return Ok(());
            }
        }
        if bound != Some(&now) {
            let key = Key::Binding { flow: self.spec.name.clone(), topic: pair.source.to_string() };
            claimed.writer.commit(vec![MapRecord::set(&key, now.encode())]).await?;
            claimed.ledger.bind(&self.spec.name, &pair.source, now);
        }
        for partition in 0..pair.partitions {
            let source_partition = TopicPartition::new(Arc::clone(&pair.source), partition);
            if claimed.started.insert(source_partition.clone()) {
                let start = self.partition_task(claimed, pair, source_partition);
                // Whoever starts them polls this, and so outlives it.
                let _ = starts.send(start).await;
            }
        }
        Ok(())
    }

    /// The event at a topic whose copy the flow has forgotten: asked before partitions start from nothing.
    async fn forgotten(&self, claimed: &Claimed, pair: &Pair) -> Result<Option<EventKind>, RequestError> {
        if claimed.map_log_start <= Offset(0) {
            return Ok(None);
        }
        let mut asked = Vec::new();
        for partition in 0..pair.partitions {
            let key = pair.key(&claimed.source_id, partition);
            let known = claimed.ledger.partition(&key).and_then(PartitionLedger::offset_map).is_some();
            let source_partition = TopicPartition::new(Arc::clone(&pair.source), partition);
            if !known && !claimed.started.contains(&source_partition) {
                asked.push((TopicPartition::new(Arc::clone(&pair.target), partition), Place::Latest));
            }
        }
        let found = self.target.list_offsets(&asked, Isolation::ReadUncommitted).await?;
        let ends: Vec<Offset> = found.iter().filter_map(|found| found.offset).collect();
        Ok(topics::forgotten(claimed.map_log_start, &ends))
    }

    async fn pause_topic(
        &self,
        claimed: &mut Claimed,
        topic: &Arc<str>,
        kind: EventKind,
    ) -> Result<(), FlowError> {
        claimed.paused.insert(Arc::clone(topic));
        let (flow, topic) = (self.spec.name.clone(), topic.to_string());
        let at_ms = Clock::system().now_ms();
        let event = Event { flow: flow.clone(), topic: topic.clone(), partition: None, at_ms, kind };
        tracing::error!(flow, topic, "{event}");
        let value = event.encode();
        self.board.change(&flow, |figures| figures.pause_topic(&event));
        let key = Key::Event { flow, topic, partition: -1 };
        claimed.writer.commit(vec![MapRecord::set(&key, value)]).await
    }

    fn partition_task(
        &self,
        claimed: &mut Claimed,
        pair: &Pair,
        source_partition: TopicPartition,
    ) -> (PartitionTask, PartitionLedger) {
        let partition = source_partition.partition;
        let key = pair.key(&claimed.source_id, partition);
        claimed.memory.join();
        let ledger = claimed.ledger.take_partition(&key);
        let shared = SharedCopier::default();
        let mut copied = claimed.copied.lock().unwrap_or_else(PoisonError::into_inner);
        let had_left_out = ledger.progress().is_some_and(|(_, progress)| progress.left_out);
        let copy = Copy { key: key.clone(), shared: Arc::clone(&shared), had_left_out };
        copied.insert(source_partition.clone(), copy);
        let lane = claimed.lanes[copied.len() % claimed.lanes.len()];
        drop(copied);
        let max_batch_bytes = pair.max_batch_bytes;
        let coalesce_to_bytes = self.options.coalesce_to_bytes;
        let task = PartitionTask {
            flow: self.spec.name.as_str().into(),
            key,
            source: self.source.clone(),
            source_partition,
            source_lane: lane,
            target: Target {
                cluster: self.target.clone(),
                partition: TopicPartition::new(Arc::clone(&pair.target), partition),
                topic_id: pair.target_id,
            },
            writer: claimed.writer.clone(),
            provenance: claimed.provenance.clone(),
            board: self.board.clone(),
            generation: claimed.owner.generation,
            producer_id: claimed.producer_id,
            start: self.spec.start,
            plan: PlanOptions { max_batch_bytes, coalesce_to_bytes, ..PlanOptions::default() },
            memory: claimed.memory.clone(),
            stop: claimed.stop.clone(),
            shared,
        };
        (task, ledger)
    }
}
