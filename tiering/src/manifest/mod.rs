//! Manifests: what is in the bucket, and since when (`FORMAT-MANIFEST.md`).
//!
//! A manifest is a sequence of immutable records, each created only where its sequence is free. That create is the one
//! moment that counts: an object that no record names is invisible, however complete it is.
//!
//! Owns: records and their bytes, the register that appends them, the states they add up to, the named invariants.
//! Does not own: uploads, reads, when to delete. Edits and checks are pure; only `register` and `sequence` do I/O.

mod cluster;
mod groups;
mod invariants;
mod partition;
mod partition_bytes;
mod record;
mod register;
mod sequence;
mod slim;
mod spill;

pub use hotlog::Committed;

pub use cluster::{ClusterEdit, ClusterManifest};
pub use groups::NotedGroups;
pub(crate) use groups::{is_small, load_groups, write_groups};
pub use invariants::Violation;
pub use partition::{
    DeadObject, Gap, GapReason, LiveTotals, PartitionEdit, PartitionManifest, SegmentRow, SpillFile,
};
pub use register::ManifestError;
pub(crate) use register::{CommitError, Register};
pub(crate) use spill::{SpillCache, load_spilled, write_spilled};

#[cfg(test)]
mod tests;
