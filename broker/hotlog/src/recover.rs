//! Recovery: from the files that a process left behind to partitions that serve.
//!
//! Owns: the order of steps, and what is refused. Does not own: any format, or a partition's own replay.
//!
//! Nothing but a missing journal of a new directory is written before [`Recovering::finish`]; there the new start is durable before
//! anything is served or appended. A crash anywhere leaves what the next recovery reads the same way.

mod files;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use wire::batch::BatchHeader;

use crate::checkpoint::{self, CheckpointFile, Cut, Loaded, Start};
use crate::directory::{Inner, LogDirectory, TopicDirectory};
use crate::disk::{BootId, DiskLock};
use crate::error::OpenError;
use crate::health::Health;
use crate::journal::file::{self as ring_file, ReadRing};
use crate::journal::scan::{self, FoundCommit, FoundEntry, RingBytes};
use crate::journal::{ChainPoint, EntryKind, Journal, JournalStart};
use crate::limits;
use crate::options::{FlushMode, LogOptions};
use crate::partition::state::PartitionState;
use crate::partition::{Isolation, Partition, PartitionId, ReadLimits};
use crate::segment;
use crate::shared::{Queues, Shared, reserve_target};
use crate::space::Space;
use crate::storage::Storage;
use files::{FoundFiles, block_of, find_files, prepare};

/// What recovery did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The new start number, which is the leader epoch of all partitions.
    pub start_number: u32,
    /// Commits read from the journal.
    pub commits: u64,
    /// Batches in them that went into a partition.
    pub batches: u64,
    /// What was lost, or may have been, one sentence each; empty after a clean stop, a kill, or a power loss in flush mode `ack`.
    pub losses: Vec<String>,
}

/// A log directory between reading its journal and serving.
#[derive(Debug)]
pub struct Recovering {
    options: LogOptions,
    lock: Box<dyn DiskLock>,
    loaded: Loaded,
    /// A new directory, or one whose journal was given up, gets its checkpoint file made anew.
    makes_checkpoint: bool,
    shared: Arc<Shared>,
    commits: Vec<FoundCommit>,
    chain: ChainPoint,
    /// Whether the ring does not have the last commit before `chain`.
    lacks_last: bool,
    boot: BootId,
    metadata: Arc<Partition>,
    report: RecoveryReport,
}

fn io_error(operation: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { operation: operation(), source }
}

fn journal_directory(options: &LogOptions) -> &Path {
    options.journal_directory.as_deref().unwrap_or(&options.directory)
}

impl Recovering {
    pub(crate) fn open(options: LogOptions) -> Result<Self, OpenError> {
        let lock = prepare(&options)?;
        let block = block_of(&options)?;
        let FoundFiles { loaded, ring, makes_checkpoint, losses } = find_files(&options, block)?;
        let mut report = RecoveryReport { losses, ..RecoveryReport::default() };
        let bytes = RingBytes { geometry: ring.geometry, data: &ring.data };
        let commits: Vec<FoundCommit> = bytes.chain(loaded.cut.point, loaded.start).collect();
        let chain = commits.last().map_or(loaded.cut.point, FoundCommit::after);
        let boot = options.disk.boot_id();
        report.losses.extend(judge_chain(&options, &loaded, &bytes, &commits)?);
        if report.losses.is_empty() {
            report.losses.extend(unsynced_at_power_loss(&loaded, chain.sequence, boot));
        }
        let lacks_last = lacks_last(&bytes, &commits, &chain);
        report.commits = commits.len() as u64;
        let before = loaded.start.map_or(0, |start| start.number);
        report.start_number = before
            .max(options.start_above)
            .checked_add(1)
            .filter(|start| *start <= i32::MAX as u32)
            .ok_or_else(|| OpenError::Settings("start numbers are used up".to_owned()))?;
        let oldest_ms = commits.first().and_then(|first| {
            let at = (first.position % ring.geometry.capacity) as usize;
            let bytes = &ring.data[at..at + first.header.length as usize];
            scan::entries(first, bytes).next()?.ok().map(|entry| entry.header.append_time_ms)
        });
        let shared =
            share(&options, &loaded, ring, chain, Resume { start_number: report.start_number, oldest_ms })?;
        let metadata = partition_of(&shared, &loaded, PartitionId::METADATA);
        let recovering = Self {
            options,
            lock,
            loaded,
            makes_checkpoint,
            shared,
            commits,
            chain,
            lacks_last,
            boot,
            metadata,
            report,
        };
        recovering.replay_metadata()?;
        Ok(recovering)
    }

