//! Where a log begins that takes the place of a lost one: behind offsets that were given out before and are not held here.
//!
//! Owns: that description, its bytes in the journal, and what is refused of it. Does not own: when it is applied (`change`), where the
//! offsets below are read from.

use wire::ids::{LeaderEpoch, Offset};

use crate::encoding::{DecodeError, Decoder};
use crate::epochs::EpochHistory;

/// The beginning of a log that has never held a batch.
///
/// Offsets from `log_start` to below `local_start` belong to the log, but their batches lie elsewhere (in a store) or nowhere: reading
/// them gives [`crate::error::ReadError::NotLocal`]. The next batch gets `local_start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBeginning {
    /// The log start: the first offset that may be read, wherever its batch is.
    pub log_start: Offset,
    /// The local log start: the offset that the next record gets.
    pub local_start: Offset,
    /// Which epochs wrote what lies below `local_start`.
    pub epochs: EpochHistory,
}

/// Fixed fields before the epochs.
const FIXED_BYTES: usize = 8;

impl LogBeginning {
    /// A log that starts at `offset`, with nothing below.
    #[must_use]
    pub fn at(offset: Offset) -> Self {
        Self { log_start: offset, local_start: offset, epochs: EpochHistory::default() }
    }

    /// The bytes of room that [`crate::Partition::begin_log`] asks for.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        self.encode().len()
    }

    /// The journal entry's payload; the local start stands in the entry's header.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES);
        bytes.extend_from_slice(&self.log_start.0.to_be_bytes());
        self.epochs.encode(&mut bytes);
        bytes
    }

    /// Reads what [`LogBeginning::encode`] wrote.
    pub(super) fn decode(local_start: Offset, payload: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(payload);
        let log_start = Offset(decoder.i64("log start")?);
        let epochs = EpochHistory::decode(decoder.take(decoder.remaining(), "epochs")?)?;
        Ok(Self { log_start, local_start, epochs })
    }

    /// What is wrong with it, in a directory whose next batches get `leader_epoch`.
    pub(super) fn fault(&self, leader_epoch: LeaderEpoch) -> Option<&'static str> {
        let newest = self.epochs.latest();
        if self.log_start.0 < 0 || self.local_start.0 == i64::MAX {
            Some("its offsets lie outside of 0..i64::MAX")
        } else if self.log_start > self.local_start {
            Some("the log start lies above the local start")
        } else if newest.is_some_and(|newest| newest.start_offset >= self.local_start) {
            Some("an epoch begins at or above the local start")
        } else if newest.is_some_and(|newest| newest.epoch >= leader_epoch) {
            Some(
                "an epoch is not below this start's: open the directory with `start_above` set to the newest one",
            )
        } else {
            None
        }
    }
}
