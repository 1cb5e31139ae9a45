//! A data folder written anew from what the store has of its cluster.
//!
//! Owns: what is written into an empty folder, and in which order. Does not own: taking the cluster over and describing
//! it (`tiering::recover`), the formats of what is written.
//!
//! The order makes a crash harmless: topics first, so that everything after names a known one; then the start of each
//! log and the group offsets; the record that says whose folder it is comes last. A broker refuses a folder that has
//! topics and no such record, so half a rebuilt folder never serves.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hotlog::epochs::EpochHistory;
use hotlog::{LogBeginning, LogDirectory, LogOptions, Origin, PartitionConfig, PartitionId, TopicDirectory};
use tiering::cluster_record::{GroupSnapshot, TopicRecord};
use tiering::recover::{RecoveredCluster, RecoveredPartition};
use wire::batch::{EndMarker, EndMarkerPlace, TransactionEnd};
use wire::ids::{ProducerEpoch, ProducerId, TopicId};

use crate::broker::{BROKER_ID, random_topic_id};
use crate::clock::{Clock, SystemClock};
use crate::groups::coordinator::writing::{KeyValue, batch_of};
use crate::groups::records::{Key, OffsetValue};
use crate::groups::{OFFSETS_PARTITIONS, OFFSETS_TOPIC, partition_for};
use crate::metadata::log::HotMetadataLog;
use crate::metadata::records::MetadataRecord;
use crate::metadata::{CommitMetadataError, MetadataLog};

/// Metadata records in one batch: far below the largest batch, whatever the topics' settings.
const RECORDS_PER_BATCH: usize = 200;
/// Group offsets in one batch.
const OFFSETS_PER_BATCH: usize = 200;

/// Where a cluster is restored.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The data folder: empty, or not there yet.
    pub data: PathBuf,
    /// The folder of the journal; the data folder where it is not given.
    pub journal: Option<PathBuf>,
}

/// What was written.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Topics.
    pub topics: usize,
    /// Their partitions.
    pub partitions: usize,
    /// Groups that have offsets again.
    pub groups: usize,
    /// Their offsets.
    pub group_offsets: usize,
}

/// Why a folder was not written.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Something is in it already.
    #[error(
        "{path} is not empty: a cluster is rebuilt into an empty folder only; move what is there away, or name another"
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be made or read.
    #[error("{path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What the store says of the cluster cannot be.
    #[error("the store describes a cluster that cannot be: {0}")]
    Description(String),
    /// The log directory cannot be made.
    #[error(transparent)]
    Open(#[from] hotlog::error::OpenError),
    /// The folder was not written to its end; it is of no use.
    #[error("{path} was not written to its end: {detail}; empty it and run this again")]
    Unfinished {
        /// The folder.
        path: PathBuf,
        /// What failed.
        detail: String,
    },
}

/// Makes sure that a folder can take a cluster. Asked before the cluster is taken over, so that a wrong `--data` does no
/// harm.
///
/// # Errors
/// [`RestoreError::NotEmpty`], [`RestoreError::Folder`].
pub fn prepare(options: &RestoreOptions) -> Result<(), RestoreError> {
    let journal = options.journal.iter().filter(|journal| **journal != options.data);
    for path in std::iter::once(&options.data).chain(journal) {
        let failed = |source| RestoreError::Folder { path: path.clone(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        if std::fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(RestoreError::NotEmpty { path: path.clone() });
        }
    }
    Ok(())
}

/// Writes a cluster into an empty folder. Blocks on the disk now and then, which suits a verb that does nothing else.
///
/// # Errors
/// [`RestoreError`].
pub async fn restore(options: &RestoreOptions, cluster: &RecoveredCluster) -> Result<Restored, RestoreError> {
    prepare(options)?;
    let plan = Plan::of(cluster)?;
    let log = LogOptions {
        journal_directory: options.journal.clone(),
        // Above all epochs that were ever used: the folder's first start takes the number after this.
        start_above: u32::try_from(cluster.next_leader_epoch.0 - 1).unwrap_or(0),
        ..LogOptions::new(options.data.clone())
    };
    let topics = TopicDirectory { live: plan.topics.keys().copied().collect(), ..TopicDirectory::default() };
    let (directory, _) = LogDirectory::open(log)?.finish(&topics)?;
    let written = write(&directory, cluster, &plan).await.and_then(|restored| {
        directory.close().map_err(|error| error.to_string())?;
        Ok(restored)
    });
    written.map_err(|detail| unfinished(&options.data, detail))
}

fn unfinished(path: &Path, detail: String) -> RestoreError {
    RestoreError::Unfinished { path: path.to_owned(), detail }
}

/// What is going to be written, checked.
struct Plan<'a> {
    cluster_id: TopicId,
    topics: HashMap<TopicId, &'a TopicRecord>,
    /// The topic of group offsets: the cluster's own, with no fewer partitions than groups are spread over, or a new one.
    offsets_topic: TopicRecord,
    /// Whether it is a new one.
    makes_offsets_topic: bool,
}

