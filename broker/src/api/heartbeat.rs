//! Heartbeat: a member's sign of life, and how it learns of a rebalance.
//!
//! Owns: nothing but the translation. Does not own: deadlines and what a sign of life does to them (`groups`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::Context;
use crate::broker::Broker;
use crate::groups::group::Caller;

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let caller = Caller {
        member_id: String::from(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(String::from),
        generation: request.generation_id,
    };
    let error_code = broker.groups.heartbeat(&request.group_id, &caller).err().unwrap_or(ErrorCode::NONE);
    HeartbeatResponse { error_code, ..HeartbeatResponse::default() }
}
