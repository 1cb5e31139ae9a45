//! From fetched source bytes to batches for the target.
//!
//! Owns: what is left out (markers, aborted data, records that came from the target, everything below the start),
//! what passes untouched, what is rebuilt and why, and how batches that may be in the air are cut again exactly as
//! their intents say, how far the log was read and under which leader epoch.
//! Does not own: building the bytes (`copier::rebuild`), when a batch may go (`copier`).

mod read_to;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use bytes::Bytes;
use wire::batch::{
    BatchError, BatchView, ControlRecord, Entries, Entry, Records, TimestampType, TransactionEnd,
};
use wire::compress::Codec;
use wire::ids::ProducerId;

pub use read_to::ReadTo;

use super::batch::{Made, Outgoing, RebuildReason, cleared_header};
use super::rebuild::{self, BuildFault, Piece};
use crate::events::{EventKind, Side};
use crate::map_topic::BatchIntent;
use crate::offset_map::SourceOffset;

/// What the target takes, and what is wanted beyond that.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Largest batch that the target topic takes (`max.message.bytes`).
    pub max_batch_bytes: usize,
    /// Codecs that the target refused.
    pub refused_codecs: Vec<Codec>,
    /// What is written instead of those.
    pub recode_to: Codec,
    /// Joins neighbouring batches up to this size: a far target takes one batch per partition and request.
    pub coalesce_to_bytes: Option<usize>,
    /// How much of one source batch may be decompressed.
    pub decompressed_bytes: usize,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            max_batch_bytes: 1_048_588,
            refused_codecs: Vec::new(),
            recode_to: Codec::Lz4,
            coalesce_to_bytes: None,
            decompressed_bytes: 256 * 1024 * 1024,
        }
    }
}

impl PlanOptions {
    /// The codec in which a batch of `codec` is written.
    #[must_use]
    pub fn codec_for(&self, codec: Codec) -> Codec {
        if self.refused_codecs.contains(&codec) { self.recode_to } else { codec }
    }
}

/// A transaction that was aborted, as a fetch answer lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    /// Offset of its first record.
    pub first_offset: i64,
    /// Its producer.
    pub producer_id: i64,
}

/// A fetch answer up to the last stable offset.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// Batches; the last may be cut short.
    pub bytes: Bytes,
    /// Aborted transactions that reach into them.
    pub aborted: Vec<AbortedTransaction>,
    /// The source's log start when it answered.
    pub log_start: i64,
}

/// What became of a fetch answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// Batches for the target, in order.
    pub batches: Vec<Outgoing>,
    /// First source offset that was not looked at.
    pub covered_to: SourceOffset,
}

/// Why a fetch answer could not be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanFault {
    /// The partition must pause.
    Event(EventKind),
    /// The source no longer has what a batch in the air held, so that batch cannot be made again.
    ReplayDiffers,
}

/// A source batch, or old message, that holds records to copy.
struct Source<'a> {
    entry: Entry<'a>,
    at: usize,
    epoch: i32,
    first: i64,
    last: i64,
}

impl Source<'_> {
    /// Whether its header names another leader epoch; old messages name none.
    fn is_of_another_epoch(&self, epoch: i32) -> bool {
        match &self.entry {
            Entry::Batch(batch) => batch.header().leader_epoch.0 >= 0 && self.epoch != epoch,
            Entry::Message(_) => false,
        }
    }
}

/// Plans one partition, fetch answer after fetch answer.
#[derive(Clone, Debug)]
pub struct Planner {
    next: SourceOffset,
    read: ReadTo,
    replay: VecDeque<BatchIntent>,
    /// What the target takes; may change between calls.
    pub options: PlanOptions,
}

impl Planner {
    /// Plans from `next` on, where the log was read before up to `read`. The batches of `replay` are cut exactly as
    /// they were, before anything else.
    #[must_use]
    pub fn new(next: SourceOffset, read: ReadTo, replay: Vec<BatchIntent>, options: PlanOptions) -> Self {
        Self { next, read, replay: replay.into(), options }
    }

    /// First source offset that was not looked at: where the next fetch starts.
    #[must_use]
    pub fn next(&self) -> SourceOffset {
        self.next
    }

    /// How far the log was read, whatever was planned of it.
    #[must_use]
    pub fn read(&self) -> ReadTo {
        self.read
    }

