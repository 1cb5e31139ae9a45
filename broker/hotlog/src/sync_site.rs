//! Every place where the log makes something durable, by name.
//!
//! Owns: the list. Does not own: the calls; each names its site to [`Disk`](crate::disk::Disk), which a real disk
//! ignores. The crash-point tests take the sites away one by one, and two by two out of order, and must notice each:
//! a sync that nothing needs costs a disk round trip, and one that no test misses may be gone tomorrow.

macro_rules! sites {
    ($( $(#[$meta:meta])* $name:ident, )+) => {
        /// One place in the log's code that makes something durable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum SyncSite { $( $(#[$meta])* $name, )+ }

        impl SyncSite {
            /// All sites.
            pub const ALL: &'static [SyncSite] = &[$( SyncSite::$name, )+];
        }
    };
}

sites! {
    /// The names of the log's and the journal's own folders.
    DirectoryName,
    /// The journal's zeros and length, when the ring is made.
    JournalMade,
    /// The journal's name, when the ring is made.
    JournalMadeName,
    /// A commit in flush mode `ack`.
    JournalCommit,
    /// A commit that is synced in flush mode `os` as well: metadata, starts, log-start moves, deletions.
    JournalCommitSynced,
    /// The ring, before recovery reads it past the cache.
    RecoveryRing,
    /// The start number that recovery makes durable before it serves.
    RecoveryStart,
    /// A record appended to the checkpoint file.
    CheckpointAppended,
    /// The checkpoint's replacement, before it takes the name.
    CheckpointReplacement,
    /// The checkpoint's name, when the file is made or replaced.
    CheckpointName,
    /// A segment's bytes, before a checkpoint's cut counts them as written.
    SegmentBytes,
    /// The name of a new segment, or of its folder.
    SegmentName,
    /// A sealed segment's last block and length.
    SegmentSealed,
    /// A sidecar's bytes, before it takes its name.
    SidecarBytes,
    /// A sidecar's name.
    SidecarName,
}
