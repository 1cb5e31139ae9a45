//! One partition as the broker serves it: appends go to the hot log, reads to the hot log or to the store.
//!
//! Owns: the one place where hot and cold meet ([`Partition::read`]), and joining the pieces of a read for who looks into
//! it. Does not own: segments and the journal (crate `hotlog`), objects (crate `tiering`), what a read from the store finds
//! (`cold`), the topic's settings, searches by time and epoch (`search`).

use std::future::Future;
use std::os::unix::fs::FileExt as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use hotlog::error::{AppendError, CommitError, ReadError, RoomError};
use hotlog::{
    Appended, HotPiece, Isolation, LogDirectory, Origin, Partition as HotPartition, PartitionId, ReadLimits,
    Room, Ticket,
};
use tiering::{ReadError as TierReadError, Tier};
use wire::batch::{BatchView, Batches, RecordsError};
use wire::codec::{FileRange, Piece};
use wire::ids::{LeaderEpoch, Offset};

use crate::archive::{ArchivedLog, StoreDisagrees};
use crate::validation::BatchRefused;
use crate::waiters::Waiters;

mod cold;
mod search;

use self::cold::Cold;
pub(crate) use search::TimedOffset;

/// Why a batch was not appended, or not committed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum AppendRefused {
    /// It failed validation.
    #[error(transparent)]
    Batch(#[from] BatchRefused),
    /// The journal has no room for it.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The log refused it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store has other records at the offsets that it would get, or that some before it got.
    #[error(transparent)]
    Store(#[from] StoreDisagrees),
}

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ReadRefused {
    /// The hot log refused it.
    #[error(transparent)]
    Hot(#[from] ReadError),
    /// The store could not serve it.
    #[error(transparent)]
    Cold(#[from] TierReadError),
    /// The offset is the log's, its local copy was let go of, and the store does not have it: it may be another store.
    #[error(
        "offset {offset} of {partition} is not on local disk any more, and the store does not have it (it has {start} to \
         {end}): start the broker with the store that it had before, or `longhaul tier verify` this one"
    )]
    Nowhere {
        /// The partition.
        partition: PartitionId,
        /// The offset asked for.
        offset: Offset,
        /// First offset in the store.
        start: Offset,
        /// One past the last offset in the store.
        end: Offset,
    },
    /// A batch that was read is damaged.
    #[error("{0}")]
    Unreadable(String),
    /// A segment's file is shorter than the log made it.
    #[error("a segment of {partition} is cut short: its file has {found} of at least {expected} bytes")]
    CutShort {
        /// The partition.
        partition: PartitionId,
        /// What the file has.
        found: u64,
        /// What it should have.
        expected: u64,
    },
}

impl From<RecordsError> for ReadRefused {
    fn from(error: RecordsError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// What a read found: whole batches, and the bounds at that moment.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// Together whole batches in order; the first may begin below the offset asked for. A batch may begin in a piece of a
    /// file and end in the next, in memory.
    pub(crate) pieces: Vec<Piece>,
    /// The high watermark.
    pub(crate) high_watermark: Offset,
    /// The last stable offset.
    pub(crate) last_stable_offset: Offset,
    /// The log start.
    pub(crate) log_start: Offset,
    /// Producer id and first offset of transactions to leave out; only for readers of committed records.
    pub(crate) aborted: Vec<(i64, i64)>,
}

impl Read {
    /// Bytes of all pieces.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(Piece::length).sum()
    }
}

/// What a partition has in the store.
#[derive(Clone, Debug)]
pub(crate) struct Tiered {
    /// The store.
    pub(crate) tier: Tier,
    /// The local log as the archiver sees it.
    pub(crate) archived: Arc<ArchivedLog>,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    hot: Arc<HotPartition>,
    directory: LogDirectory,
    tiered: Option<Tiered>,
    /// The fetches that wait for it to grow.
    pub(crate) waiters: Arc<Waiters>,
}

impl Partition {
    /// Puts together what serves a partition; `tiered` only when a store is configured.
    pub(crate) fn new(
        hot: Arc<HotPartition>,
        directory: LogDirectory,
        tiered: Option<Tiered>,
        waiters: Arc<Waiters>,
    ) -> Self {
        Self { hot, directory, tiered, waiters }
    }

    /// Its identity.
    pub(crate) fn id(&self) -> PartitionId {
        self.hot.id()
    }

    /// The local log.
    pub(crate) fn hot(&self) -> &Arc<HotPartition> {
        &self.hot
    }

    /// The local log as the archiver sees it; none without a store.
    pub(crate) fn archived(&self) -> Option<&Arc<ArchivedLog>> {
        self.tiered.as_ref().map(|tiered| &tiered.archived)
    }

    fn tier(&self) -> Option<&Tier> {
        self.tiered.as_ref().map(|tiered| &tiered.tier)
    }

    /// Reserves room for a batch; the second of the pair says whether there was a wait.
    pub(crate) fn reserve(
        &self,
        bytes: usize,
    ) -> impl Future<Output = Result<Room, RoomError>> + Send + use<> {
        self.directory.reserve_room(bytes)
    }

    /// Whether the log may take records. To be asked right before an append of what the store may hold, with no await
    /// between.
    ///
    /// # Errors
    /// [`StoreDisagrees`].
    pub(crate) fn check_append(&self) -> Result<(), StoreDisagrees> {
        self.tiered.as_ref().map_or(Ok(()), |tiered| tiered.archived.check_append())
    }

    /// Appends a checked batch. Never blocks.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then.
    pub(crate) fn append(&self, room: Room, batch: &[u8], origin: Origin) -> Result<Appended, AppendError> {
        self.hot.append(room, batch, origin)
    }

    /// Appends a batch of the broker's own and waits until it is committed.
    ///
    /// # Errors
    /// [`AppendRefused`].
    pub(crate) async fn append_committed(&self, batch: &[u8]) -> Result<Appended, AppendRefused> {
        let room = self.reserve(batch.len()).await?;
        self.check_append()?;
        let appended = self.append(room, batch, Origin::Internal)?;
        self.commit(appended.ticket).await?;
        Ok(appended)
    }

    /// Waits until everything up to `ticket` is committed.
    ///
    /// # Errors
    /// [`CommitError`].
    pub(crate) async fn commit(&self, ticket: Ticket) -> Result<(), CommitError> {
        self.directory.commit(ticket).await
    }

    /// The first offset of the log, wherever its bytes are.
    pub(crate) fn log_start(&self) -> Offset {
        self.hot.log_start()
    }

    /// Where readers stop.
    pub(crate) fn readable_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.hot.high_watermark(),
            Isolation::ReadCommitted => self.hot.last_stable_offset(),
        }
    }

    /// The epoch that new batches get.
    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.hot.leader_epoch()
    }

    /// What the store holds.
    pub(crate) fn tiered(&self) -> Option<tiering::RemoteRange> {
        self.tier()?.range(self.id())
    }

    /// Whether an offset is read from the store.
    pub(crate) fn is_cold(&self, from: Offset) -> bool {
        from >= self.hot.log_start() && from < self.hot.local_log_start() && self.tiered.is_some()
    }

    /// Reads whole batches from the one that holds `from`. This is where hot and cold meet.
    ///
    /// # Errors
    /// [`ReadRefused`].
    pub(crate) async fn read(
        &self,
        from: Offset,
        limits: ReadLimits,
        isolation: Isolation,
    ) -> Result<Read, ReadRefused> {
        let mut from = from;
        loop {
            if self.is_cold(from) {
                match self.read_cold(from, limits.max_bytes).await? {
                    Cold::Found(read) => return Ok(read),
                    // Nothing is left between there and the local log: it goes on here.
                    Cold::HoleUpTo(end) => from = end,
                }
            }
            if let Some(read) = self.read_local(from, limits, isolation).await? {
                return Ok(read);
            }
            if !self.is_cold(from) {
                return self.read_missing(from, limits, isolation).await;
            }
        }
    }

    /// Reads like [`Partition::read`], and never waits for the store: `None` when only the store has what is asked for.
    ///
    /// # Errors
    /// [`ReadRefused`].
    pub(crate) async fn read_local(
        &self,
        from: Offset,
        limits: ReadLimits,
        isolation: Isolation,
    ) -> Result<Option<Read>, ReadRefused> {
        if self.is_cold(from) {
            return Ok(None);
        }
        match self.read_hot(from, limits, isolation).await {
            // The local copy went in this very moment.
            Err(ReadRefused::Hot(ReadError::NotLocal { .. })) if self.tiered.is_some() => Ok(None),
            Err(ReadRefused::Hot(ReadError::Missing { .. })) if self.is_stored(from) => Ok(None),
            found => found.map(Some),
        }
    }

    async fn read_hot(
        &self,
        from: Offset,
        limits: ReadLimits,
        isolation: Isolation,
    ) -> Result<Read, ReadRefused> {
        let found = if self.hot.reads_from_memory(from) {
            self.hot.read(from, limits, isolation)?
        } else {
            let hot = Arc::clone(&self.hot);
            on_disk_thread(move || hot.read(from, limits, isolation)).await??
        };
        let mut pieces = Vec::with_capacity(found.pieces.len());
        for piece in found.pieces {
            pieces.push(match piece {
                HotPiece::Memory(bytes) => Piece::Memory(bytes),
                HotPiece::File(range) => match range.std_file() {
                    Some(file) => {
                        self.check_length(file, range.position + range.length as u64)?;
                        let (position, length) = (range.position, range.length);
                        Piece::File(FileRange { file: Arc::clone(file), position, length })
                    }
                    None => {
                        let read = on_disk_thread(move || range.read()).await?;
                        Piece::Memory(read.map_err(|error| ReadRefused::Unreadable(error.to_string()))?)
                    }
                },
            });
        }
        Ok(Read {
            pieces,
            high_watermark: found.high_watermark,
            last_stable_offset: found.last_stable_offset,
            log_start: found.log_start,
            aborted: found.aborted.iter().map(|range| (range.producer_id.0, range.first_offset.0)).collect(),
        })
    }

    /// The answer is promised its length before the file is sent: a torn file has to be noticed now.
    fn check_length(&self, file: &std::fs::File, expected: u64) -> Result<(), ReadRefused> {
        let found = file.metadata().map_err(|error| ReadRefused::Unreadable(error.to_string()))?.len();
        match found < expected {
            true => Err(ReadRefused::CutShort { partition: self.id(), found, expected }),
            false => Ok(()),
        }
    }

    /// Reads everything up to the end, in order, handing each batch to `each`.
    ///
    /// # Errors
    /// [`ReadRefused`]; what `each` says ends the scan.
    pub(crate) async fn scan(
        &self,
        mut each: impl FnMut(BatchView<'_>) -> Result<(), ReadRefused> + Send,
    ) -> Result<(), ReadRefused> {
        let mut from = self.log_start();
        let limits = ReadLimits { max_bytes: SCAN_BYTES, at_least_one_batch: true };
        while from < self.hot.high_watermark() {
            let read = self.read(from, limits, Isolation::ReadUncommitted).await?;
            let bytes = joined(read.pieces).await?;
            let before = from;
            for batch in Batches::new(&bytes) {
                let batch = batch.map_err(|error| ReadRefused::Unreadable(error.error.to_string()))?;
                from = batch.header().next_offset();
                each(batch)?;
            }
            if from == before {
                return Err(ReadRefused::Unreadable(format!("nothing can be read at offset {from}")));
            }
        }
        Ok(())
    }

    /// Moves the log start up and waits until that is durable.
    ///
    /// # Errors
    /// [`MoveStartError`].
    pub(crate) async fn move_log_start(&self, to: Offset) -> Result<(), MoveStartError> {
        let room = self.directory.reserve_room(self.hot.change_bytes()).await?;
        let ticket = self.hot.move_log_start(room, to)?;
        self.directory.commit(ticket).await.map_err(hotlog::error::ChangeError::from)?;
        Ok(())
    }
}

