//! The rule against brute force: two logs whose flows copy at random, and every position of a reader.
//!
//! Owns: a pair of logs as lists of records. Does not own: the maps' own tests (`offset_map::tests`).

use proptest::prelude::*;

use super::*;
use crate::offset_map::{Position, Provenance};

/// A record of either side: whose it is, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    of_source: bool,
    number: usize,
}

/// Two logs and the two flows between them.
struct Pair {
    source: Vec<Record>,
    target: Vec<Record>,
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
        let number = log.iter().filter(|record| record.of_source == of_source).count();
        log.push(Record { of_source, number });
    }

    /// Copies up to so many records over, and leaves out what came from there.
    fn copy(&mut self, to_target: bool, looked_at: usize) {
        let Self { source, target, own, counter } = self;
        let (from, to, map) = if to_target { (&*source, target, own) } else { (&*target, source, counter) };
        for _ in 0..looked_at {
            let at = map.position().source;
            let Some(record) = from.get(at.0 as usize).copied() else { return };
            if record.of_source == to_target {
                let run = Run { source: at, target: TargetOffset(to.len() as i64), length: 1 };
                map.record(run, Provenance::default()).unwrap();
                to.push(record);
            } else {
                map.advance(at.plus(1));
            }
        }
    }

    /// The lowest place at the target of a record that a reader at `next` of the source has not read; the end without.
    fn first_unread(&self, next: usize) -> i64 {
        let read = &self.source[..next];
        let unread = self.target.iter().position(|record| !read.contains(record));
        unread.unwrap_or(self.target.len()) as i64
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Write(bool),
    Copy(bool, usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        any::<bool>().prop_map(Happening::Write),
        (any::<bool>(), 1_usize..6).prop_map(|(to_target, records)| Happening::Copy(to_target, records)),
    ]
}

proptest! {
    #[test]
    fn nothing_unread_is_skipped_and_nothing_read_is_read_again_without_need(
        story in prop::collection::vec(happening(), 0..80),
    ) {
        let mut pair = Pair::new();
        for happening in story {
            match happening {
                Happening::Write(of_source) => pair.write(of_source),
                Happening::Copy(to_target, records) => pair.copy(to_target, records),
            }
        }
        for next in 0..=pair.source.len() {
            let answer = translate(&pair.own, &pair.counter, SourceOffset(next as i64));
            let first_unread = pair.first_unread(next);
            prop_assert_eq!(answer.offset().0, first_unread, "{} at {}", answer, next);
            let read_again = pair.target[first_unread as usize..].iter().any(|record| pair.source[..next].contains(record));
            prop_assert_eq!(matches!(answer, Translation::Unread(_)), read_again, "{} at {}", answer, next);
        }
    }
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
    let there = translate(&pair.own, &pair.counter, SourceOffset(123));
    assert_eq!(there, Translation::Exact(TargetOffset(123)));
    let back = translate(&pair.counter, &pair.own, SourceOffset(123));
    assert_eq!(back, Translation::Exact(TargetOffset(123)));
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
    let of_source: Vec<_> = pair.source.iter().map(|record| record.of_source).collect();
    assert_eq!(of_source, [own, own, others, others, own, others]);
    assert_eq!(translate(&pair.own, &pair.counter, SourceOffset(5)), Translation::Unread(TargetOffset(2)));
    assert_eq!(translate(&pair.own, &pair.counter, SourceOffset(6)), Translation::Exact(TargetOffset(6)));
}
