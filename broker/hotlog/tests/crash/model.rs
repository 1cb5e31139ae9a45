//! What the test asked of the log and learned from it, and what must therefore be true after a crash.
//!
//! Owns: the notes in a recording and the expectation that they add up to.
//! Does not own: comparing it with a recovered log (`check`).

use std::collections::BTreeMap;
use std::sync::Arc;

use hotlog::options::FlushMode;
use hotlog::partition::PartitionId;
use wire::ids::{LeaderEpoch, Offset};

/// The number that a test batch carries in its payload.
pub type BatchId = u64;

/// Whether commits survive the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Crash {
    /// Unsynced changes are kept or lost, each on its own.
    Power,
    /// The process dies; everything it wrote stays visible and is as unsynced as before.
    Kill,
}

/// An idempotent producer's fields in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequenced {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

/// One thing the test did or learned.
#[derive(Clone, Debug)]
pub enum Note {
    /// What came before only set the scene: crashes are tried from here on.
    StoryBegins,
    /// A life is about to begin.
    Opens,
    /// It has begun, in this flush mode.
    Mode(FlushMode),
    /// The batch is about to be appended.
    Begun { id: BatchId, partition: PartitionId, bytes: Arc<[u8]>, sequenced: Option<Sequenced> },
    /// It got a place.
    Placed { id: BatchId, place: Place },
    /// Recovery found it there, and readers may see it.
    Found { id: BatchId, place: Place },
    /// It was acknowledged.
    Acked { id: BatchId },
    /// A reader saw it.
    Served { id: BatchId },
    /// A commit that is synced in every flush mode was acknowledged.
    Synced,
    /// The topic's creation is about to be appended to the metadata / was acknowledged there.
    Create { partition: PartitionId, acked: bool },
    /// The topic's deletion is about to be appended to the metadata / was acknowledged there.
    Delete { partition: PartitionId, acked: bool },
    /// The log start is about to move / has moved.
    LogStart { partition: PartitionId, to: Offset, acked: bool },
    /// The log is about to be cut / has been cut.
    Truncate { partition: PartitionId, to: Offset, acked: bool },
    /// Local copies below are about to be released.
    Release { partition: PartitionId, to: Offset },
    /// Recovery did not find these, as the crash allowed; nobody may ever see them again.
    Lost { ids: Vec<BatchId> },
    /// The log was closed in good order: all that was acknowledged is safe, in every flush mode.
    Closed,
    /// Recovery ended with this epoch; what it found is safe from now on.
    Recovered { epoch: LeaderEpoch },
}

/// Where a batch was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub epoch: LeaderEpoch,
    /// Not known of a batch that was found after a crash.
    pub append_time_ms: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct BatchFact {
    pub partition: PartitionId,
    pub bytes: Arc<[u8]>,
    pub sequenced: Option<Sequenced>,
    pub place: Option<Place>,
    pub acked: bool,
    pub served: bool,
    /// Acknowledged or served, and safe from a power loss.
    pub synced: bool,
    /// Cut away by an acknowledged truncation.
    pub cut: Cut,
}

/// What a truncation did to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    No,
    /// The truncation was under way: the batch may be there or not.
    Perhaps,
    Gone,
}

#[derive(Clone, Debug, Default)]
pub struct PartitionFact {
    pub create_acked: bool,
    pub delete_begun: bool,
    pub delete_acked: bool,
    /// The largest log start asked for.
    pub start_begun: i64,
    /// The largest log start acknowledged.
    pub start_acked: i64,
    /// Local copies below may be gone.
    pub released: i64,
}

/// What must be true of the log after a crash now.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    pub batches: BTreeMap<BatchId, BatchFact>,
    pub partitions: BTreeMap<PartitionId, PartitionFact>,
    pub epoch: i32,
    /// The first batch number never used, also by what is gone.
    pub next_id: BatchId,
    /// Whether what is acknowledged now is safe from a power loss.
    pub acks_are_synced: bool,
    /// Whether the power was lost since the last recovery that ended.
    pub power_was_lost: bool,
    /// Whether the last life ended in good order, and none has begun since.
    pub is_closed: bool,
    /// Whether crashes are tried now.
    pub in_story: bool,
    /// Counts notes, so that states with unequal expectations are told apart.
    pub version: u64,
}

