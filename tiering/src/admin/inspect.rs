//! `longhaul tier inspect`: what a prefix holds, by its manifests.
//!
//! Owns: the answer's shape. Does not own: any judgement about the objects (see `verify`).

use std::sync::Arc;

use serde::Serialize;

use crate::keys;
use crate::manifest::{
    ClusterManifest, ManifestError, PartitionManifest, Register, SegmentRow, SpillCache, load_spilled,
};
use crate::object::LogIdentity;
use crate::owner_mark::{Owner, OwnerError, read_owner};
use crate::seams::Seams;
use crate::store::{OpenStoreError, Store, StoreUrl, open_existing_store};

/// Why a prefix cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The owner's mark cannot be read.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The cluster manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The prefix is nobody's.
    #[error("{url} holds no cluster; a broker that starts with --store {url} takes it")]
    Empty {
        /// The store.
        url: String,
    },
}

/// What a prefix holds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Inspection {
    /// Whose prefix it is.
    pub owner: Owner,
    /// Epoch of the writer that may commit.
    pub writer_epoch: u64,
    /// How often the cluster was recovered from here.
    pub recovery_generation: u32,
    /// When the cluster manifest was written last, milliseconds.
    pub cluster_manifest_at_ms: i64,
    /// When the group offsets were noted last, milliseconds.
    pub group_offsets_at_ms: Option<i64>,
    /// Next producer id that was not handed out when noted.
    pub next_producer_id: i64,
    /// Topics, deleted ones included while they have objects.
    pub topics: Vec<TopicInspection>,
}

/// A topic in the bucket.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TopicInspection {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: String,
    /// When it was deleted, milliseconds.
    pub deleted_at_ms: Option<i64>,
    /// Its partitions.
    pub partitions: Vec<PartitionInspection>,
}

/// A partition in the bucket.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PartitionInspection {
    /// Its number.
    pub partition: i32,
    /// First offset served.
    pub start_offset: i64,
    /// One past the last offset archived or declared missing.
    pub end_offset: i64,
    /// Bytes of live objects.
    pub object_bytes: u64,
    /// Bytes of the segments they came from.
    pub segment_bytes: u64,
    /// When its manifest was written last, milliseconds; 0 if never.
    pub last_commit_ms: i64,
    /// Writer epoch of its newest record.
    pub writer_epoch: u64,
    /// Offsets that are in no object, as (from, to, why).
    pub gaps: Vec<(i64, i64, String)>,
    /// Objects that wait for their delete.
    pub dead_objects: usize,
    /// Live segments.
    pub segments: Vec<SegmentInspection>,
    /// Why the manifest cannot be read, when it cannot.
    pub trouble: Option<String>,
}

/// A segment in the bucket.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SegmentInspection {
    /// Its object.
    pub key: String,
    /// First offset.
    pub base_offset: i64,
    /// One past the last offset.
    pub next_offset: i64,
    /// Bytes of the object.
    pub object_bytes: u64,
    /// Bytes of the segment.
    pub segment_bytes: u64,
    /// Greatest record time, milliseconds.
    pub max_timestamp_ms: i64,
    /// When it was archived, milliseconds.
    pub archived_at_ms: i64,
    /// Whether readers found it damaged.
    pub quarantined: bool,
}

/// Describes what a prefix holds.
///
/// # Errors
/// See [`InspectError`]; a partition whose manifest is damaged is described with its trouble instead.
pub async fn inspect(url: &StoreUrl) -> Result<Inspection, InspectError> {
    inspect_store(open_existing_store(url)?, url, &Seams::system()).await
}

pub(crate) async fn inspect_store(
    store: Arc<dyn Store>,
    url: &StoreUrl,
    seams: &Seams,
) -> Result<Inspection, InspectError> {
    let owner =
        read_owner(&*store, seams).await?.ok_or_else(|| InspectError::Empty { url: url.to_string() })?;
    let folder = keys::cluster_folder(&owner.cluster_id);
    let register = Register::open(store.clone(), folder, ClusterManifest::default(), seams.clone()).await?;
    let cluster = register.state();
    let mut topics = Vec::new();
    for topic in cluster.topics.values() {
        let mut partitions = Vec::new();
        for partition in 0..topic.partitions {
            let log =
                LogIdentity { cluster_id: owner.cluster_id.clone(), topic_id: topic.topic_id, partition };
            partitions.push(match load_rows(store.clone(), &log, seams).await {
                Ok((register, rows)) => describe(&register, &rows),
                Err(error) => unreadable(partition, &error),
            });
        }
        topics.push(TopicInspection {
            name: topic.name.clone(),
            topic_id: topic.topic_id.to_string(),
            deleted_at_ms: topic.deleted_at_ms,
            partitions,
        });
    }
    Ok(Inspection {
        writer_epoch: cluster.writer_epoch,
        recovery_generation: cluster.recovery_generation,
        cluster_manifest_at_ms: register.written_at_ms(),
        group_offsets_at_ms: cluster.groups.as_ref().map(|groups| groups.taken_at_ms),
        next_producer_id: cluster.next_producer_id,
        owner,
        topics,
    })
}

/// A partition's manifest and all its live rows, spilled ones included.
pub(super) async fn load_rows(
    store: Arc<dyn Store>,
    log: &LogIdentity,
    seams: &Seams,
) -> Result<(Register<PartitionManifest>, Vec<SegmentRow>), ManifestError> {
    let folder = keys::manifest_folder(log);
    let empty = PartitionManifest::empty(log.clone());
    let register = Register::open(store.clone(), folder, empty, seams.clone()).await?;
    let mut rows = Vec::new();
    for file in &register.state().spilled {
        rows.extend(load_spilled(&*store, log, file, (&SpillCache::default(), seams)).await?.iter().copied());
    }
    rows.extend(register.state().segments.iter().copied());
    Ok((register, rows))
}

fn describe(register: &Register<PartitionManifest>, rows: &[SegmentRow]) -> PartitionInspection {
    let manifest = register.state();
    let totals = manifest.live_totals();
    let segment = |row: &SegmentRow| SegmentInspection {
        key: keys::segment(&manifest.log, row.base_offset, row.leader_epoch, row.attempt).to_string(),
        base_offset: row.base_offset.0,
        next_offset: row.next_offset.0,
        object_bytes: row.object_bytes,
        segment_bytes: row.raw_bytes,
        max_timestamp_ms: row.max_timestamp_ms,
        archived_at_ms: row.archived_at_ms,
        quarantined: row.quarantined,
    };
    PartitionInspection {
        partition: manifest.log.partition,
        start_offset: manifest.start_offset.0,
        end_offset: manifest.end_offset().0,
        object_bytes: totals.object_bytes,
        segment_bytes: totals.raw_bytes,
        last_commit_ms: register.written_at_ms(),
        writer_epoch: register.last_epoch(),
        gaps: manifest.gaps.iter().map(|gap| (gap.from.0, gap.to.0, format!("{:?}", gap.reason))).collect(),
        dead_objects: manifest.dead.len(),
        segments: rows.iter().map(segment).collect(),
        trouble: None,
    }
}

fn unreadable(partition: i32, error: &ManifestError) -> PartitionInspection {
    PartitionInspection {
        partition,
        start_offset: -1,
        end_offset: -1,
        object_bytes: 0,
        segment_bytes: 0,
        last_commit_ms: 0,
        writer_epoch: 0,
        gaps: Vec::new(),
        dead_objects: 0,
        segments: Vec::new(),
        trouble: Some(error.to_string()),
    }
}
