//! What the broker does now and then: the passes of retention, and what goes with them.
//!
//! Owns: when a pass runs, who decides about which partition, and the alarms when a pass is refused.
//! Does not own: which segments have had their time (`hotlog::retention`, `tiering`), what lifts a guard
//! (`confirmation`), moving a log start (`partition`).
//!
//! Decisions are the hot log's (for partitions only it holds) and tiering's (for tiered ones). This drives them: topics
//! without tiering lose what has outlived their limits; tiered ones let go of local copies that the store has; producer
//! ids that have not been used for long are forgotten, and so is what was read from the store and nobody came back for;
//! group offsets are copied to the store now and then.

mod confirmation;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hotlog::PartitionId;
use hotlog::error::StorageError;
use hotlog::partition::RetentionPass;
use hotlog::retention::{CleanupPolicy, ClockReading, RetentionAlarm};
use tiering::Tier;
use tiering::cluster_record::{GroupOffset, GroupSnapshot};

use self::confirmation::{Confirmations, Goal, Guard};
use crate::broker::Broker;
use crate::clock::Clock;
use crate::cold_reads::SILENT_STORE;
use crate::groups::coordinator::GroupOffsets;
use crate::partition::Partition;
use crate::topic_config::TopicConfig;
use crate::topics::Topics;

/// How often partitions are looked at.
const INTERVAL: Duration = Duration::from_secs(15);
/// How often what was read from the store and not taken up is looked at.
const IDLE_READS_INTERVAL: Duration = Duration::from_secs(5);
/// Group offsets are copied to the store at every pass that finds them changed, and after so many passes anyway, so that
/// their age there says how old they may be at most.
const PASSES_PER_SNAPSHOT: u64 = 4;
/// Partitions or topics that one alarm names; of the rest it gives the number.
const NAMED_IN_ALARM: usize = 20;

fn reading(clock: &dyn Clock) -> ClockReading {
    ClockReading { wall_ms: clock.wall_ms(), steady_ms: clock.monotonic_ms() }
}

/// Runs for ever.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut confirmations = Confirmations::new(reading(&*broker.clock));
    let mut copied = (0, BTreeMap::new());
    for pass in 1u64.. {
        tick.tick().await;
        pass_over(&broker, &mut confirmations).await;
        if let Some(snapshot) = group_snapshot(&broker)
            && (snapshot.groups != copied.1 || pass >= copied.0 + PASSES_PER_SNAPSHOT)
            && let Some(tier) = &broker.tier
        {
            copied = (pass, snapshot.groups.clone());
            tier.record_group_offsets(snapshot);
        }
    }
}

/// Forgets what was read from the store and nobody came back for; runs for ever. Not part of a pass, for one over many
/// partitions takes its time, and meanwhile other reads wait for that memory.
pub(crate) async fn forget_idle_reads(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(IDLE_READS_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        broker.cold_reads.forget_idle();
    }
}

/// The policy of a topic, in the hot log's words.
pub(crate) fn policy(config: &TopicConfig) -> CleanupPolicy {
    match (config.compact, config.delete) {
        // Until compaction is done, nothing of a compacted topic goes.
        (true, _) => CleanupPolicy::Compact,
        (false, true) => CleanupPolicy::Delete,
        (false, false) => CleanupPolicy::Compact,
    }
}

/// Who decides which of a partition's records go for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decider {
    /// The hot log, from what it holds.
    HotLog,
    /// Tiering, from the manifest.
    Tiering,
    /// Nobody, for nobody knows what there is.
    Nobody,
}

/// What of a partition's history is not on local disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Elsewhere {
    /// There is no store to ask.
    Unknown,
    /// Some of it, in the store, or so it may be.
    Part,
    /// Nothing.
    Nothing,
}

fn decider(config: &TopicConfig, elsewhere: Elsewhere) -> Decider {
    match (config.tiered, elsewhere) {
        (false, _) => Decider::HotLog,
        (true, Elsewhere::Unknown) => Decider::Nobody,
        // A log goes from its front: what is not copied any more has its turn when nothing older is left in the store.
        (true, Elsewhere::Nothing) if config.copy_disabled => Decider::HotLog,
        (true, _) => Decider::Tiering,
    }
}

fn elsewhere(tier: Option<&Tier>, partition: &Partition) -> Elsewhere {
    let (hot, id) = (partition.hot(), partition.id());
    match tier {
        None => Elsewhere::Unknown,
        Some(_) if hot.local_log_start() <= hot.log_start() => Elsewhere::Nothing,
        // Between the log start and the local one may be a mere hole, as after a recovery.
        Some(tier) if tier.committed(id).is_some() && tier.range(id).is_none() => Elsewhere::Nothing,
        Some(_) => Elsewhere::Part,
    }
}

