//! A small consumer: records out, alone or as a member of a group that real clients share.
//!
//! A task of its own keeps the place in the group between polls. When the group gathers anew, the next poll commits
//! what was read (unless the options say otherwise), gives the partitions up, and waits for the new ones.
//!
//! Owns: positions, their reset, what a reader of committed records sees.
//! Does not own: copying batches as they are (`fetch.rs` is for that).

mod decode;
mod membership;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::sleep;
use wire::batch::{MalformedAt, RecordsError};
use wire::{ErrorCode, LeaderEpoch, Offset};

use crate::assignor::MalformedProtocol;
use crate::cluster::{Cluster, Lane};
use crate::error::RequestError;
use crate::fetch::{FetchFrom, FetchRound, Fetched};
use crate::group::{Group, Membership, Position};
use crate::isolation::MalformedControl;
use crate::layout::{BrokerId, TopicPartition};
use crate::offsets::{Isolation, Place};

use membership::{Event, GroupTask};

/// The wait before partitions without a leader are tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Where to begin when a group has no position, or one that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record there is.
    #[default]
    Earliest,
    /// At the end.
    Latest,
    /// Nowhere: it is an error.
    Fail,
}

/// How a consumer reads.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Whether records of open and aborted transactions are wanted.
    pub isolation: Isolation,
    /// Where to begin without a position.
    pub reset: OffsetReset,
    /// How long a poll waits for records.
    pub max_wait: Duration,
    /// What one broker may answer at once.
    pub max_bytes: i32,
    /// What one partition may give at once.
    pub partition_max_bytes: i32,
    /// Whether positions are committed when partitions are given up.
    pub commit_on_revoke: bool,
    /// Silence after which the group goes on without this member.
    pub session_timeout: Duration,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// A name under which the place in the group is kept over restarts.
    pub instance_id: Option<String>,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            isolation: Isolation::ReadUncommitted,
            reset: OffsetReset::Earliest,
            max_wait: Duration::from_millis(500),
            max_bytes: 16 * 1024 * 1024,
            partition_max_bytes: 1024 * 1024,
            commit_on_revoke: true,
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(3),
            instance_id: None,
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// Milliseconds since 1970, or -1.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Why a poll has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConsumerError {
    /// A broker could not be asked or said no.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A partition cannot be read.
    #[error("{partition} cannot be read: {code:?}")]
    Partition {
        /// The partition.
        partition: TopicPartition,
        /// Kafka's code.
        code: ErrorCode,
    },
    /// There is no position to begin at, and the options name none.
    #[error("{0} has no position to begin at, and the options do not say where to begin")]
    NoPosition(TopicPartition),
    /// What the broker sent as batches is not.
    #[error("{partition} holds a malformed batch: {error}")]
    Batch {
        /// The partition.
        partition: TopicPartition,
        /// What is wrong, and where.
        error: MalformedAt,
    },
    /// What is in a batch is not sound.
    #[error("{partition} holds a malformed batch that ends at {last_offset}: {error}")]
    Records {
        /// The partition.
        partition: TopicPartition,
        /// Offset of the batch's last record.
        last_offset: Offset,
        /// What is wrong.
        error: RecordsError,
    },
    /// A control batch is not sound.
    #[error("{partition} holds a malformed control batch: {error}")]
    Control {
        /// The partition.
        partition: TopicPartition,
        /// What is wrong.
        error: MalformedControl,
    },
    /// An earlier error has ended the membership.
    #[error("an earlier error ended this consumer's membership: subscribe again")]
    Ended,
    /// The group's leader gave an assignment that cannot be read.
    #[error(transparent)]
    Assignment(#[from] MalformedProtocol),
}

/// A consumer. In a group, it must be polled at least once in a while, or the group waits for it when it gathers.
#[derive(Debug)]
pub struct Consumer {
    cluster: Cluster,
    options: ConsumerOptions,
    lane: Lane,
    positions: BTreeMap<TopicPartition, Offset>,
    in_group: Option<InGroup>,
}

#[derive(Debug)]
struct InGroup {
    group: Group,
    task: GroupTask,
    membership: Option<Membership>,
}

