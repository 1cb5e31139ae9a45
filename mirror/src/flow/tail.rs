//! The target's tail, read back until it can be judged.
//!
//! Owns: waiting until requests of before are answered or dead, reading headers, asking the leader for the producer.
//! Does not own: the judgement (`recovery`).

use std::time::Duration;

use client::fetch::{FetchFrom, FetchRound};
use client::offsets::Place;
use client::{Cluster, Isolation, Lane, RequestError, TopicPartition};
use wire::batch::{Entries, Entry};
use wire::{ErrorCode, LeaderEpoch, Offset, TopicId};

use super::log_ends;
use crate::copier::Producer;
use crate::events::EventKind;
use crate::offset_map::{SourceOffset, TargetOffset};
use crate::recovery::{
    EpochEnd, Expected, KnownProducer, TailBatch, Verdict, expect_copy, expect_foreign, is_last_copied,
    match_tail,
};

/// How long a broker may still work on what it read from a connection that is gone.
pub(crate) const AIR_CLEARS_IN: Duration = Duration::from_millis(500);
const ASK_AGAIN_IN: Duration = Duration::from_millis(250);
/// How long batches that the leader has may stay invisible before that is an error of the target.
const INVISIBLE_FOR: u32 = 240;
const FETCH_BYTES: i32 = 8 * 1024 * 1024;
/// Empty answers below the end before the rest counts as taken by a log cleaner: a broker that throttles a client
/// answers so too, for a while.
const EMPTY_ANSWERS: u32 = 20;

/// A partition of the target.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) cluster: Cluster,
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: TopicId,
}

/// Why a log was not judged, or not found to be as it should.
#[derive(Debug)]
pub(crate) enum TailError {
    /// Its cluster did not answer; asking again may help.
    Request(RequestError),
    /// What it answered pauses the partition.
    Event(EventKind),
}

impl From<RequestError> for TailError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl Target {
    /// Which of the intents arrived: base offset and leader epoch of each.
    pub(crate) async fn settle(
        &self,
        expected: Expected<'_>,
        target_epoch: i32,
    ) -> Result<Vec<(TargetOffset, i32)>, TailError> {
        if !expected.intents.is_empty() {
            tokio::time::sleep(AIR_CLEARS_IN).await;
        }
        for _ in 0..INVISIBLE_FOR {
            let (start, end) = self.ends().await?;
            let position = expected.position.target;
            let epoch = self.epoch_end(target_epoch).await?;
            match expect_copy(position, TargetOffset(end.0), epoch) {
                Err(EventKind::EpochRollback { .. }) if self.ends_with_copy(expected, start).await? => {}
                judged => judged.map_err(TailError::Event)?,
            }
            if expected.intents.is_empty() {
                return Ok(Vec::new());
            }
            let from = Offset(position.0).max(start);
            let tail = self.read(from, end).await?;
            let known = self.known_producer(expected.producer).await?;
            match match_tail(expected, &tail, known) {
                Verdict::Settled(arrived) => return Ok(arrived),
                Verdict::Contradicted(event) => return Err(TailError::Event(event)),
                Verdict::NotYetVisible => tokio::time::sleep(ASK_AGAIN_IN).await,
            }
        }
        Err(TailError::Event(EventKind::Refused {
            from: expected.intents.first().map_or(0, |intent| intent.from),
            to: expected.intents.last().map_or(0, |intent| intent.to),
            reason: "the target's leader has them but does not show them: too few replicas in sync"
                .to_owned(),
        }))
    }

    /// Whether all that lies between two acknowledged batches is somebody else's.
    pub(crate) async fn expect_foreign(
        &self,
        producer_id: i64,
        source: SourceOffset,
        between: std::ops::Range<TargetOffset>,
    ) -> Result<(), TailError> {
        let (from, to) = (between.start.0, between.end.0);
        let mut tail = match self.read(Offset(from), Offset(to)).await {
            // Retention may have passed what is looked for: what is gone is no duplicate any more.
            Err(error) if error.code() == Some(ErrorCode::OFFSET_OUT_OF_RANGE) => {
                let (start, _) = self.ends().await?;
                self.read(Offset(from).max(start), Offset(to)).await?
            }
            read => read?,
        };
        tail.retain(|batch| (from..to).contains(&batch.base_offset.0));
        expect_foreign(&tail, producer_id, source).map_err(TailError::Event)
    }

