//! A member of a classic group: joins, holds its place by heartbeats, leaves. Any protocol type, any user data.
//!
//! The caller drives it: [`Member::join`] gives an assignment, [`Member::hold`] keeps it until the group moves on or
//! the place is lost, then joins again. Between the two the caller stops what it did under the assignment.
//!
//! Owns: the order of JoinGroup, SyncGroup and Heartbeat, and when a place counts as lost.
//! Does not own: who gets what; the caller decides that when it leads.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use wire::api::heartbeat::HeartbeatRequest;
use wire::api::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use wire::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use wire::api::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use wire::{ApiKey, ErrorCode, Text};

use crate::admin::version;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::group::{Group, Membership};

/// From this version on LeaveGroup names several members.
const LEAVE_SEVERAL_SINCE: i16 = 3;

/// How often a coordinator may send a member back to the start of one join without a wait.
const QUICK_TURNS_MAX: u32 = 50;

/// What a member is and offers.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// The group.
    pub group_id: String,
    /// `consumer` for those that share topics, anything else for other purposes.
    pub protocol_type: String,
    /// Ways of sharing that the member knows, the most wanted first, each with data for whoever leads.
    pub protocols: Vec<(String, Bytes)>,
    /// Silence after which the coordinator takes the place away.
    pub session_timeout: Duration,
    /// How long the others wait for this member when the group moves on.
    pub rebalance_timeout: Duration,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// A name under which the place is kept over restarts (KIP-345).
    pub instance_id: Option<String>,
}

/// Another member, or this one, as the leader sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The member.
    pub member_id: Text,
    /// Its name, if it is a static one.
    pub instance_id: Option<Text>,
    /// Its data for the protocol that was chosen.
    pub metadata: Bytes,
}

/// What a member was given.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// By which right it acts from now on.
    pub membership: Membership,
    /// The protocol that all members know.
    pub protocol: String,
    /// What the leader gave it.
    pub data: Bytes,
}

/// Why a place is no longer held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The group gathers anew; the place is kept for who joins again.
    Rebalance,
    /// The place is gone: another generation goes on without this member, or the coordinator has not heard of it for
    /// the length of a session.
    Lost(RequestError),
}

/// Decides who gets what: from the protocol and the candidates to each member's data.
pub type Assign<'a> = &'a (dyn Fn(&str, &[Candidate]) -> Vec<(Text, Bytes)> + Send + Sync);

/// A member of a group.
#[derive(Debug)]
pub struct Member {
    group: Group,
    lane: crate::cluster::Lane,
    options: MemberOptions,
    membership: Membership,
}

impl Member {
    /// A member that has not joined yet, on a connection of its own.
    #[must_use]
    pub fn new(cluster: &Cluster, options: MemberOptions) -> Self {
        let lane = cluster.own_lane();
        let instance_id = options.instance_id.as_ref().map(Text::from);
        Self {
            group: cluster.group_on(&options.group_id, lane),
            lane,
            options,
            membership: Membership { instance_id, ..Membership::OUTSIDE },
        }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// By which right it acts now.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Changes what the member offers from the next join on.
    pub fn set_protocols(&mut self, protocols: Vec<(String, Bytes)>) {
        self.options.protocols = protocols;
    }

    /// Joins, or joins again, and waits for an assignment; when chosen as the leader, `assign` makes them all.
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn join(&mut self, assign: Assign<'_>) -> Result<Assignment, RequestError> {
        let mut retry = self.group.cluster().retry();
        let mut quick_turns = 0..QUICK_TURNS_MAX;
        loop {
            let error = match self.try_join(assign).await {
                Ok(assignment) => return Ok(assignment),
                Err(error) => error,
            };
            match error.code() {
                // The coordinator has named the member and wants it to say its name (KIP-394).
                Some(ErrorCode::MEMBER_ID_REQUIRED | ErrorCode::REBALANCE_IN_PROGRESS)
                    if quick_turns.next().is_some() => {}
                Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION)
                    if quick_turns.next().is_some() =>
                {
                    self.start_over();
                }
                _ if retry.again(&error).await => {}
                _ => return Err(error),
            }
        }
    }

    fn start_over(&mut self) {
        self.membership.member_id = Text::EMPTY;
        self.membership.generation = -1;
    }

