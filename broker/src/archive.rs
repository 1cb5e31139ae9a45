//! The hot log as the store's archiver sees it.
//!
//! Owns: the adapter between the two crates, and the refusal of records while the store has others at their offsets.
//! Does not own: any decision; what is archived and when, and whether log and store agree, is tiering's.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use hotlog::partition::{Committed, RetentionPass};
use hotlog::retention::{CleanupPolicy, Limits, PassTime};
use hotlog::{LogDirectory, Partition, PartitionId, SealedSegment};
use tiering::cluster_record::TopicRecord;
use tiering::local::{LocalLog, LocalSegment, SealedRange, SegmentContent};
use wire::ids::Offset;

use crate::clock::Clock;
use crate::housekeeping;
use crate::metadata::image::{MetadataImage, TopicEntry};
use crate::topic_config::TopicConfig;

/// One partition's local log, for the archiver.
#[derive(Debug)]
pub(crate) struct ArchivedLog {
    hot: Arc<Partition>,
    directory: LogDirectory,
    clock: Arc<dyn Clock>,
    local: Mutex<Local>,
    /// Whether `Local` has a disagreement: every append asks.
    disagrees: AtomicBool,
}

/// How much stays on local disk, and how far the store is known to have everything.
#[derive(Debug)]
struct Local {
    config: TopicConfig,
    committed: Option<Committed>,
    /// Why the store has other records than this log, or more.
    disagreement: Option<Arc<str>>,
}

/// The store holds records at the offsets that new ones would get, or got.
#[derive(Clone, Debug, thiserror::Error)]
#[error("partition {partition} takes no records: {why}")]
pub(crate) struct StoreDisagrees {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// What was found, and what to do.
    pub(crate) why: Arc<str>,
}

impl ArchivedLog {
    /// Wraps a partition.
    pub(crate) fn new(
        hot: Arc<Partition>,
        directory: LogDirectory,
        clock: Arc<dyn Clock>,
        config: TopicConfig,
    ) -> Self {
        let local = Mutex::new(Local { config, committed: None, disagreement: None });
        Self { hot, directory, clock, local, disagrees: AtomicBool::new(false) }
    }

    /// Whether the log may take records, as far as the store is concerned.
    ///
    /// # Errors
    /// [`StoreDisagrees`].
    pub(crate) fn check_append(&self) -> Result<(), StoreDisagrees> {
        if !self.disagrees.load(Ordering::Acquire) {
            return Ok(());
        }
        let why = self.local().disagreement.clone();
        why.map_or(Ok(()), |why| Err(StoreDisagrees { partition: self.hot.id(), why }))
    }

    /// Takes the topic's settings as they are now.
    pub(crate) fn configure(&self, config: TopicConfig) {
        self.local().config = config;
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clocks of two passes are not compared: what the store has can be let go of at any time.
    fn release_time(&self) -> PassTime {
        PassTime { now_ms: self.clock.wall_ms(), since: None }
    }

    /// Lets go of what the store has and the local limits no longer keep; of nothing while the store has other records, for
    /// what it has is then no copy of this. Blocks on the disk.
    pub(crate) fn release_again(&self, time: PassTime) {
        let (config, committed) = {
            let local = self.local();
            (local.config, local.committed.filter(|_| local.disagreement.is_none()))
        };
        let Some(committed) = committed else { return };
        let pass = release_pass(&config, time);
        match self.hot.release(committed, &pass) {
            Ok(0) => {}
            Ok(segments) => {
                tracing::info!(partition = %self.hot.id(), segments, "local copies of tiered segments are gone")
            }
            Err(error) => {
                tracing::warn!(partition = %self.hot.id(), %error, "local copies cannot be let go of")
            }
        }
    }
}

/// What local limits say of copies that the store has.
fn release_pass(config: &TopicConfig, time: PassTime) -> RetentionPass {
    RetentionPass {
        policy: housekeeping::policy(config),
        limits: Limits { age_ms: config.local_retention_ms, size_bytes: config.local_retention_bytes },
        time,
    }
}

/// Whether records of this folder were let go of because a store had them: whatever else leaves the disk moves the log start.
pub(crate) fn relies_on_store(directory: &LogDirectory) -> bool {
    directory.partitions().iter().any(|partition| partition.local_log_start() > partition.log_start())
}

#[derive(Debug)]
struct Content(SealedSegment);

impl SegmentContent for Content {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let file = self.0.bytes.std_file().ok_or(io::ErrorKind::Unsupported)?;
        std::os::unix::fs::FileExt::read_exact_at(&**file, buffer, self.0.bytes.position + position)
    }

    fn sidecar(&self) -> io::Result<Bytes> {
        Ok(self.0.sidecar.clone())
    }
}

