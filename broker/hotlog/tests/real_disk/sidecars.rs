//! Sidecars that are lost are made again from the segments.

use hotlog::{Committed, FlushMode, PartitionConfig, RetentionPass};
use wire::ids::Offset;

use crate::support::{Log, MODES, all_batches, batch, producer_batch, topic};

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

/// The list of segments lets the one before a hole reach up to the one behind it; its batches do not.
#[test]
fn a_sidecar_rebuilt_before_a_hole_ends_where_its_batches_do() {
    let mut log = Log::open(FlushMode::Os);
    let partition = log.small_segments();
    log.directory().checkpoint().unwrap();
    let before = partition.sealed_segments(Offset(0)).unwrap();
    drop(partition);
    log.close_and_reopen();
    std::fs::remove_file(log.file_of(before[0].base_offset, "sidecar")).unwrap();
    log.lose(before[1].base_offset);
    let partition = log.with_small_segments();
    let found = partition.sealed_segments(Offset(0)).unwrap();
    assert_eq!((found[0].base_offset, found[0].last_offset), (before[0].base_offset, before[0].last_offset));
    assert_eq!(found[1].base_offset, before[2].base_offset);
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
