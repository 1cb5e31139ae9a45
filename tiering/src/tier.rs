//! The handle that a broker holds: everything the store does for it.
//!
//! Owns: the runtime that all of this crate's work runs on, and the registry of partitions.
//! Does not own: any decision of the broker; a call here never waits for the store unless it says so.

use std::sync::Arc;

use bytes::Bytes;
use hotlog::PartitionId;
use tokio::runtime::Runtime;
use wire::ids::{Offset, ProducerId, TopicId};

use crate::cluster_record::{ClusterIdentity, GroupSnapshot, TopicRecord};
use crate::engine::{Counters, Engine, TierMetrics, TierStatus};
use crate::limits::FIRST_LOOKS;
use crate::local::LocalLog;
use crate::manifest::Committed;
use crate::object::{BlockCodec, EpochStart};
use crate::retention::RetentionAlarm;
use crate::seams::Seams;
use crate::store::{StoreFailure, StoreUrl, open_store};

/// How a tier is opened.
#[derive(Clone, Debug)]
pub struct TierOptions {
    /// The store.
    pub store: StoreUrl,
    /// Whose data folder asks.
    pub identity: ClusterIdentity,
    /// Whether records of this data folder were let go of because a store had them: it must not get another one.
    pub relies_on_store: bool,
    /// How sealed blocks are compressed.
    pub codec: BlockCodec,
    /// Bytes fetched from the store and not yet handed out, over all readers.
    pub read_budget_bytes: usize,
    /// Upper bound of the upload rate.
    pub upload_bytes_per_second: Option<u64>,
    /// Threads of the tier's own runtime.
    pub worker_threads: usize,
}

/// Why a broker may not use the store it was given. Except for `Unavailable`, it must not start with it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenTierError {
    /// The prefix holds another cluster, and this data folder is new: most likely a lost folder.
    #[error(
        "{url} holds the tiered data of cluster {owner_name:?} ({owner_id}), and this data folder is new; to bring that \
         cluster back run `longhaul tier recover --data DIR --store {url}` on an empty DIR, or choose another prefix"
    )]
    InUse {
        /// The store.
        url: String,
        /// Id of the cluster that owns the prefix.
        owner_id: String,
        /// Its name.
        owner_name: String,
    },
    /// The prefix holds another cluster, and this data folder has one of its own.
    #[error(
        "{url} belongs to cluster {owner_name:?} ({owner_id}), this data folder to cluster {cluster_id}; give each \
         cluster a prefix of its own"
    )]
    OwnedByAnother {
        /// The store.
        url: String,
        /// Id of the cluster that owns the prefix.
        owner_id: String,
        /// Its name.
        owner_name: String,
        /// The id in the data folder.
        cluster_id: String,
    },
    /// The cluster was recovered into another data folder; this one is the past.
    #[error(
        "cluster {cluster_id} was recovered from {url} into another data folder (recovery {current}, this folder is of \
         recovery {found}); this folder must not serve any more: move it away"
    )]
    Superseded {
        /// The store.
        url: String,
        /// The cluster.
        cluster_id: String,
        /// The bucket's recovery generation.
        current: u32,
        /// The folder's.
        found: u32,
    },
    /// The prefix is nobody's, and this data folder has records that only another one can have.
    #[error(
        "{url} holds nothing of any cluster, and records of this data folder (cluster {cluster_id}) are in a store and not on \
         local disk any more: start it with the store that it had before (its object `longhaul-owner` names this cluster); \
         if that store was moved, copy all of its prefix here first"
    )]
    NotTheFormer {
        /// The store.
        url: String,
        /// The id in the data folder.
        cluster_id: String,
    },
    /// The store does not keep the promises that fencing rests on, or refuses rights.
    #[error("{url} cannot be used: {detail}")]
    Unusable {
        /// The store.
        url: String,
        /// What is missing, and what to do.
        detail: String,
    },
    /// No answer. Only a new data folder needs one to start.
    #[error(
        "{url} does not answer, and a new data folder must not start before it knows that nobody uses it: {detail}"
    )]
    Unavailable {
        /// The store.
        url: String,
        /// What happened.
        detail: String,
    },
}

