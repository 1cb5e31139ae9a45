//! The checkpoint file: what only memory knows of each partition, and up to where the journal is not needed any more.
//! `FORMAT-CHECKPOINT.md` draws its bytes.
//!
//! Owns: the file, its frames and their chain of checksums, its replacement. Does not own: when a checkpoint is made, the
//! segments that have to be safe before.

mod frame;
pub(crate) mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{BootId, Create, Disk, DiskFile, Durability, OpenHow};
use crate::encoding::{DecodeError, Decoder};
use crate::journal::{ChainPoint, Geometry};
use crate::limits;
use crate::options::FlushMode;
use crate::partition::PartitionId;
use crate::space::Space;
use crate::sync_site::SyncSite;
use frame::{
    FrameKind, FrameWriter, next_frame, partition_of, put_cut, put_identity, put_start, read_cut,
    read_identity, read_start,
};
use record::PartitionRecord;

/// Up to where the journal is not needed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cut {
    /// Checkpoints of this directory so far.
    pub(crate) number: u64,
    pub(crate) point: ChainPoint,
    /// Whether the directory was closed with this cut: nothing follows it.
    pub(crate) is_stop: bool,
}

/// A start of the directory: from this point of the chain on, commits carry its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) number: u32,
    pub(crate) mode: FlushMode,
    pub(crate) point: ChainPoint,
    /// Whether the ring does not have the last commit before `point`, which the checkpoint covers: a power loss took it.
    pub(crate) lacks_last: bool,
    /// In which run of the machine.
    pub(crate) boot: BootId,
}

/// What the file says.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) geometry: Geometry,
    pub(crate) partitions: BTreeMap<PartitionId, PartitionRecord>,
    pub(crate) cut: Cut,
    pub(crate) start: Option<Start>,
    /// Whether the last start was ended by a close.
    pub(crate) is_stopped: bool,
    /// Where the next frame goes, behind the last one that counts.
    end: u64,
    last_crc: u32,
}

/// Why the file cannot be used.
#[derive(Debug)]
pub(crate) enum LoadError {
    Io(io::Error),
    /// The first frame is not one, or another version's.
    Identity(String),
    /// A frame is whole and yet does not say what it should.
    Frame {
        position: u64,
        source: DecodeError,
    },
}

/// The open file.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    disk: Arc<dyn Disk>,
    space: Arc<Space>,
    directory: PathBuf,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    geometry: Geometry,
    end: u64,
    /// Disk space taken for the file.
    reserved: u64,
    last_crc: u32,
    /// The length after the last replacement.
    replaced_bytes: u64,
    buffer: Vec<u8>,
}

pub(crate) fn path_in(directory: &Path) -> PathBuf {
    directory.join("checkpoint")
}

fn replacement_in(directory: &Path) -> PathBuf {
    directory.join("checkpoint.new")
}

/// Reads the file; `None` where there is none.
pub(crate) fn load(disk: &dyn Disk, directory: &Path) -> Result<Option<Loaded>, LoadError> {
    let file = match disk.open(&path_in(directory), OpenHow::READ) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(LoadError::Io)?,
    };
    let length = usize::try_from(file.len().map_err(LoadError::Io)?).expect("a file's length fits memory's");
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, 0).map_err(LoadError::Io)?;
    bytes.truncate(read);
    parse(&bytes).map(Some)
}

