//! What can be seen from outside: states, lag, counters.
//!
//! Owns: plain data, and Kafka's names for it (KIP-405, KIP-963). Does not own: how it is shown.

use std::sync::atomic::{AtomicU64, Ordering};

use hotlog::PartitionId;
use serde::Serialize;

/// How the tier stands with its store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TierState {
    /// Not reached yet; the local log goes on, and everything waits.
    Connecting {
        /// What happened last.
        last_error: String,
    },
    /// At work.
    Ready,
    /// Stopped for good: another writer has taken over, or the prefix is not ours.
    Refused {
        /// Why.
        reason: String,
    },
}

/// The tier as a whole.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TierStatus {
    /// The store.
    pub store: String,
    /// How it stands.
    pub state: TierState,
    /// Every partition in care.
    pub partitions: Vec<PartitionStatus>,
}

/// One partition.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PartitionStatus {
    /// Topic id, as text.
    pub topic_id: String,
    /// Partition.
    pub partition: i32,
    /// First offset in the store that is served; -1 before the manifest is loaded.
    pub start_offset: i64,
    /// One past the last offset in the store; -1 before the manifest is loaded.
    pub end_offset: i64,
    /// Live segments (`RemoteLogMetadataCount`).
    pub segments: u64,
    /// Bytes of live objects.
    pub object_bytes: u64,
    /// Bytes of the segments they came from (`RemoteLogSizeBytes`).
    pub segment_bytes: u64,
    /// Objects waiting for their delete (`RemoteDeleteLagSegments`).
    pub delete_lag_segments: u64,
    /// Their bytes (`RemoteDeleteLagBytes`).
    pub delete_lag_bytes: u64,
    /// Sealed segments that wait for their upload (`RemoteCopyLagSegments`).
    pub copy_lag_segments: u64,
    /// Their bytes (`RemoteCopyLagBytes`).
    pub copy_lag_bytes: u64,
    /// Age of the oldest byte that a loss of the disk would lose, the active segment included.
    pub oldest_unprotected_age_ms: i64,
    /// Live objects that readers found damaged.
    pub quarantined_segments: u64,
    /// Why the partition does not advance, when it does not.
    pub trouble: Option<String>,
}

impl PartitionStatus {
    pub(super) fn new(id: PartitionId) -> Self {
        PartitionStatus {
            topic_id: id.topic_id.to_string(),
            partition: id.partition,
            start_offset: -1,
            end_offset: -1,
            segments: 0,
            object_bytes: 0,
            segment_bytes: 0,
            delete_lag_segments: 0,
            delete_lag_bytes: 0,
            copy_lag_segments: 0,
            copy_lag_bytes: 0,
            oldest_unprotected_age_ms: 0,
            quarantined_segments: 0,
            trouble: None,
        }
    }
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) copy_bytes: AtomicU64,
    pub(crate) copy_requests: AtomicU64,
    pub(crate) copy_errors: AtomicU64,
    pub(crate) fetch_bytes: AtomicU64,
    pub(crate) fetch_requests: AtomicU64,
    pub(crate) fetch_errors: AtomicU64,
    pub(crate) delete_requests: AtomicU64,
    pub(crate) delete_errors: AtomicU64,
}

/// Counters since the start, by KIP-963's names without their `PerSec`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TierMetrics {
    /// Bytes of segments made visible in the store.
    pub remote_copy_bytes: u64,
    /// Uploads tried.
    pub remote_copy_requests: u64,
    /// Uploads or commits that failed.
    pub remote_copy_errors: u64,
    /// Bytes of batches handed to readers.
    pub remote_fetch_bytes: u64,
    /// Reads asked for.
    pub remote_fetch_requests: u64,
    /// Reads that failed.
    pub remote_fetch_errors: u64,
    /// Deletes tried.
    pub remote_delete_requests: u64,
    /// Deletes that failed.
    pub remote_delete_errors: u64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> TierMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TierMetrics {
            remote_copy_bytes: read(&self.copy_bytes),
            remote_copy_requests: read(&self.copy_requests),
            remote_copy_errors: read(&self.copy_errors),
            remote_fetch_bytes: read(&self.fetch_bytes),
            remote_fetch_requests: read(&self.fetch_requests),
            remote_fetch_errors: read(&self.fetch_errors),
            remote_delete_requests: read(&self.delete_requests),
            remote_delete_errors: read(&self.delete_errors),
        }
    }
}
