//! Until when this process owns a flow.
//!
//! Owns: membership in the flow's group, starting and draining sessions as the group decides, connecting again.
//! Does not own: who is chosen (`ownership`), what an owner does (`session`).

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use client::Cluster;
use client::member::{Candidate, Ended, Member, MemberOptions};
use tokio_util::sync::CancellationToken;
use wire::Text;

use super::board::{Board, FlowState};
use super::session::{self, Session};
use super::watch::SILENT_AFTER;
use super::{FlowError, connect};
use crate::Options;
use crate::clock::Clock;
use crate::events::Side;
use crate::ownership::{CHOSEN, NOT_CHOSEN, PROTOCOL, PROTOCOL_TYPE, Role, choose};
use crate::spec::FlowSpec;

/// The least that Kafka grants by default: so long does a flow stand still when its owner dies.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(30);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
const CONNECT_AGAIN_IN: Duration = Duration::from_secs(1);
/// How long the group may take to be told that this member leaves; it notices by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
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
                board.change(&spec.name, |flow| flow.rest(FlowState::Promoted { at_ms }));
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
    board.change(&spec.name, |flow| flow.rest(FlowState::Stopped));
}

/// A stop that nothing heeds within the longest drain ends the flow all the same: its target or source hangs.
async fn stop_and_wait(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(session::DRAIN_WITHIN + Duration::from_secs(2)).await;
}

/// Connects to a cluster of the flow. One that takes its time shows as silent meanwhile, and so does one that is not
/// reached.
async fn reach(spec: &FlowSpec, side: Side, board: &Board) -> Result<Cluster, FlowError> {
    let cluster = match side {
        Side::Source => &spec.from,
        Side::Target => &spec.to,
    };
    let asked_at_ms = Clock::system().now_ms();
    let note_silence = || {
        board.change(&spec.name, |flow| {
            flow.silent_since_ms(side).get_or_insert(asked_at_ms);
        });
    };
    let mut connecting = pin!(connect(cluster));
    let connected = match tokio::time::timeout(SILENT_AFTER, &mut connecting).await {
        Ok(connected) => connected,
        Err(_) => {
            note_silence();
            connecting.await
        }
    };
    match &connected {
        Ok(_) => board.change(&spec.name, |flow| *flow.silent_since_ms(side) = None),
        Err(FlowError::Request(_)) => note_silence(),
        Err(_) => {}
    }
    connected
}

async fn work(
    spec: &FlowSpec,
    options: &Options,
    board: &Board,
    stop: &CancellationToken,
) -> Result<(), FlowError> {
    let reached = stop.run_until_cancelled(reach(spec, Side::Target, board)).await;
    let Some(target) = reached.transpose()? else { return Ok(()) };
    let mut member = member(&target, spec, Role::Waiting);
    let worked = gather(spec, options, board, stop, (&target, &mut member)).await;
    match tokio::time::timeout(LEAVE_WITHIN, member.leave()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(flow = spec.name, %error, "the group notices later that this member left");
        }
        Err(_) => tracing::debug!(flow = spec.name, "the group does not answer to the leave"),
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
            board.change(&spec.name, |flow| flow.rest(FlowState::Waiting));
            tokio::select! {
                ended = member.hold() => if let Ended::Lost(error) = ended { return Err(error.into()) },
                () = stop.cancelled() => return Ok(()),
            }
            continue;
        }
        role = Role::Owning;
        let drain = stop.child_token();
        let mut running = pin!(own(spec, options, board, (target, drain.clone())));
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

/// Owns the flow until `drain`: from the question whether it may to the end of its session.
async fn own(
    spec: &FlowSpec,
    options: &Options,
    board: &Board,
    (target, drain): (&Cluster, CancellationToken),
) -> Result<(), FlowError> {
    board.change(&spec.name, |flow| flow.state = FlowState::Connecting);
    let reaching = async {
        // The source of a promoted flow is often gone, and says nothing of it.
        session::refuse_promoted(target, spec).await?;
        reach(spec, Side::Source, board).await
    };
    let Some(source) = drain.run_until_cancelled(reaching).await.transpose()? else { return Ok(()) };
    Session { spec, options, board, source: &source, target }.run(drain).await
}