/// Why a log start was not moved.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum MoveStartError {
    /// The journal has no room.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The log refused.
    #[error(transparent)]
    Change(#[from] hotlog::error::ChangeError),
}

/// How much one step of a scan reads.
const SCAN_BYTES: usize = 1 << 20;

/// The pieces of one read as one run of bytes, in memory: as much as the read was allowed to bring. Who looks into batches
/// needs them joined, for a batch may begin in one piece and end in the next.
async fn joined(pieces: Vec<Piece>) -> Result<Bytes, ReadRefused> {
    if let [Piece::Memory(bytes)] = &pieces[..] {
        return Ok(bytes.clone());
    }
    let read = on_disk_thread(move || {
        let mut joined = Vec::with_capacity(pieces.iter().map(Piece::length).sum());
        for piece in pieces {
            match piece {
                Piece::Memory(bytes) => joined.extend_from_slice(&bytes),
                Piece::File(range) => {
                    let at = joined.len();
                    joined.resize(at + range.length, 0);
                    range.file.read_exact_at(&mut joined[at..], range.position)?;
                }
            }
        }
        Ok::<_, std::io::Error>(Bytes::from(joined))
    });
    read.await?.map_err(|error| ReadRefused::Unreadable(error.to_string()))
}

/// Runs what may block on the disk where blocking holds up nobody else.
async fn on_disk_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ReadRefused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ReadRefused::Unreadable(format!("a disk thread failed: {error}")))
}

/// Polls a future once; `None` when it is not ready.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        let future = pin!(&mut *future);
        Poll::Ready(match future.poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[cfg(test)]
mod tests;
