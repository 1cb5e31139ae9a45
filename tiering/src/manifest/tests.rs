//! Manifests against a plain model, under many writers, and byte for byte.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use wire::ids::{LeaderEpoch, Offset, TopicId};

use super::record::{Record, RecordError, RecordKind};
use super::register::State as _;
use super::*;
use crate::cluster_record::{GroupOffset, TopicRecord};
use crate::keys;
use crate::limits::{MANIFEST_RECORD_LIMIT_BYTES, SLOT_RECORDS};
use crate::object::EpochStart;
use crate::seams::AttemptId;
use crate::store::memory::MemoryStore;
use crate::store::{Fault, FaultyStore, Operation, Store};
use crate::test_support::{log, seams};

fn row(base: i64, next: i64, attempt: u8) -> SegmentRow {
    SegmentRow {
        base_offset: Offset(base),
        next_offset: Offset(next),
        leader_epoch: LeaderEpoch(3),
        attempt: AttemptId([attempt; 16]),
        object_bytes: 500,
        raw_bytes: 1_000,
        raw_crc: 7,
        footer_bytes: 100,
        max_timestamp_ms: 5_000 + base,
        archived_at_ms: 9,
        aborted: 0,
        quarantined: false,
    }
}

fn add(base: i64, next: i64, attempt: u8) -> PartitionEdit {
    PartitionEdit::AddSegment { row: row(base, next, attempt), epochs: vec![] }
}

fn manifest(edits: &[PartitionEdit]) -> PartitionManifest {
    let mut manifest = PartitionManifest::empty(log());
    for edit in edits {
        manifest.apply(edit).unwrap();
        manifest.check().unwrap();
    }
    manifest
}

#[test]
fn a_segment_only_continues_the_end() {
    let mut two = manifest(&[add(0, 10, 1), add(10, 20, 2)]);
    assert_eq!(two.end_offset(), Offset(20));
    assert!(two.clone().apply(&add(15, 30, 3)).is_err());
    assert!(two.clone().apply(&add(21, 30, 3)).is_err());
    two.apply(&PartitionEdit::DeclareGap(Gap { from: Offset(20), to: Offset(30), reason: GapReason::Hole }))
        .unwrap();
    two.apply(&add(30, 40, 3)).unwrap();
    two.check().unwrap();
}

#[test]
fn only_what_lies_below_the_start_dies_oldest_first() {
    let mut three = manifest(&[add(0, 10, 1), add(10, 20, 2), add(20, 30, 3)]);
    let dead = |attempt: u8| PartitionEdit::MarkDead { attempt: AttemptId([attempt; 16]), at_ms: 1 };
    assert!(three.clone().apply(&dead(1)).is_err());
    three.apply(&PartitionEdit::AdvanceStart { to: Offset(15) }).unwrap();
    assert!(three.clone().apply(&dead(2)).is_err());
    three.apply(&dead(1)).unwrap();
    assert!(three.clone().apply(&dead(2)).is_err(), "a segment that holds the start stays");
    three.check().unwrap();
    assert_eq!(three.first_readable(), Some(Offset(15)));
    assert!(three.clone().apply(&PartitionEdit::AdvanceStart { to: Offset(14) }).is_err());
    assert!(three.clone().apply(&PartitionEdit::AdvanceStart { to: Offset(31) }).is_err());
}

#[test]
fn invariants_name_what_is_wrong() {
    let good = manifest(&[add(0, 10, 1), add(10, 20, 2)]);
    let broken = |change: &dyn Fn(&mut PartitionManifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        manifest.check().unwrap_err().name
    };
    assert_eq!(broken(&|manifest| manifest.segments[1].base_offset = Offset(9)), "segments-rise");
    assert_eq!(broken(&|manifest| manifest.segments[1].base_offset = Offset(11)), "holes-are-declared");
    assert_eq!(broken(&|manifest| manifest.start_offset = Offset(-1)), "start-is-inside");
    assert_eq!(broken(&|manifest| manifest.segments[0].raw_bytes = 0), "rows-are-plausible");
    let epoch = |epoch, start| EpochStart { epoch: LeaderEpoch(epoch), start_offset: Offset(start) };
    assert_eq!(broken(&|manifest| manifest.epochs = vec![epoch(2, 0), epoch(1, 5)]), "epochs-rise");
    let dead = |manifest: &mut PartitionManifest| {
        manifest.dead.push(DeadObject {
            base_offset: Offset(0),
            leader_epoch: None,
            attempt: AttemptId([1; 16]),
            object_bytes: 0,
            dead_since_ms: 0,
        });
    };
    assert_eq!(broken(&dead), "dead-is-not-live");
}

