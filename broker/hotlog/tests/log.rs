//! The log on a real disk with real threads: what is appended and committed is read, also after a stop, a kill and a restart.

mod support;

use std::sync::Arc;

use hotlog::epochs::EpochHistory;
use hotlog::error::{ChangeError, ReadError};
use hotlog::partition::{Isolation, ReadLimits};
use hotlog::{
    Committed, FlushMode, LogBeginning, Origin, Partition, PartitionConfig, PartitionId, RetentionPass,
};
use support::{Log, all_batches, batch, block_on, producer_batch, topic};
use wire::ids::{LeaderEpoch, Offset};

const MODES: [FlushMode; 2] = [FlushMode::Ack, FlushMode::Os];

#[test]
fn what_is_committed_is_read_back_from_memory_and_after_a_kill() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let partition = log.partition(topic(1), 0);
        let sent: Vec<Vec<u8>> = (0..20).map(|number| batch(number, 3)).collect();
        for bytes in &sent {
            log.append(&partition, bytes);
        }
        assert_eq!(partition.high_watermark(), Offset(60));
        let before = all_batches(&partition);
        assert_eq!(before.len(), 20);
        for (stored, sent) in before.iter().zip(&sent) {
            assert_eq!(stored[16..], sent[16..], "only base offset and leader epoch are patched");
        }
        drop(partition);
        log.kill_and_reopen();
        let partition = log.partition(topic(1), 0);
        assert_eq!(all_batches(&partition), before);
        let appended = log.append(&partition, &batch(99, 1));
        assert_eq!(appended.base_offset, Offset(60));
    }
}

#[test]
fn a_log_many_times_the_journal_goes_through_segments() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let config = PartitionConfig { segment_bytes: 200_000, ..PartitionConfig::default() };
        let mut expected = [Vec::new(), Vec::new()];
        for round in 0..3 {
            for number in 0..150 {
                for (index, expected) in expected.iter_mut().enumerate() {
                    let partition = log.partition_with(topic(index as u8), 0, config);
                    let bytes = batch(round * 1000 + number, 40 + (number as usize * 7) % 100);
                    let appended = log.append(&partition, &bytes);
                    expected.push((appended.base_offset, bytes));
                }
            }
            for (index, expected) in expected.iter().enumerate() {
                let partition = log.partition_with(topic(index as u8), 0, config);
                check(&all_batches(&partition), expected);
            }
            if round == 1 { log.close_and_reopen() } else { log.kill_and_reopen() }
        }
        for (index, expected) in expected.iter().enumerate() {
            let partition = log.partition_with(topic(index as u8), 0, config);
            check(&all_batches(&partition), expected);
            assert!(partition.sealed_segments(Offset(0)).unwrap().len() > 3);
        }
    }
}

fn check(found: &[Vec<u8>], expected: &[(Offset, Vec<u8>)]) {
    assert_eq!(found.len(), expected.len());
    for (found, (offset, sent)) in found.iter().zip(expected) {
        assert_eq!(found[..8], offset.0.to_be_bytes());
        assert_eq!(found[16..], sent[16..]);
    }
}

#[test]
fn many_threads_append_to_many_partitions() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let partitions: Vec<_> = (0..8).map(|number| log.partition(topic(7), number)).collect();
        std::thread::scope(|scope| {
            for thread in 0..6u64 {
                let (directory, partitions) = (log.directory().clone(), &partitions);
                scope.spawn(move || {
                    for round in 0..100u64 {
                        let partition = &partitions[((thread + round) % 8) as usize];
                        let bytes = batch(thread * 1000 + round, 20 + (round % 30) as usize);
                        let room = block_on(directory.reserve_room(bytes.len())).unwrap();
                        let appended = partition.append(room, &bytes, Origin::Client).unwrap();
                        block_on(directory.commit(appended.ticket)).unwrap();
                        assert!(partition.high_watermark() > appended.last_offset);
                    }
                });
            }
        });
        let before: Vec<_> = partitions.iter().map(|partition| all_batches(partition)).collect();
        assert_eq!(before.iter().map(Vec::len).sum::<usize>(), 600);
        drop(partitions);
        log.kill_and_reopen();
        for (number, before) in before.iter().enumerate() {
            let partition = log.partition(topic(7), number as i32);
            assert_eq!(&all_batches(&partition), before);
        }
    }
}

