//! The hot log as the store's archiver sees it.
//!
//! Owns: the adapter between the two crates. Does not own: any decision; what is archived and when is tiering's.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use hotlog::partition::{Committed, RetentionPass};
use hotlog::retention::{Limits, PassTime};
use hotlog::{LogDirectory, Partition, SealedSegment};
use tiering::cluster_record::TopicRecord;
use tiering::local::{LocalLog, LocalSegment, SegmentContent};
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
}

/// How much stays on local disk, and how far the store is known to have everything.
#[derive(Debug)]
struct Local {
    config: TopicConfig,
    committed: Option<Committed>,
}

impl ArchivedLog {
    /// Wraps a partition.
    pub(crate) fn new(
        hot: Arc<Partition>,
        directory: LogDirectory,
        clock: Arc<dyn Clock>,
        config: TopicConfig,
    ) -> Self {
        Self { hot, directory, clock, local: Mutex::new(Local { config, committed: None }) }
    }

    /// Takes the topic's settings as they are now.
    pub(crate) fn configure(&self, config: TopicConfig) {
        self.local().config = config;
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what the store has and the local limits no longer keep. Blocks on the disk.
    pub(crate) fn release_again(&self, time: PassTime) {
        let (config, committed) = {
            let local = self.local();
            (local.config, local.committed)
        };
        let Some(committed) = committed else { return };
        let pass = RetentionPass {
            policy: housekeeping::policy(&config),
            limits: Limits { age_ms: config.local_retention_ms, size_bytes: config.local_retention_bytes },
            time,
        };
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

impl LocalLog for ArchivedLog {
    fn sealed_segments(&self, from: Offset) -> io::Result<Vec<LocalSegment>> {
        let sealed = self.hot.sealed_segments(from).map_err(io::Error::other)?;
        let local = |segment: SealedSegment| LocalSegment {
            base_offset: segment.base_offset,
            next_offset: Offset(segment.last_offset.0 + 1),
            leader_epoch: segment.leader_epoch,
            size_bytes: segment.size_bytes,
            content: Arc::new(Content(segment)),
        };
        Ok(sealed.into_iter().map(local).collect())
    }

    fn last_stable_offset(&self) -> Offset {
        self.hot.last_stable_offset()
    }

    fn log_start(&self) -> Offset {
        self.hot.log_start()
    }

    fn log_end(&self) -> Offset {
        self.hot.log_end()
    }

    fn local_bytes(&self) -> u64 {
        self.hot.local_size_bytes().unwrap_or(0)
    }

    fn release(&self, committed: Committed) {
        self.local().committed = Some(committed);
        // The clocks of two passes are not compared here: what the store has can be let go of at any time.
        self.release_again(PassTime { now_ms: self.clock.wall_ms(), since: None });
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
