//! One life of a log directory on a recording disk: from recovery to the crash.
//!
//! Owns: driving the shipped log by its public face, with its workers stepped by hand in a seeded order, and noting
//! what was asked and what was answered. Does not own: what must be true (`model`, `check`).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use hotlog::RecoveryReport;
use hotlog::clock::Clock;
use hotlog::directory::{LogDirectory, TopicDirectory};
use hotlog::journal::Ticket;
use hotlog::options::{FlushMode, LogOptions, PartitionConfig};
use hotlog::partition::{
    Committed, HotPiece, Isolation, LogBeginning, Origin, Partition, PartitionId, ReadLimits, RetentionPass,
};
use hotlog::retention::{CleanupPolicy, Limits, PassTime};
use hotlog::worker::{Spawner, Step, Worker};
use wire::batch::{Attributes, BatchHeader, HEADER_BYTES};
use wire::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId};

use crate::model::{BatchFact, BatchId, Note, Place, Sequenced};
use crate::random::Random;
use crate::recording::RecordingDisk;

pub const LOG_FOLDER: &str = "/log";

/// How a log directory is run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub flush: FlushMode,
    pub segment_bytes: u32,
    pub journal_bytes: u64,
    /// Where the journal is, when not beside the log.
    pub journal_folder: Option<&'static str>,
    /// Whether what is lost is given up.
    pub accept_loss: bool,
    /// Seeds the order of the workers' steps.
    pub seed: u64,
}

#[derive(Debug, Default)]
struct TestClock {
    now_ms: AtomicI64,
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Kept {
    workers: Mutex<Vec<Box<dyn Worker>>>,
}

impl Spawner for Kept {
    fn start(&self, worker: Box<dyn Worker>) -> std::io::Result<()> {
        self.workers.lock().unwrap().push(worker);
        Ok(())
    }
}

/// A batch as a reader finds it.
#[derive(Clone, Debug)]
pub struct Found {
    pub id: BatchId,
    pub header: BatchHeader,
    pub bytes: Vec<u8>,
}

impl Found {
    pub fn place(&self) -> Place {
        Place {
            base_offset: self.header.base_offset,
            last_offset: self.header.last_offset(),
            epoch: self.header.leader_epoch,
            append_time_ms: None,
        }
    }
}

pub struct Life {
    pub disk: RecordingDisk,
    pub log: LogDirectory,
    pub report: RecoveryReport,
    pub settings: Settings,
    pub random: Random,
    clock: Arc<TestClock>,
    kept: Arc<Kept>,
    next_id: BatchId,
    sequences: BTreeMap<(PartitionId, i64), i32>,
    appended: Vec<(BatchId, Ticket)>,
}

/// Why a life could not begin or go on.
#[derive(Debug)]
pub struct Stuck(pub String);

impl<E: std::error::Error> From<E> for Stuck {
    fn from(error: E) -> Self {
        Stuck(format!("{error}"))
    }
}

thread_local! {
    static RINGS: Cell<u128> = const { Cell::new(0) };
}

/// Lets this thread's rings have names of their own: two threads count alike.
pub fn name_rings_from(first: u128) {
    RINGS.set(first);
}

/// A name that no other ring of this test has, and the same in every run.
fn next_ring_name() -> [u8; 16] {
    RINGS.replace(RINGS.get() + 1).to_be_bytes()
}

/// The first offset-and-time of a test; record times follow it.
const START_MS: i64 = 1_700_000_000_000;
/// Steps that any one wait may take before the log counts as stuck.
const MAX_STEPS: usize = 10_000;

pub fn topic(number: u8) -> PartitionId {
    PartitionId { topic_id: TopicId([number; 16]), partition: 0 }
}

impl Life {
    /// Recovers what is on the disk. `next_id` is the first batch number not used before.
    pub fn begin(disk: &RecordingDisk, settings: Settings, next_id: BatchId) -> Result<Self, Stuck> {
        let kept = Arc::new(Kept::default());
        let life = Self::begin_on(disk, settings, next_id, kept.clone())?;
        Ok(Self { kept, ..life })
    }

