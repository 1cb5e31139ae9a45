//! What goes from the front: below the log start, released to a store, or with its topic.

use hotlog::partition::Isolation;
use hotlog::{Committed, FlushMode, Origin, PartitionConfig, PartitionId, RetentionPass};
use wire::ids::Offset;

use crate::support::{Log, MODES, ONE_BATCH, all_batches, batch, block_on, topic};

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

#[test]
fn released_segments_are_not_local_and_stay_away() {
    let mut log = Log::open(FlushMode::Ack);
    let partition = log.small_segments();
    log.directory().checkpoint().unwrap();
    let sealed = partition.sealed_segments(Offset(0)).unwrap();
    let below = Offset(sealed[sealed.len() / 2].last_offset.0 + 1);
    let limits = hotlog::retention::Limits { age_ms: None, size_bytes: Some(0) };
    let time = hotlog::retention::PassTime { now_ms: 0, since: None };
    let pass = RetentionPass { policy: hotlog::retention::CleanupPolicy::Delete, limits, time };
    assert_eq!(partition.releasable_below(below, &pass).unwrap(), below);
    let by_age = hotlog::retention::Limits { age_ms: Some(i64::MAX), size_bytes: None };
    let kept = RetentionPass { limits: by_age, ..pass };
    assert_eq!(partition.releasable_below(below, &kept).unwrap(), Offset(0));
    let first = partition.first_sealed_segment(Offset(0)).unwrap().unwrap();
    assert_eq!(first.base_offset, sealed[0].base_offset);
    let released = partition.release(Committed::by_manifest(partition.id(), below), &pass).unwrap();
    assert_eq!(released, sealed.len() / 2 + 1);
    assert_eq!(partition.local_log_start(), below);
    assert_eq!(partition.log_start(), Offset(0));
    assert!(partition.read(Offset(5), ONE_BATCH, Isolation::ReadUncommitted).is_err());
    log.directory().checkpoint().unwrap();
    drop(partition);
    log.kill_and_reopen();
    let partition = log.with_small_segments();
    assert_eq!(partition.local_log_start(), below);
    assert_eq!(partition.sealed_segments(Offset(0)).unwrap().len(), sealed.len() - released);
}

/// The list of segments lets the one before a hole reach up to the one behind it.
#[test]
fn a_segment_that_is_missing_is_passed_over() {
    let mut log = Log::open(FlushMode::Os);
    let partition = log.small_segments();
    log.directory().checkpoint().unwrap();
    let sealed = partition.sealed_segments(Offset(0)).unwrap();
    let ranges = partition.sealed_ranges(Offset(0)).unwrap();
    assert_eq!(ranges.len(), sealed.len());
    for (segment, (base_offset, next_offset, size_bytes)) in sealed.iter().zip(ranges) {
        assert_eq!((segment.base_offset, segment.last_offset.0 + 1), (base_offset, next_offset.0));
        assert_eq!(segment.size_bytes, size_bytes);
    }
    drop(partition);
    log.close_and_reopen();
    let (hole, behind) = (sealed[1].base_offset, sealed[2].base_offset);
    log.lose(hole);
    let partition = log.with_small_segments();
    let (base_offset, next_offset, _) = partition.sealed_ranges(Offset(0)).unwrap()[0];
    assert_eq!((base_offset, next_offset), (sealed[0].base_offset, behind));
    let first = |from: Offset| partition.first_sealed_segment(from).unwrap().unwrap().base_offset;
    assert_eq!(first(Offset(hole.0 - 1)), sealed[0].base_offset);
    assert_eq!(first(hole), behind);
    assert_eq!(first(behind), behind);
    assert_eq!(base_of_read(&partition, Offset(hole.0 - 5)).unwrap(), Offset(hole.0 - 10));
    for from in [hole, Offset(hole.0 + 5)] {
        // To go on behind it would be to skip in silence what was acknowledged.
        assert_eq!(base_of_read(&partition, from), Err(missing(from, behind)));
    }
    assert_eq!(base_of_read(&partition, behind).unwrap(), behind);
}

fn missing(from: Offset, next: Offset) -> String {
    format!("offset {from} is missing: no segment file on this disk holds it, the next one begins at {next}")
}

fn base_of_read(partition: &hotlog::Partition, from: Offset) -> Result<Offset, String> {
    let read = partition.read(from, ONE_BATCH, Isolation::ReadUncommitted);
    let bytes = read.map_err(|error| error.to_string())?.bytes().unwrap().concat();
    Ok(Offset(i64::from_be_bytes(bytes[..8].try_into().unwrap())))
}

#[test]
fn a_missing_segment_before_what_is_not_sealed_is_named_to_readers() {
    let mut log = Log::open(FlushMode::Os);
    drop(log.small_segments());
    log.close_and_reopen();
    let partition = log.with_small_segments();
    let (hole, behind, _) = *partition.sealed_ranges(Offset(0)).unwrap().last().unwrap();
    drop(partition);
    log.close_and_reopen();
    log.lose(hole);
    let partition = log.with_small_segments();
    let from = Offset(hole.0 + 5);
    assert_eq!(base_of_read(&partition, from), Err(missing(from, behind)));
    assert_eq!(base_of_read(&partition, behind).unwrap(), behind);
}

/// One that is cut to nothing, with its sidecar gone, has no age that could be told.
#[test]
fn a_segment_that_cannot_be_read_keeps_none_before_it() {
    let mut log = Log::open(FlushMode::Os);
    let partition = log.small_segments();
    log.directory().checkpoint().unwrap();
    let sealed = partition.sealed_segments(Offset(0)).unwrap();
    drop(partition);
    log.close_and_reopen();
    let (damaged, below) = (sealed[1].base_offset, sealed[2].base_offset);
    std::fs::remove_file(log.file_of(damaged, "sidecar")).unwrap();
    std::fs::write(log.file_of(damaged, "log"), b"").unwrap();
    let partition = log.with_small_segments();
    let limits = hotlog::retention::Limits { age_ms: Some(0), size_bytes: None };
    let time = hotlog::retention::PassTime { now_ms: 2_000_000, since: None };
    let pass = RetentionPass { policy: hotlog::retention::CleanupPolicy::Delete, limits, time };
    assert_eq!(partition.releasable_below(below, &pass).unwrap(), damaged);
    assert_eq!(partition.release(Committed::by_manifest(partition.id(), below), &pass).unwrap(), 1);
    assert_eq!(partition.local_log_start(), damaged);
    let refused = partition.releasable_below(below, &pass).unwrap_err().to_string();
    assert!(refused.contains("holds no batch"), "{refused}");
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
