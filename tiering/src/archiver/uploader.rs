//! The uploader: one sealed segment becomes one object, or nothing visible.
//!
//! Owns: reading, packing, sending, the watchdog, settling unknown outcomes, adopting an object that is there already.
//! Does not own: whether the object counts; only the committer makes it visible. An upload that dies leaves an orphan
//! that nobody reads.

use std::future::Future;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::rate::RateLimit;
use crate::keys;
use crate::limits::{PART_BYTES, PARTS_IN_FLIGHT, SEGMENT_READ_BYTES, SINGLE_PUT_BYTES, UPLOAD_STALL};
use crate::local::LocalSegment;
use crate::object::{
    BlockCodec, LogIdentity, ObjectIdentity, PackError, Packed, Packer, TRAILER_BYTES, decode_footer,
    decode_trailer,
};
use crate::seams::{AttemptId, Backoff, Seams};
use crate::store::{
    ListPage, Listed, PartUpload, Payload, PutOutcome, Store, StoreError, StoreKey, payload_bytes, read_range,
};

/// Objects of one segment looked at before giving up on adopting: each is the trace of a start that died.
const ADOPT_CANDIDATES: usize = 16;
/// Objects of one segment that cannot be read now, beyond which no further one is sent: one bad object must not stop the
/// archiver, and a store that lets write and not read must not get a copy at every try.
const UNREADABLE_COPIES: usize = 2;

/// Why a segment did not get to the store.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The store does not answer or denies.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local segment is not what it should be.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The local segment cannot be read.
    #[error("local segment {base_offset} cannot be read: {detail}")]
    Local {
        /// The segment.
        base_offset: i64,
        /// What the system said.
        detail: String,
    },
    /// No byte moved for too long.
    #[error("upload of segment {base_offset} moved no byte for {seconds} s and was abandoned")]
    Stalled {
        /// The segment.
        base_offset: i64,
        /// How long.
        seconds: u64,
    },
}

/// What uploads need.
#[derive(Clone, Debug)]
pub(crate) struct Uploader {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) seams: Seams,
    pub(crate) codec: BlockCodec,
    pub(crate) rate: Arc<RateLimit>,
}

impl Uploader {
    /// Brings a segment to the store, under a fresh attempt.
    pub(crate) async fn upload(
        &self,
        log: &LogIdentity,
        segment: &LocalSegment,
    ) -> Result<Packed, UploadError> {
        let attempt = self.seams.attempt();
        let key = keys::segment(log, segment.base_offset, segment.leader_epoch, attempt);
        let mut sending =
            Sending { uploader: self, segment, key, pending: Vec::new(), pending_bytes: 0, parts: None };
        let result = sending.run(log, attempt).await;
        if result.is_err()
            && let Some(parts) = &mut sending.parts
        {
            parts.upload.abort().await;
        }
        result
    }

