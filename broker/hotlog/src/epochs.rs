//! The leader-epoch history of a partition: which epoch wrote which offsets.
//!
//! Owns: the rising list of (epoch, first offset) and its bytes.
//! Does not own: who hands out epochs (each start of the directory makes a new one), nor when a cut is durable.
//!
//! Invariants:
//!   A. Epochs and start offsets both rise strictly.
//!   B. An epoch is listed only once it has written a record, so that equal start offsets never meet.
//!
//! Answers are Kafka's (`OffsetForLeaderEpoch`, KIP-101, KIP-279, KIP-320).

use wire::ids::{LeaderEpoch, Offset};

use crate::encoding::{DecodeError, Decoder, put_varint};

/// The most epochs one history keeps. Beyond it the oldest goes first, which makes an old reader truncate
/// further than it must and never less.
pub const MAX_EPOCHS: usize = 65_536;

/// The first offset that an epoch wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The offset of its first record.
    pub start_offset: Offset,
}

/// The end of an epoch, as `OffsetForLeaderEpoch` answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest listed epoch that is not above the one asked for (or that one, where none is listed).
    pub epoch: LeaderEpoch,
    /// The first offset of the next larger epoch, or the log end.
    pub end_offset: Offset,
}

/// Which epoch wrote which offsets, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochHistory {
    entries: Vec<EpochStart>,
}

impl EpochHistory {
    /// Notes that `epoch` writes from `start_offset` on. Repeating the latest epoch changes nothing.
    ///
    /// Entries that contradict the new one (an epoch or a start not below it) are what a longer, divergent log
    /// left behind and go away, as in Kafka.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) {
        if self.latest().is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset) {
            return;
        }
        while self.latest().is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset) {
            self.entries.pop();
        }
        if self.entries.len() == MAX_EPOCHS {
            self.entries.remove(0);
        }
        self.entries.push(EpochStart { epoch, start_offset });
    }

    /// Forgets what was written at or above `end_offset`, the log's new end.
    pub fn truncate_from_end(&mut self, end_offset: Offset) {
        let kept = self.entries.partition_point(|entry| entry.start_offset < end_offset);
        self.entries.truncate(kept);
    }

    /// Forgets what lies below `start_offset`, the log's new start. The epoch that wrote the record there stays,
    /// and now starts there.
    pub fn truncate_from_start(&mut self, start_offset: Offset) {
        let at_or_below = self.entries.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(covering) = at_or_below.checked_sub(1) else { return };
        self.entries.drain(..covering);
        self.entries[0].start_offset = start_offset;
    }

    /// Where `epoch` ends in a log that ends at `log_end`; `None` when the epoch is newer than all listed.
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        let above = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let listed = above.checked_sub(1).map(|index| self.entries[index].epoch);
        match self.entries.get(above) {
            Some(next) => Some(EpochEnd { epoch: listed.unwrap_or(epoch), end_offset: next.start_offset }),
            None if listed == Some(epoch) => Some(EpochEnd { epoch, end_offset: log_end }),
            None => None,
        }
    }

    /// The epoch that wrote `offset`; `None` below the first listed offset.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let at_or_below = self.entries.partition_point(|entry| entry.start_offset <= offset);
        at_or_below.checked_sub(1).map(|index| self.entries[index].epoch)
    }

    /// The newest entry.
    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// Appends the history's bytes: a count, then per entry the steps from the entry before, as varints.
    pub fn encode(&self, target: &mut Vec<u8>) {
        put_varint(target, self.entries.len() as u64);
        let (mut epoch, mut offset) = (0i32, 0i64);
        for entry in &self.entries {
            put_varint(target, u64::from((entry.epoch.0 - epoch).cast_unsigned()));
            put_varint(target, (entry.start_offset.0 - offset).cast_unsigned());
            (epoch, offset) = (entry.epoch.0, entry.start_offset.0);
        }
    }

    /// Reads what [`EpochHistory::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that end early, or that break invariant A.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let count = decoder.count(2, MAX_EPOCHS, "epoch count")?;
        let mut entries = Vec::with_capacity(count);
        let (mut epoch, mut offset) = (0i32, 0i64);
        for index in 0..count {
            let epoch_step = decoder.varint_i32("epoch step")?;
            let offset_step = decoder.varint_i64("epoch start step")?;
            if index > 0 && (epoch_step == 0 || offset_step == 0) {
                return Err(rising("epoch history", 0));
            }
            epoch = epoch.checked_add(epoch_step).ok_or_else(|| rising("epoch step", epoch_step.into()))?;
            offset =
                offset.checked_add(offset_step).ok_or_else(|| rising("epoch start step", offset_step))?;
            entries.push(EpochStart { epoch: LeaderEpoch(epoch), start_offset: Offset(offset) });
        }
        decoder.finish("epoch history")?;
        Ok(Self { entries })
    }
}

fn rising(field: &'static str, value: i64) -> DecodeError {
    DecodeError::Value { field, value: value.into(), rule: "that epochs and offsets rise" }
}

#[cfg(test)]
mod tests;
