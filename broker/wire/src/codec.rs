//! The protocol's primitive encodings: a bounded reader, a writer of segments, and the values that both know.
//!
//! Owns: lengths, counts, varints, strings, nulls, tagged fields, and the bound on memory that hostile input meets.
//! Does not own: which fields a message has (`message.rs`, `api/`), nor what record batches hold (`batch/`).

mod error;
mod reader;
mod records;
mod text;
mod value;
mod writer;

pub use error::{DecodeError, EncodeError, Fault};
pub use reader::Reader;
pub use records::{FileRange, Piece, Records};
pub use text::Text;
pub use value::{Nullable, Shape, Wire};
pub use writer::{Encoded, Writer};

/// Bounds of this module.
pub mod limits {
    /// A request may allocate this many times the bytes of its frame, and [`ALLOWANCE_BYTES`] more.
    pub const REQUEST_FACTOR: usize = 4;

    /// A response may allocate this many times the bytes of its frame, and [`ALLOWANCE_BYTES`] more: a client has
    /// few of them at a time and chose whom to ask, and many small partitions take more in memory than on the wire.
    pub const RESPONSE_FACTOR: usize = 16;

    /// What any message may allocate, however short its frame.
    pub const ALLOWANCE_BYTES: usize = 64 * 1024;

    /// The part of [`ALLOWANCE_BYTES`] that goes into sharing the frame itself.
    pub(crate) const SHARING_BYTES: usize = 256;

    /// Longest string of the encodings with a 16-bit length.
    pub const SHORT_STRING_BYTES: usize = i16::MAX as usize;
}

#[cfg(test)]
mod tests;