impl<'a> Plan<'a> {
    fn of(cluster: &'a RecoveredCluster) -> Result<Self, RestoreError> {
        let wrong = |detail: String| RestoreError::Description(detail);
        let id = &cluster.identity.cluster_id;
        let cluster_id = id.parse().map_err(|_| wrong(format!("cluster id {id:?} is not one of ours")))?;
        let topics: HashMap<TopicId, &TopicRecord> =
            cluster.topics.iter().map(|topic| (topic.record.topic_id, &topic.record)).collect();
        let known = topics.values().find(|topic| topic.name == OFFSETS_TOPIC).copied();
        let mut offsets_topic = known.cloned().unwrap_or_else(|| TopicRecord {
            topic_id: random_topic_id(),
            name: OFFSETS_TOPIC.to_owned(),
            partitions: OFFSETS_PARTITIONS,
            configs: crate::broker::offsets_topic_configs(),
            deleted_at_ms: None,
        });
        // Earlier versions let clients make it with any number. No reason to refuse a cluster that is taken over by now: what is
        // missing is added, and more than groups are spread over does no harm.
        offsets_topic.partitions = offsets_topic.partitions.max(OFFSETS_PARTITIONS);
        let makes_offsets_topic = known.is_none() && cluster.groups.is_some();
        Ok(Self { cluster_id, topics, offsets_topic, makes_offsets_topic })
    }

    /// A topic's record as it is written.
    fn record_of<'r>(&'r self, topic: &'r TopicRecord) -> &'r TopicRecord {
        if topic.topic_id == self.offsets_topic.topic_id { &self.offsets_topic } else { topic }
    }
}

async fn write(
    directory: &LogDirectory,
    cluster: &RecoveredCluster,
    plan: &Plan<'_>,
) -> Result<Restored, String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let now_ms = clock.wall_ms();
    let partition = directory.create_partition(PartitionId::METADATA, PartitionConfig::default());
    let partition = partition.map_err(|error| error.to_string())?;
    let metadata = HotMetadataLog { directory: directory.clone(), partition, clock };
    let said = |error: CommitMetadataError| error.to_string();
    for records in topic_records(cluster, plan, now_ms).chunks(RECORDS_PER_BATCH) {
        metadata.commit(records).await.map_err(said)?;
    }
    let mut restored = Restored { topics: cluster.topics.len(), ..Restored::default() };
    // The last of the producer ids that the recovery skipped.
    let nobody = ProducerId(cluster.next_producer_id.0 - 1);
    for topic in &cluster.topics {
        for partition in &topic.partitions {
            start_log((directory, &*metadata.clock), topic.record.topic_id, partition, nobody).await?;
            restored.partitions += 1;
        }
    }
    if let Some(groups) = &cluster.groups {
        (restored.groups, restored.group_offsets) = write_groups(directory, plan, groups, now_ms).await?;
    }
    let identity = MetadataRecord::Cluster {
        cluster_id: plan.cluster_id,
        name: cluster.identity.cluster_name.clone(),
        broker_id: BROKER_ID,
        recovery_generation: cluster.identity.recovery_generation,
        created_ms: now_ms,
    };
    metadata.commit(&[identity]).await.map_err(said)?;
    Ok(restored)
}

