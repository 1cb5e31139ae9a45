//! The aborted transactions of one segment, which a read-committed reader is told to leave out.
//!
//! Owns: the list, in the order of the markers, its lookup and its bytes.
//! Does not own: which transactions are open (`producers`), nor how answers of several segments are joined.
//!
//! A transaction is listed in the segment that holds its marker (KIP-98; Kafka's `.txnindex`).

use wire::ids::{Offset, ProducerId};

use crate::encoding::{DecodeError, Decoder, put_varint};

/// The most transactions one list holds. A marker takes 78 bytes of its segment, so that even a segment of 64 MiB
/// that held nothing else stays below; a segment rolls before its list is longer ([`AbortedTransactions::is_full`]).
pub const MAX_ABORTED: usize = 1 << 20;

/// One aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: ProducerId,
    /// The first offset that the transaction wrote.
    pub first_offset: Offset,
    /// The offset of the marker that aborted it.
    pub marker_offset: Offset,
    /// The first offset that was still undecided once the marker counted.
    pub last_stable_offset: Offset,
}

/// The aborted transactions of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AbortedTransactions {
    entries: Vec<AbortedTransaction>,
}

impl AbortedTransactions {
    /// Adds the transaction that the segment's newest marker aborted.
    pub fn push(&mut self, aborted: AbortedTransaction) {
        debug_assert!(self.entries.last().is_none_or(|last| last.marker_offset < aborted.marker_offset));
        self.entries.push(aborted);
    }

    /// Whether the segment must roll before another marker is appended to it.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ABORTED
    }

    /// Appends to `found` what a read of `[from, end)` must be told. Returns whether that is all: else a later
    /// segment may hold more.
    pub fn collect(&self, from: Offset, end: Offset, found: &mut Vec<AbortedTransaction>) -> bool {
        let first = self.entries.partition_point(|entry| entry.marker_offset < from);
        for entry in &self.entries[first..] {
            if entry.first_offset < end {
                found.push(*entry);
            }
            // Everything that began below was decided by then, so no later marker can concern the range.
            if entry.last_stable_offset >= end {
                return true;
            }
        }
        false
    }

    /// Forgets transactions whose marker lies at or above `end_offset`, the log's new end.
    pub fn truncate(&mut self, end_offset: Offset) {
        let kept = self.entries.partition_point(|entry| entry.marker_offset < end_offset);
        self.entries.truncate(kept);
    }

    /// All entries, in the order of their markers.
    pub fn entries(&self) -> &[AbortedTransaction] {
        &self.entries
    }

    /// Appends the list's bytes (`FORMAT-SIDECAR.md`, aborted transactions).
    pub fn encode(&self, target: &mut Vec<u8>) {
        put_varint(target, self.entries.len() as u64);
        let mut marker = 0;
        for entry in &self.entries {
            put_varint(target, entry.producer_id.0.cast_unsigned());
            put_varint(target, (entry.marker_offset.0 - marker).cast_unsigned());
            put_varint(target, (entry.marker_offset.0 - entry.first_offset.0).cast_unsigned());
            put_varint(target, (entry.last_stable_offset.0 - entry.first_offset.0).cast_unsigned());
            marker = entry.marker_offset.0;
        }
    }

    /// Reads what [`AbortedTransactions::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that end early, or markers that do not rise.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let count = decoder.count(4, MAX_ABORTED, "aborted transaction count")?;
        let mut entries = Vec::with_capacity(count);
        let mut marker = 0i64;
        for index in 0..count {
            let producer_id = ProducerId(decoder.varint_i64("producer id")?);
            let marker_step = decoder.varint_i64("marker step")?;
            let length = decoder.varint_i64("transaction length")?;
            let stable_step = decoder.varint_i64("last stable step")?;
            let risen = marker.checked_add(marker_step).filter(|_| index == 0 || marker_step > 0);
            marker = risen.ok_or_else(|| misplaced("marker step", marker_step))?;
            let first_offset = marker
                .checked_sub(length)
                .filter(|&first| first >= 0)
                .ok_or_else(|| misplaced("length", length))?;
            let last_stable_offset = first_offset
                .checked_add(stable_step)
                .ok_or_else(|| misplaced("last stable step", stable_step))?;
            entries.push(AbortedTransaction {
                producer_id,
                first_offset: Offset(first_offset),
                marker_offset: Offset(marker),
                last_stable_offset: Offset(last_stable_offset),
            });
        }
        decoder.finish("aborted transactions")?;
        Ok(Self { entries })
    }
}

fn misplaced(field: &'static str, value: i64) -> DecodeError {
    DecodeError::Value { field, value: value.into(), rule: "the order of markers" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn aborted(producer: i64, first: i64, marker: i64, stable: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
            marker_offset: Offset(marker),
            last_stable_offset: Offset(stable),
        }
    }

    fn list(entries: &[AbortedTransaction]) -> AbortedTransactions {
        let mut list = AbortedTransactions::default();
        entries.iter().for_each(|entry| list.push(*entry));
        list
    }

    fn read(list: &AbortedTransactions, from: i64, end: i64) -> (Vec<i64>, bool) {
        let mut found = Vec::new();
        let complete = list.collect(Offset(from), Offset(end), &mut found);
        (found.iter().map(|entry| entry.producer_id.0).collect(), complete)
    }

    #[test]
    fn a_read_is_told_of_the_transactions_it_touches() {
        let list = list(&[aborted(1, 0, 10, 5), aborted(2, 5, 12, 13), aborted(3, 20, 25, 26)]);
        assert_eq!(read(&list, 0, 6), (vec![1, 2], true));
        assert_eq!(read(&list, 10, 11), (vec![1, 2], true));
        assert_eq!(read(&list, 11, 20), (vec![2], true));
        assert_eq!(read(&list, 11, 13), (vec![2], true));
        assert_eq!(read(&list, 13, 20), (vec![], true));
        assert_eq!(read(&list, 24, 40), (vec![3], false));
        assert_eq!(read(&list, 30, 40), (vec![], false));
    }

    #[test]
    fn truncation_forgets_by_marker() {
        let mut all = list(&[aborted(1, 0, 10, 5), aborted(2, 5, 12, 13)]);
        all.truncate(Offset(12));
        assert_eq!(all, list(&[aborted(1, 0, 10, 5)]));
    }

    proptest! {
        #[test]
        fn bytes_come_back(parts in prop::collection::vec((0..i64::MAX, 1..100i64, 0..50i64, 0..50i64), 0..20)) {
            let mut marker = 100;
            let entries: Vec<_> = parts.into_iter().map(|(producer, step, length, stable)| {
                marker += step;
                aborted(producer, marker - length, marker, marker - length + stable)
            }).collect();
            let list = list(&entries);
            let mut bytes = Vec::new();
            list.encode(&mut bytes);
            prop_assert_eq!(AbortedTransactions::decode(&bytes), Ok(list));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(list) = AbortedTransactions::decode(&bytes) {
                prop_assert!(list.entries().windows(2).all(|pair| pair[0].marker_offset < pair[1].marker_offset));
            }
        }
    }
}
