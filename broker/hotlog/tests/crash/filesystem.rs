//! A file system in memory that knows, of every byte and name, whether a power loss would keep it.
//!
//! Owns: the states, what each operation does to them, and which states are legal after a power loss or a process's
//! death: exactly those that the table in `hotlog::disk` allows.
//! Does not own: recording operations (`recording`), choosing among legal states (`explore`).

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub type FileId = usize;
pub type FolderId = usize;
/// The order in which changes were made.
pub type Sequence = u64;

pub const ROOT: FolderId = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    File(FileId),
    Folder(FolderId),
}

/// What a name in a folder becomes.
pub type NameEdit = (FolderId, String, Option<Node>);

/// A change of a file's bytes or length that no sync has covered yet.
#[derive(Clone, Debug)]
pub struct FileChange {
    pub sequence: Sequence,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Write { position: usize, bytes: Arc<[u8]> },
    Length(usize),
}

/// A change of names, kept or lost as one, that no sync has covered yet.
#[derive(Clone, Debug)]
pub struct NameChange {
    sequence: Sequence,
    pub edits: Vec<NameEdit>,
    synced: Vec<FolderId>,
}

#[derive(Clone, Debug, Default)]
pub struct FileState {
    /// What every process sees.
    pub live: Vec<u8>,
    /// What a power loss keeps at least.
    durable: Vec<u8>,
    pending: Vec<FileChange>,
}

#[derive(Clone, Debug, Default)]
pub struct FolderState {
    pub live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

/// One state of the whole file system.
#[derive(Clone, Debug)]
pub struct FileSystem {
    pub files: Vec<FileState>,
    pub folders: Vec<FolderState>,
    pending_names: Vec<NameChange>,
    sequence: Sequence,
    /// How often the machine was started; a power loss ends a run.
    pub boot: u64,
}

/// The smallest thing that a power loss keeps or loses as one.
#[derive(Clone, Debug)]
pub enum Unit {
    /// A piece of a write.
    Piece { file: FileId, position: usize, bytes: Arc<[u8]>, start: usize, length: usize },
    /// A length that a write or a cut gave the file.
    Length { file: FileId, length: usize, grow_only: bool },
    /// A change of names.
    Names(usize),
}

impl FileState {
    /// A longer length does not become durable without the cuts before it.
    fn settle_lengths(&mut self, until: Sequence) {
        let settles = |change: &FileChange| change.sequence < until && matches!(change.what, What::Length(_));
        while let Some(found) = self.pending.iter().position(settles) {
            let What::Length(length) = self.pending.remove(found).what else { continue };
            self.durable.resize(length, 0);
            for change in &mut self.pending[..found] {
                if let What::Write { position, bytes } = &mut change.what {
                    *bytes = bytes[..length.saturating_sub(*position).min(bytes.len())].into();
                }
            }
        }
    }
}

impl Default for FileSystem {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            folders: vec![FolderState::default()],
            pending_names: Vec::new(),
            sequence: 0,
            boot: 1,
        }
    }
}

impl FileSystem {
    pub fn new_file(&mut self) -> FileId {
        self.files.push(FileState::default());
        self.files.len() - 1
    }

    pub fn new_folder(&mut self) -> FolderId {
        self.folders.push(FolderState::default());
        self.folders.len() - 1
    }

    /// Makes room for an id that a recording has given out.
    pub fn ensure_file(&mut self, file: FileId) {
        self.files.resize_with(self.files.len().max(file + 1), FileState::default);
    }

    /// As [`FileSystem::ensure_file`], for folders.
    pub fn ensure_folder(&mut self, folder: FolderId) {
        self.folders.resize_with(self.folders.len().max(folder + 1), FolderState::default);
    }

    pub fn edit_names(&mut self, edits: Vec<NameEdit>) {
        for (folder, name, node) in &edits {
            put(&mut self.folders[*folder].live, name, *node);
        }
        self.sequence += 1;
        self.pending_names.push(NameChange { sequence: self.sequence, edits, synced: Vec::new() });
    }

