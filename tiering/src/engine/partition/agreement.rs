//! Whether the local log and the store have the same records, asked before anything is sent, declared or let go of.
//!
//! Owns: the comparison of local segments with the manifest's rows, and how far it has come. Does not own: what follows
//! from a disagreement (`archiver::order`), which local segments local limits still keep (the hot log).
//!
//! Offsets alone prove nothing: a data folder that was brought back from a copy, and took records before anybody saw that,
//! has other records at offsets that the store holds. At a start the newest row is held against the log, by what a sidecar
//! says: histories that have parted do not meet again. What is to be let go of is read once, unless this process sent it,
//! and its checksum is held against the row's.

use std::collections::BTreeMap;

use tokio::time::Instant;
use wire::ids::Offset;

use super::{Keeper, StepError};
use crate::archiver::Blocked;
use crate::limits::{QUARANTINE_LOOK, RELEASE_TICK};
use crate::local::LocalSegment;
use crate::manifest::{SegmentRow, load_spilled};

/// How far the log and the store were found to be the same.
#[derive(Debug)]
pub(super) struct Agreement {
    /// Whether the newest row was held against the log, and what came of it.
    compared: bool,
    diverged: Option<Diverged>,
    /// Every local segment below is what the manifest names.
    agreed_to: Offset,
    /// Segments that this process sent, above that: first offset, one past the last.
    sent: BTreeMap<Offset, Offset>,
    /// When local limits are asked again.
    due: Instant,
}

/// The first segment found to differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Diverged {
    from: Offset,
}

/// What one local segment is to the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// The store has a segment of the same size and place.
    Alike(SegmentRow),
    /// The store has none of it.
    Unknown,
    /// The store has other records at its offsets.
    Other,
}

impl Agreement {
    pub(super) fn new(local_start: Offset) -> Self {
        Agreement {
            compared: false,
            diverged: None,
            agreed_to: local_start,
            sent: BTreeMap::new(),
            due: Instant::now(),
        }
    }

    /// Notes a segment that this process sent, so that its bytes are the store's.
    pub(super) fn sent(&mut self, segment: &LocalSegment) {
        self.sent.insert(segment.base_offset, segment.next_offset);
        self.due = Instant::now();
    }

    /// Goes on over what this process sent, from where the local log begins by now.
    fn extend(&mut self, local_start: Offset) {
        self.agreed_to = self.agreed_to.max(local_start);
        while let Some((base, next)) = self.sent.first_key_value().map(|(base, next)| (*base, *next)) {
            if base > self.agreed_to {
                return;
            }
            self.agreed_to = self.agreed_to.max(next);
            self.sent.pop_first();
        }
    }
}

/// Whether a local segment has the place and size of a row. Its bytes are another question.
fn is_alike(local: &LocalSegment, row: &SegmentRow) -> bool {
    local.base_offset == row.base_offset
        && local.next_offset == row.next_offset
        && local.leader_epoch == row.leader_epoch
        && local.size_bytes == row.raw_bytes
}

/// Where the log differs from the newest row, as far as can be told without reading it. `holder` is the sealed local segment
/// that holds the row's last offset, or the first one behind it. Pure.
fn differs(row: &SegmentRow, local_start: Offset, holder: Option<&LocalSegment>) -> Option<Diverged> {
    if local_start >= row.next_offset {
        return None;
    }
    match holder {
        // What was archived was sealed, and counted by a checkpoint, before. These records are not.
        None => Some(Diverged { from: row.base_offset.max(local_start) }),
        Some(local) if local.base_offset >= row.next_offset || is_alike(local, row) => None,
        Some(local) => Some(Diverged { from: row.base_offset.max(local.base_offset) }),
    }
}

/// What a local segment is to the store, by its live rows, rising. Pure.
fn standing(local: &LocalSegment, rows: &[SegmentRow]) -> Standing {
    let behind = rows.partition_point(|row| row.next_offset <= local.base_offset);
    match rows.get(behind) {
        Some(row) if is_alike(local, row) => Standing::Alike(*row),
        Some(row) if row.base_offset < local.next_offset => Standing::Other,
        _ => Standing::Unknown,
    }
}

