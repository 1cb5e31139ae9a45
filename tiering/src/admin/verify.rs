//! `longhaul tier verify`: every live object read whole and checked, down to the batches.
//!
//! Owns: the walk over manifests and its account. Does not own: what a whole object is (`whole_object`), repair, the notes
//! of damaged objects: only the broker that owns the prefix may write there, and it looks at those again by itself every
//! few minutes (`limits::QUARANTINE_LOOK`), so its alarm ends a while after this finds nothing.

use std::sync::Arc;

use serde::Serialize;

use super::inspect::{InspectError, load_rows};
use crate::keys;
use crate::manifest::{ClusterManifest, Register, SegmentRow};
use crate::object::LogIdentity;
use crate::owner_mark::read_owner;
use crate::seams::Seams;
use crate::store::{Store, StoreUrl, open_existing_store};
use crate::whole_object;

/// What a verification found.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Partitions looked at.
    pub partitions: u64,
    /// Objects read.
    pub objects: u64,
    /// Bytes of objects read.
    pub object_bytes: u64,
    /// Bytes of segments that came out of them.
    pub segment_bytes: u64,
    /// What is wrong, with the object or manifest at fault; empty when all is well.
    pub faults: Vec<String>,
}

/// Reads and checks everything that a prefix's manifests name.
///
/// # Errors
/// The prefix cannot be looked into at all; single faults are in the report.
pub async fn verify(url: &StoreUrl) -> Result<VerifyReport, InspectError> {
    verify_store(open_existing_store(url)?, url, &Seams::system()).await
}

pub(crate) async fn verify_store(
    store: Arc<dyn Store>,
    url: &StoreUrl,
    seams: &Seams,
) -> Result<VerifyReport, InspectError> {
    let owner =
        read_owner(&*store, seams).await?.ok_or_else(|| InspectError::Empty { url: url.to_string() })?;
    let folder = keys::cluster_folder(&owner.cluster_id);
    let register = Register::open(store.clone(), folder, ClusterManifest::default(), seams.clone()).await?;
    let mut report = VerifyReport::default();
    for topic in register.state().topics.values().filter(|topic| topic.deleted_at_ms.is_none()) {
        for partition in 0..topic.partitions {
            let log =
                LogIdentity { cluster_id: owner.cluster_id.clone(), topic_id: topic.topic_id, partition };
            report.partitions += 1;
            match load_rows(store.clone(), &log, seams).await {
                Err(error) => report.faults.push(format!("{}-{partition}: {error}", topic.name)),
                Ok((_, rows)) => {
                    for row in rows {
                        verify_object(&*store, &log, &row, &mut report).await;
                    }
                }
            }
        }
    }
    Ok(report)
}

async fn verify_object(store: &dyn Store, log: &LogIdentity, row: &SegmentRow, report: &mut VerifyReport) {
    report.objects += 1;
    match whole_object::check(store, log, row).await {
        Ok(()) => {
            report.object_bytes += row.object_bytes;
            report.segment_bytes += row.raw_bytes;
        }
        Err(fault) => {
            let key = whole_object::key(log, row);
            let (start, end) = (row.base_offset.0, row.next_offset.0);
            report.faults.push(format!("{key} (offsets {start} to {end}): {fault}"));
        }
    }
}
