//! What lifts the guards of retention: somebody who has seen an alarm changes what the topic's retention goes by.
//!
//! Owns: when the clock was last trusted, for all topics and for one, and which topics may lose any share now. All of it
//! is of this start only: a restart trusts the clock as it is, and confirms no share.
//! Does not own: the guards (`hotlog::retention`), the passes (`housekeeping`).

use std::collections::HashMap;

use hotlog::retention::{
    CleanupPolicy, ClockReading, LargePass, Limits, MAX_CLOCK_STEP_MS, PassTime, TrustedClock,
};
use wire::ids::TopicId;

use super::policy;
use crate::topic_config::TopicConfig;

/// For how long after a change a topic may lose any share. Segments go only below the checkpoint's cut, and that comes
/// once a minute: the pass next to the change may find half of what it is about.
pub(super) const CONFIRMED_FOR_MS: i64 = 120_000;

/// What retention is to come to: who changes it says that it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    pub(super) policy: CleanupPolicy,
    pub(super) limits: Limits,
}

impl Goal {
    pub(super) fn of(config: &TopicConfig) -> Self {
        let limits = Limits { age_ms: config.retention_ms, size_bytes: config.retention_bytes };
        Self { policy: policy(config), limits }
    }
}

/// What the guards go by at one pass over a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    pub(super) time: PassTime,
    pub(super) large: LargePass,
}

/// A change: when it was seen, and the clock that was right by it.
#[derive(Clone, Copy, Debug)]
struct Change {
    seen_steady_ms: i64,
    clock: TrustedClock,
}

/// The topics' goals as of the last pass, what their last changes confirm, and the clock that all share.
#[derive(Debug)]
pub(super) struct Confirmations {
    clock: TrustedClock,
    topics: HashMap<TopicId, (Goal, Option<Change>)>,
}

impl Confirmations {
    /// Trusts the clock as it is.
    pub(super) fn new(now: ClockReading) -> Self {
        Self { clock: trusted(now), topics: HashMap::new() }
    }

    /// What the guards go by now; of topics that are left out nothing is remembered.
    pub(super) fn pass(
        &mut self,
        now: ClockReading,
        goals: impl Iterator<Item = (TopicId, Goal)>,
    ) -> HashMap<TopicId, Guard> {
        let shared = self.clock.look(now);
        let mut known = std::mem::take(&mut self.topics);
        let mut guards = HashMap::new();
        for (topic_id, goal) in goals {
            let mut change = match known.remove(&topic_id) {
                Some((before, change)) if before == goal => change,
                Some(_) => Some(Change { seen_steady_ms: now.steady_ms, clock: trusted(now) }),
                // New, or from before the start: nobody has said anything.
                None => None,
            };
            let since = shared.or_closer(change.as_mut().map(|change| change.clock.look(now)));
            let is_fresh = |change: Change| now.steady_ms - change.seen_steady_ms <= CONFIRMED_FOR_MS;
            let large = if change.is_some_and(is_fresh) { LargePass::Allowed } else { LargePass::Stop };
            guards.insert(
                topic_id,
                Guard { time: PassTime { now_ms: now.wall_ms, since: Some(since) }, large },
            );
            self.topics.insert(topic_id, (goal, change));
        }
        guards
    }
}

fn trusted(now: ClockReading) -> TrustedClock {
    TrustedClock::new(now, MAX_CLOCK_STEP_MS.unsigned_abs())
}
