//! The limits of the log, each with its unit and its reason; those of one format stand beside it.
//!
//! Does not own: what one log is opened with instead of a default (`options`), nor what happens at a bound.

/// The unit of journal commits and segment writes where the device asks for less.
pub const BLOCK_BYTES: u32 = 4096;
/// The journal's size where nothing else is asked for.
pub const JOURNAL_BYTES_DEFAULT: u64 = 64 << 20;
/// The smallest journal: below it a batch of a few KiB would already be refused.
pub const JOURNAL_BYTES_MIN: u64 = 256 << 10;
/// One batch may take this share of the journal at most, so that a few requests always fit beside each other.
pub const BATCH_SHARE_OF_JOURNAL: u64 = 8;
/// The journal's oldest batch reaches a checkpoint after this time where nothing else is asked for.
pub const CHECKPOINT_INTERVAL_MS_DEFAULT: i64 = 60_000;
/// While the archiver waits for sealed segments to get below the cut, the journal's oldest batch gets no older than this.
pub const CHECKPOINT_INTERVAL_FOR_ARCHIVER_MS: i64 = 1_000;
/// Emptied commit records kept for the next commits.
pub const SPARE_COMMITS: usize = 4;
/// In flush mode `os`, how many commits a request's thread makes before it leaves the next to one of those who wait for it.
pub const COMMITS_PER_REQUEST: usize = 8;
/// The largest journal: positions within a commit fit 32 bits.
pub const JOURNAL_BYTES_MAX: u64 = 1 << 30;
/// A checkpoint begins when this share of the journal (its reciprocal) is in use.
pub const CHECKPOINT_SHARE_OF_JOURNAL: u64 = 2;
/// How often a commit looks whether the last copies are done before it lets other threads run.
pub const SPINS_BEFORE_YIELD: u32 = 200;
/// A checkpoint file shorter than this is not replaced, however often it doubles.
pub const CHECKPOINT_REPLACE_BYTES_MIN: u64 = 256 << 10;
/// Frames gathered before they are written to the checkpoint file.
pub const CHECKPOINT_BUFFER_BYTES: usize = 1 << 20;
/// A segment that finds no space takes multiples of this from the reserve.
pub const LENT_BYTES_UNIT: u64 = 64 << 10;
/// Committed bytes of one partition that the segment writer does not wait for a checkpoint with.
pub const SEGMENT_WRITE_BYTES: u32 = 1 << 20;
/// In a small journal, one partition's share of it (the reciprocal) that the segment writer does not wait with.
pub const SEGMENT_WRITE_SHARE_OF_JOURNAL: u64 = 32;
/// Fewer bytes than these a checkpoint keeps in its own file rather than write them to a segment's: with thousands of partitions that
/// change a little, one large sequential write takes the place of thousands of small ones, each with its own sync.
pub const SEGMENT_WRITE_BYTES_MIN: u32 = 16 << 10;
/// A checkpoint that wrote more segments than this syncs the file system once instead of each file.
pub const SEGMENT_SYNCS_ONE_BY_ONE: usize = 64;
/// The journal's file is made in pieces of this size. The kernel caches it in units as large as the write that first touched them, and
/// writing a commit costs a walk over every block of each unit that it touches.
pub const JOURNAL_MAKE_BYTES: usize = 64 << 10;
/// The buffer of the segment writer: its largest single write. One huge page, so that a write is one piece to the device.
pub const SEGMENT_BUFFER_BYTES: usize = 2 << 20;
/// Disk space is taken for a segment this far ahead at most.
pub const SEGMENT_AHEAD_BYTES: u64 = 16 << 20;
/// Segments that the writer keeps open.
pub const OPEN_SEGMENT_WRITERS: usize = 256;
/// Segments that readers keep open, over all partitions.
pub const OPEN_SEGMENT_READERS: usize = 512;
/// Sealed segments whose sidecar readers keep in memory.
pub const CACHED_SIDECARS: usize = 64;
/// Bytes of a segment that one step of a search for a batch border reads.
pub const BORDER_SEARCH_BYTES: usize = 16 << 10;
/// Partitions whose state a checkpoint gathers before it writes their segments.
pub const CHECKPOINT_GROUP: usize = 1024;
/// How long a worker sleeps when nobody wakes it.
pub const WORKER_WAIT_MS: u64 = 500;
/// The largest block that a device may ask for.
pub const BLOCK_BYTES_MAX: u32 = 64 << 10;
