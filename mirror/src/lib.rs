//! Source cluster to target cluster, with exact offset translation.
//!
//! Reading order: [`spec`], what a flow is told; [`offset_map`], where a record lives on the other side;
//! [`both_ways`], the same where a flow comes back; [`map_topic`], what is kept of that on the target; [`copier`], one partition's order of things; [`recovery`], what
//! became of batches in doubt; [`events`], what is never passed over; [`ownership`], [`groups`]; last `flow`, the part
//! that waits and sends. The verbs are [`run`], [`translate`], [`status`], [`failover`] and [`redeclare`].
//!
//! Owns: everything that a flow decides and does. Does not own: sockets (`client`), bytes of batches (`wire`), the
//! topology file (`topology`). It never links the broker: what it can do to ours it can do to Apache Kafka.
//!
//! Invariants:
//!   A. A source offset becomes a target offset in `offset_map` and nowhere else.
//!   B. A recorded pair was acknowledged by the target, or read back from its log.
//!   C. What does not fit is an event that pauses one partition; nothing is guessed.

pub mod both_ways;
mod clock;
pub mod copier;
pub mod events;
mod failover;
mod flow;
pub mod groups;
pub mod map_topic;
pub mod offset_map;
pub mod ownership;
pub mod recovery;
pub mod spec;
mod status;
mod translate;

pub use failover::{Failover, failover, redeclare};
pub use flow::FlowError;
pub use flow::board::{Board, FlowFigures, FlowState, PartitionFigures};
pub use spec::{ClusterSpec, FlowSpec};
pub use status::{FlowStatus, MapTopicStatus, PartitionStatus, StatusReader, status};
pub use translate::{Direction, Question, offset_map as load_offset_map, translate};

use tokio_util::sync::CancellationToken;

/// What holds for all flows of a process.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of batches that one flow holds, planned and not yet acknowledged. The partitions that it copies share
    /// them evenly, each with 2 MiB at least and 32 MiB at most: beyond `memory_bytes` / 2 MiB partitions, that least
    /// share bounds the flow. A partition fetches while it holds less than its share, so it may pass that by one
    /// fetch answer: up to half of the share, 1 MiB at least, and whatever one single batch takes.
    pub memory_bytes: usize,
    /// Joins small neighbouring batches up to this size; only worth its cost when the target is far.
    pub coalesce_to_bytes: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory_bytes: 128 * 1024 * 1024, coalesce_to_bytes: None }
    }
}

/// Runs flows until `shutdown`; then drains what is in flight, writes the positions down and returns. A flow that was
/// promoted stays stopped; one whose cluster is away waits for it. What they do shows on `board`.
pub async fn run(flows: Vec<FlowSpec>, options: Options, board: Board, shutdown: CancellationToken) {
    let mut running = tokio::task::JoinSet::new();
    for spec in flows {
        running.spawn(flow::owner::run_flow(spec, options.clone(), board.clone(), shutdown.child_token()));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a flow's task died");
        }
    }
}
