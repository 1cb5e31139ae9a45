//! The map against a brute-force oracle: every offset, both ways, holes and ends included.

use proptest::prelude::*;

use super::*;

/// One thing that happens to a partition while it is copied.
#[derive(Clone, Debug)]
enum Step {
    /// This many records copied, source and target contiguous.
    Copy(u64),
    /// Source offsets that hold nothing to copy.
    Hole(u64),
    /// Records that others write to the target.
    Foreign(u64),
    /// The position is told to cover the holes so far.
    Advance,
    /// The source's or the target's leader changes.
    NewLeader,
    /// Another owner takes over and reads the map back.
    NewOwner,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1u64..6).prop_map(Step::Copy),
        4 => (1u64..4).prop_map(Step::Hole),
        2 => (1u64..3).prop_map(Step::Foreign),
        2 => Just(Step::Advance),
        1 => Just(Step::NewLeader),
        1 => Just(Step::NewOwner),
    ];
    prop::collection::vec(step, 0..400)
}

/// Knows every record by name: the plain list of pairs.
#[derive(Debug)]
struct Oracle {
    start: Position,
    pairs: Vec<(i64, i64)>,
    position: Position,
}

impl Oracle {
    fn translate(&self, next: i64) -> Translation<TargetOffset> {
        if next < self.start.source.0 {
            return Translation::Before(self.start.target);
        }
        if next > self.position.source.0 {
            return Translation::Ahead(self.position.target);
        }
        let exact = self.pairs.iter().find(|(source, _)| *source == next).map(|(_, target)| *target);
        let before = self.pairs.iter().rev().find(|(source, _)| *source < next).map(|(_, target)| target + 1);
        Translation::Exact(TargetOffset(exact.or(before).unwrap_or(self.start.target.0)))
    }

    fn translate_back(&self, next: i64) -> Translation<SourceOffset> {
        if next < self.start.target.0 {
            return Translation::Before(self.start.source);
        }
        if next > self.position.target.0 {
            return Translation::Ahead(self.position.source);
        }
        if next == self.position.target.0 {
            return Translation::Exact(self.position.source);
        }
        match self.pairs.iter().find(|(_, target)| *target == next) {
            Some((source, _)) => Translation::Exact(SourceOffset(*source)),
            None => {
                let before = self.pairs.iter().rev().find(|(_, target)| *target < next);
                Translation::Foreign(before.map_or(self.start.source, |(source, _)| SourceOffset(source + 1)))
            }
        }
    }
}

fn play(start: Position, steps: &[Step]) -> (OffsetMap, Oracle) {
    let mut provenance = Provenance { generation: 1, ..Provenance::default() };
    let mut map = OffsetMap::new(start, provenance);
    let mut oracle = Oracle { start, pairs: Vec::new(), position: start };
    let (mut source, mut target) = (start.source.0, start.target.0);
    for step in steps {
        match *step {
            Step::Copy(length) => {
                let run = Run { source: SourceOffset(source), target: TargetOffset(target), length };
                map.record(run, provenance).unwrap();
                for _ in 0..length {
                    oracle.pairs.push((source, target));
                    (source, target) = (source + 1, target + 1);
                }
                oracle.position = Position { source: SourceOffset(source), target: TargetOffset(target) };
            }
            Step::Hole(length) => source += length as i64,
            Step::Foreign(length) => target += length as i64,
            Step::Advance => {
                map.advance(SourceOffset(source));
                oracle.position.source = SourceOffset(source);
            }
            Step::NewLeader => provenance.source_leader_epoch += 1,
            Step::NewOwner => {
                provenance.generation += 1;
                map = reread(&map);
                map.begin_generation(provenance);
            }
        }
    }
    (map, oracle)
}

fn reread(map: &OffsetMap) -> OffsetMap {
    let blocks = map.blocks().map(|block| Block::decode(&block.encode()).unwrap()).collect();
    OffsetMap::from_blocks(blocks, map.position()).unwrap()
}

