//! A sealed segment whose sidecar is lost or damaged gets it back: from the batches, and from the sidecar before it.
//!
//! Owns: that rebuild. Does not own: the sidecar's format; a batch that is damaged too is not repaired but named.

use std::sync::Arc;

use wire::batch::HEADER_BYTES;
use wire::ids::Offset;

use super::read::SegmentView;
use super::truncate::note_producer;
use super::{Partition, marker};
use crate::aborted::{AbortedTransaction, AbortedTransactions};
use crate::epochs::EpochHistory;
use crate::error::StorageError;
use crate::index::{IndexedBatch, SegmentIndex};
use crate::producers::{AppendedAt, ProducerStates};
use crate::segment::writer::write_sidecar;
use crate::segment::{self, SealedMeta};
use crate::sidecar::Sidecar;
use crate::sync_site::SyncSite;

impl Partition {
    /// Reads the whole segment and writes its sidecar anew. What the batches do not say, the times of their appends, is taken from the
    /// newest record; producers begin with those of the sidecar before, which is kept until this one goes.
    pub(super) fn rebuild_sidecar(&self, base_offset: Offset) -> Result<Sidecar, StorageError> {
        let missing = || self.damaged(base_offset, 0, "no such segment is sealed here");
        let meta = self.sealed_metas(base_offset)?.into_iter().find(|meta| meta.base_offset == base_offset);
        let meta = meta.ok_or_else(missing)?;
        let before = self.sealed_metas(Offset(0))?.into_iter().rfind(|meta| meta.next_offset == base_offset);
        let producers = match before {
            Some(before) => self.sidecar(before.base_offset)?.producers.clone(),
            None => self.released_producers(base_offset)?,
        };
        // The history is the partition's own up to there, also of what is not held here.
        let mut epochs = self.epochs();
        epochs.truncate_from_end(meta.next_offset);
        let sidecar = self.scan(&meta, producers, epochs)?;
        let folder = segment::folder(&self.shared.directory, self.id);
        let written = write_sidecar(&self.shared, &folder, &sidecar).and_then(|()| {
            let synced = self.shared.disk.sync_dir(&folder, SyncSite::SidecarName);
            segment::writer::during(synced, || format!("syncing {}", folder.display()))
        });
        match written {
            Ok(()) => Ok(sidecar),
            Err(failed) => Err(self.shared.poison(&failed.operation, &failed.error).into()),
        }
    }

    /// Sees to it that the sidecars are there which a cut to `to` reads under the partition's lock: a rebuild takes that lock.
    pub(super) fn mend_sidecars(&self, to: Offset) -> Result<(), StorageError> {
        let metas = self.sealed_metas(Offset(0))?;
        // The segment that is cut, and the one before for its producers.
        let read = metas.iter().rev().filter(|meta| meta.base_offset < to).take(2);
        read.map(|meta| self.sidecar(meta.base_offset)).try_for_each(|sidecar| sidecar.map(drop))
    }

    /// The producers at the end of the released segment before `base_offset`, whose sidecar is kept; none when there is no such.
    pub(super) fn released_producers(&self, base_offset: Offset) -> Result<ProducerStates, StorageError> {
        let folder = segment::folder(&self.shared.directory, self.id);
        let entries = match self.shared.disk.list(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(|error| StorageError::Io { path: folder, source: Arc::new(error) })?,
        };
        let before =
            segment::writer::sidecars(&entries).map(|(_, base)| base).filter(|base| *base < base_offset);
        let found = match before.max() {
            Some(base) => self.sidecar_bytes(base).and_then(|bytes| self.decode_sidecar(base, &bytes)),
            None => return Ok(ProducerStates::default()),
        };
        match found {
            Ok(sidecar) if sidecar.next_offset == base_offset => Ok(sidecar.producers),
            Err(error) if !error.may_be_rebuilt() => Err(error),
            Ok(_) | Err(_) => Ok(ProducerStates::default()),
        }
    }

    fn scan(
        &self,
        meta: &SealedMeta,
        mut producers: ProducerStates,
        epochs: EpochHistory,
    ) -> Result<Sidecar, StorageError> {
        let size_bytes = u32::try_from(meta.size_bytes).map_err(|_| {
            self.damaged(meta.base_offset, u32::MAX, "the file is longer than a segment can be")
        })?;
        let view = SegmentView::file(meta, size_bytes);
        let mut index = SegmentIndex::new(meta.base_offset);
        let mut aborted = AbortedTransactions::default();
        let mut leader_epoch = wire::ids::LeaderEpoch::NONE;
        let mut position = 0;
        // The batches' own end: where a hole follows, the list of segments lets this one reach over it.
        let mut next_offset = meta.base_offset;
        let mut newest_ms = -1;
        while let Some(found) = self.find_batch(&view, position, |_| true)? {
            let header = &found.header;
            let mut head = vec![0; header.size_bytes.min(HEADER_BYTES + 128)];
            self.read_bytes(&view, position, &mut head)?;
            newest_ms = newest_ms.max(header.max_timestamp_ms);
            let at = AppendedAt { base_offset: header.base_offset, append_time_ms: newest_ms };
            let is_marker = header.attributes.is_control();
            if let Some(marker) = is_marker.then(|| marker::read(header, &head).ok().flatten()).flatten() {
                let ended = producers.record_marker(&marker.marker, at).filter(|ended| !ended.committed);
                if let Some(ended) = ended {
                    aborted.push(AbortedTransaction {
                        producer_id: ended.producer_id,
                        first_offset: ended.first_offset,
                        marker_offset: ended.marker_offset,
                        last_stable_offset: ended.last_stable_offset,
                    });
                }
            } else {
                note_producer(&mut producers, header, &head, newest_ms);
            }
            index.append(&IndexedBatch {
                base_offset: header.base_offset,
                size_bytes: header.size_bytes as u32,
                max_timestamp_ms: header.max_timestamp_ms,
            });
            leader_epoch = header.leader_epoch;
            next_offset = header.next_offset();
            position = found.end();
        }
        if position == 0 {
            // No segment is sealed without a batch: a file that has none is not what the log put there.
            return Err(self.damaged(meta.base_offset, 0, "a sealed segment holds no batch"));
        }
        // All of a sealed segment is committed.
        producers.advance_high_watermark(next_offset);
        Ok(Sidecar {
            topic_id: self.id.topic_id,
            partition: self.id.partition,
            leader_epoch,
            next_offset,
            first_append_time_ms: newest_ms,
            last_append_time_ms: newest_ms,
            index,
            aborted,
            producers,
            epochs,
        })
    }
}
