//! The broker's shared state: what every request handler may ask for and change.
//!
//! Owns: the topics being served, the metadata and its changes, producer ids, budgets, fetch sessions.
//! Does not own: connections, start and stop (`serve`), the decisions about metadata (`metadata::changes`).

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hotlog::{LogDirectory, PartitionConfig, PartitionId};
use rand::RngExt;
use tiering::{PartitionPolicy, Tier};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wire::ids::{ProducerId, TopicId};

use crate::archive::ArchivedLog;
use crate::clock::Clock;
use crate::cold_reads::ColdReads;
use crate::fetch_sessions::FetchSessions;
use crate::groups::coordinator::{Coordinator, OffsetsLog};
use crate::groups::{OFFSETS_PARTITIONS, OFFSETS_TOPIC};
use crate::limits::{FETCH_RESPONSES_BYTES, PRODUCER_ID_BLOCK};
use crate::metadata::changes::{self, ChangeRefused, NewTopic};
use crate::metadata::image::{ClusterIdentity, MetadataImage, TopicEntry};
use crate::metadata::records::MetadataRecord;
use crate::metadata::{CommitMetadataError, MetadataLog};
use crate::metrics::Metrics;
use crate::partition::{Partition, Tiered};
use crate::topic_config::{Overrides, TopicConfig};
use crate::topics::{Topic, Topics};
use crate::waiters::WaiterTable;

/// Partitions of a topic that does not say how many.
pub(crate) const DEFAULT_PARTITIONS: i32 = 1;
/// The broker's id: the first of the brokers a cluster will have.
pub(crate) const BROKER_ID: i32 = 1;

