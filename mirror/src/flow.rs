//! A flow at work: the thin part that waits, asks and sends, around the parts that decide.
//!
//! Reading order: `owner`, which waits until this process owns the flow; `session`, one ownership from claim to
//! drain; `partition`, the loop around a `Copier`; `tail`, reading the target back; `map_log`, the map topic;
//! `topics`, `provenance`, `memory`; `group_sync`, `places`, `counterflow` and `fence`, which carry groups over; `watch`, which tells how all of it fares.
//!
//! Owns: tasks, channels, time-outs, memory budgets. Does not own: any decision about offsets.

pub(crate) mod board;
pub(crate) mod counterflow;
pub(crate) mod fence;
pub(crate) mod group_sync;
pub(crate) mod map_log;
pub(crate) mod memory;
pub(crate) mod owner;
pub(crate) mod partition;
pub(crate) mod places;
pub(crate) mod provenance;
pub(crate) mod session;
pub(crate) mod tail;
pub(crate) mod topics;
pub(crate) mod watch;

use std::sync::Arc;

use client::offsets::Place;
use client::{Cluster, ClusterOptions, Isolation, RequestError, TopicPartition};
use wire::Offset;

use crate::spec::ClusterSpec;

/// Why a flow, or a question about one, cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FlowError {
    /// A cluster did not answer, or refused.
    #[error(transparent)]
    Request(Arc<RequestError>),
    /// A cluster does not say where a group stands.
    #[error("where group {group} stands is not known: {why_not}")]
    GroupUnread {
        /// The group.
        group: String,
        /// Which cluster does not say it, and what it says instead.
        why_not: String,
    },
    /// An address in the flow's description is none.
    #[error("'{0}' is not an address: write host:port")]
    Address(String),
    /// A cluster does not say who it is.
    #[error("cluster {0} has no cluster id, so offsets could not be told from another cluster's")]
    NoClusterId(String),
    /// Other owners were faster each time.
    #[error("other owners claimed the flow each time; is it declared in several places under one name?")]
    ClaimLost,
    /// Another owner took the flow over.
    #[error("another owner took the flow over: {0}")]
    Replaced(String),
    /// The target takes what the flow writes to the map topic neither now nor later.
    #[error(
        "the target refuses what the flow writes to the topic __longhaul_mirror, and nothing is copied without that: {0}; mend that \
         topic's max.message.bytes or the flow's rights on it, as the reason says"
    )]
    MapRefused(String),
    /// The flow was promoted and stays stopped.
    #[error(
        "flow {flow} was promoted and stays stopped; `longhaul mirror redeclare FILE {flow}` lets it copy on from where it stood"
    )]
    Promoted {
        /// The flow.
        flow: String,
        /// When, milliseconds since 1970.
        at_ms: i64,
    },
    /// The flow never ran on this target.
    #[error("flow {0} has left nothing on its target: it never ran")]
    NeverRan(String),
    /// The flow does not copy that partition.
    #[error("flow {flow} has copied nothing of {topic}-{partition}")]
    NotCopied {
        /// The flow.
        flow: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// What came back was in a topic that the source does not show any more.
    #[error(
        "the source no longer shows its topic __longhaul_mirror, which says what comes back from this target: groups stay where \
         they are until it does"
    )]
    MapTopicMissing,
    /// A translation that takes the source, which does not answer.
    #[error(
        "{topic}-{partition} is copied both ways, and what a reader at its source has read of the records that came from the target \
         only the source's own map says: the source does not answer, or has lost that map; ask again once it is there"
    )]
    NeedsSource {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The owner did not hand over in time.
    #[error("the flow's owner did not hand over within {0} s; it may hang: stop it, then try again")]
    NoHandOver(u64),
    /// An event stands in the way.
    #[error("{0}")]
    Event(Box<crate::events::Event>),
}

impl From<RequestError> for FlowError {
    fn from(error: RequestError) -> Self {
        Self::Request(Arc::new(error))
    }
}

/// Connects to a cluster of a flow.
pub(crate) async fn connect(spec: &ClusterSpec) -> Result<Cluster, FlowError> {
    let parse = |text: &String| text.parse().map_err(|_| FlowError::Address(text.clone()));
    let bootstrap = spec.bootstrap.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    Ok(Cluster::connect(ClusterOptions::new(bootstrap)).await?)
}

/// The first offset of a partition, and its end as the isolation has it. Two questions: Kafka refuses one request
/// that names a partition twice.
pub(crate) async fn log_ends(
    cluster: &Cluster,
    partition: &TopicPartition,
    isolation: Isolation,
) -> Result<(Offset, Offset), RequestError> {
    let mut ends = [Offset(0); 2];
    for (end, place) in ends.iter_mut().zip([Place::Earliest, Place::Latest]) {
        let found = cluster.list_offsets(&[(partition.clone(), place)], isolation).await?;
        *end = found[0].offset.unwrap_or(Offset(0));
    }
    Ok((ends[0], ends[1]))
}

/// The cluster's own id.
pub(crate) fn cluster_id(cluster: &Cluster, spec: &ClusterSpec) -> Result<Arc<str>, FlowError> {
    let id = cluster.layout().cluster_id.clone().filter(|id| !id.is_empty());
    id.map(Into::into).ok_or_else(|| FlowError::NoClusterId(spec.name.clone()))
}
