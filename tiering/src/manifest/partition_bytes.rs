//! Bytes of a partition manifest's states, edits and rows, encode and decode side by side.
//!
//! Owns: the bodies of records. Does not own: the envelope, the meaning.

use bytes::{BufMut as _, Bytes, BytesMut};
use wire::ids::{LeaderEpoch, Offset};

use super::partition::{DeadObject, Gap, GapReason, PartitionEdit, PartitionManifest, SegmentRow, SpillFile};
use crate::bytes_reader::{BytesReader, Short};
use crate::object::{EpochStart, LogIdentity};
use crate::seams::AttemptId;

/// Why a body is not what its record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MalformedBody(pub(super) String);

impl From<Short> for MalformedBody {
    fn from(_: Short) -> Self {
        MalformedBody("it ends early".into())
    }
}

type Body<T> = Result<T, MalformedBody>;

const ROW_BYTES: usize = 81;
const SPILL_BYTES: usize = 76;
const DEAD_BYTES: usize = 45;
const GAP_BYTES: usize = 17;
const EPOCH_BYTES: usize = 12;

fn put_row(row: &SegmentRow, out: &mut BytesMut) {
    out.put_i64(row.base_offset.0);
    out.put_i64(row.next_offset.0);
    out.put_i32(row.leader_epoch.0);
    out.put_slice(&row.attempt.0);
    out.put_u64(row.object_bytes);
    out.put_u64(row.raw_bytes);
    out.put_u32(row.raw_crc);
    out.put_u32(row.footer_bytes);
    out.put_i64(row.max_timestamp_ms);
    out.put_i64(row.archived_at_ms);
    out.put_u8(u8::from(row.quarantined));
    out.put_u32(row.aborted);
}

fn row(reader: &mut BytesReader) -> Body<SegmentRow> {
    Ok(SegmentRow {
        base_offset: Offset(reader.i64()?),
        next_offset: Offset(reader.i64()?),
        leader_epoch: LeaderEpoch(reader.i32()?),
        attempt: AttemptId(reader.array()?),
        object_bytes: reader.u64()?,
        raw_bytes: reader.u64()?,
        raw_crc: reader.u32()?,
        footer_bytes: reader.u32()?,
        max_timestamp_ms: reader.i64()?,
        archived_at_ms: reader.i64()?,
        quarantined: reader.u8()? != 0,
        aborted: reader.u32()?,
    })
}

fn put_spill(file: &SpillFile, out: &mut BytesMut) {
    out.put_i64(file.file_base.0);
    out.put_i64(file.base_offset.0);
    out.put_i64(file.end_offset.0);
    out.put_u32(file.rows);
    out.put_u32(file.skipped);
    out.put_slice(&file.attempt.0);
    out.put_u64(file.object_bytes);
    out.put_u64(file.raw_bytes);
    out.put_i64(file.max_timestamp_ms);
    out.put_u32(file.aborted);
}

fn spill(reader: &mut BytesReader) -> Body<SpillFile> {
    Ok(SpillFile {
        file_base: Offset(reader.i64()?),
        base_offset: Offset(reader.i64()?),
        end_offset: Offset(reader.i64()?),
        rows: reader.u32()?,
        skipped: reader.u32()?,
        attempt: AttemptId(reader.array()?),
        object_bytes: reader.u64()?,
        raw_bytes: reader.u64()?,
        max_timestamp_ms: reader.i64()?,
        aborted: reader.u32()?,
    })
}

fn put_dead(dead: &DeadObject, out: &mut BytesMut) {
    out.put_i64(dead.base_offset.0);
    out.put_u8(u8::from(dead.leader_epoch.is_some()));
    out.put_i32(dead.leader_epoch.map_or(-1, |epoch| epoch.0));
    out.put_slice(&dead.attempt.0);
    out.put_u64(dead.object_bytes);
    out.put_i64(dead.dead_since_ms);
}