    pub(crate) async fn ends(&self) -> Result<(Offset, Offset), RequestError> {
        log_ends(&self.cluster, &self.partition, Isolation::ReadUncommitted).await
    }

    /// The first offset there is.
    pub(crate) async fn log_start(&self) -> Result<TargetOffset, RequestError> {
        let asked = [(self.partition.clone(), Place::Earliest)];
        let found = self.cluster.list_offsets(&asked, Isolation::ReadUncommitted).await?;
        Ok(TargetOffset(found[0].offset.map_or(0, |offset| offset.0)))
    }

    /// Where the epoch ends under which the last batch was acknowledged; `None` when that is not known.
    async fn epoch_end(&self, target_epoch: i32) -> Result<Option<EpochEnd>, RequestError> {
        if target_epoch < 0 {
            return Ok(None);
        }
        let end = self.cluster.offset_for_leader_epoch(&self.partition, LeaderEpoch(target_epoch)).await?;
        let end = TargetOffset(end.end_offset.0);
        Ok((end.0 >= 0).then_some(EpochEnd { leader_epoch: target_epoch, end }))
    }

    /// Whether the last batch below the position is the flow's own.
    async fn ends_with_copy(&self, expected: Expected<'_>, start: Offset) -> Result<bool, RequestError> {
        let position = expected.position.target.0;
        let before = Offset(position - 1);
        if before < start {
            return Ok(false);
        }
        let last = self.read(before, Offset(position)).await?;
        Ok(last.iter().any(|batch| is_last_copied(batch, expected)))
    }

    async fn read(&self, from: Offset, end: Offset) -> Result<Vec<TailBatch>, RequestError> {
        let mut next = from;
        let mut tail = Vec::new();
        let mut empty = 0;
        while next < end {
            let leader = self.cluster.leader(&self.partition).await?;
            let round = FetchRound {
                partitions: vec![FetchFrom {
                    partition: self.partition.clone(),
                    topic_id: self.topic_id,
                    offset: next,
                    leader_epoch: LeaderEpoch::NONE,
                    last_fetched_epoch: LeaderEpoch::NONE,
                    max_bytes: FETCH_BYTES,
                }],
                max_wait: Duration::from_millis(100),
                min_bytes: 1,
                max_bytes: FETCH_BYTES,
                isolation: Isolation::ReadUncommitted,
                lane: Lane::Fetch,
            };
            let fetched = self.cluster.fetch(leader.broker, &round).await?.swap_remove(0);
            if fetched.code != ErrorCode::NONE {
                return Err(RequestError::Refused {
                    api: wire::ApiKey::Fetch,
                    code: fetched.code,
                    message: None,
                });
            }
            let before = next;
            for entry in Entries::new(&fetched.records).map_while(Result::ok) {
                let Entry::Batch(batch) = entry else { continue };
                let header = batch.header();
                next = next.max(header.next_offset());
                tail.push(TailBatch {
                    base_offset: TargetOffset(header.base_offset.0),
                    offsets: i64::from(header.last_offset_delta) + 1,
                    leader_epoch: header.leader_epoch.0,
                    producer: Producer {
                        id: header.producer_id.0,
                        epoch: header.producer_epoch.0,
                        sequence: header.base_sequence,
                    },
                });
            }
            if next > before {
                empty = 0;
            } else if empty < EMPTY_ANSWERS {
                empty += 1;
                tokio::time::sleep(ASK_AGAIN_IN).await;
            } else {
                break;
            }
        }
        Ok(tail)
    }

    async fn known_producer(&self, producer: Producer) -> Result<Option<KnownProducer>, RequestError> {
        match self.cluster.describe_producers(&self.partition).await {
            Ok(known) => {
                let ours = known.iter().find(|known| known.producer_id == producer.id);
                Ok(ours.map(|known| KnownProducer {
                    epoch: i16::try_from(known.producer_epoch).unwrap_or(i16::MAX),
                    last_sequence: known.last_sequence,
                }))
            }
            // Kafka before 3.0 cannot say; what it shows has to do.
            Err(error) if error.code() == Some(ErrorCode::UNSUPPORTED_VERSION) => Ok(None),
            Err(RequestError::Call(client::CallError::Unsupported { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