impl TierOptions {
    /// The defaults for a store and a data folder.
    pub fn new(store: StoreUrl, identity: ClusterIdentity) -> Self {
        TierOptions {
            store,
            identity,
            relies_on_store: false,
            codec: BlockCodec::default(),
            read_budget_bytes: crate::limits::READ_BUDGET_BYTES,
            upload_bytes_per_second: None,
            worker_threads: 2,
        }
    }
}

/// What total retention may delete, by Kafka's names and meanings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionPolicy {
    /// `retention.ms`; `None` is -1, for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes` over local and remote together; `None` is -1.
    pub retention_bytes: Option<u64>,
    /// `remote.storage.enable` and not `remote.log.copy.disable`: whether new segments are archived.
    pub archive: bool,
    /// Whether `cleanup.policy` is `delete`; otherwise retention deletes nothing.
    pub delete: bool,
}

impl PartitionPolicy {
    /// Whether both let the same be deleted.
    pub(crate) fn deletes_as(&self, other: &Self) -> bool {
        let limits = |policy: &Self| (policy.retention_ms, policy.retention_bytes, policy.delete);
        limits(self) == limits(other)
    }
}

/// What the store holds of a partition: offsets from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteRange {
    /// First offset that may be read.
    pub start: Offset,
    /// One past the last.
    pub end: Offset,
}

/// Batches read from the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColdRead {
    /// Whole batches, byte for byte as they were sent, in order. The first one may start below the offset asked for.
    pub batches: Vec<Bytes>,
    /// Where to go on: the offset after the last batch, or beyond a hole.
    pub next_offset: Offset,
    /// Aborted transactions that overlap the batches.
    pub aborted: Vec<AbortedTransaction>,
}

/// A transaction that was aborted (`Fetch`'s `AbortedTransaction`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: ProducerId,
    /// Its first offset.
    pub first_offset: Offset,
}

/// A record found by time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampOffset {
    /// The record's offset.
    pub offset: Offset,
    /// The record's time, milliseconds.
    pub timestamp_ms: i64,
}

/// Why a read from the store failed. Other partitions, and other ranges, are not affected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// The partition is not attached, or its manifest is not loaded yet: try again.
    #[error("tiered data of {topic_id}-{partition} is not available yet: {detail}")]
    NotReady {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: i32,
        /// What is awaited.
        detail: String,
    },
    /// The offset is below the log start or beyond what the store holds.
    #[error("offset {offset} is not tiered; the store holds {start} to {end}")]
    OutOfRange {
        /// The offset asked for.
        offset: i64,
        /// First tiered offset.
        start: i64,
        /// One past the last tiered offset.
        end: i64,
    },
    /// The store does not answer: try again.
    #[error("the store does not answer: {detail}")]
    Unavailable {
        /// What happened.
        detail: String,
    },
    /// A right on the store is missing: try again when it is back.
    #[error("{detail}")]
    Denied {
        /// Which one, and what to do.
        detail: String,
    },
    /// The object is missing or damaged, twice in a row. The offsets in it are unreadable until somebody repairs it.
    #[error("tiered segment {key} (offsets {start} to {end}) is damaged: {detail}")]
    Damaged {
        /// The object.
        key: String,
        /// Its first offset.
        start: i64,
        /// One past its last offset.
        end: i64,
        /// What is wrong.
        detail: String,
    },
}

/// Everything the store does for a broker. Cheap to clone; the last clone's drop stops the work.
#[derive(Clone, Debug)]
pub struct Tier {
    engine: Arc<Engine>,
    /// Dropped last, without waiting: a runtime must not be waited for inside another.
    runtime: Arc<OwnRuntime>,
}

