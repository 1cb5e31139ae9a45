//! Total retention: which tiered segments have had their time, by arithmetic over the manifest.
//!
//! Owns: the decision (pure) and its guards. Does not own: the deletes. Their order is fixed: the hot log's start moves
//! first, durably; then the manifest's; then rows are marked dead; then, after a grace, objects are deleted and forgotten.

use wire::ids::Offset;

use crate::limits::{CLOCK_JUMP, RETENTION_SHARE_MIN_SEGMENTS, RETENTION_SHARE_PERCENT};
use crate::manifest::{LiveTotals, SegmentRow};
use crate::tier::PartitionPolicy;

/// What a pass looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass<'a> {
    /// What may be deleted.
    pub(crate) policy: PartitionPolicy,
    /// The oldest live rows, rising; at least those that may go now.
    pub(crate) oldest: &'a [SegmentRow],
    /// Sums over all live rows.
    pub(crate) totals: LiveTotals,
    /// Bytes of the log that are only local.
    pub(crate) local_only_bytes: u64,
    /// Wall time.
    pub(crate) now_ms: i64,
    /// Whether what retention goes by was changed since the last pass, which lifts the guards.
    pub(crate) asked: bool,
    /// How far the wall clock moved against the steady one since it was last trusted, milliseconds.
    pub(crate) clock_moved_ms: i64,
}

/// What a pass comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Verdict {
    /// The new log start, if segments may go.
    pub(crate) start: Option<Offset>,
    /// Why some stay that are due by age.
    pub(crate) alarm: Option<RetentionAlarm>,
}

/// Why a pass kept what is due by age. An alarm, not a failure: the data is there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RetentionAlarm {
    /// The wall clock cannot be trusted.
    #[error(
        "the machine's clock stepped by {moved_ms} ms: nothing is deleted by age; set it right, or, if it is right now, \
         confirm that by setting retention.ms of the topic to another value, or by restarting the broker"
    )]
    Clock {
        /// How far.
        moved_ms: i64,
    },
    /// More than the set share would go at once.
    #[error(
        "retention would delete {due_bytes} of {live_bytes} bytes at once: nothing is deleted; if that is meant, set \
         retention.ms of the topic to another value"
    )]
    Share {
        /// Bytes due.
        due_bytes: u64,
        /// Bytes live.
        live_bytes: u64,
    },
}

/// Which segments may go. A guard stops those that are due by age only: no clock makes a log look larger than it is.
pub(crate) fn verdict(pass: &Pass<'_>) -> Verdict {
    if !pass.policy.delete {
        return Verdict::default();
    }
    let by_size = due_by_size(pass);
    let by_age = due_by_age(pass);
    let alarm = if by_age > by_size { guard(pass, by_age) } else { None };
    let due = if alarm.is_some() { by_size } else { by_age.max(by_size) };
    Verdict { start: due.checked_sub(1).map(|last| pass.oldest[last].next_offset), alarm }
}

/// What forbids that the oldest `due` segments go by age.
fn guard(pass: &Pass<'_>, due: usize) -> Option<RetentionAlarm> {
    if pass.asked {
        return None;
    }
    if pass.clock_moved_ms.unsigned_abs() > CLOCK_JUMP.as_millis() as u64 {
        return Some(RetentionAlarm::Clock { moved_ms: pass.clock_moved_ms });
    }
    let due_bytes: u64 = pass.oldest[..due].iter().map(|row| row.raw_bytes).sum();
    let live_bytes = pass.totals.raw_bytes.max(1);
    let is_large = u128::from(due_bytes) * 100 > u128::from(live_bytes) * u128::from(RETENTION_SHARE_PERCENT);
    let stops = is_large && pass.totals.segments >= RETENTION_SHARE_MIN_SEGMENTS;
    stops.then_some(RetentionAlarm::Share { due_bytes, live_bytes })
}

/// How many of the oldest rows are older than `retention.ms`, by record time; without one, by the time of archiving.
fn due_by_age(pass: &Pass<'_>) -> usize {
    let Some(retention_ms) = pass.policy.retention_ms else { return 0 };
    let limit = pass.now_ms.saturating_sub(retention_ms);
    let is_due = |row: &SegmentRow| {
        let time = if row.max_timestamp_ms >= 0 { row.max_timestamp_ms } else { row.archived_at_ms };
        time < limit
    };
    pass.oldest.iter().take_while(|row| is_due(row)).count()
}

/// How many of the oldest rows can go while `retention.bytes` stay.
fn due_by_size(pass: &Pass<'_>) -> usize {
    let Some(retention_bytes) = pass.policy.retention_bytes else { return 0 };
    let mut excess =
        (pass.totals.raw_bytes.saturating_add(pass.local_only_bytes)).saturating_sub(retention_bytes);
    let mut due = 0;
    for row in pass.oldest {
        if excess < row.raw_bytes {
            break;
        }
        excess -= row.raw_bytes;
        due += 1;
    }
    due
}

#[cfg(test)]
mod tests;
