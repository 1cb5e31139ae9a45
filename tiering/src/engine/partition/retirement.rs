//! Total retention of one partition: what is due leaves the log, then the manifest, then the store.
//!
//! Owns: the order of those three. Does not own: what is due (`retention`), when a pass runs (the step in `partition`).

use std::sync::PoisonError;

use hotlog::retention::TrustedClock;

use super::{Keeper, StepError};
use crate::archiver::dead_key;
use crate::engine::Counters;
use crate::limits::{CLOCK_JUMP, DELETE_GRACE, DELETES_PER_PASS};
use crate::manifest::{PartitionEdit, SegmentRow, load_spilled};
use crate::retention::{self, RetentionAlarm};

impl Keeper {
    /// Total retention: the hot log's start first, durably; then the manifest's; then the rows below it are dead.
    pub(super) async fn retire(&mut self) -> Result<(), StepError> {
        let oldest = self.oldest_rows().await?;
        let manifest = self.committer.state().clone();
        let (policy, asked) = *self.tiered.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.engine.clocks();
        if asked {
            self.confirmed = Some(TrustedClock::new(now, CLOCK_JUMP.as_millis() as u64));
        }
        let confirmed = self.confirmed.as_mut().map(|clock| clock.look(now));
        let clock_moved_ms = self.engine.since_trusted(now).or_closer(confirmed).step_ms();
        let local_only_bytes =
            self.tiered.shown.lock().unwrap_or_else(PoisonError::into_inner).copy_lag_bytes;
        let verdict = retention::verdict(&retention::Pass {
            policy,
            oldest: &oldest,
            totals: manifest.live_totals(),
            local_only_bytes,
            now_ms: now.wall_ms,
            asked,
            clock_moved_ms,
        });
        self.show_alarm(verdict.alarm);
        if let Some(to) = verdict.start.filter(|to| *to > manifest.start_offset) {
            let moved = self.tiered.local.advance_log_start(to).await;
            moved.map_err(|error| StepError::Local(error.to_string()))?;
            self.committer
                .commit(|manifest| match manifest.start_offset < to {
                    true => vec![PartitionEdit::AdvanceStart { to }],
                    false => Vec::new(),
                })
                .await?;
        }
        {
            let mut current = self.tiered.policy.lock().unwrap_or_else(PoisonError::into_inner);
            // What was changed meanwhile has not had its pass yet.
            let changed = current.0 != policy;
            current.1 &= changed;
        }
        self.mark_dead(now.wall_ms).await
    }

    /// Shows an alarm for as long as passes raise it, apart from the troubles of archiving, which it does not delay.
    fn show_alarm(&self, alarm: Option<RetentionAlarm>) {
        self.tiered.show(|shown| {
            if let Some(alarm) = alarm.as_ref().filter(|_| shown.retention_alarm.is_none()) {
                let (topic_id, partition) = (self.tiered.id.topic_id, self.tiered.id.partition);
                tracing::warn!(%topic_id, partition, %alarm, "retention keeps tiered segments");
            }
            shown.retention_alarm = alarm;
        });
    }

    /// The oldest live rows: those of the first spilled range, or those in memory.
    async fn oldest_rows(&self) -> Result<Vec<SegmentRow>, StepError> {
        let manifest = self.committer.state();
        let Some(file) = manifest.spilled.first() else { return Ok(manifest.segments.clone()) };
        let (engine, log) = (&self.engine, &self.tiered.source.log);
        let caches = (&engine.replay.spills, &engine.seams);
        let rows = load_spilled(&*engine.store, log, file, caches).await?;
        Ok(rows.to_vec())
    }

    async fn mark_dead(&mut self, at_ms: i64) -> Result<(), StepError> {
        let start = self.committer.state().start_offset;
        while self.committer.state().spilled.first().is_some_and(|file| file.base_offset < start) {
            let rows = self.oldest_rows().await?;
            let due = rows.partition_point(|row| row.next_offset <= start);
            if due == 0 {
                break;
            }
            let (rows, next_base) = (rows[..due].to_vec(), rows.get(due).map(|row| row.base_offset));
            self.committer
                .commit(|manifest| {
                    let same =
                        manifest.spilled.first().map(|file| file.base_offset) == Some(rows[0].base_offset);
                    let edit = PartitionEdit::MarkSpilledDead { rows: rows.clone(), next_base, at_ms };
                    if same { vec![edit] } else { Vec::new() }
                })
                .await?;
        }
        self.committer
            .commit(|manifest| {
                if !manifest.spilled.is_empty() {
                    return Vec::new();
                }
                let due = manifest.segments.iter().take_while(|row| row.next_offset <= manifest.start_offset);
                due.map(|row| PartitionEdit::MarkDead { attempt: row.attempt, at_ms }).collect()
            })
            .await?;
        Ok(())
    }

    /// Deletes what has been dead for the grace, and forgets what is deleted.
    pub(super) async fn delete_dead(&mut self) -> Result<(), StepError> {
        let manifest = self.committer.state().clone();
        let due_before = self.engine.seams.now_ms() - DELETE_GRACE.as_millis() as i64;
        let due = manifest.dead.iter().filter(|dead| dead.dead_since_ms <= due_before).take(DELETES_PER_PASS);
        let mut deleted = Vec::new();
        for dead in due {
            Counters::add(&self.engine.metrics.delete_requests, 1);
            match self.engine.store.delete(&dead_key(&manifest.log, dead)).await {
                Ok(()) => deleted.push(dead.attempt),
                Err(error) => {
                    // One stubborn object does not stop the others.
                    Counters::add(&self.engine.metrics.delete_errors, 1);
                    tracing::warn!(key = %dead_key(&manifest.log, dead), %error, "a dead object stays for now");
                }
            }
        }
        if deleted.is_empty() {
            return Ok(());
        }
        self.committer
            .commit(|manifest| {
                let known = manifest.dead.iter().any(|dead| deleted.contains(&dead.attempt));
                if known { vec![PartitionEdit::DropDead { attempts: deleted.clone() }] } else { Vec::new() }
            })
            .await?;
        Ok(())
    }
}