    /// As [`Life::begin`], with the workers elsewhere.
    pub fn begin_on(
        disk: &RecordingDisk,
        settings: Settings,
        next_id: BatchId,
        spawner: Arc<dyn Spawner>,
    ) -> Result<Self, Stuck> {
        let clock = Arc::new(TestClock { now_ms: AtomicI64::new(START_MS + next_id as i64 * 1_000) });
        let mut options = LogOptions::new(LOG_FOLDER.into());
        options.journal_bytes = settings.journal_bytes;
        options.journal_directory = settings.journal_folder.map(Into::into);
        options.flush = settings.flush;
        options.accept_loss = settings.accept_loss;
        options.disk = Arc::new(disk.clone());
        options.clock = clock.clone();
        options.spawner = spawner;
        options.entropy = next_ring_name;
        disk.note(Note::Opens);
        let recovering = LogDirectory::open(options)?;
        let mut topics = TopicDirectory::default();
        for found in recovering.metadata_batches()?.iter().flat_map(|bytes| split(bytes)) {
            let (kind, id) = topic_change(&found.bytes);
            if kind == CREATE {
                topics.live.insert(id);
            } else {
                topics.live.remove(&id);
                topics.deleted.insert(id);
            }
        }
        let (log, report) = recovering.finish(&topics)?;
        disk.note(Note::Mode(settings.flush));
        let life = Self {
            disk: disk.clone(),
            log,
            report,
            settings,
            random: Random::new(settings.seed),
            clock,
            kept: Arc::default(),
            next_id,
            sequences: BTreeMap::new(),
            appended: Vec::new(),
        };
        life.log.create_partition(PartitionId::METADATA, life.config())?;
        for topic_id in topics.live {
            life.log.create_partition(PartitionId { topic_id, partition: 0 }, life.config())?;
        }
        Ok(life)
    }

    pub fn config(&self) -> PartitionConfig {
        PartitionConfig { segment_bytes: self.settings.segment_bytes, ..PartitionConfig::default() }
    }

    pub fn partition(&self, id: PartitionId) -> Arc<Partition> {
        self.log.partition(id).expect("the test uses partitions that it made")
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.log.leader_epoch()
    }

    pub fn next_id(&self) -> BatchId {
        self.next_id
    }