/// A step of a random life of a partition; numbers are taken modulo what fits.
#[derive(Clone, Debug)]
enum Life {
    Add(u8),
    Gap(u8),
    Start(u8),
    Die,
    Forget,
    Spill(u8),
    Quarantine(u8),
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        6 => (1..20u8).prop_map(Life::Add),
        1 => (1..20u8).prop_map(Life::Gap),
        2 => any::<u8>().prop_map(Life::Start),
        3 => Just(Life::Die),
        1 => Just(Life::Forget),
        2 => (1..4u8).prop_map(Life::Spill),
        1 => any::<u8>().prop_map(Life::Quarantine),
    ]
}

/// The edits that a step makes in a state, as the engine would make them.
fn edits_of(
    step: &Life,
    manifest: &PartitionManifest,
    spills: &mut Vec<Vec<SegmentRow>>,
    next: &mut u8,
) -> Vec<PartitionEdit> {
    let end = manifest.end_offset().0;
    match step {
        Life::Add(count) => {
            *next = next.wrapping_add(1);
            vec![add(end, end + i64::from(*count), *next)]
        }
        Life::Gap(count) => {
            let to = Offset(end + i64::from(*count));
            vec![PartitionEdit::DeclareGap(Gap { from: Offset(end), to, reason: GapReason::Deleted })]
        }
        Life::Start(share) => {
            let span = end - manifest.start_offset.0;
            let to = Offset(manifest.start_offset.0 + span * i64::from(*share) / 255);
            vec![PartitionEdit::AdvanceStart { to }]
        }
        Life::Die => match spills.first().cloned() {
            Some(rows) => {
                let due = rows.partition_point(|row| row.next_offset <= manifest.start_offset);
                let next_base = rows.get(due).map(|row| row.base_offset);
                if due == 0 {
                    return vec![];
                }
                match next_base {
                    Some(_) => drop(spills[0].drain(..due)),
                    None => drop(spills.remove(0)),
                }
                vec![PartitionEdit::MarkSpilledDead { rows: rows[..due].to_vec(), next_base, at_ms: 4 }]
            }
            None => {
                let oldest = manifest.segments.first().filter(|row| row.next_offset <= manifest.start_offset);
                oldest
                    .map(|row| PartitionEdit::MarkDead { attempt: row.attempt, at_ms: 4 })
                    .into_iter()
                    .collect()
            }
        },
        Life::Forget => {
            vec![PartitionEdit::DropDead {
                attempts: manifest.dead.iter().take(2).map(|dead| dead.attempt).collect(),
            }]
        }
        Life::Spill(count) => {
            let rows: Vec<_> = manifest.segments.iter().take(usize::from(*count)).copied().collect();
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return vec![] };
            *next = next.wrapping_add(1);
            let file = SpillFile {
                file_base: first.base_offset,
                base_offset: first.base_offset,
                end_offset: last.next_offset,
                rows: rows.len() as u32,
                skipped: 0,
                attempt: AttemptId([*next; 16]),
                object_bytes: rows.iter().map(|row| row.object_bytes).sum(),
                raw_bytes: rows.iter().map(|row| row.raw_bytes).sum(),
                max_timestamp_ms: 0,
                aborted: 0,
            };
            spills.push(rows);
            vec![PartitionEdit::Spill { file }]
        }
        Life::Quarantine(which) => {
            let row = manifest.segments.get(usize::from(*which) % manifest.segments.len().max(1));
            row.map(|row| PartitionEdit::Quarantine { attempt: row.attempt, on: true }).into_iter().collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_life_keeps_the_invariants_and_survives_its_bytes(steps in proptest::collection::vec(life(), 1..120)) {
        let mut manifest = PartitionManifest::empty(log());
        let (mut spills, mut next) = (Vec::new(), 0u8);
        // The model: which offsets are readable, as plain ranges.
        let mut added: Vec<(i64, i64)> = Vec::new();
        for step in &steps {
            let edits = edits_of(step, &manifest, &mut spills, &mut next);
            for edit in &edits {
                if let PartitionEdit::AddSegment { row, .. } = edit {
                    added.push((row.base_offset.0, row.next_offset.0));
                }
                manifest.apply(edit).unwrap();
            }
            manifest.check().unwrap();
            let decoded = PartitionManifest::decode_edits(PartitionManifest::encode_edits(&edits)).unwrap();
            prop_assert_eq!(decoded, edits);
            let again = manifest.decode_state(manifest.encode_state()).unwrap();
            prop_assert_eq!(&again, &manifest);
        }
        let start = manifest.start_offset.0;
        let live: Vec<(i64, i64)> = spills.iter().flatten().chain(&manifest.segments)
            .map(|row| (row.base_offset.0, row.next_offset.0)).collect();
        for (base, end) in added {
            let is_live = live.contains(&(base, end));
            prop_assert!(is_live || end <= start, "offsets {base} to {end} are at or above the start and gone");
        }
        let totals = manifest.live_totals();
        prop_assert_eq!(totals.segments as usize, live.len());
        prop_assert_eq!(totals.raw_bytes as usize, live.len() * 1_000);
    }

    #[test]
    fn hostile_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let bytes = Bytes::from(bytes);
        let _ = PartitionManifest::decode_edits(bytes.clone());
        let _ = PartitionManifest::empty(log()).decode_state(bytes.clone());
        let _ = ClusterManifest::decode_edits(bytes.clone());
        let _ = Record::decode(bytes, "folder");
    }
}

