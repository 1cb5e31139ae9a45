//! The register: one manifest, loaded, and the only way to change it.
//!
//! Owns: the loop "decide on the state, check, create the next record, or learn what came first". Knows no domain word:
//! states and edits are a parameter. Does not own: what is decided.
//!
//! Fencing. Every record carries its writer's epoch, and epochs never fall along the sequence. Whoever meets a record
//! of a higher epoch has been replaced and stops; whoever meets one of a lower epoch takes it in: it was there first,
//! so it counts.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use super::cluster::{ClusterEdit, ClusterManifest};
use super::invariants::Violation;
use super::partition::{PartitionEdit, PartitionManifest};
use super::partition_bytes as partition_body;
use super::record::{Record, RecordKind};
use super::sequence::{self, Appended, LoadError, Place};
use super::slim;
use crate::limits::{BASE_MARGIN_BYTES, COMMIT_TRIES, MANIFEST_RECORD_LIMIT_BYTES, SLOT_RECORDS};
use crate::seams::Seams;
use crate::store::{Store, StoreError};

/// Stale records deleted after one commit, so that no commit pays for a whole slot.
const DELETES_PER_COMMIT: usize = 4;

/// A manifest's state, as far as the register needs to know it.
pub(crate) trait State: Clone + fmt::Debug + Send + Sync + 'static {
    /// One change.
    type Edit: Clone + fmt::Debug + Send + Sync;
    /// Makes one change.
    fn apply(&mut self, edit: &Self::Edit) -> Result<(), Violation>;
    /// Checks the invariants.
    fn check(&self) -> Result<(), Violation>;
    /// Bytes of the state.
    fn encode_state(&self) -> Bytes;
    /// The state from its bytes; `self` says whose it is.
    fn decode_state(&self, body: Bytes) -> Result<Self, String>;
    /// Bytes of edits.
    fn encode_edits(edits: &[Self::Edit]) -> Bytes;
    /// Edits from their bytes.
    fn decode_edits(body: Bytes) -> Result<Vec<Self::Edit>, String>;
    /// The body of a base, or of a delta, without what can be done without, from one that is too large to be held.
    fn slim_body(is_base: bool, body: &mut dyn Read) -> Result<Bytes, String>;
    /// The state without what can be done without, for a base that would be too large; `None` when it has nothing such.
    fn slim(&self) -> Option<Self>;
}

impl State for PartitionManifest {
    type Edit = PartitionEdit;

    fn apply(&mut self, edit: &PartitionEdit) -> Result<(), Violation> {
        PartitionManifest::apply(self, edit)
    }

    fn check(&self) -> Result<(), Violation> {
        PartitionManifest::check(self)
    }

    fn encode_state(&self) -> Bytes {
        partition_body::encode_state(self)
    }

    fn decode_state(&self, body: Bytes) -> Result<Self, String> {
        partition_body::decode_state(self.log.clone(), body).map_err(|malformed| malformed.0)
    }

    fn encode_edits(edits: &[PartitionEdit]) -> Bytes {
        partition_body::encode_edits(edits)
    }

    fn decode_edits(body: Bytes) -> Result<Vec<PartitionEdit>, String> {
        partition_body::decode_edits(body).map_err(|malformed| malformed.0)
    }

    fn slim_body(_is_base: bool, _body: &mut dyn Read) -> Result<Bytes, String> {
        Err("it is too large, and nothing of a partition can be done without".into())
    }

    fn slim(&self) -> Option<Self> {
        None
    }
}

impl State for ClusterManifest {
    type Edit = ClusterEdit;

    fn apply(&mut self, edit: &ClusterEdit) -> Result<(), Violation> {
        ClusterManifest::apply(self, edit)
    }

    fn check(&self) -> Result<(), Violation> {
        ClusterManifest::check(self)
    }

    fn encode_state(&self) -> Bytes {
        serde_json::to_vec(self).expect("the state has text keys only").into()
    }

    fn decode_state(&self, body: Bytes) -> Result<Self, String> {
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    fn encode_edits(edits: &[ClusterEdit]) -> Bytes {
        serde_json::to_vec(edits).expect("edits have text keys only").into()
    }

    fn decode_edits(body: Bytes) -> Result<Vec<ClusterEdit>, String> {
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    fn slim_body(is_base: bool, body: &mut dyn Read) -> Result<Bytes, String> {
        slim::without_groups(is_base, body)
    }

    fn slim(&self) -> Option<Self> {
        self.groups.is_some().then(|| ClusterManifest { groups: None, ..self.clone() })
    }
}

/// Why a manifest cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ManifestError {
    /// The store does not answer, or denies.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Records are damaged, missing, swapped, or add up to what must not be. Nothing is archived or deleted then.
    #[error("{detail}; restore that object, or recover the cluster from a copy of the bucket")]
    Damaged {
        /// What is wrong with which object.
        detail: String,
    },
    /// What is to be written would be larger than any reader takes. Nothing was written.
    #[error("{key} is not written: {detail}")]
    TooLarge {
        /// The record or file.
        key: String,
        /// Its size, and the largest there may be.
        detail: String,
    },
}

impl From<LoadError> for ManifestError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => ManifestError::Store(error),
            LoadError::Contended { folder } => ManifestError::Store(StoreError::Unavailable {
                key: folder,
                detail: "the manifest changes faster than it can be read".into(),
            }),
            LoadError::TooLarge { key, source } => {
                ManifestError::TooLarge { key, detail: source.to_string() }
            }
            error => ManifestError::Damaged { detail: error.to_string() },
        }
    }
}

