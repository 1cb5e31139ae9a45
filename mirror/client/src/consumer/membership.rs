//! The task that keeps a consumer's place in its group between polls.
//!
//! Owns: that task and the events between it and the consumer.
//! Does not own: the requests of a member (`member`), who gets what (`assignor`), positions and commits
//! (`consumer`).
//!
//! It joins, tells the consumer what it was assigned, sends heartbeats, and when the group gathers anew tells the
//! consumer to give its partitions up; once the consumer has, it joins again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use wire::Text;

use super::ConsumerOptions;
use crate::assignor::{self, CONSUMER, MalformedProtocol, RANGE};
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::group::Membership;
use crate::layout::TopicPartition;
use crate::member::{Assign, Candidate, Ended, Member, MemberOptions};

/// How long the group waits for this member to give its partitions up.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a leader looks whether the topics have more partitions now.
const TOPICS_INTERVAL: Duration = Duration::from_secs(30);

/// What the group asks of the consumer.
#[derive(Debug)]
pub(super) enum Event {
    /// Read these.
    Assigned { membership: Membership, partitions: Result<BTreeSet<TopicPartition>, MalformedProtocol> },
    /// Give up what is read, then say so by [`GroupTask::ready`].
    Revoked { lost: bool },
    /// The group cannot be joined.
    Failed(RequestError),
}

/// A handle on the task. Dropping it makes the task leave the group.
#[derive(Debug)]
pub(super) struct GroupTask {
    events: mpsc::Receiver<Event>,
    ready: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl GroupTask {
    pub(super) fn start(
        cluster: &Cluster,
        group_id: &str,
        topics: BTreeSet<Arc<str>>,
        options: &ConsumerOptions,
    ) -> Self {
        let member = Member::new(
            cluster,
            MemberOptions {
                group_id: group_id.to_owned(),
                protocol_type: CONSUMER.to_owned(),
                protocols: vec![(RANGE.to_owned(), assignor::subscription(&topics))],
                session_timeout: options.session_timeout,
                rebalance_timeout: REBALANCE_TIMEOUT,
                heartbeat_interval: options.heartbeat_interval,
                instance_id: options.instance_id.clone(),
            },
        );
        let (events_out, events) = mpsc::channel(1);
        let (ready, ready_in) = mpsc::channel(1);
        let keeper = Keeper { cluster: cluster.clone(), member, events: events_out, ready: ready_in };
        Self { events, ready, task: tokio::spawn(keeper.run()) }
    }

    /// The next event: waited for, or only if it is there.
    pub(super) async fn next_event(&mut self, wait: bool) -> Option<Event> {
        if wait { self.events.recv().await } else { self.events.try_recv().ok() }
    }

    /// Says that the partitions were given up.
    pub(super) async fn ready(&self) {
        // A task that has ended waits for nothing.
        let _ = self.ready.send(()).await;
    }

    /// Leaves the group and waits until the coordinator has been told.
    pub(super) async fn leave(self) {
        let Self { events, ready, task } = self;
        drop((events, ready));
        if let Err(panicked) = task.await
            && panicked.is_panic()
        {
            std::panic::resume_unwind(panicked.into_panic());
        }
    }
}

struct Keeper {
    cluster: Cluster,
    member: Member,
    events: mpsc::Sender<Event>,
    ready: mpsc::Receiver<()>,
}

impl Keeper {
    async fn run(mut self) {
        while self.one_generation().await {}
        if let Err(error) = self.member.leave().await {
            tracing::debug!(%error, "the group was not left; it goes on when the session ends");
        }
    }

    /// Joins, holds, gives up. False when the consumer is gone or the group cannot be joined.
    async fn one_generation(&mut self) -> bool {
        let counts = match self.partition_counts().await {
            Ok(counts) => counts,
            Err(error) => return self.failed(error).await,
        };
        let assign = |_: &str, candidates: &[Candidate]| assign(candidates, &counts);
        let assign: Assign<'_> = &assign;
        let joined = tokio::select! {
            joined = self.member.join(assign) => joined,
            () = self.events.closed() => return false,
        };
        let assignment = match joined {
            Ok(assignment) => assignment,
            Err(error) => return self.failed(error).await,
        };
        let partitions = assignor::read_assignment(&assignment.data);
        let assigned = Event::Assigned { membership: assignment.membership, partitions };
        if self.events.send(assigned).await.is_err() {
            return false;
        }
        let ended = tokio::select! {
            ended = self.member.hold() => ended,
            () = self.topics_change(&counts) => Ended::Rebalance,
            () = self.events.closed() => return false,
        };
        let lost = match ended {
            Ended::Rebalance => false,
            Ended::Lost(error) => {
                tracing::warn!(%error, "the place in the group is lost");
                true
            }
        };
        if self.events.send(Event::Revoked { lost }).await.is_err() {
            return false;
        }
        self.wait_until_ready().await
    }

    /// Waits for the consumer to give its partitions up. Heartbeats go on meanwhile: it may still commit.
    async fn wait_until_ready(&mut self) -> bool {
        loop {
            tokio::select! {
                ready = self.ready.recv() => return ready.is_some(),
                () = sleep(Duration::from_secs(1)) => {
                    // The answer says "rebalance" until this member joins again; that it was heard is what counts.
                    let _ = self.member.heartbeat().await;
                }
            }
        }
    }

    async fn failed(&mut self, error: RequestError) -> bool {
        let retriable = error.retriable();
        self.events.send(Event::Failed(error)).await.is_ok() && retriable
    }

    /// Of all topics, since whoever leads assigns what others subscribe to as well.
    async fn partition_counts(&self) -> Result<BTreeMap<Arc<str>, i32>, RequestError> {
        let layout = self.cluster.refresh_all().await?;
        let count = |partitions: usize| i32::try_from(partitions).unwrap_or(i32::MAX);
        Ok(layout
            .topics
            .iter()
            .map(|(name, topic)| (Arc::clone(name), count(topic.partitions.len())))
            .collect())
    }

    /// Returns once the topics are no longer what the assignment was made from.
    async fn topics_change(&self, assigned_from: &BTreeMap<Arc<str>, i32>) {
        loop {
            sleep(TOPICS_INTERVAL).await;
            if self.partition_counts().await.is_ok_and(|counts| counts != *assigned_from) {
                return;
            }
        }
    }
}

fn assign(candidates: &[Candidate], counts: &BTreeMap<Arc<str>, i32>) -> Vec<(Text, Bytes)> {
    assignor::assign_range(candidates, counts)
}
