//! Decompression piece by piece, up to a budget.
//!
//! Owns: one reader over all codecs, the count against the budget.
//! Does not own: snappy's framing (`snappy`), how large the budget is (whoever calls).

use std::fmt;
use std::io::{self, Read};

use thiserror::Error;

use super::{Codec, snappy};

/// The largest window that the Java client's library reads by default, 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What a whole payload is first given room for; it grows as bytes arrive, not as they are claimed.
const FIRST_BYTES: usize = 16 * 1024;

/// Why a payload could not be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecompressError {
    /// The payload holds more than the budget allows.
    #[error("decompressed payload exceeds its budget")]
    OverBudget,
    /// The codec's library found damage.
    #[error("{codec} payload is corrupt: {reason}")]
    Corrupt {
        /// The codec.
        codec: Codec,
        /// What its library says.
        reason: String,
    },
}

pub(super) fn corrupt(codec: Codec, reason: impl fmt::Display) -> DecompressError {
    DecompressError::Corrupt { codec, reason: reason.to_string() }
}

/// A payload on its way out of its codec.
pub struct Decompressor<'a> {
    source: Source<'a>,
    codec: Codec,
    budget_bytes: usize,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(snappy::Reader<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl<'a> Decompressor<'a> {
    /// Reads `input`, giving at most `budget_bytes` out.
    ///
    /// # Errors
    /// [`DecompressError::Corrupt`] when the codec's library cannot start.
    pub fn new(codec: Codec, input: &'a [u8], budget_bytes: usize) -> Result<Self, DecompressError> {
        let source = match codec {
            Codec::None => Source::Plain(input),
            Codec::Gzip => Source::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Codec::Snappy => Source::Snappy(snappy::Reader::new(input)),
            Codec::Lz4 => Source::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(input))),
            Codec::Zstd => {
                Source::Zstd(Box::new(zstd_decoder(input).map_err(|error| corrupt(codec, error))?))
            }
        };
        Ok(Self { source, codec, budget_bytes })
    }

    /// Bytes that may still come out.
    #[must_use]
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// Fills the front of `out`, which must not be empty, and returns how much; 0 at the end.
    ///
    /// # Errors
    /// [`DecompressError`]. What was read before stays valid.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, DecompressError> {
        // One byte beyond the budget tells a payload that ends there from one that goes on.
        let most = out.len().min(self.budget_bytes.saturating_add(1));
        let out = &mut out[..most];
        let codec = self.codec;
        let length = match &mut self.source {
            Source::Plain(rest) => read(rest, out, codec)?,
            Source::Gzip(decoder) => read(decoder, out, codec)?,
            Source::Snappy(reader) => reader.read(out, self.budget_bytes)?,
            Source::Lz4(decoder) => read(decoder, out, codec)?,
            Source::Zstd(decoder) => read(decoder, out, codec)?,
        };
        self.budget_bytes = self.budget_bytes.checked_sub(length).ok_or(DecompressError::OverBudget)?;
        Ok(length)
    }
}

fn zstd_decoder(input: &[u8]) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

fn read(source: &mut impl Read, out: &mut [u8], codec: Codec) -> Result<usize, DecompressError> {
    source.read(out).map_err(|error| corrupt(codec, error))
}

/// The whole payload, at most `budget_bytes` of it, in memory that grows as bytes arrive.
///
/// # Errors
/// [`DecompressError`].
pub fn decompress(codec: Codec, input: &[u8], budget_bytes: usize) -> Result<Vec<u8>, DecompressError> {
    let mut decompressor = Decompressor::new(codec, input, budget_bytes)?;
    let mut output = vec![0; FIRST_BYTES.max(input.len())];
    let mut length = 0;
    loop {
        if length == output.len() {
            output.resize(length * 2, 0);
        }
        match decompressor.read(&mut output[length..])? {
            0 => break,
            more => length += more,
        }
    }
    output.truncate(length);
    Ok(output)
}
