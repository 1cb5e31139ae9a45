//! DescribeGroups: a group's state and members.
//!
//! Behaviour: a group that is not there is described as dead; from version 6 on it is an error (KIP-1043).

use std::sync::Arc;

use bytes::Bytes;
use wire::ErrorCode;
use wire::api::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use wire::codec::Text;

use super::{Context, message};
use crate::broker::Broker;
use crate::groups::coordinator::GroupView;
use crate::groups::group::Phase;

/// First version in which a missing group is an error.
const NOT_FOUND_SINCE: i16 = 6;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|group_id| {
        match broker.groups.describe(&group_id) {
            Ok(Some(view)) => described(group_id, view),
            Ok(None) => missing(context.version(), group_id),
            // Without its topic there are no groups yet.
            Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) => missing(context.version(), group_id),
            Err(error_code) => DescribedGroup { error_code, group_id, ..DescribedGroup::default() },
        }
    });
    DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() }
}

fn missing(version: i16, group_id: Text) -> DescribedGroup {
    let mut group =
        DescribedGroup { group_state: Text::from(Phase::Dead.name()), ..DescribedGroup::default() };
    if version >= NOT_FOUND_SINCE {
        group.error_code = ErrorCode::GROUP_ID_NOT_FOUND;
        group.error_message = message(&format!("there is no group '{group_id}'"));
    }
    DescribedGroup { group_id, ..group }
}

fn described(group_id: Text, view: GroupView) -> DescribedGroup {
    let settled = view.phase == Phase::Stable;
    let members = view.record.members.into_iter().map(|member| DescribedGroupMember {
        member_id: Text::from(member.member_id),
        group_instance_id: member.group_instance_id.map(Text::from),
        client_id: Text::from(member.client_id),
        client_host: Text::from(member.client_host),
        // Between generations neither is settled, and Kafka shows neither.
        member_metadata: if settled { Bytes::from(member.subscription) } else { Bytes::new() },
        member_assignment: if settled { Bytes::from(member.assignment) } else { Bytes::new() },
    });
    DescribedGroup {
        group_id,
        group_state: Text::from(view.phase.name()),
        protocol_type: Text::from(view.protocol_type),
        protocol_data: if settled { Text::from(view.protocol) } else { Text::EMPTY },
        members: members.collect(),
        ..DescribedGroup::default()
    }
}
