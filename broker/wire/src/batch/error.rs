//! What can be wrong with the bytes of a batch.
//!
//! Owns: the faults of a header and of a whole batch.
//! Does not own: those inside records (`records`), what a client may not append (`check`), error codes
//! (`broker::error_codes`).

use thiserror::Error;

/// Why bytes are not a sound batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end inside the batch. In a fetch answer this is how the last batch may look.
    #[error("batch is cut short: it needs {needed_bytes} bytes, {available_bytes} are there")]
    Truncated {
        /// Bytes the batch declares, or the size of a header when not even that is there.
        needed_bytes: usize,
        /// Bytes that are there.
        available_bytes: usize,
    },
    /// The length field is below the header's size.
    #[error("batch length {length} is below the 49 bytes that a header takes after it")]
    Length {
        /// The length field as stored.
        length: i32,
    },
    /// Not magic 2.
    #[error("batch has magic {magic}, only magic 2 is read here")]
    Magic {
        /// The magic byte as stored.
        magic: i8,
    },
    /// Bytes follow the batch where there must be one batch and nothing else.
    #[error("{extra_bytes} bytes follow the batch")]
    Trailing {
        /// How many bytes follow.
        extra_bytes: usize,
    },
    /// The last offset lies before the first, or beyond what 64 bits hold.
    #[error("batch offsets are out of range: base {base_offset}, last delta {last_offset_delta}")]
    Offsets {
        /// The base offset as stored.
        base_offset: i64,
        /// The last offset delta as stored.
        last_offset_delta: i32,
    },
    /// A negative record count, or more records than offsets.
    #[error("batch claims {record_count} records in {offsets} offsets")]
    Count {
        /// The count as stored.
        record_count: i32,
        /// Offsets between first and last, both included.
        offsets: i64,
    },
    /// More records than the payload could hold, at the seven bytes of the smallest record.
    #[error("batch claims {record_count} records in {payload_bytes} bytes")]
    CountBeyondPayload {
        /// The count as stored.
        record_count: i32,
        /// Bytes after the header.
        payload_bytes: usize,
    },
    /// Codec ids 5 to 7 have no meaning.
    #[error("compression codec {id} is unknown")]
    Codec {
        /// The low three attribute bits.
        id: u8,
    },
    /// The checksum does not match.
    #[error("batch checksum mismatch: stored {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// CRC-32C in the header.
        stored: u32,
        /// CRC-32C of the bytes.
        computed: u32,
    },
    /// A message of an older format is unsound.
    #[error(transparent)]
    Legacy(#[from] super::legacy::LegacyError),
}

/// A [`BatchError`] and where in a run of batches it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("at byte {position}: {error}")]
pub struct MalformedAt {
    /// Byte at which the bad batch starts.
    pub position: usize,
    /// What is wrong with it.
    pub error: BatchError,
}
