//! The records inside a batch, one at a time.
//!
//! Owns: the record format (magic 2) and its bounds. A plain payload is read in place; a compressed one streams
//! through a buffer that grows to the longest record, as far as bytes have arrived, and never beyond the budget.
//! Does not own: messages of magic 0 and 1 (`legacy`), the codecs (`compress`), which records a topic takes
//! (`check`).
//!
//! ```text
//!  | length varint | attributes i8 | time delta varlong | offset delta varint | key length varint | key |
//!  | value length varint | value | header count varint | ( key length varint | key | value length varint | value ) ... |
//! ```

use thiserror::Error;

use super::legacy::{LegacyError, LegacyRecords};
use super::{BatchHeader, BatchView, TimestampType, varint};
use crate::compress::{Codec, DecompressError, Decompressor};
use crate::ids::Offset;

/// What a compressed payload is first given room for.
const BUFFER_BYTES: usize = 16 * 1024;

/// One record, its bytes borrowed from the reader.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970, or -1. In a batch of append time, that time.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none in a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in order; the bytes that encode them are known to parse.
    pub headers: Headers<'a>,
}

/// One header of a record. Kafka's headers are named in UTF-8, which is not checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, as an iterator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    count: i32,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The encoded headers, without their count.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn total(&self) -> i32 {
        self.count
    }

    fn parse_one(bytes: &mut &'a [u8]) -> Result<Header<'a>, RecordFault> {
        let key = read_bytes(bytes)?.ok_or(RecordFault::NullHeaderKey)?;
        Ok(Header { key, value: read_bytes(bytes)? })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.count = self.count.checked_sub(1).filter(|&left| left >= 0)?;
        Self::parse_one(&mut self.bytes).ok()
    }
}

/// What is wrong inside a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordFault {
    /// The payload has fewer records than the header says.
    #[error("payload ends before it")]
    Missing,
    /// The payload goes on after its last record.
    #[error("payload goes on after the last record")]
    Trailing,
    /// A number of variable length that is too long or cut short.
    #[error("number is malformed or cut short")]
    Number,
    /// A length that is negative where it may not be, or reaches out of the record or the payload.
    #[error("length {length} does not fit in the {available_bytes} bytes that are left")]
    Length {
        /// The length as stored.
        length: i32,
        /// Bytes left.
        available_bytes: usize,
    },
    /// A header without a name.
    #[error("header has no key")]
    NullHeaderKey,
    /// The parts of the record do not add up to its length.
    #[error("{extra_bytes} bytes are left over in it")]
    Leftover {
        /// How many.
        extra_bytes: usize,
    },
    /// An offset outside of the batch, or not above the one before.
    #[error("offset delta {delta} is out of order or beyond the batch")]
    OffsetDelta {
        /// The delta as stored.
        delta: i32,
    },
    /// The codec failed.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// A message inside an old compressed message set is unsound.
    #[error(transparent)]
    Legacy(#[from] LegacyError),
}

/// A [`RecordFault`] and the record it is in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("record {index}: {fault}")]
pub struct RecordsError {
    /// Records before it in the batch.
    pub index: i32,
    /// What is wrong.
    pub fault: RecordFault,
}

/// A record as it stands in the batch, before its offset has been checked.
pub(super) struct RawRecord<'a> {
    pub(super) offset_delta: i32,
    timestamp_delta: i64,
    pub(super) key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

/// Reads the records of one batch in order.
pub struct Records<'a> {
    source: Source<'a>,
}

enum Source<'a> {
    Batch(BatchRecords<'a>),
    Legacy(LegacyRecords<'a>),
}

impl<'a> Records<'a> {
    /// The records of `batch`, of which at most `budget_bytes` are decompressed.
    #[must_use]
    pub fn new(batch: &BatchView<'a>, budget_bytes: usize) -> Self {
        Self { source: Source::Batch(BatchRecords::new(batch, budget_bytes)) }
    }

    pub(super) fn legacy(records: LegacyRecords<'a>) -> Self {
        Self { source: Source::Legacy(records) }
    }

    /// The next record; `None` after the last, and after an error.
    ///
    /// # Errors
    /// [`RecordsError`]. Offsets rise and stay within the batch, or it is an error.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, RecordsError> {
        match &mut self.source {
            Source::Batch(records) => records.next_record(),
            Source::Legacy(records) => records.next_record(),
        }
    }
}

