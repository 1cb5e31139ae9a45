//! The journal's and the checkpoint's first format, byte for byte: today's code reads what was written then, and writes the same.
//!
//! `HOTLOG_WRITE_GOLDEN=1 cargo test -p hotlog --test real_disk golden` writes the files anew, for a new version of a format only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hotlog::clock::Clock;
use hotlog::worker::{Spawner, Worker};
use hotlog::{
    FlushMode, LogBeginning, LogDirectory, LogOptions, Origin, Partition, PartitionConfig, PartitionId,
    TopicDirectory,
};
use wire::ids::Offset;

use crate::support::{all_batches, batch, block_on, producer_batch, topic};

/// The smallest journal; its zeros behind the last commit are not kept in the repository.
const JOURNAL_BYTES: u64 = 256 << 10;
const BLOCK: usize = 4096;

#[derive(Debug)]
struct Nobody;

impl Spawner for Nobody {
    fn start(&self, _worker: Box<dyn Worker>) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        1_400_000_000_000
    }
}

fn open(folder: &Path) -> LogDirectory {
    let mut options = LogOptions::new(folder.to_owned());
    options.flush = FlushMode::Os;
    options.journal_bytes = JOURNAL_BYTES;
    options.entropy = || *b"a golden journal";
    options.spawner = Arc::new(Nobody);
    options.clock = Arc::new(Stopped);
    let topics = TopicDirectory { live: (0..3).map(topic).collect(), ..TopicDirectory::default() };
    let (directory, report) = LogDirectory::open(options).unwrap().finish(&topics).unwrap();
    assert_eq!(report.losses, Vec::<String>::new());
    directory
}

fn partition(directory: &LogDirectory, number: u8) -> Arc<Partition> {
    let id = PartitionId { topic_id: topic(number), partition: i32::from(number) };
    directory.create_partition(id, PartitionConfig::default()).unwrap()
}

fn append(directory: &LogDirectory, partition: &Arc<Partition>, bytes: &[u8]) {
    let room = block_on(directory.reserve_room(bytes.len())).unwrap();
    let appended = partition.append(room, bytes, Origin::Client).unwrap();
    block_on(directory.commit(appended.ticket)).unwrap();
}

/// Offsets 20 to below 1000 lie in a store.
fn beginning() -> LogBeginning {
    LogBeginning { log_start: Offset(20), ..LogBeginning::at(Offset(1000)) }
}

/// Every kind of frame but "removed", and every kind of entry but "roll".
fn write(folder: &Path) {
    let directory = open(folder);
    let (first, second, third) =
        (partition(&directory, 0), partition(&directory, 1), partition(&directory, 2));
    for sequence in 0..6 {
        append(&directory, &first, &producer_batch(1, 1, sequence));
    }
    (0..4).for_each(|number| append(&directory, &second, &batch(number, 30)));
    directory.checkpoint().unwrap();
    append(&directory, &first, &producer_batch(2, 1, 6));
    let room = || block_on(directory.reserve_room(20_000)).unwrap();
    let tickets = [
        first.move_log_start(room(), Offset(2)).unwrap(),
        directory.truncate(&second, room(), Offset(95)).unwrap(),
        third.begin_log(room(), &beginning()).unwrap(),
    ];
    tickets.into_iter().for_each(|ticket| block_on(directory.commit(ticket)).unwrap());
    append(&directory, &second, &batch(9, 2));
    append(&directory, &third, &batch(10, 1));
}

fn check(folder: &Path) {
    let directory = open(folder);
    let (first, second, third) =
        (partition(&directory, 0), partition(&directory, 1), partition(&directory, 2));
    assert_eq!((first.log_start(), first.high_watermark()), (Offset(2), Offset(7)));
    assert_eq!(all_batches(&first).len(), 5);
    assert_eq!(first.producers()[0].last_sequence, Some(6));
    assert_eq!((second.log_start(), second.high_watermark()), (Offset(0), Offset(92)));
    assert_eq!(all_batches(&second).len(), 4);
    assert_eq!((third.log_start(), third.local_log_start()), (Offset(20), Offset(1000)));
    assert_eq!(third.high_watermark(), Offset(1001));
    assert_eq!(all_batches(&third)[0][16..], batch(10, 1)[16..]);
    assert_eq!(directory.leader_epoch().0, 2);
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The journal up to its last block that is not zero.
fn journal_head(folder: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(folder.join("journal")).unwrap();
    let used = bytes.chunks(BLOCK).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap() + 1;
    bytes.truncate(used * BLOCK);
    bytes
}

#[test]
fn the_first_format_is_read_and_written() {
    let temporary = tempfile::tempdir().unwrap();
    let written = temporary.path().join("written");
    write(&written);
    if std::env::var_os("HOTLOG_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden()).unwrap();
        std::fs::write(golden().join("journal.v1"), journal_head(&written)).unwrap();
        std::fs::copy(written.join("checkpoint"), golden().join("checkpoint.v1")).unwrap();
    }
    let (journal, checkpoint) = (
        std::fs::read(golden().join("journal.v1")).unwrap(),
        std::fs::read(golden().join("checkpoint.v1")).unwrap(),
    );
    assert!(journal_head(&written) == journal, "the journal's bytes are no longer those of version 1");
    assert!(
        std::fs::read(written.join("checkpoint")).unwrap() == checkpoint,
        "the checkpoint's bytes changed"
    );

    let restored = temporary.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    let mut whole = journal;
    whole.resize(BLOCK + JOURNAL_BYTES as usize, 0);
    std::fs::write(restored.join("journal"), whole).unwrap();
    std::fs::write(restored.join("checkpoint"), checkpoint).unwrap();
    check(&restored);
}