    /// Looks for a whole object of exactly this segment, left by an earlier start of the program.
    pub(crate) async fn adopt(
        &self,
        log: &LogIdentity,
        segment: &LocalSegment,
    ) -> Result<Option<Packed>, UploadError> {
        let (folder, stem) =
            (keys::partition_folder(log), keys::segment_stem(log, segment.base_offset, segment.leader_epoch));
        let page = ListPage { folder: &folder, start_after: Some(&stem), limit: ADOPT_CANDIDATES };
        let listed = self.watched(segment, self.store.list(page)).await??;
        let candidates: Vec<_> =
            listed.into_iter().filter(|entry| entry.key.as_str().starts_with(&stem)).collect();
        if candidates.is_empty() {
            return Ok(None);
        }
        // What the object must say is computed from the local bytes; compressing them is not needed for that.
        let local = self.scan(log, segment).await?;
        check_epoch(segment, &local)?;
        let mut unreadable = Vec::new();
        for candidate in candidates {
            let footer = match self.footer(segment, &candidate).await {
                Ok(Some(footer)) => footer,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(key = %candidate.key, %error, "object cannot be read now");
                    unreadable.push(error);
                    continue;
                }
            };
            let mut expected = local.identity.clone();
            expected.attempt = footer.0.attempt;
            if footer.0 == expected {
                let (object_bytes, footer_bytes) = (candidate.size_bytes, footer.1);
                return Ok(Some(Packed { identity: expected, object_bytes, footer_bytes, ..local }));
            }
        }
        match unreadable.into_iter().nth(UNREADABLE_COPIES - 1) {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// What an object says of itself, with the size of its footer; `None` when it is no whole segment.
    async fn footer(
        &self,
        segment: &LocalSegment,
        candidate: &Listed,
    ) -> Result<Option<(ObjectIdentity, u32)>, UploadError> {
        let (key, size) = (&candidate.key, candidate.size_bytes);
        let Some(start) = size.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let read = async {
            let tail = read_range(&*self.store, key, start..size).await?;
            let Ok(trailer) = decode_trailer(&tail, size) else { return Ok(None) };
            let range = trailer.footer_position..trailer.footer_position + u64::from(trailer.footer_bytes);
            let footer = read_range(&*self.store, key, range).await?;
            let footer = decode_footer(&trailer, &footer).ok();
            Ok::<_, StoreError>(footer.map(|footer| (footer.identity, trailer.footer_bytes)))
        };
        match self.watched(segment, read).await? {
            Ok(found) => Ok(found),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads and checks the local segment without making an object of it.
    pub(crate) async fn scan(
        &self,
        log: &LogIdentity,
        segment: &LocalSegment,
    ) -> Result<Packed, UploadError> {
        let (log, segment) = (log.clone(), segment.clone());
        blocking(segment.base_offset.0, move || {
            let mut packer = Packer::new(log, segment.base_offset, AttemptId([0; 16]), BlockCodec::Raw);
            let mut position = 0;
            while position < segment.size_bytes {
                let (_, next) = read_and_feed(&segment, &mut packer, position)?;
                position = next;
            }
            let sidecar = sidecar_of(&segment)?;
            Ok(packer.finish(segment.next_offset, sidecar)?.1)
        })
        .await
    }

    /// The watchdog: what moves nothing for too long is dropped.
    async fn watched<T>(
        &self,
        segment: &LocalSegment,
        work: impl Future<Output = T>,
    ) -> Result<T, UploadError> {
        crate::timers::timeout(UPLOAD_STALL, work).await.map_err(|_| UploadError::Stalled {
            base_offset: segment.base_offset.0,
            seconds: UPLOAD_STALL.as_secs(),
        })
    }
}

/// One upload under way.
struct Sending<'a> {
    uploader: &'a Uploader,
    segment: &'a LocalSegment,
    key: StoreKey,
    pending: Payload,
    pending_bytes: usize,
    parts: Option<Parts>,
}

struct Parts {
    upload: Box<dyn PartUpload>,
    in_flight: FuturesUnordered<futures::future::BoxFuture<'static, Result<(), StoreError>>>,
}

impl Sending<'_> {
    async fn run(&mut self, log: &LogIdentity, attempt: AttemptId) -> Result<Packed, UploadError> {
        let mut packer = Packer::new(log.clone(), self.segment.base_offset, attempt, self.uploader.codec);
        let mut position = 0;
        while position < self.segment.size_bytes {
            let segment = self.segment.clone();
            let (back, stored, next) = blocking(segment.base_offset.0, move || {
                let (stored, next) = read_and_feed(&segment, &mut packer, position)?;
                Ok((packer, stored, next))
            })
            .await?;
            (packer, position) = (back, next);
            self.push(stored).await?;
        }
        let segment = self.segment.clone();
        let (tail, packed) = blocking(segment.base_offset.0, move || {
            let sidecar = sidecar_of(&segment)?;
            Ok(packer.finish(segment.next_offset, sidecar)?)
        })
        .await?;
        check_epoch(self.segment, &packed)?;
        self.push(tail).await?;
        self.finish(&packed).await?;
        Ok(packed)
    }

    /// Takes stored bytes; sends parts as soon as one PUT will not do.
    async fn push(&mut self, pieces: Vec<Bytes>) -> Result<(), UploadError> {
        self.pending_bytes += pieces.iter().map(Bytes::len).sum::<usize>();
        self.pending.extend(pieces);
        if self.parts.is_none() {
            if self.pending_bytes <= SINGLE_PUT_BYTES {
                return Ok(());
            }
            let start = self.uploader.store.start_parts(&self.key);
            let upload = self.uploader.watched(self.segment, start).await??;
            self.parts = Some(Parts { upload, in_flight: FuturesUnordered::new() });
        }
        while self.pending_bytes >= PART_BYTES {
            let part = self.take_exactly(PART_BYTES);
            self.send_part(part).await?;
        }
        Ok(())
    }

    async fn send_part(&mut self, part: Payload) -> Result<(), UploadError> {
        self.uploader.rate.take(payload_bytes(&part)).await;
        let parts = self.parts.as_mut().expect("parts are sent after the upload was started");
        while parts.in_flight.len() >= PARTS_IN_FLIGHT {
            let done = self.uploader.watched(self.segment, parts.in_flight.next()).await?;
            done.unwrap_or(Ok(()))?;
        }
        parts.in_flight.push(parts.upload.put_part(part).boxed());
        Ok(())
    }

    fn take_exactly(&mut self, bytes: usize) -> Payload {
        let (mut taken, mut left) = (Vec::new(), bytes);
        let mut pieces = std::mem::take(&mut self.pending).into_iter();
        for mut piece in pieces.by_ref() {
            if piece.len() > left {
                taken.push(piece.split_to(left));
                self.pending.push(piece);
                left = 0;
            } else {
                left -= piece.len();
                taken.push(piece);
            }
            if left == 0 {
                break;
            }
        }
        self.pending.extend(pieces);
        self.pending_bytes -= bytes - left;
        taken
    }

    async fn finish(&mut self, packed: &Packed) -> Result<(), UploadError> {
        if self.parts.is_none() {
            return self.put_whole(packed).await;
        }
        if self.pending_bytes > 0 {
            let rest = self.take_exactly(self.pending_bytes);
            self.send_part(rest).await?;
        }
        let parts = self.parts.as_mut().expect("checked above");
        while let Some(done) = self.uploader.watched(self.segment, parts.in_flight.next()).await? {
            done?;
        }
        match self.uploader.watched(self.segment, parts.upload.complete()).await {
            Ok(Ok(())) => Ok(()),
            // An error may follow a success: only the object itself says.
            Ok(Err(error)) => self.is_there(packed).await?.then_some(()).ok_or(error.into()),
            Err(stalled) => self.is_there(packed).await?.then_some(()).ok_or(stalled),
        }
    }

    async fn put_whole(&mut self, packed: &Packed) -> Result<(), UploadError> {
        self.uploader.rate.take(self.pending_bytes as u64).await;
        let mut backoff = Backoff::for_operation(&self.uploader.seams);
        loop {
            let put = self.uploader.store.put_if_absent(&self.key, self.pending.clone());
            let error = match self.uploader.watched(self.segment, put).await {
                Ok(PutOutcome::Created) => return Ok(()),
                Ok(PutOutcome::Failed(error)) => return Err(error.into()),
                Ok(PutOutcome::Exists) => None,
                Ok(PutOutcome::Unknown(error)) => Some(UploadError::Store(error)),
                Err(stalled) => Some(stalled),
            };
            match self.is_there(packed).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(unknown) if error.is_none() => return Err(unknown),
                Err(_) => {}
            }
            if !backoff.pause().await {
                let taken =
                    StoreError::Unavailable { key: self.key.to_string(), detail: "the key is taken".into() };
                return Err(error.unwrap_or(taken.into()));
            }
        }
    }

