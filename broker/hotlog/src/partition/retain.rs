//! Sealed segments: which there are, their sidecars, and letting go of them.
//!
//! Owns: the list below the active segment, read from the folder when first asked for, and the choice of what goes.
//! Does not own: the decisions' rules (`retention`), the removal of files: a segment that is let go leaves its name behind until a
//! checkpoint no longer counts on it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use wire::ids::Offset;

use super::state::PartitionState;
use super::{FileRange, Partition, PartitionId, SealedSegment};
use crate::disk::OpenHow;
use crate::error::StorageError;
use crate::health::lock;
use crate::retention::{
    self, CleanupPolicy, Expired, LargePass, Limits, Pass, PassTime, RetentionAlarm, SealedFacts,
};
use crate::segment::{self, SealedMeta};
use crate::sidecar::{MAX_SIDECAR_BYTES, Sidecar};

/// Proof that the store durably holds every batch of a partition below an offset: the manifest that names them is committed.
///
/// Made by tiering's manifest committer and by nobody else; a test over the sources sees to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    partition: PartitionId,
    below: Offset,
}

impl Committed {
    /// For the manifest committer only, after its commit.
    #[must_use]
    pub fn by_manifest(partition: PartitionId, below: Offset) -> Self {
        Self { partition, below }
    }

    /// The partition that the proof is about.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// One past the last offset that the store holds.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.below
    }
}

/// What a pass over a partition's segments goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPass {
    /// The topic's policy.
    pub policy: CleanupPolicy,
    /// The limits that apply.
    pub limits: Limits,
    /// The clocks.
    pub time: PassTime,
}