#[test]
fn a_read_stops_at_whole_batches() {
    let mut log = Log::open(FlushMode::Os);
    let partition = log.partition(topic(1), 0);
    for number in 0..10 {
        log.append(&partition, &batch(number, 2));
    }
    for flushed in [false, true] {
        if flushed {
            log.directory().checkpoint().unwrap();
        }
        let size = all_batches(&partition)[0].len();
        let limits = ReadLimits { max_bytes: 2 * size + 1, at_least_one_batch: true };
        let read = partition.read(Offset(3), limits, Isolation::ReadUncommitted).unwrap();
        let bytes = read.bytes().unwrap().concat();
        assert_eq!(bytes[..8], 2i64.to_be_bytes(), "the batch that holds the offset comes whole");
        assert!(bytes.len() <= 2 * size + 1 && !bytes.is_empty());
        let limits = ReadLimits { max_bytes: 1, at_least_one_batch: true };
        let read = partition.read(Offset(5), limits, Isolation::ReadUncommitted).unwrap();
        assert_eq!(read.bytes().unwrap().concat(), all_batches(&partition)[2]);
        let limits = ReadLimits { max_bytes: 1, at_least_one_batch: false };
        assert!(partition.read(Offset(5), limits, Isolation::ReadUncommitted).unwrap().pieces.is_empty());
    }
}

#[test]
fn a_retry_is_answered_with_the_first_offset_also_after_checkpoint_and_restart() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let partition = log.partition(topic(1), 0);
        for sequence in 0..7 {
            log.append(&partition, &producer_batch(1, 1, sequence));
        }
        let retry = log.append(&partition, &producer_batch(1, 1, 5));
        assert!(retry.duplicate);
        assert_eq!(retry.base_offset, Offset(5));
        drop(partition);
        log.kill_and_reopen();
        let partition = log.partition(topic(1), 0);
        assert_eq!(log.append(&partition, &producer_batch(1, 1, 6)).base_offset, Offset(6));
        log.directory().checkpoint().unwrap();
        drop(partition);
        log.kill_and_reopen();
        let partition = log.partition(topic(1), 0);
        assert!(log.append(&partition, &producer_batch(1, 1, 4)).duplicate);
        assert!(!log.append(&partition, &producer_batch(1, 1, 7)).duplicate);
        assert_eq!(partition.high_watermark(), Offset(8));
    }
}

#[test]
fn the_log_start_moves_into_a_batch_and_frees_segments() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let config = PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() };
        let partition = log.partition_with(topic(1), 0, config);
        for number in 0..200 {
            log.append(&partition, &batch(number, 10));
        }
        log.directory().checkpoint().unwrap();
        let before = partition.local_size_bytes().unwrap();
        log.move_log_start(&partition, Offset(1005));
        assert_eq!(partition.log_start(), Offset(1005));
        log.directory().checkpoint().unwrap();
        log.directory().checkpoint().unwrap();
        assert!(partition.local_size_bytes().unwrap() < before * 2 / 3);
        let first = all_batches(&partition)[0].clone();
        assert_eq!(first[..8], 1000i64.to_be_bytes(), "the batch that holds the log start comes whole");
        assert!(partition.read(Offset(1004), ONE_BATCH, Isolation::ReadUncommitted).is_err());
        drop(partition);
        log.kill_and_reopen();
        let partition = log.partition_with(topic(1), 0, config);
        assert_eq!(partition.log_start(), Offset(1005));
        assert_eq!(all_batches(&partition).len(), 100);
    }
}

const ONE_BATCH: ReadLimits = ReadLimits { max_bytes: 1, at_least_one_batch: true };