fn dead(reader: &mut BytesReader) -> Body<DeadObject> {
    let base_offset = Offset(reader.i64()?);
    let (is_segment, epoch) = (reader.u8()? != 0, LeaderEpoch(reader.i32()?));
    Ok(DeadObject {
        base_offset,
        leader_epoch: is_segment.then_some(epoch),
        attempt: AttemptId(reader.array()?),
        object_bytes: reader.u64()?,
        dead_since_ms: reader.i64()?,
    })
}

const GAP_REASONS: [GapReason; 4] =
    [GapReason::Deleted, GapReason::NotArchived, GapReason::Recovered, GapReason::Hole];

fn put_gap(gap: &Gap, out: &mut BytesMut) {
    let reason = match gap.reason {
        GapReason::Deleted => 0,
        GapReason::NotArchived => 1,
        GapReason::Recovered => 2,
        GapReason::Hole => 3,
    };
    out.put_i64(gap.from.0);
    out.put_i64(gap.to.0);
    out.put_u8(reason);
}

fn gap(reader: &mut BytesReader) -> Body<Gap> {
    let (from, to, reason) = (Offset(reader.i64()?), Offset(reader.i64()?), reader.u8()?);
    let reason = GAP_REASONS.get(usize::from(reason)).copied();
    Ok(Gap { from, to, reason: reason.ok_or_else(|| MalformedBody("a gap has an unknown reason".into()))? })
}

fn put_epoch(entry: &EpochStart, out: &mut BytesMut) {
    out.put_i32(entry.epoch.0);
    out.put_i64(entry.start_offset.0);
}

fn epoch(reader: &mut BytesReader) -> Body<EpochStart> {
    Ok(EpochStart { epoch: LeaderEpoch(reader.i32()?), start_offset: Offset(reader.i64()?) })
}

fn put_list<T>(items: &[T], out: &mut BytesMut, put: fn(&T, &mut BytesMut)) {
    out.put_u32(items.len() as u32);
    items.iter().for_each(|item| put(item, out));
}

/// A list whose count is believed only as far as there are bytes for it.
fn list<T>(
    reader: &mut BytesReader,
    item_bytes: usize,
    item: fn(&mut BytesReader) -> Body<T>,
) -> Body<Vec<T>> {
    let count = reader.u32()? as usize;
    if count.saturating_mul(item_bytes) > reader.remaining() {
        return Err(MalformedBody("a list is longer than its record".into()));
    }
    (0..count).map(|_| item(reader)).collect()
}

/// Rows of a spilled range.
pub(super) fn encode_rows(rows: &[SegmentRow]) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + rows.len() * ROW_BYTES);
    put_list(rows, &mut out, put_row);
    out.freeze()
}

/// Reads what [`encode_rows`] wrote.
pub(super) fn decode_rows(body: Bytes) -> Body<Vec<SegmentRow>> {
    let mut reader = BytesReader::new(body);
    let rows = list(&mut reader, ROW_BYTES, row)?;
    end(&reader)?;
    Ok(rows)
}

/// A whole state.
pub(super) fn encode_state(manifest: &PartitionManifest) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i64(manifest.start_offset.0);
    put_list(&manifest.spilled, &mut out, put_spill);
    put_list(&manifest.segments, &mut out, put_row);
    put_list(&manifest.gaps, &mut out, put_gap);
    put_list(&manifest.epochs, &mut out, put_epoch);
    put_list(&manifest.dead, &mut out, put_dead);
    out.freeze()
}

/// Reads what [`encode_state`] wrote.
pub(super) fn decode_state(log: LogIdentity, body: Bytes) -> Body<PartitionManifest> {
    let mut reader = BytesReader::new(body);
    let manifest = PartitionManifest {
        log,
        start_offset: Offset(reader.i64()?),
        spilled: list(&mut reader, SPILL_BYTES, spill)?,
        segments: list(&mut reader, ROW_BYTES, row)?,
        gaps: list(&mut reader, GAP_BYTES, gap)?,
        epochs: list(&mut reader, EPOCH_BYTES, epoch)?,
        dead: list(&mut reader, DEAD_BYTES, dead)?,
    };
    end(&reader)?;
    Ok(manifest)
}

