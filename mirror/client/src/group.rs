//! Consumer groups as their coordinator sees them: positions, descriptions, and the requests of a member.
//!
//! Owns: finding the coordinator and finding it again, commits and reads of positions.
//! Does not own: the life of a member (`member.rs`), what assignments mean (`assignor.rs`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wire::api::delete_groups::DeleteGroupsRequest;
use wire::api::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use wire::api::find_coordinator::FindCoordinatorRequest;
use wire::api::list_groups::{ListGroupsRequest, ListedGroup};
use wire::api::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use wire::{ApiKey, ErrorCode, LeaderEpoch, Offset, RequestMessage, Text, TopicId};

use crate::admin::{missing, version};
use crate::cluster::{Cluster, Lane};
use crate::connection::Connection;
use crate::error::RequestError;
use crate::layout::{BrokerId, TopicPartition};

/// The last versions of OffsetCommit and OffsetFetch that speak of topics by name.
const BY_NAME_LAST: i16 = 9;
/// From this version on OffsetFetch asks for several groups.
const SEVERAL_GROUPS_SINCE: i16 = 8;
/// From this version on OffsetFetch can wait for open transactions.
const STABLE_SINCE: i16 = 7;
/// From this version on OffsetCommit names static members.
const STATIC_COMMIT_SINCE: i16 = 7;

/// A group, reached through its coordinator.
#[derive(Debug)]
pub struct Group {
    cluster: Cluster,
    id: Text,
    lane: Lane,
    coordinator: Mutex<Option<BrokerId>>,
}

/// A position that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next offset to read.
    pub offset: Offset,
    /// Epoch of the leader that wrote the record before, or -1.
    pub leader_epoch: LeaderEpoch,
    /// The committer's own note.
    pub metadata: String,
}

/// By which right a commit is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group's generation; -1 from outside.
    pub generation: i32,
    /// The member; empty from outside.
    pub member_id: Text,
    /// The static member's name.
    pub instance_id: Option<Text>,
}

impl Membership {
    /// None at all: allowed while the group has no members.
    pub const OUTSIDE: Self = Self { generation: -1, member_id: Text::EMPTY, instance_id: None };
}

impl Cluster {
    /// The group of that id, on the control lane: enough for all but members.
    #[must_use]
    pub fn group(&self, id: &str) -> Group {
        self.group_on(id, Lane::Control)
    }

    pub(crate) fn group_on(&self, id: &str, lane: Lane) -> Group {
        Group { cluster: self.clone(), id: Text::from(id), lane, coordinator: Mutex::new(None) }
    }

