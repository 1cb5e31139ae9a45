//! The decisions as named facts, then what must hold for every log.

use proptest::prelude::*;
use wire::ids::Offset;

use super::*;

const NOW_MS: i64 = 1_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// Ten segments of 100 bytes and 10 offsets; the i-th's newest record is `10 - i` days old.
fn ten() -> Vec<SealedFacts> {
    (0..10)
        .map(|number| SealedFacts {
            base_offset: Offset(number * 10),
            next_offset: Offset(number * 10 + 10),
            size_bytes: 100,
            max_timestamp_ms: NOW_MS - (10 - number) * DAY_MS,
            last_append_time_ms: NOW_MS - (10 - number) * DAY_MS,
        })
        .collect()
}

fn pass(sealed: &[SealedFacts], limits: Limits) -> Pass<'_> {
    Pass {
        sealed,
        active_bytes: 50,
        below: Offset(1_000),
        policy: CleanupPolicy::Delete,
        limits,
        time: PassTime { now_ms: NOW_MS, since: None },
    }
}

fn age(age_ms: i64) -> Limits {
    Limits { age_ms: Some(age_ms), size_bytes: None }
}

fn size(size_bytes: u64) -> Limits {
    Limits { age_ms: None, size_bytes: Some(size_bytes) }
}

/// 0 when nothing goes.
fn new_start(pass: &Pass<'_>) -> i64 {
    expired(pass, LargePass::Stop).unwrap().below.map_or(0, |below| below.0)
}

#[test]
fn segments_go_when_their_newest_record_is_older_than_the_limit() {
    assert_eq!(new_start(&pass(&ten(), age(7 * DAY_MS))), 30);
    assert_eq!(new_start(&pass(&ten(), age(7 * DAY_MS - 1))), 40);
}

#[test]
fn a_segment_goes_by_size_only_when_the_rest_still_reaches_the_limit() {
    assert_eq!(new_start(&pass(&ten(), size(950))), 10);
    assert_eq!(new_start(&pass(&ten(), size(951))), 0);
    assert_eq!(new_start(&pass(&ten(), size(1_050))), 0);
}

#[test]
fn no_limit_keeps_everything() {
    assert_eq!(Limits::from_config(-1, -1), Limits::default());
    assert_eq!(new_start(&pass(&ten(), Limits::default())), 0);
}

#[test]
fn a_log_without_sealed_segments_keeps_its_active_one() {
    let found = expired(&pass(&[], age(0)), LargePass::Stop).unwrap();
    let nothing = Expired { below: None, segments: 0, bytes: 0, held_by_future_time: None, alarm: None };
    assert_eq!(found, nothing);
}

#[test]
fn minus_two_makes_a_local_limit_follow_the_total() {
    let total = Limits::from_config(5, 6);
    assert_eq!(total.local_from_config(-2, -2), total);
    assert_eq!(total.local_from_config(1, -1), Limits { age_ms: Some(1), size_bytes: None });
}

#[test]
fn a_compacted_topic_keeps_everything() {
    let sealed = ten();
    let compacted = Pass { policy: CleanupPolicy::Compact, ..pass(&sealed, age(0)) };
    assert_eq!(new_start(&compacted), 0);
    assert_eq!(releasable(&compacted), 0);
}

#[test]
fn nothing_beyond_the_callers_limit_goes() {
    let sealed = ten();
    assert_eq!(new_start(&Pass { below: Offset(29), ..pass(&sealed, age(7 * DAY_MS)) }), 20);
}

#[test]
fn a_pass_that_would_take_more_than_its_share_takes_nothing() {
    let sealed = ten();
    let large = pass(&sealed, age(4 * DAY_MS));
    let alarm = RetentionAlarm::LargePass { below: Offset(60), segments: 6, bytes: 600, total_bytes: 1_000 };
    assert_eq!(expired(&large, LargePass::Stop), Err(alarm));
    assert_eq!(expired(&large, LargePass::Allowed).unwrap().below, Some(Offset(60)));
    assert_eq!(new_start(&pass(&sealed, age(5 * DAY_MS))), 50);
}

#[test]
fn a_short_log_may_lose_its_few_segments() {
    assert_eq!(new_start(&pass(&ten()[..2], age(0))), 20);
}

