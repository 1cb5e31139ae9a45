//! The codecs of record batches.
//!
//! Owns: their names and ids, compressing a whole payload, and decompressing one piece by piece within a budget.
//! Does not own: what the bytes mean.
//!
//! Memory while decompressing is bounded by the codec's window, whatever the input claims: a gzip window is 32 KiB,
//! an LZ4 block 4 MiB, a Zstandard window 128 MiB of which only what is written is ever touched, and raw snappy,
//! which has no window, is refused when it claims more than the budget or than its length can encode.

mod decompress;
mod snappy;

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::str::FromStr;

use thiserror::Error;

pub use decompress::{DecompressError, Decompressor, decompress};

/// Zstandard's own default level, which is Kafka's too.
const ZSTD_LEVEL: i32 = 3;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// Gzip (RFC 1952).
    Gzip,
    /// Snappy, in xerial's framing as the Java client writes it, or raw as others do.
    Snappy,
    /// LZ4 frames with independent blocks.
    Lz4,
    /// Zstandard frames (KIP-110).
    Zstd,
}

impl Codec {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of the low three attribute bits.
    #[inline]
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The low three attribute bits.
    #[inline]
    #[must_use]
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Kafka's name of it, as in `compression.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name that no codec has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no such codec: use none, gzip, snappy, lz4 or zstd")]
pub struct ParseCodecError;

impl FromStr for Codec {
    type Err = ParseCodecError;

    fn from_str(name: &str) -> Result<Self, ParseCodecError> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or(ParseCodecError)
    }
}

thread_local! {
    /// A Zstandard context takes longer to make than a small batch to compress, so each thread keeps one.
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// Appends `input`, compressed in the way that the Java client reads, to `output`.
pub fn compress(codec: Codec, input: &[u8], output: &mut Vec<u8>) {
    match codec {
        Codec::None => output.extend_from_slice(input),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
            encoder
                .write_all(input)
                .and_then(|()| encoder.try_finish())
                .expect("writing to memory does not fail");
        }
        Codec::Snappy => snappy::compress(input, output),
        Codec::Lz4 => compress_lz4(input, output),
        Codec::Zstd => compress_zstd(input, output),
    }
}

/// The Java client refuses linked blocks, and writes blocks of 64 KiB.
fn compress_lz4(input: &[u8], output: &mut Vec<u8>) {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, output);
    encoder.write_all(input).expect("writing to memory does not fail");
    encoder.finish().expect("writing to memory does not fail");
}

fn compress_zstd(input: &[u8], output: &mut Vec<u8>) {
    ZSTD.with_borrow_mut(|slot| {
        let compressor = slot.get_or_insert_with(|| {
            zstd::bulk::Compressor::new(ZSTD_LEVEL)
                .expect("the default level exists and memory is not denied")
        });
        let compressed = compressor.compress(input).expect("the buffer is as large as the worst case");
        output.extend_from_slice(&compressed);
    });
}

#[cfg(test)]
mod tests;
