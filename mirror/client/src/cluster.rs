//! A cluster as one thing to talk to: its connections, its layout, and who answers what.
//!
//! Two locks are held while a broker is asked: one for the refresh of the layout, one for each connection that is
//! opened. They are waited for in tasks of their own (`in_own_task`) and nowhere else, so that a caller that polls
//! something else meanwhile holds nobody up. Whoever waited for a lock while an attempt under it failed takes that
//! failure for its own: otherwise each of many would wait for a broker that hangs, one after the other.
//!
//! Owns: the refresh of the layout, routing to leaders and controllers, the retries of questions that may be asked
//! twice.
//! Does not own: opening connections (`cluster/connections`), what is asked (the modules beside this one).

mod connections;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use wire::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use wire::{ApiKey, ErrorCode, LeaderEpoch, RequestMessage, Text, TopicId};

use crate::backoff::{Backoff, BackoffOptions};
use crate::connection::{Connection, ConnectionOptions};
use crate::error::{CallError, RequestError};
use crate::layout::{Asked, BrokerId, Layout, Leader, TopicPartition};
use crate::limits;
use crate::transport::{Address, Connector, PlainTcp};
use connections::{Connections, Peer};

/// Two refreshes of the layout are at least this far apart.
const REFRESH_SPACING: Duration = Duration::from_millis(50);

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Brokers to ask first.
    pub bootstrap: Vec<Address>,
    /// Opens the streams: plain TCP unless said otherwise.
    pub connector: Arc<dyn Connector>,
    /// What holds for each connection.
    pub connection: ConnectionOptions,
    /// Waits between attempts.
    pub backoff: BackoffOptions,
    /// How long a question that may be asked twice is asked again.
    pub retry_for: Duration,
}

impl ClusterOptions {
    /// The defaults, for these brokers.
    #[must_use]
    pub fn new(bootstrap: Vec<Address>) -> Self {
        Self {
            bootstrap,
            connector: Arc::new(PlainTcp),
            connection: ConnectionOptions::default(),
            backoff: BackoffOptions::default(),
            retry_for: Duration::from_secs(30),
        }
    }
}

/// Requests that wait behind each other. A broker answers a connection in order, so what may wait long has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Short questions.
    Control,
    /// Produce.
    Produce,
    /// Fetch.
    Fetch,
    /// One that nobody else uses; see [`Cluster::own_lane`].
    Own(u32),
}

/// A handle on a cluster; clones share all of it.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ClusterOptions,
    layout: RwLock<Arc<Layout>>,
    /// What became of the last fetch of the layout; held during a fetch, so that there is one at a time.
    refreshed: tokio::sync::Mutex<Refreshed>,
    connections: Connections,
    next_lane: AtomicU32,
}

#[derive(Debug, Default)]
struct Refreshed {
    answered_at: Option<Instant>,
    /// When nobody answered, if that was the last time.
    failed: Option<(Instant, RequestError)>,
}

impl Cluster {
    /// Connects to the first bootstrap broker that answers, and learns who else is there.
    ///
    /// # Errors
    /// [`RequestError::Unreachable`], after one attempt at each.
    pub async fn connect(options: ClusterOptions) -> Result<Self, RequestError> {
        let cluster = Self {
            inner: Arc::new(Inner {
                options,
                layout: RwLock::default(),
                refreshed: tokio::sync::Mutex::default(),
                connections: Connections::new(),
                next_lane: AtomicU32::new(0),
            }),
        };
        cluster.refresh(&[]).await?;
        Ok(cluster)
    }

    /// What is known of the cluster now.
    #[must_use]
    pub fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.inner.layout.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How the cluster is reached.
    #[must_use]
    pub fn options(&self) -> &ClusterOptions {
        &self.inner.options
    }

