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
    /// Whether the policy was changed since the last pass, which lifts the guards.
    pub(crate) asked: bool,
    /// How far the wall clock moved against the steady one since the last pass, milliseconds.
    pub(crate) clock_moved_ms: i64,
}

/// Why a pass deleted nothing although something is due. An alarm, not a failure: the data is there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RetentionAlarm {
    /// The wall clock cannot be trusted.
    #[error(
        "the clock moved by {moved_ms} ms since the last pass: nothing is deleted by age; set the clock right"
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

/// The new log start, if segments are due.
///
/// # Errors
/// Something is due, but a guard stops it.
pub(crate) fn new_start(pass: &Pass<'_>) -> Result<Option<Offset>, RetentionAlarm> {
    if !pass.policy.delete {
        return Ok(None);
    }
    let by_size = due_by_size(pass);
    let by_age = due_by_age(pass);
    if by_age > by_size {
        let due_bytes: u64 = pass.oldest[..by_age].iter().map(|row| row.raw_bytes).sum();
        let live_bytes = pass.totals.raw_bytes.max(1);
        if !pass.asked && pass.clock_moved_ms.unsigned_abs() > CLOCK_JUMP.as_millis() as u64 {
            return Err(RetentionAlarm::Clock { moved_ms: pass.clock_moved_ms });
        }
        let guarded = pass.totals.segments >= RETENTION_SHARE_MIN_SEGMENTS && !pass.asked;
        if guarded
            && u128::from(due_bytes) * 100 > u128::from(live_bytes) * u128::from(RETENTION_SHARE_PERCENT)
        {
            return Err(RetentionAlarm::Share { due_bytes, live_bytes });
        }
    }
    let due = by_age.max(by_size);
    Ok(due.checked_sub(1).map(|last| pass.oldest[last].next_offset))
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
mod tests {
    use super::*;
    use crate::seams::AttemptId;
    use wire::ids::LeaderEpoch;

    fn rows(count: i64) -> Vec<SegmentRow> {
        (0..count)
            .map(|index| SegmentRow {
                base_offset: Offset(index * 10),
                next_offset: Offset(index * 10 + 10),
                leader_epoch: LeaderEpoch(0),
                attempt: AttemptId([index as u8; 16]),
                object_bytes: 60,
                raw_bytes: 100,
                raw_crc: 0,
                footer_bytes: 10,
                max_timestamp_ms: 1_000 * index,
                archived_at_ms: 0,
                aborted: 0,
                quarantined: false,
            })
            .collect()
    }

    fn pass<'a>(
        oldest: &'a [SegmentRow],
        retention_ms: Option<i64>,
        retention_bytes: Option<u64>,
    ) -> Pass<'a> {
        let segments = oldest.len() as u64;
        Pass {
            policy: PartitionPolicy { retention_ms, retention_bytes, archive: true, delete: true },
            oldest,
            totals: LiveTotals { segments, object_bytes: segments * 60, raw_bytes: segments * 100 },
            local_only_bytes: 0,
            now_ms: 10_000,
            asked: false,
            clock_moved_ms: 0,
        }
    }

    #[test]
    fn age_counts_by_record_time_and_only_from_the_front() {
        let rows = rows(10);
        assert_eq!(new_start(&pass(&rows, Some(7_000), None)), Ok(Some(Offset(30))));
        assert_eq!(new_start(&pass(&rows, Some(20_000), None)), Ok(None));
        assert_eq!(new_start(&pass(&rows, None, None)), Ok(None));
        let mut late_first = rows.clone();
        late_first[0].max_timestamp_ms = 9_999;
        assert_eq!(new_start(&pass(&late_first, Some(7_000), None)), Ok(None));
    }

    #[test]
    fn size_counts_local_bytes_and_keeps_at_least_the_limit() {
        let rows = rows(10);
        assert_eq!(new_start(&pass(&rows, None, Some(1_000))), Ok(None));
        assert_eq!(new_start(&pass(&rows, None, Some(901))), Ok(None));
        assert_eq!(new_start(&pass(&rows, None, Some(900))), Ok(Some(Offset(10))));
        let more = Pass { local_only_bytes: 150, ..pass(&rows, None, Some(1_000)) };
        assert_eq!(new_start(&more), Ok(Some(Offset(10))));
    }

    #[test]
    fn a_large_share_by_age_alarms_unless_asked_for() {
        let rows = rows(10);
        let large = pass(&rows, Some(1_000), None);
        assert_eq!(new_start(&large), Err(RetentionAlarm::Share { due_bytes: 900, live_bytes: 1_000 }));
        assert_eq!(new_start(&Pass { asked: true, ..large }), Ok(Some(Offset(90))));
        let few = pass(&rows[..4], Some(1_000), None);
        assert_eq!(new_start(&few), Ok(Some(Offset(40))));
    }

    #[test]
    fn a_clock_that_jumped_deletes_nothing_by_age() {
        let rows = rows(10);
        let jumped = Pass { clock_moved_ms: 4_000_000, ..pass(&rows, Some(7_000), None) };
        assert_eq!(new_start(&jumped), Err(RetentionAlarm::Clock { moved_ms: 4_000_000 }));
    }

    #[test]
    fn what_is_not_deleted_is_not_deleted() {
        let rows = rows(10);
        let mut compacted = pass(&rows, Some(0), Some(0));
        compacted.policy.delete = false;
        assert_eq!(new_start(&compacted), Ok(None));
    }
}