    /// Leader epoch that wrote what lies before `next`, for the source to compare with its own log; -1 when that is not
    /// known. Where the plan began again lower, the epoch up to which was read before still reaches beyond it.
    #[must_use]
    pub fn last_read_epoch(&self) -> i32 {
        if self.next <= self.read.end { self.read.epoch } else { -1 }
    }

    /// Goes back to `from`; what was in the air is settled.
    pub fn rewind(&mut self, from: SourceOffset) {
        self.next = from;
        self.replay.clear();
    }

    /// Producer ids of the data batches in an answer: those whose provenance has to be known before `plan`.
    #[must_use]
    pub fn producers_in(fetched: &Fetched) -> BTreeSet<ProducerId> {
        let entries = Entries::new(&fetched.bytes).map_while(Result::ok);
        let batches = entries.filter_map(|entry| match entry {
            Entry::Batch(batch) => Some(*batch.header()),
            Entry::Message(_) => None,
        });
        let data = batches.filter(|header| header.has_producer_id() && !header.attributes.is_control());
        data.map(|header| header.producer_id).collect()
    }

    /// Plans an answer. `left_out` tells producer ids whose records came from the target.
    ///
    /// # Errors
    /// [`PlanFault`]; nothing was planned then, and `next` stays.
    pub fn plan(
        &mut self,
        fetched: &Fetched,
        left_out: &dyn Fn(ProducerId) -> bool,
    ) -> Result<Planned, PlanFault> {
        if fetched.log_start > self.next.0 {
            let (from, to) = (self.next.0, fetched.log_start);
            return Err(PlanFault::Event(EventKind::SourceTruncated { from, to }));
        }
        let (sources, surveyed_to, read) = self.survey(fetched, left_out)?;
        let planned = if self.replay.is_empty() {
            self.plan_fresh(fetched, &sources, surveyed_to)?
        } else {
            self.plan_replay(fetched, &sources, surveyed_to)?
        };
        self.next = planned.covered_to;
        self.read = read;
        Ok(planned)
    }