async fn register(store: &Arc<dyn Store>, writer_epoch: u64, seed: u64) -> Register<PartitionManifest> {
    let empty = PartitionManifest::empty(log());
    let folder = keys::manifest_folder(&log());
    let mut register = Register::open(store.clone(), folder, empty, seams(seed).0).await.unwrap();
    register.set_writer_epoch(writer_epoch);
    register
}

fn append(base: i64) -> impl FnMut(&PartitionManifest) -> Result<Vec<PartitionEdit>, Violation> {
    move |_| Ok(vec![add(base, base + 10, base as u8)])
}

fn next(manifest: &PartitionManifest) -> Vec<PartitionEdit> {
    let end = manifest.end_offset().0;
    vec![PartitionEdit::DeclareGap(Gap { from: Offset(end), to: Offset(end + 1), reason: GapReason::Hole })]
}

#[tokio::test]
async fn a_writer_that_was_replaced_stops_and_one_that_came_first_counts() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut old = register(&store, 1, 1).await;
    old.commit(append(0)).await.unwrap();
    let mut new = register(&store, 2, 2).await;
    // Not yet fenced: its record is in the sequence before the new writer's first, so it counts.
    old.commit(append(10)).await.unwrap();
    let seen = new.commit(|manifest| Ok(next(manifest))).await.unwrap();
    assert_eq!(seen.segments.len(), 2);
    let fenced = old.commit(|manifest| Ok(next(manifest))).await.unwrap_err();
    assert!(matches!(fenced, CommitError::Fenced { by: Some(2) }), "{fenced}");
    let again = old.commit(|manifest| Ok(next(manifest))).await.unwrap_err();
    assert!(matches!(again, CommitError::Fenced { .. }));
}

#[tokio::test]
async fn old_slots_close_and_a_sleeper_cannot_create_in_them() {
    let memory = MemoryStore::default();
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    let mut sleeper = register(&store, 1, 1).await;
    sleeper.commit(|manifest| Ok(next(manifest))).await.unwrap();
    let mut awake = register(&store, 2, 2).await;
    for _ in 0..4 * SLOT_RECORDS {
        awake.commit(|manifest| Ok(next(manifest))).await.unwrap();
    }
    let folder = keys::manifest_folder(&log());
    let records = memory.keys().iter().filter(|key| key.contains("/records/")).count() as u64;
    assert!(records <= 3 * SLOT_RECORDS, "{records} records are kept");
    assert!(
        !memory.keys().contains(&keys::record(&folder, 1).to_string()),
        "the sleeper's next sequence is free"
    );
    let fenced = sleeper.commit(|manifest| Ok(next(manifest))).await.unwrap_err();
    assert!(matches!(fenced, CommitError::Fenced { by: None }), "{fenced}");
    // Its void record changes nothing for anybody, even for a reader whose listing shows nothing else.
    let expected = awake.state().clone();
    assert_eq!(register(&store, 3, 3).await.state(), &expected);
    let lying: Arc<dyn Store> =
        Arc::new(FaultyStore::new(store.clone(), |_, operation, _| match operation {
            Operation::List => Fault::Lie,
            _ => Fault::None,
        }));
    assert_eq!(register(&lying, 3, 4).await.state(), &expected);
}

#[tokio::test]
async fn lost_answers_neither_lose_nor_double_an_edit() {
    for lost in 0..40u64 {
        for fault in [Fault::FailBefore, Fault::FailAfter] {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
            let faulty: Arc<dyn Store> =
                Arc::new(FaultyStore::new(
                    store.clone(),
                    move |call, _, _| if call == lost { fault } else { Fault::None },
                ));
            let mut writer = register(&faulty, 1, lost).await;
            for base in 0..6 {
                writer.commit(append(base * 10)).await.unwrap();
            }
            let seen = register(&store, 2, 99).await;
            assert_eq!(seen.state(), writer.state(), "call {lost}, {fault:?}");
            assert_eq!(seen.state().segments.len(), 6);
        }
    }
}

