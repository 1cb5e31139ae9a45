//! The verdicts as named facts: what is due, what a guard keeps, and what lifts it.

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

fn pass<'a>(oldest: &'a [SegmentRow], retention_ms: Option<i64>, retention_bytes: Option<u64>) -> Pass<'a> {
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

fn new_start(pass: &Pass<'_>) -> Option<Offset> {
    let verdict = verdict(pass);
    assert_eq!(verdict.alarm, None);
    verdict.start
}

#[test]
fn age_counts_by_record_time_and_only_from_the_front() {
    let rows = rows(10);
    assert_eq!(new_start(&pass(&rows, Some(7_000), None)), Some(Offset(30)));
    assert_eq!(new_start(&pass(&rows, Some(20_000), None)), None);
    assert_eq!(new_start(&pass(&rows, None, None)), None);
    let mut late_first = rows.clone();
    late_first[0].max_timestamp_ms = 9_999;
    assert_eq!(new_start(&pass(&late_first, Some(7_000), None)), None);
}

#[test]
fn size_counts_local_bytes_and_keeps_at_least_the_limit() {
    let rows = rows(10);
    assert_eq!(new_start(&pass(&rows, None, Some(1_000))), None);
    assert_eq!(new_start(&pass(&rows, None, Some(901))), None);
    assert_eq!(new_start(&pass(&rows, None, Some(900))), Some(Offset(10)));
    let more = Pass { local_only_bytes: 150, ..pass(&rows, None, Some(1_000)) };
    assert_eq!(new_start(&more), Some(Offset(10)));
}

#[test]
fn a_large_share_by_age_alarms_unless_asked_for() {
    let rows = rows(10);
    let large = pass(&rows, Some(1_000), None);
    let alarm = RetentionAlarm::Share { due_bytes: 900, live_bytes: 1_000 };
    assert_eq!(verdict(&large), Verdict { start: None, alarm: Some(alarm) });
    assert_eq!(new_start(&Pass { asked: true, ..large }), Some(Offset(90)));
    let few = pass(&rows[..4], Some(1_000), None);
    assert_eq!(new_start(&few), Some(Offset(40)));
}

#[test]
fn a_clock_that_jumped_deletes_nothing_by_age() {
    let rows = rows(10);
    let jumped = Pass { clock_moved_ms: 4_000_000, ..pass(&rows, Some(7_000), None) };
    let alarm = RetentionAlarm::Clock { moved_ms: 4_000_000 };
    assert_eq!(verdict(&jumped), Verdict { start: None, alarm: Some(alarm.clone()) });
    let told = alarm.to_string();
    assert!(told.contains("setting retention.ms") && told.contains("restarting the broker"), "{told}");
    assert_eq!(new_start(&Pass { asked: true, ..jumped }), Some(Offset(30)));
}

#[test]
fn a_guard_does_not_keep_what_is_beyond_the_size() {
    let rows = rows(10);
    let jumped = Pass { clock_moved_ms: 4_000_000, ..pass(&rows, Some(7_000), Some(900)) };
    let alarm = RetentionAlarm::Clock { moved_ms: 4_000_000 };
    assert_eq!(verdict(&jumped), Verdict { start: Some(Offset(10)), alarm: Some(alarm) });
    let large = pass(&rows, Some(1_000), Some(900));
    assert_eq!(verdict(&large).start, Some(Offset(10)));
    assert!(verdict(&large).alarm.is_some());
}

#[test]
fn ages_are_told_without_a_step_forward_and_one_back_alarms_nobody() {
    let rows = rows(10);
    let paused = Pass { clock_moved_ms: 1_000, ..pass(&rows, Some(7_000), None) };
    assert_eq!(new_start(&paused), Some(Offset(20)), "the third is due a second later");
    let back = Pass { clock_moved_ms: -4_000_000, ..pass(&rows, Some(7_000), None) };
    assert_eq!(new_start(&back), Some(Offset(30)));
}

#[test]
fn what_is_not_deleted_is_not_deleted() {
    let rows = rows(10);
    let mut compacted = pass(&rows, Some(0), Some(0));
    compacted.policy.delete = false;
    assert_eq!(new_start(&compacted), None);
}
