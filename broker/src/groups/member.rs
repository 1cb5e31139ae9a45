//! One member of a classic group: what it offered, what it was assigned, when it must be heard from again.
//!
//! Owns: the member's identity, protocols, timeouts and the answers it waits for.
//! Does not own: any decision about the group (`group`), any clock.

use bytes::Bytes;

use super::Token;

/// A protocol a member offers, with metadata that only other members understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    /// The protocol's name (an assignor, for consumers).
    pub(crate) name: String,
    /// Opaque to the broker: it is handed to the leader as it came. Shared with answers and records, never with the
    /// frame that it came in, which is much larger.
    pub(crate) metadata: Bytes,
}

/// A member of a classic group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Made by the broker, unique within the group.
    pub(crate) id: String,
    /// The static identity of KIP-345, chosen by the user.
    pub(crate) instance_id: Option<String>,
    /// The client's own name for itself.
    pub(crate) client_id: String,
    /// The peer's address, written as Kafka writes it (`/127.0.0.1`).
    pub(crate) client_host: String,
    /// How long a rebalance waits for this member.
    pub(crate) rebalance_timeout_ms: i64,
    /// How long the member may stay silent.
    pub(crate) session_timeout_ms: i64,
    /// In order of preference.
    pub(crate) protocols: Vec<Protocol>,
    /// Opaque, from the leader; shared like the metadata.
    pub(crate) assignment: Bytes,
    /// The JoinGroup that waits for the rebalance to complete.
    pub(crate) waiting_join: Option<Token>,
    /// The SyncGroup that waits for the leader's assignment.
    pub(crate) waiting_sync: Option<Token>,
    /// When the member is dropped if nothing is heard from it.
    pub(crate) expires_at_ms: i64,
    /// Whether this member has sent SyncGroup in the current generation.
    pub(crate) synced: bool,
}

impl Member {
    /// The metadata the member offered for `protocol`; empty when it did not offer it.
    pub(crate) fn metadata_for(&self, protocol: &str) -> Bytes {
        let offer = self.protocols.iter().find(|offer| offer.name == protocol);
        offer.map(|offer| offer.metadata.clone()).unwrap_or_default()
    }

    /// What the member takes in memory, but for what all members take alike.
    pub(crate) fn held_bytes(&self) -> usize {
        let names = self.id.len() + self.client_id.len() + self.client_host.len();
        let offers: usize = self.protocols.iter().map(|offer| offer.name.len() + offer.metadata.len()).sum();
        names + self.instance_id.as_ref().map_or(0, String::len) + offers + self.assignment.len()
    }

    /// Whether the member would accept `protocol`.
    pub(crate) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|offer| offer.name == protocol)
    }

    /// Whether the member waits for the broker: then its silence is not its fault.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting_join.is_some() || self.waiting_sync.is_some()
    }
}
