//! Recovery of a cluster from its bucket alone.
//!
//! Owns: reading what the bucket knows, taking the prefix over, and an honest account of what was not there.
//! Does not own: the new data folder; it gets a plain description and is written by those who own its formats.
//!
//! The order matters. First the cluster manifest is claimed under a higher writer epoch and recovery generation: from
//! then on the old broker, should it wake, can neither start nor commit there. Then every partition's manifest is
//! claimed, and in the same record the offset gap is declared: from then on its archiver is fenced, and no offset that
//! it ever handed out is given to another record. A recovery that dies anywhere is simply run again.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use wire::ids::{LeaderEpoch, Offset, ProducerId, TopicId};

use crate::cluster_record::{ClusterIdentity, GroupSnapshot, TopicRecord};
use crate::keys;
use crate::limits::{RECOVERY_EPOCH_GAP, RECOVERY_OFFSET_GAP, RECOVERY_PRODUCER_ID_GAP};
use crate::manifest::{
    ClusterEdit, ClusterManifest, CommitError, Gap, GapReason, ManifestError, NotedGroups, PartitionEdit,
    PartitionManifest, Register, load_groups,
};
use crate::object::{EpochStart, LogIdentity};
use crate::owner_mark::{OwnerError, read_owner};
use crate::seams::Seams;
use crate::store::{OpenStoreError, ProbeError, Store, StoreUrl, open_existing_store, probe_conditional_put};

/// Partitions taken over at the same time.
const PARTITIONS_AT_ONCE: usize = 16;

/// A cluster as its bucket describes it, ready to be written into an empty data folder.
#[derive(Clone, PartialEq, Debug)]
pub struct RecoveredCluster {
    /// Who the new data folder is, with the recovery generation to keep in it. Not fresh: the prefix is its own.
    pub identity: ClusterIdentity,
    /// Live topics; create them with these ids, at the offsets and epochs of their partitions.
    pub topics: Vec<RecoveredTopic>,
    /// Topics that were deleted and may still have objects: hand them to [`crate::Tier::record_topics`] again.
    pub deleted_topics: Vec<TopicRecord>,
    /// The first leader epoch that the new folder may use, for any partition: above all that were ever used.
    pub next_leader_epoch: LeaderEpoch,
    /// The first producer id that may be handed out.
    pub next_producer_id: ProducerId,
    /// What groups had committed, as old as it says.
    pub groups: Option<GroupSnapshot>,
    /// What was not in the bucket.
    pub report: RecoveryReport,
}

/// A topic to create again.
#[derive(Clone, PartialEq, Debug)]
pub struct RecoveredTopic {
    /// Id, name, partitions and configs.
    pub record: TopicRecord,
    /// Its partitions, by number.
    pub partitions: Vec<RecoveredPartition>,
}

/// A partition's log to start again.
#[derive(Clone, PartialEq, Debug)]
pub struct RecoveredPartition {
    /// Its number.
    pub partition: i32,
    /// The log start: first offset that may be read.
    pub log_start: Offset,
    /// One past the last offset in the bucket; offsets from here to `new_start` are a hole.
    pub tiered_end: Offset,
    /// Where the hot log goes on: the offset of the next record.
    pub new_start: Offset,
    /// Leader epochs of the tiered part, oldest first.
    pub epochs: Vec<EpochStart>,
}

/// What a recovery found, and what it did not.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RecoveryReport {
    /// When the bucket last heard of the cluster at large (topics, producer ids), milliseconds.
    pub cluster_manifest_at_ms: i64,
    /// When group offsets were last noted; `None` if never.
    pub group_offsets_at_ms: Option<i64>,
    /// Per partition: everything appended after its end is lost.
    pub partitions: Vec<PartitionReport>,
    /// What is damaged or missing although it should be there; those partitions keep what can be read.
    pub damage: Vec<String>,
}

/// What is known of the lost tail of one partition.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PartitionReport {
    /// Topic name.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset that can be read.
    pub log_start: i64,
    /// Records at and above this offset, up to `new_start`, were not in the bucket.
    pub lost_from: i64,
    /// One past the last offset that is known to have held a record and is lost: a group had read so far. Beyond it,
    /// and everywhere when this is `None`, the bucket does not say whether there was anything.
    pub known_lost_to: Option<i64>,
    /// Where new records go.
    pub new_start: i64,
    /// When the bucket last heard of the partition, milliseconds; `None` if it never did.
    pub last_commit_ms: Option<i64>,
    /// Live segments.
    pub segments: u64,
    /// Their bytes in the bucket.
    pub object_bytes: u64,
}