    /// Whether the directory has never been in use.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.loaded.start.is_none()
    }

    /// All batches of the metadata partition from its log start, in pieces of whole batches, oldest first.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn metadata_batches(&self) -> Result<Vec<Bytes>, OpenError> {
        let damaged = |reason: String| OpenError::Damaged { path: self.options.directory.clone(), reason };
        let limits = ReadLimits { max_bytes: limits::SEGMENT_BUFFER_BYTES, at_least_one_batch: true };
        let mut all = Vec::new();
        let mut from = self.metadata.log_start();
        while from < self.metadata.high_watermark() {
            let read = self.metadata.read(from, limits, Isolation::ReadUncommitted);
            let read = read.map_err(|error| damaged(error.to_string()))?;
            let pieces = read.bytes().map_err(|error| damaged(error.to_string()))?;
            let joined = pieces.concat();
            let mut next = from;
            for batch in wire::batch::Batches::new(&joined) {
                next = batch.map_err(|error| damaged(error.to_string()))?.header().next_offset();
            }
            if next <= from {
                return Err(damaged(format!("the metadata has no batch at offset {from}")));
            }
            from = next;
            all.push(joined.into());
        }
        Ok(all)
    }

    /// Rebuilds the partitions of live topics, drops those of deleted ones, makes the new start durable, and starts the workers.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn finish(mut self, topics: &TopicDirectory) -> Result<(LogDirectory, RecoveryReport), OpenError> {
        let mut partitions = self.load_partitions(topics)?;
        self.replay(topics, &mut partitions)?;
        self.look_at_folders(topics)?;
        let file = self.open_checkpoint().map_err(io_error(|| {
            format!("writing {}", checkpoint::path_in(&self.options.directory).display())
        }))?;
        let start = self.start();
        let storage = Storage::new(Arc::clone(&self.shared), file, self.loaded.cut, start);
        // Records that reach beyond what is left of the journal would hide new entries from the next recovery.
        let hides = self.loaded.partitions.values().any(|record| record.head.as_of > self.chain.position);
        let inner = Inner {
            options: self.options,
            shared: self.shared,
            partitions: RwLock::new(partitions),
            storage: Mutex::new(storage),
            lock: Mutex::new(Some(self.lock)),
        };
        if hides {
            let mut storage = crate::health::lock(&inner.storage);
            storage.replace_next = true;
            inner.make_checkpoint(&mut storage).map_err(|error| OpenError::Settings(error.to_string()))?;
        }
        Ok((LogDirectory::start(inner)?, self.report))
    }

    fn start(&self) -> Start {
        Start {
            number: self.report.start_number,
            mode: self.options.flush,
            point: self.chain,
            lacks_last: self.lacks_last,
            boot: self.boot,
        }
    }

    fn open_checkpoint(&self) -> io::Result<CheckpointFile> {
        let disk = Arc::clone(&self.options.disk);
        let mut file = if self.makes_checkpoint {
            CheckpointFile::create(disk, &self.shared.space, &self.options.directory, &self.loaded)?
        } else {
            CheckpointFile::open(disk, &self.shared.space, &self.options.directory, &self.loaded)?
        };
        file.record_start(&self.start())?;
        Ok(file)
    }

    fn replay_metadata(&self) -> Result<(), OpenError> {
        for commit in &self.commits {
            self.each_entry(commit, |entry| {
                if entry.header.partition == PartitionId::METADATA {
                    self.replay_entry(&self.metadata, entry)?;
                }
                Ok(())
            })?;
        }
        self.metadata.publish_all();
        Ok(())
    }

    fn load_partitions(
        &mut self,
        topics: &TopicDirectory,
    ) -> Result<HashMap<PartitionId, Arc<Partition>>, OpenError> {
        let mut partitions = HashMap::from([(PartitionId::METADATA, Arc::clone(&self.metadata))]);
        let ids: Vec<PartitionId> = self.loaded.partitions.keys().copied().collect();
        for id in ids {
            if id == PartitionId::METADATA {
                continue;
            }
            match standing(topics, id) {
                Standing::Live => {
                    partitions.insert(id, partition_of(&self.shared, &self.loaded, id));
                }
                Standing::Deleted => self.shared.queue_removal(id),
                Standing::Unknown => self.give_up_unknown(id)?,
            }
        }
        Ok(partitions)
    }

    fn give_up_unknown(&mut self, id: PartitionId) -> Result<(), OpenError> {
        if !self.options.accept_loss {
            let path = self.options.directory.clone();
            return Err(OpenError::UnknownTopic { path, topic_id: id.topic_id });
        }
        let loss = format!("partition {id} was dropped: the metadata does not know its topic");
        if !self.report.losses.contains(&loss) {
            self.report.losses.push(loss);
            self.shared.queue_removal(id);
        }
        Ok(())
    }

    fn replay(
        &mut self,
        topics: &TopicDirectory,
        partitions: &mut HashMap<PartitionId, Arc<Partition>>,
    ) -> Result<(), OpenError> {
        let commits = std::mem::take(&mut self.commits);
        let mut unknown = BTreeMap::new();
        let mut batches = 0;
        for commit in &commits {
            self.each_entry(commit, |entry| {
                let id = entry.header.partition;
                batches += u64::from(matches!(entry.header.kind, EntryKind::Batch { .. }));
                if id == PartitionId::METADATA {
                    return Ok(());
                }
                match standing(topics, id) {
                    Standing::Live => {
                        let partition = partitions
                            .entry(id)
                            .or_insert_with(|| partition_of(&self.shared, &self.loaded, id));
                        self.replay_entry(partition, entry)?;
                    }
                    Standing::Deleted => {
                        batches -= u64::from(matches!(entry.header.kind, EntryKind::Batch { .. }))
                    }
                    Standing::Unknown => {
                        unknown.insert(id, ());
                    }
                }
                Ok(())
            })?;
        }
        self.report.batches = batches;
        for id in unknown.into_keys() {
            self.give_up_unknown(id)?;
        }
        partitions.values().for_each(|partition| partition.publish_all());
        Ok(())
    }

    fn each_entry(
        &self,
        commit: &FoundCommit,
        mut with: impl FnMut(&FoundEntry<'_>) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let pin = self.shared.journal.pin();
        for entry in scan::entries(commit, pin.bytes(commit.position, commit.header.length as usize)) {
            let entry = entry.map_err(|position| self.journal_says(position, "an entry does not add up"))?;
            with(&entry)?;
        }
        Ok(())
    }

    fn replay_entry(&self, partition: &Arc<Partition>, entry: &FoundEntry<'_>) -> Result<(), OpenError> {
        let in_record = self
            .loaded
            .partitions
            .get(&partition.id())
            .is_some_and(|record| entry.position < record.head.as_of);
        if in_record {
            return Ok(());
        }
        let header = match entry.header.kind {
            EntryKind::Batch { .. } => Some(
                BatchHeader::parse(entry.payload)
                    .map_err(|error| self.journal_says(entry.position, &error.to_string()))?,
            ),
            _ => None,
        };
        partition.replay(entry, header.as_ref()).map_err(|reason| self.journal_says(entry.position, &reason))
    }

    fn journal_says(&self, position: u64, reason: &str) -> OpenError {
        let path = ring_file::path_in(journal_directory(&self.options));
        OpenError::Damaged { path, reason: format!("at position {position}: {reason}") }
    }

    /// Folders of deleted topics go; those of unknown ones are refused.
    fn look_at_folders(&mut self, topics: &TopicDirectory) -> Result<(), OpenError> {
        let directory = self.options.directory.clone();
        let names = self.options.disk.list(&directory);
        for entry in names.map_err(io_error(|| format!("listing {}", directory.display())))? {
            let Some(id) = segment::partition_of(&entry.name).filter(|_| entry.is_dir) else { continue };
            match standing(topics, id) {
                Standing::Live => {}
                Standing::Deleted => {
                    if !self.loaded.partitions.contains_key(&id) {
                        self.shared.queue_removal(id);
                    }
                }
                Standing::Unknown => self.give_up_unknown(id)?,
            }
        }
        Ok(())
    }
}

