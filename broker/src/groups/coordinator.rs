//! Holds all groups and does what their state machines decide.
//!
//! Owns: the table of groups, who waits for which answer, timers, the records in `__consumer_offsets` and their replay,
//! and what leaves the table again (`burying`).
//! Does not own: any decision about a group (`group`), nor the log.
//!
//! What a group decides becomes visible in this order: decided under the group's lock, its record appended under the
//! same lock (so that records stand in the order of the decisions), committed, then answered. What must happen after
//! a commit runs as a task of its own: a client that disconnects cannot leave it half done.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use wire::ErrorCode;

use super::group::{Action, Caller, Group, Join, JoinAnswer, Phase, Sync, SyncAnswer};
use super::memory::{GroupMemory, Share};
use super::offsets::OffsetKey;
use super::records::{GroupValue, OffsetValue};
use super::{MAX_GROUPS, Token, partition_for};
use crate::clock::Clock;
use crate::limits::{COMMITTED_OFFSETS_BYTES, GROUP_MEMORY_BYTES};
use crate::partition::Partition;

mod burying;
mod replay;
mod timers;
pub(crate) mod writing;

/// A group's committed offsets by topic and partition.
pub(crate) type GroupOffsets = Vec<(OffsetKey, OffsetValue)>;

/// How often offsets are looked at for expiry, Kafka's `offsets.retention.check.interval.ms`.
pub(crate) const EXPIRY_INTERVAL: std::time::Duration = std::time::Duration::from_secs(600);

/// One group, with the answers it owes.
#[derive(Debug)]
struct Cell {
    group: Group,
    joins: HashMap<Token, oneshot::Sender<JoinAnswer>>,
    syncs: HashMap<Token, oneshot::Sender<SyncAnswer>>,
    /// What stands in the coordinator's table of timers.
    armed_for_ms: Option<i64>,
    /// OffsetCommits that are neither applied nor refused: their records may stand in the log already, so that nothing
    /// of the group may be forgotten.
    commits_under_way: usize,
    /// What the coordinator's memory counts for this group's members.
    held_bytes: usize,
    /// And for its committed offsets.
    held_offset_bytes: usize,
}

#[derive(Debug)]
struct GroupCell {
    cell: Mutex<Cell>,
}

