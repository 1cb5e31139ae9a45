//! Until when this process owns a flow.
//!
//! Owns: membership in the flow's group, starting and draining sessions as the group decides, connecting again.
//! Does not own: who is chosen (`ownership`), what an owner does (`session`).

use std::time::Duration;

use bytes::Bytes;
use client::Cluster;
use client::member::{Candidate, Ended, Member, MemberOptions};
use tokio_util::sync::CancellationToken;
use wire::Text;

use super::board::{Board, FlowState};
use super::session::{self, Session};
use super::{FlowError, connect};
use crate::Options;
use crate::ownership::{CHOSEN, NOT_CHOSEN, PROTOCOL, PROTOCOL_TYPE, Role, choose};
use crate::spec::FlowSpec;

/// The least that Kafka grants by default: so long does a flow stand still when its owner dies.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(30);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
const CONNECT_AGAIN_IN: Duration = Duration::from_secs(1);
/// How long the flow stands at a refusal that only an operator mends, so that it is seen and claims do not pile up.
const REFUSED_AGAIN_IN: Duration = Duration::from_secs(30);

/// A member of the flow's group on its target.
pub(crate) fn member(target: &Cluster, spec: &FlowSpec, role: Role) -> Member {
    Member::new(
        target,
        MemberOptions {
            group_id: spec.owner_group(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: protocols(role),
            session_timeout: SESSION_TIMEOUT,
            rebalance_timeout: REBALANCE_TIMEOUT,
            heartbeat_interval: HEARTBEAT_EVERY,
            instance_id: None,
        },
    )
}

fn protocols(role: Role) -> Vec<(String, Bytes)> {
    vec![(PROTOCOL.to_owned(), role.metadata())]
}

/// What the leader of the group hands out.
pub(crate) fn assign(_protocol: &str, members: &[Candidate]) -> Vec<(Text, Bytes)> {
    let roles = members.iter().map(|member| (&*member.member_id, Role::read(&member.metadata)));
    let chosen = choose(roles).map(ToOwned::to_owned);
    let data = |member: &Candidate| match chosen.as_deref() == Some(&*member.member_id) {
        true => Bytes::from_static(CHOSEN),
        false => Bytes::from_static(NOT_CHOSEN),
    };
    members.iter().map(|member| (member.member_id.clone(), data(member))).collect()
}

/// Runs a flow until `stop`; one that turns out to be promoted does nothing any more.
pub(crate) async fn run_flow(spec: FlowSpec, options: Options, board: Board, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let worked = tokio::select! {
            worked = work(&spec, &options, &board, &stop) => worked,
            () = stop_and_wait(&stop) => Ok(()),
        };
        match worked {
            Ok(()) => {}
            Err(FlowError::Promoted { at_ms, .. }) => {
                tracing::warn!(flow = spec.name, at_ms, "the flow was promoted and stays stopped");
                board.change(&spec.name, |flow| flow.state = FlowState::Promoted { at_ms });
                // Whoever asks how the flow is gets to know it.
                stop.cancelled().await;
                return;
            }
            Err(error) => {
                tracing::warn!(flow = spec.name, %error, "the flow starts again");
                board.change(&spec.name, |flow| {
                    (flow.state, flow.last_error) = (FlowState::Connecting, Some(error.to_string()));
                });
                let again_in = match error {
                    FlowError::MapRefused(_) => REFUSED_AGAIN_IN,
                    _ => CONNECT_AGAIN_IN,
                };
                tokio::select! {
                    () = tokio::time::sleep(again_in) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
    board.change(&spec.name, |flow| flow.state = FlowState::Stopped);
}

/// A stop that nothing heeds within the longest drain ends the flow all the same: its target or source hangs.
async fn stop_and_wait(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(session::DRAIN_WITHIN + Duration::from_secs(2)).await;
}

async fn work(
    spec: &FlowSpec,
    options: &Options,
    board: &Board,
    stop: &CancellationToken,
) -> Result<(), FlowError> {
    let target = connect(&spec.to).await?;
    let mut member = member(&target, spec, Role::Waiting);
    let worked = gather(spec, options, board, stop, (&target, &mut member)).await;
    if let Err(error) = member.leave().await {
        tracing::debug!(flow = spec.name, %error, "the group notices later that this member left");
    }
    worked
}

/// Joins, works as the group decides, and joins again.
async fn gather(
    spec: &FlowSpec,
    options: &Options,
    board: &Board,
    stop: &CancellationToken,
    (target, member): (&Cluster, &mut Member),
) -> Result<(), FlowError> {
    let mut role = Role::Waiting;
    while !stop.is_cancelled() {
        member.set_protocols(protocols(role));
        let assignment = tokio::select! {
            assignment = member.join(&assign) => assignment?,
            () = stop.cancelled() => return Ok(()),
        };
        if *assignment.data != *CHOSEN {
            role = Role::Waiting;
            board.change(&spec.name, |flow| flow.state = FlowState::Waiting);
            tokio::select! {
                ended = member.hold() => if let Ended::Lost(error) = ended { return Err(error.into()) },
                () = stop.cancelled() => return Ok(()),
            }
            continue;
        }
        role = Role::Owning;
        let drain = stop.child_token();
        // The source of a promoted flow is often gone, and says nothing of it.
        session::refuse_promoted(target, spec).await?;
        let source = connect(&spec.from).await?;
        let session = Session { spec, options, board, source: &source, target };
        let mut running = std::pin::pin!(session.run(drain.clone()));
        let held = tokio::select! {
            ended = member.hold() => Some(ended),
            finished = &mut running => { finished?; None }
        };
        if let Some(ended) = held {
            drain.cancel();
            running.await?;
            if let Ended::Lost(error) = ended {
                return Err(error.into());
            }
        }
    }
    Ok(())
}