    /// All groups of all brokers.
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, RequestError> {
        let mut retry = self.retry();
        loop {
            match self.try_list_groups().await {
                Err(error) if retry.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn try_list_groups(&self) -> Result<Vec<ListedGroup>, RequestError> {
        let mut groups = Vec::new();
        let brokers: Vec<_> = self.refresh(&[]).await?.brokers.keys().copied().collect();
        for broker in brokers {
            let connection = self.connection(broker, Lane::Control).await?;
            let version = version(&connection, ApiKey::ListGroups)?;
            let response = connection.call(version, &ListGroupsRequest::default()).await?;
            RequestError::check(ApiKey::ListGroups, response.error_code, None)?;
            groups.extend(response.groups);
        }
        groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
        Ok(groups)
    }
}

impl Group {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &Text {
        &self.id
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A connection to the coordinator, as last known or as found now.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>, RequestError> {
        let known = *self.coordinator.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = match known {
            Some(broker) => broker,
            None => self.find().await?,
        };
        let connection = self.cluster.connection(broker, self.lane).await;
        if connection.is_err() {
            self.forget();
        }
        Ok(connection?)
    }

    async fn find(&self) -> Result<BrokerId, RequestError> {
        let connection = self.cluster.controller().await?;
        let version = version(&connection, ApiKey::FindCoordinator)?;
        let request = match version {
            ..=3 => FindCoordinatorRequest { key: self.id.clone(), ..Default::default() },
            _ => FindCoordinatorRequest { coordinator_keys: vec![self.id.clone()], ..Default::default() },
        };
        let response = connection.call(version, &request).await?;
        let (code, message, broker) = if version <= 3 {
            (response.error_code, response.error_message, response.node_id)
        } else {
            let found = response.coordinators.into_iter().find(|found| found.key == self.id);
            let found = found.ok_or_else(|| missing(&connection, ApiKey::FindCoordinator, &self.id))?;
            (found.error_code, found.error_message, found.node_id)
        };
        RequestError::check(ApiKey::FindCoordinator, code, message.as_ref())?;
        let broker = BrokerId(broker);
        if !self.cluster.layout().brokers.contains_key(&broker) {
            self.cluster.refresh(&[]).await?;
        }
        *self.coordinator.lock().unwrap_or_else(PoisonError::into_inner) = Some(broker);
        Ok(broker)
    }

    fn forget(&self) {
        *self.coordinator.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks the coordinator once.
    pub(crate) async fn ask<M: RequestMessage>(
        &self,
        connection: &Connection,
        request: &M,
        broker_may_wait: Duration,
    ) -> Result<M::Response, RequestError> {
        let version = version(connection, M::KEY)?;
        self.ask_in(connection, version, request, broker_may_wait).await
    }

    async fn ask_in<M: RequestMessage>(
        &self,
        connection: &Connection,
        version: i16,
        request: &M,
        broker_may_wait: Duration,
    ) -> Result<M::Response, RequestError> {
        let response = connection.call_waiting(version, request, broker_may_wait).await;
        if response.is_err() {
            self.forget();
        }
        Ok(response?)
    }

    /// Turns a code into an error, and forgets a coordinator that denies being one.
    pub(crate) fn check(
        &self,
        api: ApiKey,
        code: ErrorCode,
        message: Option<&Text>,
    ) -> Result<(), RequestError> {
        if matches!(code, ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE) {
            self.forget();
        }
        RequestError::check(api, code, message)
    }

    /// Commits positions. To commit the same twice does no harm.
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try; the first refusal when only some were refused.
    pub async fn commit(
        &self,
        membership: &Membership,
        positions: &BTreeMap<TopicPartition, Position>,
    ) -> Result<(), RequestError> {
        let mut retry = self.cluster.retry();
        loop {
            match self.try_commit(membership, positions).await {
                Err(error) if retry.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn try_commit(
        &self,
        membership: &Membership,
        positions: &BTreeMap<TopicPartition, Position>,
    ) -> Result<(), RequestError> {
        let connection = self.connection().await?;
        let first = ApiKey::OffsetCommit.api().served.0;
        let first = if membership.instance_id.is_some() { first.max(STATIC_COMMIT_SINCE) } else { first };
        let version = connection.version(ApiKey::OffsetCommit, first, BY_NAME_LAST)?;
        let request = OffsetCommitRequest {
            group_id: self.id.clone(),
            generation_id_or_member_epoch: membership.generation,
            member_id: membership.member_id.clone(),
            group_instance_id: membership.instance_id.clone(),
            retention_time_ms: -1,
            topics: commit_topics(positions),
        };
        let response = self.ask_in(&connection, version, &request, Duration::ZERO).await?;
        let answers: Vec<_> = response.topics.iter().flat_map(|topic| &topic.partitions).collect();
        for answer in &answers {
            self.check(ApiKey::OffsetCommit, answer.error_code, None)?;
        }
        if answers.len() < positions.len() {
            return Err(missing(&connection, ApiKey::OffsetCommit, "every position").into());
        }
        Ok(())
    }

    /// The positions of the group: all, or those of some partitions. Partitions without a position are left out.
    /// With `stable`, positions that an open transaction may still change are waited for (Kafka 2.5).
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn positions(
        &self,
        partitions: Option<&[TopicPartition]>,
        stable: bool,
    ) -> Result<BTreeMap<TopicPartition, Position>, RequestError> {
        let mut retry = self.cluster.retry();
        loop {
            match self.try_positions(partitions, stable).await {
                Err(error) if retry.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn try_positions(
        &self,
        partitions: Option<&[TopicPartition]>,
        stable: bool,
    ) -> Result<BTreeMap<TopicPartition, Position>, RequestError> {
        let connection = self.connection().await?;
        let first = if stable { STABLE_SINCE } else { ApiKey::OffsetFetch.api().served.0 };
        let version = connection.version(ApiKey::OffsetFetch, first, BY_NAME_LAST)?;
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for partition in partitions.unwrap_or_default() {
            topics.entry(&partition.topic).or_default().push(partition.partition);
        }
        let request = match version {
            SEVERAL_GROUPS_SINCE.. => {
                let topics = topics.into_iter().map(|(name, partition_indexes)| OffsetFetchRequestTopics {
                    name: Text::from(name),
                    topic_id: TopicId::ZERO,
                    partition_indexes,
                });
                let topics = partitions.is_some().then(|| topics.collect());
                let group =
                    OffsetFetchRequestGroup { group_id: self.id.clone(), topics, ..Default::default() };
                OffsetFetchRequest { groups: vec![group], require_stable: stable, ..Default::default() }
            }
            _ => {
                let topics = topics.into_iter().map(|(name, partition_indexes)| OffsetFetchRequestTopic {
                    name: Text::from(name),
                    partition_indexes,
                });
                let topics = partitions.is_some().then(|| topics.collect());
                OffsetFetchRequest {
                    group_id: self.id.clone(),
                    topics,
                    require_stable: stable,
                    ..Default::default()
                }
            }
        };
        let response = self.ask_in(&connection, version, &request, Duration::ZERO).await?;
        self.read_positions(&connection, version, response)
    }

    fn read_positions(
        &self,
        connection: &Connection,
        version: i16,
        response: OffsetFetchResponse,
    ) -> Result<BTreeMap<TopicPartition, Position>, RequestError> {
        let mut all = Vec::new();
        if version < SEVERAL_GROUPS_SINCE {
            self.check(ApiKey::OffsetFetch, response.error_code, None)?;
            for topic in response.topics {
                for at in topic.partitions {
                    let position = (at.committed_offset, at.committed_leader_epoch, at.metadata);
                    all.push((topic.name.clone(), at.partition_index, at.error_code, position));
                }
            }
        } else {
            let group = response.groups.into_iter().find(|group| group.group_id == self.id);
            let group = group.ok_or_else(|| missing(connection, ApiKey::OffsetFetch, &self.id))?;
            self.check(ApiKey::OffsetFetch, group.error_code, None)?;
            for topic in group.topics {
                for at in topic.partitions {
                    let position = (at.committed_offset, at.committed_leader_epoch, at.metadata);
                    all.push((topic.name.clone(), at.partition_index, at.error_code, position));
                }
            }
        }
        let mut positions = BTreeMap::new();
        for (topic, partition, code, (offset, leader_epoch, metadata)) in all {
            self.check(ApiKey::OffsetFetch, code, None)?;
            if offset >= 0 {
                let metadata = metadata.as_ref().map(String::from).unwrap_or_default();
                let position =
                    Position { offset: Offset(offset), leader_epoch: LeaderEpoch(leader_epoch), metadata };
                positions.insert(TopicPartition::new(&*topic, partition), position);
            }
        }
        Ok(positions)
    }

    /// The group's state and members.
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn describe(&self) -> Result<DescribedGroup, RequestError> {
        let request = DescribeGroupsRequest { groups: vec![self.id.clone()], ..Default::default() };
        let mut retry = self.cluster.retry();
        loop {
            let attempt = async {
                let connection = self.connection().await?;
                let response = self.ask(&connection, &request, Duration::ZERO).await?;
                let found = response.groups.into_iter().find(|group| group.group_id == self.id);
                let found = found.ok_or_else(|| missing(&connection, ApiKey::DescribeGroups, &self.id))?;
                self.check(ApiKey::DescribeGroups, found.error_code, found.error_message.as_ref())?;
                Ok(found)
            };
            match attempt.await {
                Err(error) if retry.again(&error).await => {}
                done => return done,
            }
        }
    }

    /// Deletes the group, which must have no members.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn delete(&self) -> Result<(), RequestError> {
        let request = DeleteGroupsRequest { groups_names: vec![self.id.clone()] };
        let mut retry = self.cluster.retry();
        loop {
            let attempt = async {
                let connection = self.connection().await?;
                let response = self.ask(&connection, &request, Duration::ZERO).await?;
                let found = response.results.into_iter().find(|group| group.group_id == self.id);
                let found = found.ok_or_else(|| missing(&connection, ApiKey::DeleteGroups, &self.id))?;
                self.check(ApiKey::DeleteGroups, found.error_code, None)
            };
            match attempt.await {
                Err(error) if retry.again_unless_done(&error).await => {}
                done => return done,
            }
        }
    }
}

fn commit_topics(positions: &BTreeMap<TopicPartition, Position>) -> Vec<OffsetCommitRequestTopic> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (partition, position) in positions {
        if topics.last().is_none_or(|last| *last.name != *partition.topic) {
            let name = Text::from(&*partition.topic);
            topics.push(OffsetCommitRequestTopic { name, topic_id: TopicId::ZERO, partitions: Vec::new() });
        }
        topics.last_mut().expect("one was pushed").partitions.push(OffsetCommitRequestPartition {
            partition_index: partition.partition,
            committed_offset: position.offset.0,
            committed_leader_epoch: position.leader_epoch.0,
            committed_metadata: Some(Text::from(&position.metadata)),
        });
    }
    topics
}
