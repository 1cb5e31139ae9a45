//! Random lives of a log against a plain list of batches: append, truncate, move the start, checkpoint, stop, kill.

use std::sync::Arc;

use hotlog::{FlushMode, Partition, PartitionConfig};
use proptest::prelude::*;
use wire::ids::Offset;

use crate::support::{Log, all_batches, batch, topic};

const CONFIG: PartitionConfig =
    PartitionConfig { segment_bytes: 60_000, segment_ms: i64::MAX, producer_expiration_ms: i64::MAX };

#[derive(Debug, Clone)]
enum Act {
    Append {
        partition: usize,
        records: usize,
        times: usize,
    },
    /// A share of the log, in percent, that is cut from its end.
    Truncate {
        partition: usize,
        percent: i64,
    },
    MoveStart {
        partition: usize,
        percent: i64,
    },
    Checkpoint,
    Flush,
    Stop,
    Kill,
}

/// What a log should be.
#[derive(Debug, Clone, Default)]
struct Model {
    start: i64,
    end: i64,
    /// Base offset, and the bytes behind the placement.
    batches: Vec<(i64, i64, Vec<u8>)>,
}

impl Model {
    fn append(&mut self, records: usize, bytes: &[u8]) {
        let base = self.end;
        self.end += records as i64;
        self.batches.push((base, self.end, bytes[16..].to_vec()));
    }

    fn truncate(&mut self, to: i64) {
        if to == self.end {
            return;
        }
        self.batches.retain(|(_, next, _)| *next <= to);
        self.end = self.batches.last().map_or(self.start, |(_, next, _)| *next);
        if self.end < self.start || self.batches.is_empty() {
            self.batches.clear();
            self.end = self.start;
        }
    }

    fn check(&self, partition: &Arc<Partition>) {
        assert_eq!(partition.log_start(), Offset(self.start));
        assert_eq!(partition.high_watermark(), Offset(self.end));
        let found = all_batches(partition);
        let expected: Vec<_> = self.batches.iter().filter(|(_, next, _)| *next > self.start).collect();
        assert_eq!(found.len(), expected.len());
        for (found, (base, _, rest)) in found.iter().zip(expected) {
            assert!(
                found[..8] == base.to_be_bytes() && &found[16..] == rest,
                "the batch at offset {base} differs"
            );
        }
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let partition = 0..3usize;
    let act = prop_oneof![
        8 => (partition.clone(), 1..120usize, 1..12usize)
            .prop_map(|(partition, records, times)| Act::Append { partition, records, times }),
        2 => (partition.clone(), 0..40i64).prop_map(|(partition, percent)| Act::Truncate { partition, percent }),
        1 => (partition, 0..70i64).prop_map(|(partition, percent)| Act::MoveStart { partition, percent }),
        2 => Just(Act::Checkpoint),
        1 => Just(Act::Flush),
        1 => Just(Act::Stop),
        2 => Just(Act::Kill),
    ];
    prop::collection::vec(act, 1..40)
}

fn live(mode: FlushMode, acts: Vec<Act>) {
    let mut log = Log::open(mode);
    let mut models = vec![Model::default(); 3];
    let mut number = 0;
    let open = |log: &Log, index: usize| log.partition_with(topic(index as u8), index as i32, CONFIG);
    for act in acts {
        match act {
            Act::Append { partition, records, times } => {
                for _ in 0..times {
                    number += 1;
                    let bytes = batch(number, records);
                    let at = log.append(&open(&log, partition), &bytes);
                    assert_eq!(at.base_offset, Offset(models[partition].end));
                    models[partition].append(records, &bytes);
                }
            }
            Act::Truncate { partition, percent } => {
                let model = &mut models[partition];
                let to = model.end - (model.end - model.start) * percent / 100;
                let target = open(&log, partition);
                log.truncate(&target, Offset(to));
                model.truncate(to);
            }
            Act::MoveStart { partition, percent } => {
                let model = &mut models[partition];
                model.start += (model.end - model.start) * percent / 100;
                let target = open(&log, partition);
                log.move_log_start(&target, Offset(model.start));
            }
            Act::Checkpoint => {
                log.directory().checkpoint().unwrap();
            }
            Act::Flush => log.directory().flush_remainders().unwrap(),
            Act::Stop => log.close_and_reopen(),
            Act::Kill => log.kill_and_reopen(),
        }
        assert!(log.report.losses.is_empty(), "{:?}", log.report.losses);
        for (index, model) in models.iter().enumerate() {
            model.check(&open(&log, index));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_what_was_done_to_it(acts in acts(), durable: bool) {
        live(if durable { FlushMode::Ack } else { FlushMode::Os }, acts);
    }
}
