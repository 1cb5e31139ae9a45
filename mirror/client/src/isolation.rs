//! Which batches count for a reader of committed records.
//!
//! Owns: the walk along the list of aborted transactions that comes with each answer to Fetch (KIP-98).
//! Does not own: the level that is asked for (`offsets::Isolation`), which transactions are aborted (the broker
//! says), the bytes of a marker (`wire::batch`).

use std::collections::HashSet;

use wire::api::fetch::AbortedTransaction;
use wire::batch::{BatchView, ControlError, ControlRecord, EndMarker, Records, RecordsError, TransactionEnd};

/// A marker takes some 40 bytes; what claims more is not one.
const MARKER_BUDGET_BYTES: usize = 4 * 1024;

/// Follows one partition's batches through one answer.
#[derive(Debug)]
pub struct AbortedFilter {
    /// By first offset, the last first.
    ahead: Vec<AbortedTransaction>,
    /// Producers in the midst of a transaction that will turn out to be aborted.
    aborted: HashSet<i64>,
}

/// A control batch that says nothing a reader could act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedControl {
    /// Its record cannot be read.
    #[error(transparent)]
    Record(#[from] RecordsError),
    /// It has no record.
    #[error("control batch holds no record")]
    Empty,
    /// Its record is no control record.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl AbortedFilter {
    /// For an answer that came with this list.
    #[must_use]
    pub fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { ahead: aborted, aborted: HashSet::new() }
    }

    /// Whether the batch holds data that counts. Batches must come in their order.
    ///
    /// # Errors
    /// [`MalformedControl`].
    pub fn admits(&mut self, batch: &BatchView<'_>) -> Result<bool, MalformedControl> {
        let header = batch.header();
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= header.last_offset().0) {
            self.aborted.insert(next.producer_id);
        }
        if header.attributes.is_control() {
            if let Some(EndMarker { end: TransactionEnd::Abort, .. }) = end_marker(batch)? {
                self.aborted.remove(&header.producer_id.0);
            }
            return Ok(false);
        }
        Ok(!(header.attributes.is_transactional() && self.aborted.contains(&header.producer_id.0)))
    }
}

/// What a control batch marks; none when it is not the end of a transaction, or when a cleaner has emptied it.
fn end_marker(batch: &BatchView<'_>) -> Result<Option<EndMarker>, MalformedControl> {
    if batch.header().record_count == 0 {
        return Ok(None);
    }
    let mut records = Records::new(batch, MARKER_BUDGET_BYTES);
    let record = records.next_record()?.ok_or(MalformedControl::Empty)?;
    match ControlRecord::parse(&record)? {
        ControlRecord::End(marker) => Ok(Some(marker)),
        ControlRecord::Other(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use wire::batch::{BatchBuilder, BatchOptions, EndMarkerPlace, NewRecord, ProducerFields};
    use wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

    use super::*;

    fn data(producer: i64, base_offset: i64, transactional: bool) -> Vec<u8> {
        let fields = ProducerFields { id: ProducerId(producer), epoch: ProducerEpoch(0), base_sequence: 0 };
        let base_offset = Offset(base_offset);
        let mut builder = BatchBuilder::new(BatchOptions {
            producer: fields,
            transactional,
            base_offset,
            ..Default::default()
        });
        builder.push(&NewRecord::default());
        builder.build()
    }

    fn marker(producer: i64, base_offset: i64, end: TransactionEnd) -> Vec<u8> {
        EndMarker { end, coordinator_epoch: 0 }.batch(&EndMarkerPlace {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            timestamp_ms: 0,
            base_offset: Offset(base_offset),
            leader_epoch: LeaderEpoch(0),
        })
    }

    #[test]
    fn records_of_aborted_transactions_are_left_out_up_to_their_marker() {
        let mut filter = AbortedFilter::new(vec![
            AbortedTransaction { producer_id: 1, first_offset: 5 },
            AbortedTransaction { producer_id: 1, first_offset: 1 },
        ]);
        let batches = [
            (data(1, 0, true), true),
            (data(1, 1, true), false),
            (data(2, 2, true), true),
            (data(1, 3, false), true),
            (marker(1, 4, TransactionEnd::Abort), false),
            (data(1, 5, true), false),
            (marker(1, 6, TransactionEnd::Abort), false),
            (data(1, 7, true), true),
            (marker(1, 8, TransactionEnd::Commit), false),
            (data(1, 9, true), true),
        ];
        for (bytes, admitted) in batches {
            let view = BatchView::only(&bytes).unwrap();
            assert_eq!(filter.admits(&view), Ok(admitted), "at {}", view.header().base_offset);
        }
    }
}
