//! What a reader keeps of the map topic, which holds the maps of all flows that end on its cluster.
//!
//! Owns: which records a ledger passes over.
//! Does not own: what the others come to (`ledger`).

use std::sync::Arc;

use super::Key;

/// What a ledger keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    #[default]
    Whole,
    /// What the owner of a flow needs: what is said of the flow, which topics any flow has tied together, and all
    /// partitions of its source, for another flow may have copied them before.
    Owner {
        /// The flow.
        flow: String,
        /// Cluster id of its source.
        source_cluster: Arc<str>,
    },
    /// What a flow has come to: no offset maps, and of each partition's progress no intents. Keys do not say whose a
    /// partition is, and one without intents is small, so those of other flows stay.
    Account {
        /// The flow.
        flow: String,
    },
    /// Which producer ids flows write with.
    Producers,
    /// The offset maps of what came from a cluster, and of their progress no intents.
    CopiesFrom {
        /// Id of that cluster.
        source_cluster: Arc<str>,
    },
}

impl Scope {
    /// Whether a record under this key is kept.
    pub(super) fn keeps(&self, key: &Key) -> bool {
        match self {
            Self::Whole => true,
            Self::Producers => matches!(key, Key::Producer(_)),
            Self::CopiesFrom { source_cluster } => match key {
                Key::Block { partition, .. } | Key::Progress { partition, .. } => {
                    partition.source_cluster == *source_cluster
                }
                _ => false,
            },
            Self::Owner { flow, source_cluster } => match key {
                Key::Block { partition, .. } | Key::Progress { partition, .. } => {
                    partition.source_cluster == *source_cluster
                }
                Key::Producer(_) | Key::Binding { .. } => true,
                other => is_of(other, flow),
            },
            Self::Account { flow } => match key {
                Key::Progress { .. } => true,
                Key::Block { .. } | Key::Producer(_) => false,
                other => is_of(other, flow),
            },
        }
    }

    /// Whether the intents of a progress are kept.
    pub(super) fn keeps_intents(&self) -> bool {
        !matches!(self, Self::Account { .. } | Self::CopiesFrom { .. })
    }
}

/// Whether a key names this flow.
fn is_of(key: &Key, wanted: &str) -> bool {
    match key {
        Key::Claim { flow, .. }
        | Key::Binding { flow, .. }
        | Key::Promotion { flow }
        | Key::Group { flow, .. }
        | Key::SyncPass { flow }
        | Key::Event { flow, .. } => flow == wanted,
        Key::Block { .. } | Key::Progress { .. } | Key::Producer(_) => false,
    }
}