#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl OwnRuntime {
    fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("tiering")
            .enable_all()
            .build()?;
        Ok(OwnRuntime(Some(runtime)))
    }

    /// Runs work on this runtime, whichever one waits for it.
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = self.0.as_ref().expect("the runtime lives until its handle is dropped");
        match runtime.spawn(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Tier {
    /// Opens the store: proves that it can fence, claims or checks the prefix, raises the writer epoch.
    ///
    /// A data folder that is not new starts even when the store does not answer: the tier connects when it can, and
    /// nothing local waits for it.
    ///
    /// # Errors
    /// The store must not be used by this broker, or (new folders only) does not answer.
    pub async fn open(options: TierOptions) -> Result<Tier, OpenTierError> {
        let unusable = |detail: String| OpenTierError::Unusable { url: options.store.to_string(), detail };
        let store = open_store(&options.store).map_err(|error| unusable(error.to_string()))?;
        let runtime =
            OwnRuntime::start(options.worker_threads).map_err(|error| unusable(error.to_string()))?;
        let engine = runtime.run(Engine::start(options, store, Seams::system())).await?;
        Ok(Tier { engine, runtime: Arc::new(runtime) })
    }

    /// Waits until every partition that is archived was held against what the store has of it, so that none takes records
    /// whose offsets the store holds already. At most for a while, and not at all while the store is away: a log that is
    /// found to be behind later refuses from then on (see [`LocalLog::disagree`]).
    pub async fn first_looks(&self) {
        // Whoever takes longer does so because the store does: as good as away.
        let _ = crate::timers::timeout(FIRST_LOOKS, self.engine.first_looks()).await;
    }

    /// Resolves when this data folder must not serve any more, because its cluster was recovered into another; never else.
    pub async fn superseded(&self) -> OpenTierError {
        self.engine.superseded().await
    }

    /// What [`Tier::superseded`] would resolve to, if it is known already.
    pub fn superseded_by(&self) -> Option<OpenTierError> {
        self.engine.superseded_by()
    }

    /// What a human should hear of the bucket's account of the cluster as a whole.
    pub fn cluster_trouble(&self) -> Option<String> {
        self.engine.cluster_trouble()
    }

    /// Takes a partition into care: its sealed segments are archived, its tiered data can be read.
    pub fn attach(&self, partition: PartitionId, policy: PartitionPolicy, log: Arc<dyn LocalLog>) {
        self.engine.attach(partition, policy, log);
    }

    /// Changes what may be archived and deleted. After a change of what may be deleted, the next retention pass may delete
    /// any share, and the clock counts as right.
    pub fn set_policy(&self, partition: PartitionId, policy: PartitionPolicy) {
        if let Some(tiered) = self.engine.partition(partition) {
            tiered.set_policy(policy);
        }
    }

    /// Lets go of a partition that this broker no longer has; its objects stay.
    pub fn detach(&self, partition: PartitionId) {
        self.engine.detach(partition);
    }

    /// Says that a segment was sealed, so that the archiver does not wait for its tick.
    pub fn segment_sealed(&self, partition: PartitionId) {
        if let Some(tiered) = self.engine.partition(partition) {
            tiered.wake.notify_one();
        }
    }

    /// What the store holds of a partition; `None` when that is nothing, or not known yet.
    pub fn range(&self, partition: PartitionId) -> Option<RemoteRange> {
        let manifest = self.engine.partition(partition)?.source.view.get()?;
        let start = manifest.first_readable()?;
        Some(RemoteRange { start, end: manifest.end_offset() })
    }

    /// Proof of what the store holds for good: local copies below may go, as local limits ask for it.
    pub fn committed(&self, partition: PartitionId) -> Option<Committed> {
        self.engine.partition(partition)?.committed()
    }

    /// The leader epochs of the tiered part, oldest first.
    pub fn epochs(&self, partition: PartitionId) -> Vec<EpochStart> {
        let manifest = self.engine.partition(partition).and_then(|tiered| tiered.source.view.get());
        manifest.map(|manifest| manifest.epochs.clone()).unwrap_or_default()
    }

    /// Where a range begins that a recovery gave up and that ends at `end`; `None` when no such one ends there.
    pub fn lost_before(&self, partition: PartitionId, end: Offset) -> Option<Offset> {
        let manifest = self.engine.partition(partition)?.source.view.get()?;
        manifest.lost_before(end)
    }

    /// Reads whole batches from `from` on: at least one, more up to `max_bytes`. Waits for the first ones only. The next
    /// call at [`ColdRead::next_offset`] finds what was read ahead meanwhile. Safe to cancel.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn fetch(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<ColdRead, ReadError> {
        let counters = &self.engine.metrics;
        Counters::add(&counters.fetch_requests, 1);
        let read = match self.engine.partition(partition) {
            Some(tiered) => self.engine.replay.fetch(&tiered.source, from, max_bytes).await,
            None => Err(not_attached(partition)),
        };
        match &read {
            Ok(read) => {
                let bytes = read.batches.iter().map(|bytes| bytes.len() as u64).sum();
                Counters::add(&counters.fetch_bytes, bytes);
            }
            Err(_) => Counters::add(&counters.fetch_errors, 1),
        }
        read
    }

    /// The first tiered record whose time is at or after `timestamp_ms`; `None` when there is none.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn offset_for_time(
        &self,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let Some(tiered) = self.engine.partition(partition) else { return Err(not_attached(partition)) };
        let engine = self.engine.clone();
        self.runtime
            .run(async move { engine.replay.offset_for_time(&tiered.source, timestamp_ms).await })
            .await
    }

    /// Hands over topics as they are now (deleted ones with their time); committed to the bucket in the background.
    /// A partition's segments are archived only once its topic is there. A topic that is left out stays as it was: a
    /// deletion needs handing over once in the life of a process, and is remembered until it is in the bucket.
    pub fn record_topics(&self, topics: Vec<TopicRecord>) {
        self.engine.desire(|desired| {
            desired.topics.extend(topics.into_iter().map(|topic| (topic.topic_id, topic)));
        });
    }

    /// Hands over the next producer id that was never handed out.
    pub fn record_producer_ids(&self, next: ProducerId) {
        self.engine.desire(|desired| desired.next_producer_id = Some(next.0));
    }

    /// Hands over the groups' committed offsets, now and then.
    pub fn record_group_offsets(&self, snapshot: GroupSnapshot) {
        self.engine.desire(|desired| desired.groups = Some(Arc::new(snapshot)));
    }

    /// How everything stands.
    pub fn status(&self) -> TierStatus {
        self.engine.status()
    }

    /// The partitions of which retention keeps what is due, and why; until it is resolved.
    pub fn retention_alarms(&self) -> Vec<(PartitionId, RetentionAlarm)> {
        self.engine.retention_alarms()
    }

    /// The rights on the store by which nothing works at the moment.
    pub fn store_failures(&self) -> Vec<StoreFailure> {
        self.engine.store_failures()
    }

    /// Counters since the start.
    pub fn metrics(&self) -> TierMetrics {
        self.engine.metrics.read()
    }

    /// Stops archiving and reading, and waits for the tasks to end. What was under way is found again at the next start.
    pub async fn close(self) {
        let engine = self.engine.clone();
        self.runtime.run(async move { engine.close().await }).await;
    }
}

impl Drop for Tier {
    fn drop(&mut self) {
        // The tasks hold the engine too, so it cannot notice by itself that nobody uses it.
        if Arc::strong_count(&self.runtime) == 1 {
            self.engine.stop.cancel();
        }
    }
}

fn not_attached(partition: PartitionId) -> ReadError {
    ReadError::NotReady {
        topic_id: partition.topic_id,
        partition: partition.partition,
        detail: "the partition is not in the tier's care".into(),
    }
}
