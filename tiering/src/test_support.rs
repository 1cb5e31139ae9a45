//! What the tests of several modules share: segments made of real batches, a local log in memory, a hand-set clock.
//!
//! Owns: how such things are made. Does not own: any test, a store (`store::memory`), its faults (`store::faulty`).

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use hotlog::PartitionId;
use hotlog::aborted::{AbortedTransaction, AbortedTransactions};
use hotlog::clock::Clock;
use hotlog::epochs::EpochHistory;
use hotlog::index::{IndexedBatch, SegmentIndex};
use hotlog::producers::ProducerStates;
use hotlog::sidecar::Sidecar;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use wire::batch::{BatchBuilder, BatchHeader, BatchOptions, NewRecord};
use wire::ids::{LeaderEpoch, Offset, TopicId};

use crate::cluster_record::ClusterIdentity;
use crate::local::{LocalLog, LocalSegment, SealedRange, SegmentContent};
use crate::manifest::Committed;
use crate::object::{BlockCodec, LogIdentity, Packed, Packer};
use crate::seams::{AttemptId, Seams};
use crate::tier::{PartitionPolicy, TierOptions};

pub(crate) const TOPIC: TopicId = TopicId([7; 16]);
pub(crate) const PARTITION: PartitionId = PartitionId { topic_id: TOPIC, partition: 0 };
pub(crate) const POLICY: PartitionPolicy =
    PartitionPolicy { retention_ms: None, retention_bytes: None, archive: true, delete: true };

pub(crate) fn log() -> LogIdentity {
    LogIdentity { cluster_id: "west-id".into(), topic_id: TOPIC, partition: 0 }
}

/// A clock that moves when it is told to.
#[derive(Debug, Default)]
pub(crate) struct HandClock(pub(crate) AtomicI64);

impl Clock for HandClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn seams(seed: u64) -> (Seams, Arc<HandClock>) {
    let clock = Arc::new(HandClock(AtomicI64::new(1_000_000)));
    (Seams::seeded(clock.clone(), seed), clock)
}

pub(crate) fn options() -> TierOptions {
    let identity = ClusterIdentity {
        cluster_id: "west-id".into(),
        cluster_name: "west".into(),
        recovery_generation: 0,
        fresh: false,
    };
    TierOptions::new("file:unused".parse().unwrap(), identity)
}

/// How a segment is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) base_offset: i64,
    pub(crate) batches: usize,
    pub(crate) records_per_batch: usize,
    pub(crate) value_bytes: usize,
    pub(crate) compressible: bool,
    pub(crate) epoch: i32,
    pub(crate) seed: u64,
}

pub(crate) const SMALL: Shape = Shape {
    base_offset: 0,
    batches: 4,
    records_per_batch: 5,
    value_bytes: 100,
    compressible: true,
    epoch: 1,
    seed: 1,
};

/// A sealed segment in memory.
#[derive(Clone, Debug)]
pub(crate) struct TestSegment {
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) bytes: Bytes,
    pub(crate) sidecar: Bytes,
}

/// The time of a record: its offset times a second.
pub(crate) fn time_of(offset: i64) -> i64 {
    offset * 1_000
}

pub(crate) fn segment(shape: Shape) -> TestSegment {
    segment_with_aborts(shape, &[])
}

pub(crate) fn segment_with_aborts(shape: Shape, aborted: &[AbortedTransaction]) -> TestSegment {
    let mut random = StdRng::seed_from_u64(shape.seed);
    let (mut bytes, mut next) = (Vec::new(), shape.base_offset);
    let mut index = SegmentIndex::new(Offset(shape.base_offset));
    for _ in 0..shape.batches {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: Offset(next),
            leader_epoch: LeaderEpoch(shape.epoch),
            ..BatchOptions::default()
        });
        let base_offset = Offset(next);
        for _ in 0..shape.records_per_batch {
            let value: Vec<u8> = match shape.compressible {
                true => format!("flight {next:08} ").repeat(shape.value_bytes / 16 + 1).into_bytes(),
                false => (0..shape.value_bytes).map(|_| random.random()).collect(),
            };
            let value = &value[..shape.value_bytes.min(value.len())];
            builder.push(&NewRecord {
                timestamp_ms: time_of(next),
                value: Some(value),
                ..NewRecord::default()
            });
            next += 1;
        }
        let batch = builder.build();
        let size_bytes = batch.len() as u32;
        index.append(&IndexedBatch { base_offset, size_bytes, max_timestamp_ms: time_of(next - 1) });
        bytes.extend_from_slice(&batch);
    }
    let mut epochs = EpochHistory::default();
    epochs.assign(LeaderEpoch(shape.epoch), Offset(shape.base_offset));
    let mut list = AbortedTransactions::default();
    aborted.iter().for_each(|entry| list.push(*entry));
    let sidecar = Sidecar {
        topic_id: TOPIC,
        partition: 0,
        leader_epoch: LeaderEpoch(shape.epoch),
        next_offset: Offset(next),
        first_append_time_ms: 1,
        last_append_time_ms: 2,
        index,
        aborted: list,
        producers: ProducerStates::default(),
        epochs,
    };
    TestSegment {
        base_offset: Offset(shape.base_offset),
        next_offset: Offset(next),
        epoch: LeaderEpoch(shape.epoch),
        bytes: bytes.into(),
        sidecar: sidecar.encode().into(),
    }
}

