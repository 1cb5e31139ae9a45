//! The disk that the shipped log runs on: memory, every operation and every note of the test in one recording.
//!
//! Owns: the `Disk` implementation and the recording. Does not own: what the operations leave durable
//! (`filesystem`); a run sees live bytes only, so one recording serves every crash and every mutation.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use hotlog::disk::{
    BootId, Create, DirectoryEntry, Disk, DiskFile, DiskLock, DiskTraits, Durability, OpenHow,
};
use hotlog::sync_site::SyncSite;

use crate::filesystem::{FileId, FileSystem, FolderId, NameEdit, Node, ROOT};
use crate::model::Note;

/// One operation, or one thing the test did or learned. Durable ones begin and end apart, because other threads
/// go on between.
#[derive(Clone, Debug)]
pub enum Event {
    NewFile(FileId),
    NewFolder(FolderId),
    Names(Vec<NameEdit>),
    Write { file: FileId, position: usize, bytes: Arc<[u8]> },
    SetLen { file: FileId, length: usize },
    Begin { call: usize, target: Target, site: SyncSite },
    End { call: usize },
    Note(Note),
}

/// What a durable operation makes durable.
#[derive(Clone, Debug)]
pub enum Target {
    Write { file: FileId, position: usize, bytes: Arc<[u8]> },
    File(FileId),
    AllFiles,
    Folder(FolderId),
}

#[derive(Debug)]
struct Inner {
    state: FileSystem,
    events: Vec<Event>,
    calls: usize,
    locked: Weak<()>,
    /// Bytes that all files together may take.
    capacity: u64,
    /// Disk space taken for files, by `reserve`.
    reserved: HashMap<FileId, u64>,
    /// How many changing operations go well before one fails.
    sound_operations: Option<usize>,
    /// Changing operations so far.
    operations: usize,
}

/// A disk in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct RecordingDisk {
    inner: Arc<Mutex<Inner>>,
    /// Whether other threads get a chance between the beginning and the end of a durable operation.
    yields: bool,
}

impl RecordingDisk {
    pub fn new(state: FileSystem) -> Self {
        let inner = Inner {
            state,
            events: Vec::new(),
            calls: 0,
            locked: Weak::new(),
            capacity: 1 << 40,
            reserved: HashMap::new(),
            sound_operations: None,
            operations: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)), yields: false }
    }

    pub fn yielding(self) -> Self {
        Self { yields: true, ..self }
    }

    /// Lets the disk be full at so many bytes.
    pub fn limit(&self, capacity: u64) {
        self.inner().capacity = capacity;
    }

    /// Lets one changing operation fail, after so many that do not; the story begins there.
    pub fn fail_after(&self, operations: usize) {
        self.inner().sound_operations = Some(operations);
    }

    /// Changing operations so far: writes, syncs, names, lengths.
    pub fn operations(&self) -> usize {
        self.inner().operations
    }

    pub fn note(&self, note: Note) {
        self.inner().events.push(Event::Note(note));
    }

    /// The recording so far; what follows is recorded anew.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.inner().events)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn durable(&self, target: Target, site: SyncSite) {
        // Begun under the caller's check of faults, ended apart.
        let call = {
            let mut inner = self.inner();
            inner.calls += 1;
            let call = inner.calls;
            inner.events.push(Event::Begin { call, target, site });
            call
        };
        if self.yields {
            std::thread::yield_now();
        }
        self.inner().events.push(Event::End { call });
    }
}

