//! The log on a real disk with real threads: what is appended and committed is read, also after a stop, a kill and a restart.

mod support;

use hotlog::partition::{Isolation, ReadLimits};
use hotlog::{Committed, FlushMode, Origin, PartitionConfig, PartitionId, RetentionPass};
use support::{Log, all_batches, batch, block_on, producer_batch, topic};
use wire::ids::Offset;

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
    assert_eq!(partition.offset_of_max_timestamp().unwrap().unwrap().batch_base_offset, Offset(990));
}

#[test]
fn a_log_can_start_at_an_offset_once() {
    for mode in MODES {
        let mut log = Log::open(mode);
        let partition = log.partition(topic(1), 0);
        let room = block_on(log.directory().reserve_room(0)).unwrap();
        let ticket = partition.start_log_at(room, Offset(5_000_000_000)).unwrap();
        block_on(log.directory().commit(ticket)).unwrap();
        assert_eq!(
            (partition.log_start(), partition.high_watermark()),
            (Offset(5_000_000_000), Offset(5_000_000_000))
        );
        drop(partition);
        log.kill_and_reopen();
        let partition = log.partition(topic(1), 0);
        assert_eq!(log.append(&partition, &batch(0, 1)).base_offset, Offset(5_000_000_000));
        let room = block_on(log.directory().reserve_room(0)).unwrap();
        assert!(partition.start_log_at(room, Offset(9)).is_err());
        log.directory().checkpoint().unwrap();
        drop(partition);
        log.kill_and_reopen();
        assert_eq!(all_batches(&log.partition(topic(1), 0)).len(), 1);
    }
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
