//! What can happen to a partition that a flow must never pass over in silence.
//!
//! Owns: the kinds, the range and reason each names, and what an operator can do about it.
//! Does not own: noticing them (`copier`, `recovery`, `flow`), keeping them (`map_topic`).
//!
//! The loss policy is `pause`: an event stops its partition, and no other; a later start looks again, and goes
//! on when the cause is gone.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An event and where it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The flow.
    pub flow: String,
    /// The source topic's name.
    pub topic: String,
    /// The partition; `None` for the whole topic.
    pub partition: Option<i32>,
    /// When it was noticed, milliseconds since 1970.
    pub at_ms: i64,
    /// What happened.
    pub kind: EventKind,
}

/// Which end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Where records come from.
    Source,
    /// Where records go.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// The kinds of event. Offsets are the named side's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// Retention or DeleteRecords at the source passed the copy: `from..to` will never be copied.
    SourceTruncated {
        /// First source offset that is lost.
        from: i64,
        /// First source offset that is still there.
        to: i64,
    },
    /// A log ends below what was copied from it, or to it.
    LogShrank {
        /// Which log.
        side: Side,
        /// Where the flow stood.
        position: i64,
        /// Where the log ends now.
        end: i64,
    },
    /// A leader epoch ends below the position: what was copied from it, or to it, was replaced.
    EpochRollback {
        /// Which log.
        side: Side,
        /// The epoch of the last copied record.
        leader_epoch: i32,
        /// Where the flow stood.
        position: i64,
        /// Where that epoch ends now: the last common point.
        common: i64,
    },
    /// The topic is gone.
    TopicDeleted {
        /// At which end.
        side: Side,
    },
    /// The name belongs to another topic now.
    TopicRecreated {
        /// At which end.
        side: Side,
        /// Id of the topic that the flow copied.
        known: String,
        /// Id of the topic that has the name.
        found: String,
    },
    /// The map topic lost its beginning, and with it what the flow remembered of copies that the target still holds.
    MapLost {
        /// First offset of the map topic that is still there.
        map_log_start: i64,
    },
    /// The target's tail holds a batch of this flow that no intent explains, or lacks one that was acknowledged.
    Unmatched {
        /// Target offset of the batch.
        offset: i64,
        /// Source offsets whose fate is unclear.
        from: i64,
        /// The first source offset beyond them.
        to: i64,
        /// What did not fit.
        reason: String,
    },
    /// The target refused a batch for good.
    Refused {
        /// First source offset of the batch.
        from: i64,
        /// First source offset after the batch.
        to: i64,
        /// The target's answer.
        reason: String,
    },
    /// The source sent bytes that are no sound batch.
    CorruptSource {
        /// Source offset at which the flow asked.
        offset: i64,
        /// What is wrong with them.
        reason: String,
    },
    /// The target knows a newer owner.
    Fenced {
        /// The target's answer.
        reason: String,
    },
}

impl EventKind {
    /// Whether offsets at one end are no longer those of the log that was copied, or copied to: what groups have
    /// committed there says nothing of the other end.
    #[must_use]
    pub fn spoils_positions(&self) -> bool {
        match self {
            Self::LogShrank { .. }
            | Self::EpochRollback { .. }
            | Self::TopicDeleted { .. }
            | Self::TopicRecreated { .. }
            | Self::MapLost { .. } => true,
            Self::SourceTruncated { .. }
            | Self::Unmatched { .. }
            | Self::Refused { .. }
            | Self::CorruptSource { .. }
            | Self::Fenced { .. } => false,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SourceTruncated { from, to } => write!(
                f,
                "source offsets {from}..{to} were deleted before they were copied; the flow does not pass over them: copy into \
                 another target topic, and raise the source's retention so that it does not happen again"
            ),
            Self::LogShrank { side, position, end } => {
                write!(
                    f,
                    "the {side} log ends at {end}, below the flow's position {position}: was it restored from a backup? Copy into another target topic"
                )
            }
            Self::EpochRollback { side, leader_epoch, position, common } => write!(
                f,
                "the {side} replaced offsets {common}..{position} of leader epoch {leader_epoch} after they were copied: copy into \
                 another target topic"
            ),
            Self::TopicDeleted { side } => {
                write!(f, "the topic was deleted at the {side}: take it out of the flow's topics")
            }
            Self::TopicRecreated { side, known, found } => {
                write!(
                    f,
                    "the topic was re-created at the {side}: its id was {known} and is {found}; copy it under another name"
                )
            }
            Self::MapLost { map_log_start } => write!(
                f,
                "what the flow remembered of its copies was lost with the target's disk (its map topic begins at offset {map_log_start}), so \
                 going on would copy everything again: copy into another target topic, or delete the target topic and start the flow again"
            ),
            Self::Unmatched { offset, from, to, reason } => write!(
                f,
                "target offset {offset} does not fit the intents of source offsets {from}..{to}: {reason}"
            ),
            Self::Refused { from, to, reason } => {
                write!(f, "the target refused source offsets {from}..{to}: {reason}")
            }
            Self::CorruptSource { offset, reason } => {
                write!(f, "the source sent a damaged batch at offset {offset}: {reason}")
            }
            Self::Fenced { reason } => write!(f, "another owner works on this flow: {reason}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "flow {} paused {}-{partition}: ", self.flow, self.topic)?,
            None => write!(f, "flow {} paused {}: ", self.flow, self.topic)?,
        }
        self.kind.fmt(f)
    }
}
