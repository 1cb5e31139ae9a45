//! The work behind the journal: segments are written and sealed, checkpoints made, files of what is gone removed.
//!
//! Owns: the order of those steps, which is what makes a checkpoint safe. Does not own: any format.
//!
//! A checkpoint: take the cut (everything below is committed) and the partitions that changed; note each one's state; commit what
//! is gathered, so that no note says more than the journal; write their segments, sync them and their folders; append the notes and
//! the cut to the checkpoint file and sync it. Only then is the ring below the cut free, and only then are files removed
//! that the notes no longer count on.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;

use crate::checkpoint::{CheckpointFile, Cut, Start};
use crate::error::CommitError;
use crate::health::lock;
use crate::limits;
use crate::partition::persist::{Checkpointed, RecordFor, Snapshot, copy_pieces, length_of};
use crate::partition::{Partition, PartitionId};
use crate::segment::writer::{Failed, SegmentWriter, during};
use crate::shared::Shared;

/// All that only one thread at a time may use.
#[derive(Debug)]
pub(crate) struct Storage {
    shared: Arc<Shared>,
    writer: SegmentWriter,
    checkpoint: CheckpointFile,
    /// The checkpoint that counts.
    cut: Cut,
    /// Whether the next checkpoint replaces the file, however short it is.
    pub(crate) replace_next: bool,
    /// This start, for a file that replaces the present one.
    start: Start,
}

/// Why a checkpoint ended early.
enum Stopped {
    Commit(CommitError),
    Failed(Failed),
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<CommitError> for Stopped {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

/// What a checkpoint did, for measurements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointFigures {
    /// Partitions whose record was written.
    pub partitions: usize,
    /// Whether the file was replaced.
    pub replaced: bool,
    /// The checkpoint file's length afterwards.
    pub file_bytes: u64,
}

type Recorded = (Arc<Partition>, Option<Checkpointed>);

impl Storage {
    pub(crate) fn new(shared: Arc<Shared>, checkpoint: CheckpointFile, cut: Cut, start: Start) -> Self {
        let writer = SegmentWriter::new(Arc::clone(&shared));
        Self { shared, writer, checkpoint, cut, replace_next: false, start }
    }

    /// Writes one partition that has enough for a large write. Returns whether there was one.
    pub(crate) fn write_next(&mut self) -> Result<bool, CommitError> {
        let Some(partition) = lock(&self.shared.queues).to_write.pop_front() else { return Ok(false) };
        partition.unqueue();
        // The last batches may not be committed yet, so half of what called for the write is enough. What is left waits for the next one or
        // a checkpoint: each write costs the device's round trip, however short it is.
        let least_bytes = (self.shared.write_threshold / 2).max(limits::SEGMENT_WRITE_BYTES_MIN);
        let result = self.writer.write(&partition, least_bytes);
        self.settle(result.map(|()| true).map_err(Stopped::Failed))
    }

    /// Removes the files of one deleted partition. Returns whether there was one.
    pub(crate) fn remove_next(&mut self) -> Result<bool, CommitError> {
        let Some(partition) = lock(&self.shared.queues).removed.pop() else { return Ok(false) };
        let result = self.remove(partition);
        self.settle(result.map(|()| true).map_err(Stopped::Failed))
    }

    fn remove(&mut self, partition: PartitionId) -> Result<(), Failed> {
        during(self.checkpoint.put_removed(partition), || self.checkpoint_operation())?;
        self.writer.remove_partition(partition)
    }

    /// Fills the reserve up again, where space was short.
    pub(crate) fn restore_space(&mut self) -> Result<(), CommitError> {
        if !self.shared.space.is_short() {
            return Ok(());
        }
        let result = during(self.shared.space.restore(), || "taking disk space for the reserve".to_owned());
        self.settle(result.map_err(Stopped::Failed))
    }

    /// Makes a checkpoint.
    pub(crate) fn make_checkpoint(
        &mut self,
        all: &[Arc<Partition>],
    ) -> Result<CheckpointFigures, CommitError> {
        let result = self.checkpoint_steps(all);
        self.settle(result)
    }

    /// Writes the last partial blocks too.
    pub(crate) fn write_remainders(&mut self, all: &[Arc<Partition>]) -> Result<(), CommitError> {
        let result = all.iter().try_for_each(|partition| self.writer.write_remainder(partition));
        self.settle(result.map_err(Stopped::Failed))
    }

    /// A failed write or sync takes the directory out of service.
    fn settle<T>(&self, result: Result<T, Stopped>) -> Result<T, CommitError> {
        result.map_err(|stopped| match stopped {
            Stopped::Commit(error) => error,
            Stopped::Failed(failed) => self.shared.poison(&failed.operation, &failed.error).into(),
        })
    }

    fn checkpoint_operation(&self) -> String {
        format!("writing {}", self.checkpoint.path().display())
    }