fn parse(bytes: &[u8]) -> Result<Loaded, LoadError> {
    let Some((kind, payload, crc, length)) = next_frame(bytes, 0) else {
        return Err(LoadError::Identity("its first frame is damaged".to_owned()));
    };
    if kind != FrameKind::Identity as u8 {
        return Err(LoadError::Identity("it does not begin as a checkpoint does".to_owned()));
    }
    let geometry = read_identity(payload)?;
    let mut loaded = Loaded {
        geometry,
        partitions: BTreeMap::new(),
        cut: Cut::default(),
        start: None,
        is_stopped: false,
        end: length as u64,
        last_crc: crc,
    };
    // Partitions count once the cut behind them is there.
    let mut pending: BTreeMap<PartitionId, Option<(usize, &[u8])>> = BTreeMap::new();
    let (mut at, mut last_crc) = (length, crc);
    while let Some((kind, payload, crc, length)) = next_frame(&bytes[at..], last_crc) {
        let position = at as u64;
        let fail = |source| LoadError::Frame { position, source };
        (at, last_crc) = (at + length, crc);
        let mut decoder = Decoder::new(payload);
        match kind {
            kind if kind == FrameKind::Partition as u8 => {
                pending.insert(partition_of(&mut decoder).map_err(fail)?, Some((at - length, payload)));
            }
            kind if kind == FrameKind::Removed as u8 => {
                pending.insert(partition_of(&mut decoder).map_err(fail)?, None);
            }
            kind if kind == FrameKind::Cut as u8 => {
                loaded.cut = read_cut(&mut decoder).map_err(fail)?;
                loaded.is_stopped = loaded.cut.is_stop;
                loaded.apply(std::mem::take(&mut pending))?;
                (loaded.end, loaded.last_crc) = (at as u64, crc);
            }
            kind if kind == FrameKind::Start as u8 => {
                loaded.start = Some(read_start(&mut decoder).map_err(fail)?);
                loaded.is_stopped = false;
                (loaded.end, loaded.last_crc) = (at as u64, crc);
            }
            other => {
                let source =
                    DecodeError::Value { field: "frame kind", value: other.into(), rule: "this version" };
                return Err(LoadError::Frame { position, source });
            }
        }
    }
    Ok(loaded)
}

impl Loaded {
    /// What the file of a new directory would say.
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            partitions: BTreeMap::new(),
            cut: Cut::default(),
            start: None,
            is_stopped: false,
            end: 0,
            last_crc: 0,
        }
    }

    /// Goes over to another, empty ring.
    pub(crate) fn move_to(&mut self, geometry: Geometry) {
        self.geometry = geometry;
        self.cut.point = ChainPoint::default();
        if let Some(start) = &mut self.start {
            start.point = ChainPoint::default();
        }
        for record in self.partitions.values_mut() {
            record.head.as_of = 0;
        }
    }

    /// The file's length up to where it counts.
    pub(crate) fn length(&self) -> u64 {
        self.end
    }

    fn apply(&mut self, pending: BTreeMap<PartitionId, Option<(usize, &[u8])>>) -> Result<(), LoadError> {
        for (partition, record) in pending {
            let before = self.partitions.remove(&partition);
            let Some((position, payload)) = record else { continue };
            let record = PartitionRecord::decode(payload, before)
                .map_err(|source| LoadError::Frame { position: position as u64, source })?;
            self.partitions.insert(partition, record);
        }
        Ok(())
    }
}