/// Why a cluster cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The store does not fence, or denies.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The prefix is nobody's.
    #[error("{url} holds no cluster: there is nothing to recover; check the prefix")]
    Empty {
        /// The store.
        url: String,
    },
    /// The owner's mark cannot be read.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// A manifest cannot be read; nothing was changed for that partition.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Somebody else writes at the same time: the old broker still runs, or another recovery.
    #[error(
        "somebody else writes to this prefix: stop the old broker and other recoveries, then run this again ({detail})"
    )]
    Contended {
        /// What was met.
        detail: String,
    },
}

impl From<CommitError> for RecoverError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Manifest(error) => RecoverError::Manifest(error),
            error => RecoverError::Contended { detail: error.to_string() },
        }
    }
}

/// Takes a prefix over and describes the cluster that it holds.
///
/// # Errors
/// See [`RecoverError`]. It may be run again after any of them.
pub async fn recover(url: &StoreUrl) -> Result<RecoveredCluster, RecoverError> {
    recover_from(open_existing_store(url)?, url, &Seams::system()).await
}

pub(crate) async fn recover_from(
    store: Arc<dyn Store>,
    url: &StoreUrl,
    seams: &Seams,
) -> Result<RecoveredCluster, RecoverError> {
    probe_conditional_put(&*store, seams).await?;
    let owner =
        read_owner(&*store, seams).await?.ok_or_else(|| RecoverError::Empty { url: url.to_string() })?;
    let folder = keys::cluster_folder(&owner.cluster_id);
    let mut register =
        Register::open(store.clone(), folder.clone(), ClusterManifest::default(), seams.clone()).await?;
    let cluster_manifest_at_ms = register.written_at_ms();
    let mut noted: Option<NotedGroups> = None;
    let cluster = register
        .claim(|manifest, writer_epoch| {
            // The claim itself may be a base that has no room for them.
            noted.clone_from(&manifest.groups);
            let claim = ClusterEdit::Claim {
                writer_epoch,
                recovery_generation: manifest.recovery_generation + 1,
                cluster_name: name_of(manifest, &owner.cluster_name),
            };
            let next = manifest.next_producer_id.saturating_add(RECOVERY_PRODUCER_ID_GAP);
            Ok(vec![claim, ClusterEdit::ProducerIds { next, at_ms: seams.now_ms() }])
        })
        .await?;
    let mut damage = register.notes().to_vec();
    let groups = groups_of(&*store, &folder, (noted, seams), &mut damage).await?;
    let live: Vec<TopicRecord> =
        cluster.topics.values().filter(|topic| topic.deleted_at_ms.is_none()).cloned().collect();
    let takeover =
        Takeover { store, seams, cluster_id: &owner.cluster_id, writer_epoch: cluster.writer_epoch };
    let taken: Vec<Taken> =
        stream::iter(live.iter().flat_map(|topic| (0..topic.partitions).map(move |n| (topic, n))))
            .map(|(topic, partition)| takeover.partition(topic, partition))
            .buffered(PARTITIONS_AT_ONCE)
            .try_collect()
            .await?;
    let identity = ClusterIdentity {
        cluster_id: owner.cluster_id.clone(),
        cluster_name: cluster.cluster_name.clone(),
        recovery_generation: cluster.recovery_generation,
        fresh: false,
    };
    let mut found = describe(identity, &cluster, (live, taken, groups), cluster_manifest_at_ms);
    damage.append(&mut found.report.damage);
    found.report.damage = damage;
    Ok(found)
}

/// What groups had committed. Damage there is told, and nothing else is lost with it.
async fn groups_of(
    store: &dyn Store,
    folder: &str,
    (noted, seams): (Option<NotedGroups>, &Seams),
    damage: &mut Vec<String>,
) -> Result<Option<GroupSnapshot>, ManifestError> {
    let Some(noted) = noted else { return Ok(None) };
    match load_groups(store, folder, &noted, seams).await {
        Ok(groups) => Ok(Some(groups)),
        // What does not answer now may answer the next time this is run.
        Err(ManifestError::Store(error)) if !error.is_not_found() => Err(error.into()),
        Err(error) => {
            damage.push(format!("the group offsets are lost: {error}"));
            Ok(None)
        }
    }
}

fn name_of(manifest: &ClusterManifest, otherwise: &str) -> String {
    if manifest.cluster_name.is_empty() { otherwise.to_owned() } else { manifest.cluster_name.clone() }
}

/// One partition, taken over.
struct Taken {
    topic_id: TopicId,
    partition: RecoveredPartition,
    report: PartitionReport,
    highest_epoch: i32,
    damage: Vec<String>,
}

struct Takeover<'a> {
    store: Arc<dyn Store>,
    seams: &'a Seams,
    cluster_id: &'a str,
    writer_epoch: u64,
}