    /// A write to the cache. Returns its sequence.
    pub fn write(&mut self, file: FileId, position: usize, bytes: Arc<[u8]>) -> Sequence {
        self.sequence += 1;
        let state = &mut self.files[file];
        overwrite(&mut state.live, position, &bytes);
        state.pending.push(FileChange { sequence: self.sequence, what: What::Write { position, bytes } });
        self.sequence
    }

    pub fn set_len(&mut self, file: FileId, length: usize) {
        self.sequence += 1;
        let state = &mut self.files[file];
        state.live.resize(length, 0);
        state.pending.push(FileChange { sequence: self.sequence, what: What::Length(length) });
    }

    /// The newest change so far; a sync that begins now covers everything up to it.
    pub fn now(&self) -> Sequence {
        self.sequence
    }

    /// Makes durable what was changed up to `until`.
    pub fn sync(&mut self, file: FileId, until: Sequence) {
        let state = &mut self.files[file];
        let pending = std::mem::take(&mut state.pending);
        for change in pending {
            if change.sequence > until {
                state.pending.push(change);
                continue;
            }
            match change.what {
                What::Write { position, bytes } => overwrite(&mut state.durable, position, &bytes),
                What::Length(length) => state.durable.resize(length, 0),
            }
        }
    }

    /// Makes durable one cached write, wherever it is in the order, with the length that reaches it: what a write
    /// past the cache does when it returns. What was cached before for the same bytes is superseded.
    pub fn sync_one(&mut self, file: FileId, sequence: Sequence) {
        let state = &mut self.files[file];
        let Some(found) = state.pending.iter().position(|change| change.sequence == sequence) else { return };
        let What::Write { position, bytes } = state.pending.remove(found).what else { return };
        let end = position + bytes.len();
        if state.durable.len() < end {
            state.settle_lengths(sequence);
        }
        overwrite(&mut state.durable, position, &bytes);
        for change in state.pending.iter_mut().filter(|change| change.sequence < sequence) {
            let What::Write { position: earlier, bytes: old } = &mut change.what else { continue };
            let (from, to) = ((*earlier).max(position), (*earlier + old.len()).min(end));
            if from < to {
                let mut merged = old.to_vec();
                merged[from - *earlier..to - *earlier]
                    .copy_from_slice(&bytes[from - position..to - position]);
                *old = merged.into();
            }
        }
    }

    /// Makes the names in a folder durable that were changed up to `until`.
    pub fn sync_folder(&mut self, folder: FolderId, until: Sequence) {
        let mut left = Vec::new();
        for mut change in std::mem::take(&mut self.pending_names) {
            if change.sequence <= until && change.edits.iter().any(|(touched, ..)| *touched == folder) {
                change.synced.push(folder);
            }
            if change.edits.iter().all(|(touched, ..)| change.synced.contains(touched)) {
                for (touched, name, node) in &change.edits {
                    put(&mut self.folders[*touched].durable, name, *node);
                }
            } else {
                left.push(change);
            }
        }
        self.pending_names = left;
    }

    /// Whether [`FileSystem::sync`] would make anything durable, of a file that has a name or may have one again.
    pub fn wants_sync(&self, file: FileId, until: Sequence) -> bool {
        self.files[file].pending.iter().any(|change| change.sequence <= until) && self.is_named(file)
    }

    /// As [`FileSystem::wants_sync`], for [`FileSystem::sync_one`].
    pub fn wants_sync_one(&self, file: FileId, sequence: Sequence) -> bool {
        self.files[file].pending.iter().any(|change| change.sequence == sequence) && self.is_named(file)
    }

    /// Whether [`FileSystem::sync_folder`] would make anything durable.
    pub fn wants_sync_folder(&self, folder: FolderId, until: Sequence) -> bool {
        let unsynced = |change: &NameChange| {
            change.sequence <= until
                && !change.synced.contains(&folder)
                && change.edits.iter().any(|(touched, ..)| *touched == folder)
        };
        self.pending_names.iter().any(unsynced)
    }

    fn is_named(&self, file: FileId) -> bool {
        let nodes = |folder: &FolderState| {
            folder.live.values().chain(folder.durable.values()).any(|node| *node == Node::File(file))
        };
        self.folders.iter().any(nodes)
    }

