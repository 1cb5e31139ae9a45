//! The account of a flow: whose it is, the same for every reader, and how long one goes on.

use topology::{Rename, Start};
use wire::ids::TopicId;

use super::*;
use crate::events::EventKind;
use crate::map_topic::{BatchIntent, Binding, Claim, GroupPartition, Key, PartitionKey, Progress};
use crate::offset_map::{OffsetMap, Position, Provenance, SourceOffset};
use crate::spec::ClusterSpec;

const TOPICS: [TopicId; 2] = [TopicId([1; 16]), TopicId([2; 16])];

fn key(partition: i32) -> PartitionKey {
    let [source_topic, target_topic] = TOPICS;
    PartitionKey { source_cluster: "west".into(), source_topic, target_topic, partition }
}

/// A map topic of two flows; `over` copies two partitions of one topic.
fn written() -> Vec<(Key, Vec<u8>)> {
    let mut records = Vec::new();
    for (generation, flow) in [(1, "over"), (2, "back")] {
        let (flow, topic, group) = (flow.to_owned(), "flights".to_owned(), "readers".to_owned());
        let claim = Claim { owner: "pid 7".to_owned(), map_producer_id: 1, map_producer_epoch: 0, at_ms: 3 };
        records.push((Key::Claim { flow: flow.clone(), generation, nonce: 5 }, claim.encode()));
        let binding = Binding {
            source_cluster: "west".to_owned(),
            source_topic: TOPICS[0].to_string(),
            target_name: topic.clone(),
            target_topic: TOPICS[1].to_string(),
        };
        records.push((Key::Binding { flow: flow.clone(), topic: topic.clone() }, binding.encode()));
        let stands = GroupPartition {
            topic: topic.clone(),
            partition: 0,
            source: 5,
            target: Some(4),
            reason: None,
            read_to: None,
            needs_source: false,
        };
        let sync = GroupSync { at_ms: 4, partitions: vec![stands] };
        records.push((Key::Group { flow: flow.clone(), group }, sync.encode()));
        let pass = SyncPass { at_ms: 4, groups: 1, synced: 1, unsynced: 0 };
        records.push((Key::SyncPass { flow: flow.clone() }, pass.encode()));
        let kind = EventKind::MapLost { map_log_start: 5 };
        let event = Event { flow: flow.clone(), topic: topic.clone(), partition: Some(1), at_ms: 6, kind };
        records.push((Key::Event { flow, topic, partition: 1 }, event.encode()));
    }
    for partition in 0..2 {
        let map = OffsetMap::new(Position::default(), Provenance { generation: 1, ..Provenance::default() });
        let start = SourceOffset(0);
        let block = map.open_block().unwrap().encode();
        records.push((Key::Block { partition: key(partition), generation: 1, start }, block));
        let progress = Progress {
            source: 10,
            target: 9,
            source_epoch: 0,
            target_epoch: 0,
            producer_id: 1,
            producer_epoch: 0,
            sequence: 0,
            intents: vec![BatchIntent { from: 10, to: 12, epoch: 0, runs: vec![0, 2] }],
            left_out: false,
            shed: false,
            map_start: Some(0),
            at_ms: 8,
        };
        let progress_key = Key::Progress { partition: key(partition), generation: 1 };
        records.push((progress_key, progress.encode()));
    }
    records
}

#[test]
fn a_reader_that_keeps_no_maps_gives_the_same_account() {
    let cluster = |name: &str| ClusterSpec { name: name.to_owned(), bootstrap: Vec::new() };
    let spec = FlowSpec {
        name: "over".to_owned(),
        from: cluster("west"),
        to: cluster("east"),
        topics: Vec::new(),
        groups: Vec::new(),
        start: Start::default(),
        rename: Rename::default(),
        ways_back: Vec::new(),
    };
    let mut whole = Ledger::default();
    let mut kept = Ledger::within(Scope::Account { flow: spec.name.clone() });
    for (key, value) in written() {
        whole.apply(key.clone(), Some(&value)).unwrap();
        kept.apply(key, Some(&value)).unwrap();
    }
    let account = from_ledger(&kept, &spec);
    assert_eq!((account.generation, account.partitions.len(), account.groups.len()), (1, 2, 1));
    assert_eq!((account.partitions[0].source_position, account.events.len()), (10, 1));
    let json = |account: &FlowStatus| serde_json::to_value(account).unwrap();
    assert_eq!(json(&account), json(&from_ledger(&whole, &spec)));

    let partition = kept.partition(&key(0)).unwrap();
    assert!(partition.offset_map().is_none() && partition.progress().unwrap().1.intents.is_empty());
    let others = FlowSpec { name: "back".to_owned(), ..spec };
    assert!(from_ledger(&whole, &others).generation == 2 && from_ledger(&kept, &others).groups.is_empty());
}

#[test]
fn a_reader_begins_again_when_what_it_counted_may_long_be_compacted() {
    const MIB: u64 = 1024 * 1024;
    for (first, size, again) in [(0, 64, false), (0, 65, true), (100, 200, false), (100, 201, true)] {
        assert_eq!(is_counted_again(first * MIB, size * MIB), again, "{first} and now {size}");
    }
    assert!(!is_counted_again(MIB, 0), "the topic was replaced by a smaller one");
}

fn copied(target_topic: &str, partition: i32, target_position: i64) -> PartitionStatus {
    PartitionStatus {
        topic: format!("source-of-{target_topic}"),
        target_topic: target_topic.to_owned(),
        partition,
        source_position: 2 * target_position,
        target_position,
        at_ms: 0,
        source_end: None,
        target_end: None,
    }
}

#[test]
fn a_group_is_told_of_the_partitions_of_its_topics_in_which_it_has_no_position() {
    let stands = |partition| GroupPartition {
        topic: "flights".to_owned(),
        partition,
        source: 5,
        read_to: None,
        needs_source: false,
        target: None,
        reason: None,
    };
    let sync = GroupSync { at_ms: 0, partitions: vec![stands(1), stands(2)] };
    let partitions = [
        copied("bookings", 0, 9),
        copied("flights", 0, 7),
        copied("flights", 1, 8),
        copied("flights", 2, 0),
        copied("flights", 3, 0),
        PartitionStatus { target_end: Some(4), ..copied("flights", 4, 0) },
        PartitionStatus { target_end: Some(9), ..copied("flights", 5, 6) },
    ];
    let found = not_synced("readers", &sync, &partitions);
    let expected = |(partition, to)| NotSynced {
        group: "readers".to_owned(),
        topic: "flights".to_owned(),
        partition,
        to,
    };
    assert_eq!(found, [(0, 7), (4, 4), (5, 9)].map(expected));
    assert!(not_synced("nobody", &GroupSync { at_ms: 0, partitions: Vec::new() }, &partitions).is_empty());
}
