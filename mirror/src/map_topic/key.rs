//! Keys of the map topic: readable text, its parts parted by slashes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use wire::ids::{ProducerId, TopicId};

use crate::offset_map::SourceOffset;

/// Identity of one copied partition. Names are not part of it: they can be given to another topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// Cluster id of the source.
    pub source_cluster: Arc<str>,
    /// Topic id at the source.
    pub source_topic: TopicId,
    /// Topic id at the target.
    pub target_topic: TopicId,
    /// Partition, the same at both ends.
    pub partition: i32,
}

/// The key of a record in the map topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A block of a partition's offset map.
    Block {
        /// Whose map.
        partition: PartitionKey,
        /// Generation of the owner that wrote it.
        generation: u64,
        /// First source offset that it covers.
        start: SourceOffset,
    },
    /// Where a partition stands, and what it is about to produce.
    Progress {
        /// Whose progress.
        partition: PartitionKey,
        /// Generation of the owner that wrote it.
        generation: u64,
    },
    /// An owner's claim on a flow.
    Claim {
        /// The flow.
        flow: String,
        /// The generation that it claims.
        generation: u64,
        /// Tells two claimants of one generation apart.
        nonce: u64,
    },
    /// Which topics a flow has tied together.
    Binding {
        /// The flow.
        flow: String,
        /// Name at the source.
        topic: String,
    },
    /// A producer id that a flow writes with.
    Producer(ProducerId),
    /// A flow that was promoted.
    Promotion {
        /// The flow.
        flow: String,
    },
    /// The synced positions of one group.
    Group {
        /// The flow.
        flow: String,
        /// The group.
        group: String,
    },
    /// The last complete pass over all groups.
    SyncPass {
        /// The flow.
        flow: String,
    },
    /// The event that paused a partition.
    Event {
        /// The flow.
        flow: String,
        /// Name at the source.
        topic: String,
        /// The partition, -1 for the whole topic.
        partition: i32,
    },
}

impl Key {
    /// Generation of the owner that writes it, where the key carries one.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        match self {
            Self::Block { generation, .. }
            | Self::Progress { generation, .. }
            | Self::Claim { generation, .. } => Some(*generation),
            _ => None,
        }
    }
}

/// Text that is no key of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("map topic key {0:?} is not known; a newer longhaul may have written it")]
pub struct KeyError(pub String);

/// A part of a key, with slash and percent escaped.
struct Part<'a>(&'a str);

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '%' => f.write_str("%25")?,
                '/' => f.write_str("%2F")?,
                other => fmt::Write::write_char(f, other)?,
            }
        }
        Ok(())
    }
}

fn unescape(part: &str) -> String {
    part.replace("%2F", "/").replace("%25", "%")
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source_cluster, source_topic, target_topic, partition } = self;
        write!(f, "{}/{source_topic}/{target_topic}/{partition}", Part(source_cluster))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { partition, generation, start } => {
                write!(f, "block/{partition}/{generation}/{start}")
            }
            Self::Progress { partition, generation } => write!(f, "progress/{partition}/{generation}"),
            Self::Claim { flow, generation, nonce } => {
                write!(f, "claim/{}/{generation}/{nonce:016x}", Part(flow))
            }
            Self::Binding { flow, topic } => write!(f, "binding/{}/{}", Part(flow), Part(topic)),
            Self::Producer(id) => write!(f, "producer/{id}"),
            Self::Promotion { flow } => write!(f, "promotion/{}", Part(flow)),
            Self::Group { flow, group } => write!(f, "group/{}/{}", Part(flow), Part(group)),
            Self::SyncPass { flow } => write!(f, "sync/{}", Part(flow)),
            Self::Event { flow, topic, partition } => {
                write!(f, "event/{}/{}/{partition}", Part(flow), Part(topic))
            }
        }
    }
}

fn partition_key(parts: &[&str]) -> Option<PartitionKey> {
    let [cluster, source_topic, target_topic, partition] = parts else { return None };
    Some(PartitionKey {
        source_cluster: unescape(cluster).into(),
        source_topic: source_topic.parse().ok()?,
        target_topic: target_topic.parse().ok()?,
        partition: partition.parse().ok()?,
    })
}

fn parse(text: &str) -> Option<Key> {
    let parts: Vec<&str> = text.splitn(9, '/').collect();
    Some(match parts.as_slice() {
        ["block", partition @ .., generation, start] => Key::Block {
            partition: partition_key(partition)?,
            generation: generation.parse().ok()?,
            start: SourceOffset(start.parse().ok()?),
        },
        ["progress", partition @ .., generation] => {
            Key::Progress { partition: partition_key(partition)?, generation: generation.parse().ok()? }
        }
        ["claim", flow, generation, nonce] => Key::Claim {
            flow: unescape(flow),
            generation: generation.parse().ok()?,
            nonce: u64::from_str_radix(nonce, 16).ok()?,
        },
        ["binding", flow, topic] => Key::Binding { flow: unescape(flow), topic: unescape(topic) },
        ["producer", id] => Key::Producer(ProducerId(id.parse().ok()?)),
        ["promotion", flow] => Key::Promotion { flow: unescape(flow) },
        ["group", flow, group] => Key::Group { flow: unescape(flow), group: unescape(group) },
        ["sync", flow] => Key::SyncPass { flow: unescape(flow) },
        ["event", flow, topic, partition] => {
            Key::Event { flow: unescape(flow), topic: unescape(topic), partition: partition.parse().ok()? }
        }
        _ => return None,
    })
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text).ok_or_else(|| KeyError(text.chars().take(200).collect()))
    }
}