    /// Everything that a power loss may now keep or lose, cut into pieces of `piece_bytes`.
    pub fn units(&self, piece_bytes: usize) -> Vec<Unit> {
        let mut units = Vec::new();
        for (file, state) in self.files.iter().enumerate() {
            let mut length = state.durable.len();
            for change in &state.pending {
                match &change.what {
                    What::Write { position, bytes } => {
                        if position + bytes.len() > length {
                            length = position + bytes.len();
                            units.push(Unit::Length { file, length, grow_only: true });
                        }
                        self.push_pieces(&mut units, file, (*position, bytes), piece_bytes);
                    }
                    What::Length(to) => {
                        length = *to;
                        units.push(Unit::Length { file, length, grow_only: false });
                    }
                }
            }
        }
        units.extend((0..self.pending_names.len()).map(Unit::Names));
        units
    }

    fn push_pieces(
        &self,
        units: &mut Vec<Unit>,
        file: FileId,
        (position, bytes): (usize, &Arc<[u8]>),
        piece_bytes: usize,
    ) {
        let durable = &self.files[file].durable;
        let alone = self.files[file].pending.len() == 1;
        let mut start = 0;
        while start < bytes.len() {
            // Pieces are cut where the device cuts, whatever the write's own position.
            let until_border = piece_bytes - (position + start) % piece_bytes;
            let length = until_border.min(bytes.len() - start);
            let piece = &bytes[start..start + length];
            let already = durable.get((position + start).min(durable.len())..).unwrap_or_default();
            let same = (0..length).all(|at| already.get(at).copied().unwrap_or(0) == piece[at]);
            // A piece that changes nothing need not be kept or lost, unless an earlier change lies below it.
            if !(alone && same) {
                units.push(Unit::Piece { file, position, bytes: Arc::clone(bytes), start, length });
            }
            start += length;
        }
    }

    /// The state after a power loss that kept exactly the units that `kept` says.
    pub fn after_power_loss(&self, units: &[Unit], kept: impl Fn(usize) -> bool) -> FileSystem {
        let mut files: Vec<FileState> = self
            .files
            .iter()
            .map(|state| FileState { live: state.durable.clone(), ..FileState::default() })
            .collect();
        let mut folders: Vec<FolderState> = self
            .folders
            .iter()
            .map(|state| FolderState { live: state.durable.clone(), ..FolderState::default() })
            .collect();
        for (_, unit) in units.iter().enumerate().filter(|(number, _)| kept(*number)) {
            match unit {
                Unit::Length { file, length, grow_only } => {
                    let live = &mut files[*file].live;
                    if !grow_only || live.len() < *length {
                        live.resize(*length, 0);
                    }
                }
                Unit::Piece { file, position, bytes, start, length } => {
                    let live = &mut files[*file].live;
                    let from = position + start;
                    let reached = live.len().saturating_sub(from).min(*length);
                    if reached > 0 {
                        live[from..from + reached].copy_from_slice(&bytes[*start..start + reached]);
                    }
                }
                Unit::Names(change) => {
                    for (folder, name, node) in &self.pending_names[*change].edits {
                        put(&mut folders[*folder].live, name, *node);
                    }
                }
            }
        }
        for state in &mut files {
            state.durable.clone_from(&state.live);
        }
        for state in &mut folders {
            state.durable.clone_from(&state.live);
        }
        let (sequence, boot) = (self.sequence, self.boot + 1);
        let mut after = FileSystem { files, folders, pending_names: Vec::new(), sequence, boot };
        after.drop_unreachable();
        after
    }

    /// The state after the process died: all stays visible, and as unsynced as it was. Of a write that was under way
    /// only the first `kept` bytes were made.
    pub fn after_death(&self, under_way: &[(FileId, Sequence)], kept: impl Fn(usize) -> usize) -> FileSystem {
        let mut after = self.clone();
        for (file, sequence) in under_way {
            let state = &mut after.files[*file];
            for change in state.pending.iter_mut().filter(|change| change.sequence == *sequence) {
                if let What::Write { bytes, .. } = &mut change.what {
                    *bytes = bytes[..kept(bytes.len())].into();
                }
            }
            state.live.clone_from(&state.durable);
            for change in &state.pending {
                match &change.what {
                    What::Write { position, bytes } => overwrite(&mut state.live, *position, bytes),
                    What::Length(length) => state.live.resize(*length, 0),
                }
            }
        }
        after
    }

