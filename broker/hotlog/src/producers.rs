//! What a partition remembers of each idempotent or transactional producer, so that a retry is recognised.
//!
//! Owns: the last five batches per producer, the epoch and sequence rules, open transactions and with them the
//! last stable offset, expiry, and the bytes of all that in checkpoint and sidecar.
//! Does not own: the log (it is told what was appended), the clock, the list of aborted transactions.
//!
//! The rules are Kafka's (KIP-98, KIP-360, `ProducerAppendInfo`), except that a producer expires by the time of
//! its last *append* here, never by the time its records claim, so that old data can be mirrored exactly once.
//!
//! Invariants:
//!   A. State is a function of the appends alone (expiry apart), so that a rebuild equals what was.
//!   B. `slots` are linked in the order of their producers' last use; the oldest goes first when room is needed.
//!   C. A producer with an open transaction is neither expired nor evicted.
//!
//! [`ProducerStates::check`] and [`ProducerStates::record`] stand on the append path: they allocate only when a
//! producer is new to the partition, and skip hashing for the one that appended last.

use std::collections::{BTreeMap, HashMap, VecDeque};

use thiserror::Error;
use wire::ids::{Offset, ProducerEpoch, ProducerId};

use crate::encoding::DecodeError;

mod encoded;
mod slots;

use slots::{NO_SLOT, ProducerSlot, SlotIndex};

/// How many batches of a producer are remembered (Kafka's `NUM_BATCHES_TO_RETAIN`; clients keep at most this
/// many in flight).
pub const RETAINED_BATCHES: usize = 5;

/// The most producers one partition remembers. A new one beyond it takes the place of the one that has been idle
/// longest, as if that one had expired early; checkpoints and sidecars hold no more, so it may grow but not shrink.
pub const MAX_PRODUCERS: usize = 16_384;

/// What a data batch of an idempotent producer says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The producer; not negative.
    pub producer_id: ProducerId,
    /// Its epoch; not negative.
    pub producer_epoch: ProducerEpoch,
    /// The sequence number of the first record; not negative.
    pub base_sequence: i32,
    /// Records in the batch minus one.
    pub last_offset_delta: i32,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
}

impl ProducerBatch {
    /// The sequence number of the last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        let past = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (past & i64::from(i32::MAX)) as i32
    }
}

/// A control marker that ends a producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionMarker {
    /// The producer; not negative.
    pub producer_id: ProducerId,
    /// Its epoch; not negative.
    pub producer_epoch: ProducerEpoch,
    /// The epoch of the transaction coordinator that wrote the marker.
    pub coordinator_epoch: i32,
    /// Whether the transaction was committed (else aborted).
    pub committed: bool,
}

/// Where and when a batch was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedAt {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The broker's time of the append, in milliseconds since 1970.
    pub append_time_ms: i64,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The batch is the producer's next.
    Append,
    /// The batch was appended before: answer with where it is, once that is committed.
    Duplicate {
        /// The offset of its first record.
        base_offset: Offset,
        /// The offset of its last record.
        last_offset: Offset,
        /// When it was appended, in milliseconds since 1970.
        append_time_ms: i64,
    },
}

/// Why a batch or a marker cannot be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProducerError {
    /// Kafka's `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error(
        "producer {producer_id:?} sent sequence {found} where {expected} follows: \
         an earlier batch is missing or too old to be recognised"
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The sequence that would have continued its log.
        expected: i32,
        /// The sequence it sent.
        found: i32,
    },
    /// Kafka's `INVALID_PRODUCER_EPOCH`.
    #[error("producer {producer_id:?} wrote with epoch {found:?}, but {current:?} took over")]
    StaleEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// Its newest epoch.
        current: ProducerEpoch,
        /// The epoch it sent.
        found: ProducerEpoch,
    },
    /// Kafka's `INVALID_TXN_STATE`.
    #[error(
        "producer {producer_id:?} sent a batch outside of its transaction, which is open since {open_since:?}"
    )]
    OutsideTransaction {
        /// The producer.
        producer_id: ProducerId,
        /// The first offset of its open transaction.
        open_since: Offset,
    },
    /// Kafka's `TRANSACTION_COORDINATOR_FENCED`.
    #[error(
        "a marker for producer {producer_id:?} carries coordinator epoch {found}, but {current} took over"
    )]
    StaleCoordinator {
        /// The producer.
        producer_id: ProducerId,
        /// The newest coordinator epoch seen.
        current: i32,
        /// The marker's.
        found: i32,
    },
    /// Every producer that may be remembered has an open transaction.
    #[error(
        "{limit} transactions are open in this partition: end some before producer {producer_id:?} can start"
    )]
    TooManyOpenTransactions {
        /// The producer that was refused.
        producer_id: ProducerId,
        /// The most producers a partition remembers.
        limit: usize,
    },
}

