//! A broker's life: open, recover, serve, stop.
//!
//! Owns: the order of both, and the tasks beside the listener.
//! Does not own: each step (`hotlog`, `tiering`, `broker`, `groups`), a lost folder written anew (`restore`),
//! signals (`cli`).
//!
//! In order: the options are checked; the log directory is opened and its metadata replayed, which says which topics
//! the journal may name; the log recovers; the store is opened, which may refuse the folder; topics are opened, and held
//! against the store; clients are served; groups are loaded beside that. A stop accepts nobody new, lets what was begun
//! come to its end, closes the store's work, writes what the log still holds in memory, and lets go of the folder.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hotlog::{LogDirectory, LogOptions, PartitionConfig, PartitionId, RecoveryReport, TopicDirectory};
use tiering::object::BlockCodec;
use tiering::{OpenTierError, Tier, TierOptions};
use tokio_util::sync::CancellationToken;
use topology::{Address, FlushMode};

use crate::api::Requests;
use crate::archive;
use crate::broker::{Advertised, BROKER_ID, Broker, ChangeError, Parts, random_topic_id};
use crate::clock::{Clock, SystemClock};
use crate::connection::{Listener, ListenerOptions};
use crate::groups::{OFFSETS_PARTITIONS, coordinator};
use crate::metadata::MetadataLog;
use crate::metadata::image::{ClusterIdentity, MetadataImage};
use crate::metadata::log::{HotMetadataLog, ReplayMetadataError, replay};
use crate::metadata::records::MetadataRecord;
use crate::options::{BrokerOptions, OptionsError};
use crate::partition::{Partition, ReadRefused};
use crate::waiters::WaiterTable;
use crate::{housekeeping, status};

/// Memory that reads from the store may take in all.
const TIER_READ_BUDGET_BYTES: usize = 256 << 20;
/// Threads of the store's own runtime.
const TIER_THREADS: usize = 2;