    /// A lane that nobody else has.
    #[must_use]
    pub fn own_lane(&self) -> Lane {
        Lane::Own(self.inner.next_lane.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks for the brokers and these topics.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn refresh(&self, topics: &[Arc<str>]) -> Result<Arc<Layout>, RequestError> {
        let (cluster, topics) = (self.clone(), topics.to_vec());
        in_own_task(async move { cluster.fetch_layout(cluster.turn().await?, Asked::Named(&topics)).await })
            .await
    }

    /// Asks for the brokers and all topics.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn refresh_all(&self) -> Result<Arc<Layout>, RequestError> {
        let cluster = self.clone();
        in_own_task(async move { cluster.fetch_layout(cluster.turn().await?, Asked::All).await }).await
    }

    /// Waits for the turn to fetch the layout; only for tasks of their own.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, Refreshed>, RequestError> {
        let asked_at = Instant::now();
        let refreshed = self.inner.refreshed.lock().await;
        let failed = refreshed.failed.as_ref().filter(|(failed_at, _)| *failed_at > asked_at);
        match failed.map(|(_, error)| error.clone()) {
            Some(error) => Err(error),
            None => Ok(refreshed),
        }
    }

    async fn fetch_layout(
        &self,
        mut refreshed: tokio::sync::MutexGuard<'_, Refreshed>,
        asked: Asked<'_>,
    ) -> Result<Arc<Layout>, RequestError> {
        if let Some(last) = refreshed.answered_at {
            sleep_until(last + REFRESH_SPACING).await;
        }
        let chunks: Vec<Option<&[Arc<str>]>> = match asked {
            Asked::All => vec![None],
            Asked::Named([]) => vec![Some(&[])],
            Asked::Named(names) => names.chunks(limits::METADATA_TOPICS_MAX).map(Some).collect(),
        };
        for names in chunks {
            let request = MetadataRequest {
                topics: names.map(|names| names.iter().map(|name| topic_by_name(name)).collect()),
                allow_auto_topic_creation: false,
                ..Default::default()
            };
            let response: MetadataResponse = match self.ask_any(&request).await {
                Ok(response) => response,
                Err(error) => {
                    refreshed.failed = Some((Instant::now(), error.clone()));
                    return Err(error);
                }
            };
            *refreshed = Refreshed { answered_at: Some(Instant::now()), failed: None };
            RequestError::check(ApiKey::Metadata, response.error_code, None)?;
            let asked = names.map_or(Asked::All, Asked::Named);
            self.change_layout(|layout| *layout = layout.merged(&response, asked));
        }
        Ok(self.layout())
    }

