//! A log that begins behind offsets which lie in a store only.

use hotlog::epochs::EpochHistory;
use hotlog::error::{ChangeError, ReadError};
use hotlog::partition::Isolation;
use hotlog::{FlushMode, LogBeginning, PartitionConfig, RetentionPass};
use wire::ids::{LeaderEpoch, Offset};

use crate::support::{Log, MODES, ONE_BATCH, all_batches, batch, block_on, topic};

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