    /// The entries that hold records to copy, how far the answer reaches, and how far the log is read with it.
    fn survey<'a>(
        &self,
        fetched: &'a Fetched,
        left_out: &dyn Fn(ProducerId) -> bool,
    ) -> Result<(Vec<Source<'a>>, i64, ReadTo), PlanFault> {
        let mut aborts = OpenAborts::new(&fetched.aborted);
        let mut sources = Vec::new();
        let mut surveyed_to = self.next.0;
        let mut read = self.read;
        // What is read again may be of older epochs than what was read last.
        let mut epoch = if self.next < self.read.end { -1 } else { self.read.epoch };
        let mut at = 0;
        for entry in Entries::new(&fetched.bytes) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(malformed) if matches!(malformed.error, BatchError::Truncated { .. }) => break,
                Err(malformed) => return Err(self.corrupt(&malformed)),
            };
            let start = at;
            at += entry.bytes().len();
            let (first, last, copied) = match &entry {
                Entry::Message(message) => (self.next.0, message.last_offset().0, true),
                Entry::Batch(batch) => {
                    let header = batch.header();
                    aborts.reach(header.last_offset().0);
                    let copied = self.holds_data(batch, &mut aborts)? && !left_out(header.producer_id);
                    (header.base_offset.0, header.last_offset().0, copied)
                }
            };
            if last < self.next.0 {
                continue;
            }
            if let Entry::Batch(batch) = &entry {
                let found = batch.header().leader_epoch.0;
                if last >= self.read.end.0 && (0..self.read.epoch).contains(&found) {
                    return Err(self.rolled_back());
                }
                if (0..epoch).contains(&found) {
                    return Err(self.corrupt(&format!("leader epoch {found} follows {epoch}")));
                }
                epoch = found.max(epoch);
                read = read.and(found, first..last + 1);
            }
            surveyed_to = last + 1;
            if copied {
                sources.push(Source { entry, at: start, epoch, first, last });
            }
        }
        Ok((sources, surveyed_to, read))
    }

    fn holds_data(&self, batch: &BatchView<'_>, aborts: &mut OpenAborts) -> Result<bool, PlanFault> {
        let header = batch.header();
        if header.attributes.is_control() {
            if aborts.is_open(header.producer_id) && is_abort(batch).map_err(|error| self.corrupt(&error))? {
                aborts.close(header.producer_id);
            }
            return Ok(false);
        }
        let aborted = header.attributes.is_transactional() && aborts.is_open(header.producer_id);
        Ok(header.record_count > 0 && !aborted)
    }

    fn plan_fresh(
        &self,
        fetched: &Fetched,
        sources: &[Source<'_>],
        surveyed_to: i64,
    ) -> Result<Planned, PlanFault> {
        let mut planned = Planned { batches: Vec::with_capacity(sources.len()), covered_to: self.next };
        let mut rest = sources;
        while let Some(first) = rest.first() {
            let joined = self.joined(rest);
            let (group, behind) = rest.split_at(joined);
            rest = behind;
            let to = SourceOffset(group[joined - 1].last + 1);
            let reason = match joined {
                1 => self.rebuild_reason(first),
                _ => Some(RebuildReason::Coalesced),
            };
            match reason {
                None => planned.batches.push(self.pass(fetched, first, planned.covered_to)?),
                Some(reason) => {
                    let covers = planned.covered_to..to;
                    planned.batches.extend(self.rebuild(group, covers, reason)?);
                }
            }
            planned.covered_to = to;
        }
        planned.covered_to = planned.covered_to.max(SourceOffset(surveyed_to));
        Ok(planned)
    }

    /// How many entries go into one batch: one, unless small ones are joined.
    fn joined(&self, sources: &[Source<'_>]) -> usize {
        let Some(most) = self.options.coalesce_to_bytes else { return 1 };
        let most = most.min(self.options.max_batch_bytes);
        let mut bytes = 0;
        let fits = sources.iter().take_while(|source| {
            bytes += source.entry.bytes().len();
            bytes <= most && source.epoch == sources[0].epoch
        });
        fits.count().max(1)
    }

    /// Why an entry cannot pass as it is.
    fn rebuild_reason(&self, source: &Source<'_>) -> Option<RebuildReason> {
        let Entry::Batch(batch) = &source.entry else { return Some(RebuildReason::OldMagic) };
        let header = batch.header();
        if source.first < self.next.0 {
            Some(RebuildReason::Cut)
        } else if !header.is_contiguous() {
            Some(RebuildReason::Thinned)
        } else if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            Some(RebuildReason::LogAppendTime)
        } else if self.options.refused_codecs.contains(&batch.codec()) {
            Some(RebuildReason::Codec)
        } else if header.size_bytes > self.options.max_batch_bytes {
            Some(RebuildReason::TooLarge)
        } else {
            None
        }
    }

    fn pass(
        &self,
        fetched: &Fetched,
        source: &Source<'_>,
        from: SourceOffset,
    ) -> Result<Outgoing, PlanFault> {
        let Entry::Batch(batch) = &source.entry else {
            return Err(self.corrupt(&"an old message cannot pass as it is"));
        };
        let original = batch.bytes().first_chunk().expect("a parsed batch has a whole header");
        let header = cleared_header(original, batch.header()).map_err(|error| self.corrupt(&error))?;
        let payload_at = source.at + original.len();
        let first = SourceOffset(source.first);
        let records = batch.header().record_count;
        Ok(Outgoing {
            covers: from..SourceOffset(source.last + 1),
            source_leader_epoch: source.epoch,
            runs: vec![(first, records.unsigned_abs().into())],
            records,
            header,
            payload: fetched.bytes.slice(payload_at..source.at + batch.bytes().len()),
            made: Made::Passed,
        })
    }

    fn rebuild(
        &self,
        group: &[Source<'_>],
        covers: std::ops::Range<SourceOffset>,
        reason: RebuildReason,
    ) -> Result<Vec<Outgoing>, PlanFault> {
        let piece = Piece {
            entries: group.iter().map(|source| source.entry).collect(),
            covers,
            epoch: group.last().map_or(self.read.epoch, |source| source.epoch),
            reason,
        };
        rebuild::build(&piece, &self.options).map_err(|fault| self.build_fault(fault, &piece))
    }

    /// Cuts the batches in the air again, as many as the answer reaches.
    fn plan_replay(
        &mut self,
        fetched: &Fetched,
        sources: &[Source<'_>],
        surveyed_to: i64,
    ) -> Result<Planned, PlanFault> {
        let mut planned = Planned { batches: Vec::new(), covered_to: self.next };
        let mut done = 0;
        for intent in self.replay.iter().take_while(|intent| intent.to <= surveyed_to) {
            let inside = |source: &&Source<'_>| source.last >= intent.from && source.first < intent.to;
            let group: Vec<&Source<'_>> = sources.iter().filter(inside).collect();
            // The same offsets under another leader: these are other records.
            if group.iter().any(|source| source.is_of_another_epoch(intent.epoch)) {
                return Err(PlanFault::ReplayDiffers);
            }
            let whole = match group.as_slice() {
                [one] if one.first >= intent.from && one.last < intent.to => {
                    self.rebuild_reason(one).is_none()
                }
                _ => false,
            };
            let covers = planned.covered_to..SourceOffset(intent.to);
            let batch = if whole {
                self.pass(fetched, group[0], covers.start)?
            } else {
                let entries = group.iter().map(|source| source.entry).collect();
                let piece = Piece { entries, covers, epoch: intent.epoch, reason: RebuildReason::Cut };
                let built = rebuild::build_whole(&piece, &self.options);
                built.map_err(|fault| self.build_fault(fault, &piece))?.ok_or(PlanFault::ReplayDiffers)?
            };
            if !batch.runs.iter().copied().eq(intent.source_runs()) {
                return Err(PlanFault::ReplayDiffers);
            }
            planned.covered_to = batch.covers.end;
            planned.batches.push(batch);
            done += 1;
        }
        self.replay.drain(..done);
        Ok(planned)
    }

    fn build_fault(&self, fault: BuildFault, piece: &Piece<'_>) -> PlanFault {
        let (from, to) = (piece.covers.start.0, piece.covers.end.0);
        match fault {
            BuildFault::Batch(error) => self.corrupt(&error),
            BuildFault::Records(error) => self.corrupt(&error),
            BuildFault::RecordTooLarge { offset, size_bytes } => PlanFault::Event(EventKind::Refused {
                from,
                to,
                reason: format!(
                    "the record at source offset {offset} alone takes {size_bytes} bytes, above the target's \
                     max.message.bytes of {}: raise it there",
                    self.options.max_batch_bytes
                ),
            }),
        }
    }

    fn corrupt(&self, error: &dyn std::fmt::Display) -> PlanFault {
        PlanFault::Event(EventKind::CorruptSource { offset: self.next.0, reason: error.to_string() })
    }

    /// An older epoch goes on where the last one was read to: this log holds nothing of the last one.
    fn rolled_back(&self) -> PlanFault {
        let ReadTo { epoch: leader_epoch, since, end } = self.read;
        let (position, common) = (end.0, since.0);
        PlanFault::Event(EventKind::EpochRollback { side: Side::Source, leader_epoch, position, common })
    }
}

/// Which producers' transactions are aborted at the place being read.
struct OpenAborts {
    ahead: BinaryHeap<Reverse<AbortedTransaction>>,
    open: BTreeSet<ProducerId>,
}

impl OpenAborts {
    fn new(aborted: &[AbortedTransaction]) -> Self {
        Self { ahead: aborted.iter().copied().map(Reverse).collect(), open: BTreeSet::new() }
    }

    fn reach(&mut self, offset: i64) {
        while self.ahead.peek().is_some_and(|next| next.0.first_offset <= offset) {
            if let Some(Reverse(next)) = self.ahead.pop() {
                self.open.insert(ProducerId(next.producer_id));
            }
        }
    }

    fn is_open(&self, producer: ProducerId) -> bool {
        self.open.contains(&producer)
    }

    fn close(&mut self, producer: ProducerId) {
        self.open.remove(&producer);
    }
}

fn is_abort(batch: &BatchView<'_>) -> Result<bool, String> {
    let mut records = Records::new(batch, 1024);
    let record = records.next_record().map_err(|error| error.to_string())?;
    // A log cleaner keeps the batch of a marker without the marker; the transaction is over either way.
    let Some(record) = record else { return Ok(true) };
    match ControlRecord::parse(&record).map_err(|error| error.to_string())? {
        ControlRecord::End(marker) => Ok(marker.end == TransactionEnd::Abort),
        ControlRecord::Other(_) => Ok(false),
    }
}
