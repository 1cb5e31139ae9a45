//! Writes committed bytes to segment files in whole blocks, and seals what was rolled.
//!
//! Owns: open files for writing, the one aligned buffer, and which folders have names that are not durable yet.
//! Does not own: what is to be written (`partition::persist` plans it), when (the storage worker asks).

use std::collections::BTreeSet;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wire::ids::Offset;

use super::cache::Recent;
use crate::disk::{AlignedBuffer, DirectoryEntry, Disk, DiskFile, Durability, OpenHow};
use crate::limits;
use crate::partition::persist::{Purge, WriteBounds, WritePlan, copy_pieces};
use crate::partition::{Partition, PartitionId};
use crate::shared::Shared;
use crate::sidecar::Sidecar;
use crate::sync_site::SyncSite;

/// A failed operation, with what it was.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) operation: String,
    pub(crate) error: io::Error,
}

/// Names the operation of an error.
pub(crate) fn during<T>(result: io::Result<T>, operation: impl FnOnce() -> String) -> Result<T, Failed> {
    result.map_err(|error| Failed { operation: operation(), error })
}

#[derive(Debug)]
pub(crate) struct SegmentWriter {
    shared: Arc<Shared>,
    buffer: AlignedBuffer,
    files: Recent<(PartitionId, Offset), Arc<dyn DiskFile>>,
    /// Folders in which a name was made since their last sync, with what kind of name that was last.
    unsynced_folders: BTreeSet<PartitionId>,
    sidecar_folders: BTreeSet<PartitionId>,
    /// Whether a partition's folder was made since the log directory's last sync.
    root_unsynced: bool,
}

