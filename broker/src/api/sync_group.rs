//! SyncGroup: the leader's assignment in, each member's part out.

use std::sync::Arc;

use bytes::Bytes;
use wire::api::sync_group::{SyncGroupRequest, SyncGroupResponse};
use wire::codec::Text;

use super::Context;
use crate::broker::Broker;
use crate::groups::Token;
use crate::groups::group::{Caller, Sync};

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let group = String::from(&request.group_id);
    let sync = Sync {
        token: Token(0),
        caller: Caller {
            member_id: String::from(&request.member_id),
            instance_id: request.group_instance_id.as_ref().map(String::from),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.as_ref().map(String::from),
        protocol: request.protocol_name.as_ref().map(String::from),
        assignments: request
            .assignments
            .iter()
            .map(|part| (String::from(&part.member_id), part.assignment.to_vec()))
            .collect(),
    };
    drop(request);
    let answer = broker.groups.sync(&group, sync).await;
    SyncGroupResponse {
        error_code: answer.error,
        protocol_type: answer.protocol_type.map(Text::from),
        protocol_name: answer.protocol.map(Text::from),
        assignment: Bytes::from(answer.assignment),
        ..SyncGroupResponse::default()
    }
}