/// Why a broker does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The options cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The data folder cannot be made or read.
    #[error("data folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] hotlog::error::OpenError),
    /// The metadata cannot be read.
    #[error(transparent)]
    Metadata(Box<dyn std::error::Error + Send + Sync>),
    /// The folder belongs to a cluster of another name.
    #[error(
        "the data folder belongs to cluster {found:?}, and --cluster says {asked:?}: name that cluster, or another --data"
    )]
    OtherCluster {
        /// What the folder says.
        found: String,
        /// What the command line says.
        asked: String,
    },
    /// A rebuild from the store wrote topics and did not come to its end.
    #[error(
        "data folder {path} was rebuilt from a store, and not to its end: empty it and run `longhaul tier recover` again"
    )]
    HalfRestored {
        /// The folder.
        path: PathBuf,
    },
    /// The store refuses this folder, or cannot be used.
    #[error(transparent)]
    Store(#[from] OpenTierError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The admin address cannot be listened on.
    #[error(transparent)]
    Admin(#[from] control::ListenError),
    /// The metadata cannot be written.
    #[error(transparent)]
    Change(Box<dyn std::error::Error + Send + Sync>),
    /// The log could not be closed in good order; the next start recovers.
    #[error("the log was not closed in good order: {0}")]
    Close(hotlog::error::CommitError),
    /// A thread for blocking work failed.
    #[error("a thread for blocking work failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl From<ReplayMetadataError> for ServeError {
    fn from(error: ReplayMetadataError) -> Self {
        Self::Metadata(error.into())
    }
}

impl From<ChangeError> for ServeError {
    fn from(error: ChangeError) -> Self {
        Self::Change(error.into())
    }
}

/// The log directory and what its metadata says.
struct Opened {
    directory: LogDirectory,
    image: MetadataImage,
    report: RecoveryReport,
}

/// Runs a broker until `stop` is cancelled, then stops it in good order.
///
/// # Errors
/// [`ServeError`]: why it did not start, or did not stop in good order.
pub async fn serve(options: BrokerOptions, stop: CancellationToken) -> Result<(), ServeError> {
    options.check()?;
    for (flag, address) in open_to_others(&options) {
        tracing::warn!(
            flag,
            %address,
            "INSECURE: other machines can connect, nothing is encrypted, and nobody is asked who they are",
        );
    }
    let new_folders = new_folders(&options).await?;
    let waiters = Arc::new(WaiterTable::default());
    let opened = open_log(&options, Arc::clone(&waiters)).await?;
    let directory = opened.directory.clone();
    let started = start(&options, opened, waiters, stop.clone()).await;
    let broker = match started {
        Ok(broker) => broker,
        Err(error) => {
            close(directory).await?;
            if matches!(error, ServeError::Store(_)) {
                // Nothing was ever kept there: the folders are as empty as they were, ready for `tier recover`.
                empty(new_folders).await?;
            }
            return Err(error);
        }
    };
    let watch = broker.tier.clone().map(|tier| tokio::spawn(stop_once_superseded(tier, stop.clone())));
    let ran = run(&options, &broker, stop).await;
    if let Some(watch) = watch {
        watch.abort();
    }
    ran?;
    let superseded = broker.tier.as_ref().and_then(Tier::superseded_by);
    if let Some(tier) = broker.tier.clone() {
        tier.close().await;
    }
    close(directory).await?;
    if let Some(error) = superseded {
        return Err(error.into());
    }
    tracing::info!("stopped in good order");
    Ok(())
}

/// A start that could not ask the store learns late what would have refused it: clients must not be served a past that goes on
/// elsewhere.
async fn stop_once_superseded(tier: Tier, stop: CancellationToken) {
    let error = tier.superseded().await;
    tracing::error!(%error, "this broker stops");
    stop.cancel();
}

/// What other machines can reach, by its flag. The options' own check has seen that somebody accepts that.
fn open_to_others(options: &BrokerOptions) -> impl Iterator<Item = (&'static str, &Address)> {
    let addresses = [("--listen", Some(&options.listen)), ("--admin", options.admin.as_ref())];
    addresses
        .into_iter()
        .filter_map(|(flag, address)| Some((flag, address.filter(|address| !address.is_loopback())?)))
}

async fn close(directory: LogDirectory) -> Result<(), ServeError> {
    tokio::task::spawn_blocking(move || directory.close()).await?.map_err(ServeError::Close)
}

/// Makes the data folder where it is missing. If nothing is in it: it and the journal's, as far as that is empty too.
async fn new_folders(options: &BrokerOptions) -> Result<Vec<PathBuf>, ServeError> {
    let (data, journal) = (options.data.clone(), options.journal.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let is_empty = |path: &Path| Ok(std::fs::read_dir(path)?.next().is_none());
        let failed = |source| ServeError::Folder { path: data.clone(), source };
        std::fs::create_dir_all(&data).map_err(failed)?;
        if !is_empty(&data).map_err(failed)? {
            return Ok(Vec::new());
        }
        let journal = journal.filter(|journal| is_empty(journal).unwrap_or(false));
        Ok(std::iter::once(data.clone()).chain(journal).collect())
    });
    looked.await?
}

async fn empty(folders: Vec<PathBuf>) -> Result<(), ServeError> {
    let emptied = tokio::task::spawn_blocking(move || {
        folders.into_iter().try_for_each(|path| {
            empty_one(&path).map_err(|source| ServeError::Folder { path: path.clone(), source })
        })
    });
    emptied.await?
}

