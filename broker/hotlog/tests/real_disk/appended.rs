//! What was appended is found again by its offset, its time and its sequence, wherever it lies meanwhile.

use hotlog::partition::{Isolation, ReadLimits};
use hotlog::{FlushMode, Origin, PartitionConfig};
use wire::ids::Offset;

use crate::support::{Log, MODES, all_batches, batch, block_on, producer_batch, topic};

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
