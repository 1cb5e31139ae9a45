//! Transactions' state through the log: what is open, where read-committed readers stop, and which transactions were aborted, after
//! kills, checkpoints, rolls, stops and lost sidecars.

use std::sync::Arc;

use hotlog::partition::{Isolation, ReadLimits};
use hotlog::{FlushMode, Origin, Partition, PartitionConfig};
use wire::batch::{
    BatchBuilder, BatchOptions, Batches, EndMarker, EndMarkerPlace, NewRecord, ProducerFields, TransactionEnd,
};
use wire::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use crate::support::{Log, block_on, topic};

const CONFIG: PartitionConfig =
    PartitionConfig { segment_bytes: 12_000, segment_ms: i64::MAX, producer_expiration_ms: i64::MAX };

fn data(producer: i64, sequence: i32, records: usize) -> Vec<u8> {
    let producer =
        ProducerFields { id: ProducerId(producer), epoch: ProducerEpoch(0), base_sequence: sequence };
    let mut builder =
        BatchBuilder::new(BatchOptions { producer, transactional: true, ..BatchOptions::default() });
    for record in 0..records {
        let value = format!("record {record} {}", "x".repeat(100));
        builder.push(&NewRecord { timestamp_ms: 1, value: Some(value.as_bytes()), ..NewRecord::default() });
    }
    builder.build()
}

fn end(producer: i64, end: TransactionEnd) -> Vec<u8> {
    let place = EndMarkerPlace {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        timestamp_ms: 1,
        base_offset: Offset(0),
        leader_epoch: LeaderEpoch(-1),
    };
    EndMarker { end, coordinator_epoch: 1 }.batch(&place)
}

/// What must be true of the partition.
#[derive(Debug, Default)]
struct Expected {
    next: i64,
    sequences: [i32; 3],
    /// Per producer, the first offset of its open transaction.
    open: [Option<i64>; 3],
    /// Producer, first offset, the marker's offset.
    aborted: Vec<(i64, i64, i64)>,
}

impl Expected {
    fn write(&mut self, log: &mut Log, partition: &Arc<Partition>, producer: usize, records: usize) {
        let bytes = data(producer as i64, self.sequences[producer], records);
        let at = log.append(partition, &bytes);
        assert_eq!(at.base_offset, Offset(self.next));
        self.open[producer].get_or_insert(self.next);
        self.sequences[producer] += records as i32;
        self.next += records as i64;
    }

    fn end(&mut self, log: &mut Log, partition: &Arc<Partition>, producer: usize, how: TransactionEnd) {
        let bytes = end(producer as i64, how);
        let room = block_on(log.directory().reserve_room(bytes.len())).unwrap();
        let appended = partition.append(room, &bytes, Origin::Internal).unwrap();
        block_on(log.directory().commit(appended.ticket)).unwrap();
        let first = self.open[producer].take();
        if let (TransactionEnd::Abort, Some(first)) = (how, first) {
            self.aborted.push((producer as i64, first, self.next));
        }
        self.next += 1;
    }

    fn stable(&self) -> i64 {
        self.open.iter().flatten().copied().min().unwrap_or(self.next)
    }

    fn check(&self, partition: &Partition) {
        assert_eq!(partition.high_watermark(), Offset(self.next));
        assert_eq!(partition.last_stable_offset(), Offset(self.stable()));
        for producer in partition.producers() {
            let expected = self.open[producer.producer_id.0 as usize].map(Offset);
            assert_eq!(producer.transaction_start, expected, "{producer:?}");
        }
        let limits = ReadLimits { max_bytes: 5_000, at_least_one_batch: true };
        let mut from = 0;
        while from < self.stable() {
            let read = partition.read(Offset(from), limits, Isolation::ReadCommitted).unwrap();
            let bytes = read.bytes().unwrap().concat();
            let last =
                Batches::new(&bytes).map(|batch| batch.unwrap().header().last_offset()).last().unwrap();
            assert!(last.0 < self.stable());
            let mut found: Vec<_> =
                read.aborted.iter().map(|it| (it.producer_id.0, it.first_offset.0)).collect();
            found.sort_unstable();
            // Every aborted transaction with records in the answer has to be named; others may be.
            for (producer, first, marker) in &self.aborted {
                if *first <= last.0 && *marker >= from {
                    assert!(
                        found.contains(&(*producer, *first)),
                        "{producer} from {first} at {from}: {found:?}"
                    );
                }
            }
            for (producer, first) in found {
                assert!(self.aborted.iter().any(|known| (known.0, known.1) == (producer, first)));
            }
            from = last.0 + 1;
        }
        assert!(
            partition
                .read(Offset(self.stable()), limits, Isolation::ReadCommitted)
                .unwrap()
                .pieces
                .is_empty()
        );
    }
}

