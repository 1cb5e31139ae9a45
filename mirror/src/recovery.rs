//! What became of the batches whose answer was lost: with the process, with the connection, or in a doubtful answer.
//! And whether both logs still are those that were copied.
//!
//! Owns: the comparison of the target's tail with the intents, whether the copy before it is still there, whether what
//! was read still is at the source, the verdicts.
//! Does not own: waiting until the air is clear, reading the tail and asking for producers and epochs (`flow`).
//!
//! Producer ids are forgotten by the target, so its own duplicate check proves nothing; what stands in its log does.
//! A batch that fits no intent is never explained away: it pauses the partition.

#[cfg(test)]
mod tests;

use wire::batch::sequence_after;

use crate::copier::Producer;
use crate::copier::plan::ReadTo;
use crate::events::{EventKind, Side};
use crate::map_topic::BatchIntent;
use crate::offset_map::{OffsetMap, Position, Provenance, Run, RunOutOfOrder, SourceOffset, TargetOffset};

/// The header of a batch in the target's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailBatch {
    /// Offset of its first record.
    pub base_offset: TargetOffset,
    /// Offsets that it takes, whatever a log cleaner left of them.
    pub offsets: i64,
    /// Leader epoch that stored it.
    pub leader_epoch: i32,
    /// Its producer, epoch and base sequence.
    pub producer: Producer,
}

/// What the target's leader says of the flow's producer id (DescribeProducers), which shows more than a consumer
/// may see: batches below the log's end that are not replicated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownProducer {
    /// Epoch of its last batch.
    pub epoch: i16,
    /// Sequence of its last record.
    pub last_sequence: i32,
}

/// Where a leader epoch ends in the target's log now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub leader_epoch: i32,
    /// The offset after its last record.
    pub end: TargetOffset,
}

/// What should be there.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Where the acknowledged part ends.
    pub position: Position,
    /// Producer of the first intent.
    pub producer: Producer,
    /// Batches that may be there, in order.
    pub intents: &'a [BatchIntent],
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// So many intents arrived, in order; base offset and leader epoch of each. The rest did not.
    Settled(Vec<(TargetOffset, i32)>),
    /// The leader has more than it shows yet: read again.
    NotYetVisible,
    /// The log contradicts the intents.
    Contradicted(EventKind),
}

/// A partition as the owner before left it.
#[derive(Debug)]
pub struct Left {
    /// Its map.
    pub map: OffsetMap,
    /// Producer of the first intent.
    pub producer: Producer,
    /// Batches that may have arrived.
    pub intents: Vec<BatchIntent>,
    /// Leader epoch of the last copied source batch, -1 before the first.
    pub source_epoch: i32,
}

impl Left {
    /// Takes the batches that arrived into the map, under the new owner's generation. What stays in `intents` did
    /// not arrive, and is produced again as `producer`.
    ///
    /// # Errors
    /// A batch that lies below the map's position; `match_tail` never reports one.
    pub fn take_arrived(
        mut self,
        arrived: &[(TargetOffset, i32)],
        provenance: Provenance,
    ) -> Result<Self, RunOutOfOrder> {
        let source_leader_epoch = self.source_epoch;
        self.map.begin_generation(Provenance { source_leader_epoch, ..provenance });
        let done = arrived.len().min(self.intents.len());
        for (intent, (base, target_leader_epoch)) in self.intents.drain(..done).zip(arrived) {
            let (source_leader_epoch, target_leader_epoch) = (intent.epoch, *target_leader_epoch);
            let made_by = Provenance { source_leader_epoch, target_leader_epoch, ..provenance };
            let mut target = *base;
            for (source, length) in intent.source_runs() {
                self.map.record(Run { source, target, length }, made_by)?;
                target = target.plus(length);
            }
            self.map.advance(SourceOffset(intent.to));
            self.producer.sequence = after(self.producer.sequence, &intent);
            self.source_epoch = intent.epoch;
        }
        Ok(self)
    }
}

