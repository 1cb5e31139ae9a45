//! Keys and values of the map topic: frozen bytes, round trips, hostile bytes.

use proptest::prelude::*;
use wire::ids::{ProducerId, TopicId};

use super::*;
use crate::events::{Event, EventKind};
use crate::offset_map::{
    Block, OffsetMap, Position, Provenance, Run, SourceOffset, TargetOffset, Translation,
};

fn partition() -> PartitionKey {
    PartitionKey {
        source_cluster: "we/st%2F".into(),
        source_topic: TopicId([1; 16]),
        target_topic: TopicId([2; 16]),
        partition: 3,
    }
}

fn progress(source: i64, intents: Vec<BatchIntent>) -> Progress {
    Progress {
        source,
        target: source,
        source_epoch: 1,
        target_epoch: 2,
        producer_id: 1_000,
        producer_epoch: 4,
        sequence: 77,
        intents,
        left_out: false,
        shed: false,
        map_start: None,
        at_ms: 1_700_000_000_000,
    }
}

fn keys() -> Vec<(Key, &'static str)> {
    let text = || String::from("a/b%c");
    let block = Key::Block { partition: partition(), generation: 5, start: SourceOffset(99) };
    vec![
        (block, "block/we%2Fst%252F/AQEBAQEBAQEBAQEBAQEBAQ/AgICAgICAgICAgICAgICAg/3/5/99"),
        (
            Key::Progress { partition: partition(), generation: 5 },
            "progress/we%2Fst%252F/AQEBAQEBAQEBAQEBAQEBAQ/AgICAgICAgICAgICAgICAg/3/5",
        ),
        (Key::Claim { flow: text(), generation: 5, nonce: 0xab }, "claim/a%2Fb%25c/5/00000000000000ab"),
        (Key::Binding { flow: text(), topic: text() }, "binding/a%2Fb%25c/a%2Fb%25c"),
        (Key::Producer(ProducerId(8)), "producer/8"),
        (Key::Promotion { flow: text() }, "promotion/a%2Fb%25c"),
        (Key::Group { flow: text(), group: text() }, "group/a%2Fb%25c/a%2Fb%25c"),
        (Key::SyncPass { flow: text() }, "sync/a%2Fb%25c"),
        (Key::Event { flow: text(), topic: text(), partition: -1 }, "event/a%2Fb%25c/a%2Fb%25c/-1"),
    ]
}

#[test]
fn the_keys_are_frozen() {
    for (key, text) in keys() {
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key));
    }
}

#[test]
fn keys_of_a_later_version_are_told_from_ours() {
    for text in ["", "block", "promotion", "quota/a", "progress/a/b/c/d/e", "producer/x", "claim/f/1/zz"] {
        assert!(text.parse::<Key>().is_err(), "{text}");
    }
}

