//! The bounds that an operator would ask for, by name; those of one module stand in it. A queue, buffer, cache or retry without a named
//! bound is a defect.
//!
//! Does not own: what is set per topic (`broker::topic_config`) or per process (`TierOptions`), nor what happens at
//! a bound.

use std::time::Duration;

/// A block is cut before it would exceed this many raw bytes (one larger batch makes a block of its own).
pub const BLOCK_TARGET_BYTES: usize = 1 << 20;
/// A block is not cut below this many raw bytes while the segment has more batches.
pub const BLOCK_FLOOR_BYTES: usize = 256 << 10;
/// No block, and so no batch, is larger than this: an object that says otherwise is damaged or hostile.
pub const BLOCK_LIMIT_BYTES: usize = 64 << 20;
/// A footer above this size is refused before it is fetched.
pub const FOOTER_LIMIT_BYTES: usize = 64 << 20;
/// A sidecar above this size is refused by the packer.
pub const SIDECAR_LIMIT_BYTES: usize = 48 << 20;
/// A block stays raw unless compression gains at least one part in this many (20: 5 %).
pub const COMPRESSION_GAIN_DIVISOR: usize = 20;
/// The zstd level of sealed blocks: the cheapest, since most producers compress already.
pub const ZSTD_LEVEL: i32 = 1;

/// Objects up to this size are sent by one conditional PUT, larger ones in parts.
pub const SINGLE_PUT_BYTES: usize = 32 << 20;
/// Size of every part of a multipart upload but the last (equal parts, as R2 demands).
pub const PART_BYTES: usize = 16 << 20;
/// Parts of one upload in flight.
pub const PARTS_IN_FLIGHT: usize = 2;
/// Uploads of one process at a time.
pub const UPLOADS_IN_FLIGHT: usize = 2;
/// Local copies of one process that are read at a time, to see whether they may go: unlike an upload, nobody waits for it.
pub const COPY_READS_IN_FLIGHT: usize = 2;
/// Bytes of a segment read at once by the packer.
pub const SEGMENT_READ_BYTES: usize = 1 << 20;

/// An upload that moves no byte for this long is abandoned and tried again.
pub const UPLOAD_STALL: Duration = Duration::from_secs(60);
/// A read whose next bytes take longer than this is abandoned.
pub const READ_STALL: Duration = Duration::from_secs(30);
/// Tries of one store operation before its caller hears of the failure.
pub const OPERATION_TRIES: u32 = 4;
/// First pause between two tries; doubles, with full jitter.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two tries of one operation.
pub const BACKOFF_LAST: Duration = Duration::from_secs(5);
/// Longest pause of a partition whose archiving fails again and again.
pub const PARTITION_BACKOFF_LAST: Duration = Duration::from_secs(60);
/// How often the archiver looks for sealed segments when nobody tells it of one.
pub const ARCHIVER_TICK: Duration = Duration::from_millis(250);
/// How long a start waits at most until its partitions were held against the store.
pub const FIRST_LOOKS: Duration = Duration::from_secs(10);
/// How often local limits are asked what may go, while there are local copies that were not read since the start.
pub const RELEASE_TICK: Duration = Duration::from_secs(15);
/// How often total retention is evaluated.
pub const RETENTION_TICK: Duration = Duration::from_secs(30);

