//! The map topic: everything that a flow must still know after it stopped, in one compacted topic on its target.
//!
//! Owns: the keys and values of its records (`FORMAT-MAP-TOPIC.md`), the ledger that a reader folds them to, and how much
//! of it a reader keeps.
//! Does not own: reading and writing the topic (`flow::map_log`), what the facts mean (`copier`, `recovery`,
//! `offset_map`).
//!
//! Keys carry the owner's generation wherever a replaced owner could still write, so that its late records can
//! neither hide nor compact away those of the owner that followed; readers take the newest generation.

mod key;
mod ledger;
mod scope;
#[cfg(test)]
mod tests;
mod value;

pub use key::{Key, KeyError, PartitionKey};
pub use ledger::{Ledger, PartitionLedger};
pub use scope::Scope;
pub use value::{
    BatchIntent, Binding, Claim, GroupPartition, GroupSync, Progress, Promotion, RegisteredProducer,
    SyncPass, ValueError,
};

/// Name of the topic on the target.
pub const MAP_TOPIC: &str = "__longhaul_mirror";

/// One record to write; a value of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapRecord {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
}

impl MapRecord {
    /// A record that sets `key`.
    #[must_use]
    pub fn set(key: &Key, value: Vec<u8>) -> Self {
        Self { key: key.to_string().into_bytes(), value: Some(value) }
    }

    /// A record that forgets `key`.
    #[must_use]
    pub fn forget(key: &Key) -> Self {
        Self { key: key.to_string().into_bytes(), value: None }
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}