/// A pass with these limits, whose wall clock moved by so much while no time passed.
fn stepped(sealed: &[SealedFacts], limits: Limits, step_ms: i64) -> Pass<'_> {
    let since = Some(PassInterval { wall_ms: step_ms, steady_ms: 0 });
    Pass { time: PassTime { now_ms: NOW_MS, since }, ..pass(sealed, limits) }
}

#[test]
fn ages_are_told_without_a_step_forward_and_a_large_one_alarms() {
    let sealed = ten();
    let ahead = stepped(&sealed, age(8 * DAY_MS), 2 * DAY_MS);
    let alarm = RetentionAlarm::ClockStepped { step_ms: 2 * DAY_MS };
    assert_eq!(expired(&ahead, LargePass::Stop), Err(alarm));
    assert_eq!(expired(&ahead, LargePass::Allowed), Err(alarm));
    let found = expired(&stepped(&sealed, age(7 * DAY_MS), DAY_MS), LargePass::Stop).unwrap();
    let told = (found.below, found.alarm);
    assert_eq!(told, (Some(Offset(20)), Some(RetentionAlarm::ClockStepped { step_ms: DAY_MS })));
}

#[test]
fn a_pause_of_minutes_and_a_step_back_alarm_nobody() {
    let sealed = ten();
    assert_eq!(
        new_start(&stepped(&sealed, age(8 * DAY_MS - 1), 600_000)),
        20,
        "the third is due in ten minutes"
    );
    assert_eq!(
        expired(&stepped(&sealed, age(8 * DAY_MS - 1), 600_000), LargePass::Stop).unwrap().alarm,
        None
    );
    assert_eq!(new_start(&stepped(&sealed, age(8 * DAY_MS), 1_000)), 20);
    let back = expired(&stepped(&sealed, age(8 * DAY_MS), -DAY_MS), LargePass::Stop).unwrap();
    assert_eq!((back.below, back.alarm), (Some(Offset(20)), None));
}

#[test]
fn no_guard_keeps_what_is_beyond_the_size() {
    let sealed = ten();
    assert_eq!(new_start(&stepped(&sealed, size(900), DAY_MS)), 10);
    let limits = Limits { age_ms: Some(7 * DAY_MS), size_bytes: Some(900) };
    let found = expired(&stepped(&sealed, limits, 5 * DAY_MS), LargePass::Stop).unwrap();
    assert_eq!(found.below, Some(Offset(10)), "one segment by size; three would go by age");
    assert_eq!(found.alarm, Some(RetentionAlarm::ClockStepped { step_ms: 5 * DAY_MS }));

    // A topic whose writers are faster than its passes: all but its limit goes, every time.
    assert_eq!(new_start(&pass(&sealed, size(150))), 90);
    let limits = Limits { age_ms: Some(2 * DAY_MS), size_bytes: Some(350) };
    let found = expired(&pass(&sealed, limits), LargePass::Stop).unwrap();
    assert_eq!(found.below, Some(Offset(70)), "eight would go by age, and that is more than a pass may take");
    assert!(matches!(found.alarm, Some(RetentionAlarm::LargePass { segments: 8, .. })));
}

fn reading(wall_ms: i64, steady_ms: i64) -> ClockReading {
    ClockReading { wall_ms, steady_ms }
}

#[test]
fn a_step_is_remembered_until_the_clock_comes_back() {
    let mut clock = TrustedClock::new(reading(1_000, 0), MAX_CLOCK_STEP_MS.unsigned_abs());
    assert_eq!(clock.look(reading(16_000, 15_000)).step_ms(), 0);
    for pass in 2..10 {
        let steady_ms = pass * 15_000;
        assert_eq!(
            clock.look(reading(1_000 + steady_ms + DAY_MS, steady_ms)).step_ms(),
            DAY_MS,
            "pass {pass}"
        );
    }
    assert_eq!(clock.look(reading(151_000, 150_000)).step_ms(), 0);
    assert_eq!(clock.look(reading(166_000 - DAY_MS, 165_000)).step_ms(), -DAY_MS);
    assert_eq!(clock.look(reading(181_000 - DAY_MS, 180_000)).step_ms(), -DAY_MS);
}

