//! LeaveGroup: members go.
//!
//! Version notes: up to 2 one member and one error; from 3 on several, named by member id or static identity.
//! Owns: telling the two forms apart. Does not own: what follows for the group (`groups::group`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};

use super::Context;
use crate::broker::Broker;

/// First version with several members.
const MEMBERS_SINCE: i16 = 3;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let several = context.version() >= MEMBERS_SINCE;
    let members: Vec<(String, Option<String>)> = if several {
        let identity = request.members.iter();
        identity
            .map(|one| (String::from(&one.member_id), one.group_instance_id.as_ref().map(String::from)))
            .collect()
    } else {
        vec![(String::from(&request.member_id), None)]
    };
    let results = match broker.groups.leave(&request.group_id, &members) {
        Ok(results) => results,
        Err(error_code) => return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() },
    };
    let mut codes = results.into_iter().map(|result| result.err().unwrap_or(ErrorCode::NONE));
    if !several {
        let error_code = codes.next_back().unwrap_or(ErrorCode::NONE);
        return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
    }
    let members = request.members.into_iter().zip(codes).map(|(member, error_code)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code,
    });
    LeaveGroupResponse { members: members.collect(), ..LeaveGroupResponse::default() }
}
