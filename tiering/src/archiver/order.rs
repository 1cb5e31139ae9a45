//! The order-keeper: what has to happen next for one partition. Pure: it sees a view and names a step.
//!
//! Owns: the rule that segments go to the store in order, without holes that nobody declared, and never beyond the
//! last stable offset. Does not own: doing any of it.

use wire::ids::Offset;

use crate::manifest::{Gap, GapReason};

/// What the order-keeper sees.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Start by the manifest.
    pub(crate) manifest_start: Offset,
    /// End by the manifest: where the next segment must start.
    pub(crate) manifest_end: Offset,
    /// Start by the hot log.
    pub(crate) log_start: Offset,
    /// First offset on local disk.
    pub(crate) local_start: Offset,
    /// End by the hot log.
    pub(crate) log_end: Offset,
    /// Last stable offset.
    pub(crate) last_stable_offset: Offset,
    /// Whether segments are to be archived.
    pub(crate) archive: bool,
    /// Sealed local segments from the manifest's end on, as (first offset, one past the last).
    pub(crate) segments: Vec<(Offset, Offset)>,
}

/// What has to happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing, for now.
    Idle,
    /// The hot log's start moved: the manifest follows.
    AdvanceStart(Offset),
    /// Offsets that will never be archived.
    Declare(Gap),
    /// The segment with that place in the view.
    Upload(usize),
    /// Something is wrong that time does not mend.
    Blocked(Blocked),
}

/// Why a partition cannot be archived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Blocked {
    /// The store is ahead of this disk: an old copy of the data folder. No crash comes to this: a segment is archived once
    /// a checkpoint counts it, and no recovery ends before its checkpoint.
    #[error(
        "the store holds offsets up to {store_end}, the local log ends at {log_end}: this data folder is older than the \
         store, and takes no records there; bring the newer folder back, or rebuild one with `longhaul tier recover` in \
         an empty folder"
    )]
    StoreIsAhead {
        /// End by the manifest.
        store_end: i64,
        /// End of the local log.
        log_end: i64,
    },
    /// A folder that was older than the store went on by itself: the same offsets are different records here and there.
    #[error(
        "the store holds other records than this disk from offset {from} on (it ends at {store_end}, the local log at \
         {log_end}): this data folder was older than the store and went on by itself; it takes no records there and lets \
         go of none: save what it has from {from} on, then bring the newer folder back, or rebuild one with `longhaul \
         tier recover` in an empty folder"
    )]
    Diverged {
        /// First offset of the first segment found to differ.
        from: i64,
        /// End by the manifest.
        store_end: i64,
        /// End of the local log.
        log_end: i64,
    },
    /// Offsets were let go of that this store does not have: another one must have them.
    #[error(
        "offsets {from} to {to} are not on local disk any more, and this store does not have them: another store does; \
         start the broker with the store that it had before"
    )]
    ReleasedElsewhere {
        /// The first of them.
        from: i64,
        /// One past the last.
        to: i64,
    },
    /// A local segment begins inside what is archived and ends beyond it.
    #[error(
        "local segment {base} starts before {store_end}, where the archived part ends: the log was cut and rewritten"
    )]
    Misaligned {
        /// First offset of the local segment.
        base: i64,
        /// End by the manifest.
        store_end: i64,
    },
}

impl Blocked {
    /// Whether the store has offsets that new local records would get, or got: then the local log takes no more.
    pub(crate) fn stops_appends(self) -> bool {
        match self {
            Blocked::StoreIsAhead { .. } | Blocked::Diverged { .. } => true,
            // New offsets are nobody else's here.
            Blocked::ReleasedElsewhere { .. } | Blocked::Misaligned { .. } => false,
        }
    }
}

impl View {
    /// Up to where no segment holds a record at or above the log start. The segment in which that lies is archived as others
    /// are, once it is sealed, and the start follows then: in a gap that ended inside of it, it would have no place.
    fn deleted_to(&self) -> Offset {
        let begun = self.segments.iter().rev().find(|(base, _)| *base <= self.log_start);
        match begun {
            Some((base, next_offset)) if *next_offset > self.log_start => *base,
            Some((_, next_offset)) => *next_offset,
            None if self.segments.is_empty() => self.manifest_end,
            None => self.log_start,
        }
    }
}

