//! Segment files and sidecars that readers keep open, bounded over all partitions.
//!
//! Owns: the handles and decoded sidecars, and which go first. Does not own: what a reader does with them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use wire::ids::Offset;

use crate::disk::DiskFile;
use crate::health::lock;
use crate::limits;
use crate::partition::PartitionId;
use crate::sidecar::Sidecar;

type Key = (PartitionId, Offset);

/// What is kept open for reading.
#[derive(Debug, Default)]
pub(crate) struct SegmentCache {
    files: Mutex<Recent<Key, Arc<dyn DiskFile>>>,
    sidecars: Mutex<Recent<Key, Arc<Sidecar>>>,
}

impl SegmentCache {
    pub(crate) fn file(&self, key: Key) -> Option<Arc<dyn DiskFile>> {
        lock(&self.files).get(&key)
    }

    pub(crate) fn keep_file(&self, key: Key, file: Arc<dyn DiskFile>) {
        lock(&self.files).put(key, file, limits::OPEN_SEGMENT_READERS);
    }

    pub(crate) fn sidecar(&self, key: Key) -> Option<Arc<Sidecar>> {
        lock(&self.sidecars).get(&key)
    }

    pub(crate) fn keep_sidecar(&self, key: Key, sidecar: Arc<Sidecar>) {
        lock(&self.sidecars).put(key, sidecar, limits::CACHED_SIDECARS);
    }

    /// Forgets a segment whose file is going away or will be written anew.
    pub(crate) fn forget(&self, key: Key) {
        lock(&self.files).values.remove(&key);
        lock(&self.sidecars).values.remove(&key);
    }

    /// Forgets a partition.
    pub(crate) fn forget_partition(&self, partition: PartitionId) {
        lock(&self.files).values.retain(|key, _| key.0 != partition);
        lock(&self.sidecars).values.retain(|key, _| key.0 != partition);
    }
}

/// A few values; the one used longest ago goes first.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    values: HashMap<K, (u64, V)>,
    uses: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), uses: 0 }
    }
}

impl<K: Hash + Eq + Copy, V: Clone> Recent<K, V> {
    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        self.uses += 1;
        let (used, value) = self.values.get_mut(key)?;
        *used = self.uses;
        Some(value.clone())
    }

    pub(crate) fn put(&mut self, key: K, value: V, limit: usize) {
        self.uses += 1;
        if self.values.len() >= limit && !self.values.contains_key(&key) {
            // A scan of a few hundred, once per opened file.
            let oldest = self.values.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.map(|oldest| self.values.remove(&oldest));
        }
        self.values.insert(key, (self.uses, value));
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.values.remove(key);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.values.retain(|key, _| keep(key));
    }
}
