//! A sealed segment whose sidecar is lost or damaged gets it back: from the batches, and from the sidecar before it.
//!
//! Owns: that rebuild. Does not own: the sidecar's format; a batch that is damaged too is not repaired but named.

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
    /// newest record; producers and epochs begin with those of the sidecar before, or with none when that is gone as well.
    pub(super) fn rebuild_sidecar(&self, base_offset: Offset) -> Result<Sidecar, StorageError> {
        let missing = || self.damaged(base_offset, 0, "no such segment is sealed here");
        let meta = self.sealed_metas(base_offset)?.into_iter().find(|meta| meta.base_offset == base_offset);
        let meta = meta.ok_or_else(missing)?;
        let before = self.sealed_metas(Offset(0))?.into_iter().rfind(|meta| meta.next_offset == base_offset);
        let before = before.map(|meta| self.sidecar(meta.base_offset)).transpose()?;
        let (producers, epochs) = match &before {
            Some(before) => (before.producers.clone(), before.epochs.clone()),
            None => (ProducerStates::default(), EpochHistory::default()),
        };
        let sidecar = self.scan(&meta, producers, epochs)?;
        let folder = segment::folder(&self.shared.directory, self.id);
        let written = write_sidecar(&*self.shared.disk, &folder, &sidecar).and_then(|()| {
            let synced = self.shared.disk.sync_dir(&folder, SyncSite::SidecarName);
            segment::writer::during(synced, || format!("syncing {}", folder.display()))
        });
        match written {
            Ok(()) => Ok(sidecar),
            Err(failed) => Err(self.shared.poison(&failed.operation, &failed.error).into()),
        }
    }

    fn scan(
        &self,
        meta: &SealedMeta,
        mut producers: ProducerStates,
        mut epochs: EpochHistory,
    ) -> Result<Sidecar, StorageError> {
        let size_bytes = u32::try_from(meta.size_bytes).map_err(|_| {
            self.damaged(meta.base_offset, u32::MAX, "the file is longer than a segment can be")
        })?;
        let view = SegmentView::file(meta, size_bytes);
        let mut index = SegmentIndex::new(meta.base_offset);
        let mut aborted = AbortedTransactions::default();
        let mut leader_epoch = wire::ids::LeaderEpoch::NONE;
        let mut position = 0;
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
            epochs.assign(header.leader_epoch, header.base_offset);
            leader_epoch = header.leader_epoch;
            position = found.end();
        }
        // All of a sealed segment is committed.
        producers.advance_high_watermark(meta.next_offset);
        Ok(Sidecar {
            topic_id: self.id.topic_id,
            partition: self.id.partition,
            leader_epoch,
            next_offset: meta.next_offset,
            first_append_time_ms: newest_ms,
            last_append_time_ms: newest_ms,
            index,
            aborted,
            producers,
            epochs,
        })
    }
}