#[test]
fn released_segments_are_not_local_and_stay_away() {
    let mut log = Log::open(FlushMode::Ack);
    let config = PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() };
    let partition = log.partition_with(topic(1), 0, config);
    for number in 0..200 {
        log.append(&partition, &batch(number, 10));
    }
    log.directory().checkpoint().unwrap();
    let sealed = partition.sealed_segments(Offset(0)).unwrap();
    let below = Offset(sealed[sealed.len() / 2].last_offset.0 + 1);
    let limits = hotlog::retention::Limits { age_ms: None, size_bytes: Some(0) };
    let time = hotlog::retention::PassTime { now_ms: 0, since: None };
    let pass = RetentionPass { policy: hotlog::retention::CleanupPolicy::Delete, limits, time };
    let released = partition.release(Committed::by_manifest(partition.id(), below), &pass).unwrap();
    assert_eq!(released, sealed.len() / 2 + 1);
    assert_eq!(partition.local_log_start(), below);
    assert_eq!(partition.log_start(), Offset(0));
    assert!(partition.read(Offset(5), ONE_BATCH, Isolation::ReadUncommitted).is_err());
    log.directory().checkpoint().unwrap();
    drop(partition);
    log.kill_and_reopen();
    let partition = log.partition_with(topic(1), 0, config);
    assert_eq!(partition.local_log_start(), below);
    assert_eq!(partition.sealed_segments(Offset(0)).unwrap().len(), sealed.len() - released);
}

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

#[test]
fn a_deleted_topic_is_gone_also_after_a_kill_and_its_successor_starts_afresh() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let partition = log.partition(topic(1), 0);
        for number in 0..500 {
            log.append(&partition, &batch(number, 50));
        }
        log.topics.live.remove(&topic(1));
        log.topics.deleted.insert(topic(1));
        log.directory().delete_partition(partition.id());
        let room = block_on(log.directory().reserve_room(1000)).unwrap();
        assert!(partition.append(room, &batch(0, 1), Origin::Client).is_err());
        let successor = log.partition(topic(2), 0);
        assert_eq!(log.append(&successor, &batch(0, 1)).base_offset, Offset(0));
        drop((partition, successor));
        log.kill_and_reopen();
        assert!(log.directory().partition(PartitionId { topic_id: topic(1), partition: 0 }).is_none());
        log.directory().checkpoint().unwrap();
        log.close_and_reopen();
        let folder = log.folder().join(format!("{}-0", topic(1)));
        assert!(!folder.exists());
        assert_eq!(all_batches(&log.partition(topic(2), 0)).len(), 1);
    }
}

#[test]
fn a_lost_sidecar_is_rebuilt() {
    let mut log = Log::open(FlushMode::Os);
    let config = PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() };
    let partition = log.partition_with(topic(1), 0, config);
    for number in 0..100 {
        log.append(&partition, &producer_batch(number, 10, number as i32 * 10));
    }
    log.directory().checkpoint().unwrap();
    let before = partition.sealed_segments(Offset(0)).unwrap();
    let decode = |bytes: &[u8]| hotlog::sidecar::Sidecar::decode(bytes).unwrap();
    drop(partition);
    log.close_and_reopen();
    let folder = log.folder().join(format!("{}-0", topic(1)));
    let base = before[1].base_offset;
    std::fs::remove_file(folder.join(format!("{:020}.sidecar", base.0))).unwrap();
    let partition = log.partition_with(topic(1), 0, config);
    let after = partition.sealed_segments(Offset(0)).unwrap();
    let (lost, found) = (decode(&before[1].sidecar), decode(&after[1].sidecar));
    assert_eq!((lost.index, lost.epochs, lost.next_offset), (found.index, found.epochs, found.next_offset));
    assert_eq!(lost.producers.len(), found.producers.len());
    assert_eq!(all_batches(&partition).len(), 100);
}

