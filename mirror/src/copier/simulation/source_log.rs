//! The source partition of a story: plain batches, transactions, what a log cleaner left, what came from the target.
//!
//! Owns: its bytes, and which of its records must arrive. Does not own: which of them were copied.

use bytes::Bytes;
use wire::batch::{
    Attributes, BatchBuilder, BatchHeader, BatchOptions, EndMarker, EndMarkerPlace, NewRecord,
    ProducerFields, TransactionEnd, crc32c,
};
use wire::compress::Codec;
use wire::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::dice::Dice;
use crate::copier::plan::{AbortedTransaction, Fetched};

pub(super) const FROM_TARGET: i64 = 666;

/// What a record must look like in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) value: Vec<u8>,
    pub(super) timestamp_ms: i64,
}

/// The source partition.
pub(super) struct SourceLog {
    bytes: Vec<(i64, Bytes)>,
    /// With the offset of its marker: an answer lists those that end at or after its start.
    aborted: Vec<(AbortedTransaction, i64)>,
    /// Offset and looks of each committed record that did not come from the target.
    pub(super) committed: Vec<(i64, Seen)>,
    pub(super) log_start: i64,
    pub(super) end: i64,
}

fn raw_record(bytes: &mut Vec<u8>, delta: i64, timestamp_delta: i64, value: &[u8]) {
    let zigzag = |number: i64| ((number << 1) ^ (number >> 63)) as u64;
    let mut body = vec![0];
    for number in [timestamp_delta, delta, -1, value.len() as i64] {
        crate::offset_map::write_varint(&mut body, zigzag(number));
    }
    body.extend_from_slice(value);
    body.push(0);
    crate::offset_map::write_varint(bytes, zigzag(body.len() as i64));
    bytes.extend_from_slice(&body);
}

