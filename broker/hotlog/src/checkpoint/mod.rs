//! The checkpoint file: what only memory knows of each partition, and up to where the journal is not needed any more.
//! `FORMAT-CHECKPOINT.md` draws its bytes.
//!
//! Owns: the file, its frames and their chain of checksums, its replacement. Does not own: when a checkpoint is made, the
//! segments that have to be safe before.

pub(crate) mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wire::ids::TopicId;

use crate::disk::{BootId, Create, Disk, DiskFile, Durability, OpenHow};
use crate::encoding::{DecodeError, Decoder};
use crate::journal::{ChainPoint, Geometry, RingId};
use crate::limits;
use crate::options::FlushMode;
use crate::partition::PartitionId;
use crate::space::Space;
use crate::sync_site::SyncSite;
use record::PartitionRecord;

const MAGIC: [u8; 8] = *b"LHCHKP\r\n";
/// The version written, and the only one there is.
pub(crate) const CHECKPOINT_VERSION: u16 = 1;
const FRAME_HEADER_BYTES: usize = 16;
const FRAME_ALIGN: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Identity = 1,
    Partition = 2,
    Removed = 3,
    Cut = 4,
    Start = 5,
}

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

/// Builds frames, each chained to the one before.
#[derive(Debug)]
struct FrameWriter<'a> {
    buffer: &'a mut Vec<u8>,
    last_crc: u32,
}

impl FrameWriter<'_> {
    fn frame(&mut self, kind: FrameKind, encode: impl FnOnce(&mut Vec<u8>)) {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        encode(self.buffer);
        let length = (self.buffer.len() - at - FRAME_HEADER_BYTES) as u32;
        self.buffer.resize(self.buffer.len().next_multiple_of(FRAME_ALIGN), 0);
        let frame = &mut self.buffer[at..];
        frame[4..8].copy_from_slice(&length.to_be_bytes());
        frame[8] = kind as u8;
        frame[12..16].copy_from_slice(&self.last_crc.to_be_bytes());
        let crc = crc32c::crc32c(&frame[4..]);
        frame[..4].copy_from_slice(&crc.to_be_bytes());
        self.last_crc = crc;
    }
}

fn put_point(target: &mut Vec<u8>, point: &ChainPoint) {
    target.extend_from_slice(&point.position.to_be_bytes());
    target.extend_from_slice(&point.sequence.to_be_bytes());
    target.extend_from_slice(&point.last_start.to_be_bytes());
    target.extend_from_slice(&point.crc.to_be_bytes());
}

fn read_point(decoder: &mut Decoder<'_>) -> Result<ChainPoint, DecodeError> {
    Ok(ChainPoint {
        position: decoder.u64("chain position")?,
        sequence: decoder.u64("chain sequence")?,
        last_start: decoder.u64("last commit position")?,
        crc: decoder.u32("chain checksum")?,
    })
}

fn put_identity(target: &mut Vec<u8>, geometry: &Geometry) {
    target.extend_from_slice(&MAGIC);
    target.extend_from_slice(&CHECKPOINT_VERSION.to_be_bytes());
    target.extend_from_slice(&[0; 6]);
    target.extend_from_slice(&geometry.ring_id.0);
    target.extend_from_slice(&geometry.block.to_be_bytes());
    target.extend_from_slice(&geometry.capacity.to_be_bytes());
}

fn put_cut(target: &mut Vec<u8>, cut: &Cut) {
    target.extend_from_slice(&cut.number.to_be_bytes());
    put_point(target, &cut.point);
    target.extend_from_slice(&[u8::from(cut.is_stop), 0, 0, 0]);
}

fn read_cut(decoder: &mut Decoder<'_>) -> Result<Cut, DecodeError> {
    let number = decoder.u64("checkpoint number")?;
    let point = read_point(decoder)?;
    let [is_stop, ..] = decoder.array::<4>("stop mark")?;
    Ok(Cut { number, point, is_stop: flag(is_stop, "stop mark")? })
}

fn flag(byte: u8, field: &'static str) -> Result<bool, DecodeError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(DecodeError::Value { field, value: other.into(), rule: "this version" }),
    }
}

fn put_start(target: &mut Vec<u8>, start: &Start) {
    target.extend_from_slice(&start.number.to_be_bytes());
    let mode = match start.mode {
        FlushMode::Ack => 0,
        FlushMode::Os => 1,
    };
    target.extend_from_slice(&[mode, u8::from(start.lacks_last), 0, 0]);
    put_point(target, &start.point);
    target.extend_from_slice(&start.boot.0);
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

/// One whole frame at the front of the bytes: its kind's number, its payload, its checksum, and where the next begins.
fn next_frame(bytes: &[u8], last_crc: u32) -> Option<(u8, &[u8], u32, usize)> {
    let header: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = word(4) as usize;
    let whole = (FRAME_HEADER_BYTES + length).next_multiple_of(FRAME_ALIGN);
    let frame = bytes.get(..whole)?;
    let sound = word(12) == last_crc && crc32c::crc32c(&frame[4..]) == word(0);
    sound.then(|| (header[8], &frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length], word(0), whole))
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

fn partition_of(decoder: &mut Decoder<'_>) -> Result<PartitionId, DecodeError> {
    let topic_id = TopicId(decoder.array("topic id")?);
    Ok(PartitionId { topic_id, partition: decoder.i32("partition")? })
}

fn read_start(decoder: &mut Decoder<'_>) -> Result<Start, DecodeError> {
    let number = decoder.u32("start number")?;
    let [mode, lacks_last, ..] = decoder.array::<4>("flush mode")?;
    let mode = if flag(mode, "flush mode")? { FlushMode::Os } else { FlushMode::Ack };
    let lacks_last = flag(lacks_last, "mark of a lost commit")?;
    let point = read_point(decoder)?;
    Ok(Start { number, mode, point, lacks_last, boot: BootId(decoder.array("boot id")?) })
}

fn read_identity(payload: &[u8]) -> Result<Geometry, LoadError> {
    let damaged = |error: DecodeError| LoadError::Identity(error.to_string());
    let mut decoder = Decoder::new(payload);
    if decoder.array("magic").map_err(damaged)? != MAGIC {
        return Err(LoadError::Identity("it does not begin as a checkpoint does".to_owned()));
    }
    let version = decoder.u16("version").map_err(damaged)?;
    if version != CHECKPOINT_VERSION {
        return Err(LoadError::Identity(format!(
            "its version is {version}, this program reads version {CHECKPOINT_VERSION}"
        )));
    }
    decoder.take(6, "reserved").map_err(damaged)?;
    let ring_id = RingId(decoder.array("ring id").map_err(damaged)?);
    let block = decoder.u64("block").map_err(damaged)?;
    let capacity = decoder.u64("capacity").map_err(damaged)?;
    Ok(Geometry { ring_id, block, capacity })
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