fn local_segment(segment: SealedSegment) -> LocalSegment {
    LocalSegment {
        base_offset: segment.base_offset,
        next_offset: Offset(segment.last_offset.0 + 1),
        leader_epoch: segment.leader_epoch,
        size_bytes: segment.size_bytes,
        content: Arc::new(Content(segment)),
    }
}

impl LocalLog for ArchivedLog {
    fn sealed_ranges(&self, from: Offset) -> io::Result<Vec<SealedRange>> {
        let sealed = self.hot.sealed_ranges(from).map_err(io::Error::other)?;
        let range =
            |(base_offset, next_offset, size_bytes)| SealedRange { base_offset, next_offset, size_bytes };
        Ok(sealed.into_iter().map(range).collect())
    }

    fn first_sealed_segment(&self, from: Offset) -> io::Result<Option<LocalSegment>> {
        let sealed = self.hot.first_sealed_segment(from).map_err(io::Error::other)?;
        Ok(sealed.map(local_segment))
    }

    fn sealed_end(&self) -> Offset {
        self.hot.sealed_end()
    }

    fn last_stable_offset(&self) -> Offset {
        self.hot.last_stable_offset()
    }

    fn log_start(&self) -> Offset {
        self.hot.log_start()
    }

    fn local_log_start(&self) -> Offset {
        self.hot.local_log_start()
    }

    fn log_end(&self) -> Offset {
        self.hot.log_end()
    }

    fn local_bytes(&self) -> u64 {
        self.hot.local_size_bytes().unwrap_or(0)
    }

    fn release_wanted(&self, below: Offset) -> io::Result<Offset> {
        let config = self.local().config;
        let pass = release_pass(&config, self.release_time());
        let keeps_all = pass.limits.age_ms.is_none() && pass.limits.size_bytes.is_none();
        if keeps_all || pass.policy == CleanupPolicy::Compact {
            return Ok(Offset(0));
        }
        self.hot.releasable_below(below, &pass).map_err(io::Error::other)
    }

    fn disagree(&self, why: Option<String>) {
        let is_so = why.is_some();
        self.local().disagreement = why.map(Arc::from);
        self.disagrees.store(is_so, Ordering::Release);
    }

    fn release(&self, committed: Committed) {
        self.local().committed = Some(committed);
        self.release_again(self.release_time());
    }

    fn advance_log_start(&self, to: Offset) -> BoxFuture<'static, io::Result<()>> {
        let (hot, directory) = (Arc::clone(&self.hot), self.directory.clone());
        Box::pin(async move {
            let room = directory.reserve_room(hot.change_bytes()).await.map_err(io::Error::other)?;
            let ticket = hot.move_log_start(room, to).map_err(io::Error::other)?;
            directory.commit(ticket).await.map_err(io::Error::other)
        })
    }
}

/// The topics as the bucket keeps them, deleted ones with their time.
pub(crate) fn topic_records(image: &MetadataImage) -> Vec<TopicRecord> {
    let record = |topic: &TopicEntry, deleted_at_ms| TopicRecord {
        topic_id: topic.topic_id,
        name: topic.name.clone(),
        partitions: topic.partitions,
        configs: topic.configs.clone(),
        deleted_at_ms,
    };
    let live = image.topics().map(|topic| record(topic, None));
    let deleted =
        image.deleted().filter_map(|(_, topic)| Some(record(topic.entry.as_ref()?, Some(topic.deleted_ms))));
    live.chain(deleted).collect()
}

#[cfg(test)]
mod tests {
    use hotlog::{LogOptions, PartitionConfig, TopicDirectory};
    use wire::ids::TopicId;

    use super::*;
    use crate::clock::SystemClock;
    use crate::topic_config::Overrides;

    #[test]
    fn a_log_that_the_store_disagrees_with_takes_no_records_until_it_agrees() {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions::new(folder.path().join("data"));
        let (directory, _) = LogDirectory::open(options).unwrap().finish(&TopicDirectory::default()).unwrap();
        let id = PartitionId { topic_id: TopicId([4; 16]), partition: 0 };
        let hot = directory.create_partition(id, PartitionConfig::default()).unwrap();
        let config = TopicConfig::resolve(&Overrides::new()).unwrap();
        let log = ArchivedLog::new(hot, directory.clone(), Arc::new(SystemClock::new()), config);
        log.check_append().unwrap();
        log.disagree(Some("the store is ahead".to_owned()));
        let refused = log.check_append().unwrap_err().to_string();
        assert!(refused.contains("takes no records: the store is ahead"), "{refused}");
        log.disagree(None);
        log.check_append().unwrap();
        assert!(!relies_on_store(&directory), "nothing was let go of");
    }
}