/// Whether all that was acknowledged, up to `position`, is still in a log that ends at `log_end`; `epoch` is that under
/// which the last batch was acknowledged. A log that lost its end may have grown again: then the epoch ends where the
/// other records begin.
///
/// # Errors
/// The event that names the range.
pub fn expect_copy(
    position: TargetOffset,
    log_end: TargetOffset,
    epoch: Option<EpochEnd>,
) -> Result<(), EventKind> {
    let side = Side::Target;
    match epoch {
        // An epoch that ends where the log does says no more than the log's end.
        Some(EpochEnd { leader_epoch, end }) if end < position.min(log_end) => {
            let (position, common) = (position.0, end.0);
            Err(EventKind::EpochRollback { side, leader_epoch, position, common })
        }
        _ if log_end < position => Err(EventKind::LogShrank { side, position: position.0, end: log_end.0 }),
        _ => Ok(()),
    }
}

/// Whether a batch is the flow's own last one, and ends where the position is: then nothing below the position was
/// replaced. A leader epoch alone may say otherwise, for the epoch that is kept with an acknowledgement is that of the
/// layout, and the target may have been restarted since.
#[must_use]
pub fn is_last_copied(batch: &TailBatch, expected: Expected<'_>) -> bool {
    let next = sequence_after(batch.producer.sequence, i32::try_from(batch.offsets).unwrap_or(0));
    let Producer { id, epoch, sequence } = expected.producer;
    let is_of_this_life = batch.producer.epoch == epoch && next == sequence;
    batch.producer.id == id
        && (is_of_this_life || batch.producer.epoch < epoch)
        && batch.base_offset.0 + batch.offsets == expected.position.target.0
}

/// Where a leader epoch ends in the source's log, as it answers: the greatest epoch that is not above the one asked
/// for, and the offset after its last record; -1 for both when it knows no epoch as high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceEpoch {
    /// The epoch; -1 also from brokers that do not say.
    pub leader_epoch: i32,
    /// Its end.
    pub end: SourceOffset,
}

/// What the source says of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLog {
    /// The first offset there is.
    pub log_start: SourceOffset,
    /// The offset after the last record.
    pub end: SourceOffset,
    /// The epoch of the last batch that was read; `None` where the source keeps no epochs.
    pub epoch: Option<SourceEpoch>,
}

/// Whether all that was read up to `read` is still in the source's log, and whether `next` is in it too.
///
/// # Errors
/// The event that names the range.
pub fn expect_source(next: SourceOffset, read: ReadTo, log: SourceLog) -> Result<(), EventKind> {
    if log.log_start > next {
        return Err(EventKind::SourceTruncated { from: next.0, to: log.log_start.0 });
    }
    match log.epoch.and_then(|found| common_end(read, found)) {
        // An epoch that ends where the log does says no more than the log's end.
        Some(common) if common < log.end => Err(replaced(read, common)),
        _ if log.end < next => {
            Err(EventKind::LogShrank { side: Side::Source, position: next.0, end: log.end.0 })
        }
        Some(common) => Err(replaced(read, common)),
        None => Ok(()),
    }
}

/// Whether all that was read is still there, by what the source says of the epoch of the last batch alone.
///
/// # Errors
/// The event that names the range.
pub fn expect_read(read: ReadTo, found: SourceEpoch) -> Result<(), EventKind> {
    common_end(read, found).map_or(Ok(()), |common| Err(replaced(read, common)))
}

/// The offset up to which the source has what was read; `None` when it has all of it.
fn common_end(read: ReadTo, found: SourceEpoch) -> Option<SourceOffset> {
    let common = match found {
        _ if read.epoch < 0 => return None,
        // It never had a leader of that epoch, or does not know it any more: nothing of it can be there.
        SourceEpoch { end, .. } if end.0 < 0 => read.since,
        // An older epoch in its stead: its end may lie beyond what was read, for another leader may have written more
        // under it (KIP-279). A compacted log whose replica was built anew may lack an epoch of which nothing is left:
        // that looks the same, and pauses as well rather than be guessed at.
        SourceEpoch { leader_epoch, end } if (0..read.epoch).contains(&leader_epoch) => end.min(read.since),
        SourceEpoch { end, .. } => end,
    };
    (common < read.end).then_some(common)
}