async fn pass_over(broker: &Arc<Broker>, confirmations: &mut Confirmations) {
    let topics = broker.topics();
    let goals = topics.iter().map(|topic| (topic.id, Goal::of(&topic.config)));
    let guards = confirmations.pass(reading(&*broker.clock), goals);
    let tiered = broker.tier.as_ref().map(Tier::retention_alarms).unwrap_or_default();
    let tiered: BTreeMap<PartitionId, tiering::RetentionAlarm> = tiered.into_iter().collect();
    let (mut alarms, mut storeless) = (Vec::new(), Vec::new());
    for topic in topics.iter() {
        let Some(guard) = guards.get(&topic.id) else { continue };
        if topic.config.tiered && broker.tier.is_none() {
            storeless.push(topic.name.to_string());
        }
        for partition in &topic.partitions {
            let name = format!("{}-{}", topic.name, partition.id().partition);
            match one(broker.tier.as_ref(), partition, (topic.config, *guard)).await {
                Ok(alarm) => alarms.extend(alarm.map(|alarm| format!("{name}: {alarm}"))),
                Err(error) => tracing::warn!(partition = name, %error, "a retention pass failed"),
            }
            alarms.extend(tiered.get(&partition.id()).map(|alarm| format!("{name}: {alarm}")));
        }
    }
    tell(broker, "retention", join("; ", alarms));
    broker.clear_alarm_after("read", READ_ALARM_LASTS);
    broker.clear_alarm_after(SILENT_STORE, READ_ALARM_LASTS);
    let storeless = join(", ", storeless).map(|names| {
        format!(
            "topics are tiered and this broker has no object store, so retention removes nothing of them: {names}; start it \
             with --store"
        )
    });
    tell(broker, "tiered-without-store", storeless);
}

/// How long a read that failed is an alarm: nobody but its readers says whether it still fails.
const READ_ALARM_LASTS: Duration = Duration::from_secs(600);

/// Raises an alarm, or clears it where there is nothing to tell.
fn tell(broker: &Broker, kind: &'static str, text: Option<String>) {
    match text {
        Some(text) => broker.raise_alarm(kind, text),
        None => broker.clear_alarm(kind),
    }
}

/// The first of many as one text; `None` of none.
fn join(separator: &str, mut parts: Vec<String>) -> Option<String> {
    let more = parts.len().saturating_sub(NAMED_IN_ALARM);
    parts.truncate(NAMED_IN_ALARM);
    if more > 0 {
        parts.push(format!("and {more} more"));
    }
    (!parts.is_empty()).then(|| parts.join(separator))
}

/// Why a pass over one partition failed.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Move(#[from] crate::partition::MoveStartError),
    #[error("a disk thread failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

async fn one(
    tier: Option<&Tier>,
    partition: &Arc<Partition>,
    (config, guard): (TopicConfig, Guard),
) -> Result<Option<RetentionAlarm>, PassError> {
    let (hot, archived) = (Arc::clone(partition.hot()), partition.archived().cloned());
    let is_ours = decider(&config, elsewhere(tier, partition)) == Decider::HotLog;
    let goal = Goal::of(&config);
    let pass = RetentionPass { policy: goal.policy, limits: goal.limits, time: guard.time };
    let looked = tokio::task::spawn_blocking(move || {
        hot.expire_producers();
        if let Some(archived) = archived.filter(|_| config.tiered) {
            archived.release_again(pass.time);
        }
        is_ours.then(|| hot.expired(&pass, guard.large)).transpose()
    });
    let expired = match looked.await?? {
        None => return Ok(None),
        Some(Err(alarm)) => return Ok(Some(alarm)),
        Some(Ok(expired)) => expired,
    };
    // Local copies at the front may have gone while we looked at what is behind them.
    let is_ours = decider(&config, elsewhere(tier, partition)) == Decider::HotLog;
    if let Some(below) = expired.below.filter(|_| is_ours) {
        partition.move_log_start(below).await?;
        tracing::info!(
            partition = %partition.id(), segments = expired.segments, bytes = expired.bytes, start = %below,
            "retention removed what has outlived the topic's limits",
        );
    }
    Ok(expired.alarm)
}

/// The committed offsets of all groups, for the store; none while groups are being loaded, or without a store.
fn group_snapshot(broker: &Broker) -> Option<GroupSnapshot> {
    broker.tier.as_ref()?;
    let groups = broker.groups.committed().ok()?;
    Some(snapshot_of(groups, &broker.topics(), broker.clock.wall_ms()))
}

/// The offsets of the topics that there are. One that was committed for a topic of the same name that is gone says nothing about
/// this one; one that does not say for which, as old records do not, counts for its name.
fn snapshot_of(groups: Vec<(String, GroupOffsets)>, topics: &Topics, taken_at_ms: i64) -> GroupSnapshot {
    let mut snapshot = GroupSnapshot { taken_at_ms, groups: BTreeMap::new() };
    for (group, offsets) in groups {
        let known = offsets.into_iter().filter_map(|((topic, partition), value)| {
            let topic_id = topics.named(&topic)?.id;
            let is_for_it = value.topic_id.is_none_or(|committed_for| committed_for == topic_id);
            is_for_it.then_some(GroupOffset {
                topic_id,
                partition,
                offset: value.offset,
                leader_epoch: value.leader_epoch,
                metadata: value.metadata,
            })
        });
        snapshot.groups.insert(group, known.collect());
    }
    snapshot
}

#[cfg(test)]
mod tests;
