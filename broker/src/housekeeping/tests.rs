//! Who decides about what, and what a change of settings lifts, on clocks set by hand and a real log in a scratch folder.

use hotlog::retention::{LargePass, Pass, SealedFacts, expired};
use hotlog::{LogDirectory, LogOptions, Origin, PartitionConfig, TopicDirectory};
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
use wire::ids::{Offset, TopicId};

use super::confirmation::CONFIRMED_FOR_MS;
use super::*;
use crate::groups::records::OffsetValue;
use crate::topic_config::Overrides;
use crate::topics::Topic;
use crate::waiters::WaiterTable;

const TOPIC: TopicId = TopicId([7; 16]);
const OTHER: TopicId = TopicId([8; 16]);
const DAY_MS: i64 = 86_400_000;
/// Where the clocks stand at the start.
const START: ClockReading = ClockReading { wall_ms: 1_000 * DAY_MS, steady_ms: 0 };

fn config(pairs: &[(&str, &str)]) -> TopicConfig {
    let overrides: Overrides =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    TopicConfig::resolve(&overrides).unwrap()
}

fn goal(retention_ms: &str) -> Goal {
    Goal::of(&config(&[("retention.ms", retention_ms)]))
}

/// The clocks after some time, the wall clock moved by a step.
fn after(steady_ms: i64, step_ms: i64) -> ClockReading {
    ClockReading { wall_ms: START.wall_ms + steady_ms + step_ms, steady_ms }
}

/// What a pass over a log of eight segments takes, the i-th of which is `8 - i` days old at the start.
fn taken(goal: Goal, guard: Guard) -> Result<usize, RetentionAlarm> {
    let sealed: Vec<SealedFacts> = (0..8)
        .map(|number| SealedFacts {
            base_offset: Offset(number * 10),
            next_offset: Offset(number * 10 + 10),
            size_bytes: 100,
            max_timestamp_ms: START.wall_ms - (8 - number) * DAY_MS,
            last_append_time_ms: START.wall_ms - (8 - number) * DAY_MS,
        })
        .collect();
    let pass = Pass {
        sealed: &sealed,
        active_bytes: 0,
        below: Offset(1_000),
        policy: goal.policy,
        limits: goal.limits,
        time: guard.time,
    };
    expired(&pass, guard.large).map(|expired| expired.segments)
}

fn pass(confirmations: &mut Confirmations, now: ClockReading, goal: Goal) -> Result<usize, RetentionAlarm> {
    let guards = confirmations.pass(now, [(TOPIC, goal)].into_iter());
    taken(goal, guards[&TOPIC])
}

#[test]
fn a_change_of_what_retention_goes_by_confirms_a_large_pass_for_a_while() {
    let mut confirmations = Confirmations::new(START);
    for number in 0..3 {
        let stopped = pass(&mut confirmations, after(number * 15_000, 0), goal("1000")).unwrap_err();
        assert!(matches!(stopped, RetentionAlarm::LargePass { segments: 8, .. }), "{stopped}");
    }
    assert_eq!(pass(&mut confirmations, after(45_000, 0), goal("1001")), Ok(8));
    assert_eq!(pass(&mut confirmations, after(45_000 + CONFIRMED_FOR_MS, 0), goal("1001")), Ok(8));
    assert!(pass(&mut confirmations, after(60_000 + CONFIRMED_FOR_MS, 0), goal("1001")).is_err());
}

#[test]
fn a_change_confirms_its_own_topic_only_and_a_topic_that_went_is_forgotten() {
    let mut confirmations = Confirmations::new(START);
    let both = |changed: &str| [(TOPIC, goal(changed)), (OTHER, goal("1000"))].into_iter();
    confirmations.pass(START, both("1000"));
    let guards = confirmations.pass(after(15_000, 0), both("1001"));
    assert_eq!((guards[&TOPIC].large, guards[&OTHER].large), (LargePass::Allowed, LargePass::Stop));
    confirmations.pass(after(30_000, 0), std::iter::empty());
    let guards = confirmations.pass(after(45_000, 0), both("1002"));
    assert_eq!(guards[&TOPIC].large, LargePass::Stop, "of a topic that is new nothing was changed");
}

#[test]
fn a_clock_that_stepped_stops_every_pass_until_it_is_back_or_confirmed() {
    let mut confirmations = Confirmations::new(START);
    // Eight days and a half: none of eight segments is due, and one after the clock went a day ahead.
    let limit = goal("734400000");
    assert_eq!(pass(&mut confirmations, after(15_000, 0), limit), Ok(0));
    for number in 2..10 {
        let stopped = pass(&mut confirmations, after(number * 15_000, DAY_MS), limit);
        assert_eq!(stopped, Err(RetentionAlarm::ClockStepped { step_ms: DAY_MS }), "pass {number}");
    }
    assert_eq!(pass(&mut confirmations, after(150_000, 0), limit), Ok(0), "the clock is back");
    assert!(pass(&mut confirmations, after(165_000, DAY_MS), limit).is_err());
    let changed = goal("734400001");
    for number in 12..30 {
        let confirmed = pass(&mut confirmations, after(number * 15_000, DAY_MS), changed);
        assert_eq!(confirmed, Ok(1), "pass {number}: who changed the limit knows the time");
    }
    // A topic of which nobody said anything still does not trust it.
    let guards = confirmations.pass(after(450_000, DAY_MS), [(OTHER, limit)].into_iter());
    assert!(taken(limit, guards[&OTHER]).is_err());
}