const EDIT_ADD: u8 = 1;
const EDIT_GAP: u8 = 2;
const EDIT_START: u8 = 3;
const EDIT_DEAD: u8 = 4;
const EDIT_DROP: u8 = 5;
const EDIT_QUARANTINE: u8 = 6;
const EDIT_SPILL: u8 = 7;
const EDIT_SPILLED_DEAD: u8 = 8;

fn put_edit(edit: &PartitionEdit, out: &mut BytesMut) {
    match edit {
        PartitionEdit::AddSegment { row, epochs } => {
            out.put_u8(EDIT_ADD);
            put_row(row, out);
            put_list(epochs, out, put_epoch);
        }
        PartitionEdit::DeclareGap(gap) => {
            out.put_u8(EDIT_GAP);
            put_gap(gap, out);
        }
        PartitionEdit::AdvanceStart { to } => {
            out.put_u8(EDIT_START);
            out.put_i64(to.0);
        }
        PartitionEdit::MarkDead { attempt, at_ms } => {
            out.put_u8(EDIT_DEAD);
            out.put_slice(&attempt.0);
            out.put_i64(*at_ms);
        }
        PartitionEdit::DropDead { attempts } => {
            out.put_u8(EDIT_DROP);
            put_list(attempts, out, |attempt, out| out.put_slice(&attempt.0));
        }
        PartitionEdit::Quarantine { attempt, on } => {
            out.put_u8(EDIT_QUARANTINE);
            out.put_slice(&attempt.0);
            out.put_u8(u8::from(*on));
        }
        PartitionEdit::Spill { file } => {
            out.put_u8(EDIT_SPILL);
            put_spill(file, out);
        }
        PartitionEdit::MarkSpilledDead { rows, next_base, at_ms } => {
            out.put_u8(EDIT_SPILLED_DEAD);
            put_list(rows, out, put_row);
            out.put_i64(next_base.map_or(-1, |offset| offset.0));
            out.put_i64(*at_ms);
        }
    }
}

fn edit(reader: &mut BytesReader) -> Body<PartitionEdit> {
    let attempt = |reader: &mut BytesReader| Ok::<_, Short>(AttemptId(reader.array()?));
    Ok(match reader.u8()? {
        EDIT_ADD => {
            PartitionEdit::AddSegment { row: row(reader)?, epochs: list(reader, EPOCH_BYTES, epoch)? }
        }
        EDIT_GAP => PartitionEdit::DeclareGap(gap(reader)?),
        EDIT_START => PartitionEdit::AdvanceStart { to: Offset(reader.i64()?) },
        EDIT_DEAD => PartitionEdit::MarkDead { attempt: attempt(reader)?, at_ms: reader.i64()? },
        EDIT_DROP => {
            PartitionEdit::DropDead { attempts: list(reader, 16, |reader| Ok(AttemptId(reader.array()?)))? }
        }
        EDIT_QUARANTINE => PartitionEdit::Quarantine { attempt: attempt(reader)?, on: reader.u8()? != 0 },
        EDIT_SPILL => PartitionEdit::Spill { file: spill(reader)? },
        EDIT_SPILLED_DEAD => {
            let rows = list(reader, ROW_BYTES, row)?;
            let (next_base, at_ms) = (reader.i64()?, reader.i64()?);
            PartitionEdit::MarkSpilledDead {
                rows,
                next_base: (next_base >= 0).then_some(Offset(next_base)),
                at_ms,
            }
        }
        unknown => return Err(MalformedBody(format!("unknown edit {unknown}"))),
    })
}

/// The edits of a delta.
pub(super) fn encode_edits(edits: &[PartitionEdit]) -> Bytes {
    let mut out = BytesMut::new();
    put_list(edits, &mut out, put_edit);
    out.freeze()
}

/// Reads what [`encode_edits`] wrote.
pub(super) fn decode_edits(body: Bytes) -> Body<Vec<PartitionEdit>> {
    let mut reader = BytesReader::new(body);
    let edits = list(&mut reader, 1, edit)?;
    end(&reader)?;
    Ok(edits)
}

fn end(reader: &BytesReader) -> Body<()> {
    if reader.is_empty() { Ok(()) } else { Err(MalformedBody("it goes on after its end".into())) }
}
