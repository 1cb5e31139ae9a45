//! Sealed segments as objects: store, object, manifest, archiver, replay, retention, recovery.
//!
//! Owns: everything below a store's prefix, and the word that a segment is safe there.
//! Does not own: a segment's own bytes and what stays on local disk (`hotlog`), topics' settings and answers to
//! clients (`broker`).
//!
//! *What is in the bucket.* One immutable object per sealed segment (`FORMAT-OBJECT.md`), one manifest per partition and
//! one for the cluster (`FORMAT-MANIFEST.md`), one mark that says whose prefix it is. `keys` lists the names.
//!
//! *Consistency.* An object that no manifest names is invisible. The create of a manifest record is the only moment that
//! counts, and it is refused to whoever was replaced. Nothing is ever overwritten.
//!
//! *Retries and cancellation.* Every operation has few tries with jittered pauses and a watchdog on progress; a partition
//! that fails is tried again for ever, ever slower, and shows why. Dropping any future of this crate is safe: what it was
//! doing is found again, or was never visible.
//!
//! *Crashes.* After a crash anywhere the next start loads the manifest, adopts a whole object that was not committed yet,
//! and goes on. What leaks: objects whose commit never came. They are never read.
//!
//! *Isolation.* All work runs on a runtime of its own. A store that is slow, wrong or gone stops no local write: reads of
//! tiered offsets fail with a reason, local copies stay, and the age of the oldest unprotected byte grows.

pub mod admin;
mod archiver;
mod bytes_reader;
pub mod cluster_record;
mod engine;
mod keys;
pub mod limits;
pub mod local;
pub mod manifest;
pub mod object;
mod owner_mark;
pub mod recover;
mod replay;
mod retention;
mod seams;
pub mod store;
#[cfg(test)]
mod test_support;
mod tier;
mod timers;
mod whole_object;

pub use archiver::Blocked;
pub use engine::{PartitionStatus, TierMetrics, TierState, TierStatus};
pub use hotlog::PartitionId;
pub use owner_mark::{Owner, OwnerError, read_owner};
pub use retention::RetentionAlarm;
pub use seams::{AttemptId, Seams};
pub use tier::{
    AbortedTransaction, ColdRead, OpenTierError, PartitionPolicy, ReadError, RemoteRange, Tier, TierOptions,
    TimestampOffset,
};