/// A transaction that a marker has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedTransaction {
    /// The producer.
    pub producer_id: ProducerId,
    /// The first offset that the transaction wrote.
    pub first_offset: Offset,
    /// The offset of the marker.
    pub marker_offset: Offset,
    /// Whether it was committed (else aborted).
    pub committed: bool,
    /// The first offset that is still undecided once the marker counts, for the aborted-transaction index.
    pub last_stable_offset: Offset,
}

/// One producer, as `DescribeProducers` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of its last record; `None` when its epoch has written none yet.
    pub last_sequence: Option<i32>,
    /// When it last appended, in milliseconds since 1970.
    pub last_append_time_ms: i64,
    /// The epoch of the coordinator that ended its last transaction, -1 when none has.
    pub coordinator_epoch: i32,
    /// The first offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// The producers of one partition.
#[derive(Clone, Debug)]
pub struct ProducerStates {
    slots: Vec<ProducerSlot>,
    by_id: HashMap<ProducerId, SlotIndex>,
    oldest: SlotIndex,
    newest: SlotIndex,
    vacant: Vec<SlotIndex>,
    limit: usize,
    /// Open transactions by their first offset.
    open: BTreeMap<Offset, ProducerId>,
    /// Ended transactions whose marker lies at or above the high watermark, by marker offset. The journal bounds
    /// it: each took a marker there that is not committed yet.
    undecided: VecDeque<EndedTransaction>,
}

impl Default for ProducerStates {
    fn default() -> Self {
        Self::with_limit(MAX_PRODUCERS)
    }
}

