//! InitProducerId: ids for idempotent producers.
//!
//! Behaviour: ids come from blocks that are durable before the first of them is given out, so none is given twice.
//! Without a transactional id everybody gets a new one with epoch 0, also who names an id and epoch of its own (version 3,
//! KIP-360): to take the next epoch of an id is for transactions only, where a coordinator knows whose the id is.
//! Transactional ids are refused: this broker serves no transactions, and says so by advertising none of their APIs.
//! Owns: who gets a new id or a refusal.
//! Does not own: the blocks of ids (`broker`), fencing by epoch (`hotlog::producers`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use wire::ids::{ProducerEpoch, ProducerId};

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
    // Half a name of a producer names none.
    if (request.producer_id == ProducerId::NONE.0) != (request.producer_epoch == ProducerEpoch::NONE.0) {
        return refused(ErrorCode::INVALID_REQUEST);
    }
    if let Some(transactional_id) = &request.transactional_id {
        let timeout_is_valid = (1..=MAX_TRANSACTION_TIMEOUT_MS).contains(&request.transaction_timeout_ms);
        return refused(match (transactional_id.is_empty(), timeout_is_valid) {
            (true, _) => ErrorCode::INVALID_REQUEST,
            (false, false) => ErrorCode::INVALID_TRANSACTION_TIMEOUT,
            (false, true) => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        });
    }
    match broker.new_producer_id().await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(error) => {
            tracing::error!(%error, "no producer id can be given out");
            refused(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        }
    }
}