impl Consumer {
    /// Reads these partitions from these offsets on, without a group.
    #[must_use]
    pub fn assign(
        cluster: &Cluster,
        positions: BTreeMap<TopicPartition, Offset>,
        options: ConsumerOptions,
    ) -> Self {
        Self { cluster: cluster.clone(), options, lane: cluster.own_lane(), positions, in_group: None }
    }

    /// Joins a group and reads what it is assigned of these topics. The first poll waits for the assignment.
    #[must_use]
    pub fn subscribe(
        cluster: &Cluster,
        group_id: &str,
        topics: BTreeSet<Arc<str>>,
        options: ConsumerOptions,
    ) -> Self {
        let task = GroupTask::start(cluster, group_id, topics, &options);
        let group = cluster.group(group_id);
        Self {
            cluster: cluster.clone(),
            options,
            lane: cluster.own_lane(),
            positions: BTreeMap::new(),
            in_group: Some(InGroup { group, task, membership: None }),
        }
    }

    /// The next offset of each partition that is read now.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<TopicPartition, Offset> {
        &self.positions
    }

    /// Reads a partition from another offset on.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Some(position) = self.positions.get_mut(partition) {
            *position = offset;
        }
    }

    /// The next records, of one partition after the other; none when there were none in time. What an earlier poll
    /// gave counts as read. To be awaited to its end: what the group asked for would be lost with a dropped poll.
    ///
    /// # Errors
    /// [`ConsumerError`]. Positions of what was not returned stay as they were, so a poll may be tried again.
    pub async fn poll(&mut self) -> Result<Vec<ConsumedRecord>, ConsumerError> {
        self.follow_group().await?;
        if self.positions.is_empty() {
            sleep(self.options.max_wait).await;
            return Ok(Vec::new());
        }
        let mut fetches = JoinSet::new();
        for (broker, partitions) in self.by_leader().await? {
            let (cluster, round) = (self.cluster.clone(), self.round(partitions));
            fetches.spawn(async move { cluster.fetch(broker, &round).await });
        }
        if fetches.is_empty() {
            sleep(PAUSE).await;
        }
        let mut records = Vec::new();
        while let Some(fetched) = fetches.join_next().await {
            match fetched {
                Ok(Ok(fetched)) => {
                    for partition in fetched {
                        self.take(partition, &mut records).await?;
                    }
                }
                Ok(Err(error)) if error.retriable() => {
                    // The leaders may have moved; what is known is asked for again.
                    tracing::debug!(%error, "fetch failed");
                    let topics: BTreeSet<_> =
                        self.positions.keys().map(|partition| Arc::clone(&partition.topic)).collect();
                    self.cluster.refresh(&topics.into_iter().collect::<Vec<_>>()).await?;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
        records.sort_by(|one, other| (&one.partition, one.offset).cmp(&(&other.partition, other.offset)));
        Ok(records)
    }

    /// Partitions with a leader, by leader.
    async fn by_leader(&self) -> Result<BTreeMap<BrokerId, Vec<FetchFrom>>, ConsumerError> {
        let mut by_leader: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (partition, &offset) in &self.positions {
            let leader = match self.cluster.leader(partition).await {
                Ok(leader) => leader,
                Err(error) if error.retriable() => continue,
                Err(error) => return Err(error.into()),
            };
            by_leader.entry(leader.broker).or_default().push(FetchFrom {
                partition: partition.clone(),
                topic_id: leader.topic_id,
                offset,
                leader_epoch: leader.epoch,
                last_fetched_epoch: LeaderEpoch(-1),
                max_bytes: self.options.partition_max_bytes,
            });
        }
        Ok(by_leader)
    }

    fn round(&self, partitions: Vec<FetchFrom>) -> FetchRound {
        FetchRound {
            partitions,
            max_wait: self.options.max_wait,
            min_bytes: 1,
            max_bytes: self.options.max_bytes,
            isolation: self.options.isolation,
            lane: self.lane,
        }
    }

    async fn take(
        &mut self,
        fetched: Fetched,
        records: &mut Vec<ConsumedRecord>,
    ) -> Result<(), ConsumerError> {
        let partition = fetched.partition.clone();
        let Some(position) = self.positions.get(&partition).copied() else { return Ok(()) };
        match fetched.code {
            ErrorCode::NONE => {
                let next = decode::records(fetched, position, self.options.isolation, records)?;
                self.positions.insert(partition, next);
                Ok(())
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let begin = self.begin(vec![partition]).await?;
                self.positions.extend(begin);
                Ok(())
            }
            code if code.retriable() => Ok(()),
            code => Err(ConsumerError::Partition { partition, code }),
        }
    }

    /// Where the options say to begin.
    async fn begin(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Offset>, ConsumerError> {
        let place = match self.options.reset {
            OffsetReset::Earliest => Place::Earliest,
            OffsetReset::Latest => Place::Latest,
            OffsetReset::Fail => match partitions.into_iter().next() {
                Some(partition) => return Err(ConsumerError::NoPosition(partition)),
                None => return Ok(BTreeMap::new()),
            },
        };
        let asked: Vec<_> = partitions.into_iter().map(|partition| (partition, place)).collect();
        let found = self.cluster.list_offsets(&asked, self.options.isolation).await?;
        Ok(found.into_iter().map(|found| (found.partition, found.offset.unwrap_or(Offset(0)))).collect())
    }

    /// Does what the group asks for, and waits while it gathers.
    async fn follow_group(&mut self) -> Result<(), ConsumerError> {
        loop {
            let Some(in_group) = &mut self.in_group else { return Ok(()) };
            let must_wait = in_group.membership.is_none();
            let Some(event) = in_group.task.next_event(must_wait).await else {
                return if must_wait { Err(ConsumerError::Ended) } else { Ok(()) };
            };
            match event {
                Event::Revoked { lost } => {
                    // A place that is lost is no right to commit by.
                    if self.options.commit_on_revoke && !lost {
                        // The group goes on either way; what was not committed is read again.
                        if let Err(error) = self.commit().await {
                            tracing::warn!(%error, "positions were not committed before a rebalance");
                        }
                    }
                    self.positions.clear();
                    if let Some(in_group) = &mut self.in_group {
                        in_group.membership = None;
                        in_group.task.ready().await;
                    }
                }
                Event::Assigned { membership, partitions } => {
                    in_group.membership = Some(membership);
                    self.positions = self.resume(partitions?).await?;
                }
                Event::Failed(error) => return Err(error.into()),
            }
        }
    }

    /// The group's positions, and where the options say for those that it has none of.
    async fn resume(
        &self,
        partitions: BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Offset>, ConsumerError> {
        let Some(in_group) = &self.in_group else { return Ok(BTreeMap::new()) };
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let asked: Vec<_> = partitions.iter().cloned().collect();
        let committed = in_group.group.positions(Some(&asked), false).await?;
        let mut positions: BTreeMap<_, _> =
            committed.into_iter().map(|(partition, position)| (partition, position.offset)).collect();
        positions.retain(|partition, _| partitions.contains(partition));
        let missing: Vec<_> =
            partitions.into_iter().filter(|partition| !positions.contains_key(partition)).collect();
        if !missing.is_empty() {
            positions.extend(self.begin(missing).await?);
        }
        Ok(positions)
    }

    /// Commits the positions: all that polls have given counts as read. Without a group it does nothing.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn commit(&self) -> Result<(), RequestError> {
        let Some(InGroup { group, membership: Some(membership), .. }) = &self.in_group else { return Ok(()) };
        if self.positions.is_empty() {
            return Ok(());
        }
        let positions = self
            .positions
            .iter()
            .map(|(partition, &offset)| {
                let position = Position { offset, leader_epoch: LeaderEpoch(-1), metadata: String::new() };
                (partition.clone(), position)
            })
            .collect();
        group.commit(membership, &positions).await
    }

    /// Commits, leaves the group, and ends. Dropping does the same without the commit.
    ///
    /// # Errors
    /// [`RequestError`], of the commit; the group is left all the same.
    pub async fn close(mut self) -> Result<(), RequestError> {
        let committed = self.commit().await;
        if let Some(in_group) = self.in_group.take() {
            in_group.task.leave().await;
        }
        committed
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.cluster.close_lane(self.lane);
    }
}
