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
    /// The wall clock is ahead of the time that passed.
    #[error(
        "the machine's clock stepped by {moved_ms} ms: retention tells ages without that; set it right, or, if it is right now, \
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

/// Which segments may go. Ages are told without a step forward of the wall clock, and a guard stops what would go by age:
/// no clock makes a log look larger than it is.
pub(crate) fn verdict(pass: &Pass<'_>) -> Verdict {
    if !pass.policy.delete {
        return Verdict::default();
    }
    let by_size = due_by_size(pass);
    let by_wall = due_by_age(pass, pass.now_ms);
    let trusted_ms = pass.now_ms.saturating_sub(pass.clock_moved_ms.max(0));
    let by_age = if pass.asked { by_wall } else { due_by_age(pass, trusted_ms) };
    let too_much = if by_age > by_size { too_large_a_share(pass, by_age) } else { None };
    let due = if too_much.is_some() { by_size } else { by_age.max(by_size) };
    let is_ahead = i128::from(pass.clock_moved_ms) > CLOCK_JUMP.as_millis() as i128;
    let kept_by_clock = !pass.asked && is_ahead && by_wall > due;
    let clock = kept_by_clock.then_some(RetentionAlarm::Clock { moved_ms: pass.clock_moved_ms });
    Verdict { start: due.checked_sub(1).map(|last| pass.oldest[last].next_offset), alarm: too_much.or(clock) }
}

/// The alarm, where the oldest `due` segments are more than may go by age at once.
fn too_large_a_share(pass: &Pass<'_>, due: usize) -> Option<RetentionAlarm> {
    let due_bytes: u64 = pass.oldest[..due].iter().map(|row| row.raw_bytes).sum();
    let live_bytes = pass.totals.raw_bytes.max(1);
    let is_large = u128::from(due_bytes) * 100 > u128::from(live_bytes) * u128::from(RETENTION_SHARE_PERCENT);
    let stops = !pass.asked && is_large && pass.totals.segments >= RETENTION_SHARE_MIN_SEGMENTS;
    stops.then_some(RetentionAlarm::Share { due_bytes, live_bytes })
}

/// How many of the oldest rows are older than `retention.ms`, by record time; without one, by the time of archiving.
fn due_by_age(pass: &Pass<'_>, now_ms: i64) -> usize {
    let Some(retention_ms) = pass.policy.retention_ms else { return 0 };
    let limit = now_ms.saturating_sub(retention_ms);
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
