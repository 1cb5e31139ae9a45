//! One partition in care: a task that archives, follows the log start, retires and deletes, one step after another.
//!
//! Owns: the order of those steps and their retries. Does not own: the steps' rules (`archiver`, `retention`), whether log
//! and store are one history (`agreement`), what the log has (`looking`), deletes (`retirement`), notes of damaged objects (`quarantine`). No failure here
//! can stop the local log: each waits and is shown. Only a store that is ahead of the log does, for otherwise offsets would
//! be given out twice.

mod agreement;
mod looking;
mod quarantine;
mod retirement;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotlog::PartitionId;
use hotlog::retention::TrustedClock;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::ids::Offset;

use self::agreement::Agreement;
use self::quarantine::Looks;
use super::status::{Counters, PartitionStatus};
use super::{Engine, TierState};
use crate::archiver::{Blocked, Committer, LagClock, ManifestView, Step, UploadError, next_step};
use crate::limits::{ARCHIVER_TICK, RETENTION_TICK};
use crate::local::{LocalLog, LocalSegment, SealedRange};
use crate::manifest::{CommitError, Committed, ManifestError, PartitionEdit};
use crate::object::LogIdentity;
use crate::replay::Source;
use crate::retention::RetentionAlarm;
use crate::seams::Backoff;
use crate::tier::PartitionPolicy;

/// One partition in care.
#[derive(Debug)]
pub(crate) struct Tiered {
    id: PartitionId,
    local: Arc<dyn LocalLog>,
    pub(crate) source: Arc<Source>,
    pub(crate) wake: Notify,
    pub(crate) stop: CancellationToken,
    /// What is asked for, and whether what retention goes by was changed since its last pass.
    policy: Mutex<(PartitionPolicy, bool)>,
    shown: Mutex<Shown>,
    /// Whether the log was held against the store, or could not be.
    looked: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Shown {
    lag: LagClock,
    copy_lag_segments: u64,
    copy_lag_bytes: u64,
    trouble: Option<String>,
    retention_alarm: Option<RetentionAlarm>,
    committed: Option<Committed>,
    /// Why local copies stay that local limits no longer keep; nothing else waits for them.
    kept_copies: Option<String>,
    /// What the local log was told of a disagreement.
    disagreement: Option<String>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Blocked(#[from] Blocked),
    #[error("the local log does not answer: {0}")]
    Local(String),
}

impl Tiered {
    pub(super) fn new(
        id: PartitionId,
        log: LogIdentity,
        policy: PartitionPolicy,
        local: Arc<dyn LocalLog>,
    ) -> Self {
        Tiered {
            id,
            local,
            source: Arc::new(Source::new(id, log, Arc::new(ManifestView::default()))),
            wake: Notify::new(),
            stop: CancellationToken::new(),
            policy: Mutex::new((policy, false)),
            shown: Mutex::default(),
            looked: watch::Sender::new(false),
        }
    }

    /// Whether new segments are archived.
    pub(super) fn is_archived(&self) -> bool {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).0.archive
    }

    /// Waits until the log was held against the store for the first time, or could not be.
    pub(super) async fn first_look(&self) {
        // The sender lives as long as the partition does.
        let _ = self.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// Tells the log whether it may take records, where that is news.
    fn tell(&self, blocked: Option<Blocked>) {
        let why = blocked.filter(|blocked| blocked.stops_appends()).map(|blocked| blocked.to_string());
        let mut is_news = false;
        self.show(|shown| {
            is_news = shown.disagreement != why;
            shown.disagreement.clone_from(&why);
        });
        if is_news {
            self.local.disagree(why);
        }
        self.looked.send_replace(true);
    }

    pub(crate) fn set_policy(&self, policy: PartitionPolicy) {
        let mut current = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != policy {
            // Who turns archiving on or off says nothing about what may be deleted.
            let asked = current.1 || !current.0.deletes_as(&policy);
            *current = (policy, asked);
            drop(current);
            self.wake.notify_one();
        }
    }

    /// Proof of what the store holds for good.
    pub(crate) fn committed(&self) -> Option<Committed> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).committed
    }

