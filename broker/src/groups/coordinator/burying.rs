//! Groups and offsets are forgotten: in memory and, by tombstones, in the log.
//!
//! A tombstone must never stand behind the record of a commit that was acknowledged. So an offset's tombstone is
//! appended under the lock under which it was found to be due, room for it was reserved before, and nothing is due while
//! a commit is under way. For the same reason the topics are looked up under that lock: one that was made since the pass
//! began may have been committed for. A whole group is dead before its first tombstone is written: nothing is appended
//! for it until the last one is committed and its name is free again.

use std::sync::Arc;

use wire::ErrorCode;

use super::writing::{BATCH_BYTES, KeyValue, batch_of};
use super::{Cell, Coordinator, GroupCell};
use crate::error_codes;
use crate::groups::group::{Group, Phase};
use crate::groups::offsets::OffsetKey;
use crate::groups::records::{Key, OffsetValue};
use crate::topics::Topics;

/// What a record adds to the names in a tombstone's key, with some to spare.
const TOMBSTONE_BYTES: usize = 64;

/// Gives the topics as they are at the moment of the call.
type TopicsNow<'a> = &'a (dyn Fn() -> Arc<Topics> + Send + Sync);

/// Which offsets of a group go.
#[derive(Clone, Copy)]
enum Going<'a> {
    /// All, with the group, which is dead.
    All,
    /// Those that have expired, or whose topic is not among these when they are looked at.
    Expired(TopicsNow<'a>),
}

impl Coordinator {
    /// DeleteGroups for one group.
    ///
    /// # Errors
    /// The code to answer.
    pub(crate) async fn delete(self: &Arc<Self>, group: &str) -> Result<(), ErrorCode> {
        self.partition_of(group)?;
        let cell = self.find(group).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        {
            let mut locked = cell.lock();
            // Whoever commits is using the group, and its records may stand in the log without being known here.
            if locked.commits_under_way > 0 {
                return Err(ErrorCode::NON_EMPTY_GROUP);
            }
            locked.group.delete()?;
            self.settle(&mut locked);
        }
        let (coordinator, group) = (Arc::clone(self), group.to_owned());
        let work = async move { coordinator.bury_dead(&group, &cell).await };
        tokio::spawn(work).await.unwrap_or(Err(ErrorCode::UNKNOWN_SERVER_ERROR))
    }

    /// Forgets offsets that have expired, or whose topic is gone, and groups with nothing left.
    pub(crate) async fn expire(self: &Arc<Self>, topics: TopicsNow<'_>) {
        let cells: Vec<_> = self.table().iter().map(|(id, cell)| (id.clone(), Arc::clone(cell))).collect();
        for (id, cell) in cells {
            if let Err(error) = self.expire_group(&id, &cell, topics).await {
                tracing::warn!(
                    group = id,
                    ?error,
                    "expired offsets cannot be recorded as such; they expire again later"
                );
            }
        }
    }

    async fn expire_group(&self, id: &str, cell: &GroupCell, topics: TopicsNow<'_>) -> Result<(), ErrorCode> {
        if self.forget_unformed(id, cell) {
            return Ok(());
        }
        let expires = {
            let locked = cell.lock();
            !self.going(&locked, Going::Expired(topics)).is_empty()
        };
        if expires {
            self.bury_offsets(id, cell, Going::Expired(topics)).await?;
        }
        let forget = {
            let mut locked = cell.lock();
            let is_over = expires || locked.group.generation() > 0;
            let forget = is_over
                && locked.commits_under_way == 0
                && locked.group.is_forgettable()
                && locked.group.delete().is_ok();
            self.settle(&mut locked);
            forget
        };
        if forget { self.bury_dead(id, cell).await } else { Ok(()) }
    }

    /// Forgets a group that never formed: no record of it was ever written, so none has to be taken back. Says whether
    /// it did.
    pub(super) fn forget_unformed(&self, id: &str, cell: &GroupCell) -> bool {
        {
            let mut locked = cell.lock();
            let owes_nothing =
                locked.joins.is_empty() && locked.syncs.is_empty() && locked.commits_under_way == 0;
            if !owes_nothing || !locked.group.is_unformed(self.now_ms()) || locked.group.delete().is_err() {
                return false;
            }
            self.settle(&mut locked);
        }
        self.table().remove(id);
        true
    }

