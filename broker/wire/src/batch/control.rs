//! Control records: what brokers say to readers between the data (KIP-98).
//!
//! Key: version i16, type i16. Value of a transaction's end: version i16, coordinator epoch i32.
//!
//! Owns: reading them, and writing the mark at a transaction's end.
//! Does not own: which transactions are open (`hotlog::producers`), which batches an abort takes away
//! (`client::isolation`, `mirror::copier::plan`).

use thiserror::Error;

use super::{BatchBuilder, BatchOptions, NewRecord, ProducerFields, Record, SEQUENCE_NONE};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionEnd {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

/// The mark at the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    /// How it ended.
    pub end: TransactionEnd,
    /// Epoch of the coordinator that wrote the mark.
    pub coordinator_epoch: i32,
}

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// A transaction has ended.
    End(EndMarker),
    /// Of a type that readers of data pass over: 2 to 6 belong to Kafka's metadata log.
    Other(i16),
}

/// A control record without sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ControlError {
    /// The key is missing, cut short or of a negative version.
    #[error("key of the control record is malformed")]
    Key,
    /// The value is missing, cut short or of a negative version.
    #[error("value of the control record is malformed")]
    Value,
}

impl ControlRecord {
    /// Reads a record of a control batch. Versions above those known may append fields, which are passed over.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn parse(record: &Record<'_>) -> Result<Self, ControlError> {
        let key = record.key.and_then(|key| key.first_chunk::<4>()).ok_or(ControlError::Key)?;
        if i16::from_be_bytes([key[0], key[1]]) < 0 {
            return Err(ControlError::Key);
        }
        let end = match i16::from_be_bytes([key[2], key[3]]) {
            0 => TransactionEnd::Abort,
            1 => TransactionEnd::Commit,
            other => return Ok(Self::Other(other)),
        };
        let value = record.value.and_then(|value| value.first_chunk::<6>()).ok_or(ControlError::Value)?;
        if i16::from_be_bytes([value[0], value[1]]) < 0 {
            return Err(ControlError::Value);
        }
        let coordinator_epoch = i32::from_be_bytes([value[2], value[3], value[4], value[5]]);
        Ok(Self::End(EndMarker { end, coordinator_epoch }))
    }
}

/// Where and when an [`EndMarker`] is written, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct EndMarkerPlace {
    /// The producer whose transaction ends.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Offset of the mark.
    pub base_offset: Offset,
    /// Epoch of the leader that writes it.
    pub leader_epoch: LeaderEpoch,
}

impl EndMarker {
    /// The control batch that holds the mark.
    #[must_use]
    pub fn batch(&self, place: &EndMarkerPlace) -> Vec<u8> {
        let kind: u8 = match self.end {
            TransactionEnd::Abort => 0,
            TransactionEnd::Commit => 1,
        };
        let epoch = self.coordinator_epoch.to_be_bytes();
        let value = [0, 0, epoch[0], epoch[1], epoch[2], epoch[3]];
        let mut builder = BatchBuilder::new(BatchOptions {
            producer: ProducerFields {
                id: place.producer_id,
                epoch: place.producer_epoch,
                base_sequence: SEQUENCE_NONE,
            },
            transactional: true,
            control: true,
            base_offset: place.base_offset,
            leader_epoch: place.leader_epoch,
            ..BatchOptions::default()
        });
        builder.push(&NewRecord {
            timestamp_ms: place.timestamp_ms,
            key: Some(&[0, 0, 0, kind]),
            value: Some(&value),
            headers: &[],
        });
        builder.build()
    }
}