/// Manifest records in one slot: the first is a base, the others are deltas.
pub const SLOT_RECORDS: u64 = 256;
/// A manifest record above this size, stored or unpacked, is neither written nor read.
pub const MANIFEST_RECORD_LIMIT_BYTES: usize = 64 << 20;
/// Stored bytes of a cluster record that a program without that rule wrote: it is looked through for what is not group
/// offsets. What groups may hold, and more.
pub const OVERSIZED_RECORD_LIMIT_BYTES: usize = 512 << 20;
/// Changes of topics in one record: some hundred bytes each as a rule, some hundred KiB at most.
pub const TOPICS_PER_RECORD: usize = 200;
/// A base that has less than this left below [`MANIFEST_RECORD_LIMIT_BYTES`] goes without group offsets: room for the
/// record's head, and for a body that does not pack.
pub const BASE_MARGIN_BYTES: usize = 1 << 20;
/// Group offsets of this size at most (as JSON) stand in the cluster manifest itself, and so in up to
/// [`SLOT_RECORDS`] records that a start reads (few in this crate's own tests, so that they get beyond).
pub const INLINE_GROUPS_BYTES: usize = if cfg!(test) { 2 << 10 } else { 256 << 10 };
/// Of more there are files of this size at most.
pub const GROUP_PART_BYTES: usize = if cfg!(test) { 64 << 10 } else { 8 << 20 };
/// Rows above which the oldest are spilled to a frozen file of their own (few in this crate's own tests, so that they
/// get there).
pub const HOT_ROWS: usize = if cfg!(test) { 16 } else { 4096 };
/// Rows that one spill moves.
pub const SPILL_ROWS: usize = HOT_ROWS / 2;
/// Spilled files kept decoded in memory, over all partitions.
pub const SPILL_CACHE_FILES: usize = 16;
/// Tries of a commit against other writers before its caller hears of the contention.
pub const COMMIT_TRIES: u32 = 8;
/// Dead objects that one delete pass handles per partition.
pub const DELETES_PER_PASS: usize = 256;
/// How long a dead object stays readable for those who already opened it.
pub const DELETE_GRACE: Duration = Duration::from_secs(300);
/// More than this share of a partition's live bytes (in percent) is never deleted by age in one pass unasked.
pub const RETENTION_SHARE_PERCENT: u64 = 50;
/// Partitions with fewer live segments are exempt from the share rule.
pub const RETENTION_SHARE_MIN_SEGMENTS: u64 = 8;
/// A wall clock that is further ahead than this of where it was last trusted, by the monotonic one, is an alarm where old
/// segments stay for it.
pub const CLOCK_JUMP: Duration = Duration::from_secs(3600);
/// How often objects that are noted as damaged are read again, to see whether somebody put them back.
pub const QUARANTINE_LOOK: Duration = Duration::from_secs(300);
/// The longest pause between such looks, while what is there stays damaged: each reads an object up to the damage.
pub const QUARANTINE_LOOK_MAX: Duration = Duration::from_secs(6 * 3600);

/// Smallest range that a reader asks for.
pub const RANGE_FIRST_BYTES: u64 = 1 << 20;
/// Largest range that a reader asks for (a block that is larger is fetched whole).
pub const RANGE_LAST_BYTES: u64 = 8 << 20;
/// Ranges of one reader in flight.
pub const RANGES_IN_FLIGHT: usize = 4;
/// Default of the global budget of bytes fetched and not yet handed out.
pub const READ_BUDGET_BYTES: usize = 64 << 20;
/// Readers kept with their read-ahead between two fetches.
pub const PARKED_READERS: usize = 64;
/// How long a parked reader waits for its next fetch.
pub const PARKED_FOR: Duration = Duration::from_secs(30);
/// Bytes of decoded footers kept.
pub const FOOTER_CACHE_BYTES: usize = 32 << 20;

/// Offsets skipped by a recovery: more than any partition hands out while its store is unreachable.
pub const RECOVERY_OFFSET_GAP: i64 = 1 << 40;
/// Leader epochs skipped by a recovery.
pub const RECOVERY_EPOCH_GAP: i32 = 1 << 16;
/// Producer ids skipped by a recovery.
pub const RECOVERY_PRODUCER_ID_GAP: i64 = 1 << 32;
/// Keys of one page of a listing.
pub const LIST_PAGE: usize = 1000;
/// Pages of one listing before it is refused as endless.
pub const LIST_PAGES: usize = 100_000;
