//! What was written and where it was acknowledged, to hold every reader against.
//!
//! Owns: the comparisons, as pure data. Does not own: writing and reading.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use client::consumer::ConsumedRecord;

use super::flights::Flight;

/// A place in a topic.
pub(super) type Place = (i32, i64);

/// Records in the places where they were acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    written: BTreeMap<Place, Flight>,
}

impl Ledger {
    /// Notes an acknowledged record; the reason if its place was given out before.
    pub(super) fn note(&mut self, place: Place, flight: Flight) -> Result<(), String> {
        match self.written.insert(place, flight) {
            None => Ok(()),
            Some(_) => {
                Err(format!("two records were acknowledged at partition {}, offset {}", place.0, place.1))
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.written.len()
    }

    pub(super) fn value_bytes(&self) -> u64 {
        self.written.values().map(|flight| flight.value.len() as u64).sum()
    }

    /// The record at a place.
    pub(super) fn at(&self, place: Place) -> Option<&Flight> {
        self.written.get(&place)
    }

    /// The first place after which no record is known, per partition.
    pub(super) fn ends(&self) -> BTreeMap<i32, i64> {
        self.written.keys().map(|(partition, offset)| (*partition, offset + 1)).collect()
    }

    /// Whether a reader saw exactly what was written, at the places where it was acknowledged.
    pub(super) fn is_exactly(&self, read: &[ConsumedRecord]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for record in read {
            let place = (record.partition.partition, record.offset.0);
            if !seen.insert(place) {
                return Err(format!("partition {}, offset {} was read twice", place.0, place.1));
            }
            match self.written.get(&place) {
                Some(flight) if same(flight, record) => {}
                Some(_) => {
                    return Err(format!("partition {}, offset {} holds another record", place.0, place.1));
                }
                None => {
                    return Err(format!("partition {}, offset {} was never acknowledged", place.0, place.1));
                }
            }
        }
        match self.written.keys().find(|place| !seen.contains(place)) {
            None => Ok(()),
            Some((partition, offset)) => Err(format!("partition {partition}, offset {offset} is missing")),
        }
    }

    /// Whether readings that followed each other, maybe of copies with other offsets, gave exactly what was written,
    /// partition by partition in the same order.
    pub(super) fn is_all_of(&self, readings: &[&[ConsumedRecord]]) -> Result<(), String> {
        let partitions: BTreeSet<i32> = self.written.keys().map(|(partition, _)| *partition).collect();
        for partition in partitions {
            let mut read = Vec::new();
            for reading in readings {
                let mut of_partition: Vec<&ConsumedRecord> =
                    reading.iter().filter(|record| record.partition.partition == partition).collect();
                of_partition.sort_by_key(|record| record.offset);
                read.extend(of_partition);
            }
            let written = || {
                self.written.range((partition, i64::MIN)..=(partition, i64::MAX)).map(|(_, flight)| flight)
            };
            if let Some((_, record)) = written().zip(&read).find(|(flight, record)| !same(flight, record)) {
                return Err(format!("partition {partition} differs at offset {} as read", record.offset.0));
            }
            if written().count() != read.len() {
                return Err(format!(
                    "partition {partition}: {} written, {} read",
                    written().count(),
                    read.len()
                ));
            }
        }
        Ok(())
    }

    /// Whether everything that was read stands where it was acknowledged; more may have been written.
    pub(super) fn holds(&self, read: &[ConsumedRecord]) -> Result<(), String> {
        let foreign = read.iter().find(|record| {
            let place = (record.partition.partition, record.offset.0);
            !self.written.get(&place).is_some_and(|flight| same(flight, record))
        });
        foreign.map_or(Ok(()), |record| {
            Err(format!(
                "{}, offset {} is not what was acknowledged there",
                record.partition, record.offset.0
            ))
        })
    }
}

fn same(flight: &Flight, record: &ConsumedRecord) -> bool {
    record.key.as_ref() == Some(&flight.key)
        && record.value.as_ref() == Some(&flight.value)
        && record.timestamp_ms == flight.timestamp_ms
}

/// Whether two readings, the first maybe of another copy, leave nothing out of a copy; gives how many records are in both.
pub(super) fn cover(
    copy: &[ConsumedRecord],
    before: &[ConsumedRecord],
    after: &[ConsumedRecord],
) -> Result<usize, String> {
    let of = |records: &[ConsumedRecord]| records.iter().map(said).collect::<BTreeSet<_>>();
    let (before, after) = (of(before), of(after));
    match copy.iter().find(|record| !before.contains(&said(record)) && !after.contains(&said(record))) {
        None => Ok(before.intersection(&after).count()),
        Some(skipped) => Err(format!("{}, offset {} was skipped", skipped.partition, skipped.offset.0)),
    }
}

/// What makes a flight itself, whatever its offset.
fn said(record: &ConsumedRecord) -> (i64, Option<Bytes>) {
    (record.timestamp_ms, record.value.clone())
}

#[cfg(test)]
mod tests {
    use client::TopicPartition;
    use wire::Offset;

    use super::*;

    fn flight(name: &'static str) -> Flight {
        Flight { key: Bytes::from_static(b"k"), value: Bytes::from(name), timestamp_ms: 7 }
    }

    fn read(place: Place, name: &'static str) -> ConsumedRecord {
        ConsumedRecord {
            partition: TopicPartition::new("flights", place.0),
            offset: Offset(place.1),
            timestamp_ms: 7,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from(name)),
            headers: Vec::new(),
        }
    }

    fn two() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.note((0, 0), flight("a")).unwrap();
        ledger.note((0, 1), flight("b")).unwrap();
        ledger
    }

