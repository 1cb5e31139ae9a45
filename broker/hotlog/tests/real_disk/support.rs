//! A log directory in a temporary folder, and batches to put into it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use hotlog::partition::{Isolation, ReadLimits};
use hotlog::{
    Appended, FlushMode, LogBeginning, LogDirectory, LogOptions, Origin, Partition, PartitionConfig,
    PartitionId, RecoveryReport, TopicDirectory,
};
use wire::batch::{BatchBuilder, BatchOptions, Batches, NewRecord, ProducerFields};
use wire::ids::{Offset, ProducerEpoch, ProducerId, TopicId};

/// A small journal, so that tests go round it often.
const JOURNAL_BYTES: u64 = 512 << 10;

pub(crate) const MODES: [FlushMode; 2] = [FlushMode::Ack, FlushMode::Os];

pub(crate) const ONE_BATCH: ReadLimits = ReadLimits { max_bytes: 1, at_least_one_batch: true };

pub(crate) fn topic(number: u8) -> TopicId {
    TopicId([number + 1; 16])
}

/// A batch of records that say which it is.
pub(crate) fn batch(number: u64, records: usize) -> Vec<u8> {
    build(number, records, ProducerFields::NONE)
}

/// A batch of an idempotent producer.
pub(crate) fn producer_batch(number: u64, records: usize, sequence: i32) -> Vec<u8> {
    let producer = ProducerFields { id: ProducerId(5), epoch: ProducerEpoch(0), base_sequence: sequence };
    build(number, records, producer)
}

fn build(number: u64, records: usize, producer: ProducerFields) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions { producer, ..BatchOptions::default() });
    for record in 0..records {
        let value = format!("batch {number} record {record} {}", "x".repeat((number % 50) as usize));
        let timestamp_ms = 1_000_000 + number as i64;
        builder.push(&NewRecord { timestamp_ms, value: Some(value.as_bytes()), ..NewRecord::default() });
    }
    builder.build()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Every batch held here, from the local log start to the high watermark, each read once.
pub(crate) fn all_batches(partition: &Partition) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut from = partition.local_log_start();
    let limits = ReadLimits { max_bytes: 50_000, at_least_one_batch: true };
    while from < partition.high_watermark() {
        let read = partition.read(from, limits, Isolation::ReadUncommitted).unwrap();
        let bytes = read.bytes().unwrap().concat();
        assert!(!bytes.is_empty(), "a read below the high watermark finds something");
        for view in Batches::new(&bytes) {
            let view = view.unwrap();
            view.check_crc().unwrap();
            assert!(view.header().last_offset() >= from, "no batch is read twice");
            from = view.header().next_offset();
            found.push(view.bytes().to_vec());
        }
    }
    found
}

pub(crate) struct Log {
    folder: tempfile::TempDir,
    mode: FlushMode,
    directory: Option<LogDirectory>,
    pub(crate) topics: TopicDirectory,
    pub(crate) report: RecoveryReport,
    pub(crate) accept_loss: bool,
    start_above: u32,
}

impl Log {
    pub(crate) fn open(mode: FlushMode) -> Self {
        Self::open_above(mode, 0)
    }

    /// One that takes the place of a lost one, whose newest epoch is given.
    pub(crate) fn open_above(mode: FlushMode, start_above: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let topics = TopicDirectory { live: (0..20).map(topic).collect(), ..TopicDirectory::default() };
        let mut log = Self {
            folder,
            mode,
            directory: None,
            topics,
            report: RecoveryReport::default(),
            accept_loss: false,
            start_above,
        };
        log.reopen();
        log
    }

    fn options(&self) -> LogOptions {
        let mut options = LogOptions::new(self.folder.path().join("log"));
        options.flush = self.mode;
        options.journal_bytes = JOURNAL_BYTES;
        options.accept_loss = self.accept_loss;
        options.start_above = self.start_above;
        options
    }