    /// Writes the tombstones of a dead group and frees its name. When they cannot be written the group lives on, with
    /// the offsets that are left.
    async fn bury_dead(&self, id: &str, cell: &GroupCell) -> Result<(), ErrorCode> {
        let buried = self.write_tombstones(id, cell).await;
        match buried {
            Ok(()) => {
                self.table().remove(id);
            }
            Err(_) => cell.lock().group.revive(),
        }
        buried
    }

    async fn write_tombstones(&self, id: &str, cell: &GroupCell) -> Result<(), ErrorCode> {
        self.bury_offsets(id, cell, Going::All).await?;
        let partition = self.partition_of(id)?;
        let batch = batch_of(&[(Key::Group(id.to_owned()).encode(), None)], self.now_ms());
        let appended = partition.append_committed(&batch).await;
        appended.map(|_| ()).map_err(|error| error_codes::of_append(&error))
    }

    async fn bury_offsets(&self, id: &str, cell: &GroupCell, which: Going<'_>) -> Result<(), ErrorCode> {
        let partition = self.partition_of(id)?;
        let mut wanted = BATCH_BYTES;
        loop {
            let room = partition.reserve(wanted).await.map_err(|error| error_codes::of_room(&error))?;
            let appended = {
                let mut locked = cell.lock();
                // Only now: what was due before the wait for room may have been committed anew.
                let keys = first_part(id, self.going(&locked, which));
                if keys.is_empty() {
                    return Ok(());
                }
                let batch = batch_of(&tombstones(id, &keys), self.now_ms());
                if batch.len() > wanted {
                    wanted = batch.len() * 2;
                    continue;
                }
                let appended = partition.append(room, &batch, hotlog::Origin::Internal);
                let appended = appended.map_err(|error| error_codes::of_append(&error.into()))?;
                for key in &keys {
                    locked.group.offsets.remove(key);
                }
                self.count_offsets(&mut locked);
                appended
            };
            let committed = partition.commit(appended.ticket).await;
            committed.map_err(|error| error_codes::of_commit(&error))?;
        }
    }

    fn going(&self, locked: &Cell, which: Going<'_>) -> Vec<OffsetKey> {
        match which {
            Going::All => locked.group.offsets.iter().map(|(key, _)| key.clone()).collect(),
            Going::Expired(_) if locked.commits_under_way > 0 => Vec::new(),
            Going::Expired(topics) => expired_offsets(&locked.group, &topics(), self.now_ms()),
        }
    }
}

/// As many keys as one small batch takes, but at least one.
fn first_part(id: &str, mut keys: Vec<OffsetKey>) -> Vec<OffsetKey> {
    let mut bytes = 0;
    let fits = |(topic, _): &&OffsetKey| {
        bytes += TOMBSTONE_BYTES + id.len() + topic.len();
        bytes < BATCH_BYTES - TOMBSTONE_BYTES
    };
    let count = keys.iter().take_while(fits).count().max(1);
    keys.truncate(count);
    keys
}

fn tombstones(id: &str, keys: &[OffsetKey]) -> Vec<KeyValue> {
    let key = |(topic, number): &OffsetKey| Key::Offset {
        group: id.to_owned(),
        topic: topic.clone(),
        partition: *number,
    };
    keys.iter().map(|of| (key(of).encode(), None)).collect()
}

fn expired_offsets(group: &Group, topics: &Topics, now_ms: i64) -> Vec<OffsetKey> {
    let topic_is_gone = |value: &OffsetValue| value.topic_id.is_some_and(|id| topics.with_id(id).is_none());
    let mut gone: Vec<OffsetKey> =
        group.offsets.iter().filter(|(_, value)| topic_is_gone(value)).map(|(key, _)| key.clone()).collect();
    match (group.phase(), group.protocol_type()) {
        (Phase::Empty, Some(_)) => gone.extend(group.offsets.expired(Some(group.phase_since_ms()), now_ms)),
        (Phase::Empty, None) => gone.extend(group.offsets.expired(None, now_ms)),
        (Phase::Dead, _) => gone.clear(),
        // What a group with members reads is not known here, so nothing of it expires.
        _ => {}
    }
    gone
}