/// Removes what is in a folder, but not the folder: it may be where a disk is mounted.
fn empty_one(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

async fn open_log(options: &BrokerOptions, waiters: Arc<WaiterTable>) -> Result<Opened, ServeError> {
    let log = LogOptions {
        journal_directory: options.journal.clone(),
        flush: match options.flush {
            FlushMode::Ack => hotlog::FlushMode::Ack,
            FlushMode::Os => hotlog::FlushMode::Os,
        },
        accept_loss: options.accept_loss,
        listener: waiters,
        ..LogOptions::new(options.data.clone())
    };
    let opened = tokio::task::spawn_blocking(move || {
        let recovering = LogDirectory::open(log)?;
        let image = replay(&recovering.metadata_batches()?)?;
        let topics = TopicDirectory {
            live: image.topics().map(|topic| topic.topic_id).collect(),
            deleted: image.deleted().map(|(id, _)| id).collect(),
        };
        let (directory, report) = recovering.finish(&topics)?;
        Ok::<_, ServeError>(Opened { directory, image, report })
    });
    let opened = opened.await??;
    tracing::info!(
        start = opened.report.start_number,
        commits = opened.report.commits,
        batches = opened.report.batches,
        "the log is recovered",
    );
    for loss in &opened.report.losses {
        tracing::error!(loss, "LOST");
    }
    Ok(opened)
}

async fn start(
    options: &BrokerOptions,
    opened: Opened,
    waiters: Arc<WaiterTable>,
    stop: CancellationToken,
) -> Result<Arc<Broker>, ServeError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let Opened { directory, mut image, report } = opened;
    let metadata_partition = directory
        .create_partition(PartitionId::METADATA, PartitionConfig::default())
        .map_err(ChangeError::from)?;
    let metadata_log = HotMetadataLog {
        directory: directory.clone(),
        partition: metadata_partition,
        clock: Arc::clone(&clock),
    };
    let fresh = image.identity.is_none();
    // One that died before its store took it has an identity and nothing else: the store treats it as one that begins.
    let has_served = image.topics().next().is_some();
    if fresh && (image.topics().next().is_some() || image.next_producer_id > 0) {
        return Err(ServeError::HalfRestored { path: options.data.clone() });
    }
    let identity = match &image.identity {
        Some(identity) => identity.clone(),
        None => {
            let record = new_identity(&options.cluster, clock.wall_ms());
            metadata_log.commit(std::slice::from_ref(&record)).await.map_err(ChangeError::from)?;
            image.apply(&record);
            image.identity.clone().expect("the record was just applied")
        }
    };
    if identity.name != options.cluster {
        return Err(ServeError::OtherCluster { found: identity.name, asked: options.cluster.clone() });
    }
    let relies_on_store = archive::relies_on_store(&directory);
    let tier = match &options.store {
        Some(url) => {
            let tiering = tier_options(url.clone(), &identity, !has_served);
            Some(Tier::open(TierOptions { relies_on_store, ..tiering }).await?)
        }
        None => None,
    };
    let told = options.advertise.as_ref().unwrap_or(&options.listen);
    let broker = Broker::new(Parts {
        clock,
        directory,
        tier,
        identity,
        image,
        metadata_log: Box::new(metadata_log),
        waiters,
        advertised: Advertised { host: told.host.clone(), port: i32::from(told.port) },
        dev: options.dev,
        stop,
    })?;
    if let Some(tier) = &broker.tier {
        tier.first_looks().await;
    }
    if !report.losses.is_empty() {
        broker.raise_alarm("loss", format!("recovery lost something: {}", report.losses.join("; ")));
    }
    Ok(broker)
}

fn new_identity(name: &str, created_ms: i64) -> MetadataRecord {
    MetadataRecord::Cluster {
        cluster_id: random_topic_id(),
        name: name.to_owned(),
        broker_id: BROKER_ID,
        recovery_generation: 0,
        created_ms,
    }
}

fn tier_options(store: tiering::store::StoreUrl, identity: &ClusterIdentity, fresh: bool) -> TierOptions {
    TierOptions {
        store,
        identity: tiering::cluster_record::ClusterIdentity {
            cluster_id: identity.cluster_id.to_string(),
            cluster_name: identity.name.clone(),
            recovery_generation: identity.recovery_generation,
            fresh,
        },
        relies_on_store: false,
        codec: BlockCodec::default(),
        read_budget_bytes: TIER_READ_BUDGET_BYTES,
        upload_bytes_per_second: None,
        worker_threads: TIER_THREADS,
    }
}