fn replaced(read: ReadTo, common: SourceOffset) -> EventKind {
    let ReadTo { epoch: leader_epoch, end, .. } = read;
    EventKind::EpochRollback { side: Side::Source, leader_epoch, position: end.0, common: common.0 }
}

/// Compares the batches from the position to the end of what is visible with what should be there. Batches of other
/// producers are passed over.
#[must_use]
pub fn match_tail(expected: Expected<'_>, tail: &[TailBatch], known: Option<KnownProducer>) -> Verdict {
    let mut arrived = Vec::new();
    let mut sequence = expected.producer.sequence;
    let ours = |batch: &&TailBatch| {
        batch.producer.id == expected.producer.id && batch.base_offset >= expected.position.target
    };
    for batch in tail.iter().filter(ours) {
        if batch.producer.epoch > expected.producer.epoch {
            return fenced(batch.producer.epoch, expected.producer.epoch);
        }
        let intent = expected.intents.get(arrived.len());
        let fits = |intent: &BatchIntent| {
            batch.producer.epoch == expected.producer.epoch
                && batch.producer.sequence == sequence
                && u64::try_from(batch.offsets) == Ok(intent.records())
        };
        if !intent.is_some_and(fits) {
            return Verdict::Contradicted(unmatched(expected, batch, arrived.len()));
        }
        arrived.push((batch.base_offset, batch.leader_epoch));
        sequence = after(sequence, &expected.intents[arrived.len() - 1]);
    }
    match known {
        Some(known) if known.epoch > expected.producer.epoch => fenced(known.epoch, expected.producer.epoch),
        Some(known) if known.epoch == expected.producer.epoch => {
            let mut ends = sequence;
            let unseen = expected.intents[arrived.len()..].iter().any(|intent| {
                ends = after(ends, intent);
                ends == sequence_after(known.last_sequence, 1)
            });
            if unseen { Verdict::NotYetVisible } else { Verdict::Settled(arrived) }
        }
        _ => Verdict::Settled(arrived),
    }
}

/// Whether batches that lie between two that were acknowledged are somebody else's. A request of an owner before may
/// come later than anybody waits, when the target has forgotten the producer: it is then stored twice.
///
/// # Errors
/// The event that names the first batch of `producer_id`.
pub fn expect_foreign(tail: &[TailBatch], producer_id: i64, source: SourceOffset) -> Result<(), EventKind> {
    let Some(batch) = tail.iter().find(|batch| batch.producer.id == producer_id) else { return Ok(()) };
    let reason = format!(
        "{} records of this flow were stored there late and twice: the target had forgotten their producer",
        batch.offsets
    );
    let (from, to) = (source.0, source.0);
    Err(EventKind::Unmatched { offset: batch.base_offset.0, from, to, reason })
}

fn after(sequence: i32, intent: &BatchIntent) -> i32 {
    let records =
        i32::try_from(intent.records()).expect("an intent was checked to hold at most i32::MAX records");
    sequence_after(sequence, records)
}

fn fenced(newer: i16, ours: i16) -> Verdict {
    let reason = format!("its log holds producer epoch {newer}, this owner's is {ours}");
    Verdict::Contradicted(EventKind::Fenced { reason })
}

fn unmatched(expected: Expected<'_>, batch: &TailBatch, arrived: usize) -> EventKind {
    let from = expected.intents.first().map_or(expected.position.source.0, |intent| intent.from);
    let to = expected.intents.last().map_or(expected.position.source.0, |intent| intent.to);
    let Producer { epoch, sequence, .. } = batch.producer;
    let mut seen = expected.producer.sequence;
    let repeated = expected.intents[..arrived].iter().any(|intent| {
        let same = seen == sequence;
        seen = after(seen, intent);
        same
    });
    let reason = if epoch < expected.producer.epoch {
        format!("a replaced owner wrote it with producer epoch {epoch} after it was replaced")
    } else if repeated {
        format!(
            "it repeats sequence {sequence}: the target forgot the producer and took a late request twice"
        )
    } else {
        format!("no intent is at sequence {sequence} with {} records", batch.offsets)
    };
    EventKind::Unmatched { offset: batch.base_offset.0, from, to, reason }
}