/// The records of a batch of magic 2.
pub(super) struct BatchRecords<'a> {
    header: BatchHeader,
    payload: Payload<'a>,
    index: i32,
    next_delta: i32,
    done: bool,
}

impl<'a> BatchRecords<'a> {
    pub(super) fn new(batch: &BatchView<'a>, budget_bytes: usize) -> Self {
        let payload = match batch.codec() {
            Codec::None => Payload::Plain(batch.payload()),
            codec => Payload::Compressed(Stream::new(codec, batch.payload(), budget_bytes)),
        };
        Self { header: *batch.header(), payload, index: 0, next_delta: 0, done: false }
    }

    /// The next record, whose offset is proved to rise and to lie within the batch.
    #[inline]
    fn next_record(&mut self) -> Result<Option<Record<'_>>, RecordsError> {
        let (header, least, index) = (self.header, self.next_delta, self.index);
        let Some((raw, next_delta, done)) = self.next_parts()? else { return Ok(None) };
        let delta = raw.offset_delta;
        if delta < least || delta > header.last_offset_delta {
            *done = true;
            return Err(RecordsError { index, fault: RecordFault::OffsetDelta { delta } });
        }
        *next_delta = delta.saturating_add(1);
        Ok(Some(raw.place(&header)))
    }

    /// The next record as it stands.
    #[inline]
    pub(super) fn next_raw(&mut self) -> Result<Option<RawRecord<'_>>, RecordsError> {
        Ok(self.next_parts()?.map(|(raw, ..)| raw))
    }

    /// The next record, and the fields that its caller may still change.
    #[inline]
    fn next_parts(&mut self) -> Result<Option<(RawRecord<'_>, &mut i32, &mut bool)>, RecordsError> {
        if self.done {
            return Ok(None);
        }
        let index = self.index;
        if index == self.header.record_count {
            self.done = true;
            return match self.payload.is_empty() {
                Ok(true) => Ok(None),
                Ok(false) => Err(RecordsError { index, fault: RecordFault::Trailing }),
                Err(fault) => Err(RecordsError { index, fault }),
            };
        }
        match self.payload.next_body().and_then(RawRecord::parse) {
            Ok(raw) => {
                self.index += 1;
                Ok(Some((raw, &mut self.next_delta, &mut self.done)))
            }
            Err(fault) => {
                self.done = true;
                Err(RecordsError { index, fault })
            }
        }
    }
}

impl<'a> RawRecord<'a> {
    #[inline]
    fn parse(body: &'a [u8]) -> Result<Self, RecordFault> {
        let mut rest = body;
        // No attribute of a record has a meaning yet, so the byte is passed over as Kafka does.
        rest = rest.get(1..).ok_or(RecordFault::Number)?;
        let timestamp_delta = varint::read_i64(&mut rest).ok_or(RecordFault::Number)?;
        let offset_delta = varint::read_i32(&mut rest).ok_or(RecordFault::Number)?;
        let key = read_bytes(&mut rest)?;
        let value = read_bytes(&mut rest)?;
        let count = varint::read_i32(&mut rest).ok_or(RecordFault::Number)?;
        if count < 0 {
            return Err(RecordFault::Length { length: count, available_bytes: rest.len() });
        }
        let headers = Headers { count, bytes: rest };
        for _ in 0..count {
            Headers::parse_one(&mut rest)?;
        }
        match rest.len() {
            0 => Ok(Self { offset_delta, timestamp_delta, key, value, headers }),
            extra_bytes => Err(RecordFault::Leftover { extra_bytes }),
        }
    }

    /// Milliseconds since 1970. Sums wrap as they do in Kafka; a bound on record times is the caller's to check.
    #[inline]
    pub(super) fn timestamp_ms(&self, header: &BatchHeader) -> i64 {
        match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp_ms,
            TimestampType::CreateTime => header.base_timestamp_ms.wrapping_add(self.timestamp_delta),
        }
    }

    /// The record at its place; its delta lies within the batch.
    #[inline]
    fn place(self, header: &BatchHeader) -> Record<'a> {
        Record {
            offset: Offset(header.base_offset.0 + i64::from(self.offset_delta)),
            timestamp_ms: self.timestamp_ms(header),
            key: self.key,
            value: self.value,
            headers: self.headers,
        }
    }
}