impl Partition {
    /// The sealed segments whose bytes are below the checkpoint's cut, oldest first, from the one that holds `from` on.
    /// Where others wait to get there, the next checkpoint comes within about a second. May read the folder and sidecars: blocks on the disk.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn sealed_segments(&self, from: Offset) -> Result<Vec<SealedSegment>, StorageError> {
        self.safe_metas(from)?.iter().map(|meta| self.sealed_segment(meta)).collect()
    }

    /// Where [`Partition::sealed_segments`] are, with none of them opened and no sidecar read: the first offset of each, that of the
    /// segment behind it, and its size in bytes. Where there is a hole behind a segment, its own end lies before what is said here.
    /// Reads the folder when asked first: blocks on the disk.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn sealed_ranges(&self, from: Offset) -> Result<Vec<(Offset, Offset, u64)>, StorageError> {
        let range = |meta: SealedMeta| (meta.base_offset, meta.next_offset, meta.size_bytes);
        Ok(self.safe_metas(from)?.into_iter().map(range).collect())
    }

    /// The sealed segments from the one that holds `from` on whose bytes are below the checkpoint's cut. The next checkpoint hears of it
    /// when others wait to get there.
    fn safe_metas(&self, from: Offset) -> Result<Vec<SealedMeta>, StorageError> {
        let (mut metas, safe_below) = self.sealed_and(from, |state| state.sealed.checkpointed_base)?;
        if metas.last().is_some_and(|newest| newest.next_offset > safe_below) {
            lock(&self.shared.queues).archiver_waits = true;
        }
        metas.retain(|meta| meta.next_offset <= safe_below);
        Ok(metas)
    }

    /// The end of what is sealed and below the checkpoint's cut. Where no file has an offset below it, that file is missing.
    #[must_use]
    pub fn sealed_end(&self) -> Offset {
        lock(&self.state).sealed.checkpointed_base
    }

    /// The first of [`Partition::sealed_segments`] that ends behind `from`, with no other file opened: who walks over a long log, or
    /// over many, does so one segment at a time. Blocks on the disk.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn first_sealed_segment(&self, from: Offset) -> Result<Option<SealedSegment>, StorageError> {
        let (metas, safe_below) = self.sealed_and(from, |state| state.sealed.checkpointed_base)?;
        for meta in metas.iter().take_while(|meta| meta.next_offset <= safe_below) {
            // Where a hole follows, the list lets a segment reach over it: who asks from its own end on would get it for ever.
            if self.sidecar(meta.base_offset)?.next_offset > from {
                return self.sealed_segment(meta).map(Some);
            }
        }
        Ok(None)
    }

    fn sealed_segment(&self, meta: &SealedMeta) -> Result<SealedSegment, StorageError> {
        // Rebuilt first, should it be lost; then the very bytes that are handed out are checked.
        self.sidecar(meta.base_offset)?;
        let bytes = self.sidecar_bytes(meta.base_offset)?;
        let sidecar = self.decode_sidecar(meta.base_offset, &bytes)?;
        let length = sidecar.size_bytes() as usize;
        Ok(SealedSegment {
            base_offset: meta.base_offset,
            last_offset: Offset(sidecar.next_offset.0 - 1),
            size_bytes: length as u64,
            max_timestamp_ms: sidecar.max_timestamp().timestamp_ms,
            leader_epoch: sidecar.leader_epoch,
            last_append_time_ms: sidecar.last_append_time_ms,
            bytes: FileRange { file: self.reader(meta.base_offset)?, position: 0, length },
            sidecar: bytes,
        })
    }

    /// Bytes of batches held locally. Reads the folder when asked first: blocks on the disk.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn local_size_bytes(&self) -> Result<u64, StorageError> {
        self.local_size_bytes_from(Offset(0))
    }

    /// Bytes of the segments that reach beyond `from`, the active one in any case. Reads the folder when asked first: blocks on the
    /// disk.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn local_size_bytes_from(&self, from: Offset) -> Result<u64, StorageError> {
        let sealed: u64 = self.sealed_metas(from)?.iter().map(|meta| meta.size_bytes).sum();
        let open: u64 = lock(&self.state).open.iter().map(|open| u64::from(open.size_bytes)).sum();
        Ok(sealed + open)
    }

    /// What has outlived the topic's limits, for a partition whose only copy is here. Move the log start to the answer's `below` with
    /// [`Partition::move_log_start`]; the segments go with it. Blocks on the disk.
    ///
    /// # Errors
    /// [`StorageError`]; the inner error is an alarm: there is something to take, and a guard stopped the pass.
    pub fn expired(
        &self,
        pass: &RetentionPass,
        large: LargePass,
    ) -> Result<Result<Expired, RetentionAlarm>, StorageError> {
        let (sealed, active_bytes, safe_below) = self.sealed_facts()?;
        let below = safe_below.min(self.high_watermark());
        let pass = Pass {
            sealed: &sealed,
            active_bytes,
            below,
            policy: pass.policy,
            limits: pass.limits,
            time: pass.time,
        };
        Ok(retention::expired(&pass, large))
    }

    /// Lets go of local copies that the store has, as far as the local limits ask for it. Returns how many segments. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// [`StorageError`], as [`Partition::releasable_below`].
    ///
    /// # Panics
    /// When the proof is another partition's.
    pub fn release(
        self: &Arc<Self>,
        committed: Committed,
        pass: &RetentionPass,
    ) -> Result<usize, StorageError> {
        assert!(committed.partition == self.id, "the manifest's partition is the one that lets go");
        let (count, end) = self.releasable(committed.below, pass)?;
        if count > 0 {
            self.drop_below(end);
        }
        Ok(count)
    }

    /// Up to where segments would be let go of at once if the store had all below `below`; offset 0 when none would. Opens no
    /// segment, and reads no more sidecars than there are segments that are too old, and one. Blocks on the disk.
    ///
    /// # Errors
    /// [`StorageError`]. A segment whose age cannot be told keeps those behind it, and is an error once none before it may go.
    pub fn releasable_below(&self, below: Offset, pass: &RetentionPass) -> Result<Offset, StorageError> {
        Ok(self.releasable(below, pass)?.1)
    }

    /// How many segments local limits let go of below `below`, and where they end.
    ///
    /// Size is known without the disk, and age goes from the oldest on: the first that is young enough ends it, so that a log that
    /// keeps all it has costs one sidecar however long it is.
    fn releasable(&self, below: Offset, pass: &RetentionPass) -> Result<(usize, Offset), StorageError> {
        let (metas, (active_bytes, safe_below)) = self.sealed_and(Offset(0), |state| {
            let open = state.open.iter().map(|open| u64::from(open.size_bytes));
            (open.sum::<u64>(), state.sealed.checkpointed_base)
        })?;
        let facts = |meta: &SealedMeta, max_timestamp_ms, last_append_time_ms| SealedFacts {
            base_offset: meta.base_offset,
            next_offset: meta.next_offset,
            size_bytes: meta.size_bytes,
            max_timestamp_ms,
            last_append_time_ms,
        };
        let count_of = |sealed: &[SealedFacts], limits| {
            retention::releasable(&Pass {
                sealed,
                active_bytes,
                below: safe_below.min(below),
                policy: pass.policy,
                limits,
                time: pass.time,
            })
        };
        // The limit of size asks nothing of times.
        let timeless: Vec<SealedFacts> = metas.iter().map(|meta| facts(meta, 0, 0)).collect();
        let large = count_of(&timeless, Limits { age_ms: None, ..pass.limits });
        let by_age = Limits { size_bytes: None, ..pass.limits };
        let mut old = 0_usize;
        for meta in metas.iter().filter(|_| by_age.age_ms.is_some()) {
            if meta.next_offset > safe_below.min(below) {
                break;
            }
            let sidecar = match self.sidecar(meta.base_offset) {
                Ok(sidecar) => sidecar,
                // Those before it need not wait for it. Whoever asks again when they are gone hears of it.
                Err(_) if old.max(large) > 0 => break,
                Err(error) => return Err(error),
            };
            let fact = facts(meta, sidecar.max_timestamp().timestamp_ms, sidecar.last_append_time_ms);
            if count_of(&[fact], by_age) == 0 {
                break;
            }
            old += 1;
        }
        let count = old.max(large);
        Ok((count, count.checked_sub(1).map_or(Offset(0), |last| metas[last].next_offset)))
    }

    /// Forgets local segments that lie wholly below the log start.
    pub(crate) fn drop_below_log_start(self: &Arc<Self>) -> Result<(), StorageError> {
        let log_start = self.log_start();
        if log_start > lock(&self.state).local_log_start {
            self.list_sealed()?;
            self.drop_below(log_start);
        }
        Ok(())
    }

    /// Forgets local segments that lie wholly below `offset`, which is committed as the log start or held by the store.
    fn drop_below(self: &Arc<Self>, offset: Offset) {
        let mut state = lock(&self.state);
        let safe_below = state.sealed.checkpointed_base.min(offset);
        let PartitionState { sealed, garbage, local_log_start, .. } = &mut *state;
        let before = garbage.len();
        let mut listed = sealed.listed.as_mut();
        loop {
            let queue = match &mut listed {
                Some(listed) if !listed.is_empty() => &mut **listed,
                _ => &mut sealed.fresh,
            };
            let Some(first) = queue.front().filter(|first| first.next_offset <= safe_below).copied() else {
                break;
            };
            queue.pop_front();
            garbage.push(first.base_offset);
            *local_log_start = (*local_log_start).max(first.next_offset);
        }
        if garbage.len() > before {
            self.note_changed(&mut state);
            drop(state);
            self.shared.want_checkpoint();
        }
    }

    /// Sealed segments as retention sees them, the bytes of the others, and below which offset segments are safe on disk.
    fn sealed_facts(&self) -> Result<(Vec<SealedFacts>, u64, Offset), StorageError> {
        let mut facts = Vec::new();
        for meta in self.sealed_metas(Offset(0))? {
            let sidecar = self.sidecar(meta.base_offset)?;
            facts.push(SealedFacts {
                base_offset: meta.base_offset,
                next_offset: meta.next_offset,
                size_bytes: meta.size_bytes,
                max_timestamp_ms: sidecar.max_timestamp().timestamp_ms,
                last_append_time_ms: sidecar.last_append_time_ms,
            });
        }
        let state = lock(&self.state);
        let active_bytes = state.open.iter().map(|open| u64::from(open.size_bytes)).sum();
        Ok((facts, active_bytes, state.sealed.checkpointed_base))
    }

    /// The sealed segments from the one that holds `from` on.
    pub(super) fn sealed_metas(&self, from: Offset) -> Result<Vec<SealedMeta>, StorageError> {
        Ok(self.sealed_and(from, |_| ())?.0)
    }

    /// The sealed segments from the one that holds `from` on, and what `with` finds in the state of the same moment: a segment that is
    /// sealed between two looks would be in neither.
    pub(super) fn sealed_and<T>(
        &self,
        from: Offset,
        with: impl FnOnce(&PartitionState) -> T,
    ) -> Result<(Vec<SealedMeta>, T), StorageError> {
        self.list_sealed()?;
        let state = lock(&self.state);
        let listed = state.sealed.listed.iter().flatten();
        let sealed = listed.chain(&state.sealed.fresh).filter(|meta| meta.next_offset > from).copied();
        Ok((sealed.collect(), with(&state)))
    }

    /// Reads from the folder which segments were sealed before this start, unless that is known.
    pub(crate) fn list_sealed(&self) -> Result<(), StorageError> {
        let (recovered_base, truncations) = {
            let state = lock(&self.state);
            if state.sealed.listed.is_some() {
                return Ok(());
            }
            (state.sealed.recovered_base, state.truncations)
        };
        let listed = self.read_folder(recovered_base)?;
        let mut state = lock(&self.state);
        if state.sealed.listed.is_none() && state.truncations == truncations {
            let local_log_start = state.local_log_start;
            state.sealed.listed =
                Some(listed.into_iter().filter(|meta| meta.next_offset > local_log_start).collect());
        }
        Ok(())
    }

    pub(super) fn read_folder(&self, below: Offset) -> Result<VecDeque<SealedMeta>, StorageError> {
        let folder = segment::folder(&self.shared.directory, self.id);
        let io = |error: std::io::Error| StorageError::Io { path: folder.clone(), source: Arc::new(error) };
        let names = match self.shared.disk.list(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(VecDeque::new()),
            other => other.map_err(io)?,
        };
        let logs = names.iter().filter(|entry| entry.name.ends_with(".log"));
        let bases: Vec<Offset> = logs
            .filter_map(|entry| segment::base_offset_of(&entry.name))
            .filter(|base| *base < below)
            .collect();
        let ends = bases.iter().skip(1).copied().chain([below]);
        let mut metas = VecDeque::new();
        for (base_offset, next_offset) in bases.iter().copied().zip(ends) {
            let path = folder.join(segment::log_name(base_offset));
            let length = self.shared.disk.open(&path, OpenHow::READ).and_then(|file| file.len());
            let size_bytes = length.map_err(|error| StorageError::Io { path, source: Arc::new(error) })?;
            metas.push_back(SealedMeta { base_offset, next_offset, size_bytes });
        }
        Ok(metas)
    }

    /// The sidecar of a sealed segment, kept in memory.
    pub(super) fn sidecar(&self, base_offset: Offset) -> Result<Arc<Sidecar>, StorageError> {
        let key = (self.id, base_offset);
        if let Some(sidecar) = self.shared.cache.sidecar(key) {
            return Ok(sidecar);
        }
        let found =
            self.sidecar_bytes(base_offset).and_then(|bytes| self.decode_sidecar(base_offset, &bytes));
        let sidecar = match found {
            Ok(sidecar) => sidecar,
            Err(error) if error.may_be_rebuilt() => self.rebuild_sidecar(base_offset)?,
            Err(error) => return Err(error),
        };
        let sidecar = Arc::new(sidecar);
        self.shared.cache.keep_sidecar(key, Arc::clone(&sidecar));
        Ok(sidecar)
    }

    fn sidecar_path(&self, base_offset: Offset) -> std::path::PathBuf {
        segment::folder(&self.shared.directory, self.id).join(segment::sidecar_name(base_offset))
    }

    pub(super) fn sidecar_bytes(&self, base_offset: Offset) -> Result<Bytes, StorageError> {
        let path = self.sidecar_path(base_offset);
        let read = || -> std::io::Result<Vec<u8>> {
            let file = self.shared.disk.open(&path, OpenHow::READ)?;
            let length = file.len()?.min(MAX_SIDECAR_BYTES as u64 + 1);
            let mut bytes = vec![0; length as usize];
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            Ok(bytes)
        };
        let bytes =
            read().map_err(|error| StorageError::Io { path: path.clone(), source: Arc::new(error) })?;
        Ok(bytes.into())
    }

    pub(super) fn decode_sidecar(&self, base_offset: Offset, bytes: &[u8]) -> Result<Sidecar, StorageError> {
        let damaged = |reason: String| StorageError::Damaged {
            path: self.sidecar_path(base_offset),
            position: 0,
            reason,
        };
        let sidecar = Sidecar::decode(bytes).map_err(|error| damaged(error.to_string()))?;
        let ours = sidecar.topic_id == self.id.topic_id
            && sidecar.partition == self.id.partition
            && sidecar.base_offset() == base_offset;
        if ours { Ok(sidecar) } else { Err(damaged("it belongs to another segment".to_owned())) }
    }
}
