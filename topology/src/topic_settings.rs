//! What a topic may be set to, as those say who will hold it.
//!
//! Owns: the question. Does not own: the answer; the table of settings is the broker's, which this crate stands before.

use std::collections::BTreeMap;

/// Who knows the settings of topics.
pub trait TopicSettings {
    /// Every setting's name.
    fn names(&self) -> Vec<&'static str>;

    /// Checks the value of a setting that is known by name.
    ///
    /// # Errors
    /// What the value must be.
    fn check(&self, name: &str, value: &str) -> Result<(), String>;

    /// Checks whether settings that are right each by itself go together, on a cluster with or without a store.
    ///
    /// # Errors
    /// What contradicts what.
    fn check_together(&self, settings: &BTreeMap<String, String>, has_store: bool) -> Result<(), String>;
}