/// The metadata but for whose it is: deleted topics first, for a name may have gone to another topic.
fn topic_records(cluster: &RecoveredCluster, plan: &Plan<'_>, now_ms: i64) -> Vec<MetadataRecord> {
    let created = |topic: &TopicRecord| MetadataRecord::TopicCreated {
        topic_id: topic.topic_id,
        name: topic.name.clone(),
        partitions: topic.partitions,
        configs: topic.configs.clone(),
        created_ms: now_ms,
    };
    let mut records = Vec::new();
    for topic in &cluster.deleted_topics {
        let deleted_ms = topic.deleted_at_ms.unwrap_or(now_ms);
        records.push(created(topic));
        records.push(MetadataRecord::TopicDeleted { topic_id: topic.topic_id, deleted_ms });
    }
    records.extend(cluster.topics.iter().map(|topic| created(plan.record_of(&topic.record))));
    if plan.makes_offsets_topic {
        records.push(created(&plan.offsets_topic));
    }
    records.push(MetadataRecord::ProducerIds { next: cluster.next_producer_id.0 });
    records
}

/// The log start where the tiered history has it; behind the gap, where there is none.
fn beginning(log: &RecoveredPartition) -> LogBeginning {
    if log.tiered_end <= log.log_start {
        return LogBeginning::at(log.new_start);
    }
    let mut epochs = EpochHistory::default();
    log.epochs.iter().for_each(|start| epochs.assign(start.epoch, start.start_offset));
    epochs.truncate_from_start(log.log_start);
    LogBeginning { log_start: log.log_start, local_start: log.new_start, epochs }
}

/// Lets a log go on behind the gap, with its start where the tiered history has it.
///
/// A history gets an empty transaction's end behind the gap: the one kind of batch that every client reads without giving
/// its user anything. It leads a reader at the end of the history across the gap to the end of the log, where otherwise
/// it would stand, far behind by the look of it, until somebody writes.
async fn start_log(
    (directory, clock): (&LogDirectory, &dyn Clock),
    topic_id: TopicId,
    log: &RecoveredPartition,
    nobody: ProducerId,
) -> Result<(), String> {
    let id = PartitionId { topic_id, partition: log.partition };
    let said = |error: &dyn std::fmt::Display| format!("partition {id}: {error}");
    let hot = directory.create_partition(id, PartitionConfig::default()).map_err(|error| said(&error))?;
    let beginning = beginning(log);
    let room = directory.reserve_room(beginning.room_bytes()).await.map_err(|error| said(&error))?;
    let ticket = hot.begin_log(room, &beginning).map_err(|error| said(&error))?;
    directory.commit(ticket).await.map_err(|error| said(&error))?;
    if beginning.log_start == beginning.local_start {
        return Ok(());
    }
    let end = EndMarker { end: TransactionEnd::Commit, coordinator_epoch: 0 };
    let batch = end.batch(&EndMarkerPlace {
        producer_id: nobody,
        producer_epoch: ProducerEpoch(0),
        timestamp_ms: clock.wall_ms(),
        base_offset: log.new_start,
        leader_epoch: directory.leader_epoch(),
    });
    let room = directory.reserve_room(batch.len()).await.map_err(|error| said(&error))?;
    let appended = hot.append(room, &batch, Origin::Internal).map_err(|error| said(&error))?;
    directory.commit(appended.ticket).await.map_err(|error| said(&error))
}