    fn checkpoint_steps(&mut self, all: &[Arc<Partition>]) -> Result<CheckpointFigures, Stopped> {
        self.shared.journal.commit_all()?;
        let point = self.shared.journal.chain_point();
        // Once closed nothing is placed any more, so that nothing follows this cut.
        let cut = Cut { number: self.cut.number + 1, point, is_stop: self.shared.health.is_closed() };
        self.shared.journal.restart_age(cut.point.position, self.shared.clock.now_ms());
        let changed = {
            let mut queues = lock(&self.shared.queues);
            queues.checkpoint_now = false;
            queues.archiver_waits = false;
            std::mem::take(&mut queues.changed)
        };
        changed.iter().for_each(|partition| partition.unlist());
        let replaces = self.replace_next || self.checkpoint.is_due_for_replacement();
        let operation = self.checkpoint_operation();
        let mut replacement = None;
        if replaces {
            replacement = Some(during(self.checkpoint.start_replacement(), || operation.clone())?);
        }
        let (purpose, partitions) = if replaces {
            // Also those that were made since `all` was looked up.
            let everybody: BTreeMap<PartitionId, &Arc<Partition>> =
                all.iter().chain(&changed).map(|partition| (partition.id(), partition)).collect();
            (RecordFor::Replacing, everybody.into_values().cloned().collect())
        } else {
            (RecordFor::Appending, changed.clone())
        };
        let mut recorded: Vec<Recorded> = Vec::with_capacity(partitions.len());
        for group in partitions.chunks(limits::CHECKPOINT_GROUP) {
            for (partition, record, checkpointed) in self.secure(group, purpose)? {
                let file = replacement.as_mut().unwrap_or(&mut self.checkpoint);
                if let Some(record) = &record {
                    during(file.put_partition(record), || operation.clone())?;
                }
                recorded.push((partition, checkpointed));
            }
        }
        self.writer.sync_folders()?;
        let figures = self.end_checkpoint(replacement, &cut, &recorded)?;
        self.cut = cut;
        self.replace_next = false;
        self.release(recorded, changed, cut)?;
        Ok(figures)
    }

    /// Makes a group's segments durable as far as the records say that goes; returns the records.
    #[allow(clippy::type_complexity, reason = "one row per partition, used in one place")]
    fn secure(
        &mut self,
        group: &[Arc<Partition>],
        purpose: RecordFor,
    ) -> Result<Vec<(Arc<Partition>, Option<Vec<u8>>, Option<Checkpointed>)>, Stopped> {
        let mut snapshots: Vec<Option<Snapshot>> =
            group.iter().map(|partition| partition.snapshot(purpose)).collect();
        self.shared.journal.commit_all()?;
        let mut rows = Vec::with_capacity(group.len());
        for (partition, snapshot) in group.iter().zip(&mut snapshots) {
            let mut snapshot = snapshot.take();
            loop {
                self.writer.write(partition, limits::SEGMENT_WRITE_BYTES_MIN)?;
                match snapshot.take_if(|snapshot| !partition.is_valid(snapshot)) {
                    None => break,
                    // Truncated in between: what it says is no longer there to be written.
                    Some(stale) => partition.discard(stale),
                }
                snapshot = partition.snapshot(purpose);
                self.shared.journal.commit_all()?;
            }
            let (record, checkpointed) = snapshot.map(|snapshot| self.with_remainder(snapshot)).unzip();
            rows.push((Arc::clone(partition), record, checkpointed));
        }
        self.writer.sync_group(group)?;
        Ok(rows)
    }

    fn with_remainder(&self, snapshot: Snapshot) -> (Vec<u8>, Checkpointed) {
        let mut remainder = BytesMut::zeroed(length_of(&snapshot.remainder));
        copy_pieces(&self.shared, &snapshot.remainder, &mut remainder);
        snapshot.finish(remainder.freeze())
    }

    fn end_checkpoint(
        &mut self,
        replacement: Option<CheckpointFile>,
        cut: &Cut,
        recorded: &[Recorded],
    ) -> Result<CheckpointFigures, Failed> {
        let operation = self.checkpoint_operation();
        let replaced = replacement.is_some();
        match replacement {
            Some(mut replacement) => {
                during(replacement.finish_replacement(cut, &self.start), || operation)?;
                self.checkpoint = replacement;
            }
            None => during(self.checkpoint.finish(cut), || operation)?,
        }
        let file_bytes = self.checkpoint.length();
        let target = self.shared.reserve_target(file_bytes);
        during(self.shared.space.set_target(target), || "taking disk space for the reserve".to_owned())?;
        let partitions = recorded.iter().filter(|(_, checkpointed)| checkpointed.is_some()).count();
        Ok(CheckpointFigures { partitions, replaced, file_bytes })
    }

    /// The checkpoint is durable: memory and ring let go of what it has, and files of what it no longer counts on are removed.
    fn release(
        &mut self,
        recorded: Vec<Recorded>,
        changed: Vec<Arc<Partition>>,
        cut: Cut,
    ) -> Result<(), Failed> {
        let mut garbage = Vec::new();
        let recorded_ids: std::collections::BTreeSet<PartitionId> =
            recorded.iter().map(|(partition, _)| partition.id()).collect();
        let others = changed
            .into_iter()
            .filter(|partition| !recorded_ids.contains(&partition.id()))
            .map(|partition| (partition, None));
        for (partition, checkpointed) in recorded.into_iter().chain(others) {
            let bases = partition.checkpointed(checkpointed, cut.point.position);
            if !bases.is_empty() {
                garbage.push((partition.id(), bases));
            }
            // What cannot be listed now is dropped after a later checkpoint.
            drop(partition.drop_below_log_start());
        }
        self.shared.journal.free(cut.point.position, cut.number);
        for (partition, bases) in garbage {
            self.writer.remove_segments(partition, &bases)?;
        }
        Ok(())
    }
}
