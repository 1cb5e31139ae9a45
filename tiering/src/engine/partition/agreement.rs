//! Whether the local log and the store have the same records, asked before anything is sent, declared or let go of.
//!
//! Owns: the comparison of local segments with the manifest's rows, and how far it has come. Does not own: what follows
//! from a disagreement (`archiver::order`), which local segments local limits still keep (the hot log).
//!
//! Offsets alone prove nothing: a data folder that was brought back from a copy, and took records before anybody saw that,
//! has other records at offsets that the store holds. At a start the newest row is held against the log, by what a sidecar
//! says: histories that have parted do not meet again. What is to be let go of is read once, unless this process sent it,
//! and its checksum is held against the row's; the newest of it first, for the same reason. One segment is read at a step,
//! so that disk space comes free as it goes and uploads need not wait for the rest. What cannot be read stays, and is
//! shown, unless a newer copy was the store's and the object is read whole instead; nothing but a disagreement stops the
//! other steps.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;
use wire::ids::Offset;

use super::{Keeper, StepError};
use crate::archiver::{Blocked, UploadError};
use crate::limits::{QUARANTINE_LOOK, RELEASE_TICK};
use crate::local::LocalSegment;
use crate::manifest::{SegmentRow, load_spilled};
use crate::whole_object;

/// Times that the newest archived copy cannot be opened before the other steps go on without it.
const COMPARE_TRIES: u32 = 3;
/// Copies that are tried, from the newest on, in search of one that can be read, before those that may go have their turn.
const NEWEST_TRIES: usize = 4;

/// How far the log and the store were found to be the same.
#[derive(Debug)]
pub(super) struct Agreement {
    /// Whether the newest row was held against the log, and what came of it.
    compared: bool,
    /// Times that it could not be.
    failed_compares: u32,
    /// When it is tried again, once other steps go on without it.
    compare_at: Instant,
    /// Why it could not be, where other steps go on without it.
    uncompared: Option<String>,
    diverged: Option<Diverged>,
    /// Every local segment below is what the manifest names.
    agreed_to: Offset,
    /// Segments that this process sent, above that: first offset, one past the last.
    sent: BTreeMap<Offset, Offset>,
    /// Whether the newest of what the store has was read, or needs no reading, or cannot be for now.
    newest_read: bool,
    /// How many of the newest could not be, and were passed over for older ones.
    passed_over: usize,
    /// Below that, log and store are one history: the segment that ends there was read, and is the store's byte for byte.
    same_below: Option<Offset>,
    /// Below which offset local limits let go of copies, as they said last.
    wanted: Offset,
    /// When local limits are asked again.
    due: Instant,
    /// Until then no copy is looked at: the next one was found to be damaged, or something could not be read.
    paused_until: Instant,
    /// The offset from which on copies stay, and why.
    kept: Option<(Offset, String)>,
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
            failed_compares: 0,
            compare_at: Instant::now(),
            uncompared: None,
            diverged: None,
            agreed_to: local_start,
            sent: BTreeMap::new(),
            newest_read: false,
            passed_over: 0,
            same_below: None,
            wanted: local_start,
            due: Instant::now(),
            paused_until: Instant::now(),
            kept: None,
        }
    }

    /// Whether copies may go: the log was held against the store, or cannot be for now, and nothing was found that differs.
    /// Each of them is read before, either way.
    pub(super) fn may_release(&self) -> bool {
        (self.compared || self.failed_compares >= COMPARE_TRIES) && self.diverged.is_none()
    }

    /// Begins the search anew for the newest copy that is what it was.
    fn seek_newest(&mut self) {
        (self.newest_read, self.passed_over) = (false, 0);
    }

    /// Goes on with the next older copy, as far as that is worth it.
    fn pass_over(&mut self) {
        self.passed_over += 1;
        self.newest_read = self.passed_over >= NEWEST_TRIES;
    }

    /// Notes a segment that this process sent, so that its bytes are the store's.
    pub(super) fn sent(&mut self, segment: &LocalSegment) {
        self.sent.insert(segment.base_offset, segment.next_offset);
    }

    /// Goes on over what this process sent, from where the local log begins by now.
    fn extend(&mut self, local_start: Offset) {
        self.agreed_to = self.agreed_to.max(local_start);
        while let Some((base, next)) = self.sent.first_key_value().map(|(base, next)| (*base, *next)) {
            if base > self.agreed_to {
                break;
            }
            self.agreed_to = self.agreed_to.max(next);
            self.sent.pop_first();
        }
        if self.kept.as_ref().is_some_and(|(from, _)| *from < self.agreed_to) {
            self.kept = None;
        }
    }

    /// Looks at no copy for a while.
    fn pause(&mut self, pause: Duration) {
        self.paused_until = crate::timers::after(pause);
    }

    /// Says why copies stay from where they are agreed, and looks again much later.
    fn keep(&mut self, why: String) {
        self.keep_for(QUARANTINE_LOOK, why);
    }

    fn keep_for(&mut self, pause: Duration, why: String) {
        self.kept = Some((self.agreed_to, why));
        self.pause(pause);
    }
}