/// Commits again what groups had committed, as of now: the week after which unused offsets expire begins anew.
async fn write_groups(
    directory: &LogDirectory,
    plan: &Plan<'_>,
    snapshot: &GroupSnapshot,
    now_ms: i64,
) -> Result<(usize, usize), String> {
    let mut by_partition: BTreeMap<i32, Vec<KeyValue>> = BTreeMap::new();
    let (mut groups, mut offsets) = (0, 0);
    for (group, committed) in &snapshot.groups {
        let records = by_partition.entry(partition_for(group)).or_default();
        let before = records.len();
        for each in committed {
            // A topic that is gone has no offsets.
            let Some(topic) = plan.topics.get(&each.topic_id) else { continue };
            let key =
                Key::Offset { group: group.clone(), topic: topic.name.clone(), partition: each.partition };
            let value = OffsetValue {
                offset: each.offset,
                leader_epoch: each.leader_epoch,
                metadata: each.metadata.clone(),
                commit_timestamp: now_ms,
                expire_timestamp: None,
                topic_id: Some(each.topic_id),
            };
            records.push((key.encode(), Some(value.encode())));
        }
        offsets += records.len() - before;
        groups += usize::from(records.len() > before);
    }
    for (partition, records) in by_partition {
        let id = PartitionId { topic_id: plan.offsets_topic.topic_id, partition };
        let said = |error: &dyn std::fmt::Display| format!("group offsets: {error}");
        let hot = directory.create_partition(id, PartitionConfig::default()).map_err(|error| said(&error))?;
        for records in records.chunks(OFFSETS_PER_BATCH) {
            let batch = batch_of(records, now_ms);
            let room = directory.reserve_room(batch.len()).await.map_err(|error| said(&error))?;
            let appended = hot.append(room, &batch, Origin::Internal).map_err(|error| said(&error))?;
            directory.commit(appended.ticket).await.map_err(|error| said(&error))?;
        }
    }
    Ok((groups, offsets))
}

#[cfg(test)]
mod tests {
    use tiering::cluster_record::{ClusterIdentity, GroupOffset};
    use tiering::object::EpochStart;
    use tiering::recover::{RecoveredTopic, RecoveryReport};
    use wire::ids::{LeaderEpoch, Offset};

    use super::*;
    use crate::metadata::log::replay;

    const NEW_START: Offset = Offset(1 << 40);
    const TOPIC: TopicId = TopicId([4; 16]);

    fn cluster() -> RecoveredCluster {
        let topic = |topic_id, name: &str, deleted_at_ms| TopicRecord {
            topic_id,
            name: name.to_owned(),
            partitions: 1,
            configs: [("retention.ms".to_owned(), "-1".to_owned())].into(),
            deleted_at_ms,
        };
        let committed = GroupOffset {
            topic_id: TOPIC,
            partition: 0,
            offset: 70,
            leader_epoch: 3,
            metadata: String::new(),
        };
        let partition = RecoveredPartition {
            partition: 0,
            log_start: Offset(7),
            tiered_end: Offset(100),
            new_start: NEW_START,
            epochs: vec![EpochStart { epoch: LeaderEpoch(3), start_offset: Offset(0) }],
        };
        RecoveredCluster {
            identity: ClusterIdentity {
                cluster_id: TopicId([9; 16]).to_string(),
                cluster_name: "west".to_owned(),
                recovery_generation: 2,
                fresh: false,
            },
            topics: vec![RecoveredTopic {
                record: topic(TOPIC, "flights", None),
                partitions: vec![partition],
            }],
            deleted_topics: vec![topic(TopicId([5; 16]), "flights", Some(11))],
            next_leader_epoch: LeaderEpoch(70_000),
            next_producer_id: ProducerId(1 << 33),
            groups: Some(GroupSnapshot {
                taken_at_ms: 1,
                groups: [("g".to_owned(), vec![committed])].into(),
            }),
            report: RecoveryReport {
                cluster_manifest_at_ms: 1,
                group_offsets_at_ms: Some(1),
                partitions: Vec::new(),
                damage: Vec::new(),
            },
        }
    }

    #[tokio::test]
    async fn what_the_store_says_is_what_the_next_start_finds() {
        let folder = tempfile::tempdir().unwrap();
        let options = RestoreOptions { data: folder.path().join("data"), journal: None };
        let restored = restore(&options, &cluster()).await.unwrap();
        assert_eq!(restored, Restored { topics: 1, partitions: 1, groups: 1, group_offsets: 1 });

        let recovering = LogDirectory::open(LogOptions::new(options.data.clone())).unwrap();
        let image = replay(&recovering.metadata_batches().unwrap()).unwrap();
        let identity = image.identity.clone().unwrap();
        assert_eq!((identity.cluster_id, identity.recovery_generation), (TopicId([9; 16]), 2));
        assert_eq!(image.topic("flights").unwrap().topic_id, TOPIC);
        assert_eq!(image.deleted().count(), 1);
        assert_eq!(image.next_producer_id, 1 << 33);
        let live = image.topics().map(|topic| topic.topic_id).collect();
        let deleted = image.deleted().map(|(id, _)| id).collect();
        let (directory, _) = recovering.finish(&TopicDirectory { live, deleted }).unwrap();
        assert!(directory.leader_epoch() > LeaderEpoch(70_000));
        let hot = directory.partition(PartitionId { topic_id: TOPIC, partition: 0 }).unwrap();
        assert_eq!((hot.log_start(), hot.local_log_start()), (Offset(7), NEW_START));
        assert_eq!(hot.high_watermark(), Offset(NEW_START.0 + 1), "the mark that leads readers over the gap");
        let offsets = PartitionId {
            topic_id: image.topic(OFFSETS_TOPIC).unwrap().topic_id,
            partition: partition_for("g"),
        };
        assert_eq!(directory.partition(offsets).unwrap().high_watermark(), Offset(1));
        directory.close().unwrap();

        let again = restore(&options, &cluster()).await.unwrap_err();
        assert!(matches!(again, RestoreError::NotEmpty { .. }), "{again}");
    }

