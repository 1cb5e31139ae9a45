//! Changes and descriptions of topics, and producer ids.
//!
//! Owns: one request and its answer for each; deleting records and describing producers too.
//! Does not own: what should change (whoever asks), finding controller and leader (`cluster`), consumer groups
//! (`group`).
//!
//! A change is asked for again only when it surely was not made; what was asked and not answered is an error that says
//! so ([`CallError::Unanswered`]).

use std::sync::Arc;
use std::time::Duration;

use wire::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use wire::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use wire::api::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use wire::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use wire::api::describe_producers::{DescribeProducersRequest, ProducerState, TopicRequest};
use wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use wire::api::init_producer_id::InitProducerIdRequest;
use wire::{ApiKey, ErrorCode, Offset, ProducerEpoch, ProducerId, RequestMessage, Text, TopicId};

use crate::cluster::{Cluster, Lane};
use crate::connection::Connection;
use crate::error::{CallError, Nonsense, RequestError};
use crate::layout::{BrokerId, TopicPartition};

/// How long brokers may take over a change.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
const CHANGE_TIMEOUT_MS: i32 = CHANGE_TIMEOUT.as_millis() as i32;

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the cluster's default (Kafka 2.4).
    pub partitions: i32,
    /// How many copies; -1 for the cluster's default (Kafka 2.4).
    pub replication_factor: i16,
    /// Settings besides the cluster's defaults.
    pub configs: Vec<(String, String)>,
}

/// What settings belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// A broker.
    Broker(BrokerId),
}

impl Resource {
    fn on_the_wire(&self) -> (i8, Text) {
        match self {
            Self::Topic(name) => (2, Text::from(name)),
            Self::Broker(id) => (4, Text::from(id.to_string())),
        }
    }
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; none when it is secret or not set.
    pub value: Option<String>,
    /// Whether it was set for this very resource, not taken from a default.
    pub is_own: bool,
}

/// Where it says in DescribeConfigs that a value was set for the topic itself.
const SOURCE_TOPIC: i8 = 1;
/// The same for one broker, by a dynamic setting or its own file.
const SOURCES_BROKER: [i8; 2] = [2, 4];

/// A producer id and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