/// The first local segment's sidecar is rebuilt from that of a segment which was released, and so is what a cut leaves of its producers.
#[test]
fn a_lost_sidecar_is_rebuilt_also_behind_released_segments() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let config = PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() };
        let partition = log.partition_with(topic(1), 0, config);
        log.append(&partition, &producer_batch(0, 10, 0));
        for number in 0..150 {
            log.append(&partition, &batch(number, 10));
        }
        log.directory().checkpoint().unwrap();
        let sealed = partition.sealed_segments(Offset(0)).unwrap();
        let below = sealed[2].base_offset;
        let limits = hotlog::retention::Limits { age_ms: None, size_bytes: Some(0) };
        let time = hotlog::retention::PassTime { now_ms: 0, since: None };
        let pass = RetentionPass { policy: hotlog::retention::CleanupPolicy::Delete, limits, time };
        partition.release(Committed::by_manifest(partition.id(), below), &pass).unwrap();
        drop(partition);
        log.close_and_reopen();
        let folder = log.folder().join(format!("{}-0", topic(1)));
        assert!(!folder.join(format!("{:020}.log", sealed[1].base_offset.0)).exists());
        for lost in &sealed[2..] {
            std::fs::remove_file(folder.join(format!("{:020}.sidecar", lost.base_offset.0))).unwrap();
        }
        let partition = log.partition_with(topic(1), 0, config);
        let found = partition.sealed_segments(Offset(0)).unwrap();
        let decode = |bytes: &[u8]| hotlog::sidecar::Sidecar::decode(bytes).unwrap();
        for (lost, found) in sealed[2..].iter().zip(&found) {
            let (lost, found) = (decode(&lost.sidecar), decode(&found.sidecar));
            assert_eq!((lost.index, lost.epochs), (found.index, found.epochs));
            assert_eq!((lost.producers.len(), found.producers.len()), (1, 1));
        }
        // A cut reads sidecars, and one that is lost again must not hold it up.
        for found in &found {
            std::fs::remove_file(folder.join(format!("{:020}.sidecar", found.base_offset.0))).unwrap();
        }
        drop(partition);
        log.kill_and_reopen();
        let partition = log.partition_with(topic(1), 0, config);
        log.truncate(&partition, Offset(found[0].last_offset.0 - 5));
        assert_eq!(partition.producers().len(), 1);
        assert!(log.append(&partition, &producer_batch(0, 10, 0)).duplicate);
        drop(partition);
        log.kill_and_reopen();
        let partition = log.partition_with(topic(1), 0, config);
        assert!(log.append(&partition, &producer_batch(0, 10, 0)).duplicate);
    }
}

#[test]
fn offsets_are_found_by_time_in_files_and_in_memory() {
    let mut log = Log::open(FlushMode::Os);
    let config = PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() };
    let partition = log.partition_with(topic(1), 0, config);
    for number in 0..100 {
        log.append(&partition, &batch(number, 10));
        if number == 60 {
            log.directory().checkpoint().unwrap();
        }
    }
    for number in [0, 1, 17, 59, 60, 61, 99] {
        let found =
            partition.offset_for_time(1_000_000 + number, Isolation::ReadUncommitted).unwrap().unwrap();
        assert_eq!(
            (found.batch_base_offset, found.max_timestamp_ms),
            (Offset(number * 10), 1_000_000 + number)
        );
    }
    assert_eq!(partition.offset_for_time(2_000_000, Isolation::ReadUncommitted).unwrap(), None);
    // All are young enough: the first is the one that holds the offset, sealed, open or in the ring.
    for from in [0, 5, 179, 595, 610, 999] {
        let found = partition.offset_for_time_from(Offset(from), 0, Isolation::ReadUncommitted).unwrap();
        assert_eq!(found.unwrap().batch_base_offset, Offset(from / 10 * 10));
    }
    assert_eq!(partition.offset_for_time_from(Offset(1000), 0, Isolation::ReadUncommitted).unwrap(), None);
    assert_eq!(partition.offset_of_max_timestamp().unwrap().unwrap().batch_base_offset, Offset(990));
}

/// A log whose older part, from offset 300 on, is in a store only.
fn beginning() -> LogBeginning {
    let mut epochs = EpochHistory::default();
    for (epoch, start) in [(3, 100), (7, 450), (9, 800)] {
        epochs.assign(LeaderEpoch(epoch), Offset(start));
    }
    LogBeginning { log_start: Offset(300), local_start: Offset(5_000_000_000), epochs }
}

