//! A whole batch in memory.
//!
//! Owns: that header and bytes belong together, and the comparison of the CRC.
//! Does not own: the header's fields (`header`), the records (`records`), what follows (`run`).

use super::header::ATTRIBUTES_AT;
use super::{BatchError, BatchHeader, HEADER_BYTES, checksum};
use crate::compress::Codec;

/// The smallest record: length, attributes, time delta, offset delta, two lengths and a header count.
const RECORD_BYTES_MIN: usize = 7;

/// One whole batch: its parsed header and its bytes, header included.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`; whatever follows it is left out. The CRC is not checked.
    ///
    /// # Errors
    /// [`BatchError`], all but `Crc` and `Trailing`.
    #[inline]
    pub fn first(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let Some(batch) = bytes.get(..header.size_bytes) else {
            let (needed_bytes, available_bytes) = (header.size_bytes, bytes.len());
            return Err(BatchError::Truncated { needed_bytes, available_bytes });
        };
        let view = Self { header, bytes: batch };
        // A compressed record can take less than a bit, so only plain payloads bound the count.
        let most = header.payload_bytes() / RECORD_BYTES_MIN;
        if view.codec() == Codec::None && header.record_count as usize > most {
            let (record_count, payload_bytes) = (header.record_count, header.payload_bytes());
            return Err(BatchError::CountBeyondPayload { record_count, payload_bytes });
        }
        Ok(view)
    }

    /// `bytes` as exactly one batch. The CRC is not checked.
    ///
    /// # Errors
    /// [`BatchError`], all but `Crc`; `Trailing` when more follows.
    #[inline]
    pub fn only(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let view = Self::first(bytes)?;
        match bytes.len() - view.bytes.len() {
            0 => Ok(view),
            extra_bytes => Err(BatchError::Trailing { extra_bytes }),
        }
    }

    /// Compares the stored CRC with that of the bytes.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    #[inline]
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (stored, computed) = (self.header.crc, checksum::crc32c(&self.bytes[ATTRIBUTES_AT..]));
        if stored == computed { Ok(()) } else { Err(BatchError::Crc { stored, computed }) }
    }

    /// The parsed header.
    #[inline]
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, compressed as [`BatchView::codec`] says.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The codec of the payload.
    #[inline]
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.header.attributes.codec().expect("a parsed header has a known codec")
    }
}
