//! DeleteGroups: groups without members go, with their offsets.
//!
//! Owns: one code for each group. Does not own: which group may go, nor its tombstones (`groups::coordinator`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};

use super::Context;
use crate::broker::Broker;

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut response = DeleteGroupsResponse::default();
    for group_id in request.groups_names {
        let error_code = match broker.groups.delete(&group_id).await {
            Ok(()) => ErrorCode::NONE,
            // Without its topic there are no groups yet.
            Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) => ErrorCode::GROUP_ID_NOT_FOUND,
            Err(code) => code,
        };
        response.results.push(DeletableGroupResult { group_id, error_code });
    }
    response
}
