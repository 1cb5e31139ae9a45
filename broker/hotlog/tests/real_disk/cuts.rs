//! What a cut takes from the end stays away, whatever memory, files and journal had of it.

use std::sync::Arc;

use hotlog::{FlushMode, Partition, PartitionConfig};
use wire::ids::Offset;

use crate::support::{Log, MODES, all_batches, batch, topic};

/// A cut is planned with what the file held then. Whoever replays it counts on the last checkpoint only, so on less of the file.
#[test]
fn a_cut_of_bytes_that_no_checkpoint_counts_yet_is_replayed() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let partition = log.partition(topic(1), 0);
        log.append(&partition, &batch(0, 10));
        log.directory().checkpoint().unwrap();
        for number in 1..40 {
            log.append(&partition, &batch(number, 40));
        }
        let file = log.folder().join(format!("{}-0/{:020}.log", topic(1), 0));
        let is_written = || std::fs::metadata(&file).is_ok_and(|file| file.len() >= 16 << 10);
        while !is_written() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // The writer notes what it did right after.
        std::thread::sleep(std::time::Duration::from_millis(50));
        log.truncate(&partition, Offset(10 + 38 * 40));
        let before = all_batches(&partition);
        assert_eq!(before.len(), 39);
        drop(partition);
        log.kill_and_reopen();
        assert_eq!(all_batches(&log.partition(topic(1), 0)), before);
        log.directory().checkpoint().unwrap();
        log.kill_and_reopen();
        assert_eq!(all_batches(&log.partition(topic(1), 0)), before);
    }
}

/// A second cut lets the file be rewritten where the replay of the first would read.
#[test]
fn two_cuts_behind_each_other_are_replayed_over_a_rewritten_file() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let partition = log.partition(topic(1), 0);
        for number in 0..30 {
            log.append(&partition, &batch(number, 40));
        }
        log.directory().checkpoint().unwrap();
        for to in [1_000, 960, 640] {
            log.truncate(&partition, Offset(to));
        }
        for number in 100..140 {
            log.append(&partition, &batch(number, 37));
        }
        let before = all_batches(&partition);
        // The writer has enough for a write of its own.
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(partition);
        for _ in 0..2 {
            log.kill_and_reopen();
            assert_eq!(all_batches(&log.partition(topic(1), 0)), before);
        }
    }
}

/// The batch that a cut leaves lies below the log start: then nothing is left, also of what memory and files had of it.
#[test]
fn a_cut_below_a_log_start_inside_a_batch_leaves_an_empty_log() {
    for (mode, checkpointed) in [(FlushMode::Ack, false), (FlushMode::Os, true)] {
        let mut log = Log::open(mode);
        let config = PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() };
        let partition = log.partition_with(topic(1), 0, config);
        for number in 0..40 {
            log.append(&partition, &batch(number, 10));
        }
        if checkpointed {
            log.directory().checkpoint().unwrap();
        }
        log.move_log_start(&partition, Offset(395));
        log.truncate(&partition, Offset(396));
        let all = |partition: &Arc<Partition>| {
            assert_eq!(partition.log_start(), Offset(395));
            assert_eq!(partition.local_log_start(), Offset(395));
            assert_eq!(partition.local_size_bytes().unwrap() == 0, partition.log_end() == Offset(395));
            all_batches(partition).len()
        };
        assert_eq!(all(&partition), 0);
        log.append(&partition, &batch(50, 1));
        assert_eq!(all(&partition), 1);
        log.directory().checkpoint().unwrap();
        assert_eq!(all(&partition), 1);
        drop(partition);
        log.kill_and_reopen();
        let partition = log.partition_with(topic(1), 0, config);
        assert_eq!(all(&partition), 1);
        log.directory().flush_remainders().unwrap();
        let files = std::fs::read_dir(log.folder().join(format!("{}-0", topic(1)))).unwrap();
        let logs = files.filter(|file| file.as_ref().unwrap().path().extension().unwrap() == "log");
        assert_eq!(logs.count(), 1, "what is below went with a checkpoint");
        log.truncate(&partition, Offset(395));
        drop(partition);
        log.kill_and_reopen();
        assert_eq!(all(&log.partition_with(topic(1), 0, config)), 0);
    }
}
