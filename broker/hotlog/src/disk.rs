//! The file-system seam: every file operation of the log goes through [`Disk`] and [`DiskFile`].
//!
//! Owns: what each operation promises about durability, and the real implementation.
//! Does not own: file names and formats, retries (there are none: a failed write or sync is final).
//!
//! # What is durable after which call
//! A power loss keeps or loses each change below independently of every other, unless a call listed here has returned.
//!
//! | change | survives a process's death | survives a power loss after |
//! |---|---|---|
//! | bytes of [`DiskFile::write_at`] with [`Durability::Cached`] | once the call returned | [`DiskFile::sync`] of any handle of that file |
//! | bytes of `write_at` with [`Durability::Durable`] | once the call returned | the call itself, with the length that reaches them |
//! | length by `write_at` (cached) or [`DiskFile::set_len`] | once the call returned | `sync` |
//! | blocks by [`DiskFile::reserve`] | once the call returned | `sync` (nothing relies on it before) |
//! | a new file's or folder's name, a rename, a removal | once the call returned | [`Disk::sync_dir`] of the folder holding the name (both folders of a rename) |
//!
//! A durable write promises nothing about earlier cached writes of the same file. A write cut short by power loss may leave any subset of its
//! 512-byte pieces, each old or new; pieces of one cached write may reach the disk in any order, before or after other unsynced changes.
//! A file whose name is durable but that was never synced may come back with any length up to the one it had, unwritten parts reading
//! as zeros. A sync that failed says nothing, and a later one that succeeds says nothing about the bytes before the failure.
//!
//! Direct files (see [`OpenHow::direct`]) want buffer address, position and length to be multiples of the block size; see [`AlignedBuffer`].

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::mm::Advice;

use crate::limits;
use crate::sync_site::SyncSite;

/// How far a write has to get before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The operating system has the bytes: they survive this process, not the power.
    Cached,
    /// The device has the bytes; the site says for what.
    Durable(SyncSite),
}

/// What [`Disk::open`] does when the name exists or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// The file has to exist.
    Never,
    /// The file must not exist yet ([`io::ErrorKind::AlreadyExists`] otherwise).
    New,
    /// Either; an existing file keeps its bytes.
    IfMissing,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenHow {
    /// Whether the handle may write.
    pub write: bool,
    /// Whether the file is made.
    pub create: Create,
    /// Past the page cache where the file system can do that, through it otherwise; blocks rule the alignment either way.
    /// A direct read sees what the device has, so it follows a [`DiskFile::sync`] where the writes before it were cached.
    pub direct: bool,
}

impl OpenHow {
    /// An existing file, for reading through the page cache.
    pub const READ: Self = Self { write: false, create: Create::Never, direct: false };
    /// A file to read and write through the page cache, made where missing.
    pub const WRITE: Self = Self { write: true, create: Create::IfMissing, direct: false };

    /// The same, past the page cache where possible.
    #[must_use]
    pub const fn direct(self) -> Self {
        Self { direct: true, ..self }
    }

    /// The same with another rule for the name.
    #[must_use]
    pub const fn create(self, create: Create) -> Self {
        Self { create, ..self }
    }
}

/// What a folder's file system can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskTraits {
    /// The unit of direct writes: a power of two, at least 512, in bytes. The log never uses less than 4 KiB.
    pub block_bytes: u32,
    /// Whether direct files really pass the page cache.
    pub direct: bool,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    /// The last part of the path; names that are not UTF-8 are left out, the log makes none.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// One run of the machine, from its start to its stop: what a process wrote to the cache is there until the run ends. All zero where
/// that cannot be told, which is equal to no other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// Whether both are surely the same run.
    #[must_use]
    pub fn is_same_run(self, other: Self) -> bool {
        self == other && self != Self::default()
    }
}

/// Held while a folder is in use; dropping it, or the process's death, frees the folder.
pub trait DiskLock: fmt::Debug + Send + Sync {}

