//! `longhaul tier verify`: every live object read whole and checked, down to the batches.
//!
//! Owns: the walk and its account. Does not own: repair. An object is fetched block by block, so memory stays small.

use std::sync::Arc;

use serde::Serialize;

use super::inspect::{InspectError, load_rows};
use crate::keys;
use crate::manifest::{ClusterManifest, Register, SegmentRow};
use crate::object::{
    LogIdentity, ObjectError, TRAILER_BYTES, check_batches, decode_footer, decode_trailer, open_block,
};
use crate::owner_mark::read_owner;
use crate::replay::aborted_of;
use crate::seams::Seams;
use crate::store::{Store, StoreError, StoreUrl, open_store, read_range};

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

/// Why one object is not whole.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// Reads and checks everything that a prefix's manifests name.
///
/// # Errors
/// The prefix cannot be looked into at all; single faults are in the report.
pub async fn verify(url: &StoreUrl) -> Result<VerifyReport, InspectError> {
    verify_store(open_store(url)?, url, &Seams::system()).await
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
    match read_object(store, log, row).await {
        Ok(()) => {
            report.object_bytes += row.object_bytes;
            report.segment_bytes += row.raw_bytes;
        }
        Err(fault) => {
            let key = keys::segment(log, row.base_offset, row.leader_epoch, row.attempt);
            let (start, end) = (row.base_offset.0, row.next_offset.0);
            report.faults.push(format!("{key} (offsets {start} to {end}): {fault}"));
        }
    }
}

async fn read_object(store: &dyn Store, log: &LogIdentity, row: &SegmentRow) -> Result<(), Fault> {
    let key = keys::segment(log, row.base_offset, row.leader_epoch, row.attempt);
    let size = store.head(&key).await?;
    let tail = read_range(store, &key, size.saturating_sub(TRAILER_BYTES as u64)..size).await?;
    let trailer = decode_trailer(&tail, size)?;
    let footer_end = trailer.footer_position + u64::from(trailer.footer_bytes);
    let footer =
        decode_footer(&trailer, &read_range(store, &key, trailer.footer_position..footer_end).await?)?;
    footer.identity.expect(&row.identity(log))?;
    aborted_of(&footer)?;
    let mut crc = 0;
    for (index, block) in footer.blocks.iter().enumerate() {
        let end = block.stored_position + u64::from(block.stored_bytes);
        let raw = open_block(block, read_range(store, &key, block.stored_position..end).await?)?;
        let next = footer.blocks.get(index + 1).map_or(row.next_offset, |next| next.base_offset);
        check_batches(block, &raw, next, true)?;
        crc = crc32c::crc32c_append(crc, &raw);
    }
    if crc != row.raw_crc {
        let detail = "the segment's checksum does not match its blocks";
        return Err(ObjectError::Footer { detail }.into());
    }
    Ok(())
}
