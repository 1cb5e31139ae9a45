//! How many batches one progress record lists.
//!
//! Owns: both limits. Does not own: the order of batches, when a record is written (`copier`), its bytes (`map_topic`).

use super::batch::Outgoing;

/// Batches that one progress record lists at most.
pub const MAX_LISTED: usize = 64;
/// Bytes that the listed batches take at most in the record, but for one that alone takes more. The map topic refuses
/// a write above 8 MiB, and the blocks of the offset map travel in the same one.
pub const LISTED_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of an intent without its runs, at most.
const INTENT_FRAME_BYTES: usize = 128;

/// What is left of one record.
#[derive(Debug, Default)]
pub(super) struct Listing {
    batches: usize,
    bytes: usize,
}

impl Listing {
    /// Whether the record lists the next batch too. One that was `sent` may be in the target's log, so it stays listed
    /// whatever it takes.
    pub(super) fn takes(&mut self, batch: &Outgoing, sent: bool) -> bool {
        let first = self.batches == 0;
        self.batches += 1;
        self.bytes += intent_bytes_at_most(batch);
        sent || first || (self.batches <= MAX_LISTED && self.bytes <= LISTED_BYTES)
    }
}

/// Bytes of a batch's intent in the record, by the widest number that its runs can hold: it is asked for at each step,
/// so it does not look at them one by one.
fn intent_bytes_at_most(batch: &Outgoing) -> usize {
    let widest = batch.covers.end.since(batch.covers.start).max(1);
    let digits = widest.ilog10() as usize + 1;
    INTENT_FRAME_BYTES + batch.runs.len() * 2 * (digits + ",".len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::batch::HEADER_BYTES;

    use super::super::batch::{Made, RebuildReason};
    use super::*;
    use crate::offset_map::SourceOffset;

    /// A batch that a log cleaner left every other record of.
    fn thinned(from: i64, records: i64) -> Outgoing {
        let run = |record: i64| (SourceOffset(from + record * 2), 1);
        Outgoing {
            covers: SourceOffset(from)..SourceOffset(from + records * 2),
            source_leader_epoch: i32::MAX,
            runs: (0..records).map(run).collect(),
            records: records as i32,
            header: [0; HEADER_BYTES],
            payload: Bytes::new(),
            made: Made::Rebuilt(RebuildReason::Thinned),
        }
    }

    fn listed(batches: &[Outgoing], sent: bool) -> usize {
        let mut listing = Listing::default();
        batches.iter().take_while(|batch| listing.takes(batch, sent)).count()
    }

    #[test]
    fn an_intent_takes_no_more_than_is_reckoned() {
        for (from, records) in [(0, 1), (i64::MAX / 2, 1), (i64::MAX / 2, 1_000), (7, 50_000)] {
            let batch = thinned(from, records);
            let written = serde_json::to_vec(&batch.intent()).unwrap().len();
            assert!(written <= intent_bytes_at_most(&batch), "{written} of {records} records at {from}");
        }
    }

    #[test]
    fn a_record_ends_at_its_bytes_or_its_count() {
        let small: Vec<_> = (0..100).map(|batch| thinned(batch * 10, 5)).collect();
        assert_eq!(listed(&small, false), MAX_LISTED);
        let large: Vec<_> = (0..100).map(|batch| thinned(batch * 100_000, 50_000)).collect();
        let count = listed(&large, false);
        assert!((1..MAX_LISTED).contains(&count), "{count}");
        let bytes: usize = large[..count].iter().map(intent_bytes_at_most).sum();
        assert!(bytes <= LISTED_BYTES, "{bytes}");
    }

    #[test]
    fn one_batch_is_always_listed_and_what_was_sent_stays_so() {
        let huge: Vec<_> = (0..2).map(|batch| thinned(batch * 1_000_000, 500_000)).collect();
        assert!(intent_bytes_at_most(&huge[0]) > LISTED_BYTES);
        assert_eq!(listed(&huge, false), 1);
        assert_eq!(listed(&huge, true), 2);
    }
}
