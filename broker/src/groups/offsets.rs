//! The committed offsets of one group, and which of them have expired.
//!
//! Owns: the newest committed value per partition, in the order of the log.
//! Does not own: the group's phase, nor the records' bytes.

use std::collections::BTreeMap;

use super::OFFSETS_RETENTION_MS;
use super::records::OffsetValue;

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
        match self.entries.get_mut(&key) {
            Some(entry) if entry.log_offset > log_offset => {}
            Some(entry) => *entry = Entry { value, log_offset },
            None => {
                self.entries.insert(key, Entry { value, log_offset });
            }
        }
    }

    /// Forgets a partition's offset.
    pub(crate) fn remove(&mut self, key: &OffsetKey) {
        self.entries.remove(key);
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
