//! The rule against brute force: two logs whose flows copy at random, and every position of a reader.
//!
//! Owns: a pair of logs as lists of records. Does not own: the maps' own tests (`offset_map::tests`).

use proptest::prelude::*;

use super::*;
use crate::offset_map::{Position, Provenance, Run};

/// A record of either side: whose it is, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    of_source: bool,
    number: usize,
}

/// Two logs and the two flows between them. `None` is an offset without a record, as that of a commit marker.
struct Pair {
    source: Vec<Option<Record>>,
    target: Vec<Option<Record>>,
    /// From the source to the target.
    own: OffsetMap,
    /// From the target to the source.
    counter: OffsetMap,
}

impl Pair {
    fn new() -> Self {
        let empty = || OffsetMap::new(Position::default(), Provenance::default());
        Self { source: Vec::new(), target: Vec::new(), own: empty(), counter: empty() }
    }

    fn write(&mut self, of_source: bool) {
        let log = if of_source { &mut self.source } else { &mut self.target };
        let number = log.iter().flatten().filter(|record| record.of_source == of_source).count();
        log.push(Some(Record { of_source, number }));
    }

    fn mark(&mut self, at_source: bool) {
        let log = if at_source { &mut self.source } else { &mut self.target };
        log.push(None);
    }

    /// Copies up to so many records over, and leaves out what came from there.
    fn copy(&mut self, to_target: bool, looked_at: usize) {
        let Self { source, target, own, counter } = self;
        let (from, to, map) = if to_target { (&*source, target, own) } else { (&*target, source, counter) };
        for _ in 0..looked_at {
            let at = map.position().source;
            let Some(record) = from.get(at.0 as usize).copied() else { return };
            if record.is_some_and(|record| record.of_source == to_target) {
                let run = Run { source: at, target: TargetOffset(to.len() as i64), length: 1 };
                map.record(run, Provenance::default()).unwrap();
                to.push(record);
            } else {
                map.advance(at.plus(1));
            }
        }
    }

    fn translate(&self, next: i64, is_settled: bool) -> Translation<TargetOffset> {
        let maps = BothWays { own: &self.own, counter: &self.counter, is_settled };
        maps.translate(SourceOffset(next)).at
    }

    /// The same where the flow back has not come to the partition.
    fn translate_before_it_comes(&self, next: i64, target_log_start: usize) -> Translation<TargetOffset> {
        let target_log_start = TargetOffset(target_log_start as i64);
        let counter = &nothing_came_back(target_log_start);
        let mut own = self.own.clone();
        own.trim_below(target_log_start);
        BothWays { own: &own, counter, is_settled: true }.translate(SourceOffset(next)).at
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Write(of_source) => self.write(of_source),
            Happening::Mark(at_source) => self.mark(at_source),
            Happening::Copy(to_target, records) => self.copy(to_target, records),
        }
    }

    /// Whether a record of the target is none that a reader at `next` of the source has not read.
    fn is_unread(&self, next: usize, record: &Option<Record>) -> bool {
        record.is_some() && !self.source[..next].contains(record)
    }

    /// The lowest place at the target of a record that a reader at `next` of the source has not read; the end without.
    fn first_unread(&self, next: usize) -> usize {
        let unread = self.target.iter().position(|record| self.is_unread(next, record));
        unread.unwrap_or(self.target.len())
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Write(bool),
    Mark(bool),
    Copy(bool, usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => any::<bool>().prop_map(Happening::Write),
        1 => any::<bool>().prop_map(Happening::Mark),
        2 => (any::<bool>(), 1_usize..6).prop_map(|(to_target, records)| Happening::Copy(to_target, records)),
    ]
}