    /// Empties what no name leads to, so that equal states look equal.
    fn drop_unreachable(&mut self) {
        let mut files = vec![false; self.files.len()];
        let mut folders = vec![false; self.folders.len()];
        let mut open = vec![ROOT];
        while let Some(folder) = open.pop() {
            if std::mem::replace(&mut folders[folder], true) {
                continue;
            }
            for node in self.folders[folder].live.values() {
                match node {
                    Node::File(file) => files[*file] = true,
                    Node::Folder(inner) => open.push(*inner),
                }
            }
        }
        for (state, _) in self.files.iter_mut().zip(&files).filter(|(_, reached)| !**reached) {
            *state = FileState::default();
        }
        for (state, _) in self.folders.iter_mut().zip(&folders).filter(|(_, reached)| !**reached) {
            *state = FolderState::default();
        }
    }

    /// A unit in words.
    pub fn name(&self, unit: &Unit) -> String {
        match unit {
            Unit::Piece { file, position, start, length, .. } => {
                format!("bytes {}+{length} of {}", position + start, self.file_name(*file))
            }
            Unit::Length { file, length, .. } => format!("length {length} of {}", self.file_name(*file)),
            Unit::Names(change) => {
                let edits = self.pending_names[*change].edits.iter();
                edits
                    .map(|(_, name, node)| format!("name {name} {node:?}"))
                    .collect::<Vec<_>>()
                    .join(" with ")
            }
        }
    }

    fn file_name(&self, file: FileId) -> String {
        let names = self.folders.iter().flat_map(|folder| &folder.live);
        let mut of_file = names.filter(|(_, node)| **node == Node::File(file)).map(|(name, _)| name.clone());
        of_file.next().unwrap_or_else(|| format!("nameless file {file}"))
    }