#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    Checkpoint,
    Kill,
    Stop,
    LoseSidecars,
}

fn pass(log: &mut Log, meanwhile: Meanwhile) {
    match meanwhile {
        Meanwhile::Nothing => {}
        Meanwhile::Checkpoint => {
            log.directory().checkpoint().unwrap();
        }
        Meanwhile::Kill => log.kill_and_reopen(),
        Meanwhile::Stop => log.close_and_reopen(),
        Meanwhile::LoseSidecars => {
            log.close_and_reopen();
            for entry in std::fs::read_dir(log.folder().join(format!("{}-0", topic(1)))).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|kind| kind == "sidecar") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
    }
}

#[test]
fn transactions_are_what_they_were() {
    use TransactionEnd::{Abort, Commit};
    let ways = [
        Meanwhile::Nothing,
        Meanwhile::Checkpoint,
        Meanwhile::Kill,
        Meanwhile::Stop,
        Meanwhile::LoseSidecars,
    ];
    for mode in [FlushMode::Ack, FlushMode::Os] {
        for meanwhile in ways {
            let mut log = Log::open(mode);
            let mut expected = Expected::default();
            let mut go_on = |steps: &dyn Fn(&mut Expected, &mut Log, &Arc<Partition>)| {
                let partition = log.partition_with(topic(1), 0, CONFIG);
                steps(&mut expected, &mut log, &partition);
                expected.check(&partition);
                drop(partition);
                pass(&mut log, meanwhile);
                expected.check(&log.partition_with(topic(1), 0, CONFIG));
            };
            for round in 0..4 {
                go_on(&|expected, log, partition| {
                    expected.write(log, partition, 0, 20);
                    expected.write(log, partition, 1, 15);
                });
                go_on(&|expected, log, partition| {
                    expected.write(log, partition, 2, 30);
                    expected.end(log, partition, 1, if round % 2 == 0 { Abort } else { Commit });
                    expected.write(log, partition, 1, 40);
                });
                go_on(&|expected, log, partition| {
                    expected.end(log, partition, 0, Abort);
                    expected.write(log, partition, 0, 10);
                    expected.end(log, partition, 2, Commit);
                });
                go_on(&|expected, log, partition| {
                    expected.end(log, partition, 1, Abort);
                    expected.end(log, partition, 0, Commit);
                });
            }
        }
    }
}

#[test]
fn a_cut_brings_an_open_transaction_back() {
    for (mode, checkpointed) in [(FlushMode::Ack, true), (FlushMode::Os, false)] {
        let mut log = Log::open(mode);
        let partition = log.partition_with(topic(1), 0, CONFIG);
        let mut expected = Expected::default();
        expected.write(&mut log, &partition, 0, 30);
        expected.write(&mut log, &partition, 1, 30);
        expected.end(&mut log, &partition, 1, TransactionEnd::Commit);
        let cut = expected.next;
        expected.end(&mut log, &partition, 0, TransactionEnd::Abort);
        expected.write(&mut log, &partition, 1, 200);
        if checkpointed {
            log.directory().checkpoint().unwrap();
        }
        log.truncate(&partition, Offset(cut));
        let expected =
            Expected { next: cut, sequences: [30, 30, 0], open: [Some(0), None, None], aborted: Vec::new() };
        expected.check(&partition);
        drop(partition);
        log.kill_and_reopen();
        expected.check(&log.partition_with(topic(1), 0, CONFIG));
    }
}
