//! The state of one partition's manifest and the edits that change it, as pure data.
//!
//! Owns: what each edit means and when it is allowed. Does not own: bytes (`partition_bytes`), commits (`register`).
//!
//! Life of an object: *absent* -> live (`AddSegment`) -> dead (`MarkDead`) -> forgotten (`DropDead`, after its delete).

use wire::ids::{LeaderEpoch, Offset};

use super::invariants::{Violation, check_partition};
use crate::limits::SPILL_ROWS;
use crate::object::{EpochStart, LogIdentity, ObjectIdentity};
use crate::seams::AttemptId;

/// A live segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentRow {
    /// First offset.
    pub base_offset: Offset,
    /// One past the last offset.
    pub next_offset: Offset,
    /// Leader epoch of the last batch; part of the key.
    pub leader_epoch: LeaderEpoch,
    /// The write that made the object; part of the key.
    pub attempt: AttemptId,
    /// Size of the object.
    pub object_bytes: u64,
    /// Size of the segment.
    pub raw_bytes: u64,
    /// CRC-32C of the segment.
    pub raw_crc: u32,
    /// Size of the object's footer, without its trailer.
    pub footer_bytes: u32,
    /// Greatest record time, milliseconds.
    pub max_timestamp_ms: i64,
    /// When it was committed, milliseconds.
    pub archived_at_ms: i64,
    /// How many aborted transactions its sidecar lists: 0 spares readers the look.
    pub aborted: u32,
    /// Whether readers found the object damaged.
    pub quarantined: bool,
}

impl SegmentRow {
    /// What the object has to say about itself.
    pub fn identity(&self, log: &LogIdentity) -> ObjectIdentity {
        ObjectIdentity {
            log: log.clone(),
            base_offset: self.base_offset,
            next_offset: self.next_offset,
            leader_epoch: self.leader_epoch,
            attempt: self.attempt,
            raw_bytes: self.raw_bytes,
            raw_crc: self.raw_crc,
            max_timestamp_ms: self.max_timestamp_ms,
        }
    }

    fn dead(&self, at_ms: i64) -> DeadObject {
        DeadObject {
            base_offset: self.base_offset,
            leader_epoch: Some(self.leader_epoch),
            attempt: self.attempt,
            object_bytes: self.object_bytes,
            dead_since_ms: at_ms,
        }
    }
}

/// Rows that were moved, frozen, to a file of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpillFile {
    /// First offset of the file's first row; part of its key.
    pub file_base: Offset,
    /// First offset of the first live row.
    pub base_offset: Offset,
    /// One past the last offset of the last row.
    pub end_offset: Offset,
    /// Number of live rows.
    pub rows: u32,
    /// Number of dead rows before them in the file.
    pub skipped: u32,
    /// The write that made the file; part of its key.
    pub attempt: AttemptId,
    /// Sum of the live objects' sizes.
    pub object_bytes: u64,
    /// Sum of the live segments' sizes.
    pub raw_bytes: u64,
    /// Greatest record time in any of them, milliseconds.
    pub max_timestamp_ms: i64,
    /// How many aborted transactions their sidecars list.
    pub aborted: u32,
}

/// An object that new readers do not see, waiting for its delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeadObject {
    /// First offset; part of the key.
    pub base_offset: Offset,
    /// Leader epoch; part of a segment's key. `None` for a spilled range of rows.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The write that made it; part of the key.
    pub attempt: AttemptId,
    /// Its size.
    pub object_bytes: u64,
    /// When it was marked, milliseconds.
    pub dead_since_ms: i64,
}

/// Why offsets between two segments are in no object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GapReason {
    /// They were deleted, or below the log start, before they could be archived.
    Deleted,
    /// Archiving was off while they were written.
    NotArchived,
    /// Skipped by a recovery from the bucket: whatever had them is lost, and no new record gets them.
    Recovered,
    /// The hot log has a hole there.
    Hole,
}

/// Offsets that are in no object, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// First missing offset.
    pub from: Offset,
    /// One past the last.
    pub to: Offset,
    /// Why.
    pub reason: GapReason,
}

/// The state of a partition's manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionManifest {
    /// Whose manifest.
    pub log: LogIdentity,
    /// Nothing below is served.
    pub start_offset: Offset,
    /// Older live segments, as files of rows, rising.
    pub spilled: Vec<SpillFile>,
    /// Live segments, rising.
    pub segments: Vec<SegmentRow>,
    /// Holes, rising.
    pub gaps: Vec<Gap>,
    /// Leader epochs, rising.
    pub epochs: Vec<EpochStart>,
    /// Objects to be deleted.
    pub dead: Vec<DeadObject>,
}