#[test]
fn drift_is_followed_and_a_new_trust_is_believed() {
    let mut clock = TrustedClock::new(reading(0, 0), MAX_CLOCK_STEP_MS.unsigned_abs());
    for hour in 1..100 {
        let steady_ms = hour * 3_600_000;
        let since = clock.look(reading(steady_ms + hour * 59_000, steady_ms));
        assert_eq!(since.step_ms(), 59_000, "hour {hour}");
    }
    let now = reading(DAY_MS, 0);
    let shared = TrustedClock::new(reading(0, 0), 1).look(now);
    let own = TrustedClock::new(now, 1).look(now);
    assert_eq!(shared.or_closer(None).step_ms(), DAY_MS);
    assert_eq!(shared.or_closer(Some(own)).step_ms(), 0);
    assert_eq!(own.or_closer(Some(shared)).step_ms(), 0);
}

#[test]
fn alarms_say_how_to_confirm() {
    let step = RetentionAlarm::ClockStepped { step_ms: 1 }.to_string();
    assert!(step.contains("setting retention.ms") && step.contains("restarting the broker"), "{step}");
    let large =
        RetentionAlarm::LargePass { below: Offset(1), segments: 1, bytes: 1, total_bytes: 1 }.to_string();
    assert!(large.contains("confirm it by setting retention.ms"), "{large}");
}

#[test]
fn a_record_from_the_future_holds_its_segment_and_is_named() {
    let mut sealed = ten();
    sealed[1].max_timestamp_ms = NOW_MS + 1;
    let found = expired(&pass(&sealed, age(7 * DAY_MS)), LargePass::Stop).unwrap();
    assert_eq!((found.below, found.held_by_future_time), (Some(Offset(10)), Some(Offset(10))));
}

#[test]
fn a_segment_without_record_times_ages_by_its_last_append() {
    let mut sealed = ten();
    sealed[0].max_timestamp_ms = -1;
    assert_eq!(new_start(&pass(&sealed, age(9 * DAY_MS))), 10);
    sealed[0].last_append_time_ms = NOW_MS;
    assert_eq!(new_start(&pass(&sealed, age(9 * DAY_MS))), 0);
}

#[test]
fn a_release_is_not_guarded() {
    assert_eq!(releasable(&pass(&ten(), age(0))), 10);
    assert_eq!(releasable(&pass(&ten(), size(50))), 10);
}

fn logs() -> impl Strategy<Value = Vec<SealedFacts>> {
    let segment = (1..5i64, 1..1_000u64, -1..60i64, 0..60i64);
    prop::collection::vec(segment, 0..12).prop_map(|parts| {
        let mut next = 0;
        let place = |(records, size_bytes, record_days, append_days)| {
            let base_offset = Offset(next);
            next += records;
            SealedFacts {
                base_offset,
                next_offset: Offset(next),
                size_bytes,
                max_timestamp_ms: if record_days < 0 { -1 } else { NOW_MS + DAY_MS - record_days * DAY_MS },
                last_append_time_ms: NOW_MS - append_days * DAY_MS,
            }
        };
        parts.into_iter().map(place).collect()
    })
}

proptest! {
    #[test]
    fn what_goes_is_a_prefix_within_every_guard(
        sealed in logs(), age_days in prop::option::of(0..60i64), size_bytes in prop::option::of(0..6_000u64), below in 0..60i64,
    ) {
        let limits = Limits { age_ms: age_days.map(|days| days * DAY_MS), size_bytes };
        let pass = Pass { below: Offset(below), ..pass(&sealed, limits) };
        match expired(&pass, LargePass::Stop) {
            Ok(found) => {
                let gone = &sealed[..found.segments];
                prop_assert!(gone.iter().all(|segment| segment.next_offset <= pass.below));
                prop_assert_eq!(found.bytes, total(gone));
                let left = total(&sealed[found.segments..]) + pass.active_bytes;
                let is_by_size = limits.size_bytes.is_some_and(|limit| left >= limit);
                let is_small = found.segments <= UNGUARDED_SEGMENTS || found.bytes * 2 <= total(&sealed);
                prop_assert!(is_small || is_by_size);
                for (number, segment) in gone.iter().enumerate() {
                    let old = limits.age_ms.is_some_and(|age_ms| NOW_MS - segment.age_time_ms() > age_ms);
                    let left = total(&sealed[number + 1..]) + pass.active_bytes;
                    prop_assert!(old || limits.size_bytes.is_some_and(|limit| left >= limit));
                }
            }
            Err(RetentionAlarm::LargePass { segments, bytes, .. }) => {
                prop_assert!(segments > UNGUARDED_SEGMENTS && bytes * 2 > total(&sealed));
            }
            Err(RetentionAlarm::ClockStepped { .. }) => prop_assert!(false, "no step was given"),
        }
    }
}
