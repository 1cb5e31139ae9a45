//! Message sets of magic 0 and 1, as logs from before Kafka 0.11 hold them. Read only.
//!
//! ```text
//!  | offset i64 | size i32 | crc u32 | magic i8 | attributes i8 | time i64 (magic 1) | key length i32 | key | value length i32 | value |
//! ```
//! The size counts what follows it; the CRC-32 (IEEE) covers everything from the magic on. A compressed message
//! holds a message set as its value and has the offset of the last one in it; the offsets inside are absolute in
//! magic 0, and count from the first in magic 1 (KIP-31).
//!
//! Owns: that format and its checks, down to the messages inside a compressed one.
//! Does not own: writing it (nobody does), its codecs (`compress`), finding it among batches (`entry`).

use thiserror::Error;

use super::records::RecordFault;
use super::{Attributes, Headers, Record, Records, RecordsError, TimestampType};
use crate::compress::{Codec, decompress};
use crate::ids::Offset;

/// Offset and size: what the size does not count.
const PREFIX_BYTES: usize = 12;
/// A message of magic 0 without key and value.
const MESSAGE_BYTES_MIN: usize = PREFIX_BYTES + 14;
const CRC_AT: usize = 12;
const MAGIC_AT: usize = 16;
const ATTRIBUTES_AT: usize = 17;
const FIELDS_AT: usize = 18;

/// Why bytes are not a sound message of magic 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LegacyError {
    /// The bytes end inside the message.
    #[error("message is cut short: it needs {needed_bytes} bytes, {available_bytes} are there")]
    Truncated {
        /// Bytes the message declares, or the least that one takes.
        needed_bytes: usize,
        /// Bytes that are there.
        available_bytes: usize,
    },
    /// The size field is below what a message takes.
    #[error("message size {size} is below the 14 bytes that the smallest takes")]
    Size {
        /// The size as stored.
        size: i32,
    },
    /// Neither magic 0 nor 1, or another than that of the message around it.
    #[error("message has magic {magic} where 0 or 1, and that of the message around it, is due")]
    Magic {
        /// The magic byte as stored.
        magic: i8,
    },
    /// Key and value do not add up to the size.
    #[error("key and value do not add up to the size of the message")]
    Fields,
    /// Zstandard and the unknown codecs cannot be in such a message, nor can a codec in a compressed one.
    #[error("message may not have the compression codec {id}")]
    Codec {
        /// The low three attribute bits.
        id: u8,
    },
    /// A compressed message with nothing in it.
    #[error("compressed message holds no messages")]
    Empty,
    /// An offset is negative, or messages in a compressed one do not rise to its offset.
    #[error("message offset {offset} is negative, out of order or beyond that of the message around it")]
    Offset {
        /// The offset, made absolute.
        offset: i64,
    },
    /// The checksum does not match.
    #[error("message checksum mismatch: stored {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// CRC-32 in the message.
        stored: u32,
        /// CRC-32 of the bytes.
        computed: u32,
    },
}

/// One message of magic 0 or 1; when compressed, it stands for many.
#[derive(Clone, Copy, Debug)]
pub struct LegacyMessage<'a> {
    offset: Offset,
    attributes: Attributes,
    timestamp_ms: i64,
    codec: Codec,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    bytes: &'a [u8],
}

impl<'a> LegacyMessage<'a> {
    /// The message at the start of `bytes`; whatever follows it is left out. The CRC is not checked.
    ///
    /// # Errors
    /// [`LegacyError`], all but `Crc`, `Empty`.
    pub fn first(bytes: &'a [u8]) -> Result<Self, LegacyError> {
        let truncated = |needed_bytes| LegacyError::Truncated { needed_bytes, available_bytes: bytes.len() };
        if bytes.len() < MESSAGE_BYTES_MIN {
            return Err(truncated(MESSAGE_BYTES_MIN));
        }
        let size = i32::from_be_bytes(*bytes[8..].first_chunk().expect("the smallest message is there"));
        if size < (MESSAGE_BYTES_MIN - PREFIX_BYTES) as i32 {
            return Err(LegacyError::Size { size });
        }
        let needed_bytes = PREFIX_BYTES + size as usize;
        Self::parse(bytes.get(..needed_bytes).ok_or_else(|| truncated(needed_bytes))?)
    }

    /// `bytes` are as long as the message says.
    fn parse(bytes: &'a [u8]) -> Result<Self, LegacyError> {
        let offset = i64::from_be_bytes(*bytes.first_chunk().expect("the smallest message is there"));
        if offset < 0 {
            return Err(LegacyError::Offset { offset });
        }
        let mut rest = &bytes[FIELDS_AT..];
        let timestamp_ms = match bytes[MAGIC_AT] as i8 {
            0 => -1,
            1 => i64::from_be_bytes(take(&mut rest).ok_or(LegacyError::Fields)?),
            magic => return Err(LegacyError::Magic { magic }),
        };
        let attributes = Attributes(i16::from(bytes[ATTRIBUTES_AT]));
        let id = bytes[ATTRIBUTES_AT] & 0b111;
        let codec =
            Codec::from_id(id).filter(|&codec| codec != Codec::Zstd).ok_or(LegacyError::Codec { id })?;
        let key = read_bytes(&mut rest)?;
        let value = read_bytes(&mut rest)?;
        if !rest.is_empty() {
            return Err(LegacyError::Fields);
        }
        Ok(Self { offset: Offset(offset), attributes, timestamp_ms, codec, key, value, bytes })
    }