impl GroupCell {
    fn lock(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a group's records go; `None` while `__consumer_offsets` is not there.
pub(crate) trait OffsetsLog: Send + std::marker::Sync + std::fmt::Debug {
    /// The partition of `__consumer_offsets` with this number.
    fn offsets_partition(&self, number: i32) -> Option<Arc<Partition>>;
}

/// All groups of the broker.
#[derive(Debug)]
pub(crate) struct Coordinator {
    clock: Arc<dyn Clock>,
    log: std::sync::OnceLock<std::sync::Weak<dyn OffsetsLog>>,
    groups: Mutex<HashMap<String, Arc<GroupCell>>>,
    timers: Mutex<BTreeMap<(i64, String), ()>>,
    timers_changed: Notify,
    next_token: AtomicU64,
    loaded: AtomicBool,
    memory: GroupMemory,
    offsets_memory: GroupMemory,
    initial_delay_ms: i64,
    /// Wall time less monotonic time at the start: group time follows the wall clock and never goes back.
    epoch_ms: i64,
}

/// An offset to commit.
#[derive(Clone, Debug)]
pub(crate) struct NewOffset {
    /// Topic name and partition.
    pub(crate) key: OffsetKey,
    /// The value.
    pub(crate) value: OffsetValue,
}

/// What ListGroups shows of a group: nothing of its members.
#[derive(Clone, Debug)]
pub(crate) struct GroupListing {
    /// The group's name.
    pub(crate) id: String,
    /// Where it stands.
    pub(crate) phase: Phase,
    /// What its protocols are for; empty for a group that only holds offsets.
    pub(crate) protocol_type: String,
}

/// What DescribeGroups shows of a group.
#[derive(Clone, Debug)]
pub(crate) struct GroupDescription {
    /// Where it stands.
    pub(crate) phase: Phase,
    /// Its record, which holds the members and shares their metadata and assignments with them.
    pub(crate) record: GroupValue,
}

impl Coordinator {
    /// An empty table. `initial_delay_ms` is Kafka's `group.initial.rebalance.delay.ms`.
    pub(crate) fn new(clock: Arc<dyn Clock>, initial_delay_ms: i64) -> Self {
        let epoch_ms = clock.wall_ms() - clock.monotonic_ms();
        Self {
            clock,
            log: std::sync::OnceLock::new(),
            groups: Mutex::default(),
            timers: Mutex::default(),
            timers_changed: Notify::new(),
            next_token: AtomicU64::new(1),
            loaded: AtomicBool::new(false),
            memory: GroupMemory::bounded(GROUP_MEMORY_BYTES),
            offsets_memory: GroupMemory::bounded(COMMITTED_OFFSETS_BYTES),
            initial_delay_ms,
            epoch_ms,
        }
    }

    /// Says where records go.
    pub(crate) fn connect(&self, log: std::sync::Weak<dyn OffsetsLog>) {
        let _ = self.log.set(log);
    }

    /// Group time, milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.epoch_ms + self.clock.monotonic_ms()
    }

    fn partition_of(&self, group: &str) -> Result<Arc<Partition>, ErrorCode> {
        if group.is_empty() || group.len() > i16::MAX as usize {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        if !self.loaded.load(Ordering::Acquire) {
            return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        }
        let log = self.log.get().and_then(std::sync::Weak::upgrade);
        log.and_then(|log| log.offsets_partition(partition_for(group)))
            .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Arc<GroupCell>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, group: &str) -> Option<Arc<GroupCell>> {
        self.table().get(group).cloned()
    }

    fn find_or_make(&self, group: &str) -> Result<Arc<GroupCell>, ErrorCode> {
        let mut table = self.table();
        if let Some(cell) = table.get(group) {
            return Ok(Arc::clone(cell));
        }
        if table.len() >= MAX_GROUPS {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        let cell = Arc::new(self.new_cell(group));
        table.insert(group.to_owned(), Arc::clone(&cell));
        Ok(cell)
    }

    fn new_cell(&self, group: &str) -> GroupCell {
        GroupCell {
            cell: Mutex::new(Cell {
                group: Group::new(group, self.initial_delay_ms, self.now_ms()),
                joins: HashMap::new(),
                syncs: HashMap::new(),
                armed_for_ms: None,
                commits_under_way: 0,
                held_bytes: 0,
                held_offset_bytes: 0,
            }),
        }
    }

    fn token(&self) -> Token {
        Token(self.next_token.fetch_add(1, Ordering::Relaxed))
    }

    /// A share for the bytes that a JoinGroup or SyncGroup is about to bring in; `None` when groups hold too much.
    pub(crate) fn share_memory(&self, bytes: usize) -> Option<Share> {
        self.memory.share(bytes)
    }

    /// JoinGroup; `join.token` is set here. The share is given back once the group's own bytes are counted.
    pub(crate) async fn join(self: &Arc<Self>, group: &str, mut join: Join, share: Share) -> JoinAnswer {
        let member_id = join.member_id.clone();
        let entered = self.partition_of(group).and_then(|_| match (self.find(group), member_id.is_empty()) {
            (Some(cell), _) => Ok(cell),
            (None, true) => self.find_or_make(group),
            (None, false) => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        });
        let cell = match entered {
            Ok(cell) => cell,
            Err(error) => return JoinAnswer::refused(error, &member_id),
        };
        let (sender, receiver) = oneshot::channel();
        join.token = self.token();
        {
            let mut locked = cell.lock();
            locked.joins.insert(join.token, sender);
            let actions = locked.group.join(join, self.now_ms());
            self.perform(&cell, &mut locked, actions);
        }
        drop(share);
        // A group that was made for a join which it then refused would stay for ever.
        self.forget_unformed(group, &cell);
        receiver
            .await
            .unwrap_or_else(|_| JoinAnswer::refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, &member_id))
    }

    /// SyncGroup; `sync.token` is set here. The share is given back once the group's own bytes are counted.
    pub(crate) async fn sync(self: &Arc<Self>, group: &str, mut sync: Sync, share: Share) -> SyncAnswer {
        let cell = match self.partition_of(group).map(|_| self.find(group)) {
            Ok(Some(cell)) => cell,
            Ok(None) => return SyncAnswer::refused(ErrorCode::UNKNOWN_MEMBER_ID),
            Err(error) => return SyncAnswer::refused(error),
        };
        let (sender, receiver) = oneshot::channel();
        sync.token = self.token();
        {
            let mut locked = cell.lock();
            locked.syncs.insert(sync.token, sender);
            let actions = locked.group.sync(sync, self.now_ms());
            self.perform(&cell, &mut locked, actions);
        }
        drop(share);
        receiver.await.unwrap_or_else(|_| SyncAnswer::refused(ErrorCode::COORDINATOR_NOT_AVAILABLE))
    }

    /// Heartbeat.
    ///
    /// # Errors
    /// The code to answer.
    pub(crate) fn heartbeat(&self, group: &str, caller: &Caller) -> Result<(), ErrorCode> {
        self.partition_of(group)?;
        let cell = self.find(group).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let mut locked = cell.lock();
        locked.group.heartbeat(caller, self.now_ms())
    }

    /// LeaveGroup, for each member in turn.
    ///
    /// # Errors
    /// The code to answer for the whole request.
    pub(crate) fn leave(
        self: &Arc<Self>,
        group: &str,
        members: &[(String, Option<String>)],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        self.partition_of(group)?;
        let Some(cell) = self.find(group) else {
            return Ok(vec![Err(ErrorCode::UNKNOWN_MEMBER_ID); members.len()]);
        };
        let mut locked = cell.lock();
        let mut results = Vec::with_capacity(members.len());
        for (member_id, instance_id) in members {
            let (result, actions) = locked.group.leave(member_id, instance_id.as_deref(), self.now_ms());
            self.perform(&cell, &mut locked, actions);
            results.push(result);
        }
        Ok(results)
    }

    fn perform(self: &Arc<Self>, cell: &Arc<GroupCell>, locked: &mut Cell, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Joined(token, answer) => {
                    if let Some(sender) = locked.joins.remove(&token) {
                        let _ = sender.send(answer);
                    }
                }
                Action::Synced(token, answer) => {
                    if let Some(sender) = locked.syncs.remove(&token) {
                        let _ = sender.send(answer);
                    }
                }
                Action::Persist(generation) => {
                    let (coordinator, cell) = (Arc::clone(self), Arc::clone(cell));
                    tokio::spawn(async move { coordinator.persist(&cell, generation).await });
                }
                Action::PersistReplacement(generation, token) => {
                    let (coordinator, cell) = (Arc::clone(self), Arc::clone(cell));
                    tokio::spawn(async move {
                        coordinator.persist_replacement(&cell, generation, token).await;
                    });
                }
            }
        }
        self.settle(locked);
    }

