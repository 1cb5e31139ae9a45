//! Stories told for the order of syncs: each two whose order matters come one after the other somewhere, with nothing between
//! or behind them that would make up for the first.
//!
//! Owns: those stories and the sizes that they rest on. Does not own: which two those are (`mutations`).

use hotlog::limits::SEGMENT_WRITE_BYTES_MIN;
use hotlog::options::FlushMode;
use hotlog::sync_site::SyncSite;

use super::{kill, start};
use crate::life::{Life, Settings, Stuck, topic};
use crate::model::Note;
use crate::recording::RecordingDisk;

/// Segments that take three batches of [`WRITTEN`] bytes, and another of [`KEPT`] bytes no more.
pub const SEGMENT_BYTES: u32 = 64 << 10;

/// A batch of so many bytes is enough for a checkpoint to write it to the segment.
const WRITTEN: usize = SEGMENT_WRITE_BYTES_MIN as usize + 600;

/// A batch of so many bytes is too little for that.
const KEPT: usize = SEGMENT_WRITE_BYTES_MIN as usize - 1_900;

/// What the story of partitions in turn is there for.
pub const REACHES: &[SyncSite] = &[
    SyncSite::SegmentBytes,
    SyncSite::SegmentName,
    SyncSite::SegmentSealed,
    SyncSite::SidecarBytes,
    SyncSite::SidecarName,
    SyncSite::CheckpointAppended,
];

/// What the story of a replacement with segments is there for.
pub const REACHES_WITH_REPLACEMENT: &[SyncSite] = &[
    SyncSite::SegmentBytes,
    SyncSite::SegmentName,
    SyncSite::SegmentSealed,
    SyncSite::SidecarBytes,
    SyncSite::SidecarName,
    SyncSite::CheckpointReplacement,
    SyncSite::CheckpointName,
    SyncSite::CheckpointAppended,
];

fn commit_and_checkpoint(life: &mut Life) -> Result<(), Stuck> {
    life.commit()?;
    life.checkpoint()
}

/// Rolls a segment that has room for `more` batches; so little goes to the next one that no file is made for it.
fn roll(life: &mut Life, number: u8, more: usize) -> Result<(), Stuck> {
    for _ in 0..more {
        life.append(topic(number), WRITTEN)?;
    }
    life.append(topic(number), KEPT).map(drop)
}

/// Checkpoints that do one thing each: so no sync of a partition is made up for by the next sync of its kind.
pub fn partitions_in_turn(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    life.create(topic(4))?;
    // A first segment, then more of it, which makes no name.
    for _ in 0..2 {
        life.append_sequenced(topic(1), 7, WRITTEN)?;
        commit_and_checkpoint(&mut life)?;
    }
    // One partition gets its first segment, then another's is sealed and nothing else written; and so again.
    for (first, sealed, more) in [(2, 1, 1), (3, 2, 2)] {
        life.create(topic(first))?;
        life.append(topic(first), WRITTEN)?;
        commit_and_checkpoint(&mut life)?;
        roll(&mut life, sealed, more)?;
        commit_and_checkpoint(&mut life)?;
    }
    life.append(topic(1), 500)?;
    life.commit()?;
    // A life that finds commits which no checkpoint counts writes, seals and names in its first one.
    let next_id = kill(life);
    let mut life = start(disk, settings, next_id)?;
    roll(&mut life, 3, 2)?;
    life.append(topic(4), WRITTEN)?;
    commit_and_checkpoint(&mut life)?;
    life.append(topic(1), 500)?;
    life.commit()
}

/// Nine partitions of which a checkpoint holds all: after three the file has doubled so often that the fourth replaces it.
fn append_remainders(life: &mut Life, size_bytes: usize) -> Result<(), Stuck> {
    (1..=9).try_for_each(|number| life.append(topic(number), size_bytes).map(drop))
}

/// A checkpoint that replaces the file and counts on new segments, between two that are added to one.
pub fn replaced_with_segments(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    (1..=11).try_for_each(|number| life.create(topic(number)))?;
    life.checkpoint()?;
    append_remainders(&mut life, 12_000)?;
    commit_and_checkpoint(&mut life)?;
    append_remainders(&mut life, 40)?;
    life.append(topic(11), WRITTEN)?;
    commit_and_checkpoint(&mut life)?;
    disk.note(Note::StoryBegins);
    append_remainders(&mut life, 40)?;
    life.append(topic(10), WRITTEN)?;
    life.append(topic(11), WRITTEN)?;
    commit_and_checkpoint(&mut life)?;
    // Replaced by this one: of what is new here, only its own name makes the checkpoint speak.
    life.create(topic(12))?;
    append_remainders(&mut life, 40)?;
    life.append(topic(10), WRITTEN)?;
    life.append(topic(12), WRITTEN)?;
    commit_and_checkpoint(&mut life)?;
    life.create(topic(13))?;
    life.append(topic(12), WRITTEN)?;
    life.append(topic(13), WRITTEN)?;
    commit_and_checkpoint(&mut life)?;
    life.append(topic(1), 500)?;
    life.commit()
}

/// The first checkpoint in flush mode `ack` cuts behind commits of flush mode `os`, which recovery alone made durable.
pub fn ack_after_os(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, Settings { flush: FlushMode::Os, ..settings }, 1)?;
    life.create(topic(1))?;
    for size_bytes in [3_000, 5_000] {
        life.append(topic(1), size_bytes)?;
        life.commit()?;
    }
    let next_id = kill(life);
    let mut life = start(disk, Settings { flush: FlushMode::Ack, ..settings }, next_id)?;
    life.checkpoint()?;
    life.append(topic(1), 500)?;
    life.commit()
}
