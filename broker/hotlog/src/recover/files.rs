//! The files that recovery begins with: folders and lock, checkpoint and ring, and what is refused of them.
//!
//! Owns: finding them, making those of a new directory, giving up a journal when that is asked for.
//! Does not own: what their contents mean together.

use std::io;
use std::path::{Path, PathBuf};

use super::{io_error, journal_directory};
use crate::checkpoint::{self, LoadError, Loaded};
use crate::disk::DiskLock;
use crate::error::OpenError;
use crate::journal::file::{self as ring_file, Found, ReadRing};
use crate::journal::{Geometry, RingId};
use crate::limits;
use crate::options::LogOptions;
use crate::segment;
use crate::sync_site::SyncSite;

/// The files as they were found, before anything is decided.
pub(super) struct FoundFiles {
    pub(super) loaded: Loaded,
    pub(super) ring: ReadRing,
    pub(super) makes_checkpoint: bool,
    pub(super) losses: Vec<String>,
}

/// Makes the folders and takes the lock.
pub(super) fn prepare(options: &LogOptions) -> Result<Box<dyn DiskLock>, OpenError> {
    let sound = (limits::JOURNAL_BYTES_MIN..=limits::JOURNAL_BYTES_MAX).contains(&options.journal_bytes);
    if !sound {
        let (min, max) = (limits::JOURNAL_BYTES_MIN, limits::JOURNAL_BYTES_MAX);
        let asked = options.journal_bytes;
        return Err(OpenError::Settings(format!(
            "a journal of {asked} bytes is not possible: ask for {min} to {max}"
        )));
    }
    for directory in [options.directory.as_path(), journal_directory(options)] {
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        let made = options.disk.create_dir(directory).and_then(|()| {
            // Also when it was there: an earlier first start may have been cut short before this.
            options.disk.sync_dir(parent.unwrap_or(Path::new(".")), SyncSite::DirectoryName)
        });
        made.map_err(io_error(|| format!("making folder {}", directory.display())))?;
    }
    match options.disk.lock(&options.directory.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::InUse { path: options.directory.clone() })
        }
        other => other.map_err(io_error(|| format!("locking {}", options.directory.display()))),
    }
}

/// The unit of writes: what both devices ask for, and no less than a page.
pub(super) fn block_of(options: &LogOptions) -> Result<u64, OpenError> {
    let mut block = limits::BLOCK_BYTES;
    for directory in [options.directory.as_path(), journal_directory(options)] {
        let traits = options.disk.traits(directory);
        let traits = traits.map_err(io_error(|| format!("probing {}", directory.display())))?;
        block = block.max(traits.block_bytes);
    }
    if block > limits::BLOCK_BYTES_MAX {
        let most = limits::BLOCK_BYTES_MAX;
        return Err(OpenError::Settings(format!(
            "a device asks for writes of {block} bytes, at most {most} are possible"
        )));
    }
    Ok(block.into())
}

/// Reads checkpoint and ring, and says what of them is missing; makes the ring of a new directory.
pub(super) fn find_files(options: &LogOptions, block: u64) -> Result<FoundFiles, OpenError> {
    let directory = journal_directory(options);
    let path = ring_file::path_in(directory);
    let loaded = load_checkpoint(options)?;
    let found = ring_file::read(&*options.disk, directory, block);
    let found = found.map_err(io_error(|| format!("reading {}", path.display())))?;
    if let Found::Version(version) = found {
        let reason = format!("its version is {version}, this program reads version 1");
        return Err(OpenError::Damaged { path, reason });
    }
    let Some(loaded) = loaded else { return find_new(options, block, &found) };
    let refusal = match found {
        Found::Ring(ring) if ring.geometry == loaded.geometry => {
            return Ok(FoundFiles { loaded, ring, makes_checkpoint: false, losses: Vec::new() });
        }
        Found::Ring(_) => OpenError::JournalForeign { path },
        Found::Missing => OpenError::JournalMissing { path },
        Found::Damaged | Found::Version(_) => OpenError::Damaged {
            path,
            reason: "its header is not a journal's; give up what it held with --accept-loss".to_owned(),
        },
    };
    if !options.accept_loss {
        return Err(refusal);
    }
    give_up_journal(options, block, loaded, &refusal)
}

fn load_checkpoint(options: &LogOptions) -> Result<Option<Loaded>, OpenError> {
    let path = checkpoint::path_in(&options.directory);
    checkpoint::load(&*options.disk, &options.directory).map_err(|error| match error {
        LoadError::Io(source) => OpenError::Io { operation: format!("reading {}", path.display()), source },
        LoadError::Identity(reason) => OpenError::Damaged { path, reason },
        LoadError::Frame { position, source } => {
            OpenError::Damaged { path, reason: format!("frame at byte {position}: {source}") }
        }
    })
}

/// A directory without a checkpoint: a new one, or one whose making was cut short, else its checkpoint was lost.
fn find_new(options: &LogOptions, block: u64, found: &Found) -> Result<FoundFiles, OpenError> {
    let lost = |reason: &str| OpenError::Damaged {
        path: checkpoint::path_in(&options.directory),
        reason: format!("it is missing, but {reason}: bring it back, or start with an empty folder"),
    };
    if let Found::Ring(ring) = found
        && ring.has_commits()
    {
        return Err(lost("the journal holds commits"));
    }
    let names = options.disk.list(&options.directory);
    let names = names.map_err(io_error(|| format!("listing {}", options.directory.display())))?;
    if names.iter().any(|entry| entry.is_dir && segment::partition_of(&entry.name).is_some()) {
        return Err(lost("there are segments"));
    }
    let ring = make_ring(options, block)?;
    let loaded = Loaded::new(ring.geometry);
    Ok(FoundFiles { loaded, ring, makes_checkpoint: true, losses: Vec::new() })
}

fn make_ring(options: &LogOptions, block: u64) -> Result<ReadRing, OpenError> {
    let directory = journal_directory(options);
    let capacity = options.journal_bytes.next_multiple_of(block);
    let geometry = Geometry { ring_id: RingId((options.entropy)()), block, capacity };
    let made = ring_file::make(&*options.disk, directory, &geometry);
    made.map_err(io_error(|| format!("making {}", ring_file::path_in(directory).display())))?;
    let data = crate::disk::AlignedBuffer::zeroed(capacity as usize, block as usize);
    Ok(ReadRing { geometry, data })
}

/// Goes on from the checkpoint alone, with a new ring. The old file, if any, is kept under another name.
fn give_up_journal(
    options: &LogOptions,
    block: u64,
    mut loaded: Loaded,
    refusal: &OpenError,
) -> Result<FoundFiles, OpenError> {
    let directory: PathBuf = journal_directory(options).to_owned();
    let aside = ring_file::set_aside_in(&directory);
    match options.disk.rename(&ring_file::path_in(&directory), &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other.map_err(io_error(|| format!("renaming to {}", aside.display())))?,
    }
    let ring = make_ring(options, block)?;
    loaded.move_to(ring.geometry);
    let loss = format!("everything since checkpoint {} was given up: {refusal}", loaded.cut.number);
    Ok(FoundFiles { loaded, ring, makes_checkpoint: true, losses: vec![loss] })
}
