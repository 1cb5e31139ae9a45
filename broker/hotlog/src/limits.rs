//! Every limit of the log in one place, with its unit and its reason.

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
