//! Changes other than appends: the log's start, its first offset, a roll without a batch, truncation; and the replay of all of them.
//!
//! Owns: what each does to the state and to the journal. Does not own: who may ask for it.

use std::sync::{Arc, MutexGuard};

use wire::batch::BatchHeader;
use wire::ids::{LeaderEpoch, Offset};

use super::state::{PartitionState, PlacedBatch};
use super::truncate::{self, Truncation};
use super::{CommitEffect, LogBeginning, Partition, marker};
use crate::error::ChangeError;
use crate::health::lock;
use crate::journal::scan::FoundEntry;
use crate::journal::{EntryHeader, EntryKind, PlaceRequest, RingPin, Room, Ticket};
use crate::roll::{self, ActiveSegment, RollLimits};

/// An entry that is not a batch.
struct Change<'a> {
    kind: EntryKind,
    offset: Offset,
    effect: CommitEffect,
    payload: &'a [u8],
}

/// What became of a truncation.
pub(crate) enum Cutting {
    /// It was placed.
    Done(Ticket),
    /// No durable checkpoint counts the cut before.
    CheckpointFirst(Room),
}

impl Partition {
    /// The bytes of room that the next change of this partition asks for.
    #[must_use]
    pub fn change_bytes(&self) -> usize {
        let state = lock(&self.state);
        Truncation::bytes_at_most(&state, self.shared.block)
    }

