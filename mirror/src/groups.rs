//! Where groups go on at the target.
//!
//! Owns: what becomes of one group's position, and why not when it is not carried over.
//! Does not own: asking either cluster (`flow::group_sync`), the translation (`offset_map`).

use std::fmt;

use crate::both_ways::BothWays;
use crate::offset_map::{OffsetMap, SourceOffset, TargetOffset, Translation};

/// Why a group's position is not at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The group has members at the target.
    ActiveAtTarget,
    /// The group is beyond what was copied; it stands at the end of the copy and follows with it.
    AheadOfCopy,
    /// The position is below what the offset map holds.
    BeforeMap,
    /// The target's own position is further on, and is never moved backwards.
    TargetFurther,
    /// The flow does not copy the partition: not yet, or not any more.
    NotCopied,
    /// What the source has under the name, or the target, is not what was copied.
    NotTheLog,
    /// The topic is copied both ways, and of the target's own records not all that lie before the place were read.
    OwnUnread,
    /// The offset map alone does not tell the place, and the source does not answer, or has lost its map.
    NeedsSource,
    /// The target did not take the position.
    Refused,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ActiveAtTarget => "the group is active at the target",
            Self::AheadOfCopy => "the group is ahead of the copy",
            Self::BeforeMap => "the position is below the offset map",
            Self::TargetFurther => "the group is further on at the target",
            Self::NotCopied => "the partition is not being copied",
            Self::NotTheLog => "the topic, or its log, is no longer the one that was copied",
            Self::OwnUnread => {
                "records of the target itself that the group has not read lie before its place"
            }
            Self::NeedsSource => "its place is not known without the source",
            Self::Refused => "the target refused the position",
        })
    }
}

/// What to do with one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Commit this, with leader epoch -1; the reason, if any, says why it is not the group's very place.
    Commit(TargetOffset, Option<Reason>),
    /// The target has it already; the reason as with a commit.
    InPlace(TargetOffset, Option<Reason>),
    /// Leave what is there, and say why.
    Leave(Reason),
}

/// What is known of a group's partition at the target.
#[derive(Clone, Copy, Debug, Default)]
pub struct AtTarget {
    /// Whether the group has members there.
    pub active: bool,
    /// Its position there.
    pub position: Option<i64>,
    /// Whether a position may move backwards.
    pub may_go_back: bool,
}

/// What is known of the place of a source position at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The place, or why it is not known.
    pub found: Result<Translation<TargetOffset>, Reason>,
    /// Whether the partition's own map does not tell it alone.
    pub needs_source: bool,
    /// Target offset behind the last record that was read, where that is not the place itself.
    pub read_to: Option<TargetOffset>,
}

impl Place {
    /// The place of `next` in a partition that is copied one way.
    #[must_use]
    pub fn one_way(own: &OffsetMap, next: SourceOffset) -> Self {
        Self { found: Ok(own.translate(next)), needs_source: false, read_to: None }
    }

    /// The place of `next` in a partition that is copied both ways.
    #[must_use]
    pub fn both_ways(maps: BothWays<'_>, next: SourceOffset) -> Self {
        let goes_on = maps.translate(next);
        Self { found: Ok(goes_on.at), needs_source: true, read_to: Some(goes_on.read_to) }
    }

    /// A place that only the source could tell, or nobody can.
    #[must_use]
    pub fn unknown(reason: Reason) -> Self {
        Self { found: Err(reason), needs_source: true, read_to: None }
    }

    /// A place that the map will tell once the partition is copied.
    #[must_use]
    pub fn not_yet() -> Self {
        Self { found: Err(Reason::NotCopied), needs_source: false, read_to: None }
    }
}

