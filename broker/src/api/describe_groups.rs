//! DescribeGroups: a group's state and members.
//!
//! Behaviour: a group that is not there is described as dead; from version 6 on it is an error (KIP-1043).
//! Owns: what is shown of a group that is between generations.
//! Does not own: groups and members (`groups::coordinator`).

use std::sync::Arc;

use bytes::Bytes;
use wire::ErrorCode;
use wire::api::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use wire::codec::Text;

use super::{Context, message};
use crate::broker::Broker;
use crate::groups::coordinator::GroupDescription;
use crate::groups::group::Phase;
use crate::limits::MAX_DESCRIBED_BYTES;

/// First version in which a missing group is an error.
const NOT_FOUND_SINCE: i16 = 6;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let groups = in_bounds(request.groups, |group_id| match broker.groups.describe(&group_id) {
        Ok(Some(group)) => described(group_id, group),
        Ok(None) => missing(context.version(), group_id),
        // Without its topic there are no groups yet.
        Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) => missing(context.version(), group_id),
        Err(error_code) => refused(error_code, group_id),
    });
    DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
}

/// Describes groups until the answer is large, and leaves the rest for another request: a few bytes may name one large
/// group many times. Java's admin client asks again by itself for the groups with this code, and for these alone.
fn in_bounds(asked: Vec<Text>, describe: impl Fn(Text) -> DescribedGroup) -> Vec<DescribedGroup> {
    let mut bytes = 0;
    let within = |group_id| {
        if bytes >= MAX_DESCRIBED_BYTES {
            return refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, group_id);
        }
        let group = describe(group_id);
        bytes += group.members.iter().map(member_bytes).sum::<usize>();
        group
    };
    asked.into_iter().map(within).collect()
}

fn member_bytes(member: &DescribedGroupMember) -> usize {
    let names = member.member_id.len() + member.client_id.len() + member.client_host.len();
    let instance = member.group_instance_id.as_ref().map_or(0, |instance| instance.len());
    names + instance + member.member_metadata.len() + member.member_assignment.len()
}

fn refused(error_code: ErrorCode, group_id: Text) -> DescribedGroup {
    DescribedGroup { error_code, group_id, ..DescribedGroup::default() }
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

fn described(group_id: Text, group: GroupDescription) -> DescribedGroup {
    let settled = group.phase == Phase::Stable;
    let record = group.record;
    let members = record.members.into_iter().map(|member| DescribedGroupMember {
        member_id: Text::from(member.member_id),
        group_instance_id: member.group_instance_id.map(Text::from),
        client_id: Text::from(member.client_id),
        client_host: Text::from(member.client_host),
        // Between generations neither is settled, and Kafka shows neither.
        member_metadata: if settled { member.subscription } else { Bytes::new() },
        member_assignment: if settled { member.assignment } else { Bytes::new() },
    });
    DescribedGroup {
        group_id,
        group_state: Text::from(group.phase.name()),
        protocol_type: Text::from(record.protocol_type),
        protocol_data: record.protocol.filter(|_| settled).map_or(Text::EMPTY, Text::from),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_at_its_bound_and_the_rest_is_for_another_request() {
        let half = DescribedGroupMember {
            member_metadata: Bytes::from(vec![0; MAX_DESCRIBED_BYTES / 2]),
            ..DescribedGroupMember::default()
        };
        let asked = vec![Text::from("g"); 4];
        let described = in_bounds(asked, |group_id| DescribedGroup {
            group_id,
            members: vec![half.clone()],
            ..DescribedGroup::default()
        });
        let codes: Vec<ErrorCode> = described.iter().map(|group| group.error_code).collect();
        let again = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
        assert_eq!(codes, [ErrorCode::NONE, ErrorCode::NONE, again, again]);
        assert!(described.iter().all(|group| &*group.group_id == "g"));
    }
}
