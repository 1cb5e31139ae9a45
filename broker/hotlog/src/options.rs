//! What a log directory and a partition are opened with: settings and the seams they run on.
//!
//! Owns: the types only. Does not own: reading configuration files, defaults of topics.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::disk::{Disk, RealDisk};
use crate::limits;
use crate::listener::{CommitListener, NoListener};
use crate::worker::{Spawner, Threads};

/// When a commit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// Once the device has it: survives power loss.
    Ack,
    /// Once the operating system has it: survives the process's death, not the power's.
    Os,
}

/// How a log directory is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The folder of checkpoint and segments; made where missing, its parent has to exist.
    pub directory: PathBuf,
    /// The folder of the journal, on any device; the log directory itself where `None`.
    pub journal_directory: Option<PathBuf>,
    /// The journal's size in bytes; counts when the journal is made, an existing one keeps its size.
    pub journal_bytes: u64,
    /// When a commit counts.
    pub flush: FlushMode,
    /// Go on although the journal is missing, foreign, older than the checkpoint or damaged, or names unknown topics.
    /// What is lost is in the report.
    pub accept_loss: bool,
    /// The new start number (which is the leader epoch of all partitions) is larger than this; for a directory that
    /// takes the place of a lost one.
    pub start_above: u32,
    /// The journal's oldest batch reaches a checkpoint after this many milliseconds.
    pub checkpoint_interval_ms: i64,
    /// Makes the random name of a new journal.
    pub entropy: fn() -> [u8; 16],
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the workers run.
    pub spawner: Arc<dyn Spawner>,
    /// Who is told when high watermarks move.
    pub listener: Arc<dyn CommitListener>,
}

impl LogOptions {
    /// Durable acknowledgements on the machine's own file system, clock and threads.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            journal_directory: None,
            journal_bytes: limits::JOURNAL_BYTES_DEFAULT,
            flush: FlushMode::Ack,
            accept_loss: false,
            start_above: 0,
            checkpoint_interval_ms: limits::CHECKPOINT_INTERVAL_MS_DEFAULT,
            entropy: random_bytes,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            spawner: Arc::new(Threads),
            listener: Arc::new(NoListener),
        }
    }
}

/// A partition's settings, which its owner may change at any time with [`crate::Partition::configure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Kafka's `segment.bytes`, at most `i32::MAX`.
    pub segment_bytes: u32,
    /// Kafka's `segment.ms`, counted from the segment's first append.
    pub segment_ms: i64,
    /// Kafka's `producer.id.expiration.ms`, counted from a producer's last append.
    pub producer_expiration_ms: i64,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            producer_expiration_ms: 24 * 3_600_000,
        }
    }
}

/// Sixteen bytes from the operating system's random source, by way of the standard library's hash keys.
fn random_bytes() -> [u8; 16] {
    let word = || RandomState::new().build_hasher().finish().to_be_bytes();
    let (high, low) = (word(), word());
    std::array::from_fn(|index| if index < 8 { high[index] } else { low[index - 8] })
}