/// Serves clients until stopped.
async fn run(
    options: &BrokerOptions,
    broker: &Arc<Broker>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let address = resolve(&options.listen).await?;
    let listener = Listener::bind(ListenerOptions { address, stop: stop.clone() })
        .and_then(|listener| Ok((listener.local_address()?, listener)));
    let (bound, listener) =
        listener.map_err(|source| ServeError::Listen { address: options.listen.to_string(), source })?;
    broker.set_port(bound.port());
    if let Some(admin) = &options.admin {
        let subject = Arc::new(status::AdminSubject::new(Arc::clone(broker), options));
        let bound = control::serve(&admin.to_string(), subject, stop.clone()).await?;
        tracing::info!(admin = %bound, "control, metrics and health are served");
    }
    let background = [
        tokio::spawn(load_groups(Arc::clone(broker))),
        tokio::spawn(Arc::clone(&broker.groups).run_timers()),
        tokio::spawn(expire_groups(Arc::clone(broker))),
        tokio::spawn(housekeeping::run(Arc::clone(broker))),
        tokio::spawn(housekeeping::forget_idle_reads(Arc::clone(broker))),
    ];
    tracing::info!(
        listen = %bound,
        cluster = broker.identity.name,
        cluster_id = %broker.identity.cluster_id,
        flush = %options.flush,
        topics = broker.topics().iter().count(),
        "serving",
    );
    listener.serve(Arc::new(Requests::new(Arc::clone(broker)))).await;
    for task in background {
        task.abort();
    }
    Ok(())
}

async fn resolve(address: &Address) -> Result<SocketAddr, ServeError> {
    let text = address.to_string();
    let looked_up = tokio::task::spawn_blocking(move || text.to_socket_addrs().map(Vec::from_iter)).await?;
    let failed = |source| ServeError::Listen { address: address.to_string(), source };
    let found = looked_up.map_err(failed)?;
    // Clients try IPv4 first for names such as localhost.
    let best = found.iter().find(|address| address.is_ipv4()).or(found.first()).copied();
    best.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

async fn load_groups(broker: Arc<Broker>) {
    loop {
        match load_all(&broker).await {
            Ok(()) => break,
            Err(error) => {
                broker.raise_alarm(
                    "groups",
                    format!("group offsets cannot be loaded, and groups are not served: {error}"),
                );
                tokio::time::sleep(LOAD_RETRY).await;
            }
        }
    }
    broker.clear_alarm("groups");
    broker.groups.finish_loading();
    broker.ready.store(true, Ordering::Release);
    tracing::info!("groups are loaded");
}

/// How long a failed load of groups waits before the next try.
const LOAD_RETRY: std::time::Duration = std::time::Duration::from_secs(10);

async fn load_all(broker: &Broker) -> Result<(), ReadRefused> {
    for number in 0..OFFSETS_PARTITIONS {
        let partition: Option<Arc<Partition>> = coordinator::OffsetsLog::offsets_partition(broker, number);
        if let Some(partition) = partition {
            broker.groups.load(&partition).await?;
        }
    }
    Ok(())
}

async fn expire_groups(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(coordinator::EXPIRY_INTERVAL);
    loop {
        tick.tick().await;
        if broker.ready.load(Ordering::Acquire) {
            broker.groups.expire(&|| broker.topics()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_opens_either_address_to_others_is_warned_of_it() {
        let open = |listen: &str, admin: Option<&str>| {
            let options = BrokerOptions {
                data: PathBuf::from("data"),
                listen: listen.parse().unwrap(),
                advertise: None,
                cluster: "west".to_owned(),
                flush: FlushMode::Ack,
                journal: None,
                admin: admin.map(|admin| admin.parse().unwrap()),
                store: None,
                dev: false,
                insecure_listen: true,
                accept_loss: false,
            };
            open_to_others(&options).map(|(flag, _)| flag).collect::<Vec<_>>()
        };
        assert_eq!(open("127.0.0.1:1", Some("localhost:2")), [""; 0]);
        assert_eq!(open("127.0.0.1:1", Some("0.0.0.0:2")), ["--admin"]);
        assert_eq!(open("10.0.0.1:1", None), ["--listen"]);
        assert_eq!(open("10.0.0.1:1", Some("10.0.0.1:2")), ["--listen", "--admin"]);
    }
}