proptest! {
    #[test]
    fn nothing_unread_is_skipped_and_nothing_read_is_read_again_without_need(
        story in prop::collection::vec(happening(), 0..80),
    ) {
        let mut pair = Pair::new();
        for happening in story {
            pair.happens(happening);
        }
        for next in 0..=pair.source.len() {
            let first_unread = pair.first_unread(next);
            let careful = pair.translate(next as i64, false).offset().0 as usize;
            prop_assert!(careful <= first_unread, "{careful} at {next}, {first_unread} is unread");
            let answer = pair.translate(next as i64, true);
            let at = answer.offset().0 as usize;
            prop_assert!(at <= first_unread, "{answer} at {next}, {first_unread} is unread");
            let again = pair.target[at..].iter().flatten().any(|record| pair.source[..next].contains(&Some(*record)));
            prop_assert_eq!(matches!(answer, Translation::Unread(_)), again, "{} at {}", answer, next);
            // Behind what the flow back has looked at, nobody knows that there is no record.
            if pair.counter.position().source.0 as usize == pair.target.len() {
                prop_assert!(pair.target[at..first_unread].iter().all(Option::is_none), "{answer} at {next}");
            }
        }
    }

    #[test]
    fn before_the_flow_back_comes_no_reader_passes_what_is_the_targets_own(
        story in prop::collection::vec(happening(), 0..80),
        deleted in 0..40_usize,
    ) {
        let mut pair = Pair::new();
        for happening in story {
            if !matches!(happening, Happening::Copy(false, _)) {
                pair.happens(happening);
            }
        }
        let log_start = deleted.min(pair.target.len());
        let kept = &pair.target[log_start..];
        let are_copies = kept.iter().all(|record| record.is_some() && pair.source.contains(record));
        for next in 0..=pair.source.len() {
            let unread = kept.iter().position(|record| pair.is_unread(next, record));
            let first_unread = log_start + unread.unwrap_or(kept.len());
            let at = match pair.translate_before_it_comes(next as i64, log_start) {
                Translation::Before(_) => continue,
                at => at.offset().0 as usize,
            };
            prop_assert!(at <= first_unread, "{at} at {next}, {first_unread} is unread");
            if are_copies {
                let one_way = pair.own.translate(SourceOffset(next as i64)).offset().0 as usize;
                prop_assert_eq!(at.max(log_start), one_way.max(log_start), "the target has nothing of its own");
            }
        }
    }
}

#[test]
fn before_the_flow_back_comes_copies_alone_are_told_exactly() {
    let mut pair = Pair::new();
    for _ in 0..4 {
        pair.write(true);
    }
    pair.copy(true, 4);
    assert_eq!(pair.translate_before_it_comes(3, 0), Translation::Exact(TargetOffset(3)));
    pair.write(false);
    pair.write(true);
    pair.copy(true, 1);
    assert_eq!(pair.translate_before_it_comes(5, 0), Translation::Unread(TargetOffset(4)));
    assert_eq!(pair.translate_before_it_comes(5, 5), Translation::Exact(TargetOffset(6)), "it is gone");
}

#[test]
fn what_the_flow_back_no_longer_knows_moves_nobody() {
    let mut pair = Pair::new();
    for generation in [1, 2] {
        pair.counter.begin_generation(Provenance { generation, ..Provenance::default() });
        pair.write(false);
        pair.write(false);
        pair.copy(false, 2);
    }
    pair.copy(true, 4);
    assert_eq!(pair.translate(1, true), Translation::Exact(TargetOffset(1)));
    assert_eq!(pair.counter.trim_below(TargetOffset(2)).len(), 1);
    assert_eq!(pair.translate(1, true), Translation::Before(TargetOffset(0)));
}

#[test]
fn a_flow_back_that_begins_late_moves_nobody() {
    let mut pair = Pair::new();
    for _ in 0..500 {
        pair.write(false);
    }
    pair.copy(false, 500);
    // The flow back begins where its target ends, and leaves everything out.
    let begun = Position { source: SourceOffset(0), target: TargetOffset(500) };
    pair.own = OffsetMap::new(begun, Provenance::default());
    pair.copy(true, 500);
    assert_eq!(
        pair.own.translate(SourceOffset(123)),
        Translation::Exact(TargetOffset(500)),
        "which alone would skip"
    );
    assert_eq!(pair.translate(123, true), Translation::Exact(TargetOffset(123)));
    let back = BothWays { own: &pair.counter, counter: &pair.own, is_settled: true };
    assert_eq!(back.translate(SourceOffset(123)).at, Translation::Exact(TargetOffset(123)));
}

#[test]
fn the_page_above_tells_the_truth() {
    let mut pair = Pair::new();
    let (own, others) = (true, false);
    for of_source in [own, own] {
        pair.write(of_source);
    }
    for _ in 0..3 {
        pair.write(others);
    }
    pair.copy(false, 2);
    pair.write(own);
    pair.copy(false, 1);
    pair.copy(true, 6);
    let of_source: Vec<_> = pair.source.iter().flatten().map(|record| record.of_source).collect();
    assert_eq!(of_source, [own, own, others, others, own, others]);
    assert_eq!(pair.translate(5, true), Translation::Unread(TargetOffset(2)));
    assert_eq!(pair.translate(6, true), Translation::Exact(TargetOffset(6)));
}

/// Each record of the source was a transaction of its own, after the flow back had ended: a run for each.
#[test]
fn a_long_way_after_the_flow_back_is_passed_at_once() {
    let mut pair = Pair::new();
    pair.write(false);
    pair.copy(false, 1);
    for _ in 0..3 * MAX_TURNS {
        pair.write(true);
        pair.mark(true);
    }
    let end = pair.source.len();
    pair.copy(true, end);
    assert_eq!(pair.translate(end as i64, false), Translation::Exact(TargetOffset(pair.target.len() as i64)));
}
