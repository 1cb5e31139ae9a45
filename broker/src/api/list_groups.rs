//! ListGroups: all groups that pass the filters.
//!
//! Version notes: 4 filters by state; 5 by type, of which there is one, `classic`.
//! Owns: the filters. Does not own: the groups (`groups::coordinator`).

use std::sync::Arc;

use wire::api::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use wire::codec::Text;

use super::Context;
use crate::broker::Broker;

const TYPE: &str = "classic";

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let listed = match broker.groups.list() {
        Ok(listed) => listed,
        Err(error_code) => return ListGroupsResponse { error_code, ..ListGroupsResponse::default() },
    };
    let passes = |filter: &[Text], word: &str| {
        filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(word))
    };
    let groups = listed
        .into_iter()
        .filter(|group| {
            passes(&request.states_filter, group.phase.name()) && passes(&request.types_filter, TYPE)
        })
        .map(|group| ListedGroup {
            group_id: Text::from(group.id),
            protocol_type: Text::from(group.protocol_type),
            group_state: Text::from(group.phase.name()),
            group_type: Text::from(TYPE),
        });
    ListGroupsResponse { groups: groups.collect(), ..ListGroupsResponse::default() }
}
