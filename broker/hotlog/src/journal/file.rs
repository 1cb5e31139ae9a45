//! The journal's file: made full of zeros, opened, and read past the cache.
//!
//! Owns: those three. Does not own: what its bytes mean, which ring is the right one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Geometry;
use super::format::{CommitHeader, RING_HEADER_BYTES, RingHeader, RingHeaderError};
use crate::disk::{AlignedBuffer, Create, Disk, DiskFile, Durability, OpenHow};
use crate::limits;
use crate::options::FlushMode;
use crate::sync_site::SyncSite;

/// A journal's file in its folder.
pub(crate) fn path_in(directory: &Path) -> PathBuf {
    directory.join("journal")
}

/// Where an unusable journal goes when its loss is accepted.
pub(crate) fn set_aside_in(directory: &Path) -> PathBuf {
    directory.join("journal.set-aside")
}

/// Makes a ring of zeros, durably, in place of whatever had the name.
pub(crate) fn make(disk: &dyn Disk, directory: &Path, geometry: &Geometry) -> io::Result<()> {
    let path = path_in(directory);
    let file = disk.open(&path, OpenHow::WRITE)?;
    file.set_len(0)?;
    let zeros = vec![0; limits::JOURNAL_MAKE_BYTES];
    let length = geometry.block + geometry.capacity;
    let mut at = 0;
    while at < length {
        let piece = (length - at).min(zeros.len() as u64);
        file.write_at(&zeros[..piece as usize], at, Durability::Cached)?;
        at += piece;
    }
    let header = RingHeader {
        ring_id: geometry.ring_id,
        block_bytes: geometry.block as u32,
        capacity_bytes: geometry.capacity,
    };
    file.write_at(&header.encode(), 0, Durability::Cached)?;
    file.sync(SyncSite::JournalMade)?;
    disk.sync_dir(directory, SyncSite::JournalMadeName)
}

/// What a journal file turned out to be.
#[derive(Debug)]
pub(crate) enum Found {
    Missing,
    /// Its header is not one.
    Damaged,
    Version(u16),
    Ring(ReadRing),
}

/// A ring and its data.
#[derive(Debug)]
pub(crate) struct ReadRing {
    pub(crate) geometry: Geometry,
    pub(crate) data: AlignedBuffer,
}

impl ReadRing {
    /// Whether any block looks like a commit.
    pub(crate) fn has_commits(&self) -> bool {
        self.data.chunks_exact(self.geometry.block as usize).any(|block| CommitHeader::peek(block).is_some())
    }
}

/// Syncs the ring, so that what is read now is what a later crash leaves, and reads it past the cache.
pub(crate) fn read(disk: &dyn Disk, directory: &Path, block: u64) -> io::Result<Found> {
    let how = OpenHow { write: true, create: Create::Never, direct: true };
    let file = match disk.open(&path_in(directory), how) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        other => other?,
    };
    file.sync(SyncSite::RecoveryRing)?;
    let mut first = AlignedBuffer::zeroed(block as usize, block as usize);
    if file.read_at(&mut first, 0)? < first.len() {
        return Ok(Found::Damaged);
    }
    let header: &[u8; RING_HEADER_BYTES] = first.first_chunk().expect("a block is longer than the header");
    let header = match RingHeader::decode(header) {
        Ok(header) => header,
        Err(RingHeaderError::Damaged) => return Ok(Found::Damaged),
        Err(RingHeaderError::Version(version)) => return Ok(Found::Version(version)),
    };
    let ring_block = u64::from(header.block_bytes);
    let in_bounds = ring_block >= block
        && ring_block <= u64::from(limits::BLOCK_BYTES_MAX)
        && (limits::JOURNAL_BYTES_MIN..=limits::JOURNAL_BYTES_MAX).contains(&header.capacity_bytes);
    if !in_bounds {
        return Ok(Found::Damaged);
    }
    let geometry = Geometry { ring_id: header.ring_id, block: ring_block, capacity: header.capacity_bytes };
    let mut data = AlignedBuffer::zeroed(geometry.capacity as usize, ring_block as usize);
    let whole = file.read_at(&mut data, geometry.block)? == data.len();
    Ok(if whole { Found::Ring(ReadRing { geometry, data }) } else { Found::Damaged })
}

/// Opens a ring for commits: past the cache where each is durable, through it where the cached pages are what survives a kill.
pub(crate) fn open(disk: &dyn Disk, directory: &Path, mode: FlushMode) -> io::Result<Arc<dyn DiskFile>> {
    let how = OpenHow { write: true, create: Create::Never, direct: mode == FlushMode::Ack };
    disk.open(&path_in(directory), how)
}