/// Bytes behind their length; a length of -1 stands for none.
#[inline]
fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordFault> {
    let length = varint::read_i32(bytes).ok_or(RecordFault::Number)?;
    if length == -1 {
        return Ok(None);
    }
    let (field, rest) = split(bytes, length)?;
    *bytes = rest;
    Ok(Some(field))
}

#[inline]
fn split(bytes: &[u8], length: i32) -> Result<(&[u8], &[u8]), RecordFault> {
    usize::try_from(length)
        .ok()
        .and_then(|length| bytes.split_at_checked(length))
        .ok_or(RecordFault::Length { length, available_bytes: bytes.len() })
}

enum Payload<'a> {
    Plain(&'a [u8]),
    Compressed(Stream<'a>),
}

impl Payload<'_> {
    /// What stands between the length of the next record and the record after it.
    #[inline]
    fn next_body(&mut self) -> Result<&[u8], RecordFault> {
        match self {
            Self::Plain(rest) => {
                if rest.is_empty() {
                    return Err(RecordFault::Missing);
                }
                let length = varint::read_i32(rest).ok_or(RecordFault::Number)?;
                let (body, after) = split(rest, length)?;
                *rest = after;
                Ok(body)
            }
            Self::Compressed(stream) => stream.next_body(),
        }
    }

    fn is_empty(&mut self) -> Result<bool, RecordFault> {
        match self {
            Self::Plain(rest) => Ok(rest.is_empty()),
            Self::Compressed(stream) => Ok(stream.fill(1)?.is_empty()),
        }
    }
}

/// A window on a payload while it is decompressed.
struct Stream<'a> {
    codec: Codec,
    input: &'a [u8],
    budget_bytes: usize,
    /// Made at the first read, so that whoever reads no record pays for none.
    decompressor: Option<Decompressor<'a>>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'a> Stream<'a> {
    fn new(codec: Codec, input: &'a [u8], budget_bytes: usize) -> Self {
        Self { codec, input, budget_bytes, decompressor: None, buffer: Vec::new(), start: 0, end: 0 }
    }

    #[inline]
    fn next_body(&mut self) -> Result<&[u8], RecordFault> {
        let mut front = self.fill(varint::BYTES_MAX_32)?;
        if front.is_empty() {
            return Err(RecordFault::Missing);
        }
        let available_bytes = front.len();
        let length = varint::read_i32(&mut front).ok_or(RecordFault::Number)?;
        let prefix_bytes = available_bytes - front.len();
        let Ok(body_bytes) = usize::try_from(length) else {
            return Err(RecordFault::Length { length, available_bytes: front.len() });
        };
        self.start += prefix_bytes;
        let available_bytes = self.fill(body_bytes)?.len();
        if available_bytes < body_bytes {
            return Err(RecordFault::Length { length, available_bytes });
        }
        let from = self.start;
        self.start += body_bytes;
        Ok(&self.buffer[from..self.start])
    }

    /// All that is decompressed and not consumed: `wanted_bytes` or more, or less at the end of the payload.
    #[inline]
    fn fill(&mut self, wanted_bytes: usize) -> Result<&[u8], DecompressError> {
        if self.end - self.start < wanted_bytes {
            self.read_until(wanted_bytes)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn read_until(&mut self, wanted_bytes: usize) -> Result<(), DecompressError> {
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new(self.codec, self.input, self.budget_bytes)?),
        };
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < wanted_bytes {
            if self.end == self.buffer.len() {
                // Doubling what has arrived: a record that claims more than it has takes no memory for the claim.
                self.buffer.resize((self.end * 2).max(BUFFER_BYTES), 0);
            }
            match decompressor.read(&mut self.buffer[self.end..])? {
                0 => break,
                more => self.end += more,
            }
        }
        Ok(())
    }
}