#[test]
fn the_progress_value_is_frozen() {
    let intent = BatchIntent::new(
        SourceOffset(10)..SourceOffset(30),
        3,
        &[(SourceOffset(12), 4), (SourceOffset(20), 1)],
    );
    let golden = include_bytes!("golden/progress-v1.json");
    assert_eq!(String::from_utf8(progress(10, vec![intent.clone()]).encode()).unwrap().as_bytes(), golden);
    let read = Progress::decode(golden).unwrap();
    assert_eq!(read.intents[0].records(), 5);
    assert_eq!(
        read.intents[0].source_runs().collect::<Vec<_>>(),
        [(SourceOffset(12), 4), (SourceOffset(20), 1)]
    );
    assert_eq!(read.map_start, None, "as before maps were trimmed");
    let trimmed = Progress { map_start: Some(4), ..read };
    let written = String::from_utf8(trimmed.encode()).unwrap();
    assert!(written.ends_with(r#"]}],"map_start":4,"at_ms":1700000000000}"#), "{written}");
    assert_eq!(Progress::decode(written.as_bytes()).unwrap(), trimmed);
}

#[test]
fn a_progress_that_contradicts_itself_is_refused() {
    let whole = |from: i64, to: i64| BatchIntent { from, to, epoch: 0, runs: vec![0, (to - from) as u64] };
    let bad = [
        progress(-1, vec![]),
        Progress { map_start: Some(11), ..progress(10, vec![]) },
        progress(10, vec![whole(9, 12)]),
        progress(10, vec![whole(10, 12), whole(11, 13)]),
        progress(10, vec![BatchIntent { runs: vec![0, 3], ..whole(10, 12) }]),
        progress(10, vec![BatchIntent { runs: vec![0], ..whole(10, 12) }]),
        progress(10, vec![BatchIntent { runs: vec![], ..whole(10, 12) }]),
        progress(10, vec![BatchIntent { runs: vec![0, u64::MAX, 1, 9], ..whole(10, 12) }]),
        progress(0, (0..500).map(|n| whole(n, n + 1)).collect()),
    ];
    for progress in bad {
        assert!(Progress::decode(&progress.encode()).is_err(), "{progress:?}");
    }
}

#[test]
fn a_promotion_keeps_what_it_could_not_settle_and_reads_one_of_before() {
    let key = Key::Promotion { flow: "f".to_owned() };
    let mut ledger = Ledger::default();
    let before = br#"{"at_ms":7,"generation":2,"positions":{"a-0":[10,9]}}"#;
    apply(&mut ledger, &MapRecord::set(&key, before.to_vec()));
    let mut promotion = ledger.promotion("f").unwrap().clone();
    assert!(promotion.unsettled.is_empty());
    assert_eq!(promotion.encode(), before);
    promotion.target_ends.insert("a-0".to_owned(), 12);
    promotion.unsettled.push(Event {
        flow: "f".to_owned(),
        topic: "a".to_owned(),
        partition: Some(0),
        at_ms: 6,
        kind: EventKind::MapLost { map_log_start: 5 },
    });
    apply(&mut ledger, &MapRecord::set(&key, promotion.encode()));
    assert_eq!(ledger.promotion("f"), Some(&promotion));
}

fn apply(ledger: &mut Ledger, record: &MapRecord) {
    let key = std::str::from_utf8(&record.key).unwrap().parse().unwrap();
    ledger.apply(key, record.value.as_deref()).unwrap();
}

fn set_progress(generation: u64, progress: &Progress) -> MapRecord {
    MapRecord::set(&Key::Progress { partition: partition(), generation }, progress.encode())
}

#[test]
fn a_late_progress_of_a_replaced_owner_is_ignored() {
    let mut ledger = Ledger::default();
    apply(&mut ledger, &set_progress(2, &progress(20, vec![])));
    apply(&mut ledger, &set_progress(3, &progress(30, vec![])));
    apply(&mut ledger, &set_progress(2, &progress(40, vec![])));
    let known = ledger.partition(&partition()).unwrap();
    assert_eq!(known.progress(), Some((3, &progress(30, vec![]))));
    let forget = |generation| MapRecord::forget(&Key::Progress { partition: partition(), generation });
    let own = OffsetMap::new(Position::default(), Provenance::default());
    assert_eq!(known.superseded(&partition(), &own), [forget(2), forget(3)]);
    assert_eq!(ledger.newest_generation(), 3);
}

fn claim(owner: &str) -> Claim {
    Claim { owner: owner.to_owned(), map_producer_id: 1, map_producer_epoch: 0, at_ms: 0 }
}

#[test]
fn the_first_claim_of_the_newest_generation_holds() {
    let key = |generation, nonce| Key::Claim { flow: "f".to_owned(), generation, nonce };
    let mut ledger = Ledger::default();
    for (generation, nonce, owner) in [(1, 9, "old"), (2, 7, "first"), (2, 3, "second"), (2, 7, "again")] {
        apply(&mut ledger, &MapRecord::set(&key(generation, nonce), claim(owner).encode()));
    }
    let (generation, nonce, held) = ledger.holder("f").unwrap();
    assert_eq!((generation, nonce, held.owner.as_str()), (2, 7, "first"));
    assert!(ledger.holder("g").is_none());
    apply(&mut ledger, &MapRecord::forget(&key(2, 7)));
    assert_eq!(ledger.holder("f").unwrap().1, 3);
}

/// Partition 3 of a topic of this source; each topic has its own number.
fn of_topic(source_cluster: &str, topic: u8) -> PartitionKey {
    let (source_topic, target_topic) = (TopicId([topic; 16]), TopicId([topic + 100; 16]));
    PartitionKey { source_cluster: source_cluster.into(), source_topic, target_topic, partition: 3 }
}

fn bind(flow: &str, name: &str, key: &PartitionKey) -> MapRecord {
    let binding = Binding {
        source_cluster: key.source_cluster.to_string(),
        source_topic: key.source_topic.to_string(),
        target_name: name.to_owned(),
        target_topic: key.target_topic.to_string(),
    };
    let key = Key::Binding { flow: flow.to_owned(), topic: name.to_owned() };
    MapRecord::set(&key, binding.encode())
}

#[test]
fn an_owner_keeps_its_source_and_leaves_topics_that_it_does_not_copy() {
    let (own, unbound) = (of_topic("west", 1), of_topic("west", 2));
    let (others, other_source) = (of_topic("west", 3), of_topic("north", 4));
    let mut ledger = Ledger::within(Scope::Owner { flow: "f".to_owned(), source_cluster: "west".into() });
    let set = |key: Key, value: Vec<u8>| MapRecord::set(&key, value);
    let claimed =
        |flow: &str, generation| Key::Claim { flow: flow.to_owned(), generation, nonce: generation };
    let mut records = vec![
        set(claimed("f", 4), claim("this").encode()),
        set(claimed("g", 9), claim("another").encode()),
        MapRecord::forget(&claimed("g", 9)),
        bind("f", "own", &own),
        // Another flow copied it before this one did.
        bind("g", "own", &own),
        bind("g", "others", &others),
    ];
    for partition in [&own, &unbound, &others, &other_source] {
        let key = Key::Progress { partition: partition.clone(), generation: 2 };
        records.push(set(key, progress(10, vec![]).encode()));
    }
    records.iter().for_each(|record| apply(&mut ledger, record));

    assert!(ledger.partition(&other_source).is_none(), "of another source");
    assert!(ledger.claims("g").next().is_none() && ledger.holder("f").is_some());
    assert_eq!(ledger.newest_generation(), 9, "of all flows, and of owners that are gone");
    assert!(ledger.partition(&others).is_some());
    ledger.leave_to_others(|topic| topic == "own");
    assert!(ledger.partition(&others).is_none(), "only another flow copies it");
    assert!(ledger.partition(&own).is_some() && ledger.partition(&unbound).is_some());

    ledger.begin_again();
    assert_eq!((ledger.newest_generation(), ledger.holder("f")), (0, None));
    records.iter().for_each(|record| apply(&mut ledger, record));
    assert!(ledger.partition(&own).is_some() && ledger.partition(&other_source).is_none());
}

#[test]
fn a_register_of_producers_keeps_nothing_else() {
    let mut ledger = Ledger::within(Scope::Producers);
    let registered = RegisteredProducer { flow: "f".to_owned(), source_cluster: "west".to_owned() };
    apply(&mut ledger, &MapRecord::set(&Key::Producer(ProducerId(8)), registered.encode()));
    apply(&mut ledger, &set_progress(2, &progress(20, vec![])));
    apply(&mut ledger, &bind("f", "own", &partition()));
    assert_eq!(ledger.producer(ProducerId(8)), Some(&registered));
    assert!(ledger.partition(&partition()).is_none() && ledger.bindings("f").next().is_none());
}

fn block_key(block: &Block) -> Key {
    let (generation, start) = (block.provenance().generation, block.start().source);
    Key::Block { partition: partition(), generation, start }
}

fn apply_blocks(ledger: &mut Ledger, map: &OffsetMap) {
    for block in map.blocks() {
        apply(ledger, &MapRecord::set(&block_key(block), block.encode()));
    }
}

#[test]
fn what_was_forgotten_does_not_come_back_with_a_late_write() {
    let by = |generation| Provenance { generation, ..Provenance::default() };
    let run =
        |source, target, length| Run { source: SourceOffset(source), target: TargetOffset(target), length };
    let mut map = OffsetMap::new(Position::default(), by(1));
    map.record(run(0, 0, 10), by(1)).unwrap();
    let mut replaced = map.clone();
    for (generation, at) in [(2, 10), (3, 20)] {
        map.begin_generation(by(generation));
        map.record(run(at, at, 10), by(generation)).unwrap();
    }
    assert_eq!(map.trim_below(TargetOffset(20)).len(), 2);
    // The owner of generation 1 wrote on where others had taken over, and is heard last.
    replaced.record(run(15, 11, 3), by(1)).unwrap();
    let mut ledger = Ledger::default();
    apply_blocks(&mut ledger, &map);
    apply_blocks(&mut ledger, &replaced);
    let trimmed = Progress { map_start: Some(20), ..progress(30, vec![]) };
    apply(&mut ledger, &set_progress(3, &trimmed));

    let known = ledger.partition(&partition()).unwrap();
    let read = known.offset_map().unwrap();
    assert!(read.blocks().eq(map.blocks()), "{read:?}");
    assert_eq!(read.translate(SourceOffset(16)), Translation::Before(TargetOffset(20)));
    assert_eq!(read.translate(SourceOffset(25)), Translation::Exact(TargetOffset(25)));
    // The next owner has both go: what is below the start, and what its own progress takes the place of.
    let gone = known.superseded(&partition(), &read);
    let late = MapRecord::forget(&block_key(replaced.open_block().unwrap()));
    let progress_key = |generation| Key::Progress { partition: partition(), generation };
    assert_eq!(gone, [MapRecord::forget(&progress_key(3)), late]);
    apply(&mut ledger, &set_progress(4, &trimmed));
    gone.iter().for_each(|record| apply(&mut ledger, record));
    let known = ledger.partition(&partition()).unwrap();
    assert!(known.offset_map().unwrap().blocks().eq(map.blocks()));
    assert_eq!(known.superseded(&partition(), &read), [MapRecord::forget(&progress_key(4))]);
}

#[test]
fn a_map_reads_back_from_its_records() {
    let provenance = Provenance { generation: 4, ..Provenance::default() };
    let start = Position { source: SourceOffset(5), target: TargetOffset(0) };
    let mut map = OffsetMap::new(start, provenance);
    for record in 0..1_000 {
        let (source, target) = (SourceOffset(5 + record * 3), TargetOffset(record));
        map.record(Run { source, target, length: 1 }, provenance).unwrap();
    }
    let mut ledger = Ledger::default();
    apply_blocks(&mut ledger, &map);
    assert!(ledger.partition(&partition()).unwrap().offset_map().is_none(), "no position yet");
    let at = map.position();
    let progress = Progress { target: at.target.0, ..progress(at.source.0, vec![]) };
    apply(&mut ledger, &set_progress(4, &progress));
    let read = ledger.take_partition(&partition()).offset_map().unwrap();
    for source in 0..3_010 {
        assert_eq!(read.translate(SourceOffset(source)), map.translate(SourceOffset(source)));
    }
}

#[test]
fn a_block_under_another_key_is_refused() {
    let block = OffsetMap::new(Position::default(), Provenance::default()).open_block().unwrap().encode();
    let key = Key::Block { partition: partition(), generation: 0, start: SourceOffset(1) };
    assert!(Ledger::default().apply(key, Some(&block)).is_err());
}

proptest! {
    #[test]
    fn hostile_records_are_refused_without_panic(text in ".{0,60}", value in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut ledger = Ledger::default();
        if let Ok(key) = text.parse::<Key>() {
            let _ = ledger.apply(key, Some(&value));
        }
        for (key, _) in keys() {
            let _ = ledger.apply(key, Some(&value));
        }
    }

    #[test]
    fn any_key_part_survives(flow in ".{0,20}", topic in ".{0,20}") {
        let key = Key::Binding { flow, topic };
        prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
    }
}