impl ProducerStates {
    fn with_limit(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            by_id: HashMap::new(),
            oldest: NO_SLOT,
            newest: NO_SLOT,
            vacant: Vec::new(),
            limit,
            open: BTreeMap::new(),
            undecided: VecDeque::new(),
        }
    }

    /// Decides about a data batch that a client wants to append. Changes nothing.
    ///
    /// A producer that is not known (new, expired, or its records deleted) may start at any sequence.
    ///
    /// # Errors
    /// A stale epoch, a sequence that does not follow, or a batch outside of the producer's open transaction.
    pub fn check(&self, batch: &ProducerBatch) -> Result<Admission, ProducerError> {
        let Some(slot) = self.find(batch.producer_id) else {
            return self.room_for(batch.producer_id).map(|()| Admission::Append);
        };
        if batch.producer_epoch < slot.producer_epoch {
            return Err(ProducerError::StaleEpoch {
                producer_id: batch.producer_id,
                current: slot.producer_epoch,
                found: batch.producer_epoch,
            });
        }
        let same_epoch = batch.producer_epoch == slot.producer_epoch;
        if same_epoch && let Some(admission) = slot.duplicate_of(batch) {
            return Ok(admission);
        }
        let expected = match slot.last_sequence() {
            Some(last) if same_epoch => last.wrapping_add(1) & i32::MAX,
            _ => 0,
        };
        if batch.base_sequence != expected {
            return Err(ProducerError::OutOfOrderSequence {
                producer_id: batch.producer_id,
                expected,
                found: batch.base_sequence,
            });
        }
        match slot.transaction_start {
            Some(open_since) if !batch.transactional => {
                Err(ProducerError::OutsideTransaction { producer_id: batch.producer_id, open_since })
            }
            _ => Ok(Admission::Append),
        }
    }

    /// Decides about a marker that a coordinator wants to append. Changes nothing.
    ///
    /// # Errors
    /// A stale producer epoch or coordinator epoch.
    pub fn check_marker(&self, marker: &TransactionMarker) -> Result<(), ProducerError> {
        let producer_id = marker.producer_id;
        let Some(slot) = self.find(producer_id) else {
            return self.room_for(producer_id);
        };
        if marker.producer_epoch < slot.producer_epoch {
            return Err(ProducerError::StaleEpoch {
                producer_id,
                current: slot.producer_epoch,
                found: marker.producer_epoch,
            });
        }
        if marker.coordinator_epoch < slot.coordinator_epoch {
            return Err(ProducerError::StaleCoordinator {
                producer_id,
                current: slot.coordinator_epoch,
                found: marker.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Notes a data batch that was appended. It was [checked](Self::check) when it came; on replay of a log it is
    /// taken as the log has it.
    pub fn record(&mut self, batch: &ProducerBatch, at: AppendedAt) {
        let index = self.touch(batch.producer_id);
        let slot = &mut self.slots[index as usize];
        slot.begin_epoch(batch.producer_epoch);
        slot.push_batch(batch, at);
        if batch.transactional && slot.transaction_start.is_none() {
            slot.transaction_start = Some(at.base_offset);
            self.open.insert(at.base_offset, batch.producer_id);
        }
    }

    /// Notes a marker that was appended; says which transaction it ended, if it wrote anything.
    pub fn record_marker(&mut self, marker: &TransactionMarker, at: AppendedAt) -> Option<EndedTransaction> {
        let index = self.touch(marker.producer_id);
        let slot = &mut self.slots[index as usize];
        slot.begin_epoch(marker.producer_epoch);
        slot.coordinator_epoch = slot.coordinator_epoch.max(marker.coordinator_epoch);
        slot.last_append_time_ms = at.append_time_ms;
        let first_offset = slot.transaction_start.take()?;
        self.open.remove(&first_offset);
        let after_marker = Offset(at.base_offset.0 + 1);
        let ended = EndedTransaction {
            producer_id: marker.producer_id,
            first_offset,
            marker_offset: at.base_offset,
            committed: marker.committed,
            last_stable_offset: self.open.keys().next().copied().unwrap_or(after_marker),
        };
        self.undecided.push_back(ended);
        Some(ended)
    }

    /// Forgets ended transactions whose marker lies below `high_watermark`: they no longer hold readers back.
    pub fn advance_high_watermark(&mut self, high_watermark: Offset) {
        while self.undecided.front().is_some_and(|ended| ended.marker_offset < high_watermark) {
            self.undecided.pop_front();
        }
    }

    /// Where a read-committed reader stops: the first offset of a transaction that is open, or whose marker lies
    /// at or above the high watermark; else the high watermark.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        let open = self.open.keys().next().copied();
        let undecided = self.undecided.iter().filter(|ended| ended.marker_offset >= high_watermark);
        let undecided = undecided.map(|ended| ended.first_offset).min();
        [open, undecided].into_iter().flatten().fold(high_watermark, Offset::min)
    }

    /// Forgets producers without an open transaction that have not appended for `expiration_ms`.
    /// Returns how many went. A clock that stepped back expires nobody.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let mut expired = 0;
        let mut next = self.oldest;
        while next != NO_SLOT {
            let index = next;
            let slot = &self.slots[index as usize];
            next = slot.newer;
            let idle_ms = now_ms.saturating_sub(slot.last_append_time_ms);
            if slot.transaction_start.is_none() && idle_ms >= expiration_ms {
                self.remove(index);
                expired += 1;
            }
        }
        expired
    }

    /// All producers, the one that has been idle longest first.
    pub fn iter(&self) -> impl Iterator<Item = ProducerView> + '_ {
        self.slots_oldest_first().map(ProducerSlot::view)
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Appends the bytes of all producers (`FORMAT-SIDECAR.md`, producers). What the high watermark decides is
    /// not in them: whoever decodes them knows that everything below is committed.
    pub fn encode(&self, target: &mut Vec<u8>) {
        encoded::encode(self, target);
    }

    /// Reads what [`ProducerStates::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that end early, hold an impossible value, or name a producer or a transaction twice.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        encoded::decode(bytes)
    }

    fn room_for(&self, producer_id: ProducerId) -> Result<(), ProducerError> {
        if self.open.len() >= self.limit {
            return Err(ProducerError::TooManyOpenTransactions { producer_id, limit: self.limit });
        }
        Ok(())
    }
}

impl PartialEq for ProducerStates {
    /// Equal when they would answer every question alike; where in memory the slots lie does not count.
    fn eq(&self, other: &Self) -> bool {
        self.slots_oldest_first()
            .map(ProducerSlot::facts)
            .eq(other.slots_oldest_first().map(ProducerSlot::facts))
            && self.open == other.open
            && self.undecided == other.undecided
    }
}

impl Eq for ProducerStates {}

#[cfg(test)]
mod tests;