/// Why the metadata was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// The change is not possible.
    #[error(transparent)]
    Refused(#[from] ChangeRefused),
    /// It was not made durable.
    #[error(transparent)]
    Commit(#[from] CommitMetadataError),
    /// The log directory is out of service.
    #[error(transparent)]
    Log(#[from] hotlog::error::CommitError),
}

/// Something that needs a human, for as long as it does.
#[derive(Debug)]
struct Alarm {
    text: String,
    /// When it was raised last, by the clock that nobody sets.
    raised_ms: i64,
    /// When it was logged last.
    logged_ms: i64,
}

/// An alarm whose text changes is logged again after so long.
const ALARM_LOGGED_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// What the broker tells clients about itself.
#[derive(Clone, Debug)]
pub(crate) struct Advertised {
    /// Host name or address.
    pub(crate) host: String,
    /// Port; 0 until the listener is bound to one.
    pub(crate) port: i32,
}

/// What a broker is put together from.
pub(crate) struct Parts {
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// The hot log.
    pub(crate) directory: LogDirectory,
    /// The store, if any.
    pub(crate) tier: Option<Tier>,
    /// Who the cluster is.
    pub(crate) identity: ClusterIdentity,
    /// The metadata as replayed.
    pub(crate) image: MetadataImage,
    /// Where changes go.
    pub(crate) metadata_log: Box<dyn MetadataLog>,
    /// The hot log's commit listener.
    pub(crate) waiters: Arc<WaiterTable>,
    /// Where clients reach it.
    pub(crate) advertised: Advertised,
    /// Whether unknown topics are made when asked for, and first rebalances do not wait.
    pub(crate) dev: bool,
    /// Cancelled to stop.
    pub(crate) stop: CancellationToken,
}

/// The broker.
pub(crate) struct Broker {
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// The hot log.
    pub(crate) directory: LogDirectory,
    /// The store, if any.
    pub(crate) tier: Option<Tier>,
    /// Who the cluster is.
    pub(crate) identity: ClusterIdentity,
    /// Where clients reach it.
    pub(crate) advertised: Advertised,
    /// Whether unknown topics are made when asked for.
    pub(crate) auto_create: bool,
    /// Groups and their offsets.
    pub(crate) groups: Arc<Coordinator>,
    /// What fetches have in memory, in KiB.
    pub(crate) fetch_budget: Arc<Semaphore>,
    /// Fetch sessions.
    pub(crate) fetch_sessions: FetchSessions,
    /// Reads from the store that outlive their fetches.
    pub(crate) cold_reads: Arc<ColdReads>,
    /// Figures.
    pub(crate) metrics: Metrics,
    /// Cancelled to stop.
    pub(crate) stop: CancellationToken,
    /// Whether everything is loaded.
    pub(crate) ready: AtomicBool,
    topics: RwLock<Arc<Topics>>,
    metadata: tokio::sync::Mutex<MetadataImage>,
    metadata_log: Box<dyn MetadataLog>,
    waiters: Arc<WaiterTable>,
    producer_ids: tokio::sync::Mutex<std::ops::Range<i64>>,
    /// All producer ids below are durable as taken; read without a lock by every produce.
    next_producer_id: AtomicI64,
    alarms: Mutex<std::collections::BTreeMap<&'static str, Alarm>>,
    /// The port told to clients.
    port: AtomicI32,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Broker").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl OffsetsLog for Broker {
    fn offsets_partition(&self, number: i32) -> Option<Arc<Partition>> {
        self.topics().named(OFFSETS_TOPIC)?.partition(number).cloned()
    }
}

impl Broker {
    /// Opens every partition of the metadata and serves them.
    ///
    /// # Errors
    /// When the log directory is out of service.
    pub(crate) fn new(mut parts: Parts) -> Result<Arc<Self>, ChangeError> {
        let initial_delay_ms = if parts.dev { 0 } else { INITIAL_REBALANCE_DELAY_MS };
        let port = AtomicI32::new(parts.advertised.port);
        let taken = parts.image.next_producer_id;
        if let Some(tier) = &parts.tier {
            // What a crash, or a store that did not answer, kept from the bucket gets there now.
            tier.record_topics(crate::archive::topic_records(&parts.image));
            tier.record_producer_ids(ProducerId(taken));
        }
        // The hot log's recovery and the store know of the deleted topics by now.
        parts.image.forget_deleted();
        parts.image.has_store = parts.tier.is_some();
        let entries: Vec<TopicEntry> = parts.image.topics().cloned().collect();
        let broker = Arc::new(Self {
            groups: Arc::new(Coordinator::new(Arc::clone(&parts.clock), initial_delay_ms)),
            clock: parts.clock,
            directory: parts.directory,
            tier: parts.tier,
            identity: parts.identity,
            advertised: parts.advertised,
            auto_create: parts.dev,
            fetch_budget: Arc::new(Semaphore::new(FETCH_RESPONSES_BYTES / 1024)),
            fetch_sessions: FetchSessions::default(),
            cold_reads: Arc::new(ColdReads::new(parts.stop.clone())),
            metrics: Metrics::default(),
            stop: parts.stop,
            ready: AtomicBool::new(false),
            topics: RwLock::default(),
            metadata: tokio::sync::Mutex::new(parts.image),
            metadata_log: parts.metadata_log,
            waiters: parts.waiters,
            producer_ids: tokio::sync::Mutex::new(taken..taken),
            next_producer_id: AtomicI64::new(taken),
            alarms: Mutex::default(),
            port,
        });
        let log: std::sync::Weak<dyn OffsetsLog> = Arc::<Self>::downgrade(&broker) as _;
        broker.groups.connect(log);
        let mut topics = Topics::default();
        for entry in &entries {
            topics = topics.with(broker.open_topic(entry, None)?);
        }
        broker.publish(topics);
        Ok(broker)
    }

    /// The topics at this moment.
    pub(crate) fn topics(&self) -> Arc<Topics> {
        Arc::clone(&self.topics.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, topics: Topics) {
        *self.topics.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(topics);
    }

    fn open_topic(
        &self,
        entry: &TopicEntry,
        former: Option<&Topic>,
    ) -> Result<Topic, hotlog::error::CommitError> {
        let (config, refused) = TopicConfig::in_force(&entry.configs);
        for error in refused {
            tracing::error!(topic = entry.name, %error, "a stored setting is not in force");
        }
        let mut partitions = Vec::with_capacity(usize::try_from(entry.partitions).unwrap_or(0));
        for index in 0..entry.partitions {
            let kept = former.and_then(|topic| topic.partition(index));
            let partition = match kept {
                Some(partition) => Arc::clone(partition),
                None => {
                    self.open_partition(PartitionId { topic_id: entry.topic_id, partition: index }, &config)?
                }
            };
            partition.hot().configure(partition_config(&config));
            if let (Some(tier), Some(archived)) = (&self.tier, partition.archived()) {
                archived.configure(config);
                if kept.is_some() {
                    tier.set_policy(partition.id(), partition_policy(&config));
                }
            }
            partitions.push(partition);
        }
        Ok(Topic {
            id: entry.topic_id,
            name: Arc::from(entry.name.as_str()),
            overrides: entry.configs.clone(),
            config,
            partitions,
        })
    }

    fn open_partition(
        &self,
        id: PartitionId,
        config: &TopicConfig,
    ) -> Result<Arc<Partition>, hotlog::error::CommitError> {
        let hot = self.directory.create_partition(id, partition_config(config))?;
        let waiters = self.waiters.of(id);
        let tiered = self.tier.clone().map(|tier| Tiered {
            tier,
            archived: Arc::new(ArchivedLog::new(
                Arc::clone(&hot),
                self.directory.clone(),
                Arc::clone(&self.clock),
                *config,
            )),
        });
        let partition = Partition::new(hot, self.directory.clone(), tiered, waiters);
        if let (Some(tier), Some(archived)) = (&self.tier, partition.archived()) {
            tier.attach(partition.id(), partition_policy(config), Arc::clone(archived) as _);
        }
        Ok(Arc::new(partition))
    }

    /// Decides on a change of the metadata, makes it durable, and serves its outcome.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) async fn change(
        &self,
        decide: impl FnOnce(&MetadataImage) -> Result<MetadataRecord, ChangeRefused> + Send,
    ) -> Result<MetadataRecord, ChangeError> {
        let mut image = self.metadata.lock().await;
        let record = decide(&image)?;
        self.metadata_log.commit(std::slice::from_ref(&record)).await?;
        image.apply(&record);
        self.serve_change(&image, &record)?;
        if let Some(tier) = &self.tier {
            tier.record_topics(crate::archive::topic_records(&image));
        }
        image.forget_deleted();
        Ok(record)
    }

    fn serve_change(&self, image: &MetadataImage, record: &MetadataRecord) -> Result<(), ChangeError> {
        let topics = self.topics();
        match record {
            MetadataRecord::TopicCreated { topic_id, .. }
            | MetadataRecord::PartitionsAdded { topic_id, .. }
            | MetadataRecord::TopicConfigs { topic_id, .. } => {
                if let Some(entry) = image.topic_by_id(*topic_id) {
                    let former = topics.with_id(*topic_id);
                    let topic = self.open_topic(entry, former.map(Arc::as_ref))?;
                    self.publish(topics.with(topic));
                }
            }
            MetadataRecord::TopicDeleted { topic_id, .. } => {
                let gone = topics.with_id(*topic_id).cloned();
                self.publish(topics.without(*topic_id));
                for partition in gone.iter().flat_map(|topic| &topic.partitions) {
                    if let Some(tier) = &self.tier {
                        tier.detach(partition.id());
                    }
                    self.directory.delete_partition(partition.id());
                    self.waiters.forget(partition.id());
                }
            }
            MetadataRecord::Cluster { .. } | MetadataRecord::ProducerIds { .. } => {}
        }
        Ok(())
    }

    /// Makes a topic. With a store, tiering is on unless the wish says otherwise or the topic is compacted.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) async fn create_topic(
        &self,
        mut wish: NewTopic,
        validate_only: bool,
    ) -> Result<MetadataRecord, ChangeError> {
        // What contradicts itself is refused below, and by the name that the client gave.
        let may_tier = TopicConfig::resolve(&wish.configs).is_ok_and(|config| !config.compact);
        if self.tier.is_some() && may_tier {
            wish.configs.entry("remote.storage.enable".to_owned()).or_insert_with(|| "true".to_owned());
        }
        if validate_only {
            return Ok(changes::create_topic(&*self.metadata.lock().await, wish)?);
        }
        self.change(|image| changes::create_topic(image, wish)).await
    }

    /// Makes a topic with default settings, for a client that asked for one that is not there.
    ///
    /// # Errors
    /// [`ChangeError`]; a topic that appeared meanwhile is none.
    pub(crate) async fn auto_create_topic(&self, name: &str) -> Result<(), ChangeError> {
        let wish = self.wish(name, DEFAULT_PARTITIONS, Overrides::new());
        match self.create_topic(wish, false).await {
            Ok(_) | Err(ChangeError::Refused(ChangeRefused::TopicExists(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes `__consumer_offsets` where it is missing.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) async fn ensure_offsets_topic(&self) -> Result<(), ChangeError> {
        if self.topics().named(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        let wish = self.wish(OFFSETS_TOPIC, OFFSETS_PARTITIONS, offsets_topic_configs());
        match self.create_topic(wish, false).await {
            Ok(_) | Err(ChangeError::Refused(ChangeRefused::TopicExists(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A wish for a topic, with an id of its own.
    pub(crate) fn wish(&self, name: &str, partitions: i32, configs: Overrides) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            topic_id: random_topic_id(),
            partitions,
            replication_factor: 1,
            configs,
            created_ms: self.clock.wall_ms(),
        }
    }

    /// A look at the metadata.
    pub(crate) async fn metadata(&self) -> tokio::sync::MutexGuard<'_, MetadataImage> {
        self.metadata.lock().await
    }

    /// A producer id that nobody had before. Blocks of them are durable as taken before the first is given out.
    ///
    /// # Errors
    /// When a new block cannot be made durable.
    pub(crate) async fn new_producer_id(&self) -> Result<i64, ChangeError> {
        let mut ids = self.producer_ids.lock().await;
        if ids.is_empty() {
            let start = self.next_producer_id.load(Ordering::Acquire);
            let next = start + PRODUCER_ID_BLOCK;
            self.change(|_| Ok(MetadataRecord::ProducerIds { next })).await?;
            *ids = start..next;
            self.next_producer_id.store(next, Ordering::Release);
            if let Some(tier) = &self.tier {
                tier.record_producer_ids(ProducerId(next));
            }
        }
        let id = ids.start;
        ids.start += 1;
        Ok(id)
    }

    /// The first producer id that is certainly not given out.
    pub(crate) fn next_producer_id(&self) -> i64 {
        self.next_producer_id.load(Ordering::Acquire)
    }

    /// The port told to clients.
    pub(crate) fn port(&self) -> i32 {
        self.port.load(Ordering::Relaxed)
    }

    /// Takes the port that was bound where any was asked for.
    pub(crate) fn set_port(&self, bound: u16) {
        let _ = self.port.compare_exchange(0, i32::from(bound), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Says that something needs a human, until it is cleared.
    pub(crate) fn raise_alarm(&self, kind: &'static str, text: String) {
        let now_ms = self.clock.monotonic_ms();
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        let before = alarms.get(kind);
        // One whose figures change at every look would fill the log.
        let again_ms = i64::try_from(ALARM_LOGGED_AGAIN_AFTER.as_millis()).unwrap_or(i64::MAX);
        let is_told = before.is_some_and(|alarm| alarm.text == text || now_ms - alarm.logged_ms < again_ms);
        let logged_ms = before.filter(|_| is_told).map_or(now_ms, |alarm| alarm.logged_ms);
        if !is_told {
            tracing::warn!(alarm = kind, "{text}");
        }
        alarms.insert(kind, Alarm { text, raised_ms: now_ms, logged_ms });
    }

    /// Says that it is over if it was not raised for so long: for what nobody looks at again by himself.
    pub(crate) fn clear_alarm_after(&self, kind: &'static str, quiet: Duration) {
        let since_ms = self.clock.monotonic_ms() - i64::try_from(quiet.as_millis()).unwrap_or(i64::MAX);
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.get(kind).is_some_and(|alarm| alarm.raised_ms < since_ms) {
            alarms.remove(kind);
        }
    }

    /// Says that it is over.
    pub(crate) fn clear_alarm(&self, kind: &'static str) {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
    }

    /// What needs a human.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.values().map(|alarm| alarm.text.clone()).collect()
    }
}

/// How `__consumer_offsets` is set up, as in Kafka.
pub(crate) fn offsets_topic_configs() -> Overrides {
    let settings =
        [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// How long the first rebalance of an empty group waits for more members, as Kafka.
const INITIAL_REBALANCE_DELAY_MS: i64 = 3_000;

/// An id that no topic has had: random, and neither zero nor the metadata log's.
pub(crate) fn random_topic_id() -> TopicId {
    loop {
        // The version and variant bits of a random UUID, as Kafka's ids have; ids never begin with '-'.
        let mut bytes: [u8; 16] = rand::rng().random();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let id = TopicId(bytes);
        if !id.is_zero() && id != TopicId::CLUSTER_METADATA && !id.to_string().starts_with('-') {
            return id;
        }
    }
}

fn partition_config(config: &TopicConfig) -> PartitionConfig {
    PartitionConfig {
        segment_bytes: u32::try_from(config.segment_bytes).unwrap_or(i32::MAX.unsigned_abs()),
        segment_ms: config.segment_ms,
        ..PartitionConfig::default()
    }
}

fn partition_policy(config: &TopicConfig) -> PartitionPolicy {
    PartitionPolicy {
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        archive: config.tiered && !config.copy_disabled,
        delete: config.delete && !config.compact,
    }
}

/// A random UUID as text, for member ids.
pub(crate) fn random_uuid() -> String {
    let bytes = random_topic_id().0;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