impl Keeper {
    /// Holds the newest row against the log, once, and says what is wrong for as long as it is.
    pub(super) async fn compare(&mut self) -> Result<Option<Blocked>, StepError> {
        if !self.agreement.compared {
            if let Some(row) = self.committer.state().segments.last().copied() {
                let holders = self.sealed(Offset(row.next_offset.0 - 1)).await?;
                let local_start = self.tiered.local.local_log_start();
                if let Some(diverged) = differs(&row, local_start, holders.first()) {
                    let first = self.first_that_differs(local_start).await?;
                    self.agreement.diverged = Some(first.unwrap_or(diverged));
                }
            }
            self.agreement.compared = true;
        }
        Ok(self.agreement.diverged.map(|diverged| self.blocked_by(diverged)))
    }

    /// The first local segment that differs from the store's, as far as can be told without reading it: from there on, what is
    /// here is nowhere else.
    async fn first_that_differs(&self, local_start: Offset) -> Result<Option<Diverged>, StepError> {
        let locals = self.sealed(local_start).await?;
        let Some(first) = locals.first() else { return Ok(None) };
        let rows = self.rows_from(first.base_offset).await?;
        let other = locals.iter().find(|local| standing(local, &rows) == Standing::Other);
        Ok(other.map(|local| Diverged { from: local.base_offset }))
    }

    /// Lets go of local copies, as far as each of them was found to be what the manifest names.
    pub(super) async fn release_agreed(&mut self) -> Result<(), StepError> {
        self.agreement.extend(self.tiered.local.local_log_start());
        let end = self.committer.state().end_offset();
        if self.agreement.agreed_to < end && self.agreement.due <= Instant::now() {
            self.agreement.due = crate::timers::after(RELEASE_TICK);
            let local = self.tiered.local.clone();
            let wanted = tokio::task::spawn_blocking(move || local.release_wanted(end)).await;
            let wanted = wanted.map_err(|error| StepError::Local(error.to_string()))?;
            let wanted = wanted.map_err(|error| StepError::Local(error.to_string()))?;
            if wanted > self.agreement.agreed_to {
                self.agree_to(wanted).await?;
            }
        }
        self.tiered.release(self.committer.committed(self.agreement.agreed_to));
        Ok(())
    }

    /// Reads the local segments below `wanted` that are not known to be the store's, and holds them against their rows.
    async fn agree_to(&mut self, wanted: Offset) -> Result<(), StepError> {
        let log_start = self.tiered.local.log_start();
        let locals = self.sealed(self.agreement.agreed_to).await?;
        let Some(first) = locals.first() else { return Ok(()) };
        let rows = self.rows_from(first.base_offset).await?;
        for local in locals.iter().take_while(|local| local.next_offset <= wanted) {
            let sent = self.agreement.sent.contains_key(&local.base_offset);
            let is_agreed = match standing(local, &rows) {
                // Nobody may ask for it any more, whatever the store has.
                _ if local.next_offset <= log_start => true,
                Standing::Alike(_) if sent => true,
                Standing::Alike(row) => match self.has_the_bytes_of(local, &row).await {
                    Some(true) => true,
                    Some(false) => return Err(self.diverge(local.base_offset)),
                    None => false,
                },
                Standing::Other => return Err(self.diverge(local.base_offset)),
                Standing::Unknown => false,
            };
            if !is_agreed {
                return Ok(());
            }
            self.agreement.agreed_to = self.agreement.agreed_to.max(local.next_offset);
        }
        self.agreement.extend(self.tiered.local.local_log_start());
        Ok(())
    }

    fn diverge(&mut self, from: Offset) -> StepError {
        let diverged = Diverged { from };
        self.agreement.diverged = Some(diverged);
        self.blocked_by(diverged).into()
    }

    fn blocked_by(&self, diverged: Diverged) -> Blocked {
        Blocked::Diverged {
            from: diverged.from.0,
            store_end: self.committer.state().end_offset().0,
            log_end: self.tiered.local.log_end().0,
        }
    }