    pub fn advance_clock(&self, by_ms: i64) {
        self.clock.now_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Creates a topic as a broker does: its metadata first.
    pub fn create(&mut self, partition: PartitionId) -> Result<(), Stuck> {
        self.disk.note(Note::Create { partition, acked: false });
        self.append_metadata(CREATE, partition)?;
        self.log.create_partition(partition, self.config())?;
        self.disk.note(Note::Create { partition, acked: true });
        Ok(())
    }

    /// Deletes a topic as a broker does: its metadata first.
    pub fn delete(&mut self, partition: PartitionId) -> Result<(), Stuck> {
        self.disk.note(Note::Delete { partition, acked: false });
        self.append_metadata(DELETE, partition)?;
        self.disk.note(Note::Delete { partition, acked: true });
        self.log.delete_partition(partition);
        Ok(())
    }

    fn append_metadata(&mut self, kind: u8, partition: PartitionId) -> Result<(), Stuck> {
        self.append_payload(PartitionId::METADATA, &topic_payload(kind, partition), 1, None)?;
        self.commit()?;
        self.disk.note(Note::Synced);
        Ok(())
    }

    /// Appends a batch of about `size_bytes`.
    pub fn append(&mut self, partition: PartitionId, size_bytes: usize) -> Result<BatchId, Stuck> {
        let records = 1 + (self.next_id % 3) as i32;
        self.append_payload(partition, &vec![0xA5; size_bytes], records, None)
    }

    /// Appends the next batch of an idempotent producer.
    pub fn append_sequenced(
        &mut self,
        partition: PartitionId,
        producer_id: i64,
        size_bytes: usize,
    ) -> Result<BatchId, Stuck> {
        let records = 1 + (self.next_id % 3) as i32;
        let next = self.sequences.entry((partition, producer_id)).or_default();
        let sequenced = Sequenced { producer_id, producer_epoch: 0, base_sequence: *next };
        *next += records;
        self.append_payload(partition, &vec![0x5A; size_bytes], records, Some(sequenced))
    }

    fn append_payload(
        &mut self,
        partition: PartitionId,
        payload: &[u8],
        records: i32,
        sequenced: Option<Sequenced>,
    ) -> Result<BatchId, Stuck> {
        let id = self.next_id;
        self.next_id += 1;
        self.advance_clock(7);
        let bytes = batch_bytes(id, payload, records, sequenced);
        self.disk.note(Note::Begun { id, partition, bytes: bytes.clone().into(), sequenced });
        let room = self.wait(self.log.reserve_room(bytes.len()))??;
        let origin = if partition == PartitionId::METADATA { Origin::Internal } else { Origin::Client };
        let handle = self.partition(partition);
        let appended = handle.append(room, &bytes, origin)?;
        assert!(!appended.duplicate, "a new batch was taken for an old one");
        let place = Place {
            base_offset: appended.base_offset,
            last_offset: appended.last_offset,
            epoch: self.epoch(),
            append_time_ms: Some(appended.append_time_ms),
        };
        self.disk.note(Note::Placed { id, place });
        self.appended.push((id, appended.ticket));
        Ok(id)
    }

    /// Sends a batch again that is in the log: it must be answered with where it is.
    pub fn retry(&mut self, id: BatchId, fact: &BatchFact) -> Result<(), Stuck> {
        let room = self.wait(self.log.reserve_room(fact.bytes.len()))??;
        let appended = self.partition(fact.partition).append(room, &fact.bytes, Origin::Client)?;
        if !appended.duplicate {
            return Err(Stuck("was appended again".to_owned()));
        }
        self.commit_ticket(appended.ticket)?;
        let same = fact.place.is_none_or(|place| {
            (place.base_offset, place.last_offset) == (appended.base_offset, appended.last_offset)
                && place.append_time_ms.is_none_or(|time_ms| time_ms == appended.append_time_ms)
        });
        if !same {
            return Err(Stuck(format!(
                "was at {:?}, but batch {id} is answered with {appended:?}",
                fact.place
            )));
        }
        Ok(())
    }

    /// Sends a batch that leaves a gap: it must be refused.
    pub fn check_gap(
        &mut self,
        partition: PartitionId,
        producer_id: i64,
        base_sequence: i32,
    ) -> Result<(), Stuck> {
        let sequenced = Sequenced { producer_id, producer_epoch: 0, base_sequence };
        let bytes = batch_bytes(0, &[], 1, Some(sequenced));
        let room = self.wait(self.log.reserve_room(bytes.len()))??;
        match self.partition(partition).append(room, &bytes, Origin::Client) {
            Ok(appended) => {
                Err(Stuck(format!("sequence {base_sequence} left a gap and was taken: {appended:?}")))
            }
            Err(_) => Ok(()),
        }
    }

    pub fn continue_sequences(&mut self, next: BTreeMap<(PartitionId, i64), i32>) {
        self.sequences = next;
    }

    /// Commits everything appended so far and notes that it was acknowledged.
    pub fn commit(&mut self) -> Result<(), Stuck> {
        let Some(newest) = self.appended.iter().map(|(_, ticket)| *ticket).max() else { return Ok(()) };
        self.commit_ticket(newest)?;
        for (id, _) in std::mem::take(&mut self.appended) {
            self.disk.note(Note::Acked { id });
        }
        Ok(())
    }

    /// Has the newest commit written, and asks nobody what became of it.
    pub fn commit_unanswered(&mut self) {
        let Some(newest) = self.appended.iter().map(|(_, ticket)| *ticket).max() else { return };
        let _ = poll(pin!(self.log.commit(newest)));
        for _ in 0..4 {
            self.step();
        }
    }

    /// Writes every last block.
    pub fn flush_remainders(&mut self) -> Result<(), Stuck> {
        Ok(self.log.flush_remainders()?)
    }

    /// Stops as a broker does.
    pub fn close(&mut self) -> Result<(), Stuck> {
        self.log.close()?;
        self.disk.note(Note::Closed);
        Ok(())
    }

    /// Lets local copies below go, as if the store had them.
    pub fn release(&mut self, partition: PartitionId, below: Offset) -> Result<(), Stuck> {
        self.disk.note(Note::Release { partition, to: below });
        let pass = RetentionPass {
            policy: CleanupPolicy::Delete,
            limits: Limits { age_ms: None, size_bytes: Some(0) },
            time: PassTime { now_ms: self.clock.now_ms(), since: None },
        };
        self.partition(partition).release(Committed::by_manifest(partition, below), &pass)?;
        self.settle()
    }

    pub fn commit_ticket(&mut self, ticket: Ticket) -> Result<(), Stuck> {
        Ok(self.wait(self.log.commit(ticket))??)
    }

    /// Waits as an executor would, stepping the workers between.
    pub fn wait<F: Future>(&mut self, future: F) -> Result<F::Output, Stuck> {
        let mut future = pin!(future);
        for _ in 0..MAX_STEPS {
            if let Poll::Ready(output) = poll(future.as_mut()) {
                return Ok(output);
            }
            if !self.step() {
                // Nothing to do now: what waits must wait for time.
                self.advance_clock(1_000);
            }
        }
        Err(Stuck("a wait that no worker ends".to_owned()))
    }

    /// Steps one worker, seeded. Returns whether any had work.
    pub fn step(&mut self) -> bool {
        let mut workers = self.kept.workers.lock().unwrap();
        let count = workers.len();
        let first = self.random.below(count.max(1));
        (0..count).any(|turn| workers[(first + turn) % count].step() == Step::Worked)
    }

    /// Steps until no worker has work.
    pub fn settle(&mut self) -> Result<(), Stuck> {
        for _ in 0..MAX_STEPS {
            if !self.step() {
                return Ok(());
            }
        }
        Err(Stuck("workers that never rest".to_owned()))
    }

    /// Lets the journal's age bring a checkpoint about.
    pub fn checkpoint(&mut self) -> Result<(), Stuck> {
        self.advance_clock(hotlog::limits::CHECKPOINT_INTERVAL_MS_DEFAULT + 1);
        self.settle()
    }

    pub fn move_log_start(&mut self, partition: PartitionId, to: Offset) -> Result<(), Stuck> {
        let handle = self.partition(partition);
        let room = self.wait(self.log.reserve_room(handle.change_bytes()))??;
        self.disk.note(Note::LogStart { partition, to, acked: false });
        let ticket = handle.move_log_start(room, to)?;
        self.commit_ticket(ticket)?;
        self.disk.note(Note::LogStart { partition, to, acked: true });
        Ok(())
    }

    /// Lets an empty log begin behind offsets that lie elsewhere.
    pub fn begin_log(&mut self, partition: PartitionId, beginning: &LogBeginning) -> Result<(), Stuck> {
        let handle = self.partition(partition);
        let room = self.wait(self.log.reserve_room(beginning.room_bytes()))??;
        self.disk.note(Note::LogStart { partition, to: beginning.log_start, acked: false });
        self.disk.note(Note::Release { partition, to: beginning.local_start });
        let ticket = handle.begin_log(room, beginning)?;
        self.commit_ticket(ticket)?;
        self.disk.note(Note::LogStart { partition, to: beginning.log_start, acked: true });
        Ok(())
    }

    pub fn truncate(&mut self, partition: PartitionId, to: Offset) -> Result<(), Stuck> {
        let handle = self.partition(partition);
        let room = self.wait(self.log.reserve_room(handle.change_bytes()))??;
        self.disk.note(Note::Truncate { partition, to, acked: false });
        let ticket = self.log.truncate(&handle, room, to)?;
        self.commit_ticket(ticket)?;
        self.disk.note(Note::Truncate { partition, to, acked: true });
        Ok(())
    }

    /// Everything a reader sees of a partition, from the first local offset on.
    pub fn read_all(&self, partition: PartitionId) -> Result<Vec<Found>, Stuck> {
        let handle = self.partition(partition);
        let mut next = handle.local_log_start();
        let mut all = Vec::new();
        let limits = ReadLimits { max_bytes: 64 << 10, at_least_one_batch: true };
        loop {
            let read = handle.read(next, limits, Isolation::ReadUncommitted)?;
            let mut bytes = Vec::new();
            for piece in &read.pieces {
                match piece {
                    HotPiece::Memory(memory) => bytes.extend_from_slice(memory),
                    HotPiece::File(range) => bytes.extend_from_slice(&range.read()?),
                }
            }
            let found = split(&bytes);
            let Some(last) = found.last() else {
                if next < handle.high_watermark() {
                    return Err(Stuck(format!("{partition}: nothing at {next} below the high watermark")));
                }
                return Ok(all);
            };
            next = last.header.next_offset();
            all.extend(found);
        }
    }

    /// Reads as a consumer and notes what it saw.
    pub fn serve(&self, partition: PartitionId) -> Result<(), Stuck> {
        for found in self.read_all(partition)? {
            self.disk.note(Note::Served { id: found.id });
        }
        Ok(())
    }
}

pub fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

const CREATE: u8 = 1;
const DELETE: u8 = 2;

fn topic_payload(kind: u8, partition: PartitionId) -> Vec<u8> {
    let mut payload = vec![kind];
    payload.extend(partition.topic_id.0);
    payload
}

/// The metadata record that creates a topic.
pub fn create_payload(partition: PartitionId) -> Vec<u8> {
    topic_payload(CREATE, partition)
}

/// What a metadata batch says.
fn topic_change(bytes: &[u8]) -> (u8, TopicId) {
    let payload = &bytes[HEADER_BYTES + 8..];
    (payload[0], TopicId(payload[1..17].try_into().unwrap()))
}

/// A batch whose payload begins with its number; the log looks at headers only.
pub fn batch_bytes(id: BatchId, payload: &[u8], records: i32, sequenced: Option<Sequenced>) -> Vec<u8> {
    // A record takes seven bytes at least, and the log may hold its readers' parsers to that.
    let payload = &[payload, &[0; 24]].concat()[..];
    let length = HEADER_BYTES + 8 + payload.len();
    let mut header = BatchHeader {
        base_offset: Offset(0),
        size_bytes: length,
        leader_epoch: LeaderEpoch(-1),
        attributes: Attributes(0),
        crc: 0,
        last_offset_delta: records - 1,
        base_timestamp_ms: START_MS,
        max_timestamp_ms: START_MS + id as i64,
        producer_id: sequenced.map_or(ProducerId::NONE, |fields| ProducerId(fields.producer_id)),
        producer_epoch: sequenced.map_or(ProducerEpoch::NONE, |fields| ProducerEpoch(fields.producer_epoch)),
        base_sequence: sequenced.map_or(-1, |fields| fields.base_sequence),
        record_count: records,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend(id.to_be_bytes());
    bytes.extend_from_slice(payload);
    // Every batch differs all over, so that no piece of one passes for a piece of another.
    for (at, byte) in bytes[HEADER_BYTES + 8 + payload.len().min(17)..].iter_mut().enumerate() {
        *byte ^= (id as u8).wrapping_mul(31).wrapping_add((at / 64) as u8);
    }
    header.crc = crc32c::crc32c(&bytes[21..]);
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    bytes
}

pub fn records_of(bytes: &[u8]) -> i32 {
    BatchHeader::parse(bytes).expect("the test made it").record_count
}

/// The batches in a run of bytes. Every byte is checked: a batch that is cut or damaged is the log's fault.
pub fn split(bytes: &[u8]) -> Vec<Found> {
    wire::batch::Batches::new(bytes)
        .map(|view| {
            let view = view.expect("the log returns whole batches");
            view.check_crc().expect("the log returns batches as they came");
            let id = u64::from_be_bytes(view.payload()[..8].try_into().unwrap());
            Found { id, header: *view.header(), bytes: view.bytes().to_vec() }
        })
        .collect()
}
