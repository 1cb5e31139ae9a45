//! Snapshots of group offsets: small ones stand in the cluster manifest, larger ones in files that it names.
//!
//! Owns: where a snapshot stands, its cut into pieces, writing and reading the files. Does not own: when a snapshot is
//! taken (the broker does), when files that no record names any more are deleted (`engine::cluster`).
//!
//! What groups hold is bounded by the broker's memory, and JSON makes up to six bytes of one: whatever they hold, each
//! piece is a record that can be read back, and the manifest itself stays small.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::record::{Record, RecordError, RecordKind};
use super::register::ManifestError;
use super::sequence::retried;
use crate::cluster_record::{GroupOffset, GroupSnapshot};
use crate::keys;
use crate::limits::{GROUP_PART_BYTES, INLINE_GROUPS_BYTES, MANIFEST_RECORD_LIMIT_BYTES};
use crate::seams::Seams;
use crate::store::{Settled, Store, StoreError, create_settled};

/// More than an offset has as JSON besides its note: names, punctuation, the longest numbers.
const OFFSET_JSON_BYTES: usize = 192;
/// More than a group has besides its name and its offsets.
const GROUP_JSON_BYTES: usize = 16;

type Groups = BTreeMap<String, Vec<GroupOffset>>;

/// A snapshot of group offsets, as the cluster manifest has it.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotedGroups {
    /// When it was taken.
    pub taken_at_ms: i64,
    /// Per group, what it had committed; empty where that is in files.
    pub groups: BTreeMap<String, Vec<GroupOffset>>,
    /// The files that have it instead, in order, by the writes that made them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
}

/// A piece of a snapshot: groups with some of their offsets. One group may go on in the next piece.
struct Piece<'a>(Vec<(&'a str, &'a [GroupOffset])>);

impl Serialize for Piece<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// What a text has as JSON, its quotes not counted.
fn json_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

/// Cuts groups into pieces of so many bytes at most as JSON; a single offset that has more makes one of its own. Pure.
fn pieces(groups: &Groups, most_bytes: usize) -> Vec<Piece<'_>> {
    let (mut pieces, mut piece, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (group, offsets) in groups {
        let name_bytes = GROUP_JSON_BYTES + json_bytes(group);
        if bytes + name_bytes > most_bytes && !piece.is_empty() {
            pieces.push(Piece(std::mem::take(&mut piece)));
            bytes = 0;
        }
        bytes += name_bytes;
        let mut from = 0;
        for (index, offset) in offsets.iter().enumerate() {
            let size = OFFSET_JSON_BYTES + json_bytes(&offset.metadata);
            if bytes + size > most_bytes && (index > from || !piece.is_empty()) {
                if index > from {
                    piece.push((group.as_str(), &offsets[from..index]));
                }
                pieces.push(Piece(std::mem::take(&mut piece)));
                (from, bytes) = (index, name_bytes);
            }
            bytes += size;
        }
        // A group without offsets stays one.
        piece.push((group.as_str(), &offsets[from..]));
    }
    if !piece.is_empty() {
        pieces.push(Piece(piece));
    }
    pieces
}

/// Whether a snapshot is small enough for the manifest itself.
pub(crate) fn is_small(snapshot: &GroupSnapshot) -> bool {
    pieces(&snapshot.groups, INLINE_GROUPS_BYTES).len() <= 1
}

/// Writes a snapshot to files and names them; they count only once an edit of the manifest does so.
///
/// # Errors
/// Why not all of it is there, with the names of the files that are, or may be.
pub(crate) async fn write_groups(
    store: &dyn Store,
    folder: &str,
    snapshot: &GroupSnapshot,
    seams: &Seams,
) -> Result<Vec<String>, (ManifestError, Vec<String>)> {
    let mut parts = Vec::new();
    for (sequence, piece) in (0..).zip(pieces(&snapshot.groups, GROUP_PART_BYTES)) {
        let attempt = seams.attempt();
        let record = Record {
            kind: RecordKind::Groups,
            folder: folder.to_owned(),
            sequence,
            writer_epoch: 0,
            attempt,
            written_at_ms: seams.now_ms(),
            body: serde_json::to_vec(&piece).expect("groups have text keys only").into(),
            slimmed_from: None,
        };
        let part = attempt.to_string();
        let key = keys::group_part(folder, &part);
        let bytes = match record.encode() {
            Ok(bytes) => bytes,
            Err(error) => {
                let detail = error.to_string();
                return Err((ManifestError::TooLarge { key: key.to_string(), detail }, parts));
            }
        };
        match create_settled(store, &key, &vec![bytes], seams).await {
            Ok(Settled::Ours) => parts.push(part),
            Ok(Settled::Theirs(_)) => {
                let detail = "a random name was taken".into();
                return Err((StoreError::Unavailable { key: key.to_string(), detail }.into(), parts));
            }
            Err(error) => {
                // A write whose answer was lost may be there.
                parts.push(part);
                return Err((error.into(), parts));
            }
        }
    }
    Ok(parts)
}

