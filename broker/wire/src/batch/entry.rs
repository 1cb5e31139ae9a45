//! What a log of any age holds: batches of magic 2, and before them messages of magic 0 and 1.
//!
//! Owns: telling the two apart.
//! Does not own: either format (`view`, `legacy`), going from one entry to the next (`run`).

use super::header::MAGIC_AT;
use super::{BatchError, BatchView, LegacyMessage, Records, RecordsError};
use crate::ids::Offset;

/// A batch, or a message of an older format.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// Magic 2.
    Batch(BatchView<'a>),
    /// Magic 0 or 1.
    Message(LegacyMessage<'a>),
}

impl<'a> Entry<'a> {
    /// The entry at the start of `bytes`; whatever follows it is left out. The CRC is not checked.
    ///
    /// # Errors
    /// [`BatchError`], all but `Crc` and `Trailing`.
    #[inline]
    pub fn first(bytes: &'a [u8]) -> Result<Self, BatchError> {
        match bytes.get(MAGIC_AT) {
            Some(0 | 1) => Ok(Self::Message(LegacyMessage::first(bytes)?)),
            _ => Ok(Self::Batch(BatchView::first(bytes)?)),
        }
    }

    /// All its bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Batch(batch) => batch.bytes(),
            Self::Message(message) => message.bytes(),
        }
    }

    /// Offset of the last record in it.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        match self {
            Self::Batch(batch) => batch.header().last_offset(),
            Self::Message(message) => message.last_offset(),
        }
    }

    /// Compares the stored CRC with that of the bytes.
    ///
    /// # Errors
    /// [`BatchError::Crc`], or that of the older formats.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        match self {
            Self::Batch(batch) => batch.check_crc(),
            Self::Message(message) => Ok(message.check_crc()?),
        }
    }

    /// The records in it, of which at most `budget_bytes` are decompressed.
    ///
    /// # Errors
    /// [`RecordsError`] for an old compressed message whose content is not sound.
    pub fn records(&self, budget_bytes: usize) -> Result<Records<'a>, RecordsError> {
        match self {
            Self::Batch(batch) => Ok(Records::new(batch, budget_bytes)),
            Self::Message(message) => message.records(budget_bytes),
        }
    }
}
