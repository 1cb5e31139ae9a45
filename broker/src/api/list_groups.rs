//! ListGroups: all groups that pass the filters.
//!
//! Version notes: 4 filters by state; 5 by type, of which there is one, `classic`.

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
    let views = match broker.groups.list() {
        Ok(views) => views,
        Err(error_code) => return ListGroupsResponse { error_code, ..ListGroupsResponse::default() },
    };
    let passes = |filter: &[Text], word: &str| {
        filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(word))
    };
    let groups = views
        .into_iter()
        .filter(|view| {
            passes(&request.states_filter, view.phase.name()) && passes(&request.types_filter, TYPE)
        })
        .map(|view| ListedGroup {
            group_id: Text::from(view.id),
            protocol_type: Text::from(view.protocol_type),
            group_state: Text::from(view.phase.name()),
            group_type: Text::from(TYPE),
        });
    ListGroupsResponse { groups: groups.collect(), ..ListGroupsResponse::default() }
}