/// Decides on one position of a group. One that is ahead of the copy is put at its end: nothing of the copy is read
/// twice then, and what is copied later is read.
#[must_use]
pub fn decide(found: Result<Translation<TargetOffset>, Reason>, at_target: AtTarget) -> Verdict {
    let (offset, reason) = match found {
        Err(reason) => return Verdict::Leave(reason),
        Ok(Translation::Before(_) | Translation::Foreign(_)) => return Verdict::Leave(Reason::BeforeMap),
        Ok(Translation::Exact(offset)) => (offset, None),
        Ok(Translation::Ahead(offset)) => (offset, Some(Reason::AheadOfCopy)),
        Ok(Translation::Unread(offset)) => (offset, Some(Reason::OwnUnread)),
    };
    match at_target.position {
        Some(there) if there == offset.0 => Verdict::InPlace(offset, reason),
        _ if at_target.active => Verdict::Leave(Reason::ActiveAtTarget),
        Some(there) if there > offset.0 && !at_target.may_go_back => Verdict::Leave(Reason::TargetFurther),
        _ => Verdict::Commit(offset, reason),
    }
}

/// What a group may read again after a failover: from its synced position to the end of the copy, or of the target's log
/// where that held more than settled copies.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReadAgain {
    /// The group.
    pub group: String,
    /// Topic at the target.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The group's position at the source when it was last synced.
    pub source: i64,
    /// The group's position at the target, and so the first offset that may be read again; `None` when it has none
    /// there.
    pub from: Option<i64>,
    /// First target offset that cannot have been read before.
    pub to: i64,
    /// Why it is not the very place at which the group stood at the source.
    pub reason: Option<String>,
}

impl ReadAgain {
    /// How many target offsets that is at most; `None` without a position.
    #[must_use]
    pub fn at_most(&self) -> Option<u64> {
        self.from.map(|from| TargetOffset(self.to).since(TargetOffset(from)))
    }
}

/// A copied partition in which a group had no position when it was last seen, of a topic that it reads: it reads it by
/// its own `auto.offset.reset`, here as there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NotSynced {
    /// The group.
    pub group: String,
    /// Topic at the target.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First target offset that cannot have been read before. What lies below is read again from `earliest` on, as far
    /// as the group had read it, and skipped from `latest` on, as far as it had not.
    pub to: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: Option<i64>) -> AtTarget {
        AtTarget { position, ..AtTarget::default() }
    }

    #[test]
    fn positions_of_idle_groups_move_and_only_forward() {
        let exact = |offset| Ok(Translation::Exact(TargetOffset(offset)));
        let active = AtTarget { active: true, ..AtTarget::default() };
        assert_eq!(decide(exact(7), at(None)), Verdict::Commit(TargetOffset(7), None));
        assert_eq!(decide(exact(0), at(None)), Verdict::Commit(TargetOffset(0), None));
        assert_eq!(decide(exact(7), at(Some(5))), Verdict::Commit(TargetOffset(7), None));
        assert_eq!(decide(exact(7), at(Some(7))), Verdict::InPlace(TargetOffset(7), None));
        assert_eq!(decide(exact(7), at(Some(9))), Verdict::Leave(Reason::TargetFurther));
        let back = AtTarget { may_go_back: true, ..at(Some(9)) };
        assert_eq!(decide(exact(7), back), Verdict::Commit(TargetOffset(7), None));
        assert_eq!(decide(exact(7), active), Verdict::Leave(Reason::ActiveAtTarget));
        let ahead = Ok(Translation::Ahead(TargetOffset(7)));
        let end_of_copy = Some(Reason::AheadOfCopy);
        assert_eq!(decide(ahead, at(None)), Verdict::Commit(TargetOffset(7), end_of_copy));
        assert_eq!(decide(ahead, at(Some(7))), Verdict::InPlace(TargetOffset(7), end_of_copy));
        assert_eq!(decide(ahead, active), Verdict::Leave(Reason::ActiveAtTarget));
        let before = Ok(Translation::Before(TargetOffset(7)));
        assert_eq!(decide(before, at(None)), Verdict::Leave(Reason::BeforeMap));
        assert_eq!(decide(Err(Reason::NotCopied), at(None)), Verdict::Leave(Reason::NotCopied));
        let unread = Ok(Translation::Unread(TargetOffset(7)));
        assert_eq!(decide(unread, at(Some(5))), Verdict::Commit(TargetOffset(7), Some(Reason::OwnUnread)));
        assert_eq!(decide(unread, at(Some(9))), Verdict::Leave(Reason::TargetFurther));
    }
}