/// Whether a local segment has the place and size of a row. Its bytes are another question.
fn is_alike(local: &LocalSegment, row: &SegmentRow) -> bool {
    local.base_offset == row.base_offset
        && local.next_offset == row.next_offset
        && local.leader_epoch == row.leader_epoch
        && local.size_bytes == row.raw_bytes
}

/// Where the log differs from the newest row, as far as can be told without reading it. `local` is from the first offset on
/// local disk to the end of what is sealed there, `holder` the sealed local segment that holds the row's last offset, or the
/// first one behind it. Pure.
fn differs(row: &SegmentRow, local: &Range<Offset>, holder: Option<&LocalSegment>) -> Option<Diverged> {
    if local.start >= row.next_offset {
        return None;
    }
    let local_start = local.start;
    match holder {
        // Its file is missing, which makes no other records of it.
        None if local.end >= row.next_offset => None,
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
    /// Holds the newest row against the log, until that was done once, and says what is wrong for as long as it is.
    pub(super) async fn compare(&mut self) -> Result<Option<Blocked>, StepError> {
        if !self.agreement.compared && Instant::now() >= self.agreement.compare_at {
            match self.compare_newest().await {
                Ok(()) => (self.agreement.compared, self.agreement.uncompared) = (true, None),
                // That they differ is known; from where on is sought again, and the log takes no records meanwhile.
                Err(_) if self.agreement.diverged.is_some() => {}
                Err(StepError::Local(error)) if self.agreement.failed_compares + 1 >= COMPARE_TRIES => {
                    self.go_on_uncompared(&error);
                }
                Err(error) => {
                    self.agreement.failed_compares += 1;
                    return Err(error);
                }
            }
        }
        Ok(self.agreement.diverged.map(|diverged| self.blocked_by(diverged)))
    }

    /// What the store has and this process did not send, from the newest on. What was sent says nothing of another history.
    fn newest_unsent(&self) -> impl Iterator<Item = &SegmentRow> {
        let rows = self.committer.state().segments.iter().rev();
        rows.filter(move |row| !self.agreement.sent.contains_key(&row.base_offset))
    }

    async fn compare_newest(&mut self) -> Result<(), StepError> {
        let Some(row) = self.newest_unsent().next().copied() else { return Ok(()) };
        let mut holder = self.first_sealed(Offset(row.next_offset.0 - 1)).await?;
        if holder.as_ref().is_none_or(|local| local.base_offset >= row.next_offset) {
            // One that ends short of the row is passed over by that, and is no hole.
            let shorter = self.first_sealed(row.base_offset).await?;
            holder = shorter.filter(|local| local.base_offset < row.next_offset).or(holder);
        }
        let local_start = self.tiered.local.local_log_start();
        let local = local_start..self.tiered.local.sealed_end();
        if let Some(diverged) = differs(&row, &local, holder.as_ref()) {
            self.agreement.diverged = Some(diverged);
            let first = self.first_that_differs(local_start).await?;
            self.agreement.diverged = Some(first.unwrap_or(diverged));
        }
        Ok(())
    }

    /// A copy that the disk does not give out says nothing of a history, and what only the log has is not to wait for it: it
    /// is asked for now and then. Nothing is let go of unread, for all that.
    fn go_on_uncompared(&mut self, error: &str) {
        let (topic_id, partition) = (self.tiered.id.topic_id, self.tiered.id.partition);
        if self.agreement.uncompared.is_none() {
            tracing::warn!(%topic_id, partition, %error, "the newest archived copy cannot be held against the store");
        }
        self.agreement.failed_compares = COMPARE_TRIES;
        self.agreement.compare_at = crate::timers::after(RELEASE_TICK);
        let why = format!("the newest local copy that is archived cannot be held against the store: {error}");
        self.agreement.uncompared = Some(why);
    }

    /// The first local segment that differs from the store's, as far as can be told without reading it: from there on, what is
    /// here is nowhere else.
    async fn first_that_differs(&self, local_start: Offset) -> Result<Option<Diverged>, StepError> {
        let (mut from, end) = (local_start, self.committer.state().end_offset());
        while let Some(local) = self.first_sealed(from).await?.filter(|local| local.base_offset < end) {
            let rows = self.rows_at(&local).await?;
            if standing(&local, &rows) == Standing::Other {
                return Ok(Some(Diverged { from: local.base_offset }));
            }
            from = local.next_offset;
        }
        Ok(None)
    }

    /// Lets go of local copies, as far as each of them was found to be what the manifest names; one of them at most is read
    /// for it. `true` when the next can be read at once.
    pub(super) async fn release_agreed(&mut self) -> Result<bool, StepError> {
        self.agreement.extend(self.tiered.local.local_log_start());
        let more = match self.agree_on_next().await {
            Ok(more) => more,
            Err(error @ StepError::Blocked(_)) => return Err(error),
            Err(error) => {
                // Neither what is not archived yet nor total retention waits for copies of what is in the store.
                let (topic_id, partition) = (self.tiered.id.topic_id, self.tiered.id.partition);
                tracing::warn!(%topic_id, partition, %error, "local copies stay for now");
                let from = self.agreement.agreed_to.0;
                self.agreement.keep(format!("local copies from offset {from} on stay for now: {error}"));
                false
            }
        };
        self.release_known();
        Ok(more)
    }

    /// Lets go of what is agreed, as far as it needs no reading.
    pub(super) fn release_known(&mut self) {
        self.agreement.extend(self.tiered.local.local_log_start());
        let kept = self.agreement.kept.as_ref().map(|(_, why)| why);
        let why = kept.or(self.agreement.uncompared.as_ref()).cloned();
        self.tiered.show(|shown| shown.kept_copies = why);
        self.tiered.release(self.committer.committed(self.agreement.agreed_to));
    }

    /// Asks local limits when it is time to, and holds the next copy that they do not keep against its row. `true` when there
    /// may be another.
    async fn agree_on_next(&mut self) -> Result<bool, StepError> {
        let (end, now) = (self.committer.state().end_offset(), Instant::now());
        if self.agreement.agreed_to >= end || now < self.agreement.paused_until {
            return Ok(false);
        }
        if self.agreement.wanted <= self.agreement.agreed_to {
            if now < self.agreement.due {
                return Ok(false);
            }
            self.agreement.due = crate::timers::after(RELEASE_TICK);
            self.agreement.wanted = self.ask(move |local| local.release_wanted(end)).await?;
            self.agreement.kept = None;
            if self.agreement.wanted <= self.agreement.agreed_to {
                return Ok(false);
            }
        }
        let engine = self.engine.clone();
        // Who gets no turn goes on with what is more urgent, and asks again.
        let Ok(_turn) = engine.copy_reads.try_acquire() else { return Ok(false) };
        match self.agreement.newest_read {
            true => self.agree_on(self.agreement.agreed_to).await,
            false => self.agree_on_newest().await,
        }
    }

    /// Reads the newest segment that the store has and this process did not send: where it is the same, so is what is before,
    /// or it was damaged. One that cannot be read says nothing, and the next older one says as much as it would have.
    async fn agree_on_newest(&mut self) -> Result<bool, StepError> {
        let floor = self.tiered.local.log_start().max(self.agreement.agreed_to);
        let newest = self.newest_unsent().nth(self.agreement.passed_over).copied();
        let Some(row) = newest.filter(|row| row.next_offset > floor) else {
            self.agreement.newest_read = true;
            return Ok(true);
        };
        // Nothing waits for it: it has its turn again.
        let local = self.first_sealed(Offset(row.next_offset.0 - 1)).await.ok().flatten();
        let Some(local) = local.filter(|local| is_alike(local, &row)) else {
            self.agreement.pass_over();
            return Ok(true);
        };
        match self.has_the_bytes_of(&local, &row).await {
            Ok(true) => {
                self.agreement.newest_read = true;
                self.agreement.same_below = Some(row.next_offset);
                if !row.quarantined {
                    self.agreement.sent(&local);
                }
            }
            Ok(false) => return Err(self.diverge_before(&local).await),
            Err(_) => self.agreement.pass_over(),
        }
        Ok(true)
    }

    /// Where two histories parted, of which `newest` is known to be another. The log takes no records while that is sought.
    async fn diverge_before(&mut self, newest: &LocalSegment) -> StepError {
        let error = self.diverge(newest.base_offset);
        self.tiered.tell(Some(self.blocked_by(Diverged { from: newest.base_offset })));
        let mut from = self.agreement.agreed_to;
        while let Ok(Some(local)) = self.first_sealed(from).await {
            if local.base_offset >= newest.base_offset {
                break;
            }
            let Ok(rows) = self.rows_at(&local).await else { break };
            let is_other = match standing(&local, &rows) {
                Standing::Alike(row) => matches!(self.has_the_bytes_of(&local, &row).await, Ok(false)),
                Standing::Other => true,
                Standing::Unknown => false,
            };
            if is_other {
                return self.diverge(local.base_offset);
            }
            from = local.next_offset;
        }
        error
    }

    /// Holds the first local segment from `from` on against its row. `true` when it is the same, so that the next can follow.
    async fn agree_on(&mut self, from: Offset) -> Result<bool, StepError> {
        let log_start = self.tiered.local.log_start();
        let Some(local) = self.first_sealed(from).await? else {
            self.agreement.pause(RELEASE_TICK);
            return Ok(false);
        };
        let rows = self.rows_at(&local).await?;
        let is_agreed = match standing(&local, &rows) {
            // Nobody may ask for it any more, whatever the store has.
            _ if local.next_offset <= log_start => true,
            // The copy here may be the only good one.
            Standing::Alike(row) if row.quarantined => {
                let why = format!(
                    "the object of segment {} is noted as damaged: the local copy stays, as do those behind it, until \
                     somebody puts a whole object back",
                    local.base_offset.0
                );
                self.agreement.keep_for(RELEASE_TICK, why);
                return Ok(false);
            }
            Standing::Alike(row) => match self.has_the_bytes_of(&local, &row).await {
                Ok(true) => true,
                Ok(false) => return Err(self.diverge(local.base_offset)),
                Err(error) => match self.may_do_without(&row).await {
                    Ok(()) => true,
                    Err(why_not) => {
                        let base = local.base_offset.0;
                        self.agreement.keep(format!(
                            "the local copy of segment {base} is damaged or cannot be read ({error}): it stays, as do \
                             those behind it; {why_not}"
                        ));
                        return Ok(false);
                    }
                },
            },
            Standing::Other => return Err(self.diverge(local.base_offset)),
            Standing::Unknown => false,
        };
        if !is_agreed {
            self.agreement.pause(RELEASE_TICK);
            return Ok(false);
        }
        self.agreement.agreed_to = self.agreement.agreed_to.max(local.next_offset);
        self.agreement.extend(self.tiered.local.local_log_start());
        Ok(true)
    }

    /// Whether a damaged copy may go: the store's object is what it was, if a newer one is, and is read whole before that. An
    /// error says why not.
    async fn may_do_without(&mut self, row: &SegmentRow) -> Result<(), String> {
        if self.agreement.same_below.is_none_or(|below| row.next_offset > below) {
            // A newer one that could not be read then may be by the time this one has its turn again.
            self.agreement.seek_newest();
            return Err("the store has this segment".to_owned());
        }
        let (engine, log) = (&self.engine, &self.tiered.source.log);
        let mut checked = whole_object::check(&*engine.store, log, row).await;
        if matches!(&checked, Err(fault) if fault.is_damage()) {
            // One bad transfer is no damage.
            checked = whole_object::check(&*engine.store, log, row).await;
        }
        if let Err(fault) = checked {
            if fault.is_damage() {
                // Once that is noted, it is read ever less often until it is whole.
                self.tiered.source.note_damaged(row.attempt);
            }
            return Err(format!("nor is what the store has of it known to be whole ({fault})"));
        }
        let (topic_id, partition) = (self.tiered.id.topic_id, self.tiered.id.partition);
        let base_offset = row.base_offset.0;
        tracing::warn!(%topic_id, partition, base_offset, "a damaged local copy goes: the store's object is whole");
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

    /// Whether a local segment has, byte for byte, what a row stands for; an error when it cannot be read or is damaged: then
    /// it stays, and nothing else waits for it.
    async fn has_the_bytes_of(&self, local: &LocalSegment, row: &SegmentRow) -> Result<bool, UploadError> {
        let scanned = self.engine.uploader.scan(&self.tiered.source.log, local).await;
        if let Err(error) = &scanned {
            let (topic_id, partition) = (self.tiered.id.topic_id, self.tiered.id.partition);
            tracing::warn!(%topic_id, partition, %error, "a local copy stays, for it is not what it was");
        }
        Ok(scanned?.identity.raw_crc == row.raw_crc)
    }

    /// The live rows among which a segment has its place, those that are spilled included.
    async fn rows_at(&self, local: &LocalSegment) -> Result<Vec<SegmentRow>, StepError> {
        let manifest = self.committer.state();
        let (engine, log) = (&self.engine, &self.tiered.source.log);
        let mut rows = Vec::new();
        let holds = |base: Offset, end: Offset| end > local.base_offset && base < local.next_offset;
        for file in manifest.spilled.iter().filter(|file| holds(file.base_offset, file.end_offset)) {
            let caches = (&engine.replay.spills, &engine.seams);
            rows.extend(load_spilled(&*engine.store, log, file, caches).await?.iter().copied());
        }
        rows.extend(manifest.segments.iter().filter(|row| holds(row.base_offset, row.next_offset)).copied());
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
            let unsealed = Offset(row.next_offset.0 - 1);
            differs(&row, &(Offset(local_start)..unsealed), holder).map(|diverged| diverged.from.0)
        };
        assert_eq!(from(Some(&ours[1]), 0), None);
        assert_eq!(from(None, row.next_offset.0), None, "nothing of it is here any more");
        assert_eq!(from(Some(&ours[2]), 0), None, "a hole in the log is no other record");
        assert_eq!(from(None, 0), Some(row.base_offset.0), "its offsets are in no sealed segment");
        let sealed = Offset(0)..row.next_offset;
        assert_eq!(differs(&row, &sealed, None), None, "its file is missing");
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
    fn a_pause_outlasts_what_is_sent_and_its_note_ends_with_the_copy() {
        let ours = locals(SMALL);
        let mut agreement = Agreement::new(Offset(0));
        agreement.keep("damaged".to_owned());
        let until = agreement.paused_until;
        agreement.sent(&ours[1]);
        agreement.extend(Offset(0));
        assert!(agreement.paused_until == until && until > Instant::now());
        assert!(agreement.kept.is_some());
        // The local log begins behind it by now.
        agreement.extend(ours[0].next_offset);
        assert_eq!((agreement.agreed_to, agreement.kept), (ours[1].next_offset, None));
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