    /// Moves the log start up to any offset up to the high watermark, also into a batch (DeleteRecords, or what retention
    /// decided). Lower than the present start changes nothing. Synced in both flush modes; readers see it with its commit, and
    /// segments wholly below it are removed in the background.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn move_log_start(self: &Arc<Self>, room: Room, to: Offset) -> Result<Ticket, ChangeError> {
        let mut state = lock(&self.state);
        let end = self.high_watermark();
        if to > end || to.0 < 0 {
            let start = state.log_start;
            return Err(ChangeError::OutOfRange { partition: self.id, offset: to, start, end });
        }
        if to <= state.log_start {
            return Ok(state.last_ticket);
        }
        let effect = CommitEffect { log_start: Some(to), ..self.no_effect(&state) };
        let change = Change { kind: EntryKind::LogStart, offset: to, effect, payload: &[] };
        let ticket = self.place_change(&mut state, room, &change)?;
        state.move_log_start(to);
        drop(state);
        self.shared.want_checkpoint();
        Ok(ticket)
    }

    /// Lets a log that has never held a batch, nor been begun before, begin elsewhere than at offset 0: where a lost log's copies in a
    /// store are to be gone on from, behind all offsets ever given out. Holds from its commit on, for all restarts. The log start moves
    /// and retention works from there as in any log whose older segments were released. Ask for [`LogBeginning::room_bytes`] of room.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn begin_log(self: &Arc<Self>, room: Room, beginning: &LogBeginning) -> Result<Ticket, ChangeError> {
        if let Some(reason) = beginning.fault(self.shared.leader_epoch()) {
            return Err(ChangeError::Beginning { partition: self.id, reason });
        }
        let mut state = lock(&self.state);
        if !state.is_pristine() {
            return Err(ChangeError::NotEmpty(self.id));
        }
        let (offset, log_start) = (beginning.local_start, Some(beginning.log_start));
        let effect = CommitEffect { end: offset, log_start, ..self.no_effect(&state) };
        let payload = beginning.encode();
        let change = Change { kind: EntryKind::Beginning, offset, effect, payload: &payload };
        let ticket = self.place_change(&mut state, room, &change)?;
        state.begin(beginning);
        Ok(ticket)
    }

    /// Ends the active segment when its first batch is older than the configured age, without waiting for a batch. `None` when it
    /// is not due.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn roll_if_old(self: &Arc<Self>, room: Room) -> Result<Option<Ticket>, ChangeError> {
        let mut state = lock(&self.state);
        let active = state.active();
        let segment = ActiveSegment {
            base_offset: active.base_offset,
            size_bytes: active.size_bytes,
            first_append_time_ms: active.first_append_time_ms,
        };
        let limits =
            RollLimits { segment_bytes: state.config.segment_bytes, segment_ms: state.config.segment_ms };
        if roll::by_age(&segment, self.shared.clock.now_ms(), &limits).is_none() {
            return Ok(None);
        }
        let offset = state.log_end;
        let effect = self.no_effect(&state);
        let change = Change { kind: EntryKind::Roll, offset, effect, payload: &[] };
        let ticket = self.place_change(&mut state, room, &change)?;
        state.roll();
        drop(state);
        self.shared.want_checkpoint();
        Ok(Some(ticket))
    }

    /// [`crate::LogDirectory::truncate`], unless an earlier cut has to be counted first.
    pub(crate) fn truncate(self: &Arc<Self>, room: Room, to: Offset) -> Result<Cutting, ChangeError> {
        self.mend_sidecars(to)?;
        let (pin, mut state) = self.lock_committed()?;
        // What is below the local log start is not this log's to cut: a store may hold it.
        let (start, end) = (state.local_start(), state.log_end);
        if to < start || to > end {
            return Err(ChangeError::OutOfRange { partition: self.id, offset: to, start, end });
        }
        if to == state.log_end {
            return Ok(Cutting::Done(state.last_ticket));
        }
        if state.has_uncounted_cut {
            return Ok(Cutting::CheckpointFirst(room));
        }
        let truncation = self.plan_truncation(&state, &pin, to)?;
        let payload = truncation.encode();
        let effect =
            CommitEffect { end: truncation.log_end, log_start: None, truncations: state.truncations + 1 };
        let change = Change { kind: EntryKind::Truncate, offset: to, effect, payload: &payload };
        let ticket = self.place_change(&mut state, room, &change)?;
        self.apply_truncation(&mut state, truncation);
        Ok(Cutting::Done(ticket))
    }

    /// The state at a moment when all of it is committed, so that every byte can be read, and what keeps the ring's bytes there.
    fn lock_committed(&self) -> Result<(RingPin<'_>, MutexGuard<'_, PartitionState>), ChangeError> {
        loop {
            let pin = self.shared.journal.pin();
            let state = lock(&self.state);
            if state.log_end <= self.high_watermark() {
                return Ok((pin, state));
            }
            drop((pin, state));
            self.shared.journal.commit_all()?;
        }
    }

    /// What a commit shows when nothing of it is about the end.
    fn no_effect(&self, state: &PartitionState) -> CommitEffect {
        CommitEffect { end: state.log_end, log_start: None, truncations: state.truncations }
    }

    fn place_change(
        self: &Arc<Self>,
        state: &mut PartitionState,
        room: Room,
        change: &Change<'_>,
    ) -> Result<Ticket, ChangeError> {
        if state.deleted {
            return Err(ChangeError::Deleted(self.id));
        }
        let bytes = change.payload.len();
        if bytes > room.payload_bytes() {
            return Err(ChangeError::Room { bytes, reserved: room.payload_bytes() });
        }
        self.note_changed(state);
        let now_ms = self.shared.clock.now_ms();
        let epoch = self.shared.leader_epoch();
        let request = PlaceRequest {
            payload_bytes: bytes,
            synced: true,
            partition: self,
            effect: change.effect,
            slot: &mut state.slot,
            now_ms,
        };
        let (place, ticket) = self.shared.journal.place(room, request)?;
        state.last_ticket = ticket;
        let entry = EntryHeader {
            kind: change.kind,
            partition: self.id,
            epoch,
            offset: change.offset,
            append_time_ms: now_ms,
            length: bytes as u32,
        };
        self.shared.journal.fill(place, &[&entry.encode(), change.payload]);
        Ok(ticket)
    }

    /// Does again what an entry of the journal says was done. The error says what does not fit.
    pub(crate) fn replay(
        self: &Arc<Self>,
        entry: &FoundEntry<'_>,
        batch: Option<&BatchHeader>,
    ) -> Result<(), String> {
        let mut truncation = None;
        if entry.header.kind == EntryKind::Truncate {
            let decoded = truncate::decode(entry.payload).map_err(|error| error.to_string())?;
            self.mend_sidecars(decoded.log_end).map_err(|error| error.to_string())?;
            truncation = Some(decoded);
        }
        let mut state = lock(&self.state);
        self.note_changed(&mut state);
        let offset = entry.header.offset;
        match entry.header.kind {
            EntryKind::Batch { rolls } => {
                let header = batch.ok_or("a batch entry without a batch")?;
                replay_batch(&mut state, entry, header, rolls)?;
            }
            EntryKind::LogStart => state.move_log_start(offset),
            EntryKind::Beginning => {
                let beginning = LogBeginning::decode(offset, entry.payload);
                state.begin(&beginning.map_err(|error| error.to_string())?);
            }
            EntryKind::Roll => state.roll(),
            EntryKind::Truncate => {
                let truncation = truncation.expect("it was decoded above");
                let truncation =
                    self.replan_truncation(&state, truncation).map_err(|error| error.to_string())?;
                self.apply_truncation(&mut state, truncation);
            }
        }
        Ok(())
    }
}

fn replay_batch(
    state: &mut PartitionState,
    entry: &FoundEntry<'_>,
    header: &BatchHeader,
    rolls: bool,
) -> Result<(), String> {
    let base_offset = entry.header.offset;
    if base_offset != state.log_end
        || header.base_offset != base_offset
        || header.size_bytes != entry.payload.len()
    {
        return Err(format!(
            "a batch at offset {base_offset} does not follow a log that ends at {}",
            state.log_end
        ));
    }
    let marker = match header.attributes.is_control() {
        true => marker::read(header, entry.payload)?,
        false => None,
    };
    let epoch: LeaderEpoch = entry.header.epoch;
    let append_time_ms = entry.header.append_time_ms;
    let ring = entry.payload_position();
    state.apply(&PlacedBatch { header, base_offset, epoch, append_time_ms, ring, rolls, marker });
    Ok(())
}
