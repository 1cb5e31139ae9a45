//! What the local log has beyond what is archived, asked on threads that may wait for the disk.
//!
//! Owns: the order of these questions, and what to make of answers that do not agree. Does not own: the log (`local`), what
//! is done with a segment (`partition`), whether it is the store's (`agreement`).

use std::sync::PoisonError;

use wire::ids::Offset;

use super::{Keeper, StepError};
use crate::archiver::View;
use crate::local::{LocalLog, LocalSegment, SealedRange};

impl Keeper {
    /// Collects what the order-keeper has to see, and the lag while at it.
    pub(super) async fn look(&mut self) -> Result<View, StepError> {
        let (manifest, local) = (self.committer.state().clone(), self.tiered.local.clone());
        let policy = self.tiered.policy.lock().unwrap_or_else(PoisonError::into_inner).0;
        let archive = policy.archive && self.engine.knows_topic(self.tiered.id.topic_id);
        // In this order, and before the disk is waited for: both only rise, and of what a later look found to be let go of, an
        // earlier log start would not tell that it was deleted.
        let local_start = local.local_log_start();
        let (log_start, log_end, end) = (local.log_start(), local.log_end(), manifest.end_offset());
        // The disk is not asked while there can be nothing new.
        let segments = if log_end > end { self.sealed_beyond(end).await? } else { Vec::new() };
        // What was deleted needs no protection.
        let protected_to = end.max(log_start);
        let waiting = segments.iter().filter(|segment| segment.next_offset > protected_to);
        let (count, bytes) =
            waiting.fold((0, 0), |(count, bytes), segment| (count + 1, bytes + segment.size_bytes));
        let now_ms = self.engine.seams.now_ms();
        self.tiered.show(|shown| {
            shown.lag.observe(log_end, protected_to, now_ms);
            (shown.copy_lag_segments, shown.copy_lag_bytes) = (count, bytes);
        });
        Ok(View {
            manifest_start: manifest.start_offset,
            manifest_end: end,
            log_start,
            local_start,
            log_end,
            last_stable_offset: local.last_stable_offset(),
            archive,
            segments: segments.iter().map(|segment| (segment.base_offset, segment.next_offset)).collect(),
        })
    }

    /// The sealed segments from the manifest's end on, none of them open.
    async fn sealed_beyond(&mut self, end: Offset) -> Result<Vec<SealedRange>, StepError> {
        let mut ranges = self.ask(move |local| local.sealed_ranges(end)).await?;
        let Some(first) = ranges.first().copied().filter(|first| first.base_offset < end) else {
            return Ok(ranges);
        };
        // One that is archived whole seems to reach beyond what is archived where a hole follows it. That is looked up once.
        let known = self.own_end.filter(|(range, _)| *range == first).map(|(_, own_end)| own_end);
        let own_end = match known {
            Some(own_end) => Some(own_end),
            None => match self.first_sealed(first.base_offset).await {
                Ok(opened) => {
                    let opened = opened.filter(|segment| segment.base_offset == first.base_offset);
                    opened.map(|segment| segment.next_offset)
                }
                // Of one that cannot be opened the store has all that there is, if it has one of that place and size.
                Err(_) if self.is_newest_row(&first, end) => Some(end),
                Err(error) => return Err(error),
            },
        };
        self.own_end = own_end.map(|own_end| (first, own_end));
        match own_end {
            Some(own_end) => ranges[0].next_offset = own_end,
            // It was let go of between the two questions.
            None => drop(ranges.remove(0)),
        }
        Ok(ranges)
    }

    /// Whether what was archived last begins where a local segment does, is as large, and ends at `end`.
    fn is_newest_row(&self, range: &SealedRange, end: Offset) -> bool {
        self.committer.state().segments.last().is_some_and(|row| {
            row.base_offset == range.base_offset
                && row.next_offset == end
                && row.raw_bytes == range.size_bytes
        })
    }

    /// The first sealed segment that ends behind `from`, with no other file opened.
    pub(super) async fn first_sealed(&self, from: Offset) -> Result<Option<LocalSegment>, StepError> {
        let sealed = self.ask(move |local| local.first_sealed_segment(from)).await?;
        // Who goes on from a segment's end must get on.
        Ok(sealed.filter(|segment| segment.next_offset > from))
    }

    /// Asks the local log, on a thread that may wait for the disk.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn LocalLog) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, StepError> {
        let local = self.tiered.local.clone();
        let answer = tokio::task::spawn_blocking(move || question(&*local)).await;
        let answer = answer.map_err(|error| StepError::Local(error.to_string()))?;
        answer.map_err(|error| StepError::Local(error.to_string()))
    }

    /// A log that lists a segment and hands out one behind it instead would be asked for ever, and nobody would know. It may
    /// do so only of what it has let go of meanwhile: where it was cut, what it has follows on without a hole.
    pub(super) fn check_handed_out(
        &self,
        base_offset: Offset,
        opened: Option<&LocalSegment>,
    ) -> Result<(), StepError> {
        let local = &self.tiered.local;
        let behind = opened.map(|segment| segment.base_offset).filter(|base| *base > base_offset);
        match behind {
            Some(behind) if local.local_log_start().max(local.log_start()) <= base_offset => {
                let (base, behind) = (base_offset.0, behind.0);
                let why = format!("it lists segment {base}, and hands out none before segment {behind}");
                Err(StepError::Local(why))
            }
            _ => Ok(()),
        }
    }
}