impl Cluster {
    /// Makes a topic. It may take a moment until all brokers know it.
    ///
    /// # Errors
    /// [`RequestError`]; the code `TOPIC_ALREADY_EXISTS` when it is there.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<TopicId, RequestError> {
        let configs = topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: Text::from(name),
                value: Some(Text::from(value)),
            })
            .collect();
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Text::from(&topic.name),
                num_partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                assignments: Vec::new(),
                configs,
            }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            validate_only: false,
        };
        self.change(&request, |response| {
            let answer = response.topics.first().filter(|answer| *answer.name == *topic.name)?;
            Some((answer.error_code, answer.error_message.clone(), answer.topic_id))
        })
        .await
    }

    /// Deletes a topic by name.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), RequestError> {
        // Each version reads the list that it has.
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(Text::from(name)), topic_id: TopicId::ZERO }],
            topic_names: Vec::new(),
            timeout_ms: CHANGE_TIMEOUT_MS,
        };
        let old = DeleteTopicsRequest {
            topics: Vec::new(),
            topic_names: vec![Text::from(name)],
            timeout_ms: CHANGE_TIMEOUT_MS,
        };
        let mut retry = self.retry();
        loop {
            let attempt = async {
                let connection = self.controller().await?;
                let version = version(&connection, ApiKey::DeleteTopics)?;
                let request = if version >= 6 { &request } else { &old };
                let response = connection.call_waiting(version, request, CHANGE_TIMEOUT).await?;
                let answer = response.responses.first();
                let answer = answer.ok_or_else(|| missing(&connection, ApiKey::DeleteTopics, name))?;
                self.check_change(ApiKey::DeleteTopics, answer.error_code, answer.error_message.as_ref())
                    .await
            };
            match attempt.await {
                Err(error) if retry.again_unless_done(&error).await => {}
                done => return done,
            }
        }
    }

    /// Raises the number of a topic's partitions to `total`.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn create_partitions(&self, topic: &str, total: i32) -> Result<(), RequestError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: Text::from(topic), count: total, assignments: None }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            validate_only: false,
        };
        self.change(&request, |response| {
            let answer = response.results.first().filter(|answer| *answer.name == *topic)?;
            Some((answer.error_code, answer.error_message.clone(), ()))
        })
        .await
    }

    /// Sets (or, without a value, unsets) settings one by one (KIP-339; Kafka 2.3).
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &[(&str, Option<&str>)],
    ) -> Result<(), RequestError> {
        let (resource_type, resource_name) = resource.on_the_wire();
        let configs = changes
            .iter()
            .map(|(name, value)| AlterableConfig {
                name: Text::from(*name),
                config_operation: if value.is_some() { 0 } else { 1 },
                value: value.map(Text::from),
            })
            .collect();
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource { resource_type, resource_name, configs }],
            validate_only: false,
        };
        self.change(&request, |response| {
            let answer = response.responses.first()?;
            Some((answer.error_code, answer.error_message.clone(), ()))
        })
        .await
    }

    /// Sends a change to the controller. `result` finds the code, the message and the result in the answer.
    async fn change<M: RequestMessage, T>(
        &self,
        request: &M,
        result: impl Fn(&M::Response) -> Option<(ErrorCode, Option<Text>, T)>,
    ) -> Result<T, RequestError> {
        let mut retry = self.retry();
        loop {
            let attempt = async {
                let connection = self.controller().await?;
                let version = version(&connection, M::KEY)?;
                let response = connection.call_waiting(version, request, CHANGE_TIMEOUT).await?;
                let answer = result(&response).ok_or_else(|| missing(&connection, M::KEY, "the change"))?;
                self.check_change(M::KEY, answer.0, answer.1.as_ref()).await?;
                Ok(answer.2)
            };
            match attempt.await {
                Err(error) if retry.again_unless_done(&error).await => {}
                done => return done,
            }
        }
    }

    async fn check_change(
        &self,
        api: ApiKey,
        code: ErrorCode,
        message: Option<&Text>,
    ) -> Result<(), RequestError> {
        if code == ErrorCode::NOT_CONTROLLER {
            self.refresh(&[]).await?;
        }
        RequestError::check(api, code, message)
    }

    /// The settings of a topic or a broker.
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn describe_configs(&self, resource: &Resource) -> Result<Vec<ConfigEntry>, RequestError> {
        let mut retry = self.retry();
        loop {
            match self.try_describe_configs(resource).await {
                Err(error) if retry.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn try_describe_configs(&self, resource: &Resource) -> Result<Vec<ConfigEntry>, RequestError> {
        let connection = match resource {
            Resource::Topic(_) => self.controller().await?,
            Resource::Broker(id) => self.connection(*id, Lane::Control).await?,
        };
        let (resource_type, resource_name) = resource.on_the_wire();
        let asked = DescribeConfigsResource { resource_type, resource_name, configuration_keys: None };
        let request = DescribeConfigsRequest { resources: vec![asked], ..Default::default() };
        let response = connection.call(version(&connection, ApiKey::DescribeConfigs)?, &request).await?;
        let answer = response.results.first();
        let answer = answer.ok_or_else(|| missing(&connection, ApiKey::DescribeConfigs, "the resource"))?;
        RequestError::check(ApiKey::DescribeConfigs, answer.error_code, answer.error_message.as_ref())?;
        let is_own = |source: i8| match resource {
            Resource::Topic(_) => source == SOURCE_TOPIC,
            Resource::Broker(_) => SOURCES_BROKER.contains(&source),
        };
        let entries = answer.configs.iter().map(|config| ConfigEntry {
            name: config.name.to_string(),
            value: config.value.as_ref().map(String::from),
            is_own: is_own(config.config_source),
        });
        Ok(entries.collect())
    }

    /// Deletes the records of a partition below `offset`; -1 stands for its high watermark. Returns the new log
    /// start. To ask twice does no harm.
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn delete_records(
        &self,
        partition: &TopicPartition,
        offset: Offset,
    ) -> Result<Offset, RequestError> {
        let below = DeleteRecordsPartition { partition_index: partition.partition, offset: offset.0 };
        let topic = DeleteRecordsTopic { name: Text::from(&*partition.topic), partitions: vec![below] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: CHANGE_TIMEOUT_MS };
        self.ask_leader(partition, &request, |response| {
            let answer = response.topics.first()?.partitions.first()?;
            Some((answer.error_code, None, Offset(answer.low_watermark)))
        })
        .await
    }

    /// The idempotent and transactional producers that a partition's leader remembers (KIP-664; Kafka 3.0).
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn describe_producers(
        &self,
        partition: &TopicPartition,
    ) -> Result<Vec<ProducerState>, RequestError> {
        let topic = TopicRequest {
            name: Text::from(&*partition.topic),
            partition_indexes: vec![partition.partition],
        };
        let request = DescribeProducersRequest { topics: vec![topic] };
        self.ask_leader(partition, &request, |response| {
            let answer = response.topics.first()?.partitions.first()?;
            Some((answer.error_code, answer.error_message.clone(), answer.active_producers.clone()))
        })
        .await
    }

    /// Asks a partition's leader, again as long as that may help.
    async fn ask_leader<M: RequestMessage, T>(
        &self,
        partition: &TopicPartition,
        request: &M,
        result: impl Fn(&M::Response) -> Option<(ErrorCode, Option<Text>, T)>,
    ) -> Result<T, RequestError> {
        let mut retry = self.retry();
        loop {
            let attempt = async {
                let leader = self.leader(partition).await?;
                let connection = self.connection(leader.broker, Lane::Control).await?;
                let response = connection.call(version(&connection, M::KEY)?, request).await?;
                let answer = result(&response);
                let answer = answer.ok_or_else(|| missing(&connection, M::KEY, &partition.to_string()))?;
                self.heed(partition, answer.0, None);
                RequestError::check(M::KEY, answer.0, answer.1.as_ref())?;
                Ok(answer.2)
            };
            match attempt.await {
                Err(error) if retry.again(&error).await => {}
                done => return done,
            }
        }
    }

    /// A producer id that nobody else has, with epoch 0. To ask twice wastes one.
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn init_producer_id(&self) -> Result<ProducerIdentity, RequestError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        };
        let mut retry = self.retry();
        loop {
            let attempt = async {
                let connection = self.controller().await?;
                let response =
                    connection.call(version(&connection, ApiKey::InitProducerId)?, &request).await?;
                RequestError::check(ApiKey::InitProducerId, response.error_code, None)?;
                let (id, epoch) = (ProducerId(response.producer_id), ProducerEpoch(response.producer_epoch));
                Ok(ProducerIdentity { id, epoch })
            };
            match attempt.await {
                Err(error) if retry.again(&error).await => {}
                done => return done,
            }
        }
    }
}

/// The highest version of an API that both sides speak.
pub(crate) fn version(connection: &Connection, key: ApiKey) -> Result<i16, CallError> {
    let (first, last) = key.api().served;
    connection.version(key, first, last)
}

pub(crate) fn missing(connection: &Connection, api: ApiKey, what: &str) -> CallError {
    CallError::Malformed {
        api,
        broker: Arc::clone(connection.broker()),
        fault: Nonsense::Missing(what.to_owned()),
    }
}