/// A batch as a log cleaner leaves it: records missing, offsets kept.
fn thinned(base: i64, epoch: i32, span: i64, kept: &[(i64, Vec<u8>)]) -> Bytes {
    let mut payload = Vec::new();
    for (delta, value) in kept {
        raw_record(&mut payload, *delta, *delta, value);
    }
    let header = BatchHeader {
        base_offset: Offset(base),
        size_bytes: wire::batch::HEADER_BYTES + payload.len(),
        leader_epoch: LeaderEpoch(epoch),
        crc: 0,
        attributes: Attributes::default().with_delete_horizon(true),
        last_offset_delta: span as i32 - 1,
        base_timestamp_ms: base,
        max_timestamp_ms: base + span,
        producer_id: ProducerId(-1),
        producer_epoch: ProducerEpoch(-1),
        base_sequence: -1,
        record_count: kept.len() as i32,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&payload);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

impl SourceLog {
    pub(super) fn grow(dice: &mut Dice) -> Self {
        let mut log =
            Self { bytes: Vec::new(), aborted: Vec::new(), committed: Vec::new(), log_start: 0, end: 0 };
        let mut epoch = 0;
        for _ in 0..5 + dice.below(40) {
            epoch += i32::from(dice.one_in(12));
            match dice.below(7) {
                0 => log.append_thinned(dice, epoch),
                1 => log.append_transaction(dice, epoch),
                2 => log.append_from_target(epoch),
                3 => log.append_plain(dice, epoch, Some(5_000_000 + log.end)),
                _ => log.append_plain(dice, epoch, None),
            }
        }
        if dice.one_in(3) {
            log.log_start = dice.below(log.end as u64 / 2) as i64;
            let start = log.log_start;
            log.committed.retain(|(offset, _)| *offset >= start);
        }
        log
    }

    fn batch(&mut self, options: BatchOptions, count: u64) -> Vec<(i64, Seen)> {
        let mut builder = BatchBuilder::new(BatchOptions { base_offset: Offset(self.end), ..options });
        let mut records = Vec::new();
        for step in 0..count as i64 {
            let offset = self.end + step;
            let value = format!("value {offset}").into_bytes();
            let record = NewRecord { timestamp_ms: offset * 10, value: Some(&value), ..NewRecord::default() };
            builder.push(&record);
            let timestamp_ms = options.append_time_ms.unwrap_or(offset * 10);
            records.push((offset, Seen { value, timestamp_ms }));
        }
        self.bytes.push((self.end, builder.build().into()));
        self.end += count as i64;
        records
    }

    fn append_plain(&mut self, dice: &mut Dice, epoch: i32, append_time_ms: Option<i64>) {
        let codec = Codec::ALL[dice.below(5) as usize];
        let options = BatchOptions {
            codec,
            append_time_ms,
            leader_epoch: LeaderEpoch(epoch),
            ..BatchOptions::default()
        };
        let records = self.batch(options, 1 + dice.below(6));
        self.committed.extend(records);
    }

    fn append_from_target(&mut self, epoch: i32) {
        let producer =
            ProducerFields { id: ProducerId(FROM_TARGET), epoch: ProducerEpoch(0), base_sequence: 0 };
        let options = BatchOptions { producer, leader_epoch: LeaderEpoch(epoch), ..BatchOptions::default() };
        self.batch(options, 3);
    }

    fn append_transaction(&mut self, dice: &mut Dice, epoch: i32) {
        let producer = ProducerFields { id: ProducerId(77), epoch: ProducerEpoch(0), base_sequence: 0 };
        let leader_epoch = LeaderEpoch(epoch);
        let options = BatchOptions { producer, transactional: true, leader_epoch, ..BatchOptions::default() };
        let first_offset = self.end;
        let mut records = self.batch(options, 1 + dice.below(4));
        self.append_plain(dice, epoch, None);
        records.extend(self.batch(options, 1 + dice.below(4)));
        let end = if dice.one_in(2) { TransactionEnd::Abort } else { TransactionEnd::Commit };
        if end == TransactionEnd::Abort {
            self.aborted.push((AbortedTransaction { first_offset, producer_id: 77 }, self.end));
        } else {
            self.committed.extend(records);
            self.committed.sort_by_key(|(offset, _)| *offset);
        }
        let place = EndMarkerPlace {
            producer_id: ProducerId(77),
            producer_epoch: ProducerEpoch(0),
            timestamp_ms: 0,
            base_offset: Offset(self.end),
            leader_epoch,
        };
        let marker = EndMarker { end, coordinator_epoch: 0 }.batch(&place);
        self.bytes.push((self.end, marker.into()));
        self.end += 1;
    }

    fn append_thinned(&mut self, dice: &mut Dice, epoch: i32) {
        let span = 2 + dice.below(8) as i64;
        let mut kept = Vec::new();
        for delta in 0..span {
            if dice.one_in(2) {
                let value = format!("value {}", self.end + delta).into_bytes();
                let seen = Seen { value: value.clone(), timestamp_ms: self.end + delta };
                self.committed.push((self.end + delta, seen));
                kept.push((delta, value));
            }
        }
        self.bytes.push((self.end, thinned(self.end, epoch, span, &kept)));
        self.end += span;
    }

    /// A few batches from the one that holds `from` on, the last perhaps cut short.
    pub(super) fn fetch(&self, from: i64, dice: &mut Dice) -> Fetched {
        let first = self.bytes.partition_point(|(base, _)| *base <= from).saturating_sub(1);
        let count = 1 + dice.below(8) as usize;
        let mut bytes = Vec::new();
        for (_, batch) in self.bytes.iter().skip(first).take(count) {
            bytes.extend_from_slice(batch);
        }
        if let Some((_, next)) = self.bytes.get(first + count).filter(|_| dice.one_in(2)) {
            bytes.extend_from_slice(&next[..dice.below(next.len() as u64) as usize]);
        }
        let ends_later = self.aborted.iter().filter(|(_, marker)| *marker >= from);
        let aborted = ends_later.map(|(transaction, _)| *transaction).collect();
        Fetched { bytes: bytes.into(), aborted, log_start: self.log_start }
    }
}
