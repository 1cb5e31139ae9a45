//! The source's log as one partition's copy reads it: nothing is handed on before what was read is known to be there.
//!
//! A log may be replaced by one that is longer: after a power loss, an unclean election, a restored disk. Its leader
//! has a newer epoch then. So the source is asked where the last epoch that was read ends: under every leader that was
//! not asked yet, after anything but an answer, and when a fetch goes on under a newer epoch, the one sign that no
//! broker can leave out. From Fetch 12 on, brokers compare by themselves at each fetch (KIP-595).
//!
//! Owns: fetching, when the source is asked, what it is asked.
//! Does not own: the judgement (`recovery`), what a fetch holds (`copier::plan`), what follows from them (`partition`).

use std::time::Duration;

use client::fetch::{FetchFrom, FetchRound, Fetched as Answer};
use client::{CallError, Cluster, Isolation, Lane, RequestError, TopicPartition};
use tokio::time::sleep;
use wire::{ErrorCode, LeaderEpoch, Offset, TopicId};

use super::PartitionTask;
use crate::copier::plan::{Planner, ReadTo};
use crate::events::EventKind;
use crate::flow::log_ends;
use crate::flow::tail::TailError;
use crate::offset_map::SourceOffset;
use crate::recovery::{SourceEpoch, SourceLog, expect_read, expect_source};

const FETCH_WAIT: Duration = Duration::from_millis(500);
/// How often in a row a log must end below what was read before that is believed: under a new leader the end that some
/// brokers show stands, for a moment, below what the leader before had shown.
const SHRUNK_FOR_LOOKS: u32 = 10;

/// A partition of the source.
#[derive(Clone, Debug)]
pub(super) struct Source {
    cluster: Cluster,
    partition: TopicPartition,
    topic_id: TopicId,
    lane: Lane,
}

/// What to fetch, and what was read before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    from: SourceOffset,
    read: ReadTo,
    last_read_epoch: i32,
    vouched: Option<LeaderEpoch>,
    max_bytes: i32,
}

impl Wanted {
    /// What the planner wants next. `vouched` is the leader that had all that was read, `None` when that is to be asked
    /// again.
    pub(super) fn by(planner: &Planner, vouched: Option<LeaderEpoch>, max_bytes: i32) -> Self {
        let (from, read, last_read_epoch) = (planner.next(), planner.read(), planner.last_read_epoch());
        Self { from, read, last_read_epoch, vouched, max_bytes }
    }
}

/// An answer to a fetch, and the leader that had all that was read before it.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) answer: Answer,
    pub(super) vouched: LeaderEpoch,
}

impl Source {
    pub(super) fn of(task: &PartitionTask) -> Self {
        Self {
            cluster: task.source.clone(),
            partition: task.source_partition.clone(),
            topic_id: task.key.source_topic,
            lane: task.source_lane,
        }
    }

    /// Fetches, and makes sure that what was read before is still there.
    pub(super) async fn fetch(&self, wanted: Wanted) -> Result<Checked, TailError> {
        let leader = self.cluster.leader(&self.partition).await?;
        if wanted.vouched != Some(leader.epoch) {
            self.check(wanted.from, wanted.read).await?;
        }
        let answer = self.cluster.fetch(leader.broker, &self.round(wanted)).await?.swap_remove(0);
        if answer.code == ErrorCode::NONE {
            if let Some((epoch, end)) = answer.diverging {
                let found = SourceEpoch { leader_epoch: epoch.0, end: SourceOffset(end.0) };
                expect_read(wanted.read, found).map_err(TailError::Event)?;
            }
            if wanted.read.goes_on_under_a_newer_leader(&answer.records) {
                self.check(wanted.from, wanted.read).await?;
            }
        }
        Ok(Checked { answer, vouched: leader.epoch })
    }

    /// Whether the log still holds what was read of it, and `next`. Answers the leader that it had by then, at least.
    pub(super) async fn check(&self, next: SourceOffset, read: ReadTo) -> Result<LeaderEpoch, TailError> {
        let mut shrunk_looks = 0;
        loop {
            let leader = self.cluster.leader(&self.partition).await?;
            let ends = log_ends(&self.cluster, &self.partition, Isolation::ReadUncommitted).await?;
            let (log_start, end) = (SourceOffset(ends.0.0), SourceOffset(ends.1.0));
            let epoch = self.epoch_end(read.epoch).await?;
            match expect_source(next, read, SourceLog { log_start, end, epoch }) {
                Ok(()) => return Ok(leader.epoch),
                Err(EventKind::LogShrank { .. }) if shrunk_looks < SHRUNK_FOR_LOOKS => shrunk_looks += 1,
                Err(event) => return Err(TailError::Event(event)),
            }
            sleep(FETCH_WAIT).await;
        }
    }

    /// Where an epoch that was read ends now.
    async fn epoch_end(&self, epoch: i32) -> Result<Option<SourceEpoch>, RequestError> {
        if epoch < 0 {
            return Ok(None);
        }
        match self.cluster.offset_for_leader_epoch(&self.partition, LeaderEpoch(epoch)).await {
            Ok(found) => {
                let end = SourceOffset(found.end_offset.0);
                Ok(Some(SourceEpoch { leader_epoch: found.epoch.0, end }))
            }
            // Kafka before 2.1 does not tell clients; its log's end has to do.
            Err(RequestError::Call(CallError::Unsupported { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The leader's own epoch is not named: a source restored from an older copy is behind the one that is known, and
    /// would refuse every fetch rather than show what it lost.
    fn round(&self, wanted: Wanted) -> FetchRound {
        FetchRound {
            partitions: vec![FetchFrom {
                partition: self.partition.clone(),
                topic_id: self.topic_id,
                offset: Offset(wanted.from.0),
                leader_epoch: LeaderEpoch::NONE,
                last_fetched_epoch: LeaderEpoch(wanted.last_read_epoch),
                max_bytes: wanted.max_bytes,
            }],
            max_wait: FETCH_WAIT,
            min_bytes: 1,
            max_bytes: wanted.max_bytes,
            isolation: Isolation::ReadCommitted,
            lane: self.lane,
        }
    }
}