fn agree(map: &OffsetMap, oracle: &Oracle) -> Result<(), TestCaseError> {
    for next in oracle.start.source.0 - 2..oracle.position.source.0 + 4 {
        prop_assert_eq!(map.translate(SourceOffset(next)), oracle.translate(next), "source {}", next);
    }
    for next in oracle.start.target.0 - 2..oracle.position.target.0 + 4 {
        prop_assert_eq!(
            map.translate_back(TargetOffset(next)),
            oracle.translate_back(next),
            "target {}",
            next
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_offset_translates_as_the_oracle_says(
        steps in steps(), source in 0i64..50, target in 0i64..50,
    ) {
        let start = Position { source: SourceOffset(source), target: TargetOffset(target) };
        let (map, oracle) = play(start, &steps);
        agree(&map, &oracle)?;
        agree(&reread(&map), &oracle)?;
    }

    #[test]
    fn nothing_is_skipped_whatever_the_answer(steps in steps()) {
        let (map, oracle) = play(Position::default(), &steps);
        for next in 0..oracle.position.source.0 + 4 {
            let answer = map.translate(SourceOffset(next)).offset().0;
            let owed = oracle.pairs.iter().find(|(source, _)| *source >= next);
            prop_assert!(owed.is_none_or(|(_, target)| answer <= *target), "source {} -> {}", next, answer);
        }
    }

    #[test]
    fn late_writes_of_a_replaced_owner_change_nothing(
        steps in steps(), more in prop::collection::vec((0u64..3, 0u64..3, 1u64..4), 0..20),
    ) {
        let (mut map, mut oracle) = play(Position::default(), &steps);
        let mut replaced = map.clone();
        let old = map.open_block().unwrap().provenance();
        map.begin_generation(Provenance { generation: old.generation + 1, ..old });
        let at = map.position();
        let run = Run { source: at.source, target: at.target, length: 2 };
        map.record(run, Provenance { generation: old.generation + 1, ..old }).unwrap();
        for step in 0..2 {
            oracle.pairs.push((at.source.0 + step, at.target.0 + step));
        }
        oracle.position = map.position();
        for (source_gap, target_gap, length) in more {
            let at = replaced.position();
            let run = Run { source: at.source.plus(source_gap), target: at.target.plus(target_gap), length };
            replaced.record(run, old).unwrap();
        }
        let kept = map.blocks().chain(replaced.blocks()).cloned().collect();
        agree(&OffsetMap::from_blocks(kept, map.position()).unwrap(), &oracle)?;
    }

    #[test]
    fn hostile_blocks_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Block::decode(&bytes);
        let mut framed = Block::new(Position::default(), Provenance::default()).encode();
        framed[34] = 3;
        framed.extend_from_slice(&bytes);
        let _ = Block::decode(&framed);
    }
}

fn map_of(runs: &[(i64, i64, u64)]) -> OffsetMap {
    let mut map = OffsetMap::new(Position::default(), Provenance::default());
    for (source, target, length) in runs {
        let run = Run { source: SourceOffset(*source), target: TargetOffset(*target), length: *length };
        map.record(run, Provenance::default()).unwrap();
    }
    map
}

#[test]
fn in_a_compaction_hole_the_next_copied_record_follows() {
    let map = map_of(&[(0, 0, 40), (60, 40, 40)]);
    assert_eq!(map.translate(SourceOffset(50)), Translation::Exact(TargetOffset(40)));
    assert_eq!(map.translate(SourceOffset(60)), Translation::Exact(TargetOffset(40)));
    assert_eq!(map.translate(SourceOffset(100)), Translation::Exact(TargetOffset(80)));
    assert_eq!(map.translate(SourceOffset(101)), Translation::Ahead(TargetOffset(80)));
}

#[test]
fn records_of_others_are_foreign() {
    let map = map_of(&[(0, 0, 10), (10, 15, 10)]);
    assert_eq!(map.translate_back(TargetOffset(12)), Translation::Foreign(SourceOffset(10)));
    assert_eq!(map.translate_back(TargetOffset(15)), Translation::Exact(SourceOffset(10)));
    assert_eq!(map.translate_back(TargetOffset(25)), Translation::Exact(SourceOffset(20)));
    assert_eq!(map.translate_back(TargetOffset(26)), Translation::Ahead(SourceOffset(20)));
}

#[test]
fn a_run_below_the_position_is_refused() {
    let mut map = map_of(&[(0, 0, 10)]);
    let run = Run { source: SourceOffset(9), target: TargetOffset(10), length: 1 };
    assert!(map.record(run, Provenance::default()).is_err());
    let run = Run { source: SourceOffset(10), target: TargetOffset(9), length: 1 };
    assert!(map.record(run, Provenance::default()).is_err());
}

#[test]
fn a_contiguous_topic_is_one_run() {
    let runs: Vec<_> = (0..10_000).map(|batch| (batch * 7, batch * 7, 7)).collect();
    assert_eq!(map_of(&runs).run_count(), 1);
}

#[test]
fn the_bound_drops_the_oldest_and_answers_before() {
    let mut map = OffsetMap::new(Position::default(), Provenance::default()).limited_to(4_000);
    let mut gone = Vec::new();
    for record in 0..10_000 {
        let run = Run { source: SourceOffset(record * 2), target: TargetOffset(record), length: 1 };
        gone.extend(map.record(run, Provenance::default()).unwrap());
    }
    assert!(map.held_bytes <= 4_000);
    let runs: usize = gone.iter().map(Block::run_count).sum();
    assert_eq!(runs + map.run_count(), 10_000, "whoever records is told of each block that goes");
    let start = map.start();
    assert!(start.source > SourceOffset(0));
    assert_eq!(map.translate(SourceOffset(5)), Translation::Before(start.target));
    assert_eq!(map.translate(SourceOffset(19_998)), Translation::Exact(TargetOffset(9_999)));
}

#[test]
fn the_bound_counts_blocks_of_one_run_each() {
    let mut map = OffsetMap::new(Position::default(), Provenance::default()).limited_to(4_000);
    for term in 0..1_000 {
        let made_by = Provenance { source_leader_epoch: term, ..Provenance::default() };
        let at = i64::from(term) * 10;
        let run = Run { source: SourceOffset(at), target: TargetOffset(at), length: 10 };
        map.record(run, made_by).unwrap();
    }
    assert_eq!(map.held_bytes, map.blocks().map(Block::held_bytes).sum::<usize>());
    assert!(map.held_bytes <= 4_000 && map.blocks().count() > 1);
    // What is read back is bounded too.
    let read = reread(&map).limited_to(1_000);
    assert!(read.held_bytes <= 1_000);
    assert_eq!(read.translate(SourceOffset(9_995)), Translation::Exact(TargetOffset(9_995)));
}

#[test]
fn trimming_keeps_what_the_target_still_has() {
    let runs: Vec<_> = (0..2_000).map(|record| (record * 2, record, 1)).collect();
    let mut map = map_of(&runs);
    assert!(!map.has_forgotten());
    let gone = map.trim_below(TargetOffset(1_000));
    assert!(map.has_forgotten(), "it did not begin where it begins now");
    assert_eq!(gone.len(), 1_000 / RUNS_PER_BLOCK);
    for record in 1_000..2_000 {
        let answer = map.translate(SourceOffset(record * 2));
        assert_eq!(answer, Translation::Exact(TargetOffset(record)));
    }
}

#[test]
fn the_block_format_is_frozen() {
    let provenance = Provenance { source_leader_epoch: 3, target_leader_epoch: 7, generation: 42 };
    let start = Position { source: SourceOffset(1_000), target: TargetOffset(500) };
    let mut map = OffsetMap::new(start, provenance);
    for (source, target, length) in [(1_000, 500, 300), (1_305, 800, 1), (2_000, 900, 70_000)] {
        let run = Run { source: SourceOffset(source), target: TargetOffset(target), length };
        map.record(run, provenance).unwrap();
    }
    let golden = include_bytes!("golden/block-v1.bin");
    let block = map.open_block().unwrap();
    assert_eq!(block.encode(), golden);
    assert_eq!(&Block::decode(golden).unwrap(), block);
}