#[tokio::test]
async fn damaged_missing_and_swapped_records_are_named() {
    let memory = MemoryStore::default();
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    let mut writer = register(&store, 1, 1).await;
    for base in 0..5 {
        writer.commit(append(base * 10)).await.unwrap();
    }
    let folder = keys::manifest_folder(&log());
    let open = async |change: &dyn Fn(&mut std::collections::BTreeMap<String, Bytes>)| {
        let copy = MemoryStore::default();
        copy.with(|objects| {
            *objects = memory.with(|objects| objects.clone());
            change(objects);
        });
        let empty = PartitionManifest::empty(log());
        let opened = Register::open(Arc::new(copy), folder.clone(), empty, seams(5).0).await;
        opened.map(|_| ()).unwrap_err().to_string()
    };
    let key = |sequence| keys::record(&folder, sequence).to_string();
    let flip = |objects: &mut std::collections::BTreeMap<String, Bytes>| {
        let mut bytes = BytesMut::from(&objects[&key(2)][..]);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        objects.insert(key(2), bytes.freeze());
    };
    assert!(open(&flip).await.contains("checksum"));
    assert!(open(&|objects| drop(objects.remove(&key(2)))).await.contains("missing"));
    assert!(
        open(&|objects| drop(objects.insert(key(2), objects[&key(3)].clone()))).await.contains("belongs to")
    );
    assert!(
        open(&|objects| drop(objects.insert(key(2), Bytes::from_static(b"{}"))))
            .await
            .contains("not a manifest")
    );
}

fn cluster_record(sequence: u64, body: Bytes) -> (String, Record) {
    let folder = keys::cluster_folder("west-id");
    let record = Record {
        kind: if sequence.is_multiple_of(SLOT_RECORDS) { RecordKind::Base } else { RecordKind::Delta },
        folder: folder.clone(),
        sequence,
        writer_epoch: 1,
        attempt: AttemptId([sequence as u8; 16]),
        written_at_ms: 5,
        body,
        slimmed_from: None,
    };
    (keys::record(&folder, sequence).to_string(), record)
}

/// What 32 groups with a hundred notes of control characters each made of the manifest before there was a limit.
fn many_notes() -> NotedGroups {
    let offset = |partition: i32| GroupOffset {
        topic_id: TopicId([7; 16]),
        partition,
        offset: 1,
        leader_epoch: -1,
        metadata: "\u{1}".repeat(4_000),
    };
    let group = |number: i32| (format!("group-{number}"), (0..100).map(offset).collect());
    NotedGroups { taken_at_ms: 5, groups: (0..32).map(group).collect(), parts: Vec::new() }
}

fn flights() -> TopicRecord {
    TopicRecord {
        topic_id: TopicId([7; 16]),
        name: "flights".into(),
        partitions: 6,
        configs: Default::default(),
        deleted_at_ms: None,
    }
}

#[test]
fn what_nobody_could_read_back_is_not_encoded() {
    let body = Bytes::from(vec![0; MANIFEST_RECORD_LIMIT_BYTES + 1]);
    let (_, record) = cluster_record(1, body.clone());
    assert!(matches!(record.encode(), Err(RecordError::TooLarge { .. })), "although it packs well");
    let largest = Record { body: body.slice(1..), ..record };
    let folder = largest.folder.clone();
    assert_eq!(Record::decode(largest.encode().unwrap(), &folder), Ok(largest));
}