    async fn try_join(&mut self, assign: Assign<'_>) -> Result<Assignment, RequestError> {
        let joined = self.ask_to_join().await?;
        self.membership.generation = joined.generation_id;
        let protocol = joined.protocol_name.as_ref().map(String::from).unwrap_or_default();
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let assignments = if leads {
            let candidates: Vec<_> = joined
                .members
                .into_iter()
                .map(|member| Candidate {
                    member_id: member.member_id,
                    instance_id: member.group_instance_id,
                    metadata: member.metadata,
                })
                .collect();
            assign(&protocol, &candidates)
        } else {
            Vec::new()
        };
        let request = SyncGroupRequest {
            group_id: self.group.id().clone(),
            generation_id: self.membership.generation,
            member_id: self.membership.member_id.clone(),
            group_instance_id: self.membership.instance_id.clone(),
            protocol_type: Some(Text::from(&self.options.protocol_type)),
            protocol_name: Some(Text::from(&protocol)),
            assignments: assignments
                .into_iter()
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
                .collect(),
        };
        let connection = self.group.connection().await?;
        let response = self.group.ask(&connection, &request, self.options.rebalance_timeout).await?;
        self.group.check(ApiKey::SyncGroup, response.error_code, None)?;
        Ok(Assignment { membership: self.membership.clone(), protocol, data: response.assignment })
    }

    async fn ask_to_join(&mut self) -> Result<JoinGroupResponse, RequestError> {
        let protocols = self.options.protocols.iter();
        let request = JoinGroupRequest {
            group_id: self.group.id().clone(),
            session_timeout_ms: millis(self.options.session_timeout),
            rebalance_timeout_ms: millis(self.options.rebalance_timeout),
            member_id: self.membership.member_id.clone(),
            group_instance_id: self.membership.instance_id.clone(),
            protocol_type: Text::from(&self.options.protocol_type),
            protocols: protocols
                .map(|(name, metadata)| JoinGroupRequestProtocol {
                    name: Text::from(name),
                    metadata: metadata.clone(),
                })
                .collect(),
            reason: None,
        };
        let connection = self.group.connection().await?;
        let response = self.group.ask(&connection, &request, self.options.rebalance_timeout).await?;
        if matches!(response.error_code, ErrorCode::NONE | ErrorCode::MEMBER_ID_REQUIRED) {
            self.membership.member_id = response.member_id.detached();
        }
        self.group.check(ApiKey::JoinGroup, response.error_code, None)?;
        Ok(response)
    }

    /// Sends heartbeats until the place is no longer held. May be dropped and called again at any time; who does not
    /// call it for the length of a session loses the place.
    pub async fn hold(&self) -> Ended {
        let mut heard = Instant::now();
        loop {
            sleep(self.options.heartbeat_interval).await;
            let error = match self.heartbeat().await {
                Ok(()) => {
                    heard = Instant::now();
                    continue;
                }
                Err(error) => error,
            };
            if error.code() == Some(ErrorCode::REBALANCE_IN_PROGRESS) {
                return Ended::Rebalance;
            }
            if !error.retriable() || heard.elapsed() >= self.options.session_timeout {
                return Ended::Lost(error);
            }
        }
    }

    /// Sends one heartbeat.
    ///
    /// # Errors
    /// [`RequestError`]; the code `REBALANCE_IN_PROGRESS` when the group gathers anew.
    pub async fn heartbeat(&self) -> Result<(), RequestError> {
        let request = HeartbeatRequest {
            group_id: self.group.id().clone(),
            generation_id: self.membership.generation,
            member_id: self.membership.member_id.clone(),
            group_instance_id: self.membership.instance_id.clone(),
        };
        // An answer that is not there within a session is of no use.
        let answered = tokio::time::timeout(self.options.session_timeout, async {
            let connection = self.group.connection().await?;
            self.group.ask(&connection, &request, Duration::ZERO).await
        });
        let Ok(response) = answered.await else {
            return self.group.check(ApiKey::Heartbeat, ErrorCode::REQUEST_TIMED_OUT, None);
        };
        self.group.check(ApiKey::Heartbeat, response?.error_code, None)
    }

    /// Gives the place up, unless it is a static one, which is kept. The group does not have to wait for a session to
    /// end then; what goes wrong here ends the same way.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn leave(&mut self) -> Result<(), RequestError> {
        if self.membership.member_id.is_empty() || self.membership.instance_id.is_some() {
            return Ok(());
        }
        let connection = self.group.connection().await?;
        let member_id = std::mem::take(&mut self.membership.member_id);
        self.membership.generation = -1;
        let group_id = self.group.id().clone();
        let request = match version(&connection, ApiKey::LeaveGroup)? {
            ..LEAVE_SEVERAL_SINCE => LeaveGroupRequest { group_id, member_id, members: Vec::new() },
            _ => {
                let member = MemberIdentity { member_id, group_instance_id: None, reason: None };
                LeaveGroupRequest { group_id, member_id: Text::EMPTY, members: vec![member] }
            }
        };
        let response = self.group.ask(&connection, &request, Duration::ZERO).await?;
        self.group.check(ApiKey::LeaveGroup, response.error_code, None)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.cluster().close_lane(self.lane);
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
