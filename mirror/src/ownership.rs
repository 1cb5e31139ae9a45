//! One owner for a flow: chosen by a group on its target, numbered by a claim in the map topic.
//!
//! Owns: who is chosen among the members, and what a member says of itself.
//! Does not own: joining and heartbeats (`client`), the claim's bytes (`map_topic`), fencing an owner who was not
//! dead (its producer epochs: `flow::map_log` for the map topic, `copier` for the data).

use bytes::Bytes;

/// Protocol type of the group: consumers' tools leave it alone.
pub const PROTOCOL_TYPE: &str = "longhaul-mirror";
/// The one protocol: one member owns the whole flow.
pub const PROTOCOL: &str = "one-owner";

/// What a member says of itself when it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It would own the flow.
    Waiting = 0,
    /// It owned the flow until now: it stays the owner when others join.
    Owning = 1,
    /// It promotes the flow, so the owner hands over to it.
    Promoting = 2,
}

impl Role {
    /// The member's data.
    #[must_use]
    pub fn metadata(self) -> Bytes {
        Bytes::copy_from_slice(&[self as u8])
    }

    /// Of a member that says what this version does not know: it waits.
    #[must_use]
    pub fn read(metadata: &[u8]) -> Self {
        match metadata.first() {
            Some(1) => Self::Owning,
            Some(2) => Self::Promoting,
            _ => Self::Waiting,
        }
    }
}

/// Which member owns the flow: who promotes, else who owned it, else the first by id.
#[must_use]
pub fn choose<'a>(members: impl Iterator<Item = (&'a str, Role)>) -> Option<&'a str> {
    members
        .max_by(|(one, role), (other, other_role)| role.cmp(other_role).then(other.cmp(one)))
        .map(|(id, _)| id)
}

/// The chosen member's data.
pub const CHOSEN: &[u8] = &[1];
/// The others'.
pub const NOT_CHOSEN: &[u8] = &[0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_stays_until_somebody_promotes() {
        use Role::{Owning, Promoting, Waiting};
        let chosen = |members: &[(&'static str, Role)]| choose(members.iter().copied());
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[("b", Waiting), ("a", Waiting)]), Some("a"));
        assert_eq!(chosen(&[("a", Waiting), ("b", Owning)]), Some("b"));
        assert_eq!(chosen(&[("a", Owning), ("c", Promoting), ("b", Waiting)]), Some("c"));
        assert_eq!(Role::read(&Promoting.metadata()), Promoting);
        assert_eq!(Role::read(&[]), Waiting);
    }
}