    /// Whether the key holds our whole object: its size and its trailer, which carries our attempt and the checksum
    /// of a footer with all other checksums in it.
    async fn is_there(&mut self, packed: &Packed) -> Result<bool, UploadError> {
        let read = async {
            let size = match self.uploader.store.head(&self.key).await {
                Ok(size) => size,
                Err(error) if error.is_not_found() => return Ok(false),
                Err(error) => return Err(error),
            };
            if size != packed.object_bytes {
                return Ok(false);
            }
            let start = size.saturating_sub(TRAILER_BYTES as u64);
            let tail = read_range(&*self.uploader.store, &self.key, start..size).await?;
            Ok(decode_trailer(&tail, size).is_ok_and(|trailer| trailer.attempt == packed.identity.attempt))
        };
        Ok(self.uploader.watched(self.segment, read).await??)
    }
}

/// Reads the next bytes and packs them, on a thread that may block.
fn read_and_feed(
    segment: &LocalSegment,
    packer: &mut Packer,
    position: u64,
) -> Result<(Vec<Bytes>, u64), UploadError> {
    let wanted = (segment.size_bytes - position).min(SEGMENT_READ_BYTES as u64);
    let mut buffer = BytesMut::zeroed(wanted as usize);
    segment.content.read_exact_at(&mut buffer, position).map_err(|error| local_error(segment, &error))?;
    Ok((packer.feed(&buffer)?, position + wanted))
}

/// The key and the object must name the same epoch, or nobody finds the object again.
fn check_epoch(segment: &LocalSegment, packed: &Packed) -> Result<(), UploadError> {
    let (said, found) = (segment.leader_epoch.0, packed.identity.leader_epoch.0);
    if said == found {
        return Ok(());
    }
    let detail = format!("its last batch is of epoch {found}, its sidecar says {said}");
    Err(UploadError::Local { base_offset: segment.base_offset.0, detail })
}

fn sidecar_of(segment: &LocalSegment) -> Result<Bytes, UploadError> {
    segment.content.sidecar().map_err(|error| local_error(segment, &error))
}

fn local_error(segment: &LocalSegment, error: &std::io::Error) -> UploadError {
    UploadError::Local { base_offset: segment.base_offset.0, detail: error.to_string() }
}

async fn blocking<T: Send + 'static>(
    base_offset: i64,
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> Result<T, UploadError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(UploadError::Local { base_offset, detail: error.to_string() }))
}
