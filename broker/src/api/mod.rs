//! What the broker does with each request: one file per API.
//!
//! Owns: the way from a frame to an answer. Does not own: layouts and versions (crate `wire`), connections.

mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_producers;
mod describe_topic_partitions;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod size;
mod sync_group;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use wire::api::Request;
use wire::codec::Text;
use wire::header::{Opened, RequestHeader, open_request, response_frame, unsupported_api_versions};
use wire::{ErrorCode, Message};

use crate::broker::Broker;
use crate::clock::Clock;
use crate::connection::{Answer, AppendGate, Disconnect, Handled, Outcome, Peer, Service};
use crate::limits::MAX_PARTITIONS_PER_REQUEST;
use crate::metrics::Metrics;

/// What a request carries besides its body.
#[derive(Clone, Debug)]
struct Context {
    header: RequestHeader,
    peer: Arc<Peer>,
}

impl Context {
    fn version(&self) -> i16 {
        self.header.version
    }

    fn client_id(&self) -> &str {
        self.header.client_id.as_deref().unwrap_or("")
    }

    fn answer<M: Message>(&self, body: &M) -> Outcome {
        let frame = response_frame(self.header.key, self.header.version, self.header.correlation_id, body)?;
        Ok(Some(Answer { frame, permit: None }))
    }
}

/// An error message for an answer.
fn message(error: &impl std::fmt::Display) -> Option<Text> {
    Some(Text::from(error.to_string()))
}

/// The requests of one broker, for its connections.
#[derive(Debug)]
pub(crate) struct Requests {
    broker: Arc<Broker>,
}

impl Requests {
    /// Serves the requests of a broker.
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

impl Service for Requests {
    fn begin(&self, frame: Bytes, peer: &Arc<Peer>, gate: &AppendGate) -> Result<Handled, Disconnect> {
        Metrics::add(&self.broker.metrics.requests, 1);
        let (header, reader) = match open_request(frame)? {
            Opened::Request(header, reader) => (header, reader),
            Opened::UnsupportedApiVersions { correlation_id } => {
                let frame = unsupported_api_versions(correlation_id);
                return Ok(Handled::Now(Ok(Some(Answer { frame, permit: None }))));
            }
        };
        let request = header.decode_body(reader)?;
        let named = size::named_by(&request);
        if named > MAX_PARTITIONS_PER_REQUEST {
            return Err(Disconnect::TooManyPartitions(named));
        }
        let context = Context { header, peer: Arc::clone(peer) };
        let broker = Arc::clone(&self.broker);
        Ok(Handled::Later(match request {
            Request::Produce(request) => Box::pin(produce::run(broker, context, request, gate.clone())),
            Request::Fetch(request) => Box::pin(fetch::run(broker, context, request)),
            request => Box::pin(other(broker, context, request)),
        }))
    }

    fn clock(&self) -> &dyn Clock {
        &*self.broker.clock
    }

    fn moved(&self, received_bytes: usize, sent_bytes: usize) {
        Metrics::add(&self.broker.metrics.received_bytes, received_bytes);
        Metrics::add(&self.broker.metrics.sent_bytes, sent_bytes);
    }

    fn connected(&self, change: i64, by_us: bool) {
        let metrics = &self.broker.metrics;
        metrics.connections.fetch_add(change.cast_unsigned(), Ordering::Relaxed);
        Metrics::add(&metrics.disconnects, usize::from(by_us));
    }
}

async fn other(broker: Arc<Broker>, context: Context, request: Request) -> Outcome {
    macro_rules! answers {
        ($($name:ident in $module:ident,)*) => {
            match request {
                $(Request::$name(request) => {
                    let body = $module::run(&broker, &context, request).await;
                    context.answer(&body)
                })*
                Request::Produce(_) | Request::Fetch(_) => unreachable!("begun by `begin`"),
            }
        };
    }
    answers! {
        ApiVersions in api_versions,
        CreatePartitions in create_partitions,
        CreateTopics in create_topics,
        DeleteGroups in delete_groups,
        DeleteRecords in delete_records,
        DeleteTopics in delete_topics,
        DescribeCluster in describe_cluster,
        DescribeConfigs in describe_configs,
        DescribeGroups in describe_groups,
        DescribeProducers in describe_producers,
        DescribeTopicPartitions in describe_topic_partitions,
        FindCoordinator in find_coordinator,
        Heartbeat in heartbeat,
        IncrementalAlterConfigs in incremental_alter_configs,
        InitProducerId in init_producer_id,
        JoinGroup in join_group,
        LeaveGroup in leave_group,
        ListGroups in list_groups,
        ListOffsets in list_offsets,
        Metadata in metadata,
        OffsetCommit in offset_commit,
        OffsetFetch in offset_fetch,
        OffsetForLeaderEpoch in offset_for_leader_epoch,
        SyncGroup in sync_group,
    }
}

/// Whether the leader epoch a client knows is ours; -1 is no claim (KIP-320).
fn check_epoch(claimed: i32, current: i32) -> Result<(), ErrorCode> {
    match claimed {
        -1 => Ok(()),
        epoch if epoch < current => Err(ErrorCode::FENCED_LEADER_EPOCH),
        epoch if epoch > current => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}