impl Takeover<'_> {
    /// Fences the old writer of a partition, and declares the gap in the same record.
    async fn partition(&self, topic: &TopicRecord, partition: i32) -> Result<Taken, RecoverError> {
        let topic_id = topic.topic_id;
        let log = LogIdentity { cluster_id: self.cluster_id.to_owned(), topic_id, partition };
        let folder = keys::manifest_folder(&log);
        let empty = PartitionManifest::empty(log.clone());
        let mut register = Register::open(self.store.clone(), folder, empty, self.seams.clone()).await?;
        register.set_writer_epoch(self.writer_epoch);
        let mut before = (register.state().clone(), register.written_at_ms(), register.is_new());
        let state = register
            .commit(|manifest| {
                if before.0.end_offset() != manifest.end_offset() {
                    before.0 = Arc::new(manifest.clone());
                }
                let from = manifest.end_offset();
                let to = Offset(from.0.saturating_add(RECOVERY_OFFSET_GAP));
                Ok(vec![PartitionEdit::DeclareGap(Gap { from, to, reason: GapReason::Recovered })])
            })
            .await?;
        let damage = self.missing_objects(&state).await;
        let (found, last_commit_ms, was_new) = before;
        // Behind its last record the manifest may name what an earlier recovery gave up.
        let end = found.end_offset();
        let tiered_end = found.lost_before(end).unwrap_or(end);
        let totals = state.live_totals();
        let report = PartitionReport {
            topic: topic.name.clone(),
            partition,
            log_start: found.start_offset.0,
            lost_from: tiered_end.0,
            known_lost_to: None,
            new_start: state.end_offset().0,
            last_commit_ms: (!was_new).then_some(last_commit_ms),
            segments: totals.segments,
            object_bytes: totals.object_bytes,
        };
        let highest_epoch = found.epochs.last().map_or(-1, |last| last.epoch.0);
        let partition = RecoveredPartition {
            partition,
            log_start: found.start_offset,
            tiered_end,
            new_start: state.end_offset(),
            epochs: found.epochs.clone(),
        };
        Ok(Taken { topic_id, partition, report, highest_epoch, damage })
    }

    /// Objects that the manifest names and the store does not have in their size: said now, not to the first reader.
    async fn missing_objects(&self, manifest: &PartitionManifest) -> Vec<String> {
        let mut damage = Vec::new();
        for row in &manifest.segments {
            let key = keys::segment(&manifest.log, row.base_offset, row.leader_epoch, row.attempt);
            match self.store.head(&key).await {
                Ok(size) if size == row.object_bytes => {}
                Ok(size) => damage.push(format!("{key} has {size} bytes instead of {}", row.object_bytes)),
                Err(error) => damage.push(error.to_string()),
            }
        }
        damage
    }
}

fn describe(
    identity: ClusterIdentity,
    cluster: &ClusterManifest,
    (live, taken, groups): (Vec<TopicRecord>, Vec<Taken>, Option<GroupSnapshot>),
    cluster_manifest_at_ms: i64,
) -> RecoveredCluster {
    let highest = taken.iter().map(|taken| taken.highest_epoch).max().unwrap_or(-1).max(0);
    // Epochs rise by one with every start of a broker, and a start need not have archived anything: hence the gap, and
    // hence the count of claims, each of which was a start.
    let starts = i32::try_from(cluster.writer_epoch).unwrap_or(i32::MAX - RECOVERY_EPOCH_GAP);
    let next_leader_epoch = LeaderEpoch(highest.max(starts).saturating_add(RECOVERY_EPOCH_GAP));
    let mut report = RecoveryReport {
        cluster_manifest_at_ms,
        group_offsets_at_ms: groups.as_ref().map(|groups| groups.taken_at_ms),
        partitions: Vec::new(),
        damage: Vec::new(),
    };
    let mut partitions: BTreeMap<TopicId, Vec<RecoveredPartition>> = BTreeMap::new();
    for mut taken in taken {
        taken.report.known_lost_to = groups
            .as_ref()
            .and_then(|groups| groups.highest(taken.topic_id, taken.partition.partition))
            .filter(|read_to| *read_to > taken.report.lost_from);
        partitions.entry(taken.topic_id).or_default().push(taken.partition);
        report.partitions.push(taken.report);
        report.damage.extend(taken.damage);
    }
    let topic = |record: TopicRecord| RecoveredTopic {
        partitions: partitions.remove(&record.topic_id).unwrap_or_default(),
        record,
    };
    RecoveredCluster {
        identity,
        topics: live.into_iter().map(topic).collect(),
        deleted_topics: cluster
            .topics
            .values()
            .filter(|topic| topic.deleted_at_ms.is_some())
            .cloned()
            .collect(),
        next_leader_epoch,
        next_producer_id: ProducerId(cluster.next_producer_id),
        groups,
        report,
    }
}
