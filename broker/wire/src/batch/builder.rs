//! Batches made from records.
//!
//! Owns: the encoding of records and of the header around them. Offsets inside a batch are dense.
//! Does not own: when a batch is full or old enough to go.

use super::header::{ATTRIBUTES_AT, CRC_AT};
use super::{
    Attributes, BatchHeader, HEADER_BYTES, Header, ProducerFields, Record, TimestampType, checksum, varint,
};
use crate::compress::{Codec, compress};
use crate::ids::{LeaderEpoch, Offset};

/// What a batch says of all its records.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    /// How the records are compressed.
    pub codec: Codec,
    /// Who writes, and from which sequence on.
    pub producer: ProducerFields,
    /// Whether the batch is part of a transaction.
    pub transactional: bool,
    /// Whether it holds a control record.
    pub control: bool,
    /// Given: the time at which the log takes the batch, milliseconds since 1970, which then is every record's.
    pub append_time_ms: Option<i64>,
    /// Offset of the first record; 0 from a client.
    pub base_offset: Offset,
    /// Leader epoch; -1 from a client.
    pub leader_epoch: LeaderEpoch,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            producer: ProducerFields::NONE,
            transactional: false,
            control: false,
            append_time_ms: None,
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(-1),
        }
    }
}

/// A record to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none deletes the key in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: &'a [Header<'a>],
}

/// Takes records and becomes a batch.
#[derive(Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records, not compressed.
    bytes: Vec<u8>,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    records: i32,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(options: BatchOptions) -> Self {
        Self {
            options,
            bytes: vec![0; HEADER_BYTES],
            base_timestamp_ms: -1,
            max_timestamp_ms: -1,
            records: 0,
        }
    }

    /// Adds a record at the next offset.
    pub fn push(&mut self, record: &NewRecord<'_>) {
        let headers_bytes: usize = record
            .headers
            .iter()
            .map(|header| bytes_length(Some(header.key)) + bytes_length(header.value))
            .sum();
        let count =
            i32::try_from(record.headers.len()).expect("headers lie in memory, each 16 bytes or more");
        let headers = EncodedHeaders { count, length_bytes: headers_bytes };
        self.push_front(record.timestamp_ms, [record.key, record.value], headers);
        for header in record.headers {
            write_bytes(&mut self.bytes, Some(header.key));
            write_bytes(&mut self.bytes, header.value);
        }
    }

    /// Adds a record that was read from another batch, at the next offset.
    pub fn push_copy(&mut self, record: &Record<'_>) {
        let encoded = record.headers.bytes();
        let headers = EncodedHeaders { count: record.headers.total(), length_bytes: encoded.len() };
        self.push_front(record.timestamp_ms, [record.key, record.value], headers);
        self.bytes.extend_from_slice(encoded);
    }

    /// All of a record but its headers.
    fn push_front(&mut self, timestamp_ms: i64, key_and_value: [Option<&[u8]>; 2], headers: EncodedHeaders) {
        if self.records == 0 {
            self.base_timestamp_ms = timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let length = 1
            + varint::length(timestamp_delta)
            + varint::length(i64::from(self.records))
            + key_and_value.into_iter().map(bytes_length).sum::<usize>()
            + varint::length(i64::from(headers.count))
            + headers.length_bytes;
        let length = i32::try_from(length).expect("a record is shorter than 2 GiB");
        self.bytes.reserve(length as usize + varint::BYTES_MAX_32);
        varint::write_i32(&mut self.bytes, length);
        self.bytes.push(0);
        varint::write_i64(&mut self.bytes, timestamp_delta);
        varint::write_i32(&mut self.bytes, self.records);
        for field in key_and_value {
            write_bytes(&mut self.bytes, field);
        }
        varint::write_i32(&mut self.bytes, headers.count);
        self.records += 1;
    }

    /// Bytes of the batch so far, before compression.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.records
    }

    /// Greatest record time so far, milliseconds since 1970; -1 without any.
    #[must_use]
    pub fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp_ms
    }

    /// Sets who writes, which may be known only once the batch is on its way.
    pub fn set_producer(&mut self, producer: ProducerFields) {
        self.options.producer = producer;
    }

    /// The batch, its checksum set.
    ///
    /// # Panics
    /// Without a record, since no broker takes such a batch, and beyond 2 GiB, which the format cannot say.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        assert!(self.records > 0, "a batch holds at least one record");
        let mut batch = match self.options.codec {
            Codec::None => self.bytes,
            codec => {
                let mut batch = vec![0; HEADER_BYTES];
                compress(codec, &self.bytes[HEADER_BYTES..], &mut batch);
                batch
            }
        };
        let options = &self.options;
        let timestamp_type = match options.append_time_ms {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        let header = BatchHeader {
            base_offset: options.base_offset,
            size_bytes: batch.len(),
            leader_epoch: options.leader_epoch,
            crc: 0,
            attributes: Attributes::default()
                .with_codec(options.codec)
                .with_timestamp_type(timestamp_type)
                .with_transactional(options.transactional)
                .with_control(options.control),
            last_offset_delta: self.records - 1,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: options.append_time_ms.unwrap_or(self.max_timestamp_ms),
            producer_id: options.producer.id,
            producer_epoch: options.producer.epoch,
            base_sequence: options.producer.base_sequence,
            record_count: self.records,
        };
        batch[..HEADER_BYTES].copy_from_slice(&header.encode());
        let crc = checksum::crc32c(&batch[ATTRIBUTES_AT..]);
        batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        batch
    }
}

/// How many headers there are, and what they take behind their count.
struct EncodedHeaders {
    count: i32,
    length_bytes: usize,
}

/// What [`write_bytes`] takes.
fn bytes_length(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| varint::length(field.len() as i64) + field.len())
}

fn write_bytes(out: &mut Vec<u8>, field: Option<&[u8]>) {
    let Some(field) = field else { return varint::write_i32(out, -1) };
    varint::write_i32(out, i32::try_from(field.len()).expect("the record it is in is shorter than 2 GiB"));
    out.extend_from_slice(field);
}