/// A bucket that an older program made unreadable by what clients committed comes back, but for those group offsets.
#[tokio::test]
async fn a_record_that_was_written_too_large_is_read_but_for_its_group_offsets() {
    let claim = ClusterEdit::Claim { writer_epoch: 1, recovery_generation: 0, cluster_name: "west".into() };
    let ids = ClusterEdit::ProducerIds { next: 1_000, at_ms: 6 };
    let whole = ClusterManifest {
        cluster_name: "west".into(),
        writer_epoch: 1,
        topics: [(TopicId([7; 16]).to_string(), flights())].into(),
        next_producer_id: 1_000,
        producer_ids_at_ms: 6,
        groups: Some(many_notes()),
        ..ClusterManifest::default()
    };
    let in_delta = [
        cluster_record(0, ClusterManifest::default().encode_state()),
        cluster_record(1, ClusterManifest::encode_edits(&[claim, ClusterEdit::PutTopic(flights())])),
        cluster_record(2, ClusterManifest::encode_edits(&[ids, ClusterEdit::Groups(many_notes())])),
    ];
    let in_base = [cluster_record(0, whole.encode_state())];
    for records in [&in_delta[..], &in_base[..]] {
        let memory = MemoryStore::default();
        let last = &records.last().unwrap().1;
        assert!(last.body.len() > MANIFEST_RECORD_LIMIT_BYTES && last.encode().is_err());
        memory.with(|objects| {
            objects.extend(records.iter().map(|(key, record)| (key.clone(), record.pack())));
        });
        let store: Arc<dyn Store> = Arc::new(memory);
        let (folder, seams) = (keys::cluster_folder("west-id"), seams(1).0);
        let register = Register::open(store, folder, ClusterManifest::default(), seams).await;
        let mut register = register.unwrap();
        let expected = ClusterManifest { groups: None, ..whole.clone() };
        assert_eq!(**register.state(), expected);
        assert!(register.notes()[0].contains("group offsets"), "{:?}", register.notes());
        // And the manifest goes on.
        register.set_writer_epoch(1);
        let next = |_: &ClusterManifest| Ok(vec![ClusterEdit::ProducerIds { next: 2_000, at_ms: 7 }]);
        assert_eq!(register.commit(next).await.unwrap().next_producer_id, 2_000);
    }
}

/// Group offsets that are too many for the next base are left out of it, not the base.
#[tokio::test]
async fn a_base_goes_without_group_offsets_rather_than_be_unreadable() {
    let memory = MemoryStore::default();
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    let folder = keys::cluster_folder("west-id");
    let open = async || {
        let register =
            Register::open(store.clone(), folder.clone(), ClusterManifest::default(), seams(1).0).await;
        let mut register = register.unwrap();
        register.set_writer_epoch(1);
        register
    };
    let mut register = open().await;
    let wishes = vec![ClusterEdit::PutTopic(flights()), ClusterEdit::Groups(many_notes())];
    let state = register.commit(|_| Ok(wishes.clone())).await.unwrap();
    assert_eq!((state.topics.len(), state.groups.is_some()), (1, false));
    assert!(register.notes()[0].contains("no room"), "{:?}", register.notes());
    assert_eq!(open().await.state(), register.state());
    // In a delta it is refused, by name, and nothing is written.
    let refused = register.commit(|_| Ok(wishes.clone())).await.unwrap_err();
    assert!(matches!(refused, CommitError::Manifest(ManifestError::TooLarge { .. })), "{refused}");
    assert_eq!(open().await.state(), register.state());
}

fn golden_record(kind: RecordKind, body: Bytes) -> Bytes {
    let record = Record {
        kind,
        folder: keys::manifest_folder(&log()),
        sequence: 256,
        writer_epoch: 4,
        attempt: AttemptId([9; 16]),
        written_at_ms: 1_700_000_000_000,
        body,
        slimmed_from: None,
    };
    record.encode().unwrap()
}

/// Version 1, frozen: records written by the first program are read by every later one.
#[test]
fn golden_records_are_read_and_written_the_same() {
    let life = manifest(&[
        PartitionEdit::AddSegment {
            row: row(0, 10, 1),
            epochs: vec![EpochStart { epoch: LeaderEpoch(3), start_offset: Offset(0) }],
        },
        PartitionEdit::DeclareGap(Gap { from: Offset(10), to: Offset(12), reason: GapReason::Recovered }),
    ]);
    let edits = vec![add(12, 20, 2), PartitionEdit::AdvanceStart { to: Offset(5) }];
    let base = Bytes::from_static(include_bytes!("golden/partition-base-v1.record"));
    let delta = Bytes::from_static(include_bytes!("golden/partition-delta-v1.record"));
    let folder = keys::manifest_folder(&log());
    let record = Record::decode(base.clone(), &folder).unwrap();
    assert_eq!(life.decode_state(record.body).unwrap(), life);
    assert_eq!(golden_record(RecordKind::Base, life.encode_state()), base);
    let record = Record::decode(delta.clone(), &folder).unwrap();
    assert_eq!(PartitionManifest::decode_edits(record.body).unwrap(), edits);
    assert_eq!(golden_record(RecordKind::Delta, PartitionManifest::encode_edits(&edits)), delta);
    let cluster = Bytes::from_static(include_bytes!("golden/cluster-edits-v1.json"));
    let edits = ClusterManifest::decode_edits(cluster.clone()).unwrap();
    assert_eq!(ClusterManifest::encode_edits(&edits), cluster);
}
