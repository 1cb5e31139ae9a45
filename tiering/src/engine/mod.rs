//! The tier at work: connecting, one task per partition, one task for the cluster manifest.
//!
//! Owns: when things run, and what is known about them. Does not own: the runtime (see `tier`), so that a simulation
//! runs the same engine on its own time.

mod cluster;
mod partition;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hotlog::PartitionId;
use hotlog::retention::{ClockReading, PassInterval, TrustedClock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::ids::TopicId;

use self::cluster::{ClusterSide, Desired};
pub(crate) use self::partition::Tiered;
pub(crate) use self::status::Counters;
pub use self::status::{PartitionStatus, TierMetrics, TierState, TierStatus};
use crate::archiver::{RateLimit, Uploader};
use crate::limits::{CLOCK_JUMP, COPY_READS_IN_FLIGHT, UPLOADS_IN_FLIGHT};
use crate::local::LocalLog;
use crate::object::LogIdentity;
use crate::replay::Replay;
use crate::retention::RetentionAlarm;
use crate::seams::Seams;
use crate::store::{Store, StoreFailure, WatchedStore};
use crate::tier::{OpenTierError, PartitionPolicy, TierOptions};

/// Everything that the tasks share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) options: TierOptions,
    pub(crate) store: Arc<dyn Store>,
    /// The same store, asked which rights fail.
    watched: Arc<WatchedStore>,
    pub(crate) seams: Seams,
    /// From here steady time counts.
    started: Instant,
    /// When retention last trusted the wall clock.
    clock: Mutex<TrustedClock>,
    pub(crate) replay: Arc<Replay>,
    pub(crate) metrics: Counters,
    uploader: Uploader,
    uploads: Semaphore,
    /// Who may read a local copy to see whether it may go.
    copy_reads: Semaphore,
    runtime: Handle,
    /// The writer epoch of this process, once it is claimed.
    writer_epoch: watch::Sender<Option<u64>>,
    state: watch::Sender<TierState>,
    /// Why this data folder must not serve any more, once that is known.
    superseded: watch::Sender<Option<OpenTierError>>,
    /// What ails the cluster manifest.
    cluster_trouble: Mutex<Option<String>>,
    partitions: RwLock<BTreeMap<PartitionId, Arc<Tiered>>>,
    /// Topics that the cluster manifest names: only their segments are archived.
    topics: RwLock<BTreeSet<TopicId>>,
    desired: Mutex<Desired>,
    desired_changed: Notify,
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
}

impl Engine {
    /// Connects to the store and starts the work.
    ///
    /// # Errors
    /// As [`crate::Tier::open`].
    pub(crate) async fn start(
        options: TierOptions,
        store: Arc<dyn Store>,
        seams: Seams,
    ) -> Result<Arc<Engine>, OpenTierError> {
        let runtime = Handle::current();
        let watched = Arc::new(WatchedStore::new(store, seams.clone()));
        let store: Arc<dyn Store> = watched.clone();
        let connected = cluster::connect(&*store, store.clone(), &options, &seams).await;
        let (side, state) = match connected {
            Ok(side) => (Some(side), TierState::Ready),
            Err(OpenTierError::Unavailable { detail, .. }) if !options.identity.fresh => {
                tracing::warn!(store = %options.store, %detail, "the store does not answer; the broker starts without it");
                (None, TierState::Connecting { last_error: detail })
            }
            Err(error) => return Err(error),
        };
        let rate = Arc::new(RateLimit::new(options.upload_bytes_per_second));
        let beginning = ClockReading { wall_ms: seams.now_ms(), steady_ms: 0 };
        let engine = Arc::new(Engine {
            replay: Replay::new(store.clone(), seams.clone(), runtime.clone(), options.read_budget_bytes),
            uploader: Uploader { store: store.clone(), seams: seams.clone(), codec: options.codec, rate },
            uploads: Semaphore::new(UPLOADS_IN_FLIGHT),
            copy_reads: Semaphore::new(COPY_READS_IN_FLIGHT),
            metrics: Counters::default(),
            runtime,
            writer_epoch: watch::Sender::new(None),
            state: watch::Sender::new(state),
            superseded: watch::Sender::new(None),
            cluster_trouble: Mutex::default(),
            partitions: RwLock::default(),
            topics: RwLock::default(),
            desired: Mutex::default(),
            desired_changed: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            started: Instant::now(),
            clock: Mutex::new(TrustedClock::new(beginning, CLOCK_JUMP.as_millis() as u64)),
            options,
            store,
            watched,
            seams,
        });
        if let Some(side) = &side {
            engine.connected(side);
        }
        engine.spawn(cluster::run(engine.clone(), side));
        Ok(engine)
    }

    fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work => {}
                }
            },
            &self.runtime,
        );
    }

    fn connected(&self, side: &ClusterSide) {
        self.note_topics(side);
        self.writer_epoch.send_replace(Some(side.writer_epoch()));
        self.state.send_replace(TierState::Ready);
    }

    fn note_topics(&self, side: &ClusterSide) {
        let live = side.live_topics();
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if *topics != live {
            *topics = live;
            drop(topics);
            self.each_partition(|tiered| tiered.wake.notify_one());
        }
    }

    fn refuse(&self, reason: String) {
        tracing::error!(store = %self.options.store, %reason, "tiering stops; the local log goes on");
        self.state.send_replace(TierState::Refused { reason });
    }

    /// Says that the cluster lives on in another data folder: nothing of this one counts any more.
    fn supersede(&self, error: OpenTierError) {
        self.refuse(error.to_string());
        self.superseded.send_replace(Some(error));
    }

    /// Waits until it is known that this data folder must not serve; for ever, as a rule.
    pub(crate) async fn superseded(&self) -> OpenTierError {
        let mut superseded = self.superseded.subscribe();
        let found = superseded.wait_for(Option::is_some).await.map(|error| error.clone());
        match found {
            Ok(Some(error)) => error,
            // The sender lives as long as the engine does.
            _ => std::future::pending().await,
        }
    }

    /// The same, as far as it is known now.
    pub(crate) fn superseded_by(&self) -> Option<OpenTierError> {
        self.superseded.borrow().clone()
    }

    fn show_cluster_trouble(&self, trouble: Option<String>) {
        *self.cluster_trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What ails the cluster manifest, for people.
    pub(crate) fn cluster_trouble(&self) -> Option<String> {
        self.cluster_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until every partition that is archived was held against the store once, or could not be; not at all while the
    /// store is away.
    pub(crate) async fn first_looks(&self) {
        if *self.state.borrow() != TierState::Ready {
            return;
        }
        let mut archived = Vec::new();
        self.each_partition(|tiered| archived.extend(tiered.is_archived().then(|| tiered.clone())));
        for tiered in archived {
            tiered.first_look().await;
        }
    }

    /// Whether another writer has taken over, or the store was found to be somebody else's.
    fn is_refused(&self) -> bool {
        matches!(*self.state.borrow(), TierState::Refused { .. })
    }

    /// Both clocks as they are now.
    fn clocks(&self) -> ClockReading {
        let steady_ms = crate::timers::since(self.started).as_millis() as i64;
        ClockReading { wall_ms: self.seams.now_ms(), steady_ms }
    }

    /// What passed by either clock since the wall clock was last trusted. One memory for all partitions: one that is new
    /// knows as well that the clock stepped.
    fn since_trusted(&self, now: ClockReading) -> PassInterval {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).look(now)
    }

    fn knows_topic(&self, topic_id: TopicId) -> bool {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).contains(&topic_id)
    }

    fn each_partition(&self, visit: impl FnMut(&Arc<Tiered>)) {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).values().for_each(visit);
    }

    pub(crate) fn log_identity(&self, id: PartitionId) -> LogIdentity {
        LogIdentity {
            cluster_id: self.options.identity.cluster_id.clone(),
            topic_id: id.topic_id,
            partition: id.partition,
        }
    }

    pub(crate) fn attach(self: &Arc<Self>, id: PartitionId, policy: PartitionPolicy, log: Arc<dyn LocalLog>) {
        let tiered = Arc::new(Tiered::new(id, self.log_identity(id), policy, log));
        let before = {
            let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
            partitions.insert(id, tiered.clone())
        };
        if let Some(before) = before {
            before.stop.cancel();
        }
        self.spawn(partition::run(self.clone(), tiered));
    }

    pub(crate) fn detach(&self, id: PartitionId) {
        let removed = self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(tiered) = removed {
            tiered.stop.cancel();
        }
    }

    pub(crate) fn partition(&self, id: PartitionId) -> Option<Arc<Tiered>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn partition_count(&self) -> usize {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Changes what the cluster manifest should say; a later call before the commit replaces an earlier one.
    pub(crate) fn desire(&self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.desired.lock().unwrap_or_else(PoisonError::into_inner));
        self.desired_changed.notify_one();
    }

    pub(crate) fn status(&self) -> TierStatus {
        let mut partitions = Vec::new();
        self.each_partition(|tiered| partitions.push(tiered.status(self.seams.now_ms())));
        TierStatus { store: self.options.store.to_string(), state: self.state.borrow().clone(), partitions }
    }

    pub(crate) fn retention_alarms(&self) -> Vec<(PartitionId, RetentionAlarm)> {
        let mut alarms = Vec::new();
        self.each_partition(|tiered| alarms.extend(tiered.retention_alarm()));
        alarms
    }

    pub(crate) fn store_failures(&self) -> Vec<StoreFailure> {
        self.watched.failures()
    }

    /// Stops all tasks and waits for them.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests;