fn check_beginning(log: &Log, batches: i64) {
    let partition = log.partition(topic(1), 0);
    let begun = beginning();
    assert_eq!((partition.log_start(), partition.local_log_start()), (begun.log_start, begun.local_start));
    assert_eq!(partition.high_watermark(), Offset(begun.local_start.0 + batches));
    assert_eq!(partition.log_end(), partition.high_watermark());
    assert_eq!(all_batches(&partition).len(), batches as usize);
    let below = partition.read(Offset(299), ONE_BATCH, Isolation::ReadUncommitted);
    assert!(matches!(below, Err(ReadError::OutOfRange { .. })), "{below:?}");
    for offset in [300, 800, begun.local_start.0 - 1] {
        let elsewhere = partition.read(Offset(offset), ONE_BATCH, Isolation::ReadUncommitted);
        assert!(matches!(elsewhere, Err(ReadError::NotLocal { .. })), "{elsewhere:?}");
    }
    let ends = |epoch| partition.offset_for_leader_epoch(LeaderEpoch(epoch)).map(|end| end.end_offset);
    assert_eq!((ends(3), ends(7)), (Some(Offset(450)), Some(Offset(800))));
    assert!(partition.leader_epoch() > LeaderEpoch(40));
}

#[test]
fn a_log_can_begin_behind_offsets_that_lie_elsewhere() {
    for mode in MODES {
        let mut log = Log::open_above(mode, 40);
        let partition = log.partition(topic(1), 0);
        log.begin(&partition, &beginning());
        check_beginning(&log, 0);
        drop(partition);
        // Empty: from the journal alone, then from a checkpoint, then from one that a stop wrote.
        log.kill_and_reopen();
        check_beginning(&log, 0);
        log.directory().checkpoint().unwrap();
        log.kill_and_reopen();
        check_beginning(&log, 0);
        log.close_and_reopen();
        check_beginning(&log, 0);
        for count in 1..4 {
            let partition = log.partition(topic(1), 0);
            log.append(&partition, &batch(0, 1));
            check_beginning(&log, count);
            drop(partition);
            log.kill_and_reopen();
            check_beginning(&log, count);
            log.directory().checkpoint().unwrap();
        }
    }
}

#[test]
fn what_lies_elsewhere_is_neither_deleted_nor_cut() {
    let mut log = Log::open_above(FlushMode::Ack, 40);
    let config = PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() };
    let partition = log.partition_with(topic(1), 0, config);
    let begun = beginning();
    log.begin(&partition, &begun);
    for number in 0..100 {
        log.append(&partition, &batch(number, 10));
    }
    log.directory().checkpoint().unwrap();
    let limits = hotlog::retention::Limits { age_ms: None, size_bytes: Some(1 << 40) };
    let time = hotlog::retention::PassTime { now_ms: 0, since: None };
    let pass = RetentionPass { policy: hotlog::retention::CleanupPolicy::Delete, limits, time };
    let expired = partition.expired(&pass, hotlog::retention::LargePass::Stop).unwrap().unwrap();
    assert_eq!(expired.below, None);
    let sealed = partition.sealed_segments(Offset(0)).unwrap();
    assert_eq!(sealed[0].base_offset, begun.local_start);
    let sidecar = hotlog::sidecar::Sidecar::decode(&sealed[0].sidecar).unwrap();
    assert_eq!(sidecar.epochs.entries().len(), 4, "the epochs below, cut at the log start, and our own");

    let room = block_on(log.directory().reserve_room(partition.change_bytes())).unwrap();
    assert!(matches!(
        log.directory().truncate(&partition, room, Offset(900)),
        Err(ChangeError::OutOfRange { .. })
    ));
    log.truncate(&partition, begun.local_start);
    assert_eq!(partition.log_end(), begun.local_start, "offsets of the store are not given again");
    drop(partition);
    log.kill_and_reopen();
    let partition = log.partition_with(topic(1), 0, config);
    assert_eq!((partition.log_start(), partition.log_end()), (begun.log_start, begun.local_start));

    log.append(&partition, &batch(1, 10));
    log.move_log_start(&partition, Offset(700));
    log.directory().checkpoint().unwrap();
    log.directory().checkpoint().unwrap();
    drop(partition);
    log.kill_and_reopen();
    let partition = log.partition_with(topic(1), 0, config);
    assert_eq!((partition.log_start(), partition.local_log_start()), (Offset(700), begun.local_start));
    assert_eq!(all_batches(&partition).len(), 1);
    let inside = Offset(begun.local_start.0 + 4);
    log.move_log_start(&partition, inside);
    assert_eq!((partition.log_start(), partition.local_log_start()), (inside, inside));
}

