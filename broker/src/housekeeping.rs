//! What the broker does now and then: the passes of retention, and what goes with them.
//!
//! Owns: when a pass runs, on which clocks, and the alarm when one is refused.
//! Does not own: which segments have had their time (`hotlog::retention`, `tiering`), moving a log start
//! (`partition`).
//!
//! Decisions are the hot log's (for partitions only it holds) and tiering's (for tiered ones). This drives them: topics
//! without tiering lose what has outlived their limits; tiered ones let go of local copies that the store has; producer
//! ids that have not been used for long are forgotten; group offsets are copied to the store now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hotlog::error::StorageError;
use hotlog::partition::RetentionPass;
use hotlog::retention::{CleanupPolicy, LargePass, Limits, PassInterval, PassTime};
use tiering::cluster_record::{GroupOffset, GroupSnapshot};

use crate::broker::Broker;
use crate::clock::Clock;
use crate::partition::Partition;
use crate::topic_config::TopicConfig;

/// How often partitions are looked at.
const INTERVAL: Duration = Duration::from_secs(15);
/// Group offsets are copied to the store at every pass that finds them changed, and after so many passes anyway, so that
/// their age there says how old they may be at most.
const PASSES_PER_SNAPSHOT: u64 = 4;

/// The clocks at a pass, kept to compare with those of the next.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall_ms: i64,
    steady_ms: i64,
}

impl Moment {
    fn now(clock: &dyn Clock) -> Self {
        Self { wall_ms: clock.wall_ms(), steady_ms: clock.monotonic_ms() }
    }

    fn since(self, before: Option<Self>) -> PassTime {
        let since = before.map(|before| PassInterval {
            wall_ms: self.wall_ms - before.wall_ms,
            steady_ms: self.steady_ms - before.steady_ms,
        });
        PassTime { now_ms: self.wall_ms, since }
    }
}

/// Runs for ever.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = None;
    let mut copied = (0, BTreeMap::new());
    for pass in 1u64.. {
        tick.tick().await;
        let now = Moment::now(&*broker.clock);
        pass_over(&broker, now.since(before)).await;
        before = Some(now);
        if let Some(snapshot) = group_snapshot(&broker)
            && (snapshot.groups != copied.1 || pass >= copied.0 + PASSES_PER_SNAPSHOT)
            && let Some(tier) = &broker.tier
        {
            copied = (pass, snapshot.groups.clone());
            tier.record_group_offsets(snapshot);
        }
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

async fn pass_over(broker: &Arc<Broker>, time: PassTime) {
    let mut alarms = Vec::new();
    for topic in broker.topics().iter() {
        for partition in &topic.partitions {
            let (partition, config) = (Arc::clone(partition), topic.config);
            let name = format!("{}-{}", topic.name, partition.id().partition);
            match one(&partition, config, time).await {
                Ok(None) => {}
                Ok(Some(alarm)) => alarms.push(format!("{name}: {alarm}")),
                Err(error) => tracing::warn!(partition = name, %error, "a retention pass failed"),
            }
        }
    }
    if alarms.is_empty() {
        broker.clear_alarm("retention");
    } else {
        broker.raise_alarm("retention", alarms.join("; "));
    }
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
    partition: &Arc<Partition>,
    config: TopicConfig,
    time: PassTime,
) -> Result<Option<String>, PassError> {
    let hot = Arc::clone(partition.hot());
    if config.tiered {
        let archived = partition.archived().cloned();
        tokio::task::spawn_blocking(move || {
            hot.expire_producers();
            if let Some(archived) = archived {
                archived.release_again(time);
            }
        })
        .await?;
        return Ok(None);
    }
    let pass = RetentionPass {
        policy: policy(&config),
        limits: Limits { age_ms: config.retention_ms, size_bytes: config.retention_bytes },
        time,
    };
    let expired = tokio::task::spawn_blocking(move || {
        hot.expire_producers();
        hot.expired(&pass, LargePass::Stop)
    });
    match expired.await?? {
        Ok(expired) => {
            if let Some(below) = expired.below {
                partition.move_log_start(below).await?;
                tracing::info!(
                    partition = %partition.id(), segments = expired.segments, bytes = expired.bytes, start = %below,
                    "retention removed what has outlived the topic's limits",
                );
            }
            Ok(None)
        }
        Err(alarm) => Ok(Some(alarm.to_string())),
    }
}

/// The committed offsets of all groups, for the store; none while groups are being loaded, or without a store.
fn group_snapshot(broker: &Broker) -> Option<GroupSnapshot> {
    broker.tier.as_ref()?;
    let groups = broker.groups.committed().ok()?;
    let topics = broker.topics();
    let mut snapshot = GroupSnapshot { taken_at_ms: broker.clock.wall_ms(), groups: BTreeMap::new() };
    for (group, offsets) in groups {
        let known = offsets.into_iter().filter_map(|((topic, partition), value)| {
            Some(GroupOffset {
                topic_id: topics.named(&topic)?.id,
                partition,
                offset: value.offset,
                leader_epoch: value.leader_epoch,
                metadata: value.metadata,
            })
        });
        snapshot.groups.insert(group, known.collect());
    }
    Some(snapshot)
}
