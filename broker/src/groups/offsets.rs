//! The committed offsets of one group, and which of them have expired.
//!
//! Owns: the newest committed value per partition, in the order of the log, and what all of them take in memory.
//! Does not own: the group's phase, nor the records' bytes.

use std::collections::BTreeMap;

use super::OFFSETS_RETENTION_MS;
use super::records::OffsetValue;

/// What an offset takes besides the topic's name and the note: its numbers, and its place among the others.
const OFFSET_BYTES: usize = 200;

/// Topic name and partition.
pub(crate) type OffsetKey = (String, i32);

#[derive(Clone, Debug)]
struct Entry {
    value: OffsetValue,
    /// Where in the offsets partition the record stands: a commit that was answered later must not undo a newer one.
    log_offset: i64,
}

/// The committed offsets of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupOffsets {
    entries: BTreeMap<OffsetKey, Entry>,
    /// What the entries take in memory, counted as they come and go: a group may have a hundred thousand.
    held_bytes: usize,
}

/// What offsets that are not applied yet would add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Offsets for partitions that have none.
    pub(crate) offsets: usize,
    /// Bytes, those in place of which others go not counted.
    pub(crate) bytes: usize,
}

fn bytes_of((topic, _): &OffsetKey, value: &OffsetValue) -> usize {
    OFFSET_BYTES + topic.len() + value.metadata.len()
}

impl GroupOffsets {
    /// Whether nothing is committed.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many partitions have an offset.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What the offsets take in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What these would add. One that is smaller than the one in its place makes no room for the others.
    pub(crate) fn growth<'a>(
        &self,
        offsets: impl Iterator<Item = (&'a OffsetKey, &'a OffsetValue)>,
    ) -> Growth {
        let mut growth = Growth::default();
        for (key, value) in offsets {
            let before = self.entries.get(key).map(|entry| bytes_of(key, &entry.value));
            growth.offsets += usize::from(before.is_none());
            growth.bytes += bytes_of(key, value).saturating_sub(before.unwrap_or(0));
        }
        growth
    }

    /// The offset committed for a partition.
    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.entries.get(&(topic.to_owned(), partition)).map(|entry| &entry.value)
    }

    /// All offsets, by topic and partition.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OffsetKey, &OffsetValue)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    /// Takes a committed record, unless a later one is known.
    pub(crate) fn apply(&mut self, key: OffsetKey, value: OffsetValue, log_offset: i64) {
        let earlier = self.entries.get(&key);
        if earlier.is_some_and(|earlier| earlier.log_offset > log_offset) {
            return;
        }
        let earlier_bytes = earlier.map_or(0, |earlier| bytes_of(&key, &earlier.value));
        self.held_bytes = self.held_bytes - earlier_bytes + bytes_of(&key, &value);
        self.entries.insert(key, Entry { value, log_offset });
    }

    /// Forgets a partition's offset.
    pub(crate) fn remove(&mut self, key: &OffsetKey) {
        if let Some(gone) = self.entries.remove(key) {
            self.held_bytes -= bytes_of(key, &gone.value);
        }
    }

    /// The partitions whose offsets have expired. A group that was one (`protocol_type` known) counts from the time
    /// it became empty, or from a later commit; offsets kept without a group count from their commit.
    pub(crate) fn expired(&self, empty_since_ms: Option<i64>, now_ms: i64) -> Vec<OffsetKey> {
        let is_expired = |value: &OffsetValue| match value.expire_timestamp {
            Some(expires_at_ms) => expires_at_ms <= now_ms,
            None => {
                let counted_from_ms = empty_since_ms.unwrap_or(i64::MIN).max(value.commit_timestamp);
                now_ms.saturating_sub(counted_from_ms) >= OFFSETS_RETENTION_MS
            }
        };
        self.entries
            .iter()
            .filter(|(_, entry)| is_expired(&entry.value))
            .map(|(key, _)| key.clone())
            .collect()
    }
}
