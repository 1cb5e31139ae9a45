//! The memory of [`ProducerStates`]: one slot per producer, linked in the order of last use.
//!
//! Owns: finding a producer, who goes when there is no room, the batches kept of each.
//! Does not own: the rules of epochs and sequences, expiry (`producers`), the bytes (`encoded`).

use wire::ids::{Offset, ProducerEpoch, ProducerId};

use super::{Admission, AppendedAt, ProducerBatch, ProducerStates, ProducerView, RETAINED_BATCHES};

/// Where a slot lies; a `u32` keeps slots small.
pub(super) type SlotIndex = u32;

/// The link at either end.
pub(super) const NO_SLOT: SlotIndex = SlotIndex::MAX;

/// A batch that may be sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RetainedBatch {
    pub(super) last_sequence: i32,
    pub(super) last_offset_delta: i32,
    pub(super) base_offset: i64,
    pub(super) append_time_ms: i64,
}

#[derive(Clone, Debug)]
pub(super) struct ProducerSlot {
    pub(super) producer_id: ProducerId,
    pub(super) producer_epoch: ProducerEpoch,
    pub(super) coordinator_epoch: i32,
    pub(super) transaction_start: Option<Offset>,
    pub(super) last_append_time_ms: i64,
    /// The retained batches, oldest first; the array's rest is zeros.
    pub(super) batches: [RetainedBatch; RETAINED_BATCHES],
    pub(super) batch_count: u8,
    pub(super) older: SlotIndex,
    pub(super) newer: SlotIndex,
}

/// All of a slot that later answers depend on.
pub(super) type SlotFacts<'a> = (ProducerId, ProducerEpoch, i32, Option<Offset>, i64, &'a [RetainedBatch]);

impl ProducerSlot {
    pub(super) fn new(producer_id: ProducerId) -> Self {
        Self {
            producer_id,
            producer_epoch: ProducerEpoch(-1),
            coordinator_epoch: -1,
            transaction_start: None,
            last_append_time_ms: 0,
            batches: [RetainedBatch::default(); RETAINED_BATCHES],
            batch_count: 0,
            older: NO_SLOT,
            newer: NO_SLOT,
        }
    }

    pub(super) fn retained(&self) -> &[RetainedBatch] {
        &self.batches[..usize::from(self.batch_count)]
    }

    pub(super) fn last_sequence(&self) -> Option<i32> {
        self.retained().last().map(|batch| batch.last_sequence)
    }

    pub(super) fn duplicate_of(&self, batch: &ProducerBatch) -> Option<Admission> {
        let last_sequence = batch.last_sequence();
        let same = |kept: &&RetainedBatch| {
            kept.last_sequence == last_sequence && kept.last_offset_delta == batch.last_offset_delta
        };
        // The newest first: a retry is most often of what was just sent.
        self.retained().iter().rev().find(same).map(|kept| Admission::Duplicate {
            base_offset: Offset(kept.base_offset),
            last_offset: Offset(kept.base_offset + i64::from(kept.last_offset_delta)),
            append_time_ms: kept.append_time_ms,
        })
    }

    /// Turns to `epoch`; a new one starts with no batches.
    pub(super) fn begin_epoch(&mut self, epoch: ProducerEpoch) {
        if epoch != self.producer_epoch {
            self.producer_epoch = epoch;
            self.batch_count = 0;
        }
    }

    pub(super) fn push_batch(&mut self, batch: &ProducerBatch, at: AppendedAt) {
        if usize::from(self.batch_count) == RETAINED_BATCHES {
            self.batches.copy_within(1.., 0);
            self.batch_count -= 1;
        }
        self.batches[usize::from(self.batch_count)] = RetainedBatch {
            last_sequence: batch.last_sequence(),
            last_offset_delta: batch.last_offset_delta,
            base_offset: at.base_offset.0,
            append_time_ms: at.append_time_ms,
        };
        self.batch_count += 1;
        self.last_append_time_ms = at.append_time_ms;
    }

    pub(super) fn view(&self) -> ProducerView {
        ProducerView {
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            last_sequence: self.last_sequence(),
            last_append_time_ms: self.last_append_time_ms,
            coordinator_epoch: self.coordinator_epoch,
            transaction_start: self.transaction_start,
        }
    }

    pub(super) fn facts(&self) -> SlotFacts<'_> {
        (
            self.producer_id,
            self.producer_epoch,
            self.coordinator_epoch,
            self.transaction_start,
            self.last_append_time_ms,
            self.retained(),
        )
    }
}

impl ProducerStates {
    pub(super) fn find(&self, producer_id: ProducerId) -> Option<&ProducerSlot> {
        self.index_of(producer_id).map(|index| &self.slots[index as usize])
    }

    fn index_of(&self, producer_id: ProducerId) -> Option<SlotIndex> {
        match self.slots.get(self.newest as usize) {
            Some(slot) if slot.producer_id == producer_id => Some(self.newest),
            _ => self.by_id.get(&producer_id).copied(),
        }
    }

    /// The slot of a producer, made where it is new, and now the newest.
    pub(super) fn touch(&mut self, producer_id: ProducerId) -> SlotIndex {
        match self.index_of(producer_id) {
            Some(index) => {
                if index != self.newest {
                    self.unlink(index);
                    self.link_newest(index);
                }
                index
            }
            None => {
                self.make_room();
                self.insert(ProducerSlot::new(producer_id))
            }
        }
    }

    pub(super) fn insert(&mut self, slot: ProducerSlot) -> SlotIndex {
        let producer_id = slot.producer_id;
        let index = match self.vacant.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as SlotIndex
            }
        };
        self.by_id.insert(producer_id, index);
        self.link_newest(index);
        index
    }

    /// Takes the oldest producer out when the limit is reached. One with an open transaction is passed over and
    /// counts as just used, so that the next search does not meet it again.
    fn make_room(&mut self) {
        if self.by_id.len() < self.limit || self.open.len() >= self.by_id.len() {
            return;
        }
        while self.slots[self.oldest as usize].transaction_start.is_some() {
            let index = self.oldest;
            self.unlink(index);
            self.link_newest(index);
        }
        self.remove(self.oldest);
    }

    pub(super) fn remove(&mut self, index: SlotIndex) {
        self.unlink(index);
        let producer_id = self.slots[index as usize].producer_id;
        self.by_id.remove(&producer_id);
        self.vacant.push(index);
    }

    pub(super) fn slots_oldest_first(&self) -> impl Iterator<Item = &ProducerSlot> {
        std::iter::successors(self.slots.get(self.oldest as usize), |slot| {
            self.slots.get(slot.newer as usize)
        })
    }

    fn unlink(&mut self, index: SlotIndex) {
        let (older, newer) = {
            let slot = &self.slots[index as usize];
            (slot.older, slot.newer)
        };
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    fn link_newest(&mut self, index: SlotIndex) {
        let older = self.newest;
        let slot = &mut self.slots[index as usize];
        (slot.older, slot.newer) = (older, NO_SLOT);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }
}
