//! The directory as a whole: a journal that is not its own is refused, and a dropped one lets go of everything.

use std::sync::Arc;

use hotlog::{FlushMode, Origin, PartitionConfig, PartitionId};
use wire::ids::Offset;

use crate::support::{Log, MODES, all_batches, batch, block_on, topic};

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
