//! ApiVersions: what is served.
//!
//! Behaviour: a version that is not served is answered in version 0 with the ranges (KIP-511). No features are
//! finalized, so that clients use neither transactions of version 2 nor newer group protocols.
//! Owns: the rule for clients' names.
//! Does not own: the ranges, nor the answer to a version that is not served (`wire::header`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use wire::header::advertised_versions;

use super::Context;
use crate::broker::Broker;

/// First version whose requests say which client asks.
const SOFTWARE_SINCE: i16 = 3;

pub(super) async fn run(
    _broker: &Arc<Broker>,
    context: &Context,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let named = is_name(&request.client_software_name) && is_name(&request.client_software_version);
    if context.version() >= SOFTWARE_SINCE && !named {
        return ApiVersionsResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            ..ApiVersionsResponse::default()
        };
    }
    ApiVersionsResponse { api_keys: advertised_versions(), ..ApiVersionsResponse::default() }
}

/// Kafka's rule for the names of clients: letters, digits, dots and dashes, neither first nor last.
fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let ends = [name.bytes().next(), name.bytes().last()];
    name.bytes().all(is_inner)
        && ends.iter().all(|byte| byte.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}
