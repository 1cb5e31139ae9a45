//! IncrementalAlterConfigs: sets, unsets, appends to and subtracts from settings of topics.
//!
//! Behaviour: the changes of one topic count all together or not at all. The broker's own settings are given on its
//! command line and cannot be changed here.
//! Owns: that only topics have settings to alter, each once per request.
//! Does not own: what an operation does (`metadata::changes`), which values are valid (`topic_config`).

use std::collections::HashSet;
use std::sync::Arc;

use wire::ErrorCode;
use wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::describe_configs::TOPIC;
use super::{Context, message};
use crate::broker::{Broker, ChangeError};
use crate::error_codes;
use crate::metadata::changes::{self, ConfigChange, ConfigOperation};

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in &request.resources {
        let mut result = AlterConfigsResourceResponse {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            error_message: None,
            ..AlterConfigsResourceResponse::default()
        };
        if let Err((code, reason)) = alter(broker, resource, request.validate_only).await {
            result.error_code = code;
            result.error_message = message(&reason);
        }
        response.responses.push(result);
    }
    response
}

async fn alter(
    broker: &Arc<Broker>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), (ErrorCode, String)> {
    if resource.resource_type != TOPIC {
        let reason = "only topics have settings that can be altered; a broker's are on its command line";
        return Err((ErrorCode::INVALID_REQUEST, reason.to_owned()));
    }
    let changes = changes_of(resource)?;
    let name = &*resource.resource_name;
    let result = if validate_only {
        changes::alter_configs(&*broker.metadata().await, name, &changes).map(drop).map_err(ChangeError::from)
    } else {
        broker.change(|image| changes::alter_configs(image, name, &changes)).await.map(drop)
    };
    result.map_err(|error| (error_codes::of_topic_change(&error), error.to_string()))
}

fn changes_of(resource: &AlterConfigsResource) -> Result<Vec<ConfigChange>, (ErrorCode, String)> {
    let mut named = HashSet::new();
    let mut changes = Vec::with_capacity(resource.configs.len());
    for config in &resource.configs {
        if !named.insert(&*config.name) {
            return Err((
                ErrorCode::INVALID_REQUEST,
                format!("{} is changed twice in one request", config.name),
            ));
        }
        let operation = ConfigOperation::from_code(config.config_operation)
            .ok_or_else(|| (ErrorCode::INVALID_REQUEST, format!("{}: no such operation", config.name)))?;
        let value = config.value.as_ref().map(String::from);
        changes.push(ConfigChange { name: String::from(&config.name), operation, value });
    }
    Ok(changes)
}