/// Names the next step.
pub(crate) fn next_step(view: &View) -> Step {
    let end = view.manifest_end;
    if view.log_end < end {
        return Step::Blocked(Blocked::StoreIsAhead { store_end: end.0, log_end: view.log_end.0 });
    }
    // Only what a store has is let go of; whatever else leaves the disk moves the log start.
    let accounted_for = end.max(view.log_start);
    if view.local_start > accounted_for {
        let (from, to) = (accounted_for.0, view.local_start.0);
        return Step::Blocked(Blocked::ReleasedElsewhere { from, to });
    }
    let start = view.log_start.min(end);
    if start > view.manifest_start {
        return Step::AdvanceStart(start);
    }
    if view.log_start > end && view.deleted_to() > end {
        return Step::Declare(Gap { from: end, to: view.deleted_to(), reason: GapReason::Deleted });
    }
    let next = view.segments.iter().position(|(_, next_offset)| *next_offset > end);
    let Some((index, (base, next_offset))) = next.map(|index| (index, view.segments[index])) else {
        return Step::Idle;
    };
    if !view.archive || next_offset > view.last_stable_offset {
        return Step::Idle;
    }
    if base < end {
        return Step::Blocked(Blocked::Misaligned { base: base.0, store_end: end.0 });
    }
    if base > end {
        // Segments that were never let go of and are not there: the hot log only drops such while archiving is off.
        return Step::Declare(Gap { from: end, to: base, reason: GapReason::NotArchived });
    }
    Step::Upload(index)
}

/// When the log end was seen where, so that the age of the oldest unprotected byte is known without asking a disk.
#[derive(Debug, Default)]
pub(crate) struct LagClock {
    /// (log end, when it was first seen there), rising.
    seen: std::collections::VecDeque<(Offset, i64)>,
}

/// Observations kept; the newest is replaced when there are more, so that the oldest stays exact.
const LAG_OBSERVATIONS: usize = 1024;

impl LagClock {
    /// Notes the log end; forgets what the store protects.
    pub(crate) fn observe(&mut self, log_end: Offset, protected_to: Offset, now_ms: i64) {
        while self.seen.front().is_some_and(|(end, _)| *end <= protected_to) {
            self.seen.pop_front();
        }
        let grew = self.seen.back().map_or(protected_to, |(end, _)| *end) < log_end;
        if grew {
            if self.seen.len() == LAG_OBSERVATIONS {
                self.seen.pop_back();
            }
            self.seen.push_back((log_end, now_ms));
        }
    }

    /// Age of the oldest byte that a loss of the disk would lose, milliseconds; 0 when there is none.
    pub(crate) fn oldest_unprotected_age_ms(&self, now_ms: i64) -> i64 {
        self.seen.front().map_or(0, |(_, since)| (now_ms - since).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            manifest_start: Offset(0),
            manifest_end: Offset(100),
            log_start: Offset(0),
            local_start: Offset(0),
            log_end: Offset(300),
            last_stable_offset: Offset(300),
            archive: true,
            segments: vec![(Offset(50), Offset(100)), (Offset(100), Offset(200)), (Offset(200), Offset(250))],
        }
    }

    #[test]
    fn the_segment_that_continues_the_store_comes_next() {
        assert_eq!(next_step(&view()), Step::Upload(1));
        assert_eq!(next_step(&View { segments: vec![], ..view() }), Step::Idle);
        assert_eq!(next_step(&View { archive: false, ..view() }), Step::Idle);
    }

    #[test]
    fn nothing_beyond_the_last_stable_offset_goes() {
        assert_eq!(next_step(&View { last_stable_offset: Offset(199), ..view() }), Step::Idle);
        assert_eq!(next_step(&View { last_stable_offset: Offset(200), ..view() }), Step::Upload(1));
    }