enum Standing {
    Live,
    Deleted,
    Unknown,
}

fn standing(topics: &TopicDirectory, id: PartitionId) -> Standing {
    if id.topic_id == PartitionId::METADATA.topic_id || topics.live.contains(&id.topic_id) {
        Standing::Live
    } else if topics.deleted.contains(&id.topic_id) {
        Standing::Deleted
    } else {
        Standing::Unknown
    }
}

/// Tells the end of the chain from damage. Returns losses that flush mode `os` allows, or that were accepted.
fn judge_chain(
    options: &LogOptions,
    loaded: &Loaded,
    ring: &RingBytes<'_>,
    commits: &[FoundCommit],
) -> Result<Option<String>, OpenError> {
    let path = ring_file::path_in(journal_directory(options));
    let Some(start) = loaded.start else { return Ok(None) };
    let end = commits.last().map_or(loaded.cut.point, FoundCommit::after);
    let newest = commits.iter().map(|commit| commit.header.checkpoint_number).max().unwrap_or(0);
    if newest > loaded.cut.number {
        let reason = format!("it ends with checkpoint {}, the journal has seen {newest}", loaded.cut.number);
        return Err(OpenError::Damaged { path: checkpoint::path_in(&options.directory), reason });
    }
    let accepted =
        |refusal: OpenError| if options.accept_loss { Ok(Some(refusal.to_string())) } else { Err(refusal) };
    if let Some(beyond) = ring.beyond(end.sequence, &start) {
        let missing = end.sequence + 1;
        let refusal =
            OpenError::JournalDamaged { path, position: end.position, missing, later: beyond.sequence };
        return match beyond.mode {
            FlushMode::Os => {
                Ok(Some(format!("commits {missing} and later of flush mode os were lost with the power")))
            }
            FlushMode::Ack => accepted(refusal),
        };
    }
    if end.sequence < start.point.sequence {
        let needed = start.point.sequence;
        return accepted(OpenError::JournalOlder { path, found: end.sequence, needed });
    }
    // The commit before the cut is still there, unless it never reached the disk; the last start may have found that already.
    let is_known = start.lacks_last && end.sequence == start.point.sequence;
    if lacks_last(ring, commits, &end) && !is_known {
        let refusal =
            OpenError::JournalOlder { path, found: end.sequence.saturating_sub(1), needed: end.sequence };
        return match start.mode {
            // A stop in good order syncs segments and checkpoint, not the ring: nothing in it is needed any more.
            FlushMode::Os if loaded.is_stopped => Ok(None),
            FlushMode::Os => {
                Ok(Some("commits of flush mode os may have been lost with the power".to_owned()))
            }
            FlushMode::Ack => accepted(refusal),
        };
    }
    Ok(None)
}