    #[tokio::test]
    async fn group_offsets_come_back_whatever_number_of_partitions_their_topic_had() {
        for (had, has) in [(1, 50), (60, 60)] {
            let mut cluster = cluster();
            let mut offsets_topic = cluster.topics[0].clone();
            let record = &mut offsets_topic.record;
            (record.name, record.topic_id) = (OFFSETS_TOPIC.to_owned(), TopicId([6; 16]));
            record.partitions = had;
            cluster.topics.push(offsets_topic);
            let folder = tempfile::tempdir().unwrap();
            let options = RestoreOptions { data: folder.path().join("data"), journal: None };
            let restored = restore(&options, &cluster).await.unwrap();
            assert_eq!((restored.groups, restored.group_offsets), (1, 1));

            let recovering = LogDirectory::open(LogOptions::new(options.data)).unwrap();
            let image = replay(&recovering.metadata_batches().unwrap()).unwrap();
            assert_eq!(image.topic(OFFSETS_TOPIC).unwrap().partitions, has);
            let live = image.topics().map(|topic| topic.topic_id).collect();
            let deleted = image.deleted().map(|(id, _)| id).collect();
            let (directory, _) = recovering.finish(&TopicDirectory { live, deleted }).unwrap();
            let partition = PartitionId { topic_id: TopicId([6; 16]), partition: partition_for("g") };
            assert!(partition.partition > 0, "a partition that the small topic had");
            assert_eq!(directory.partition(partition).unwrap().high_watermark(), Offset(1));
            directory.close().unwrap();
        }
    }

    #[tokio::test]
    async fn half_a_rebuilt_folder_is_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (directory, _) = LogDirectory::open(LogOptions::new(data.clone()))
            .unwrap()
            .finish(&TopicDirectory::default())
            .unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let partition =
            directory.create_partition(PartitionId::METADATA, PartitionConfig::default()).unwrap();
        let metadata = HotMetadataLog { directory: directory.clone(), partition, clock };
        let cluster = cluster();
        let records = topic_records(&cluster, &Plan::of(&cluster).unwrap(), 1);
        metadata.commit(&records).await.unwrap();
        directory.close().unwrap();
        drop((metadata, directory));

        let options = crate::BrokerOptions {
            data,
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            cluster: "west".to_owned(),
            flush: topology::FlushMode::Ack,
            journal: None,
            admin: None,
            store: None,
            dev: false,
            insecure_listen: false,
            accept_loss: false,
        };
        let refused = crate::serve(options, tokio_util::sync::CancellationToken::new()).await.unwrap_err();
        assert!(matches!(refused, crate::ServeError::HalfRestored { .. }), "{refused}");
        assert!(refused.to_string().contains("longhaul tier recover"), "{refused}");
    }

    #[tokio::test]
    async fn a_cluster_that_cannot_be_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let options = RestoreOptions { data: folder.path().join("data"), journal: None };
        let mut odd = cluster();
        odd.identity.cluster_id = "no id".to_owned();
        let refused = restore(&options, &odd).await.unwrap_err();
        assert!(matches!(refused, RestoreError::Description(_)), "{refused}");
        assert_eq!(std::fs::read_dir(&options.data).unwrap().count(), 0);
    }
}
