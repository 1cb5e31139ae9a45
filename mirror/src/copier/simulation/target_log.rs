//! The target partition of a story, and what it sees of a batch.
//!
//! Owns: Kafka's rules for idempotent producers. Does not own: when a request arrives, or whether its answer does.

use std::collections::{HashMap, VecDeque};

use wire::batch::{BatchView, Records, TimestampType, sequence_after};

use super::source_log::Seen;
use crate::copier::{Outgoing, Producer};
use crate::offset_map::TargetOffset;
use crate::recovery::{KnownProducer, TailBatch};

#[derive(Clone)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) producer: Producer,
    pub(super) records: Vec<Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Appended(i64),
    Refused,
    Fenced,
}

struct Remembered {
    epoch: i16,
    next_sequence: i32,
    last: VecDeque<(i32, i32, i64)>,
}

/// The target partition, with Kafka's rules for idempotent producers.
#[derive(Default)]
pub(super) struct TargetLog {
    pub(super) batches: Vec<(i64, Producer, Vec<Seen>)>,
    pub(super) end: i64,
    producers: HashMap<i64, Remembered>,
}

impl TargetLog {
    pub(super) fn append(&mut self, request: &Request) -> Answer {
        let Producer { id, epoch, sequence } = request.producer;
        let count = request.records.len() as i32;
        if let Some(known) = self.producers.get(&id) {
            if epoch < known.epoch {
                return Answer::Fenced;
            }
            let same = |(first, length, _): &&(i32, i32, i64)| (*first, *length) == (sequence, count);
            if let Some((.., base)) = known.last.iter().find(same).filter(|_| epoch == known.epoch) {
                return Answer::Appended(*base);
            }
            let expected = if epoch > known.epoch { 0 } else { known.next_sequence };
            if sequence != expected {
                return Answer::Refused;
            }
        }
        let base = self.end;
        self.end += i64::from(count);
        self.batches.push((base, request.producer, request.records.clone()));
        let fresh = || Remembered { epoch, next_sequence: 0, last: VecDeque::new() };
        let known = self.producers.entry(id).or_insert_with(fresh);
        if known.epoch != epoch {
            *known = fresh();
        }
        known.next_sequence = sequence_after(sequence, count);
        known.last.push_back((sequence, count, base));
        if known.last.len() > 5 {
            known.last.pop_front();
        }
        Answer::Appended(base)
    }

    pub(super) fn append_foreign(&mut self, count: u64) {
        let seen = Seen { value: b"foreign".to_vec(), timestamp_ms: 0 };
        let request = Request {
            id: 0,
            producer: Producer { id: -1, epoch: -1, sequence: -1 },
            records: vec![seen; count as usize],
        };
        self.batches.push((self.end, request.producer, request.records));
        self.end += count as i64;
    }

    pub(super) fn forget_producers(&mut self) {
        self.producers.clear();
    }

    pub(super) fn tail(&self) -> Vec<TailBatch> {
        let header = |(base, producer, records): &(i64, Producer, Vec<Seen>)| TailBatch {
            base_offset: TargetOffset(*base),
            offsets: records.len() as i64,
            leader_epoch: 0,
            producer: *producer,
        };
        self.batches.iter().map(header).collect()
    }

    pub(super) fn known(&self, id: i64) -> Option<KnownProducer> {
        let known = self.producers.get(&id)?;
        let last_sequence = known.next_sequence.wrapping_sub(1) & i32::MAX;
        Some(KnownProducer { epoch: known.epoch, last_sequence })
    }
}

pub(super) fn records_of(batch: &Outgoing, producer: Producer) -> Vec<Seen> {
    let mut bytes = batch.stamped(producer).unwrap().to_vec();
    bytes.extend_from_slice(&batch.payload);
    let view = BatchView::only(&bytes).unwrap();
    view.check_crc().unwrap();
    let header = view.header();
    view.check_produced().expect("a broker takes the batch");
    assert!(!header.attributes.is_transactional() && !header.attributes.has_delete_horizon());
    assert_eq!(header.attributes.timestamp_type(), TimestampType::CreateTime);
    assert_eq!((header.producer_id.0, header.base_sequence), (producer.id, producer.sequence));
    let mut seen = Vec::new();
    let mut records = Records::new(&view, 1 << 20);
    while let Some(record) = records.next_record().unwrap() {
        let value = record.value.unwrap().to_vec();
        seen.push(Seen { value, timestamp_ms: record.timestamp_ms });
    }
    assert_eq!(seen.len(), batch.records as usize);
    seen
}
