//! Which sealed segments a partition may let go of.
//!
//! Owns: two decisions. [`expired`] says what leaves the log for good (`retention.ms`, `retention.bytes`), by the
//! records' own time as in Kafka; [`releasable`] says whose local copy may go because the store has the bytes
//! (`local.retention.ms`, `local.retention.bytes`, KIP-405).
//! Does not own: moving the log start, deleting files, reading clocks.
//!
//! What leaves for good by age is guarded: a pass that would take more than a set share of the log takes nothing by age
//! and raises an alarm. Where the wall clock moved ahead of the machine's steady one, ages are told by the time that did
//! pass, which costs space and no data; [`TrustedClock`] remembers the step for as long as it lasts, and a large one
//! raises an alarm. No clock makes a log look larger than it is, so what is beyond the limit of size goes in any case.
//! Only whole segments from the front go, never one at or above the limit that the caller gives.

use wire::ids::Offset;

/// How far the wall clock may stand from where it was last trusted, by the steady clock.
pub const MAX_CLOCK_STEP_MS: i64 = 60_000;

/// A step forward that keeps old segments is told from here on: less is a paused machine or a clock that was set late,
/// and keeps them so much longer without a word.
pub const ALARMING_CLOCK_STEP_MS: i64 = 3_600_000;

/// A pass that takes no more segments than this is never stopped for its share: of a short log, one segment
/// can be most.
pub const UNGUARDED_SEGMENTS: usize = 2;

/// The share of a log's sealed bytes that one pass may take, in percent.
pub const MAX_PASS_PERCENT: u64 = 50;

/// What the decisions must know of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedFacts {
    /// Its first offset.
    pub base_offset: Offset,
    /// The base offset of the segment behind it.
    pub next_offset: Offset,
    /// The bytes of batches in it.
    pub size_bytes: u64,
    /// The largest record time in it, -1 when no record has one.
    pub max_timestamp_ms: i64,
    /// When its last batch was appended; stands in where no record has a time.
    pub last_append_time_ms: i64,
}

impl SealedFacts {
    fn age_time_ms(&self) -> i64 {
        if self.max_timestamp_ms >= 0 { self.max_timestamp_ms } else { self.last_append_time_ms }
    }
}

/// Kafka's `cleanup.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Old segments go.
    Delete,
    /// Nothing goes by retention.
    Compact,
    /// Old segments go, whatever compaction did to them.
    CompactAndDelete,
}

/// Limits of age and size; `None` is "no limit" (Kafka's -1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How long after its newest record's time a segment stays.
    pub age_ms: Option<i64>,
    /// How many bytes stay.
    pub size_bytes: Option<u64>,
}

impl Limits {
    /// Reads Kafka's `retention.ms` and `retention.bytes`, where a negative number is "no limit".
    pub fn from_config(retention_ms: i64, retention_bytes: i64) -> Self {
        Self {
            age_ms: (retention_ms >= 0).then_some(retention_ms),
            size_bytes: u64::try_from(retention_bytes).ok(),
        }
    }

    /// Reads Kafka's `local.retention.ms` and `local.retention.bytes`, where -2 is "as these limits".
    pub fn local_from_config(self, local_ms: i64, local_bytes: i64) -> Self {
        let local = Self::from_config(local_ms, local_bytes);
        Self {
            age_ms: if local_ms == -2 { self.age_ms } else { local.age_ms },
            size_bytes: if local_bytes == -2 { self.size_bytes } else { local.size_bytes },
        }
    }
}

/// The clocks of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassTime {
    /// The wall clock, in milliseconds since 1970.
    pub now_ms: i64,
    /// Since the wall clock was last trusted; `None` where nobody compares clocks.
    pub since: Option<PassInterval>,
}

/// What passed by either clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassInterval {
    /// By the wall clock.
    pub wall_ms: i64,
    /// By the clock that nobody sets.
    pub steady_ms: i64,
}

impl PassInterval {
    /// How far the wall clock moved without time passing; negative for a step back.
    pub fn step_ms(self) -> i64 {
        self.wall_ms.saturating_sub(self.steady_ms)
    }