    #[test]
    fn a_moved_start_is_followed_and_dead_data_is_not_uploaded() {
        assert_eq!(next_step(&View { log_start: Offset(70), ..view() }), Step::AdvanceStart(Offset(70)));
        // All that is archived is below the start, then a whole segment, then a part of the next.
        let deleted = View { log_start: Offset(220), ..view() };
        assert_eq!(next_step(&deleted), Step::AdvanceStart(Offset(100)));
        let followed = View { manifest_start: Offset(100), ..deleted };
        let gap = Gap { from: Offset(100), to: Offset(200), reason: GapReason::Deleted };
        assert_eq!(next_step(&followed), Step::Declare(gap));
        let declared = View { manifest_end: Offset(200), ..followed };
        assert_eq!(next_step(&declared), Step::AdvanceStart(Offset(200)));
        let declared = View { manifest_start: Offset(200), ..declared };
        assert_eq!(next_step(&declared), Step::Upload(2));
        let archived = View { manifest_end: Offset(250), ..declared };
        assert_eq!(next_step(&archived), Step::AdvanceStart(Offset(220)));
    }

    #[test]
    fn a_start_within_what_is_not_sealed_waits_for_it() {
        let started = View { manifest_start: Offset(100), log_start: Offset(270), ..view() };
        let gap = Gap { from: Offset(100), to: Offset(250), reason: GapReason::Deleted };
        assert_eq!(next_step(&started), Step::Declare(gap));
        let (at, sealed) = (Offset(250), vec![(Offset(250), Offset(300))]);
        let declared = View { manifest_start: at, manifest_end: at, segments: Vec::new(), ..started };
        assert_eq!(next_step(&declared), Step::Idle);
        assert_eq!(next_step(&View { segments: sealed, ..declared }), Step::Upload(0));
    }

    #[test]
    fn a_hole_is_declared_before_it_is_jumped() {
        let gap = Gap { from: Offset(100), to: Offset(200), reason: GapReason::NotArchived };
        let segments = vec![(Offset(200), Offset(250))];
        assert_eq!(next_step(&View { segments, ..view() }), Step::Declare(gap));
    }

    #[test]
    fn what_was_let_go_of_is_never_declared_missing() {
        let released =
            View { local_start: Offset(120), segments: vec![(Offset(120), Offset(250))], ..view() };
        let elsewhere = Blocked::ReleasedElsewhere { from: 100, to: 120 };
        assert_eq!(next_step(&released), Step::Blocked(elsewhere));
        assert!(!elsewhere.stops_appends());
        // A store that has nothing at all.
        let empty = View { manifest_end: Offset(0), log_start: Offset(30), ..released.clone() };
        let elsewhere = Blocked::ReleasedElsewhere { from: 30, to: 120 };
        assert_eq!(next_step(&empty), Step::Blocked(elsewhere));
        // What was deleted, or archived, is not on local disk either, and rightly so.
        let gap = Gap { from: Offset(100), to: Offset(120), reason: GapReason::Deleted };
        let deleted = View { manifest_start: Offset(100), log_start: Offset(120), ..released.clone() };
        assert_eq!(next_step(&deleted), Step::Declare(gap));
        let archived = View { manifest_end: Offset(120), ..released };
        assert_eq!(next_step(&archived), Step::Upload(0));
    }

    #[test]
    fn a_store_that_knows_more_or_otherwise_blocks() {
        let ahead = Blocked::StoreIsAhead { store_end: 100, log_end: 99 };
        assert_eq!(next_step(&View { log_end: Offset(99), ..view() }), Step::Blocked(ahead));
        assert!(ahead.stops_appends());
        let misaligned = Blocked::Misaligned { base: 90, store_end: 100 };
        let segments = vec![(Offset(90), Offset(150))];
        assert_eq!(next_step(&View { segments, ..view() }), Step::Blocked(misaligned));
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_unprotected_byte() {
        let mut clock = LagClock::default();
        clock.observe(Offset(10), Offset(0), 1_000);
        clock.observe(Offset(20), Offset(0), 2_000);
        clock.observe(Offset(20), Offset(0), 9_000);
        assert_eq!(clock.oldest_unprotected_age_ms(10_000), 9_000);
        clock.observe(Offset(20), Offset(10), 10_000);
        assert_eq!(clock.oldest_unprotected_age_ms(10_000), 8_000);
        clock.observe(Offset(20), Offset(20), 10_000);
        assert_eq!(clock.oldest_unprotected_age_ms(10_000), 0);
    }
}