/// Whether nothing follows the cut, and the commit before it is not in the ring.
fn lacks_last(ring: &RingBytes<'_>, commits: &[FoundCommit], end: &ChainPoint) -> bool {
    commits.is_empty() && end.sequence > 0 && !ring.holds_last_of(end)
}

/// What a power loss may have taken without a trace: the newest commits of flush mode `os`, which no later one follows. That the machine
/// was started again since, and that no stop came before, is all that can be seen of it.
fn unsynced_at_power_loss(loaded: &Loaded, end: u64, boot: BootId) -> Option<String> {
    let start = loaded.start.filter(|start| start.mode == FlushMode::Os)?;
    let was_safe = loaded.is_stopped || boot.is_same_run(start.boot);
    (!was_safe).then(|| {
        format!("the machine stopped while flush mode os was at work: commits after {end}, if there were any, are lost")
    })
}

/// What the new start goes on with.
struct Resume {
    start_number: u32,
    oldest_ms: Option<i64>,
}

fn share(
    options: &LogOptions,
    loaded: &Loaded,
    ring: ReadRing,
    chain: ChainPoint,
    resume: Resume,
) -> Result<Arc<Shared>, OpenError> {
    let directory = journal_directory(options);
    let path = ring_file::path_in(directory);
    let file = ring_file::open(&*options.disk, directory, options.flush);
    let file = file.map_err(io_error(|| format!("opening {}", path.display())))?;
    let health = Arc::new(Health::default());
    let geometry = ring.geometry;
    let Cut { number: checkpoint_number, point, .. } = loaded.cut;
    let journal = Arc::new(Journal::new(JournalStart {
        path,
        file,
        geometry,
        memory: ring.data,
        mode: options.flush,
        start_number: resume.start_number,
        tail: point.position,
        chain,
        checkpoint_number,
        oldest_ms: resume.oldest_ms,
        health: Arc::clone(&health),
        listener: Arc::clone(&options.listener),
    }));
    let target = reserve_target(geometry.capacity, loaded.length());
    let space = Space::open(Arc::clone(&options.disk), &options.directory, target);
    let space =
        space.map_err(io_error(|| format!("taking disk space in {}", options.directory.display())))?;
    let share = geometry.capacity / limits::SEGMENT_WRITE_SHARE_OF_JOURNAL;
    let write_threshold = limits::SEGMENT_WRITE_BYTES.min(share as u32).max(geometry.block as u32);
    Ok(Arc::new(Shared {
        directory: options.directory.clone(),
        disk: Arc::clone(&options.disk),
        clock: Arc::clone(&options.clock),
        journal,
        health,
        space: Arc::new(space),
        cache: segment::cache::SegmentCache::default(),
        block: geometry.block as u32,
        write_threshold,
        queues: Mutex::new(Queues::default()),
    }))
}

fn partition_of(shared: &Arc<Shared>, loaded: &Loaded, id: PartitionId) -> Arc<Partition> {
    let state = match loaded.partitions.get(&id) {
        Some(record) => PartitionState::from_record(record.clone(), shared.block),
        None => PartitionState::new(crate::options::PartitionConfig::default()),
    };
    Arc::new(Partition::new(id, Arc::clone(shared), state))
}