/// Why a commit did not happen, or is not known to have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// Somebody took over; this writer stops for good.
    #[error("another writer (epoch {by:?}) has taken over")]
    Fenced {
        /// The writer that was met; `None` when all that is known is that time went on without us.
        by: Option<u64>,
    },
    /// The store does not answer or denies. Whether the record is there shows at the next commit.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What was decided breaks an invariant: a defect of ours. Nothing was written.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// One manifest, loaded.
#[derive(Debug)]
pub(crate) struct Register<S: State> {
    store: Arc<dyn Store>,
    seams: Seams,
    folder: String,
    state: Arc<S>,
    next_sequence: u64,
    /// Epoch of the newest record.
    last_epoch: u64,
    /// Ours.
    writer_epoch: u64,
    written_at_ms: i64,
    stale: Vec<u64>,
    /// Slots below this one are known to be closed.
    closed_slots: u64,
    /// What was left out of records that were, or would have been, too large: for people.
    notes: Vec<String>,
}

/// Notes kept; a manifest with more of them says nothing new.
const NOTES_KEPT: usize = 8;

impl<S: State> Register<S> {
    /// Loads the manifest in `folder`; `empty` is its state before the first record.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        folder: String,
        empty: S,
        seams: Seams,
    ) -> Result<Self, ManifestError> {
        let place = Place { folder: &folder, slim: S::slim_body };
        let loaded = sequence::load(&*store, place, &seams).await?;
        let first = loaded.records.first().map_or(0, |record| record.sequence);
        let mut register = Register {
            store,
            seams,
            folder,
            state: Arc::new(empty),
            next_sequence: first,
            last_epoch: 0,
            writer_epoch: 0,
            written_at_ms: 0,
            stale: loaded.stale,
            closed_slots: 0,
            notes: Vec::new(),
        };
        for record in loaded.records {
            register.take_in(&record)?;
        }
        Ok(register)
    }

    /// The state as of the newest record known.
    pub(crate) fn state(&self) -> &Arc<S> {
        &self.state
    }

    /// Whether no record was ever written.
    pub(crate) fn is_new(&self) -> bool {
        self.next_sequence == 0
    }

    /// When the newest record was written, by its writer's clock.
    pub(crate) fn written_at_ms(&self) -> i64 {
        self.written_at_ms
    }

    /// Epoch of the newest record.
    pub(crate) fn last_epoch(&self) -> u64 {
        self.last_epoch
    }

    /// What was left out of records for their size, so that the others count.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    fn note(&mut self, note: String) {
        tracing::error!(folder = %self.folder, "{note}");
        if self.notes.len() < NOTES_KEPT {
            self.notes.push(note);
        }
    }

    /// Says who commits from now on.
    pub(crate) fn set_writer_epoch(&mut self, writer_epoch: u64) {
        self.writer_epoch = writer_epoch;
    }

    /// Takes a record in that somebody wrote at our next sequence.
    fn take_in(&mut self, record: &Record) -> Result<(), ManifestError> {
        let damaged = |detail: String| ManifestError::Damaged {
            detail: format!(
                "manifest record {}: {detail}",
                crate::keys::record(&record.folder, record.sequence)
            ),
        };
        if record.writer_epoch < self.last_epoch {
            return Err(damaged(format!(
                "writer epoch falls from {} to {}",
                self.last_epoch, record.writer_epoch
            )));
        }
        let state = match record.kind {
            RecordKind::Base => self.state.decode_state(record.body.clone()).map_err(damaged)?,
            RecordKind::Delta => {
                let mut state = S::clone(&self.state);
                for edit in S::decode_edits(record.body.clone()).map_err(damaged)? {
                    state.apply(&edit).map_err(|violation| damaged(violation.to_string()))?;
                }
                state
            }
            RecordKind::Spilled | RecordKind::Groups => {
                return Err(damaged("it is no base and no delta".into()));
            }
        };
        state.check().map_err(|violation| damaged(violation.to_string()))?;
        if let Some(bytes) = record.slimmed_from {
            let key = crate::keys::record(&record.folder, record.sequence);
            self.note(format!(
                "the group offsets in manifest record {key} were passed over: it was written with {bytes} bytes, more \
                 than can be read"
            ));
        }
        self.state = Arc::new(state);
        self.last_epoch = record.writer_epoch;
        self.written_at_ms = record.written_at_ms;
        self.next_sequence = record.sequence + 1;
        Ok(())
    }

    /// Commits what `decide` wants of the newest state; it is asked again whenever somebody else came first, and
    /// nothing is written when it wants nothing.
    pub(crate) async fn commit(
        &mut self,
        mut decide: impl FnMut(&S) -> Result<Vec<S::Edit>, Violation> + Send,
    ) -> Result<Arc<S>, CommitError> {
        for _ in 0..COMMIT_TRIES {
            if self.last_epoch > self.writer_epoch {
                return Err(CommitError::Fenced { by: Some(self.last_epoch) });
            }
            let edits = decide(&self.state)?;
            if edits.is_empty() || self.append(&edits).await? {
                return Ok(self.state.clone());
            }
        }
        Err(self.contended())
    }

    /// Claims the manifest: raises the writer epoch above all before, and commits what `decide` wants under it.
    ///
    /// An own record that was believed lost counts as somebody else's, so no two claims share an epoch.
    pub(crate) async fn claim(
        &mut self,
        mut decide: impl FnMut(&S, u64) -> Result<Vec<S::Edit>, Violation> + Send,
    ) -> Result<Arc<S>, CommitError> {
        for _ in 0..COMMIT_TRIES {
            self.writer_epoch = self.last_epoch + 1;
            let edits = decide(&self.state, self.writer_epoch)?;
            if self.append(&edits).await? {
                return Ok(self.state.clone());
            }
        }
        Err(self.contended())
    }

    /// One try to append; `false` when another record was there, which is then taken in.
    async fn append(&mut self, edits: &[S::Edit]) -> Result<bool, CommitError> {
        let mut state = S::clone(&self.state);
        edits.iter().try_for_each(|edit| state.apply(edit))?;
        state.check()?;
        let record = self.record(&mut state, edits);
        let appended = sequence::append(&*self.store, &record, S::slim_body, &self.seams).await;
        match appended.map_err(ManifestError::from)? {
            Appended::Done => {
                self.state = Arc::new(state);
                self.last_epoch = record.writer_epoch;
                self.written_at_ms = record.written_at_ms;
                self.next_sequence += 1;
                self.tidy().await;
                Ok(true)
            }
            Appended::Taken(record) => {
                self.take_in(&record)?;
                Ok(false)
            }
            Appended::Closed => Err(CommitError::Fenced { by: None }),
        }
    }

    fn contended(&self) -> CommitError {
        CommitError::Manifest(ManifestError::Store(StoreError::Unavailable {
            key: self.folder.clone(),
            detail: "others commit without pause".into(),
        }))
    }

    /// The record that makes `state` of the newest one. What a base has no room for leaves the state too, so that it
    /// never says more than its records do.
    fn record(&mut self, state: &mut S, edits: &[S::Edit]) -> Record {
        let (kind, body) = match sequence::is_base(self.next_sequence) {
            true => (RecordKind::Base, self.base(state)),
            false => (RecordKind::Delta, S::encode_edits(edits)),
        };
        Record {
            kind,
            folder: self.folder.clone(),
            sequence: self.next_sequence,
            writer_epoch: self.writer_epoch,
            attempt: self.seams.attempt(),
            written_at_ms: self.seams.now_ms(),
            body,
            slimmed_from: None,
        }
    }

    fn base(&mut self, state: &mut S) -> Bytes {
        let body = state.encode_state();
        if body.len() <= MANIFEST_RECORD_LIMIT_BYTES - BASE_MARGIN_BYTES {
            return body;
        }
        let Some(slim) = state.slim() else { return body };
        self.note(format!("the group offsets have no room in the base of {} bytes", body.len()));
        *state = slim;
        state.encode_state()
    }

    /// Deletes records that no reader starts from any more, a few per commit, behind closed slots. Failures wait.
    async fn tidy(&mut self) {
        let newest = sequence::slot_of(self.next_sequence - 1);
        if sequence::is_base(self.next_sequence - 1) && newest >= 2 {
            let slot = newest - 2;
            self.stale.extend(slot * SLOT_RECORDS..(slot + 1) * SLOT_RECORDS);
            self.stale.sort_unstable();
            self.stale.dedup();
        }
        if self.stale.is_empty() {
            return;
        }
        let due: Vec<u64> = self.stale.iter().copied().take(DELETES_PER_COMMIT).collect();
        let last_slot = sequence::slot_of(*due.last().expect("not empty"));
        if last_slot >= self.closed_slots {
            if let Err(error) =
                sequence::close_up_to(&*self.store, &self.folder, last_slot, &self.seams).await
            {
                tracing::debug!(folder = %self.folder, %error, "old manifest slots stay open for now");
                return;
            }
            self.closed_slots = last_slot + 1;
        }
        for sequence in due {
            match self.store.delete(&crate::keys::record(&self.folder, sequence)).await {
                Ok(()) => self.stale.retain(|stale| *stale != sequence),
                Err(error) => {
                    tracing::debug!(folder = %self.folder, %error, "old manifest records stay for now");
                    return;
                }
            }
        }
    }
}
