//! The committer: the only one who changes a partition's manifest, and so the only one who can say "committed".
//!
//! Owns: the register of one partition, the state that readers see, and the making of [`Committed`].
//! Does not own: what to commit.

use std::sync::{Arc, PoisonError, RwLock};

use hotlog::PartitionId;
use wire::ids::Offset;

use crate::keys;
use crate::limits::{HOT_ROWS, SPILL_ROWS};
use crate::manifest::{
    CommitError, Committed, DeadObject, ManifestError, PartitionEdit, PartitionManifest, Register,
    SegmentRow, write_spilled,
};
use crate::object::{LogIdentity, ObjectIdentity, Packed};
use crate::seams::Seams;
use crate::store::Store;

/// The manifest as readers see it: replaced whole at each commit.
#[derive(Debug, Default)]
pub(crate) struct ManifestView(RwLock<Option<Arc<PartitionManifest>>>);

impl ManifestView {
    /// The newest committed state; `None` before it is loaded.
    pub(crate) fn get(&self) -> Option<Arc<PartitionManifest>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, manifest: Arc<PartitionManifest>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(manifest);
    }
}

/// Commits to one partition's manifest.
#[derive(Debug)]
pub(crate) struct Committer {
    store: Arc<dyn Store>,
    seams: Seams,
    register: Register<PartitionManifest>,
    view: Arc<ManifestView>,
}

impl Committer {
    /// Loads the manifest, for a writer of the given epoch. Nothing is written until there is something to commit.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        log: LogIdentity,
        (writer_epoch, seams): (u64, Seams),
        view: Arc<ManifestView>,
    ) -> Result<Self, ManifestError> {
        let folder = keys::manifest_folder(&log);
        let empty = PartitionManifest::empty(log);
        let mut register = Register::open(store.clone(), folder, empty, seams.clone()).await?;
        register.set_writer_epoch(writer_epoch);
        view.set(register.state().clone());
        Ok(Committer { store, seams, register, view })
    }

    /// The newest state.
    pub(crate) fn state(&self) -> &Arc<PartitionManifest> {
        self.register.state()
    }

    /// Makes an uploaded segment visible, unless another writer has archived those offsets meanwhile.
    pub(crate) async fn add_segment(&mut self, packed: &Packed) -> Result<(), CommitError> {
        self.spill_if_long().await?;
        let identity = &packed.identity;
        let row = SegmentRow {
            base_offset: identity.base_offset,
            next_offset: identity.next_offset,
            leader_epoch: identity.leader_epoch,
            attempt: identity.attempt,
            object_bytes: packed.object_bytes,
            raw_bytes: identity.raw_bytes,
            raw_crc: identity.raw_crc,
            footer_bytes: packed.footer_bytes,
            max_timestamp_ms: identity.max_timestamp_ms,
            archived_at_ms: self.seams.now_ms(),
            aborted: packed.aborted,
            quarantined: false,
        };
        let state = self
            .register
            .commit(|manifest| {
                // A try whose answer was lost may have committed this very object; another writer, its like.
                let known = manifest.end_offset() >= row.next_offset;
                let epochs = packed.epochs.clone();
                Ok(if known { Vec::new() } else { vec![PartitionEdit::AddSegment { row, epochs }] })
            })
            .await?;
        self.view.set(state);
        Ok(())
    }

    /// Whether the manifest names a segment of just these bytes, whoever put it there.
    pub(crate) fn has(&self, identity: &ObjectIdentity) -> bool {
        let is_it = |row: &&SegmentRow| row.base_offset == identity.base_offset;
        self.state().segments.iter().rev().find(is_it).is_some_and(|row| {
            row.next_offset == identity.next_offset
                && row.leader_epoch == identity.leader_epoch
                && row.raw_bytes == identity.raw_bytes
                && row.raw_crc == identity.raw_crc
        })
    }

    /// Proof for what the manifest names and the local log has the same below `agreed`, whoever put it there.
    pub(crate) fn committed(&self, agreed: Offset) -> Option<Committed> {
        let state = self.state();
        let partition = PartitionId { topic_id: state.log.topic_id, partition: state.log.partition };
        let below = state.end_offset().min(agreed);
        (!self.register.is_new()).then(|| Committed::by_manifest(partition, below))
    }

    /// Commits edits that `decide` finds in the newest state.
    pub(crate) async fn commit(
        &mut self,
        decide: impl FnMut(&PartitionManifest) -> Vec<PartitionEdit> + Send,
    ) -> Result<Arc<PartitionManifest>, CommitError> {
        let mut decide = decide;
        let state = self.register.commit(|manifest| Ok(decide(manifest))).await?;
        self.view.set(state.clone());
        Ok(state)
    }

    /// Moves the oldest rows to a frozen file when there are many: the file first, then the edit that names it.
    async fn spill_if_long(&mut self) -> Result<(), CommitError> {
        if self.state().segments.len() < HOT_ROWS {
            return Ok(());
        }
        let state = self.state().clone();
        let file =
            write_spilled(&*self.store, &state.log, &state.segments[..SPILL_ROWS], &self.seams).await?;
        let state = self
            .register
            .commit(|manifest| {
                // Rows that changed since the file was written (a quarantine, a death) leave it an orphan.
                let same = manifest.segments.get(..SPILL_ROWS) == state.segments.get(..SPILL_ROWS);
                Ok(if same { vec![PartitionEdit::Spill { file }] } else { Vec::new() })
            })
            .await?;
        self.view.set(state);
        Ok(())
    }
}

/// The key of a dead object.
pub(crate) fn dead_key(log: &LogIdentity, dead: &DeadObject) -> crate::store::StoreKey {
    match dead.leader_epoch {
        Some(epoch) => keys::segment(log, dead.base_offset, epoch, dead.attempt),
        None => keys::spilled(log, dead.base_offset, dead.attempt),
    }
}
