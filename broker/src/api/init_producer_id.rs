//! InitProducerId: ids for idempotent producers.
//!
//! Behaviour: ids come from blocks that are durable before the first of them is given out, so none is given twice.
//! A producer that names its id and epoch (version 3, KIP-360) gets the next epoch. Transactional ids are refused:
//! this broker serves no transactions, and says so by advertising none of their APIs.
//! Owns: who gets a new id, the next epoch or a refusal.
//! Does not own: the blocks of ids (`broker`), fencing by epoch (`hotlog::producers`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::Context;
use crate::broker::Broker;

/// Kafka's largest `transaction.timeout.ms`.
const MAX_TRANSACTION_TIMEOUT_MS: i32 = 900_000;

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused =
        |error_code| InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() };
    if let Some(transactional_id) = &request.transactional_id {
        let timeout_is_valid = (1..=MAX_TRANSACTION_TIMEOUT_MS).contains(&request.transaction_timeout_ms);
        return refused(match (transactional_id.is_empty(), timeout_is_valid) {
            (true, _) => ErrorCode::INVALID_REQUEST,
            (false, false) => ErrorCode::INVALID_TRANSACTION_TIMEOUT,
            (false, true) => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        });
    }
    let given = (request.producer_id, request.producer_epoch);
    if let (0.., 0..) = given
        && given.0 < broker.next_producer_id()
        && let Some(producer_epoch) = given.1.checked_add(1)
    {
        return InitProducerIdResponse { producer_id: given.0, producer_epoch, ..Default::default() };
    }
    match broker.new_producer_id().await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(error) => {
            tracing::error!(%error, "no producer id can be given out");
            refused(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        }
    }
}