impl Expectation {
    pub fn apply(&mut self, note: &Note) {
        self.version += 1;
        match note {
            Note::Begun { id, partition, bytes, sequenced } => {
                let fact = BatchFact {
                    partition: *partition,
                    bytes: Arc::clone(bytes),
                    sequenced: *sequenced,
                    place: None,
                    acked: false,
                    served: false,
                    synced: false,
                    cut: Cut::No,
                };
                self.batches.insert(*id, fact);
                self.next_id = self.next_id.max(id + 1);
            }
            Note::StoryBegins => self.in_story = true,
            Note::Opens => self.is_closed = false,
            Note::Closed => {
                self.is_closed = true;
                self.settle();
            }
            Note::Mode(flush) => self.acks_are_synced = *flush == FlushMode::Ack,
            Note::Placed { id, place } => self.batch(*id).place = Some(*place),
            Note::Acked { id } => {
                let synced = self.acks_are_synced;
                let fact = self.batch(*id);
                fact.acked = true;
                fact.synced |= synced;
            }
            Note::Served { id } => {
                let synced = self.acks_are_synced;
                let fact = self.batch(*id);
                fact.served = true;
                fact.synced |= synced;
            }
            Note::Found { id, place } => {
                let fact = self.batch(*id);
                fact.place.get_or_insert(*place);
                (fact.served, fact.cut) = (true, Cut::No);
            }
            Note::Synced => self.settle(),
            Note::Create { partition, acked } => self.partition(*partition).create_acked |= acked,
            Note::Delete { partition, acked } => {
                self.partition(*partition).delete_begun = true;
                self.partition(*partition).delete_acked |= acked;
            }
            Note::LogStart { partition, to, acked } => {
                let fact = self.partition(*partition);
                fact.start_begun = fact.start_begun.max(to.0);
                if *acked {
                    fact.start_acked = fact.start_acked.max(to.0);
                }
            }
            Note::Truncate { partition, to, acked } => self.truncate(*partition, *to, *acked),
            Note::Release { partition, to } => {
                let fact = self.partition(*partition);
                fact.released = fact.released.max(to.0);
            }
            Note::Lost { ids } => self.batches.retain(|id, _| !ids.contains(id)),
            Note::Recovered { epoch } => {
                self.epoch = epoch.0;
                self.power_was_lost = false;
                self.settle();
            }
        }
    }

    /// These may be lost without a word.
    pub fn excuse(&mut self, ids: &[BatchId]) {
        for (_, fact) in self.batches.iter_mut().filter(|(id, _)| ids.contains(id)) {
            (fact.acked, fact.served, fact.synced) = (false, false, false);
        }
    }

    /// Anything may be lost; what is there must still be right.
    pub fn excuse_all(&mut self) {
        let all: Vec<_> = self.batches.keys().copied().collect();
        self.excuse(&all);
        for fact in self.partitions.values_mut() {
            (fact.create_acked, fact.delete_acked, fact.start_acked) = (false, false, 0);
        }
    }

    /// The power was lost: what no sync covered may be gone from now on, also when only the process dies next.
    pub fn lose_power(&mut self) {
        for fact in self.batches.values_mut().filter(|fact| !fact.synced) {
            (fact.acked, fact.served) = (false, false);
        }
        self.power_was_lost = true;
    }

    fn settle(&mut self) {
        for fact in self.batches.values_mut() {
            fact.synced |= fact.acked || fact.served;
        }
    }

    fn truncate(&mut self, partition: PartitionId, to: Offset, acked: bool) {
        let reaches = |fact: &&mut BatchFact| {
            fact.partition == partition && fact.place.is_some_and(|place| place.last_offset >= to)
        };
        for fact in self.batches.values_mut().filter(reaches) {
            match (fact.cut, acked) {
                (Cut::No, false) => fact.cut = Cut::Perhaps,
                (Cut::Perhaps, true) => fact.cut = Cut::Gone,
                _ => {}
            }
        }
    }

    fn batch(&mut self, id: BatchId) -> &mut BatchFact {
        self.batches.get_mut(&id).expect("a batch is begun before anything else happens to it")
    }

    pub fn partition(&mut self, id: PartitionId) -> &mut PartitionFact {
        self.partitions.entry(id).or_default()
    }
}
