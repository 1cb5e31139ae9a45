//! The codecs of record batches.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

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
        formatter.write_str(self.name())
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