/// Packs a segment fed in odd pieces; the whole object, and what it says of itself.
pub(crate) fn pack(segment: &TestSegment, codec: BlockCodec, attempt: AttemptId) -> (Bytes, Packed) {
    let mut packer = Packer::new(log(), segment.base_offset, attempt, codec);
    let mut object = Vec::new();
    for piece in segment.bytes.chunks(70_001) {
        packer.feed(piece).unwrap().iter().for_each(|stored| object.extend_from_slice(stored));
    }
    let (tail, packed) = packer.finish(segment.next_offset, segment.sidecar.clone()).unwrap();
    tail.iter().for_each(|stored| object.extend_from_slice(stored));
    (object.into(), packed)
}

impl SegmentContent for TestSegment {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> std::io::Result<()> {
        let end = position as usize + buffer.len();
        let bytes = self.bytes.get(position as usize..end).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn sidecar(&self) -> std::io::Result<Bytes> {
        Ok(self.sidecar.clone())
    }
}

impl TestSegment {
    pub(crate) fn local(&self) -> LocalSegment {
        LocalSegment {
            base_offset: self.base_offset,
            next_offset: self.next_offset,
            leader_epoch: self.epoch,
            size_bytes: self.bytes.len() as u64,
            content: Arc::new(self.clone()),
        }
    }
}

/// A hot log in memory: all its segments are sealed.
#[derive(Debug, Default)]
pub(crate) struct MemoryLog {
    pub(crate) segments: Mutex<Vec<TestSegment>>,
    pub(crate) log_start: AtomicI64,
    /// One past the last stable offset; the log end when negative.
    pub(crate) stable: AtomicI64,
    /// The highest end that was released.
    pub(crate) released: AtomicI64,
    /// Every end that was released, as it came.
    pub(crate) releases: Mutex<Vec<i64>>,
    /// The first offset of a segment whose files cannot be opened; none when negative.
    pub(crate) unreadable: AtomicI64,
    /// Whether local limits keep all that there is.
    pub(crate) keeps_all: AtomicBool,
    /// How often a segment was opened.
    pub(crate) opened: AtomicI64,
    /// What it was told of a store that has other records.
    pub(crate) disagreement: Mutex<Option<String>>,
}

impl MemoryLog {
    pub(crate) fn new(segments: Vec<TestSegment>) -> Arc<Self> {
        let start = segments.first().map_or(0, |segment| segment.base_offset.0);
        let log = MemoryLog { segments: Mutex::new(segments), ..MemoryLog::default() };
        log.log_start.store(start, Ordering::Relaxed);
        log.stable.store(-1, Ordering::Relaxed);
        log.unreadable.store(-1, Ordering::Relaxed);
        Arc::new(log)
    }

    fn open(&self, segment: &TestSegment) -> std::io::Result<LocalSegment> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        match segment.base_offset.0 == self.unreadable.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("input/output error")),
            false => Ok(segment.local()),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.iter().flat_map(|segment| segment.bytes.to_vec()).collect()
    }
}

impl LocalLog for MemoryLog {
    fn sealed_ranges(&self, from: Offset) -> std::io::Result<Vec<SealedRange>> {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = segments.iter().skip(1).map(|segment| segment.base_offset);
        let ends = behind.chain(segments.last().map(|segment| segment.next_offset));
        let ranges = segments.iter().zip(ends).map(|(segment, next_offset)| SealedRange {
            base_offset: segment.base_offset,
            next_offset,
            size_bytes: segment.bytes.len() as u64,
        });
        Ok(ranges.filter(|range| range.next_offset > from).collect())
    }

    fn first_sealed_segment(&self, from: Offset) -> std::io::Result<Option<LocalSegment>> {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.iter().find(|segment| segment.next_offset > from).map(|each| self.open(each)).transpose()
    }

    fn sealed_end(&self) -> Offset {
        self.log_end()
    }

    fn last_stable_offset(&self) -> Offset {
        match self.stable.load(Ordering::Relaxed) {
            negative if negative < 0 => self.log_end(),
            stable => Offset(stable),
        }
    }

    fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Relaxed))
    }

    fn local_log_start(&self) -> Offset {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.first().map_or(self.log_start(), |segment| segment.base_offset.max(self.log_start()))
    }

    fn log_end(&self) -> Offset {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.last().map_or(self.log_start(), |segment| segment.next_offset)
    }

    fn local_bytes(&self) -> u64 {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.iter().map(|segment| segment.bytes.len() as u64).sum()
    }

    fn release_wanted(&self, below: Offset) -> std::io::Result<Offset> {
        Ok(if self.keeps_all.load(Ordering::Relaxed) { Offset(0) } else { below })
    }

    fn disagree(&self, why: Option<String>) {
        *self.disagreement.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn release(&self, committed: Committed) {
        self.released.fetch_max(committed.end().0, Ordering::Relaxed);
        self.releases.lock().unwrap_or_else(PoisonError::into_inner).push(committed.end().0);
    }

    fn advance_log_start(&self, to: Offset) -> BoxFuture<'static, std::io::Result<()>> {
        self.log_start.fetch_max(to.0, Ordering::Relaxed);
        futures::future::ready(Ok(())).boxed()
    }
}

/// `count` segments that follow each other.
pub(crate) fn segments(count: usize, shape: Shape) -> Vec<TestSegment> {
    let mut next = shape.base_offset;
    (0..count)
        .map(|index| {
            let made = segment(Shape { base_offset: next, seed: shape.seed + index as u64, ..shape });
            next = made.next_offset.0;
            made
        })
        .collect()
}

/// Offsets after each batch of a run of batches.
pub(crate) fn batch_ends(mut bytes: &[u8]) -> Vec<(usize, i64)> {
    let (mut ends, mut position) = (Vec::new(), 0);
    while !bytes.is_empty() {
        let header = BatchHeader::parse(bytes).unwrap();
        position += header.size_bytes;
        ends.push((position, header.next_offset().0));
        bytes = &bytes[header.size_bytes..];
    }
    ends
}