impl SegmentWriter {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let block = shared.block as usize;
        let buffer = AlignedBuffer::zeroed(limits::SEGMENT_BUFFER_BYTES.next_multiple_of(block), block);
        Self {
            shared,
            buffer,
            files: Recent::default(),
            unsynced_folders: BTreeSet::new(),
            sidecar_folders: BTreeSet::new(),
            root_unsynced: false,
        }
    }

    /// Seals what is rolled, and writes committed whole blocks as long as `least_bytes` of a segment are there.
    pub(crate) fn write(&mut self, partition: &Arc<Partition>, least_bytes: u32) -> Result<(), Failed> {
        let bounds = WriteBounds { least: least_bytes, most: self.buffer.len() as u32 };
        while let Some(plan) = partition.next_write(bounds) {
            self.carry_out(partition, &plan)?;
            partition.wrote(&plan);
        }
        Ok(())
    }

    fn carry_out(&mut self, partition: &Arc<Partition>, plan: &WritePlan) -> Result<(), Failed> {
        let file = self.file(partition, plan.base_offset)?;
        if plan.is_new {
            self.unsynced_folders.insert(partition.id());
        }
        let path = self.path(partition.id(), plan.base_offset);
        if plan.reserve > plan.reserved {
            let space = &self.shared.space;
            let result = space.take(&*file, plan.reserve, plan.reserve - plan.reserved);
            during(result, || format!("taking disk space for {}", path.display()))?;
        }
        let used = copy_pieces(&self.shared, &plan.pieces, &mut self.buffer);
        let length = used.next_multiple_of(self.shared.block as usize);
        self.buffer[used..length].fill(0);
        if length > 0 {
            let result = file.write_at(&self.buffer[..length], plan.from.into(), Durability::Cached);
            during(result, || format!("writing {}", path.display()))?;
        }
        if let Some(sidecar) = &plan.seals {
            let result = file.set_len(plan.to.into()).and_then(|()| file.sync(SyncSite::SegmentSealed));
            during(result, || format!("sealing {}", path.display()))?;
            self.files.remove(&(partition.id(), plan.base_offset));
            self.add_sidecar(partition.id(), sidecar)?;
        }
        Ok(())
    }

    fn add_sidecar(&mut self, partition: PartitionId, sidecar: &Sidecar) -> Result<(), Failed> {
        let folder = super::folder(&self.shared.directory, partition);
        write_sidecar(&self.shared, &folder, sidecar)?;
        self.sidecar_folders.insert(partition);
        Ok(())
    }

    /// The segment's file for writing, made where missing.
    fn file(&mut self, partition: &Arc<Partition>, base_offset: Offset) -> Result<Arc<dyn DiskFile>, Failed> {
        self.prepare_folder(partition)?;
        let key = (partition.id(), base_offset);
        if let Some(file) = self.files.get(&key) {
            return Ok(file);
        }
        let path = self.path(partition.id(), base_offset);
        let opened = self.shared.disk.open(&path, OpenHow::WRITE.direct());
        let file = during(opened, || format!("opening {}", path.display()))?;
        self.files.put(key, Arc::clone(&file), limits::OPEN_SEGMENT_WRITERS);
        Ok(file)
    }

    /// Makes the folder, and once per start and truncation takes away what a log left there that was lost, truncated or let go of.
    fn prepare_folder(&mut self, partition: &Arc<Partition>) -> Result<(), Failed> {
        let Some(purge) = partition.purge() else { return Ok(()) };
        let folder = super::folder(&self.shared.directory, partition.id());
        let disk = Arc::clone(&self.shared.disk);
        let mut prepare = || {
            disk.create_dir(&folder)?;
            for (name, base) in purged(&disk.list(&folder)?, purge) {
                disk.remove_file(&folder.join(name))?;
                self.files.remove(&(partition.id(), base));
                self.shared.cache.forget((partition.id(), base));
            }
            Ok(())
        };
        during(prepare(), || format!("preparing {}", folder.display()))?;
        self.root_unsynced = true;
        partition.purged();
        Ok(())
    }

    fn path(&self, partition: PartitionId, base_offset: Offset) -> PathBuf {
        super::folder(&self.shared.directory, partition).join(super::log_name(base_offset))
    }

    /// Makes the bytes of a partition's open segments durable, as far as they are written.
    fn sync_segments(&mut self, partition: &Arc<Partition>) -> Result<(), Failed> {
        for base_offset in partition.take_unsynced() {
            let file = self.file(partition, base_offset)?;
            let result = file.sync(SyncSite::SegmentBytes);
            during(result, || format!("syncing {}", self.path(partition.id(), base_offset).display()))?;
        }
        Ok(())
    }

    /// Makes the bytes of these partitions' open segments durable, by one sync of the file system where there are many.
    pub(crate) fn sync_group(&mut self, group: &[Arc<Partition>]) -> Result<(), Failed> {
        let unsynced: Vec<&Arc<Partition>> =
            group.iter().filter(|partition| partition.is_unsynced()).collect();
        if unsynced.len() > limits::SEGMENT_SYNCS_ONE_BY_ONE {
            match self.shared.disk.sync_all_files(&self.shared.directory, SyncSite::SegmentBytes) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                result => {
                    unsynced.into_iter().for_each(|partition| drop(partition.take_unsynced()));
                    return during(result, || format!("syncing {}", self.shared.directory.display()));
                }
            }
        }
        unsynced.into_iter().try_for_each(|partition| self.sync_segments(partition))
    }

    /// Makes all names durable that were made since this was last called.
    pub(crate) fn sync_folders(&mut self) -> Result<(), Failed> {
        let sidecars = std::mem::take(&mut self.sidecar_folders);
        let mut segments = std::mem::take(&mut self.unsynced_folders);
        segments.retain(|partition| !sidecars.contains(partition));
        let with_site = sidecars.into_iter().map(|partition| (partition, SyncSite::SidecarName));
        for (partition, site) in
            with_site.chain(segments.into_iter().map(|partition| (partition, SyncSite::SegmentName)))
        {
            let folder = super::folder(&self.shared.directory, partition);
            match self.shared.disk.sync_dir(&folder, site) {
                // Deleted in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => during(result, || format!("syncing {}", folder.display()))?,
            }
        }
        if std::mem::take(&mut self.root_unsynced) {
            let result = self.shared.disk.sync_dir(&self.shared.directory, SyncSite::SegmentName);
            during(result, || format!("syncing {}", self.shared.directory.display()))?;
        }
        Ok(())
    }

    /// Writes a partition's last partial block too, for tools that read files; memory and checkpoint keep it as well.
    pub(crate) fn write_remainder(&mut self, partition: &Arc<Partition>) -> Result<(), Failed> {
        let Some((base_offset, remainder)) = partition.remainder() else { return Ok(()) };
        let file = self.file(partition, base_offset)?;
        let used = remainder.bytes.len();
        let length = used.next_multiple_of(self.shared.block as usize);
        self.buffer[..used].copy_from_slice(&remainder.bytes);
        self.buffer[used..length].fill(0);
        let write = || {
            file.write_at(&self.buffer[..length], remainder.position.into(), Durability::Cached)?;
            file.set_len(remainder.end().into())
        };
        during(write(), || format!("writing {}", self.path(partition.id(), base_offset).display()))
    }

    /// Takes segments away that nothing counts on any more.
    pub(crate) fn remove_segments(&mut self, partition: PartitionId, bases: &[Offset]) -> Result<(), Failed> {
        let folder = super::folder(&self.shared.directory, partition);
        let Some(last) = bases.iter().max() else { return Ok(()) };
        for base_offset in bases {
            self.files.remove(&(partition, *base_offset));
            self.shared.cache.forget((partition, *base_offset));
            remove_if_there(&*self.shared.disk, &folder.join(super::log_name(*base_offset)))?;
        }
        // The last one's sidecar stays for its successor's, until that goes: should it be lost, it is rebuilt from this one.
        let entries = match self.shared.disk.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => during(result, || format!("listing {}", folder.display()))?,
        };
        for (name, base) in sidecars(&entries) {
            if base < *last {
                remove_if_there(&*self.shared.disk, &folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Takes a deleted partition's folder away.
    pub(crate) fn remove_partition(&mut self, partition: PartitionId) -> Result<(), Failed> {
        self.files.retain(|key| key.0 != partition);
        self.shared.cache.forget_partition(partition);
        remove_folder(&*self.shared.disk, &super::folder(&self.shared.directory, partition))
    }
}

/// The sidecars of a partition's folder, with the base offsets in their names.
pub(crate) fn sidecars(entries: &[DirectoryEntry]) -> impl Iterator<Item = (&str, Offset)> {
    let named = entries.iter().filter(|entry| entry.name.ends_with(".sidecar"));
    named.filter_map(|entry| Some((&*entry.name, super::base_offset_of(&entry.name)?)))
}

/// The files of a partition's folder that a purge takes away, with the base offsets in their names. A segment ends where the next begins;
/// of those below, the last one's sidecar stays, for its successor's.
fn purged(entries: &[DirectoryEntry], purge: Purge) -> Vec<(&str, Offset)> {
    let based =
        || entries.iter().filter_map(|entry| Some((&*entry.name, super::base_offset_of(&entry.name)?)));
    let bases: BTreeSet<Offset> = based().map(|(_, base)| base).collect();
    let is_below = |base: Offset| {
        let next = bases.range((Bound::Excluded(base), Bound::Unbounded)).next();
        next.is_some_and(|next| *next <= purge.below)
    };
    let kept = bases.iter().copied().filter(|base| is_below(*base)).max();
    let is_kept = |name: &str, base| Some(base) == kept && name.ends_with(".sidecar");
    based().filter(|(name, base)| *base > purge.above || (is_below(*base) && !is_kept(name, *base))).collect()
}

/// Writes a sidecar beside its segment: whole under another name first. The folder is synced by the caller.
pub(crate) fn write_sidecar(shared: &Shared, folder: &Path, sidecar: &Sidecar) -> Result<(), Failed> {
    let path = folder.join(super::sidecar_name(sidecar.base_offset()));
    let new_path = folder.join(super::new_sidecar_name(sidecar.base_offset()));
    let write = || {
        let file = shared.disk.open(&new_path, OpenHow::WRITE)?;
        let bytes = sidecar.encode();
        file.set_len(0)?;
        shared.space.take(&*file, bytes.len() as u64, bytes.len() as u64)?;
        file.write_at(&bytes, 0, Durability::Cached)?;
        file.sync(SyncSite::SidecarBytes)?;
        shared.disk.rename(&new_path, &path)
    };
    during(write(), || format!("writing {}", path.display()))
}

/// Removes a folder with the files in it; fine when it is not there.
pub(crate) fn remove_folder(disk: &dyn Disk, folder: &Path) -> Result<(), Failed> {
    let names = match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => during(result, || format!("listing {}", folder.display()))?,
    };
    for entry in names {
        remove_if_there(disk, &folder.join(entry.name))?;
    }
    during(disk.remove_dir(folder), || format!("removing {}", folder.display()))
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), Failed> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => during(result, || format!("removing {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_takes_what_lies_wholly_outside() {
        let names = [
            (0, "log"),
            (0, "sidecar"),
            (10, "log"),
            (10, "sidecar"),
            (20, "log"),
            (20, "sidecar.new"),
            (30, "log"),
        ];
        let name = |(base, kind)| DirectoryEntry { name: format!("{base:020}.{kind}"), is_dir: false };
        let entries: Vec<_> = names.into_iter().map(name).collect();
        let left = |above, below| -> Vec<i64> {
            let gone = purged(&entries, Purge { above: Offset(above), below: Offset(below) });
            let bases = entries.iter().filter(|entry| !gone.iter().any(|(name, _)| *name == entry.name));
            bases.map(|entry| super::super::base_offset_of(&entry.name).expect("a segment's").0).collect()
        };
        assert_eq!(left(30, 0), [0, 0, 10, 10, 20, 20, 30]);
        assert_eq!(left(19, 0), [0, 0, 10, 10]);
        assert_eq!(left(30, 15), [0, 10, 10, 20, 20, 30], "a segment that reaches above the limit stays");
        assert_eq!(left(30, 20), [10, 20, 20, 30], "the last sidecar below stays");
        assert_eq!(left(30, 99), [30], "the last one's end is not in its name");
    }
}
