//! The bytes of [`ProducerStates`], drawn in `FORMAT-SIDECAR.md`.
//!
//! Owns: both directions, and the refusal of what no state can be.
//! Does not own: the rules (`producers`), the file around the bytes (`sidecar`, `checkpoint`).

use wire::ids::{Offset, ProducerEpoch, ProducerId};

use super::slots::{ProducerSlot, RetainedBatch};
use super::{MAX_PRODUCERS, ProducerStates, RETAINED_BATCHES};
use crate::encoding::{DecodeError, Decoder, put_signed, put_varint};

/// Fewer bytes than any producer takes.
const LEAST_PRODUCER_BYTES: usize = 6;

/// The largest distance between two offsets of one batch.
const MAX_OFFSET_DELTA: u64 = i32::MAX as u64;

pub(super) fn encode(states: &ProducerStates, target: &mut Vec<u8>) {
    put_varint(target, states.len() as u64);
    for slot in states.slots_oldest_first() {
        put_varint(target, slot.producer_id.0.cast_unsigned());
        put_varint(target, u64::from(slot.producer_epoch.0.cast_unsigned()));
        put_varint(target, u64::from(slot.coordinator_epoch.wrapping_add(1).cast_unsigned()));
        put_varint(target, slot.transaction_start.map_or(0, |start| start.0.cast_unsigned() + 1));
        put_signed(target, slot.last_append_time_ms);
        put_varint(target, u64::from(slot.batch_count));
        for batch in slot.retained() {
            put_varint(target, u64::from(batch.last_sequence.cast_unsigned()));
            put_varint(target, u64::from(batch.last_offset_delta.cast_unsigned()));
            put_varint(target, batch.base_offset.cast_unsigned());
            put_signed(target, slot.last_append_time_ms.wrapping_sub(batch.append_time_ms));
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<ProducerStates, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let count = decoder.count(LEAST_PRODUCER_BYTES, MAX_PRODUCERS, "producer count")?;
    let mut states = ProducerStates::default();
    states.slots.reserve_exact(count);
    states.by_id.reserve(count);
    for _ in 0..count {
        let slot = decode_slot(&mut decoder)?;
        if states.by_id.contains_key(&slot.producer_id) {
            return Err(once("producer id", slot.producer_id.0));
        }
        if let Some(start) = slot.transaction_start
            && states.open.insert(start, slot.producer_id).is_some()
        {
            return Err(once("transaction start", start.0));
        }
        states.insert(slot);
    }
    decoder.finish("producers")?;
    Ok(states)
}

fn decode_slot(decoder: &mut Decoder<'_>) -> Result<ProducerSlot, DecodeError> {
    let mut slot = ProducerSlot::new(ProducerId(decoder.varint_i64("producer id")?));
    let epoch = decoder.varint_up_to(i16::MAX as u64, "producer epoch")?;
    slot.producer_epoch = ProducerEpoch(epoch as i16);
    let coordinator_epoch = decoder.varint_up_to(1 << 31, "coordinator epoch")?;
    slot.coordinator_epoch = (coordinator_epoch.cast_signed() - 1) as i32;
    slot.transaction_start = match decoder.varint_i64("transaction start")? {
        0 => None,
        start => Some(Offset(start - 1)),
    };
    slot.last_append_time_ms = decoder.signed("last append time")?;
    slot.batch_count = decoder.varint_up_to(RETAINED_BATCHES as u64, "retained batch count")? as u8;
    for batch in &mut slot.batches[..usize::from(slot.batch_count)] {
        let last_sequence = decoder.varint_i32("last sequence")?;
        let last_offset_delta = decoder.varint_up_to(MAX_OFFSET_DELTA, "last offset delta")? as i32;
        let base_offset = decoder.varint_i64("base offset")?;
        if base_offset.checked_add(i64::from(last_offset_delta)).is_none() {
            return Err(DecodeError::Value {
                field: "base offset",
                value: base_offset.into(),
                rule: "63 bits",
            });
        }
        let before_last_ms = decoder.signed("append time before the last")?;
        *batch = RetainedBatch {
            last_sequence,
            last_offset_delta,
            base_offset,
            append_time_ms: slot.last_append_time_ms.wrapping_sub(before_last_ms),
        };
    }
    Ok(slot)
}

fn once(field: &'static str, value: i64) -> DecodeError {
    DecodeError::Value { field, value: value.into(), rule: "that it is listed once" }
}
