//! The hot log as this crate sees it: sealed segments to take, a floor to respect, a log start to move.
//!
//! Owns: the trait and its plain data. Does not own: any file; what `release` deletes and when is the hot log's business.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use wire::ids::{LeaderEpoch, Offset};

use crate::manifest::Committed;

/// One sealed segment on local disk.
#[derive(Clone, Debug)]
pub struct LocalSegment {
    /// First offset of the segment.
    pub base_offset: Offset,
    /// One past its last offset: where the next segment starts.
    pub next_offset: Offset,
    /// Leader epoch of its last batch.
    pub leader_epoch: LeaderEpoch,
    /// Size of its batches in bytes.
    pub size_bytes: u64,
    /// Its bytes.
    pub content: Arc<dyn SegmentContent>,
}

/// Where a sealed segment is, as far as it is known without opening it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedRange {
    /// First offset of the segment.
    pub base_offset: Offset,
    /// Where the next segment starts: its own end lies before that where there is a hole between them.
    pub next_offset: Offset,
    /// Size of its batches in bytes.
    pub size_bytes: u64,
}

/// The bytes of a sealed segment. They never change; reading blocks, so it happens on threads that may.
pub trait SegmentContent: Send + Sync + fmt::Debug {
    /// Fills `buffer` from `position`; fewer bytes than wanted is an error.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> std::io::Result<()>;
    /// The sealed sidecar, verbatim.
    fn sidecar(&self) -> std::io::Result<Bytes>;
}

/// One partition of the hot log. A log is let go of segment by segment, each of which was found to be, byte for byte, what
/// the manifest names: never by offset alone, since a log may have been brought back from a copy and gone on by itself.
pub trait LocalLog: Send + Sync + fmt::Debug {
    /// Sealed segments that are durable (below the hot log's cut), oldest first, from the one that holds `from` on. None of
    /// them is opened: it is asked at every tick, and of a store that is away long there are more than may be open.
    /// Blocks on the disk.
    fn sealed_ranges(&self, from: Offset) -> std::io::Result<Vec<SealedRange>>;
    /// The first of these that ends behind `from` by its own account. A log on disk opens no other file for it, since who
    /// reads a long log goes segment by segment. Blocks on the disk.
    fn first_sealed_segment(&self, from: Offset) -> std::io::Result<Option<LocalSegment>>;
    /// One past the last offset of the part that is sealed and durable. What no sealed segment has of it is missing on disk.
    fn sealed_end(&self) -> Offset;
    /// Nothing at or above this offset is archived.
    fn last_stable_offset(&self) -> Offset;
    /// The first offset that readers may ask for.
    fn log_start(&self) -> Offset;
    /// The first offset whose bytes are on local disk: what is between the log start and here was let go of.
    fn local_log_start(&self) -> Offset;
    /// One past the last offset.
    fn log_end(&self) -> Offset;
    /// Bytes held on local disk.
    fn local_bytes(&self) -> u64;
    /// Below which offset segments would go at once if all below `below` were in the store for good. Blocks on the disk.
    fn release_wanted(&self, below: Offset) -> std::io::Result<Offset>;
    /// Tells the log that a segment is in the store for good; its local copy may go when local retention says so.
    fn release(&self, committed: Committed);
    /// Tells the log that the store has other records than it, or more, and why; or that it is not so, or not any more.
    /// For as long as it is, the log takes no records and lets go of nothing.
    fn disagree(&self, why: Option<String>);
    /// Moves the log start up, durably, before the future resolves.
    fn advance_log_start(&self, to: Offset) -> BoxFuture<'static, std::io::Result<()>>;
}