/// One change of a partition's manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartitionEdit {
    /// The segment that continues the log.
    AddSegment {
        /// The segment.
        row: SegmentRow,
        /// Epochs seen in it.
        epochs: Vec<EpochStart>,
    },
    /// Offsets after the end that no object will have.
    DeclareGap(Gap),
    /// Moves the start up.
    AdvanceStart {
        /// The new start.
        to: Offset,
    },
    /// Takes the oldest live segment, which must lie below the start, away from readers.
    MarkDead {
        /// Its write.
        attempt: AttemptId,
        /// When.
        at_ms: i64,
    },
    /// Forgets dead objects whose delete succeeded.
    DropDead {
        /// Their writes.
        attempts: Vec<AttemptId>,
    },
    /// Notes that an object is damaged, or that it is not any more.
    Quarantine {
        /// Its write.
        attempt: AttemptId,
        /// Damaged or healed.
        on: bool,
    },
    /// Moves the oldest rows to a file that exists already.
    Spill {
        /// The file.
        file: SpillFile,
    },
    /// Takes the oldest rows of the oldest file, which must lie below the start, away from readers.
    MarkSpilledDead {
        /// The rows.
        rows: Vec<SegmentRow>,
        /// First offset of the row after them in the file; `None` when the file has no more.
        next_base: Option<Offset>,
        /// When.
        at_ms: i64,
    },
}

impl PartitionManifest {
    /// A manifest before its first edit.
    pub fn empty(log: LogIdentity) -> Self {
        PartitionManifest {
            log,
            start_offset: Offset(0),
            spilled: Vec::new(),
            segments: Vec::new(),
            gaps: Vec::new(),
            epochs: Vec::new(),
            dead: Vec::new(),
        }
    }

    /// One past the last offset that is archived or declared missing: where the next segment must start.
    pub fn end_offset(&self) -> Offset {
        let rows = self.segments.last().map(|row| row.next_offset);
        let rows = rows.or_else(|| self.spilled.last().map(|file| file.end_offset));
        let gap = self.gaps.last().map(|gap| gap.to);
        rows.max(gap).unwrap_or(Offset(0)).max(self.start_offset)
    }

    /// Where reading at or after `start_offset` begins: the start itself, or beyond a hole at it.
    pub fn first_readable(&self) -> Option<Offset> {
        let spilled = self.spilled.first().map(|file| file.base_offset);
        let first = spilled.or_else(|| self.segments.iter().map(|row| row.base_offset).next());
        first.map(|first| first.max(self.start_offset))
    }

    /// Where the range begins that recoveries gave up and that ends at `end`.
    pub fn lost_before(&self, end: Offset) -> Option<Offset> {
        let mut from = end;
        for gap in self.gaps.iter().rev().filter(|gap| gap.reason == GapReason::Recovered) {
            if gap.to == from {
                from = gap.from;
            }
        }
        (from < end).then_some(from)
    }

    /// Whether a live segment reaches beyond `offset`.
    pub fn has_records_from(&self, offset: Offset) -> bool {
        let spilled = self.spilled.last().is_some_and(|file| file.end_offset > offset);
        spilled || self.segments.last().is_some_and(|row| row.next_offset > offset)
    }

    /// Number, object bytes and raw bytes of all live segments.
    pub fn live_totals(&self) -> LiveTotals {
        let mut totals = LiveTotals::default();
        for file in &self.spilled {
            totals.segments += u64::from(file.rows);
            totals.object_bytes += file.object_bytes;
            totals.raw_bytes += file.raw_bytes;
        }
        for row in &self.segments {
            totals.segments += 1;
            totals.object_bytes += row.object_bytes;
            totals.raw_bytes += row.raw_bytes;
        }
        totals
    }

    /// The row in memory with that write.
    pub fn row(&self, attempt: AttemptId) -> Option<&SegmentRow> {
        self.segments.iter().find(|row| row.attempt == attempt)
    }

    /// Makes one edit.
    ///
    /// # Errors
    /// The edit is not allowed in this state; the state is then undefined and must be dropped.
    pub fn apply(&mut self, edit: &PartitionEdit) -> Result<(), Violation> {
        match edit {
            PartitionEdit::AddSegment { row, epochs } => self.add_segment(row, epochs),
            PartitionEdit::DeclareGap(gap) => self.declare_gap(*gap),
            PartitionEdit::AdvanceStart { to } => self.advance_start(*to),
            PartitionEdit::MarkDead { attempt, at_ms } => self.mark_dead(*attempt, *at_ms),
            PartitionEdit::DropDead { attempts } => {
                self.dead.retain(|dead| !attempts.contains(&dead.attempt));
                Ok(())
            }
            PartitionEdit::Quarantine { attempt, on } => {
                // The row may be spilled or gone by now; then there is nobody left to warn.
                if let Some(row) = self.segments.iter_mut().find(|row| row.attempt == *attempt) {
                    row.quarantined = *on;
                }
                Ok(())
            }
            PartitionEdit::Spill { file } => self.spill(*file),
            PartitionEdit::MarkSpilledDead { rows, next_base, at_ms } => {
                self.mark_spilled_dead(rows, *next_base, *at_ms)
            }
        }
    }

    /// Checks all named invariants.
    ///
    /// # Errors
    /// The first one that fails.
    pub fn check(&self) -> Result<(), Violation> {
        check_partition(self)
    }