impl Inner {
    /// Counts a changing operation, and fails the one that is to fail.
    fn change(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.sound_operations {
            Some(0) => {
                self.sound_operations = None;
                self.events.push(Event::Note(Note::StoryBegins));
                Err(io::Error::from_raw_os_error(5))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What the files that have names take.
    fn used(&self) -> u64 {
        let (mut open, mut used) = (vec![ROOT], 0);
        while let Some(folder) = open.pop() {
            for node in self.state.folders[folder].live.values() {
                match node {
                    Node::Folder(inner) => open.push(*inner),
                    Node::File(file) => used += self.taken(*file),
                }
            }
        }
        used
    }

    fn taken(&self, file: FileId) -> u64 {
        let written = self.state.files[file].live.len() as u64;
        self.reserved.get(&file).map_or(written, |reserved| written.max(*reserved))
    }

    /// Lets a file take `length` bytes, when there are so many.
    fn take(&mut self, file: FileId, length: u64) -> io::Result<()> {
        let more = length.saturating_sub(self.taken(file));
        if more > 0 && self.used() + more > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn folder(&self, path: &Path) -> io::Result<FolderId> {
        let mut folder = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            match self.state.folders[folder].live.get(name.to_str().unwrap()) {
                Some(Node::Folder(inner)) => folder = *inner,
                _ => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(folder)
    }

    fn place(&self, path: &Path) -> io::Result<(FolderId, String)> {
        let folder = self.folder(path.parent().unwrap())?;
        Ok((folder, path.file_name().unwrap().to_str().unwrap().to_owned()))
    }

    fn node(&self, path: &Path) -> io::Result<Option<Node>> {
        let (folder, name) = self.place(path)?;
        Ok(self.state.folders[folder].live.get(&name).copied())
    }

    fn record(&mut self, event: Event) {
        match &event {
            Event::Names(edits) => self.state.edit_names(edits.clone()),
            Event::Write { file, position, bytes } => {
                self.state.write(*file, *position, Arc::clone(bytes));
            }
            Event::SetLen { file, length } => self.state.set_len(*file, *length),
            Event::NewFile(_)
            | Event::NewFolder(_)
            | Event::Begin { .. }
            | Event::End { .. }
            | Event::Note(_) => {}
        }
        self.events.push(event);
    }
}

impl Disk for RecordingDisk {
    fn traits(&self, dir: &Path) -> io::Result<DiskTraits> {
        self.inner().folder(dir)?;
        Ok(DiskTraits { block_bytes: 4096, direct: true })
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        if dir == Path::new("/") {
            return Ok(());
        }
        match inner.node(dir)? {
            Some(Node::Folder(_)) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                inner.change()?;
                let (parent, name) = inner.place(dir)?;
                let folder = inner.state.new_folder();
                inner.record(Event::NewFolder(folder));
                inner.record(Event::Names(vec![(parent, name, Some(Node::Folder(folder)))]));
                Ok(())
            }
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let inner = self.inner();
        let folder = inner.folder(dir)?;
        let entry = |(name, node): (&String, &Node)| DirectoryEntry {
            name: name.clone(),
            is_dir: matches!(node, Node::Folder(_)),
        };
        Ok(inner.state.folders[folder].live.iter().map(entry).collect())
    }

    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner();
        let file = match (inner.node(path)?, how.create) {
            (Some(Node::Folder(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), Create::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Node::File(file)), _) => file,
            (None, Create::Never) => return Err(io::ErrorKind::NotFound.into()),
            (None, Create::New | Create::IfMissing) => {
                inner.change()?;
                let (folder, name) = inner.place(path)?;
                let file = inner.state.new_file();
                inner.record(Event::NewFile(file));
                inner.record(Event::Names(vec![(folder, name, Some(Node::File(file)))]));
                file
            }
        };
        drop(inner);
        Ok(Arc::new(RecordingFile { disk: self.clone(), file, how }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        let node = inner.node(from)?.ok_or(io::ErrorKind::NotFound)?;
        inner.change()?;
        let (old_folder, old_name) = inner.place(from)?;
        let (new_folder, new_name) = inner.place(to)?;
        inner.record(Event::Names(vec![(old_folder, old_name, None), (new_folder, new_name, Some(node))]));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        let Some(Node::File(_)) = inner.node(path)? else { return Err(io::ErrorKind::NotFound.into()) };
        inner.change()?;
        let (folder, name) = inner.place(path)?;
        inner.record(Event::Names(vec![(folder, name, None)]));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        let Some(Node::Folder(folder)) = inner.node(dir)? else { return Err(io::ErrorKind::NotFound.into()) };
        if !inner.state.folders[folder].live.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        inner.change()?;
        let (parent, name) = inner.place(dir)?;
        inner.record(Event::Names(vec![(parent, name, None)]));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path, site: SyncSite) -> io::Result<()> {
        let folder = self.inner().folder(dir)?;
        self.inner().change()?;
        self.durable(Target::Folder(folder), site);
        Ok(())
    }

    fn sync_all_files(&self, _dir: &Path, site: SyncSite) -> io::Result<()> {
        self.inner().change()?;
        self.durable(Target::AllFiles, site);
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let inner = self.inner();
        Ok(inner.capacity.saturating_sub(inner.used()))
    }

    fn boot_id(&self) -> BootId {
        BootId(u128::from(self.inner().state.boot).to_be_bytes())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        drop(self.open(path, OpenHow::WRITE)?);
        let mut inner = self.inner();
        if inner.locked.upgrade().is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let held = Arc::new(());
        inner.locked = Arc::downgrade(&held);
        Ok(Box::new(RecordingLock { _held: held }))
    }
}

#[derive(Debug)]
struct RecordingLock {
    _held: Arc<()>,
}

impl DiskLock for RecordingLock {}

#[derive(Debug)]
struct RecordingFile {
    disk: RecordingDisk,
    file: FileId,
    how: OpenHow,
}

impl RecordingFile {
    /// What a real direct file refuses, so that the log cannot come to rely on this disk's patience.
    fn check_alignment(&self, buffer: &[u8], position: u64) {
        if self.how.direct {
            let aligned = buffer.as_ptr().addr().is_multiple_of(512)
                && buffer.len().is_multiple_of(512)
                && position.is_multiple_of(512);
            assert!(aligned, "misaligned direct access of {} bytes at {position}", buffer.len());
        }
    }
}

impl DiskFile for RecordingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.check_alignment(buffer, position);
        let inner = self.disk.inner();
        let live = &inner.state.files[self.file].live;
        let from = (position as usize).min(live.len());
        let length = buffer.len().min(live.len() - from);
        buffer[..length].copy_from_slice(&live[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], position: u64, durability: Durability) -> io::Result<()> {
        assert!(self.how.write, "a write through a handle for reading");
        self.check_alignment(bytes, position);
        let (file, position, bytes) = (self.file, position as usize, Arc::<[u8]>::from(bytes));
        let mut inner = self.disk.inner();
        inner.take(file, (position + bytes.len()) as u64)?;
        if let Err(error) = inner.change() {
            // Any part may have been written.
            let bytes = bytes[..bytes.len() / 2].into();
            inner.record(Event::Write { file, position, bytes });
            return Err(error);
        }
        drop(inner);
        match durability {
            Durability::Cached => self.disk.inner().record(Event::Write { file, position, bytes }),
            Durability::Durable(site) => {
                self.disk.inner().state.write(file, position, Arc::clone(&bytes));
                self.disk.durable(Target::Write { file, position, bytes }, site);
            }
        }
        Ok(())
    }

    fn sync(&self, site: SyncSite) -> io::Result<()> {
        self.disk.inner().change()?;
        self.disk.durable(Target::File(self.file), site);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        assert!(self.how.write, "a cut through a handle for reading");
        let mut inner = self.disk.inner();
        inner.change()?;
        let before = inner.state.files[self.file].live.len() as u64;
        // As real file systems do: what was taken beyond the length is given back by a cut only.
        if length < before
            && let Some(reserved) = inner.reserved.get_mut(&self.file)
        {
            *reserved = (*reserved).min(length);
        }
        inner.record(Event::SetLen { file: self.file, length: length as usize });
        Ok(())
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.take(self.file, length)?;
        let reserved = inner.reserved.entry(self.file).or_default();
        *reserved = (*reserved).max(length);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner().state.files[self.file].live.len() as u64)
    }

    fn std_file(&self) -> Option<&Arc<File>> {
        None
    }
}