    /// Whether a local segment has, byte for byte, what a row stands for; `None` when it cannot be read or is damaged: then it
    /// stays, and nothing else waits for it.
    async fn has_the_bytes_of(&mut self, local: &LocalSegment, row: &SegmentRow) -> Option<bool> {
        match self.engine.uploader.scan(&self.tiered.source.log, local).await {
            Ok(scanned) => Some(scanned.identity.raw_crc == row.raw_crc),
            Err(error) => {
                let (topic_id, partition) = (self.tiered.id.topic_id, self.tiered.id.partition);
                tracing::warn!(%topic_id, partition, %error, "a local copy stays, for it is not what it was");
                self.agreement.due = crate::timers::after(QUARANTINE_LOOK);
                None
            }
        }
    }

    /// The live rows from the one that holds `from` on, those that are spilled included.
    async fn rows_from(&self, from: Offset) -> Result<Vec<SegmentRow>, StepError> {
        let manifest = self.committer.state();
        let (engine, log) = (&self.engine, &self.tiered.source.log);
        let mut rows = Vec::new();
        for file in manifest.spilled.iter().filter(|file| file.end_offset > from) {
            let caches = (&engine.replay.spills, &engine.seams);
            rows.extend(load_spilled(&*engine.store, log, file, caches).await?.iter().copied());
        }
        rows.extend(manifest.segments.iter().copied());
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::AttemptId;
    use crate::test_support::{SMALL, Shape, segments};

    fn row_of(local: &LocalSegment) -> SegmentRow {
        SegmentRow {
            base_offset: local.base_offset,
            next_offset: local.next_offset,
            leader_epoch: local.leader_epoch,
            attempt: AttemptId([1; 16]),
            object_bytes: 600,
            raw_bytes: local.size_bytes,
            raw_crc: 0,
            footer_bytes: 10,
            max_timestamp_ms: 0,
            archived_at_ms: 0,
            aborted: 0,
            quarantined: false,
        }
    }

    fn locals(shape: Shape) -> Vec<LocalSegment> {
        segments(3, shape).iter().map(crate::test_support::TestSegment::local).collect()
    }

    #[test]
    fn the_newest_row_is_what_the_log_has_there_or_they_have_parted() {
        let ours = locals(SMALL);
        let row = row_of(&ours[1]);
        let from = |holder: Option<&LocalSegment>, local_start| {
            differs(&row, Offset(local_start), holder).map(|diverged| diverged.from.0)
        };
        assert_eq!(from(Some(&ours[1]), 0), None);
        assert_eq!(from(None, row.next_offset.0), None, "nothing of it is here any more");
        assert_eq!(from(Some(&ours[2]), 0), None, "a hole in the log is no other record");
        assert_eq!(from(None, 0), Some(row.base_offset.0), "its offsets are in no sealed segment");
        let later = locals(Shape { epoch: 2, ..SMALL });
        assert_eq!(from(Some(&later[1]), 0), Some(row.base_offset.0));
        let longer = locals(Shape { batches: 6, ..SMALL });
        assert_eq!(from(Some(&longer[1]), 0), Some(longer[1].base_offset.0));
    }

    #[test]
    fn a_segment_stands_by_all_that_a_row_says_of_its_place() {
        let ours = locals(SMALL);
        let rows: Vec<SegmentRow> = ours.iter().map(row_of).collect();
        assert_eq!(standing(&ours[1], &rows), Standing::Alike(rows[1]));
        assert_eq!(standing(&ours[1], &rows[..1]), Standing::Unknown);
        assert_eq!(standing(&ours[0], &rows[1..]), Standing::Unknown);
        let larger = locals(Shape { value_bytes: 101, ..SMALL });
        assert_eq!(standing(&larger[1], &rows), Standing::Other);
        let longer = locals(Shape { batches: 6, ..SMALL });
        assert_eq!(standing(&longer[0], &rows), Standing::Other);
    }

    #[test]
    fn what_this_process_sent_counts_once_all_before_it_does() {
        let ours = locals(SMALL);
        let mut agreement = Agreement::new(Offset(0));
        agreement.sent(&ours[1]);
        agreement.sent(&ours[2]);
        agreement.extend(Offset(0));
        assert_eq!(agreement.agreed_to, Offset(0));
        agreement.agreed_to = ours[0].next_offset;
        agreement.extend(Offset(0));
        assert_eq!((agreement.agreed_to, agreement.sent.len()), (ours[2].next_offset, 0));
    }
}