/// The file system, as narrow as the log needs it.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Probes what the file system of `dir` (which exists) can do.
    fn traits(&self, dir: &Path) -> io::Result<DiskTraits>;
    /// Makes one folder; fine when it exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// All names in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>>;
    /// Opens a file.
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing what had the new name in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; open handles keep reading. Missing is [`io::ErrorKind::NotFound`].
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable as they are.
    fn sync_dir(&self, dir: &Path, site: SyncSite) -> io::Result<()>;
    /// Makes contents and lengths of all files of the file system that `dir` is on durable, as one [`DiskFile::sync`] of each would.
    /// [`io::ErrorKind::Unsupported`] where that cannot be asked for; then each is synced.
    fn sync_all_files(&self, dir: &Path, site: SyncSite) -> io::Result<()> {
        let _ = (dir, site);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Bytes that an unprivileged writer can still take.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// The present run of the machine.
    fn boot_id(&self) -> BootId;
    /// Takes a lock file (made where missing) for this process; [`io::ErrorKind::WouldBlock`] when another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// One open file. Handles are shared between threads; a closed handle syncs nothing.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Fills `buffer` from `position`; short only at the end of the file, and then returns how much it got.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `position`, growing the file where needed. On an error any part may have been written.
    fn write_at(&self, bytes: &[u8], position: u64, durability: Durability) -> io::Result<()>;
    /// Makes contents and length durable: everything written so far through any handle of this file.
    fn sync(&self, site: SyncSite) -> io::Result<()>;
    /// Cuts or grows (with zeros) the file, giving back reserved blocks beyond the new end.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Takes disk space for the first `length` bytes without changing the length. [`io::ErrorKind::StorageFull`] when there is none;
    /// [`io::ErrorKind::Unsupported`] when the file system cannot reserve.
    fn reserve(&self, length: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// The operating system's file behind this handle, for `sendfile`; `None` where there is none (a recorded disk).
    fn std_file(&self) -> Option<&Arc<File>>;
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: Arc<File>,
}

#[derive(Debug)]
struct RealLock {
    /// The kernel frees the lock with the last handle.
    _file: File,
}

impl DiskLock for RealLock {}

impl Disk for RealDisk {
    fn traits(&self, dir: &Path) -> io::Result<DiskTraits> {
        let asked =
            rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let probe_path = dir.join(".probe-direct");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let probe = rustix::fs::open(&probe_path, flags | OFlags::DIRECT, Mode::from_raw_mode(0o644));
        let traits = match probe {
            Ok(probe) => {
                let stat = rustix::fs::statx(&probe, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
                let reported = StatxFlags::from_bits_retain(stat.stx_mask)
                    .contains(StatxFlags::DIOALIGN)
                    .then_some(stat.stx_dio_offset_align.max(stat.stx_dio_mem_align));
                match reported {
                    Some(0) => DiskTraits { block_bytes: limits::BLOCK_BYTES, direct: false },
                    Some(align) => {
                        DiskTraits { block_bytes: align.max(512).next_power_of_two(), direct: true }
                    }
                    // Kernels before 6.1 do not say; every device takes multiples of the page then.
                    None => DiskTraits { block_bytes: limits::BLOCK_BYTES, direct: true },
                }
            }
            Err(Errno::INVAL) => DiskTraits { block_bytes: limits::BLOCK_BYTES, direct: false },
            Err(error) => return Err(error.into()),
        };
        match rustix::fs::unlink(&probe_path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        drop(asked);
        Ok(traits)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            other => other,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirectoryEntry { name, is_dir });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        let mut flags = OFlags::CLOEXEC | if how.write { OFlags::RDWR } else { OFlags::RDONLY };
        flags |= match how.create {
            Create::Never => OFlags::empty(),
            Create::New => OFlags::CREATE | OFlags::EXCL,
            Create::IfMissing => OFlags::CREATE,
        };
        let mode = Mode::from_raw_mode(0o644);
        let opened = if how.direct {
            match rustix::fs::open(path, flags | OFlags::DIRECT, mode) {
                // A file system without direct access may have made the name before it refused the flag.
                Err(Errno::INVAL) => rustix::fs::open(path, flags - OFlags::EXCL, mode)?,
                other => other?,
            }
        } else {
            rustix::fs::open(path, flags, mode)?
        };
        Ok(Arc::new(RealFile { file: Arc::new(File::from(opened)) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path, _site: SyncSite) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn sync_all_files(&self, dir: &Path, _site: SyncSite) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(dir)?)?)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn boot_id(&self) -> BootId {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits = text.trim().replace('-', "");
        u128::from_str_radix(&digits, 16).map_or_else(|_| BootId::default(), |id| BootId(id.to_be_bytes()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock { _file: File::from(file) }))
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], position: u64, durability: Durability) -> io::Result<()> {
        let flags = match durability {
            Durability::Cached => ReadWriteFlags::empty(),
            Durability::Durable(_) => ReadWriteFlags::DSYNC,
        };
        let mut written = 0;
        while written < bytes.len() {
            let rest = [io::IoSlice::new(&bytes[written..])];
            match rustix::io::pwritev2(&self.file, &rest, position + written as u64, flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self, _site: SyncSite) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, length) {
            Err(Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            Err(Errno::DQUOT) => Err(io::ErrorKind::StorageFull.into()),
            other => Ok(other?),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn std_file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}

/// Memory whose address is a multiple of the block size, so that direct files take it.
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

/// What the system's huge pages measure where there are any.
const HUGE_PAGE_BYTES: usize = 2 << 20;

impl AlignedBuffer {
    /// `length` zeroed bytes at an address that is a multiple of `align` (a power of two). Large ones lie in huge pages where the system
    /// has any: copying through them costs fewer address translations, and the device is handed fewer pieces.
    #[must_use]
    pub fn zeroed(length: usize, align: usize) -> Self {
        let align = if length < HUGE_PAGE_BYTES { align } else { align.max(HUGE_PAGE_BYTES) };
        let memory = vec![0; length + align];
        let start = memory.as_ptr().align_offset(align);
        let mut buffer = Self { memory, start, length };
        buffer.ask_for_huge_pages();
        buffer
    }

    #[allow(unsafe_code, reason = "the one kind of advice that changes no byte and needs no cooperation")]
    fn ask_for_huge_pages(&mut self) {
        let whole_bytes = self.length - self.length % HUGE_PAGE_BYTES;
        if whole_bytes == 0 {
            return;
        }
        let start = self.as_mut_ptr().cast();
        // A system without huge pages says so, and has given ordinary ones.
        // SAFETY: the range is inside this buffer's own memory, and this advice neither changes, moves nor frees what it holds.
        let _ = unsafe { rustix::mm::madvise(start, whole_bytes, Advice::LinuxHugepage) };
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuffer").field("length", &self.length).finish_non_exhaustive()
    }
}