    /// Why the last retention pass kept what is due.
    pub(super) fn retention_alarm(&self) -> Option<(PartitionId, RetentionAlarm)> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retention_alarm.clone().map(|alarm| (self.id, alarm))
    }

    pub(super) fn status(&self, now_ms: i64) -> PartitionStatus {
        let mut status = PartitionStatus::new(self.id);
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        status.copy_lag_segments = shown.copy_lag_segments;
        status.copy_lag_bytes = shown.copy_lag_bytes;
        status.oldest_unprotected_age_ms = shown.lag.oldest_unprotected_age_ms(now_ms);
        status.trouble = shown.trouble.clone().or_else(|| shown.kept_copies.clone());
        drop(shown);
        let Some(manifest) = self.source.view.get() else { return status };
        let totals = manifest.live_totals();
        status.start_offset = manifest.start_offset.0;
        status.end_offset = manifest.end_offset().0;
        status.segments = totals.segments;
        status.object_bytes = totals.object_bytes;
        status.segment_bytes = totals.raw_bytes;
        status.delete_lag_segments = manifest.dead.len() as u64;
        status.delete_lag_bytes = manifest.dead.iter().map(|dead| dead.object_bytes).sum();
        status.quarantined_segments = manifest.segments.iter().filter(|row| row.quarantined).count() as u64;
        status
    }

    fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Hands the local log what is committed, where that is more than before.
    fn release(&self, committed: Option<Committed>) {
        let before = self.committed();
        let news = |now: &Committed| before.is_none_or(|before| before.end() < now.end());
        if let Some(committed) = committed.filter(news) {
            self.show(|shown| shown.committed = Some(committed));
            self.local.release(committed);
        }
    }
}

/// The partition's task.
pub(super) async fn run(engine: Arc<Engine>, tiered: Arc<Tiered>) {
    let stop = tiered.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = work(&engine, &tiered) => {}
    }
}

async fn work(engine: &Arc<Engine>, tiered: &Arc<Tiered>) {
    let mut epoch = engine.writer_epoch.subscribe();
    let writer_epoch = match epoch.wait_for(Option::is_some).await.map(|epoch| *epoch) {
        Ok(Some(writer_epoch)) => writer_epoch,
        _ => return,
    };
    let mut backoff = Backoff::for_partition(&engine.seams);
    let committer = loop {
        match open(engine, tiered, writer_epoch).await {
            Ok(committer) => break committer,
            Err(error) => crate::timers::sleep(fail(engine, tiered, &error.into(), &mut backoff)).await,
        }
    };
    let mut keeper = Keeper {
        engine: engine.clone(),
        tiered: tiered.clone(),
        committer,
        may_adopt: true,
        retention_at: Instant::now(),
        confirmed: None,
        looks: Looks::new(),
        agreement: Agreement::new(tiered.local.local_log_start()),
        own_end: None,
    };
    let mut backoff = Backoff::for_partition(&engine.seams);
    while !engine.is_refused() {
        match keeper.step().await {
            Ok(true) => {
                tiered.show(|shown| shown.trouble = None);
                backoff = Backoff::for_partition(&engine.seams);
            }
            Ok(false) => {
                tiered.show(|shown| shown.trouble = None);
                keeper.pause().await;
            }
            Err(StepError::Commit(CommitError::Fenced { by })) => {
                let reason =
                    format!("another writer (epoch {by:?}) has taken over; this broker archives no more");
                tiered.show(|shown| shown.trouble = Some(reason.clone()));
                engine.state.send_replace(TierState::Refused { reason });
                return;
            }
            Err(error) => {
                let pause = fail(engine, tiered, &error, &mut backoff);
                match error {
                    StepError::Blocked(_) => crate::timers::sleep(pause).await,
                    _ => keeper.release_for(pause).await,
                }
            }
        }
    }
}

async fn open(engine: &Engine, tiered: &Tiered, writer_epoch: u64) -> Result<Committer, ManifestError> {
    let (log, view) = (tiered.source.log.clone(), tiered.source.view.clone());
    Committer::open(engine.store.clone(), log, (writer_epoch, engine.seams.clone()), view).await
}

/// Shows a failure, and says how long to wait: longer each time.
fn fail(engine: &Engine, tiered: &Tiered, error: &StepError, backoff: &mut Backoff) -> Duration {
    Counters::add(&engine.metrics.copy_errors, 1);
    let pause = backoff.next_pause();
    tracing::warn!(
        topic_id = %tiered.id.topic_id,
        partition = tiered.id.partition,
        %error,
        retry_ms = pause.as_millis() as u64,
        "tiering of a partition waits"
    );
    tiered.show(|shown| shown.trouble = Some(error.to_string()));
    tiered.looked.send_replace(true);
    pause
}

/// The state of one partition's work.
struct Keeper {
    engine: Arc<Engine>,
    tiered: Arc<Tiered>,
    committer: Committer,
    /// Whether an object of an earlier start may lie where the next upload goes.
    may_adopt: bool,
    retention_at: Instant,
    /// The clock as it was when somebody last changed what retention goes by: who did has seen what it would delete.
    confirmed: Option<TrustedClock>,
    looks: Looks,
    agreement: Agreement,
    /// Where the segment ends that the manifest's end seems to lie in, once it was opened for that.
    own_end: Option<(SealedRange, Offset)>,
}

impl Keeper {
    /// How often to look for something to do: it grows with the number of partitions.
    fn tick(&self) -> Duration {
        ARCHIVER_TICK.max(Duration::from_millis(self.engine.partition_count() as u64))
    }

