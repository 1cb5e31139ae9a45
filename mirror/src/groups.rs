//! Where groups go on at the target.
//!
//! Owns: what becomes of one group's position, and why not when it is not carried over.
//! Does not own: asking either cluster (`flow::group_sync`), the translation (`offset_map`).

use std::fmt;

use crate::offset_map::{TargetOffset, Translation};

/// Why a group's position is not at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The group has members at the target.
    ActiveAtTarget,
    /// The group is beyond what was copied; it follows with the copy.
    AheadOfCopy,
    /// The position is below what the offset map holds.
    BeforeMap,
    /// The target's own position is further on, and is never moved backwards.
    TargetFurther,
    /// The flow does not copy the partition, or does not yet.
    NotCopied,
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
            Self::NotCopied => "the partition is not copied yet",
            Self::Refused => "the target refused the position",
        })
    }
}

/// What to do with one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Commit this, with leader epoch -1.
    Commit(TargetOffset),
    /// The target has it already.
    InPlace(TargetOffset),
    /// Leave it, and say why.
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

/// Decides on one position of a group.
#[must_use]
pub fn decide(translated: Option<Translation<TargetOffset>>, at_target: AtTarget) -> Verdict {
    let exact = match translated {
        None => return Verdict::Leave(Reason::NotCopied),
        Some(Translation::Ahead(_)) => return Verdict::Leave(Reason::AheadOfCopy),
        Some(Translation::Before(_) | Translation::Foreign(_)) => return Verdict::Leave(Reason::BeforeMap),
        Some(Translation::Exact(offset)) => offset,
    };
    match at_target.position {
        Some(there) if there == exact.0 => Verdict::InPlace(exact),
        _ if at_target.active => Verdict::Leave(Reason::ActiveAtTarget),
        Some(there) if there > exact.0 && !at_target.may_go_back => Verdict::Leave(Reason::TargetFurther),
        _ => Verdict::Commit(exact),
    }
}

/// What a group may read again after a failover: from its synced position to the end of the copy.
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
    /// First target offset that may be read again; `None` when the group has no position at the target.
    pub from: Option<i64>,
    /// First target offset that cannot have been read before.
    pub to: i64,
    /// Why there is no position at the target.
    pub reason: Option<String>,
}

impl ReadAgain {
    /// How many target offsets that is at most; `None` without a position.
    #[must_use]
    pub fn at_most(&self) -> Option<u64> {
        self.from.map(|from| TargetOffset(self.to).since(TargetOffset(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: Option<i64>) -> AtTarget {
        AtTarget { position, ..AtTarget::default() }
    }

    #[test]
    fn only_exact_positions_of_idle_groups_move_and_only_forward() {
        let exact = |offset| Some(Translation::Exact(TargetOffset(offset)));
        let active = AtTarget { active: true, ..AtTarget::default() };
        assert_eq!(decide(exact(7), at(None)), Verdict::Commit(TargetOffset(7)));
        assert_eq!(decide(exact(0), at(None)), Verdict::Commit(TargetOffset(0)));
        assert_eq!(decide(exact(7), at(Some(5))), Verdict::Commit(TargetOffset(7)));
        assert_eq!(decide(exact(7), at(Some(7))), Verdict::InPlace(TargetOffset(7)));
        assert_eq!(decide(exact(7), at(Some(9))), Verdict::Leave(Reason::TargetFurther));
        let back = AtTarget { may_go_back: true, ..at(Some(9)) };
        assert_eq!(decide(exact(7), back), Verdict::Commit(TargetOffset(7)));
        assert_eq!(decide(exact(7), active), Verdict::Leave(Reason::ActiveAtTarget));
        let ahead = Some(Translation::Ahead(TargetOffset(7)));
        assert_eq!(decide(ahead, at(None)), Verdict::Leave(Reason::AheadOfCopy));
        let before = Some(Translation::Before(TargetOffset(7)));
        assert_eq!(decide(before, at(None)), Verdict::Leave(Reason::BeforeMap));
        assert_eq!(decide(None, at(None)), Verdict::Leave(Reason::NotCopied));
    }
}
