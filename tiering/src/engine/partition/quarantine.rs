//! Objects that are noted as damaged: the note, another look now and then, and the lifting of the note.
//!
//! Owns: both edits of the manifest's `quarantined`, and when a noted object is looked at again.
//! Does not own: finding damage (`replay` tells of it, and `agreement`), what a whole object is (`whole_object`), repair.
//!
//! Only the owner of the prefix may change a manifest, so `longhaul tier verify`, which anybody may run, lifts nothing:
//! an operator who put an object back waits for the broker's next look.

use std::time::Duration;

use tokio::time::Instant;
use wire::ids::Offset;

use super::{Keeper, StepError};
use crate::limits::{QUARANTINE_LOOK, QUARANTINE_LOOK_MAX};
use crate::manifest::{PartitionEdit, SegmentRow};
use crate::whole_object::{self, Fault};

/// When noted objects are looked at, and how far round they were.
#[derive(Debug)]
pub(super) struct Looks {
    due: Instant,
    /// Until the next: it grows while what is there stays damaged, since every look reads it up to the damage.
    pause: Duration,
    /// Objects up to here had their turn.
    after: Option<Offset>,
}

impl Looks {
    /// The first look is due at once: what was put back before a start needs not wait.
    pub(super) fn new() -> Self {
        Looks { due: Instant::now(), pause: QUARANTINE_LOOK, after: None }
    }

    /// An object was not whole, or not to be had.
    fn failed(&mut self, fault: &Fault) {
        self.due = crate::timers::after(self.pause);
        if matches!(fault, Fault::Object(_)) {
            self.pause = (self.pause * 2).min(QUARANTINE_LOOK_MAX);
        }
    }

    /// Somebody put an object back, or one was noted: the next look comes as soon as ever.
    fn hope(&mut self, due: Instant) {
        (self.due, self.pause) = (due, QUARANTINE_LOOK);
    }
}

/// The noted object whose turn it is: the first one behind `after`, else the first of all.
fn whose_turn(rows: &[SegmentRow], after: Option<Offset>) -> Option<SegmentRow> {
    let noted = || rows.iter().filter(|row| row.quarantined);
    noted().find(|row| after.is_none_or(|after| row.base_offset > after)).or_else(|| noted().next()).copied()
}

impl Keeper {
    /// Notes objects that were found damaged, for everybody to see.
    pub(super) async fn note_damaged(&mut self) -> Result<(), StepError> {
        let damaged = self.tiered.source.take_damaged();
        if damaged.is_empty() {
            return Ok(());
        }
        let is_new = |row: &&SegmentRow| damaged.contains(&row.attempt) && !row.quarantined;
        // Of one whose row is not here no note can be made, and the others' looks are not to wait for it.
        if !self.committer.state().segments.iter().any(|row| is_new(&row)) {
            return Ok(());
        }
        self.committer
            .commit(|manifest| {
                let rows = manifest.segments.iter().filter(is_new);
                rows.map(|row| PartitionEdit::Quarantine { attempt: row.attempt, on: true }).collect()
            })
            .await?;
        self.looks.hope(crate::timers::after(QUARANTINE_LOOK));
        Ok(())
    }

    /// Reads the noted object whose turn it is, whole, and lifts its note if it is good; the next one then follows at once.
    pub(super) async fn look_at_damaged(&mut self) -> Result<(), StepError> {
        if Instant::now() < self.looks.due {
            return Ok(());
        }
        let Some(row) = whose_turn(&self.committer.state().segments, self.looks.after) else {
            self.looks.due = crate::timers::after(QUARANTINE_LOOK);
            return Ok(());
        };
        self.looks.after = Some(row.base_offset);
        let log = &self.tiered.source.log;
        let key = whole_object::key(log, &row);
        if let Err(fault) = whole_object::check(&*self.engine.store, log, &row).await {
            tracing::debug!(%key, %fault, "a damaged object is not whole yet");
            self.looks.failed(&fault);
            return Ok(());
        }
        self.looks.hope(Instant::now());
        self.committer
            .commit(|manifest| {
                let noted = manifest.row(row.attempt).is_some_and(|row| row.quarantined);
                let edit = PartitionEdit::Quarantine { attempt: row.attempt, on: false };
                if noted { vec![edit] } else { Vec::new() }
            })
            .await?;
        tracing::info!(%key, "an object that was damaged is whole again");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wire::ids::LeaderEpoch;

    use super::*;
    use crate::seams::AttemptId;

    fn row(base_offset: i64, quarantined: bool) -> SegmentRow {
        SegmentRow {
            base_offset: Offset(base_offset),
            next_offset: Offset(base_offset + 10),
            leader_epoch: LeaderEpoch(0),
            attempt: AttemptId([base_offset as u8; 16]),
            object_bytes: 60,
            raw_bytes: 100,
            raw_crc: 0,
            footer_bytes: 10,
            max_timestamp_ms: 0,
            archived_at_ms: 0,
            aborted: 0,
            quarantined,
        }
    }

    #[test]
    fn what_stays_damaged_is_read_ever_less_often() {
        let mut looks = Looks::new();
        let damaged = Fault::Object(crate::object::ObjectError::Magic);
        for _ in 0..20 {
            looks.failed(&damaged);
        }
        assert_eq!(looks.pause, QUARANTINE_LOOK_MAX);
        looks.hope(Instant::now());
        assert_eq!(looks.pause, QUARANTINE_LOOK);
    }

    #[test]
    fn every_noted_object_has_its_turn() {
        let rows = [row(0, false), row(10, true), row(20, false), row(30, true)];
        let turn = |after: Option<i64>| whose_turn(&rows, after.map(Offset)).map(|row| row.base_offset.0);
        assert_eq!(turn(None), Some(10));
        assert_eq!(turn(Some(10)), Some(30));
        assert_eq!(turn(Some(30)), Some(10));
        assert_eq!(whose_turn(&rows[..1], None), None);
    }
}
