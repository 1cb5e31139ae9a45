//! Record batches as bytes: the header, patches of it, checksums, records, and the builder.
//!
//! Owns: the layout of a batch (magic 2) and of the older message sets (magic 0 and 1, read only), their checks,
//! and every rewrite that leaves the payload alone.
//! Does not own: offsets (who assigns them), files, sockets, time.
//!
//! ```text
//!  0                8         12           16    17    21           23                27
//!  | base offset i64 | len i32 | epoch i32  |mag i8| crc u32 | attributes i16 | last delta i32 |
//!  27                 35                 43              51              53              57          61
//!  | base time i64    | max time i64     | producer id i64 | epoch i16     | base seq i32  | count i32 | records ...
//! ```
//!
//! `len` counts what follows it; the CRC-32C covers everything from the attributes on. So base offset and leader
//! epoch may be set by whoever stores the batch without touching the checksum (KIP-98).
//!
//! Attributes: bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon (KIP-534).

mod builder;
mod check;
mod checksum;
mod control;
mod entry;
mod error;
mod header;
mod legacy;
mod patch;
mod records;
mod run;
mod varint;
mod view;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, BatchOptions, NewRecord};
pub use check::{
    AppendFault, CheckRecordsError, CheckedRecords, RECORD_ERRORS_MAX, RecordRejection, RecordRules,
    RejectedRecord, check_records,
};
pub use checksum::{combine_crc32c, crc32c};
pub use control::{ControlError, ControlRecord, EndMarker, EndMarkerPlace, TransactionEnd};
pub use entry::Entry;
pub use error::{BatchError, MalformedAt};
pub use header::{
    Attributes, BatchHeader, HEADER_BYTES, MAGIC, PREFIX_BYTES, SEQUENCE_NONE, TimestampType, sequence_after,
};
pub use legacy::{LegacyError, LegacyMessage};
pub use patch::{HeaderPatch, ProducerFields, patch_placement};
pub use records::{Header, Headers, Record, RecordFault, Records, RecordsError};
pub use run::{Batches, Entries, Piece, Run};
pub use view::BatchView;