    fn change_layout(&self, change: impl FnOnce(&mut Layout)) {
        let mut layout = self.inner.layout.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut layout));
    }

    /// Sends a request that any broker answers.
    async fn ask_any<M: RequestMessage>(&self, request: &M) -> Result<M::Response, RequestError> {
        let mut brokers: Vec<_> = self.layout().brokers.keys().copied().map(Peer::Broker).collect();
        brokers.shuffle(&mut rand::rng());
        let bootstrap = (0..self.inner.options.bootstrap.len()).map(Peer::Bootstrap);
        let mut last_error = None;
        for peer in brokers.into_iter().chain(bootstrap) {
            let asked = async {
                let connection = self.connect_peer(peer, Lane::Control).await?;
                let (first, last) = M::KEY.api().served;
                connection.call(connection.version(M::KEY, first, last)?, request).await
            };
            match asked.await {
                Ok(response) => return Ok(response),
                Err(error) => last_error = Some(error),
            }
        }
        let error = last_error.unwrap_or(CallError::UnknownBroker { broker: BrokerId(-1) });
        Err(RequestError::Unreachable(Box::new(error)))
    }

    /// Who leads the partition: as known, or asked for when it is not known or has been denied.
    ///
    /// # Errors
    /// [`RequestError::UnknownPartition`], [`RequestError::NoLeader`], or those of the asking.
    pub async fn leader(&self, partition: &TopicPartition) -> Result<Leader, RequestError> {
        if let Some(leader) = self.layout().trusted_leader(partition) {
            return Ok(leader);
        }
        let (cluster, partition) = (self.clone(), partition.clone());
        in_own_task(async move {
            let refreshed = cluster.turn().await?;
            // Somebody else may have asked while this waited.
            if let Some(leader) = cluster.layout().trusted_leader(&partition) {
                return Ok(leader);
            }
            let topic = [Arc::clone(&partition.topic)];
            let layout = cluster.fetch_layout(refreshed, Asked::Named(&topic)).await?;
            let known = layout.topics.get(&partition.topic);
            if known.and_then(|topic| topic.partition(partition.partition)).is_none() {
                return Err(RequestError::UnknownPartition(partition));
            }
            layout.leader(&partition).ok_or(RequestError::NoLeader(partition))
        })
        .await
    }

    /// Takes notice of what a broker said of its leadership, so that the next request goes to the right one.
    pub fn heed(&self, partition: &TopicPartition, code: ErrorCode, hint: Option<(BrokerId, LeaderEpoch)>) {
        let leadership = matches!(
            code,
            ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::FENCED_LEADER_EPOCH
                | ErrorCode::UNKNOWN_LEADER_EPOCH
                | ErrorCode::LEADER_NOT_AVAILABLE
                | ErrorCode::REPLICA_NOT_AVAILABLE
                | ErrorCode::KAFKA_STORAGE_ERROR
                | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::INCONSISTENT_TOPIC_ID
        );
        if leadership {
            self.change_layout(|layout| {
                layout.mark_stale(partition);
                if let Some((leader, epoch)) = hint.filter(|(leader, _)| leader.0 >= 0) {
                    layout.learn(partition, leader, epoch);
                }
            });
        }
    }

    /// An open connection to a broker. When the last attempt failed, the next waits its turn.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn connection(&self, broker: BrokerId, lane: Lane) -> Result<Arc<Connection>, CallError> {
        self.connect_peer(Peer::Broker(broker), lane).await
    }

    /// Whom to ask for changes of topics: the controller, or anybody where none is named.
    pub(crate) async fn controller(&self) -> Result<Arc<Connection>, RequestError> {
        let layout = self.layout();
        let controller = layout.controller.filter(|id| layout.brokers.contains_key(id));
        let broker = controller.or_else(|| layout.brokers.keys().copied().min());
        let broker = broker.ok_or(CallError::UnknownBroker { broker: BrokerId(-1) })?;
        Ok(self.connection(broker, Lane::Control).await?)
    }

    /// Counts the attempts at one question.
    pub(crate) fn retry(&self) -> Retry {
        let options = &self.inner.options;
        Retry { deadline: Instant::now() + options.retry_for, backoff: Backoff::new(options.backoff) }
    }
}

/// Whether and when to ask again.
#[derive(Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    backoff: Backoff,
}

impl Retry {
    /// Waits and returns true when the error may pass and there is time; false at once otherwise.
    pub(crate) async fn again(&mut self, error: &RequestError) -> bool {
        let wait = self.backoff.next();
        if !error.retriable() || Instant::now() + wait > self.deadline {
            return false;
        }
        tracing::debug!(%error, wait_ms = wait.as_millis() as u64, "asking again");
        sleep(wait).await;
        true
    }

    /// As [`Retry::again`], for a change that must not be made twice: false when it may have been made.
    pub(crate) async fn again_unless_done(&mut self, error: &RequestError) -> bool {
        let may_be_done = matches!(error, RequestError::Call(error) if error.may_have_been_done());
        !may_be_done && self.again(error).await
    }
}

/// Does in a task of its own what holds a lock that others wait for: the lock is given back even if the caller no
/// longer polls. A caller that drops this ends the task.
async fn in_own_task<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let mut task = JoinSet::new();
    task.spawn(work);
    match task.join_next().await.expect("one task was spawned") {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only the end of the runtime cancels it, and that ends the caller as well.
        Err(_) => std::future::pending().await,
    }
}

fn topic_by_name(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic { topic_id: TopicId::ZERO, name: Some(Text::from(name)) }
}