impl CheckpointFile {
    /// Goes on behind what was loaded. What a crash left behind there is overwritten: the chain of checksums keeps it from counting.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        space: &Arc<Space>,
        directory: &Path,
        loaded: &Loaded,
    ) -> io::Result<Self> {
        let path = path_in(directory);
        // A process that died may have given the file its name and not made that durable: what is added must not go with it.
        disk.sync_dir(directory, SyncSite::CheckpointName)?;
        let file = disk.open(&path, OpenHow::WRITE.create(Create::Never))?;
        file.set_len(loaded.end)?;
        Ok(Self {
            disk,
            space: Arc::clone(space),
            directory: directory.to_owned(),
            path,
            file,
            geometry: loaded.geometry,
            end: loaded.end,
            reserved: loaded.end,
            last_crc: loaded.last_crc,
            replaced_bytes: loaded.end,
            buffer: Vec::new(),
        })
    }

    /// Makes the file of a new directory, or one that replaces what was loaded, for the ring that it names.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        space: &Arc<Space>,
        directory: &Path,
        loaded: &Loaded,
    ) -> io::Result<Self> {
        let mut file = Self::replacement(disk, space, directory, loaded.geometry)?;
        for record in loaded.partitions.values() {
            let mut bytes = Vec::new();
            record.parts().encode(&mut bytes);
            record::put_remainder(&mut bytes, &record.remainder);
            file.put_partition(&bytes)?;
        }
        if let Some(start) = &loaded.start {
            file.put(FrameKind::Start, |target| put_start(target, start))?;
        }
        file.put(FrameKind::Cut, |target| put_cut(target, &loaded.cut))?;
        file.take_name()?;
        Ok(file)
    }

    fn replacement(
        disk: Arc<dyn Disk>,
        space: &Arc<Space>,
        directory: &Path,
        geometry: Geometry,
    ) -> io::Result<Self> {
        let path = path_in(directory);
        let file = disk.open(&replacement_in(directory), OpenHow::WRITE)?;
        file.set_len(0)?;
        let directory = directory.to_owned();
        let mut file = Self {
            disk,
            space: Arc::clone(space),
            directory,
            path,
            file,
            geometry,
            end: 0,
            reserved: 0,
            last_crc: 0,
            replaced_bytes: 0,
            buffer: Vec::new(),
        };
        file.put(FrameKind::Identity, |target| put_identity(target, &geometry))?;
        Ok(file)
    }

    /// Makes a replacement durable, then gives it the name.
    fn take_name(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync(SyncSite::CheckpointReplacement)?;
        self.disk.rename(&replacement_in(&self.directory), &self.path)?;
        self.disk.sync_dir(&self.directory, SyncSite::CheckpointName)?;
        self.replaced_bytes = self.end;
        Ok(())
    }

    /// Whether the file has doubled since it was last replaced, so that the next checkpoint replaces it.
    pub(crate) fn is_due_for_replacement(&self) -> bool {
        self.end > limits::CHECKPOINT_REPLACE_BYTES_MIN && self.end >= 2 * self.replaced_bytes
    }

    /// The length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.end
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A replacement to be filled with every partition; [`CheckpointFile::finish_replacement`] ends it.
    pub(crate) fn start_replacement(&self) -> io::Result<Self> {
        Self::replacement(Arc::clone(&self.disk), &self.space, &self.directory, self.geometry)
    }

    /// Adds a partition's record: [`record::RecordParts::encode`], then the remainder.
    pub(crate) fn put_partition(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(FrameKind::Partition, |target| target.extend_from_slice(bytes))
    }

    /// Says that a partition is gone.
    pub(crate) fn put_removed(&mut self, partition: PartitionId) -> io::Result<()> {
        self.put(FrameKind::Removed, |target| {
            target.extend_from_slice(&partition.topic_id.0);
            target.extend_from_slice(&partition.partition.to_be_bytes());
        })
    }

    /// Ends a checkpoint; once it returned, all records since the one before count.
    pub(crate) fn finish(&mut self, cut: &Cut) -> io::Result<()> {
        self.put(FrameKind::Cut, |target| put_cut(target, cut))?;
        self.flush()?;
        self.file.sync(SyncSite::CheckpointAppended)
    }

    /// Ends a checkpoint that replaces the file.
    pub(crate) fn finish_replacement(&mut self, cut: &Cut, start: &Start) -> io::Result<()> {
        self.put(FrameKind::Start, |target| put_start(target, start))?;
        self.put(FrameKind::Cut, |target| put_cut(target, cut))?;
        self.take_name()
    }

    /// Makes a start durable.
    pub(crate) fn record_start(&mut self, start: &Start) -> io::Result<()> {
        self.put(FrameKind::Start, |target| put_start(target, start))?;
        self.flush()?;
        self.file.sync(SyncSite::RecoveryStart)
    }

    fn put(&mut self, kind: FrameKind, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut writer = FrameWriter { buffer: &mut self.buffer, last_crc: self.last_crc };
        writer.frame(kind, encode);
        self.last_crc = writer.last_crc;
        if self.buffer.len() >= limits::CHECKPOINT_BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let end = self.end + self.buffer.len() as u64;
        if end > self.reserved {
            let reserve = end.next_multiple_of(limits::LENT_BYTES_UNIT);
            self.space.take(&*self.file, reserve, reserve - self.reserved)?;
            self.reserved = reserve;
        }
        self.file.write_at(&self.buffer, self.end, Durability::Cached)?;
        self.end = end;
        self.buffer.clear();
        Ok(())
    }
}
