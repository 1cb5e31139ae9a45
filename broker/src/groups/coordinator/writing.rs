//! What groups decide becomes records of `__consumer_offsets`.

use std::sync::Arc;

use wire::ErrorCode;
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};

use super::{Coordinator, GroupCell, NewOffset};
use crate::error_codes;
use crate::groups::group::{Caller, Phase};
use crate::groups::memory::Share;
use crate::groups::offsets::GroupOffsets;
use crate::groups::records::Key;
use crate::groups::{MAX_OFFSETS_PER_GROUP, Token};
use crate::partition::{AppendRefused, Partition};

/// One batch of group records stays below this, so that it finds room in any journal.
pub(super) const BATCH_BYTES: usize = 16 << 10;
/// A record to write: key, and value or tombstone.
pub(crate) type KeyValue = (Vec<u8>, Option<Vec<u8>>);

/// What a batch and a key add to a group's record.
const RECORD_ROOM_BYTES: usize = 512;

/// An OffsetCommit under way: whose it is, and where it goes.
struct Commit {
    partition: Arc<Partition>,
    cell: Arc<GroupCell>,
    group: String,
    caller: Caller,
}

impl Coordinator {
    pub(super) async fn persist(self: &Arc<Self>, cell: &Arc<GroupCell>, generation: i32) {
        let written = self.record_group(cell, generation).await;
        let mut locked = cell.lock();
        let actions = locked.group.persisted(generation, written, self.now_ms());
        self.perform(cell, &mut locked, actions);
    }

    pub(super) async fn persist_replacement(
        self: &Arc<Self>,
        cell: &Arc<GroupCell>,
        generation: i32,
        token: Token,
    ) {
        let written = self.record_group(cell, generation).await;
        let mut locked = cell.lock();
        let actions = locked.group.replacement_persisted(token, written, self.now_ms());
        self.perform(cell, &mut locked, actions);
    }

    /// Whether the group's record is durable; why not is logged.
    async fn record_group(&self, cell: &GroupCell, generation: i32) -> bool {
        let written = self.write_group(cell, generation).await;
        if let Err(error) = &written {
            tracing::warn!(group = cell.lock().group.id(), %error, "the group cannot be recorded");
        }
        written.is_ok()
    }

    async fn write_group(&self, cell: &GroupCell, generation: i32) -> Result<(), AppendRefused> {
        let (id, size) = {
            let locked = cell.lock();
            (locked.group.id().to_owned(), locked.group.to_record().encode().len() + RECORD_ROOM_BYTES)
        };
        let Ok(partition) = self.partition_of(&id) else {
            return Err(hotlog::error::CommitError::Closed.into());
        };
        // The group may grow while room is awaited; then the record is written again with what it takes.
        let mut wanted = size * 2;
        loop {
            let room = partition.reserve(wanted).await?;
            let appended = {
                let locked = cell.lock();
                // The record of a dead group would stand behind its tombstone and bring it back.
                if locked.group.generation() != generation || locked.group.phase() == Phase::Dead {
                    return Ok(());
                }
                let record = (Key::Group(id.clone()).encode(), Some(locked.group.to_record().encode()));
                let batch = batch_of(&[record], self.now_ms());
                if batch.len() > wanted {
                    wanted = batch.len() * 2;
                    continue;
                }
                partition.append(room, &batch, hotlog::Origin::Internal)?
            };
            return Ok(partition.commit(appended.ticket).await?);
        }
    }