/// The whole snapshot, wherever it stands.
pub(crate) async fn load_groups(
    store: &dyn Store,
    folder: &str,
    noted: &NotedGroups,
    seams: &Seams,
) -> Result<GroupSnapshot, ManifestError> {
    let mut groups = noted.groups.clone();
    for (sequence, part) in (0..).zip(&noted.parts) {
        if part.len() != 32 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let detail = format!("the cluster manifest names {part:?} as a file of group offsets");
            return Err(ManifestError::Damaged { detail });
        }
        let key = keys::group_part(folder, part);
        let damaged = |source: RecordError| ManifestError::Damaged { detail: format!("{key}: {source}") };
        let bytes = retried(seams, || store.get(&key, MANIFEST_RECORD_LIMIT_BYTES)).await?;
        let record = Record::decode(bytes, folder).map_err(damaged)?;
        let is_it = record.kind == RecordKind::Groups
            && record.sequence == sequence
            && record.attempt.to_string() == *part;
        if !is_it {
            return Err(damaged(RecordError::Swapped(format!("attempt {}", record.attempt))));
        }
        let piece: Groups = serde_json::from_slice(&record.body)
            .map_err(|error| damaged(RecordError::Body(error.to_string())))?;
        for (group, offsets) in piece {
            groups.entry(group).or_default().extend(offsets);
        }
    }
    Ok(GroupSnapshot { taken_at_ms: noted.taken_at_ms, groups })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::ids::TopicId;

    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::test_support::seams;

    const FOLDER: &str = "west-id/cluster";

    /// Notes as anybody may commit them: up to Kafka's 4,096 bytes, of which JSON makes the most.
    fn note() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => Just(String::new()),
            2 => (0..4_096usize).prop_map(|bytes| "\u{1}".repeat(bytes)),
            1 => (0..4_096usize).prop_map(|bytes| "\"\\".repeat(bytes / 2)),
            1 => (0..1_365usize).prop_map(|characters| "\u{20ac}".repeat(characters)),
        ]
    }

    fn offset() -> impl Strategy<Value = GroupOffset> {
        (any::<[u8; 16]>(), any::<i32>(), any::<i64>(), any::<i32>(), note()).prop_map(
            |(topic_id, partition, offset, leader_epoch, metadata)| GroupOffset {
                topic_id: TopicId(topic_id),
                partition,
                offset,
                leader_epoch,
                metadata,
            },
        )
    }

    fn groups() -> impl Strategy<Value = Groups> {
        let name = prop_oneof![
            4 => (0..1_000u32).prop_map(|number| format!("group-{number}")),
            1 => (1..30_000usize).prop_map(|bytes| "\u{2}".repeat(bytes)),
        ];
        proptest::collection::btree_map(name, proptest::collection::vec(offset(), 0..20), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_groups_hold_is_read_back_and_no_piece_is_larger_than_it_may_be(
            groups in groups(),
            most_bytes in prop_oneof![Just(1usize), Just(INLINE_GROUPS_BYTES), Just(GROUP_PART_BYTES), 1..500_000usize],
        ) {
            let mut read = Groups::new();
            for piece in pieces(&groups, most_bytes) {
                let json = serde_json::to_vec(&piece).unwrap();
                let offsets: usize = piece.0.iter().map(|(_, offsets)| offsets.len()).sum();
                let may_be_more = offsets <= 1 && piece.0.len() == 1;
                prop_assert!(json.len() <= most_bytes || may_be_more, "{} of {most_bytes} bytes", json.len());
                for (group, offsets) in serde_json::from_slice::<Groups>(&json).unwrap() {
                    read.entry(group).or_default().extend(offsets);
                }
            }
            prop_assert_eq!(read, groups);
        }

        #[test]
        fn every_file_of_group_offsets_that_is_written_is_read_again(groups in groups()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (memory, seams) = (MemoryStore::default(), seams(1).0);
            let snapshot = GroupSnapshot { taken_at_ms: 7, groups };
            let read = runtime.block_on(async {
                let parts = write_groups(&memory, FOLDER, &snapshot, &seams).await.unwrap();
                let noted = NotedGroups { taken_at_ms: 7, groups: Groups::new(), parts };
                load_groups(&memory, FOLDER, &noted, &seams).await.unwrap()
            });
            prop_assert_eq!(read, snapshot);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_missing_damaged_or_swapped_is_named() {
        let (memory, seams) = (MemoryStore::default(), seams(1).0);
        let offset = GroupOffset {
            topic_id: TopicId([7; 16]),
            partition: 0,
            offset: 1,
            leader_epoch: -1,
            metadata: "\u{1}".repeat(4_000),
        };
        let snapshot = GroupSnapshot { taken_at_ms: 7, groups: [("g".to_owned(), vec![offset; 8])].into() };
        let parts = write_groups(&memory, FOLDER, &snapshot, &seams).await.unwrap();
        assert!(parts.len() > 1, "{parts:?}");
        let refused = async |parts: Vec<String>| {
            let noted = NotedGroups { taken_at_ms: 7, groups: Groups::new(), parts };
            load_groups(&memory, FOLDER, &noted, &seams).await.unwrap_err().to_string()
        };
        let swapped: Vec<String> = parts.iter().rev().cloned().collect();
        assert!(refused(swapped).await.contains("belongs to"));
        assert!(refused(vec!["../x".to_owned()]).await.contains("names \"../x\""));
        let key = keys::group_part(FOLDER, &parts[0]);
        memory.with(|objects| objects.remove(key.as_str()));
        assert!(refused(parts).await.contains(key.as_str()));
    }
}