    fn add_segment(&mut self, row: &SegmentRow, epochs: &[EpochStart]) -> Result<(), Violation> {
        let end = self.end_offset();
        if row.base_offset != end {
            return Err(not_allowed(format!(
                "segment {} does not continue the end {}",
                row.base_offset.0, end.0
            )));
        }
        for entry in epochs {
            match self.epochs.last() {
                Some(last) if last.epoch == entry.epoch => {}
                Some(last) if last.epoch > entry.epoch => {
                    return Err(not_allowed(format!("epoch {} after {}", entry.epoch.0, last.epoch.0)));
                }
                _ => self.epochs.push(*entry),
            }
        }
        self.segments.push(*row);
        Ok(())
    }

    fn declare_gap(&mut self, gap: Gap) -> Result<(), Violation> {
        if gap.from != self.end_offset() || gap.to <= gap.from {
            return Err(not_allowed(format!("gap {} to {} does not continue the end", gap.from.0, gap.to.0)));
        }
        self.gaps.push(gap);
        Ok(())
    }

    fn advance_start(&mut self, to: Offset) -> Result<(), Violation> {
        if to < self.start_offset || to > self.end_offset() {
            return Err(not_allowed(format!("start {} cannot move to {}", self.start_offset.0, to.0)));
        }
        self.start_offset = to;
        self.forget_gaps();
        let covering = self.epochs.partition_point(|entry| entry.start_offset <= to).saturating_sub(1);
        self.epochs.drain(..covering);
        Ok(())
    }

    fn mark_dead(&mut self, attempt: AttemptId, at_ms: i64) -> Result<(), Violation> {
        let oldest = self.segments.first().filter(|_| self.spilled.is_empty());
        let Some(row) =
            oldest.filter(|row| row.attempt == attempt && row.next_offset <= self.start_offset).copied()
        else {
            return Err(not_allowed(format!("object {attempt} is not the oldest below the start")));
        };
        self.segments.remove(0);
        self.dead.push(row.dead(at_ms));
        self.forget_gaps();
        Ok(())
    }

    /// Drops gaps that explain nothing any more: those below the start and below every live segment. A gap that reaches
    /// the end says where the log goes on, so it stays.
    fn forget_gaps(&mut self) {
        let end = self.end_offset();
        let spilled = self.spilled.first().map(|file| file.base_offset);
        let live = spilled.or_else(|| self.segments.first().map(|row| row.base_offset));
        let floor = live.map_or(self.start_offset, |live| live.min(self.start_offset));
        self.gaps.retain(|gap| gap.to > floor || gap.to == end);
    }

    fn spill(&mut self, file: SpillFile) -> Result<(), Violation> {
        let count = file.rows as usize;
        let moved = self.segments.get(..count).unwrap_or_default();
        let (first, last) =
            (moved.first().map(|row| row.base_offset), moved.last().map(|row| row.next_offset));
        if count > SPILL_ROWS
            || file.skipped != 0
            || file.file_base != file.base_offset
            || first != Some(file.base_offset)
            || last != Some(file.end_offset)
        {
            return Err(not_allowed(format!(
                "spill at {} does not match the oldest rows",
                file.base_offset.0
            )));
        }
        self.segments.drain(..count);
        self.spilled.push(file);
        Ok(())
    }

    fn mark_spilled_dead(
        &mut self,
        rows: &[SegmentRow],
        next_base: Option<Offset>,
        at_ms: i64,
    ) -> Result<(), Violation> {
        let start = self.start_offset;
        let Some(file) = self.spilled.first_mut() else {
            return Err(not_allowed("there is no spilled range".into()));
        };
        let count = rows.len() as u32;
        let fits = rows.first().is_some_and(|row| row.base_offset == file.base_offset)
            && rows.last().is_some_and(|row| row.next_offset <= start)
            && count <= file.rows
            && (count == file.rows) == next_base.is_none();
        if !fits {
            return Err(not_allowed(format!(
                "rows are not the oldest of spilled range {}",
                file.base_offset.0
            )));
        }
        self.dead.extend(rows.iter().map(|row| row.dead(at_ms)));
        file.rows -= count;
        file.skipped += count;
        file.object_bytes = file.object_bytes.saturating_sub(rows.iter().map(|row| row.object_bytes).sum());
        file.raw_bytes = file.raw_bytes.saturating_sub(rows.iter().map(|row| row.raw_bytes).sum());
        let (file_base, attempt) = (file.file_base, file.attempt);
        match next_base {
            Some(next_base) => file.base_offset = next_base,
            None => {
                self.spilled.remove(0);
                self.dead.push(DeadObject {
                    base_offset: file_base,
                    leader_epoch: None,
                    attempt,
                    object_bytes: 0,
                    dead_since_ms: at_ms,
                });
            }
        }
        Ok(())
    }
}

/// Sums over the live segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LiveTotals {
    /// How many.
    pub segments: u64,
    /// Bytes in the bucket.
    pub object_bytes: u64,
    /// Bytes of the segments they came from.
    pub raw_bytes: u64,
}

fn not_allowed(detail: String) -> Violation {
    Violation { name: "edit-fits-state", detail }
}