    /// OffsetCommit: answered once the offsets are committed.
    ///
    /// # Errors
    /// The code to answer for every partition.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        group: &str,
        caller: Caller,
        offsets: Vec<NewOffset>,
    ) -> Result<(), ErrorCode> {
        let partition = self.partition_of(group)?;
        let cell = match self.find(group) {
            Some(cell) => cell,
            // A commit without membership makes a group that only holds offsets.
            None if caller.generation < 0 && caller.member_id.is_empty() => self.find_or_make(group)?,
            None => return Err(ErrorCode::ILLEGAL_GENERATION),
        };
        let commit = Commit { partition, cell, group: group.to_owned(), caller };
        let coordinator = Arc::clone(self);
        let work = async move {
            let outcome = coordinator.commit_now(&commit, offsets).await;
            if outcome.is_err() {
                // A group that was made for a commit which was then refused would stay for ever.
                coordinator.forget_unformed(&commit.group, &commit.cell);
            }
            outcome
        };
        tokio::spawn(work).await.unwrap_or(Err(ErrorCode::UNKNOWN_SERVER_ERROR))
    }

    async fn commit_now(&self, commit: &Commit, offsets: Vec<NewOffset>) -> Result<(), ErrorCode> {
        {
            let mut locked = commit.cell.lock();
            locked.group.check_commit(&commit.caller, self.now_ms())?;
            locked.commits_under_way += 1;
        }
        let outcome = self.commit_chunks(commit, offsets).await;
        commit.cell.lock().commits_under_way -= 1;
        outcome
    }

    async fn commit_chunks(&self, commit: &Commit, offsets: Vec<NewOffset>) -> Result<(), ErrorCode> {
        let Commit { partition, cell, group, caller } = commit;
        for chunk in chunks(offsets) {
            let records: Vec<KeyValue> = chunk
                .iter()
                .map(|NewOffset { key: (topic, number), value }| {
                    let key = Key::Offset { group: group.clone(), topic: topic.clone(), partition: *number };
                    (key.encode(), Some(value.encode()))
                })
                .collect();
            let batch = batch_of(&records, self.now_ms());
            let room = partition.reserve(batch.len()).await.map_err(|error| error_codes::of_room(&error))?;
            let (appended, share) = {
                let mut locked = cell.lock();
                locked.group.check_commit(caller, self.now_ms())?;
                let share = self.share_for_offsets(&locked.group.offsets, &chunk)?;
                let appended = partition.append(room, &batch, hotlog::Origin::Internal);
                (appended.map_err(|error| error_codes::of_append(&error.into()))?, share)
            };
            let committed = partition.commit(appended.ticket).await;
            committed.map_err(|error| error_codes::of_commit(&error))?;
            let mut locked = cell.lock();
            for (at, offset) in (appended.base_offset.0..).zip(chunk) {
                locked.group.offsets.apply(offset.key, offset.value, at);
            }
            self.count_offsets(&mut locked);
            // Given back once the offsets themselves are counted.
            drop(share);
        }
        Ok(())
    }

    /// A share for what offsets add to those that a group holds. What takes the place of another of its size is always
    /// let in, so that at the bounds groups go on with the partitions they have.
    pub(super) fn share_for_offsets(
        &self,
        held: &GroupOffsets,
        chunk: &[NewOffset],
    ) -> Result<Share, ErrorCode> {
        let growth = held.growth(chunk.iter().map(|new| (&new.key, &new.value)));
        let too_many = growth.offsets > 0 && held.len() + growth.offsets > MAX_OFFSETS_PER_GROUP;
        // Clients do not try again after this code: it says that there is too much to keep.
        let share = self.offsets_memory.share(growth.bytes).filter(|_| !too_many);
        share.ok_or(ErrorCode::INVALID_COMMIT_OFFSET_SIZE)
    }
}

/// Splits offsets so that each part fits a small batch.
fn chunks(offsets: Vec<NewOffset>) -> Vec<Vec<NewOffset>> {
    let mut chunks = vec![Vec::new()];
    let mut bytes = 0;
    for offset in offsets {
        let size = 128 + 2 * offset.key.0.len() + offset.value.metadata.len();
        if bytes + size > BATCH_BYTES && bytes > 0 {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = chunks.last_mut() {
            last.push(offset);
        }
    }
    chunks.retain(|chunk| !chunk.is_empty());
    chunks
}

/// The records as one batch.
pub(crate) fn batch_of(records: &[KeyValue], timestamp_ms: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for (key, value) in records {
        builder.push(&NewRecord { timestamp_ms, key: Some(key), value: value.as_deref(), headers: &[] });
    }
    builder.build()
}