    pub(crate) fn folder(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn directory(&self) -> &LogDirectory {
        self.directory.as_ref().unwrap()
    }

    /// Opens it; the lock of one that was just dropped may be held by a worker's last step.
    pub(crate) fn reopen(&mut self) {
        for _ in 0..1000 {
            match LogDirectory::open(self.options()) {
                Err(hotlog::error::OpenError::InUse { .. }) => {
                    std::thread::sleep(std::time::Duration::from_millis(5))
                }
                recovering => {
                    let (directory, report) = recovering.unwrap().finish(&self.topics).unwrap();
                    (self.directory, self.report) = (Some(directory), report);
                    return;
                }
            }
        }
        panic!("the directory stays in use");
    }

    /// Drops everything and waits until the directory is free.
    pub(crate) fn stop(&mut self) {
        self.directory = None;
        self.reopen();
        self.directory = None;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }

    /// Why the directory cannot be opened.
    pub(crate) fn refusal(&self) -> String {
        LogDirectory::open(self.options()).err().unwrap().to_string()
    }

    /// Drops everything without a flush, as a killed process would.
    pub(crate) fn kill_and_reopen(&mut self) {
        self.directory = None;
        self.reopen();
    }

    pub(crate) fn close_and_reopen(&mut self) {
        self.directory().close().unwrap();
        self.kill_and_reopen();
    }

    pub(crate) fn partition(&self, topic_id: TopicId, partition: i32) -> Arc<Partition> {
        self.partition_with(topic_id, partition, PartitionConfig::default())
    }

    pub(crate) fn partition_with(
        &self,
        topic_id: TopicId,
        partition: i32,
        config: PartitionConfig,
    ) -> Arc<Partition> {
        self.directory().create_partition(PartitionId { topic_id, partition }, config).unwrap()
    }

    /// The partition that [`Log::small_segments`] filled, after the log was opened again.
    pub(crate) fn with_small_segments(&self) -> Arc<Partition> {
        let config = PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() };
        self.partition_with(topic(1), 0, config)
    }

    /// A partition of 200 batches of ten records, most of them in sealed segments.
    pub(crate) fn small_segments(&mut self) -> Arc<Partition> {
        let partition = self.with_small_segments();
        for number in 0..200 {
            self.append(&partition, &batch(number, 10));
        }
        partition
    }

    /// The file of that partition's segment: its batches (`log`) or its `sidecar`.
    pub(crate) fn file_of(&self, base_offset: Offset, kind: &str) -> std::path::PathBuf {
        self.folder().join(format!("{}-0", topic(1))).join(format!("{:020}.{kind}", base_offset.0))
    }

    /// Loses such a segment.
    pub(crate) fn lose(&self, base_offset: Offset) {
        for kind in ["log", "sidecar"] {
            std::fs::remove_file(self.file_of(base_offset, kind)).unwrap();
        }
    }

    pub(crate) fn append(&mut self, partition: &Arc<Partition>, bytes: &[u8]) -> Appended {
        let room = block_on(self.directory().reserve_room(bytes.len())).unwrap();
        let appended = partition.append(room, bytes, Origin::Client).unwrap();
        block_on(self.directory().commit(appended.ticket)).unwrap();
        appended
    }

    pub(crate) fn move_log_start(&mut self, partition: &Arc<Partition>, to: Offset) {
        let room = block_on(self.directory().reserve_room(partition.change_bytes())).unwrap();
        let ticket = partition.move_log_start(room, to).unwrap();
        block_on(self.directory().commit(ticket)).unwrap();
    }

    pub(crate) fn begin(&mut self, partition: &Arc<Partition>, beginning: &LogBeginning) {
        let room = block_on(self.directory().reserve_room(beginning.room_bytes())).unwrap();
        let ticket = partition.begin_log(room, beginning).unwrap();
        block_on(self.directory().commit(ticket)).unwrap();
    }

    pub(crate) fn truncate(&mut self, partition: &Arc<Partition>, to: Offset) {
        let room = block_on(self.directory().reserve_room(partition.change_bytes())).unwrap();
        let ticket = self.directory().truncate(partition, room, to).unwrap();
        block_on(self.directory().commit(ticket)).unwrap();
    }
}
