//! DescribeConfigs: every setting of a topic with its source, and a few of the broker.
//!
//! Behaviour: topics (2) and this broker (4); other resources are refused. Secrets are never among the settings.
//! Owns: the source of each value, the list of the broker's own settings.
//! Does not own: a topic's settings and their defaults (`topic_config`), changing them
//! (`incremental_alter_configs`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use wire::codec::Text;

use super::{Context, message};
use crate::broker::{BROKER_ID, Broker, DEFAULT_PARTITIONS};
use crate::topic_config::{Overrides, SETTINGS, Setting, value_of};

/// Resource types of the protocol.
pub(super) const TOPIC: i8 = 2;
/// This broker, or all of them (the empty name).
pub(super) const BROKER: i8 = 4;
/// Sources of a value.
const FROM_TOPIC: i8 = 1;
const FROM_COMMAND_LINE: i8 = 4;
const FROM_DEFAULT: i8 = 5;
/// Type codes of the broker's settings.
const STRING: i8 = 2;
const INT: i8 = 3;

/// Where the value of a topic's setting comes from.
pub(super) fn source_of(overrides: &Overrides, name: &str) -> i8 {
    if overrides.contains_key(name) { FROM_TOPIC } else { FROM_DEFAULT }
}

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| describe(broker, resource, &request));
    DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() }
}

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResult {
    let found = match resource.resource_type {
        TOPIC => topic_configs(broker, resource, request),
        BROKER => broker_configs(broker, resource),
        _ => Err((ErrorCode::INVALID_REQUEST, "only topics and brokers have settings here".to_owned())),
    };
    let mut result = DescribeConfigsResult {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        error_message: None,
        ..DescribeConfigsResult::default()
    };
    match found {
        Ok(mut configs) => {
            if let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
                configs.retain(|config| keys.contains(&config.name));
            }
            result.configs = configs;
        }
        Err((code, reason)) => {
            result.error_code = code;
            result.error_message = message(&reason);
        }
    }
    result
}

type Found = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn topic_configs(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Found {
    let topics = broker.topics();
    let name = &*resource.resource_name;
    let topic = topics
        .named(name)
        .ok_or_else(|| (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("there is no topic '{name}'")))?;
    Ok(SETTINGS.iter().map(|setting| topic_config(&topic.overrides, setting, request)).collect())
}

fn topic_config(
    overrides: &Overrides,
    setting: &Setting,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResourceResult {
    let mut result = DescribeConfigsResourceResult {
        name: Text::from(setting.name),
        value: Some(Text::from(value_of(overrides, setting.name))),
        config_source: source_of(overrides, setting.name),
        config_type: setting.kind.code(),
        documentation: request.include_documentation.then(|| Text::from(setting.documentation)),
        ..DescribeConfigsResourceResult::default()
    };
    if request.include_synonyms {
        let synonym = |name: &str, value: &str, source| DescribeConfigsSynonym {
            name: Text::from(name),
            value: Some(Text::from(value)),
            source,
        };
        let set = overrides.get(setting.name).map(|value| synonym(setting.name, value, FROM_TOPIC));
        let default = setting.broker_synonym.map(|name| synonym(name, setting.default, FROM_DEFAULT));
        result.synonyms = set.into_iter().chain(default).collect();
    }
    result
}

fn broker_configs(broker: &Broker, resource: &DescribeConfigsResource) -> Found {
    let name = &*resource.resource_name;
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name.parse() != Ok(BROKER_ID) {
        return Err((
            ErrorCode::INVALID_REQUEST,
            format!("there is no broker '{name}': its id is {BROKER_ID}"),
        ));
    }
    let advertised = format!("PLAINTEXT://{}:{}", broker.advertised.host, broker.port());
    let settings = [
        ("advertised.listeners", advertised, STRING, FROM_COMMAND_LINE),
        ("auto.create.topics.enable", broker.auto_create.to_string(), 1, FROM_COMMAND_LINE),
        ("broker.id", BROKER_ID.to_string(), INT, FROM_DEFAULT),
        ("default.replication.factor", "1".to_owned(), INT, FROM_DEFAULT),
        ("num.partitions", DEFAULT_PARTITIONS.to_string(), INT, FROM_DEFAULT),
        ("remote.log.storage.system.enable", broker.tier.is_some().to_string(), 1, FROM_COMMAND_LINE),
    ];
    let described = settings.map(|(name, value, config_type, config_source)| DescribeConfigsResourceResult {
        name: Text::from(name),
        value: Some(Text::from(value)),
        read_only: true,
        config_source,
        config_type,
        documentation: None,
        ..DescribeConfigsResourceResult::default()
    });
    Ok(described.into())
}