    /// What follows every change of a group: its bytes are counted anew, and its timer is set.
    fn settle(&self, locked: &mut Cell) {
        let held_bytes = locked.group.held_bytes();
        self.memory.changed(locked.held_bytes, held_bytes);
        locked.held_bytes = held_bytes;
        self.count_offsets(locked);
        self.arm(locked);
    }

    /// What follows every change of a group's committed offsets.
    fn count_offsets(&self, locked: &mut Cell) {
        let held_bytes = locked.group.offsets.held_bytes();
        self.offsets_memory.changed(locked.held_offset_bytes, held_bytes);
        locked.held_offset_bytes = held_bytes;
    }

    /// Looks at a group's offsets.
    ///
    /// # Errors
    /// The code to answer for the group.
    pub(crate) fn with_offsets<T>(
        &self,
        group: &str,
        member: Option<(&str, i32)>,
        look: impl FnOnce(Option<&super::offsets::GroupOffsets>) -> T,
    ) -> Result<T, ErrorCode> {
        self.partition_of(group)?;
        let Some(cell) = self.find(group) else { return Ok(look(None)) };
        let locked = cell.lock();
        if let Some((member_id, epoch)) = member {
            locked.group.check_reader(Some(member_id), epoch)?;
        }
        Ok(look(Some(&locked.group.offsets)))
    }

    /// One group; `None` when there is none.
    ///
    /// # Errors
    /// The code to answer.
    pub(crate) fn describe(&self, group: &str) -> Result<Option<GroupDescription>, ErrorCode> {
        self.partition_of(group)?;
        Ok(self.find(group).map(|cell| {
            let locked = cell.lock();
            GroupDescription { phase: locked.group.phase(), record: locked.group.to_record() }
        }))
    }

    /// All groups, ordered by name.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS until they are loaded.
    pub(crate) fn list(&self) -> Result<Vec<GroupListing>, ErrorCode> {
        if !self.loaded.load(Ordering::Acquire) {
            return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        }
        let cells: Vec<_> = self.table().values().cloned().collect();
        let mut listed: Vec<_> = cells.iter().map(|cell| listed(&cell.lock().group)).collect();
        listed.retain(|group| group.phase != Phase::Dead);
        listed.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(listed)
    }

    /// The committed offsets of all groups.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS until they are loaded.
    pub(crate) fn committed(&self) -> Result<Vec<(String, GroupOffsets)>, ErrorCode> {
        if !self.loaded.load(Ordering::Acquire) {
            return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        }
        let cells: Vec<_> = self.table().iter().map(|(id, cell)| (id.clone(), Arc::clone(cell))).collect();
        let offsets = |cell: &GroupCell| {
            cell.lock().group.offsets.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        Ok(cells.into_iter().map(|(id, cell)| (id, offsets(&cell))).collect())
    }
}

fn listed(group: &Group) -> GroupListing {
    GroupListing {
        id: group.id().to_owned(),
        phase: group.phase(),
        protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests;