    /// Waits for news, or for the tick.
    async fn pause(&self) {
        let _ = crate::timers::timeout(self.tick(), self.tiered.wake.notified()).await;
    }

    /// Waits until a step that failed is tried again. What fails is the store as a rule, and the longer it does, the more the
    /// disk needs what local copies take: which of them may go is known from what is committed already.
    async fn release_for(&mut self, pause: Duration) {
        let begun = Instant::now();
        loop {
            let left = pause.saturating_sub(crate::timers::since(begun));
            if left.is_zero() {
                return;
            }
            let more = match self.agreement.may_release() && !self.engine.is_refused() {
                true => self.release_agreed().await,
                false => Ok(false),
            };
            match more {
                Ok(true) => {}
                Ok(false) => crate::timers::sleep(self.tick().min(left)).await,
                Err(error) => {
                    if let StepError::Blocked(reason) = error {
                        self.tiered.tell(Some(reason));
                    }
                    // The next step says it again, and waits as long as that asks for.
                    return;
                }
            }
        }
    }

    /// Does one thing; `false` when there is nothing to do.
    async fn step(&mut self) -> Result<bool, StepError> {
        self.note_damaged().await?;
        let view = self.look().await?;
        let step = next_step(&view);
        let blocked = match step {
            // Other records here than in the store may have other borders too, and are the worse of the two.
            Step::Blocked(reason @ Blocked::Misaligned { .. }) => self.compare().await?.or(Some(reason)),
            Step::Blocked(reason) => Some(reason),
            _ => self.compare().await?,
        };
        self.tiered.tell(blocked);
        if let Some(reason) = blocked {
            return Err(reason.into());
        }
        // An earlier start, or another writer, may have committed what this log still has.
        let more_to_read = self.release_agreed().await?;
        let did = match step {
            // What is blocked was told of above.
            Step::Idle | Step::Blocked(_) => false,
            Step::AdvanceStart(to) => {
                self.committer
                    .commit(|manifest| match manifest.start_offset < to && to <= manifest.end_offset() {
                        true => vec![PartitionEdit::AdvanceStart { to }],
                        false => Vec::new(),
                    })
                    .await?;
                true
            }
            Step::Declare(gap) => {
                self.committer
                    .commit(|manifest| match manifest.end_offset() == gap.from {
                        true => vec![PartitionEdit::DeclareGap(gap)],
                        false => Vec::new(),
                    })
                    .await?;
                true
            }
            Step::Upload(index) => self.archive(view.segments[index].0).await?,
        };
        if did || Instant::now() < self.retention_at {
            return Ok(did || more_to_read);
        }
        self.retention_at = crate::timers::after(RETENTION_TICK);
        // What is dead already goes even while an alarm keeps more from dying.
        self.delete_dead().await?;
        self.retire().await?;
        self.look_at_damaged().await?;
        Ok(more_to_read)
    }

    /// One segment: adopted or uploaded, then committed, then released. `false` when it is not the same any more.
    async fn archive(&mut self, base_offset: Offset) -> Result<bool, StepError> {
        let engine = self.engine.clone();
        let slot = engine.uploads.acquire().await;
        // Opened in its turn only: or else every partition held files for as long as it waits, and a store may be away for
        // hours.
        let opened = self.first_sealed(base_offset).await?;
        self.check_handed_out(base_offset, opened.as_ref())?;
        // The wait may have been long: the log may have been cut meanwhile, and have other segments by now.
        let stable_to = self.tiered.local.last_stable_offset();
        let is_due =
            |segment: &LocalSegment| segment.base_offset == base_offset && segment.next_offset <= stable_to;
        let Some(segment) = opened.filter(is_due) else { return Ok(false) };
        let log = &self.tiered.source.log;
        Counters::add(&engine.metrics.copy_requests, 1);
        let adopted = if self.may_adopt { engine.uploader.adopt(log, &segment).await? } else { None };
        let packed = match adopted {
            Some(packed) => packed,
            None => {
                // A failure from here on may leave a whole object behind.
                self.may_adopt = true;
                engine.uploader.upload(log, &segment).await?
            }
        };
        drop(slot);
        self.committer.add_segment(&packed).await?;
        if self.committer.has(&packed.identity) {
            self.agreement.sent(&segment);
        }
        self.may_adopt = false;
        Counters::add(&engine.metrics.copy_bytes, packed.object_bytes);
        tracing::debug!(
            topic_id = %self.tiered.id.topic_id,
            partition = self.tiered.id.partition,
            base_offset = segment.base_offset.0,
            segment_bytes = segment.size_bytes,
            object_bytes = packed.object_bytes,
            "segment is in the store"
        );
        self.release_known();
        Ok(true)
    }
}
