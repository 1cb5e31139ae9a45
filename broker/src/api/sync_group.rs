//! SyncGroup: the leader's assignment in, each member's part out.
//!
//! Owns: the bounds checked before anything is copied.
//! Does not own: who gets what (the leading client says), the wait (`groups::coordinator`), the memory of all
//! groups (`groups::memory`).

use std::sync::Arc;

use bytes::Bytes;
use wire::ErrorCode;
use wire::api::sync_group::{SyncGroupRequest, SyncGroupResponse};
use wire::codec::Text;

use super::Context;
use crate::broker::Broker;
use crate::groups::Token;
use crate::groups::group::{Caller, Sync, SyncAnswer};
use crate::groups::memory::Share;
use crate::limits::MAX_ASSIGNMENT_BYTES;

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let group = String::from(&request.group_id);
    let share = match admit(broker, &request) {
        Ok(share) => share,
        Err(error) => return respond(SyncAnswer::refused(error)),
    };
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
            .map(|part| (String::from(&part.member_id), Bytes::copy_from_slice(&part.assignment)))
            .collect(),
    };
    drop(request);
    respond(broker.groups.sync(&group, sync, share).await)
}

/// Refuses what is too large before anything of it is copied.
fn admit(broker: &Broker, request: &SyncGroupRequest) -> Result<Share, ErrorCode> {
    let bytes = assigned_bytes(request)?;
    // Of the codes that lead back to a SyncGroup, clients wait a little only after this one; after
    // REBALANCE_IN_PROGRESS they join again at once, and COORDINATOR_LOAD_IN_PROGRESS is fatal to them here.
    broker.groups.share_memory(bytes).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
}

/// UNKNOWN_SERVER_ERROR is Kafka's own answer to assignments that its log finds too large for a group's record.
fn assigned_bytes(request: &SyncGroupRequest) -> Result<usize, ErrorCode> {
    if request.assignments.iter().any(|part| part.assignment.len() > MAX_ASSIGNMENT_BYTES) {
        return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
    }
    Ok(request.assignments.iter().map(|part| part.member_id.len() + part.assignment.len()).sum())
}

fn respond(answer: SyncAnswer) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code: answer.error,
        protocol_type: answer.protocol_type.map(Text::from),
        protocol_name: answer.protocol.map(Text::from),
        assignment: answer.assignment,
        ..SyncGroupResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use wire::api::sync_group::SyncGroupRequestAssignment;

    use super::*;

    fn assigning(bytes: usize) -> SyncGroupRequest {
        let part = SyncGroupRequestAssignment {
            member_id: Text::from("m"),
            assignment: Bytes::from(vec![0; bytes]),
        };
        SyncGroupRequest { assignments: vec![part], ..SyncGroupRequest::default() }
    }

    #[test]
    fn a_member_is_assigned_so_much_and_no_more() {
        assert_eq!(assigned_bytes(&assigning(MAX_ASSIGNMENT_BYTES)), Ok(MAX_ASSIGNMENT_BYTES + 1));
        let beyond = assigning(MAX_ASSIGNMENT_BYTES + 1);
        assert_eq!(assigned_bytes(&beyond), Err(ErrorCode::UNKNOWN_SERVER_ERROR));
    }
}
