//! Reads the one record of a transaction marker, as far as producer state needs it (KIP-98).
//!
//! Owns: that parse. Does not own: any other control record; those are kept and change no state.

use wire::batch::{BatchHeader, HEADER_BYTES};

use crate::producers::TransactionMarker;

/// A control batch that ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransactionMarkerBatch {
    pub(crate) marker: TransactionMarker,
}

/// The marker in a control batch; `Ok(None)` for another kind of control record.
pub(crate) fn read(
    header: &BatchHeader,
    batch: &[u8],
) -> Result<Option<TransactionMarkerBatch>, &'static str> {
    let mut rest = batch.get(HEADER_BYTES..).ok_or("it is cut short")?;
    if header.attributes.0 & 7 != 0 {
        return Err("it is compressed");
    }
    signed_varint(&mut rest).ok_or("its record is cut short")?;
    take(&mut rest, 1).ok_or("its record is cut short")?;
    signed_varint(&mut rest).ok_or("its record is cut short")?;
    signed_varint(&mut rest).ok_or("its record is cut short")?;
    let key = field(&mut rest).ok_or("it has no key")?;
    let value = field(&mut rest).ok_or("it has no value")?;
    let kind: [u8; 2] = key.get(2..4).and_then(|kind| kind.try_into().ok()).ok_or("its key is cut short")?;
    let committed = match i16::from_be_bytes(kind) {
        0 => false,
        1 => true,
        _ => return Ok(None),
    };
    let epoch: [u8; 4] =
        value.get(2..6).and_then(|epoch| epoch.try_into().ok()).ok_or("its value is cut short")?;
    if !header.has_producer_id() {
        return Err("it names no producer");
    }
    let marker = TransactionMarker {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        coordinator_epoch: i32::from_be_bytes(epoch),
        committed,
    };
    Ok(Some(TransactionMarkerBatch { marker }))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = signed_varint(rest)?;
    take(rest, usize::try_from(length).ok()?)
}

/// A zigzag varint of at most five bytes.
fn signed_varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
        }
    }
    None
}
