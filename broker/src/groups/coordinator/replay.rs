//! Groups come back: `__consumer_offsets` is read once after a start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wire::batch::{BatchView, Records as RecordIter};

use super::{Coordinator, GroupCell};
use crate::fields::DamagedField;
use crate::groups::records::{GroupValue, Key, OffsetValue};
use crate::limits::MAX_DECOMPRESSED_BYTES;
use crate::partition::{Partition, ReadRefused};

impl Coordinator {
    /// Replays a partition of `__consumer_offsets`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn load(&self, partition: &Partition) -> Result<(), ReadRefused> {
        partition.scan(|batch| self.replay(&batch)).await
    }

    fn replay(&self, batch: &BatchView<'_>) -> Result<(), ReadRefused> {
        if batch.header().attributes.is_control() {
            return Ok(());
        }
        let damaged = |error: DamagedField| ReadRefused::Unreadable(format!("__consumer_offsets: {error}"));
        let mut records = RecordIter::new(batch, MAX_DECOMPRESSED_BYTES);
        while let Some(record) = records.next_record()? {
            let Some(key) = record.key else { continue };
            match (Key::decode(key).map_err(damaged)?, record.value) {
                (Key::Offset { group, topic, partition }, Some(value)) => {
                    let value = OffsetValue::decode(value).map_err(damaged)?;
                    let cell = self.loading(&group);
                    cell.lock().group.offsets.apply((topic, partition), value, record.offset.0);
                }
                (Key::Offset { group, topic, partition }, None) => {
                    self.loading(&group).lock().group.offsets.remove(&(topic, partition));
                }
                (Key::Group(group), Some(value)) => {
                    let value = GroupValue::decode(value).map_err(damaged)?;
                    self.loading(&group).lock().group.restore(value, self.now_ms());
                }
                (Key::Group(group), None) => {
                    self.table().remove(&group);
                }
                (Key::Foreign(_), _) => {}
            }
        }
        Ok(())
    }

    fn loading(&self, group: &str) -> Arc<GroupCell> {
        let mut table = self.table();
        Arc::clone(table.entry(group.to_owned()).or_insert_with(|| Arc::new(self.new_cell(group))))
    }

    /// All partitions are replayed: groups are served from now on.
    pub(crate) fn finish_loading(&self) {
        let cells: Vec<_> = {
            let mut table = self.table();
            table.retain(|_, cell| {
                let locked = cell.lock();
                !locked.group.is_forgettable() || locked.group.generation() > 0
            });
            table.values().cloned().collect()
        };
        self.loaded.store(true, Ordering::Release);
        for cell in cells {
            self.settle(&mut cell.lock());
        }
    }
}