#[test]
fn a_log_begins_once_and_soundly() {
    let log = Log::open_above(FlushMode::Os, 40);
    let partition = log.partition(topic(1), 0);
    let begin = |beginning: &LogBeginning| {
        let room = block_on(log.directory().reserve_room(beginning.room_bytes())).unwrap();
        partition.begin_log(room, beginning)
    };
    let refused = |beginning: &LogBeginning| begin(beginning).unwrap_err().to_string();
    let above = LogBeginning { log_start: Offset(11), ..LogBeginning::at(Offset(10)) };
    assert!(refused(&above).contains("above the local start"));
    assert!(refused(&LogBeginning::at(Offset(-1))).contains("outside"));
    let mut newer = beginning();
    newer.epochs.assign(LeaderEpoch(41), Offset(900));
    assert!(refused(&newer).contains("start_above"));
    let low = LogBeginning { local_start: Offset(800), ..beginning() };
    assert!(refused(&low).contains("at or above the local start"));
    begin(&beginning()).unwrap();
    assert!(refused(&LogBeginning::at(Offset(9))).contains("its first offset cannot be set"));
}

#[test]
fn a_missing_foreign_or_damaged_journal_is_refused_by_name_and_can_be_given_up() {
    let mut log = Log::open(FlushMode::Ack);
    let partition = log.partition(topic(1), 0);
    log.append(&partition, &batch(0, 1));
    log.directory().checkpoint().unwrap();
    for number in 1..5 {
        log.append(&partition, &batch(number, 1));
    }
    drop(partition);
    log.stop();
    let journal = log.folder().join("journal");
    let bytes = std::fs::read(&journal).unwrap();

    let mut damaged = bytes.clone();
    // The third commit: each takes one block, and the header one before them.
    damaged[3 * 4096 + 100] ^= 1;
    std::fs::write(&journal, &damaged).unwrap();
    assert!(log.refusal().contains("is damaged at byte"), "{}", log.refusal());

    let other = Log::open(FlushMode::Ack);
    std::fs::copy(other.folder().join("journal"), &journal).unwrap();
    assert!(log.refusal().contains("belongs to another"), "{}", log.refusal());

    std::fs::remove_file(&journal).unwrap();
    assert!(log.refusal().contains("is missing"), "{}", log.refusal());

    log.accept_loss = true;
    log.reopen();
    assert_eq!(log.report.losses.len(), 1);
    log.accept_loss = false;
    let partition = log.partition(topic(1), 0);
    assert_eq!(partition.high_watermark(), Offset(1), "what the checkpoint had is there");
    log.append(&partition, &batch(9, 1));
    drop(partition);
    log.kill_and_reopen();
    assert_eq!(log.report.losses, Vec::<String>::new());
    assert_eq!(all_batches(&log.partition(topic(1), 0)).len(), 2);
}

#[derive(Debug)]
struct CountedClock;

impl hotlog::clock::Clock for CountedClock {
    fn now_ms(&self) -> i64 {
        0
    }
}

/// Partitions hold what the directory's workers share, which lists partitions: with a handle's end the lists have to go.
#[test]
fn a_directory_that_is_dropped_at_work_leaves_nothing_in_memory() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(CountedClock);
        let mut options = hotlog::LogOptions::new(folder.path().join("log"));
        options.flush = mode;
        options.clock = clock.clone();
        let topics = hotlog::TopicDirectory { live: [topic(1)].into(), ..Default::default() };
        let (directory, _) = hotlog::LogDirectory::open(options).unwrap().finish(&topics).unwrap();
        let id = PartitionId { topic_id: topic(1), partition: 0 };
        let partition = directory.create_partition(id, PartitionConfig::default()).unwrap();
        let bytes = batch(1, 10);
        let room = block_on(directory.reserve_room(bytes.len())).unwrap();
        partition.append(room, &bytes, Origin::Client).unwrap();
        drop(directory);
        partition.expire_producers();
        drop(partition);
        // The workers notice when their wait is over.
        let mut waits = 0;
        while Arc::strong_count(&clock) > 1 {
            assert!(waits < 2_000, "something still holds the clock");
            waits += 1;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
