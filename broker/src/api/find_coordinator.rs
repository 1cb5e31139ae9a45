//! FindCoordinator: where a group is coordinated; with one broker, here.
//!
//! Behaviour: the first question makes `__consumer_offsets`. Transactions (key type 1) and share groups (2) are not
//! served.
//! Owns: which kinds of keys have a coordinator.
//! Does not own: the groups (`groups`), making their topic (`broker`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use wire::codec::Text;

use super::Context;
use crate::broker::{BROKER_ID, Broker};

/// First version that asks for several keys.
const BATCH_SINCE: i16 = 4;
/// The key type of groups.
const GROUP: i8 = 0;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let verdict = if request.key_type == GROUP {
        broker.ensure_offsets_topic().await.map_err(|error| {
            tracing::error!(%error, "__consumer_offsets cannot be made");
            (ErrorCode::COORDINATOR_NOT_AVAILABLE, "the topic of group offsets cannot be made")
        })
    } else {
        Err((ErrorCode::INVALID_REQUEST, "only groups have a coordinator here: transactions are not served"))
    };
    if context.version() < BATCH_SINCE {
        let one = coordinator(broker, request.key, verdict);
        return FindCoordinatorResponse {
            error_code: one.error_code,
            error_message: one.error_message,
            node_id: one.node_id,
            host: one.host,
            port: one.port,
            ..FindCoordinatorResponse::default()
        };
    }
    let coordinators =
        request.coordinator_keys.into_iter().map(|key| coordinator(broker, key, verdict)).collect();
    FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() }
}

fn coordinator(broker: &Broker, key: Text, verdict: Result<(), (ErrorCode, &str)>) -> Coordinator {
    match verdict {
        Ok(()) => Coordinator {
            key,
            node_id: BROKER_ID,
            host: Text::from(&*broker.advertised.host),
            port: broker.port(),
            error_message: None,
            ..Coordinator::default()
        },
        Err((error_code, reason)) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code,
            error_message: Some(Text::from(reason)),
            ..Coordinator::default()
        },
    }
}
