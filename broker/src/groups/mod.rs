//! Classic consumer groups: membership, rebalances, committed offsets, and their records in `__consumer_offsets`.
//!
//! * `group` decides: a state machine `(state, event, now) -> (state, actions)` without clock or I/O.
//! * `member` is one member's data; `offsets` the committed offsets of one group and their expiry.
//! * `memory` bounds what the members of all groups hold together, and what their committed offsets do.
//! * `records` are the bytes in `__consumer_offsets`, Kafka's own formats.
//! * `coordinator` does: it holds all groups, writes their records, answers when they are committed, and runs timers.

pub(crate) mod coordinator;
pub(crate) mod group;
pub(crate) mod member;
pub(crate) mod memory;
pub(crate) mod offsets;
pub(crate) mod records;

#[cfg(test)]
mod tests;

/// Names an answer that a group owes; the coordinator knows whom it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// Members one group may have; the next one is refused with GROUP_MAX_SIZE_REACHED.
pub(crate) const MAX_MEMBERS_PER_GROUP: usize = 1_000;
/// Groups one broker holds; a JoinGroup or OffsetCommit that would make one more is refused.
pub(crate) const MAX_GROUPS: usize = 10_000;
/// Offsets one group may hold: bounds memory against a client that commits for partitions it made up.
pub(crate) const MAX_OFFSETS_PER_GROUP: usize = 100_000;
/// The longest metadata string stored with an offset (Kafka's `offset.metadata.max.bytes`).
pub(crate) const MAX_OFFSET_METADATA_BYTES: usize = 4_096;
/// Bounds of a member's session timeout, as Kafka's defaults.
pub(crate) const SESSION_TIMEOUT_MS: std::ops::RangeInclusive<i64> = 6_000..=1_800_000;
/// How long offsets of an empty group are kept (Kafka's `offsets.retention.minutes` of a week).
pub(crate) const OFFSETS_RETENTION_MS: i64 = 7 * 24 * 3_600_000;
/// A member that has joined but never been answered is kept this long.
pub(crate) const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60_000;
/// Partitions of `__consumer_offsets`, Kafka's default: the partition of a group is a hash of its name.
pub(crate) const OFFSETS_PARTITIONS: i32 = 50;
/// The topic that holds groups and offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The partition of `__consumer_offsets` that holds `group`: Java's string hash, as every Kafka tool computes it.
pub(crate) fn partition_for(group: &str) -> i32 {
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) % OFFSETS_PARTITIONS
}