    /// Compares the stored CRC with that of the bytes.
    ///
    /// # Errors
    /// [`LegacyError::Crc`].
    pub fn check_crc(&self) -> Result<(), LegacyError> {
        let stored =
            u32::from_be_bytes(*self.bytes[CRC_AT..].first_chunk().expect("the smallest message is there"));
        let mut crc = flate2::Crc::new();
        crc.update(&self.bytes[MAGIC_AT..]);
        let computed = crc.sum();
        if stored == computed { Ok(()) } else { Err(LegacyError::Crc { stored, computed }) }
    }

    /// The whole message.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// 0 or 1.
    #[must_use]
    pub fn magic(&self) -> u8 {
        self.bytes[MAGIC_AT]
    }

    /// Its offset: that of the last record in it.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.offset
    }

    /// What its time means; without a time in magic 0.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    /// Its codec.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Its one record, or those in it, of which at most `budget_bytes` are decompressed (into memory: the offsets
    /// in it count from its last message, so the end must be known before the start).
    ///
    /// # Errors
    /// [`RecordsError`] when the message set in it is not sound.
    pub fn records(&self, budget_bytes: usize) -> Result<Records<'a>, RecordsError> {
        let fail = |fault| RecordsError { index: 0, fault };
        let inner = match self.codec {
            Codec::None => Inner::One,
            codec => {
                let value = self.value.ok_or(fail(LegacyError::Empty.into()))?;
                let bytes = decompress(codec, value, budget_bytes).map_err(|error| fail(error.into()))?;
                let base = self.inner_base(&bytes)?;
                Inner::Set { bytes, position: 0, base, least: 0 }
            }
        };
        Ok(Records::legacy(LegacyRecords { wrapper: *self, inner, index: 0, done: false }))
    }

    /// What is added to the offsets inside.
    fn inner_base(&self, bytes: &[u8]) -> Result<i64, RecordsError> {
        let (mut position, mut index, mut last) = (0, 0, None);
        while position < bytes.len() {
            let message = LegacyMessage::first(&bytes[position..])
                .map_err(|error| RecordsError { index, fault: error.into() })?;
            position += message.bytes.len();
            index += 1;
            last = Some(message.offset.0);
        }
        let last = last.ok_or(RecordsError { index: 0, fault: LegacyError::Empty.into() })?;
        Ok(if self.magic() == 0 { 0 } else { self.offset.0 - last })
    }
}

/// The records that one message stands for.
pub(super) struct LegacyRecords<'a> {
    wrapper: LegacyMessage<'a>,
    inner: Inner,
    index: i32,
    done: bool,
}

enum Inner {
    One,
    Set { bytes: Vec<u8>, position: usize, base: i64, least: i64 },
}

impl LegacyRecords<'_> {
    pub(super) fn next_record(&mut self) -> Result<Option<Record<'_>>, RecordsError> {
        if self.done {
            return Ok(None);
        }
        let wrapper = self.wrapper;
        match &mut self.inner {
            Inner::One => {
                self.done = true;
                Ok(Some(record(&wrapper, wrapper.offset.0, wrapper.timestamp_ms)))
            }
            Inner::Set { bytes, position, .. } if *position == bytes.len() => Ok(None),
            Inner::Set { bytes, position, base, least } => {
                let inner = next_inner(&wrapper, &bytes[*position..]).and_then(|inner| {
                    let offset = inner.offset.0 + *base;
                    let in_order = (*least..=wrapper.offset.0).contains(&offset);
                    if in_order { Ok((inner, offset)) } else { Err(LegacyError::Offset { offset }) }
                });
                let (inner, offset) = inner.map_err(|error| {
                    self.done = true;
                    RecordsError { index: self.index, fault: RecordFault::Legacy(error) }
                })?;
                *position += inner.bytes.len();
                *least = offset + 1;
                self.index += 1;
                let timestamp_ms = match wrapper.timestamp_type() {
                    TimestampType::LogAppendTime => wrapper.timestamp_ms,
                    TimestampType::CreateTime => inner.timestamp_ms,
                };
                Ok(Some(record(&inner, offset, timestamp_ms)))
            }
        }
    }
}

fn next_inner<'b>(wrapper: &LegacyMessage<'_>, bytes: &'b [u8]) -> Result<LegacyMessage<'b>, LegacyError> {
    let inner = LegacyMessage::first(bytes)?;
    if inner.magic() != wrapper.magic() {
        return Err(LegacyError::Magic { magic: inner.magic() as i8 });
    }
    match inner.codec {
        Codec::None => Ok(inner),
        nested => Err(LegacyError::Codec { id: nested.id() }),
    }
}

fn record<'b>(message: &LegacyMessage<'b>, offset: i64, timestamp_ms: i64) -> Record<'b> {
    let (key, value) = (message.key, message.value);
    Record { offset: Offset(offset), timestamp_ms, key, value, headers: Headers::default() }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*front)
}

/// Bytes behind their length; a length of -1 stands for none.
fn read_bytes<'b>(bytes: &mut &'b [u8]) -> Result<Option<&'b [u8]>, LegacyError> {
    let length = i32::from_be_bytes(take(bytes).ok_or(LegacyError::Fields)?);
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| LegacyError::Fields)?;
    let (field, rest) = bytes.split_at_checked(length).ok_or(LegacyError::Fields)?;
    *bytes = rest;
    Ok(Some(field))
}
