//! JoinGroup: into a group, and the wait for its next generation.
//!
//! Version notes: 1 rebalance timeout of its own; 4 a new member must come back with its id (KIP-394); 5 static
//! members (KIP-345); 7 protocol type in the answer; 9 a static leader may be told to skip the assignment (KIP-814).
//! Owns: the bounds checked before anything is copied, a new member's id, what each version understands.
//! Does not own: the rebalance (`groups::group`), the wait (`groups::coordinator`), the memory of all groups
//! (`groups::memory`).

use std::sync::Arc;

use bytes::Bytes;
use wire::ErrorCode;
use wire::api::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use wire::codec::Text;

use super::Context;
use crate::broker::Broker;
use crate::groups::Token;
use crate::groups::group::{Join, JoinAnswer};
use crate::groups::member::Protocol;
use crate::groups::memory::Share;
use crate::limits::{MAX_MEMBER_METADATA_BYTES, MAX_PROTOCOLS_PER_MEMBER};

const KNOWN_MEMBER_SINCE: i16 = 4;
const NULLABLE_PROTOCOL_SINCE: i16 = 7;
const SKIP_SINCE: i16 = 9;
/// What a member's id adds to the name it begins with, and the peer's address, generously.
const IDENTITY_BYTES: usize = 256;

pub(super) async fn run(
    broker: &Arc<Broker>,
    context: &Context,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let group = String::from(&request.group_id);
    let share = match admit(broker, context, &request) {
        Ok(share) => share,
        Err(error) => return respond(context.version(), JoinAnswer::refused(error, &request.member_id)),
    };
    let join = join(context, &request);
    drop(request);
    let answer = broker.groups.join(&group, join, share).await;
    respond(context.version(), answer)
}

/// Refuses what is too large before anything of it is copied.
fn admit(broker: &Broker, context: &Context, request: &JoinGroupRequest) -> Result<Share, ErrorCode> {
    let offered_bytes = offered_bytes(request)?;
    let instance_bytes = request.group_instance_id.as_ref().map_or(0, |instance| instance.len());
    // The id begins with one of the two names, so each counts twice.
    let identity_bytes = IDENTITY_BYTES + 2 * (context.client_id().len() + instance_bytes);
    // Kafka's code for a group that may not grow: clients give up on it with a message that says so.
    broker.groups.share_memory(offered_bytes + identity_bytes).ok_or(ErrorCode::GROUP_MAX_SIZE_REACHED)
}

/// Kafka would refuse such a member only when it writes the group's record, which fails the whole group. The request is
/// at fault here, not its agreement with other members, so INVALID_REQUEST: clients report it and do not try again.
fn offered_bytes(request: &JoinGroupRequest) -> Result<usize, ErrorCode> {
    let bytes: usize = request.protocols.iter().map(|offer| offer.name.len() + offer.metadata.len()).sum();
    if request.protocols.len() > MAX_PROTOCOLS_PER_MEMBER || bytes > MAX_MEMBER_METADATA_BYTES {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok(bytes)
}

fn join(context: &Context, request: &JoinGroupRequest) -> Join {
    let session_timeout_ms = i64::from(request.session_timeout_ms);
    let named = request.group_instance_id.as_deref().unwrap_or_else(|| context.client_id());
    let unique = crate::broker::random_uuid();
    Join {
        token: Token(0),
        member_id: String::from(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(String::from),
        client_id: context.client_id().to_owned(),
        client_host: context.peer.host.clone(),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => session_timeout_ms,
            timeout_ms => i64::from(timeout_ms.max(0)),
        },
        session_timeout_ms,
        protocol_type: String::from(&request.protocol_type),
        protocols: request
            .protocols
            .iter()
            .map(|offer| Protocol {
                name: String::from(&offer.name),
                metadata: Bytes::copy_from_slice(&offer.metadata),
            })
            .collect(),
        require_known_member_id: context.version() >= KNOWN_MEMBER_SINCE,
        understands_skip: context.version() >= SKIP_SINCE,
        fresh_member_id: format!("{named}-{unique}"),
    }
}

fn respond(version: i16, answer: JoinAnswer) -> JoinGroupResponse {
    let nullable = version >= NULLABLE_PROTOCOL_SINCE;
    let members = answer.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: Text::from(member.member_id),
        group_instance_id: member.instance_id.map(Text::from),
        metadata: member.metadata,
    });
    JoinGroupResponse {
        error_code: answer.error,
        generation_id: answer.generation,
        protocol_type: answer.protocol_type.map(Text::from),
        protocol_name: match answer.protocol {
            None if !nullable => Some(Text::EMPTY),
            protocol => protocol.map(Text::from),
        },
        leader: Text::from(answer.leader),
        skip_assignment: answer.skip_assignment,
        member_id: Text::from(answer.member_id),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use wire::api::join_group::JoinGroupRequestProtocol;

    use super::*;

    fn offering(sizes: &[usize]) -> JoinGroupRequest {
        let offer = |bytes: &usize| JoinGroupRequestProtocol {
            name: Text::from("range"),
            metadata: Bytes::from(vec![0; *bytes]),
        };
        JoinGroupRequest { protocols: sizes.iter().map(offer).collect(), ..JoinGroupRequest::default() }
    }

    #[test]
    fn a_member_offers_so_much_and_no_more() {
        let most = MAX_MEMBER_METADATA_BYTES - 2 * "range".len();
        assert_eq!(offered_bytes(&offering(&[most, 0])), Ok(MAX_MEMBER_METADATA_BYTES));
        assert_eq!(offered_bytes(&offering(&[most, 1])), Err(ErrorCode::INVALID_REQUEST));
        let many = [0_usize; MAX_PROTOCOLS_PER_MEMBER + 1];
        assert!(offered_bytes(&offering(&many[1..])).is_ok());
        assert_eq!(offered_bytes(&offering(&many)), Err(ErrorCode::INVALID_REQUEST));
    }
}
