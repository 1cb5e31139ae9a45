//! Disk space set aside, so that what was accepted can always be written.
//!
//! Owns: a file that holds the reserve, and the answer whether producers may go on.
//! Does not own: freeing space; retention and deletions do, and the reserve fills up again after them.
//!
//! The reserve covers all that the journal can hold and the growth of the checkpoint file. When a segment, a sidecar or
//! the checkpoint finds no space, it is lent from the reserve, and producers are refused until the reserve is whole again.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile, OpenHow};
use crate::health::lock;
use crate::limits;

#[derive(Debug)]
pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    directory: std::path::PathBuf,
    file: Arc<dyn DiskFile>,
    reserve: Mutex<Reserve>,
    short: AtomicBool,
}

#[derive(Debug)]
struct Reserve {
    /// What is to be held.
    target_bytes: u64,
    /// What is held.
    held_bytes: u64,
    /// Whether the file system can hold anything; else free space is watched.
    supported: bool,
}

impl Space {
    pub(crate) fn open(disk: Arc<dyn Disk>, directory: &Path, target_bytes: u64) -> io::Result<Self> {
        let file = disk.open(&directory.join("reserve"), OpenHow::WRITE)?;
        let reserve = Mutex::new(Reserve { target_bytes, held_bytes: 0, supported: true });
        let space =
            Self { disk, directory: directory.to_owned(), file, reserve, short: AtomicBool::new(true) };
        space.restore()?;
        Ok(space)
    }

    /// Whether producers have to be refused.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Sets how much is to be held.
    pub(crate) fn set_target(&self, target_bytes: u64) -> io::Result<()> {
        let mut reserve = lock(&self.reserve);
        let enough = reserve.held_bytes >= target_bytes && reserve.supported;
        reserve.target_bytes = target_bytes;
        drop(reserve);
        if enough { Ok(()) } else { self.restore() }
    }

    /// Tries to make the reserve whole; without space it stays short.
    pub(crate) fn restore(&self) -> io::Result<()> {
        let mut reserve = lock(&self.reserve);
        if reserve.supported {
            match self.file.reserve(reserve.target_bytes) {
                Ok(()) => reserve.held_bytes = reserve.target_bytes,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                Err(error) if error.kind() == io::ErrorKind::Unsupported => reserve.supported = false,
                Err(error) => return Err(error),
            }
        }
        let whole = if reserve.supported {
            reserve.held_bytes >= reserve.target_bytes
        } else {
            self.disk.free_bytes(&self.directory)? >= reserve.target_bytes
        };
        self.short.store(!whole, Ordering::Relaxed);
        Ok(())
    }

    /// Takes space for the first `length` bytes of a file, of which `new_bytes` are not held by it yet; from the reserve where
    /// the disk has none.
    pub(crate) fn take(&self, file: &dyn DiskFile, length: u64, new_bytes: u64) -> io::Result<()> {
        match file.reserve(length) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
            other => return other,
        }
        let mut reserve = lock(&self.reserve);
        self.short.store(true, Ordering::Relaxed);
        let lent = new_bytes.next_multiple_of(limits::LENT_BYTES_UNIT);
        if reserve.held_bytes < lent {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // A cut gives back only what lies below the length before, which reserving does not move.
        self.file.set_len(reserve.held_bytes)?;
        reserve.held_bytes -= lent;
        self.file.set_len(reserve.held_bytes)?;
        file.reserve(length)
    }
}