    /// Of two, the one whose clocks agree better.
    #[must_use]
    pub fn or_closer(self, other: Option<Self>) -> Self {
        let is_closer = |other: &Self| other.step_ms().unsigned_abs() < self.step_ms().unsigned_abs();
        other.filter(is_closer).unwrap_or(self)
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall clock, in milliseconds since 1970.
    pub wall_ms: i64,
    /// The clock that nobody sets, in milliseconds since some fixed moment.
    pub steady_ms: i64,
}

/// When the wall clock was last trusted.
///
/// One that stepped is not trusted again for running steadily where it went, since the time that it skipped did not
/// pass: it has to come back, or somebody who knows the time begins a new trust. Slow drift is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedClock {
    trusted: ClockReading,
    tolerance_ms: u64,
}

impl TrustedClock {
    /// Trusts the clock as it is now, and from then on as long as it does not step by more than `tolerance_ms`.
    pub fn new(now: ClockReading, tolerance_ms: u64) -> Self {
        Self { trusted: now, tolerance_ms }
    }

    /// What passed by either clock since the wall clock was last trusted. Where they agree, it is trusted as of `now`.
    pub fn look(&mut self, now: ClockReading) -> PassInterval {
        let since = PassInterval {
            wall_ms: now.wall_ms.saturating_sub(self.trusted.wall_ms),
            steady_ms: now.steady_ms.saturating_sub(self.trusted.steady_ms),
        };
        if since.step_ms().unsigned_abs() <= self.tolerance_ms {
            self.trusted = now;
        }
        since
    }
}

/// One partition at a pass.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The sealed segments, oldest first.
    pub sealed: &'a [SealedFacts],
    /// The bytes of the active segment; they count for size limits and are never taken.
    pub active_bytes: u64,
    /// Segments that reach beyond this offset stay (the high watermark, the checkpoint's cut, what is archived).
    pub below: Offset,
    /// The topic's policy.
    pub policy: CleanupPolicy,
    /// The limits that apply.
    pub limits: Limits,
    /// The clocks.
    pub time: PassTime,
}

/// What a pass may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Everything below is to go: the log's new start. `None` when nothing goes.
    pub below: Option<Offset>,
    /// How many segments that are.
    pub segments: usize,
    /// How many bytes.
    pub bytes: u64,
    /// A segment that only its record time, which lies in the future, keeps from going by age; so it and all
    /// behind it stay however old they are.
    pub held_by_future_time: Option<Offset>,
    /// Why some that are too old by the wall clock stay, although others go.
    pub alarm: Option<RetentionAlarm>,
}

/// Why a pass takes less than there was to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionAlarm {
    /// The wall clock moved ahead of the steady one, and has not come back.
    #[error(
        "the machine's clock stepped by {step_ms} ms: retention tells ages without that; set it right, or, if it is \
         right now, confirm that by setting retention.ms of the topic to another value, or by restarting the broker"
    )]
    ClockStepped {
        /// How far.
        step_ms: i64,
    },
    /// The pass would take more than [`MAX_PASS_PERCENT`].
    #[error(
        "retention stopped: {segments} segments ({bytes} of {total_bytes} bytes) below offset {below} would go at \
         once; check the clock and the topic's limits; if it is meant, confirm it by setting retention.ms or \
         retention.bytes of the topic to another value, or move the log start with DeleteRecords"
    )]
    LargePass {
        /// The log start that the pass would have set.
        below: Offset,
        /// How many segments would go.
        segments: usize,
        /// How many bytes.
        bytes: u64,
        /// Of how many sealed bytes.
        total_bytes: u64,
    },
}

/// Whether an operator has looked at a large pass and wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargePass {
    /// Stop and raise the alarm.
    Stop,
    /// Take it.
    Allowed,
}