    #[test]
    fn every_difference_is_found() {
        let ledger = two();
        let (a, b) = (read((0, 0), "a"), read((0, 1), "b"));
        assert_eq!(ledger.is_exactly(&[a.clone(), b.clone()]), Ok(()));
        for (read, expected) in [
            (vec![a.clone()], "is missing"),
            (vec![a.clone(), a.clone(), b.clone()], "twice"),
            (vec![a.clone(), read((0, 1), "c")], "another record"),
            (vec![a.clone(), b.clone(), read((0, 2), "c")], "never acknowledged"),
        ] {
            let found = ledger.is_exactly(&read).unwrap_err();
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn a_copy_may_have_other_offsets_but_no_other_records() {
        let ledger = two();
        let copy = [read((0, 5), "a"), read((0, 9), "b")];
        assert_eq!(ledger.is_all_of(&[&copy]), Ok(()));
        assert_eq!(ledger.is_all_of(&[&[read((0, 0), "a")], &copy[1..]]), Ok(()));
        assert!(ledger.is_all_of(&[&copy[..1], &copy]).is_err());
        assert!(ledger.is_all_of(&[&[read((0, 5), "b"), read((0, 9), "a")]]).is_err());
        assert!(ledger.is_all_of(&[&copy[..1]]).is_err());
    }

    #[test]
    fn a_part_is_held_where_it_was_acknowledged() {
        assert_eq!(two().holds(&[read((0, 1), "b")]), Ok(()));
        assert!(two().holds(&[read((0, 1), "a")]).is_err());
        assert!(two().holds(&[read((0, 2), "a")]).is_err());
    }

    #[test]
    fn what_no_reading_has_is_skipped_and_what_both_have_is_read_again() {
        let copy = [read((0, 5), "a"), read((0, 6), "b"), read((0, 7), "c")];
        let before = [read((0, 0), "a"), read((0, 1), "b")];
        assert_eq!(cover(&copy, &before, &copy[1..]), Ok(1));
        assert_eq!(cover(&copy, &before, &copy[2..]), Ok(0));
        assert!(cover(&copy, &before[..1], &copy[2..]).unwrap_err().contains("offset 6"));
    }

    #[test]
    fn a_place_is_given_once() {
        assert!(two().note((0, 1), flight("c")).is_err());
        assert_eq!(two().ends(), [(0, 2)].into());
    }
}