    /// Equal for states that a process cannot tell apart.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for state in &self.folders {
            state.live.hash(&mut hasher);
        }
        for state in &self.files {
            (state.live.len(), crc32c::crc32c(&state.live), state.pending.len()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn put(names: &mut BTreeMap<String, Node>, name: &str, node: Option<Node>) {
    match node {
        Some(node) => names.insert(name.to_owned(), node),
        None => names.remove(name),
    };
}

fn overwrite(target: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[position..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    //! The rules of the disk's table, one by one: a tool that judges must be judged.

    use super::*;

    const PIECE: usize = 512;

    fn with_file(durable_name: bool) -> (FileSystem, FileId) {
        let mut state = FileSystem::default();
        let file = state.new_file();
        state.edit_names(vec![(ROOT, "a".to_owned(), Some(Node::File(file)))]);
        if durable_name {
            state.sync_folder(ROOT, state.now());
        }
        (state, file)
    }

    /// Every content that the file can have after a power loss, `None` where its name is gone.
    fn outcomes(state: &FileSystem) -> Vec<Option<Vec<u8>>> {
        let units = state.units(PIECE);
        let mut all: Vec<_> = (0..1usize << units.len())
            .map(|set| {
                let after = state.after_power_loss(&units, |unit| set >> unit & 1 == 1);
                let node = after.folders[ROOT].live.get("a").copied();
                node.map(|node| match node {
                    Node::File(file) => after.files[file].live.clone(),
                    Node::Folder(_) => panic!("a file was made"),
                })
            })
            .collect();
        all.sort();
        all.dedup();
        all
    }

    fn block(value: u8, length: usize) -> Arc<[u8]> {
        vec![value; length].into()
    }

    #[test]
    fn a_cached_write_may_be_lost_torn_or_kept_until_it_is_synced() {
        let (mut state, file) = with_file(true);
        state.write(file, 0, block(1, 2 * PIECE));
        let torn = |first, second| Some([vec![first; PIECE], vec![second; PIECE]].concat());
        let expected = vec![Some(vec![]), torn(0, 0), torn(0, 1), torn(1, 0), torn(1, 1)];
        assert_eq!(outcomes(&state), expected);
        state.sync(file, state.now());
        assert_eq!(outcomes(&state), [torn(1, 1)]);
    }

    #[test]
    fn bytes_without_a_durable_name_are_nothing() {
        let (mut state, file) = with_file(false);
        state.write(file, 0, block(1, 10));
        state.sync(file, state.now());
        assert_eq!(outcomes(&state), [None, Some(vec![1; 10])]);
        state.sync_folder(ROOT, state.now());
        assert_eq!(outcomes(&state), [Some(vec![1; 10])]);
    }

    #[test]
    fn a_write_past_the_cache_is_safe_alone_and_supersedes_what_was_cached_below() {
        let (mut state, file) = with_file(true);
        state.write(file, 0, block(1, 3 * PIECE));
        let sequence = state.write(file, PIECE, block(2, PIECE));
        state.sync_one(file, sequence);
        for outcome in outcomes(&state) {
            let bytes = outcome.expect("the name is durable");
            assert_eq!(bytes[PIECE..2 * PIECE], [2; PIECE]);
            assert!([0, 1].contains(&bytes[0]));
        }
    }

    #[test]
    fn a_replaced_name_leads_to_the_old_or_the_new_file() {
        let (mut state, old) = with_file(true);
        state.write(old, 0, block(1, 5));
        state.sync(old, state.now());
        let new = state.new_file();
        state.edit_names(vec![(ROOT, "b".to_owned(), Some(Node::File(new)))]);
        state.write(new, 0, block(2, 5));
        state.sync(new, state.now());
        state.edit_names(vec![(ROOT, "b".to_owned(), None), (ROOT, "a".to_owned(), Some(Node::File(new)))]);
        assert_eq!(outcomes(&state), [Some(vec![1; 5]), Some(vec![2; 5])]);
        state.sync_folder(ROOT, state.now());
        assert_eq!(outcomes(&state), [Some(vec![2; 5])]);
    }

    #[test]
    fn a_sync_is_wanted_until_one_was_made_or_no_name_leads_there() {
        let (mut state, file) = with_file(false);
        let sequence = state.write(file, 0, block(1, 10));
        let until = state.now();
        assert!(state.wants_sync_folder(ROOT, until) && state.wants_sync(file, until));
        assert!(state.wants_sync_one(file, sequence) && !state.wants_sync(file, sequence - 1));
        state.sync_folder(ROOT, until);
        assert!(!state.wants_sync_folder(ROOT, until));
        state.edit_names(vec![(ROOT, "a".to_owned(), None)]);
        assert!(state.wants_sync(file, until), "a power loss may bring the name back");
        state.sync_folder(ROOT, state.now());
        assert!(!state.wants_sync(file, until) && !state.wants_sync_one(file, sequence));
        let (mut state, file) = with_file(true);
        state.write(file, 0, block(1, 10));
        state.sync(file, state.now());
        assert!(!state.wants_sync(file, state.now()));
    }

    #[test]
    fn a_cut_may_be_lost_until_it_is_synced() {
        let (mut state, file) = with_file(true);
        state.write(file, 0, block(1, 10));
        state.sync(file, state.now());
        state.set_len(file, 4);
        assert_eq!(outcomes(&state), [Some(vec![1; 4]), Some(vec![1; 10])]);
        state.sync(file, state.now());
        assert_eq!(outcomes(&state), [Some(vec![1; 4])]);
    }

    #[test]
    fn a_process_that_dies_leaves_all_it_wrote_as_unsynced_as_it_was() {
        let (mut state, file) = with_file(true);
        state.write(file, 0, block(1, 10));
        let sequence = state.write(file, 10, block(2, 10));
        let dead = state.after_death(&[(file, sequence)], |_| 3);
        assert_eq!(dead.files[file].live, [vec![1; 10], vec![2; 3]].concat());
        assert!(outcomes(&dead).contains(&Some(vec![])));
    }
}