/// What leaves the log for good.
///
/// # Errors
/// An alarm, when there was something to take and a guard forbids it.
pub fn expired(pass: &Pass<'_>, large: LargePass) -> Result<Expired, RetentionAlarm> {
    let (old_by_wall, oversized) = beyond_limits(pass);
    let step_ms = step_forward_ms(pass.time);
    let old = step_ms.map_or(old_by_wall, |step_ms| {
        let time = PassTime { now_ms: pass.time.now_ms.saturating_sub(step_ms), ..pass.time };
        beyond_limits(&Pass { time, ..*pass }).0
    });
    let mut taken = old.max(oversized);
    let mut alarm = step_ms
        .filter(|step_ms| *step_ms > ALARMING_CLOCK_STEP_MS && old_by_wall > taken)
        .map(|step_ms| RetentionAlarm::ClockStepped { step_ms });
    if large == LargePass::Stop
        && old > oversized
        && let Some(too_much) = large_pass(pass, old)
    {
        (taken, alarm) = (oversized, Some(too_much));
    }
    if let Some(alarm) = alarm
        && taken == 0
    {
        return Err(alarm);
    }
    let bytes = total(&pass.sealed[..taken]);
    let below = taken.checked_sub(1).map(|last| pass.sealed[last].next_offset);
    let held_by_future_time = held_by_future_time(pass, taken);
    Ok(Expired { below, segments: taken, bytes, held_by_future_time, alarm })
}

/// The alarm, where the first `taken` segments are more than one pass may take.
fn large_pass(pass: &Pass<'_>, taken: usize) -> Option<RetentionAlarm> {
    let below = pass.sealed[taken.checked_sub(1)?].next_offset;
    let (bytes, total_bytes) = (total(&pass.sealed[..taken]), total(pass.sealed));
    let share_is_large = u128::from(bytes) * 100 > u128::from(total_bytes) * u128::from(MAX_PASS_PERCENT);
    let is_stopped = taken > UNGUARDED_SEGMENTS && share_is_large;
    is_stopped.then_some(RetentionAlarm::LargePass { below, segments: taken, bytes, total_bytes })
}

/// How many segments from the front need no local copy any more. The caller's `below` says how far the store
/// provably has them, so nothing is lost and no guard is needed.
pub fn releasable(pass: &Pass<'_>) -> usize {
    let (old, large) = beyond_limits(pass);
    old.max(large)
}

/// How many segments from the front are beyond the limit of age, and how many beyond that of size.
fn beyond_limits(pass: &Pass<'_>) -> (usize, usize) {
    if pass.policy == CleanupPolicy::Compact {
        return (0, 0);
    }
    let reach = pass.sealed.partition_point(|segment| segment.next_offset <= pass.below);
    let candidates = &pass.sealed[..reach];
    let too_old = |segment: &&SealedFacts| {
        pass.limits
            .age_ms
            .is_some_and(|age_ms| pass.time.now_ms.saturating_sub(segment.age_time_ms()) > age_ms)
    };
    let old = candidates.iter().take_while(too_old).count();
    let Some(limit_bytes) = pass.limits.size_bytes else { return (old, 0) };
    // As Kafka: a segment goes only when what is left still reaches the limit.
    let mut excess = (total(pass.sealed) + pass.active_bytes).saturating_sub(limit_bytes);
    let mut large = 0;
    for segment in candidates {
        if segment.size_bytes > excess {
            break;
        }
        excess -= segment.size_bytes;
        large += 1;
    }
    (old, large)
}

fn held_by_future_time(pass: &Pass<'_>, taken: usize) -> Option<Offset> {
    let age_ms = pass.limits.age_ms?;
    let holder = pass.sealed.get(taken)?;
    let written_long_ago = pass.time.now_ms.saturating_sub(holder.last_append_time_ms) > age_ms;
    (written_long_ago && holder.max_timestamp_ms > pass.time.now_ms).then_some(holder.base_offset)
}

/// How far the wall clock is ahead of the time that passed, where that is more than drift. One that went back only
/// makes records look younger.
fn step_forward_ms(time: PassTime) -> Option<i64> {
    time.since.map(PassInterval::step_ms).filter(|step_ms| *step_ms > MAX_CLOCK_STEP_MS)
}

fn total(segments: &[SealedFacts]) -> u64 {
    segments.iter().map(|segment| segment.size_bytes).sum()
}

#[cfg(test)]
mod tests;