#[test]
fn who_decides_what_goes() {
    let tiered = config(&[("remote.storage.enable", "true")]);
    let uncopied = config(&[("remote.storage.enable", "true"), ("remote.log.copy.disable", "true")]);
    for (config, elsewhere, expected) in [
        (config(&[]), Elsewhere::Unknown, Decider::HotLog),
        (config(&[]), Elsewhere::Nothing, Decider::HotLog),
        (config(&[]), Elsewhere::Part, Decider::HotLog),
        (tiered, Elsewhere::Unknown, Decider::Nobody),
        (tiered, Elsewhere::Nothing, Decider::Tiering),
        (tiered, Elsewhere::Part, Decider::Tiering),
        (uncopied, Elsewhere::Unknown, Decider::Nobody),
        (uncopied, Elsewhere::Nothing, Decider::HotLog),
        (uncopied, Elsewhere::Part, Decider::Tiering),
    ] {
        assert_eq!(decider(&config, elsewhere), expected, "{elsewhere:?}");
    }
}

#[test]
fn an_alarm_names_some_and_counts_the_rest() {
    assert_eq!(join(", ", Vec::new()), None);
    assert_eq!(join(", ", vec!["a".to_owned(), "b".to_owned()]).unwrap(), "a, b");
    let many = join(", ", (0..NAMED_IN_ALARM + 3).map(|number| number.to_string()).collect()).unwrap();
    assert!(many.ends_with("19, and 3 more"), "{many}");
}

#[test]
fn an_offset_of_a_topic_that_was_made_anew_is_not_copied() {
    let flights = Topic {
        id: OTHER,
        name: Arc::from("flights"),
        overrides: Overrides::new(),
        config: config(&[]),
        partitions: Vec::new(),
    };
    let topics = Topics::default().with(flights);
    let committed = |partition: i32, topic_id: Option<TopicId>| {
        let value = OffsetValue {
            offset: 7,
            leader_epoch: 3,
            metadata: "note".to_owned(),
            commit_timestamp: 0,
            expire_timestamp: None,
            topic_id,
        };
        (("flights".to_owned(), partition), value)
    };
    let offsets = vec![committed(0, Some(TOPIC)), committed(1, Some(OTHER)), committed(2, None)];
    let snapshot = snapshot_of(vec![("g".to_owned(), offsets)], &topics, 5);
    let copied: Vec<_> =
        snapshot.groups["g"].iter().map(|copied| (copied.partition, copied.topic_id)).collect();
    assert_eq!(copied, [(1, OTHER), (2, OTHER)], "the first was committed for a topic that is gone");
}

/// A log of eight sealed segments and an active one, with a record each, of 1970.
async fn log_of_eight(directory: &LogDirectory) -> Arc<Partition> {
    let id = PartitionId { topic_id: TOPIC, partition: 0 };
    let small = PartitionConfig { segment_bytes: 10_000, ..PartitionConfig::default() };
    let hot = directory.create_partition(id, small).unwrap();
    let value = vec![7; 9_000];
    for timestamp_ms in 1_000..1_009 {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.push(&NewRecord { timestamp_ms, value: Some(&value), ..NewRecord::default() });
        let batch = builder.build();
        let room = directory.reserve_room(batch.len()).await.unwrap();
        let appended = hot.append(room, &batch, Origin::Internal).unwrap();
        directory.commit(appended.ticket).await.unwrap();
    }
    directory.checkpoint().unwrap();
    Arc::new(Partition::new(hot, directory.clone(), None, WaiterTable::default().of(id)))
}

#[tokio::test]
async fn a_log_is_purged_by_a_change_of_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    let recovering = LogDirectory::open(LogOptions::new(folder.path().join("data"))).unwrap();
    let (directory, _) = recovering.finish(&TopicDirectory::default()).unwrap();
    let partition = log_of_eight(&directory).await;
    let mut confirmations = Confirmations::new(START);
    let mut found = Vec::new();
    for (steady_ms, retention_ms) in [(0, "1000"), (15_000, "1000"), (30_000, "1001")] {
        let config = config(&[("retention.ms", retention_ms)]);
        let goals = [(TOPIC, Goal::of(&config))].into_iter();
        let guard = confirmations.pass(after(steady_ms, 0), goals)[&TOPIC];
        let alarm = one(None, &partition, (config, guard)).await.unwrap();
        found.push((alarm.is_some(), partition.log_start().0));
    }
    assert_eq!(found, [(true, 0), (true, 0), (false, 8)], "only the active segment is left");
    directory.close().unwrap();
}

#[tokio::test]
async fn nothing_of_a_tiered_topic_goes_without_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let recovering = LogDirectory::open(LogOptions::new(folder.path().join("data"))).unwrap();
    let (directory, _) = recovering.finish(&TopicDirectory::default()).unwrap();
    let partition = log_of_eight(&directory).await;
    let config =
        config(&[("retention.bytes", "0"), ("remote.storage.enable", "true"), ("retention.ms", "1")]);
    let time = hotlog::retention::PassTime { now_ms: START.wall_ms, since: None };
    let guard = Guard { time, large: LargePass::Allowed };
    assert_eq!(one(None, &partition, (config, guard)).await.unwrap(), None);
    assert_eq!(partition.log_start(), Offset(0));
    directory.close().unwrap();
}
