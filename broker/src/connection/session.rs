//! One connection as one task.
//!
//! Owns: the socket's two halves, what the connection waits for and for how long, its share of memory for a large
//! frame.
//! Does not own: accepting and the sweep over all connections (`listener`), what a request does (`Service`), the
//! buffers' contents (`inbound`, `outbound`).
//!
//! Each turn begins what may begin, moves what is under way, writes what is finished and reads when there is room,
//! until nothing moves. So a burst of small requests costs one read, one pass and one write.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::io::poll_read_buf;
use tokio_util::sync::{CancellationToken, PollSemaphore, WaitForCancellationFutureOwned};

use super::Disconnect;
use super::inbound::Inbound;
use super::outbound::{Head, Outbound};
use super::pipeline::{AppendGate, Handled, Pipeline};
use crate::clock::Clock;
use crate::limits::{
    FIRST_REQUEST_TIMEOUT_MS, IDLE_BUFFER_MS, IDLE_TIMEOUT_MS, MAX_QUEUED_RESPONSE_BYTES, MAX_WRITE_VECTORS,
    SEND_FILE_BYTES, SLOWEST_REQUEST_BYTES_PER_MS, STALLED_REQUEST_MS, STALLED_RESPONSE_MS,
};

/// The other end of a connection, and what the sweep needs to know of it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where it connects from.
    pub(crate) address: SocketAddr,
    /// The address as Kafka shows it in groups: `/127.0.0.1`.
    pub(crate) host: String,
    /// When bytes last moved in either direction, monotonic.
    moved_at_ms: AtomicI64,
    /// When the frame that has begun must be whole, monotonic.
    frame_due_ms: AtomicI64,
    phase: AtomicU8,
    /// Whether memory is held to receive into.
    buffered: AtomicBool,
    /// Notified by the sweep when the connection should look at itself: its patience is over, or its buffer is idle.
    swept: Arc<Notify>,
}

/// What the connection is waiting for; each has its own patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    FirstRequest,
    Idle,
    RequestBegun,
    ResponseQueued,
    Working,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, now_ms: i64) -> Self {
        Self {
            address,
            host: format!("/{}", address.ip()),
            moved_at_ms: AtomicI64::new(now_ms),
            frame_due_ms: AtomicI64::new(i64::MAX),
            phase: AtomicU8::new(Phase::FirstRequest as u8),
            buffered: AtomicBool::new(false),
            swept: Arc::default(),
        }
    }

    fn overdue(&self, now_ms: i64) -> Option<Disconnect> {
        let waited_ms = now_ms - self.moved_at_ms.load(Ordering::Relaxed);
        let phase = self.phase.load(Ordering::Relaxed);
        if phase == Phase::RequestBegun as u8 && now_ms > self.frame_due_ms.load(Ordering::Relaxed) {
            return Some(Disconnect::SlowRequest);
        }
        let (patience_ms, reason): (i64, fn(i64) -> Disconnect) = match phase {
            phase if phase == Phase::FirstRequest as u8 => (FIRST_REQUEST_TIMEOUT_MS, Disconnect::Idle),
            phase if phase == Phase::Idle as u8 => (IDLE_TIMEOUT_MS, Disconnect::Idle),
            phase if phase == Phase::RequestBegun as u8 => (STALLED_REQUEST_MS, Disconnect::StalledRequest),
            phase if phase == Phase::ResponseQueued as u8 => {
                (STALLED_RESPONSE_MS, Disconnect::StalledResponse)
            }
            _ => return None,
        };
        (waited_ms > patience_ms).then(|| reason(patience_ms))
    }

    /// Whether a buffer is held that nothing has been received into lately.
    fn has_idle_buffer(&self, now_ms: i64) -> bool {
        self.buffered.load(Ordering::Relaxed)
            && self.phase.load(Ordering::Relaxed) == Phase::Idle as u8
            && now_ms - self.moved_at_ms.load(Ordering::Relaxed) >= IDLE_BUFFER_MS
    }

    /// Has the connection look at itself when it has exhausted its patience or holds memory for nothing.
    pub(super) fn sweep(&self, now_ms: i64) {
        if self.overdue(now_ms).is_some() || self.has_idle_buffer(now_ms) {
            self.swept.notify_one();
        }
    }
}

/// What a connection needs of the rest of the broker.
pub(crate) trait Service: Send + Sync + 'static {
    /// Begins a request.
    ///
    /// # Errors
    /// When the frame is no request that is served.
    fn begin(&self, frame: Bytes, peer: &Arc<Peer>, gate: &AppendGate) -> Result<Handled, Disconnect>;

    /// The time.
    fn clock(&self) -> &dyn Clock;

    /// Bytes that moved, for the metrics.
    fn moved(&self, received_bytes: usize, sent_bytes: usize);

    /// A connection began (+1) or ended (-1), the latter perhaps by our doing.
    fn connected(&self, change: i64, by_us: bool);
}

/// One connection.
pub(super) struct Session<S> {
    service: Arc<S>,
    reading: OwnedReadHalf,
    writing: Arc<OwnedWriteHalf>,
    peer: Arc<Peer>,
    inbound: Inbound,
    /// A frame that may not begin yet.
    held: Option<Bytes>,
    pipeline: Pipeline,
    outbound: Outbound,
    sending: Option<JoinHandle<io::Result<usize>>>,
    large_requests: PollSemaphore,
    /// The share of memory of the large frame being received.
    large_permit: Option<OwnedSemaphorePermit>,
    /// Whether it waits for that share: then it is we who do not read.
    awaits_permit: bool,
    /// Whether the frame that has begun has been given its time.
    frame_is_timed: bool,
    stopping: bool,
    ended: bool,
}

impl<S: Service> Session<S> {
    pub(super) fn new(
        service: Arc<S>,
        stream: TcpStream,
        peer: Arc<Peer>,
        large_requests: Arc<Semaphore>,
    ) -> Self {
        let (reading, writing) = stream.into_split();
        Self {
            service,
            reading,
            writing: Arc::new(writing),
            peer,
            inbound: Inbound::new(),
            held: None,
            pipeline: Pipeline::default(),
            outbound: Outbound::default(),
            sending: None,
            large_requests: PollSemaphore::new(large_requests),
            large_permit: None,
            awaits_permit: false,
            frame_is_timed: false,
            stopping: false,
            ended: false,
        }
    }

    /// Serves until the peer leaves, breaks the protocol, or `stop` is cancelled and what was begun is answered.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Disconnect> {
        let mut stop = Box::pin(stop.cancelled_owned());
        let mut swept = Box::pin(Arc::clone(&self.peer.swept).notified_owned());
        poll_fn(|context| self.poll(context, stop.as_mut(), swept.as_mut())).await
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        stop: Pin<&mut WaitForCancellationFutureOwned>,
        mut swept: Pin<&mut OwnedNotified>,
    ) -> Poll<Result<(), Disconnect>> {
        while swept.as_mut().poll(context).is_ready() {
            swept.set(Arc::clone(&self.peer.swept).notified_owned());
            self.look_at_itself()?;
        }
        if !self.stopping && stop.poll(context).is_ready() {
            self.stopping = true;
        }
        loop {
            let mut moved = self.begin_requests(context)?;
            moved |= self.finish_requests(context)?;
            moved |= self.write(context)?;
            let may_read = !self.stopping && !self.ended && self.held.is_none() && self.has_room();
            if may_read {
                moved |= self.read(context)?;
            }
            if self.is_over()? {
                return Poll::Ready(Ok(()));
            }
            if !moved {
                self.note_phase();
                return Poll::Pending;
            }
        }
    }

    /// The sweep found the connection overdue, or holding a buffer that it does not use.
    fn look_at_itself(&mut self) -> Result<(), Disconnect> {
        let now_ms = self.service.clock().monotonic_ms();
        if let Some(reason) = self.peer.overdue(now_ms) {
            return Err(reason);
        }
        if self.peer.has_idle_buffer(now_ms) {
            self.inbound.release();
        }
        Ok(())
    }

    /// The socket, for writing.
    fn stream(&self) -> &TcpStream {
        (*self.writing).as_ref()
    }

    /// Whether answers are taken fast enough to go on.
    fn has_room(&self) -> bool {
        self.outbound.queued_bytes() <= MAX_QUEUED_RESPONSE_BYTES
    }

    fn is_over(&self) -> Result<bool, Disconnect> {
        if self.stopping {
            return Ok(
                (self.pipeline.is_empty() && self.outbound.is_empty()) || !self.pipeline.only_produces()
            );
        }
        if !self.ended || self.held.is_some() || !self.pipeline.is_empty() || !self.outbound.is_empty() {
            return Ok(false);
        }
        match self.inbound.pending_bytes() {
            0 => Ok(true),
            received => Err(Disconnect::CutShort { received }),
        }
    }

    fn note_phase(&mut self) {
        let phase = if !self.outbound.is_empty() {
            Phase::ResponseQueued
        } else if !self.pipeline.is_empty() || self.awaits_permit {
            self.frame_is_timed = false;
            Phase::Working
        } else if self.inbound.pending_bytes() > 0 {
            Phase::RequestBegun
        } else if self.inbound.has_begun() {
            Phase::Idle
        } else {
            Phase::FirstRequest
        };
        if phase == Phase::RequestBegun && !self.frame_is_timed {
            self.frame_is_timed = true;
            let at_least_ms = self.inbound.large_frame_bytes() / SLOWEST_REQUEST_BYTES_PER_MS;
            let patience_ms = STALLED_REQUEST_MS + i64::try_from(at_least_ms).unwrap_or(i64::MAX / 2);
            let due_ms = self.service.clock().monotonic_ms() + patience_ms;
            self.peer.frame_due_ms.store(due_ms, Ordering::Relaxed);
        }
        self.peer.phase.store(phase as u8, Ordering::Relaxed);
        self.peer.buffered.store(self.inbound.holds_memory(), Ordering::Relaxed);
    }

    fn begin_requests(&mut self, context: &mut Context<'_>) -> Result<bool, Disconnect> {
        let mut begun = false;
        while !self.stopping && self.has_room() {
            let Some(frame) =
                self.held.take().map_or_else(|| self.inbound.next_frame(), |held| Ok(Some(held)))?
            else {
                break;
            };
            // The key of Produce is 0, in the first two bytes.
            let produces = frame.starts_with(&[0, 0]);
            if !self.pipeline.may_begin(produces) {
                self.held = Some(frame);
                break;
            }
            let handled = self.service.begin(frame, &self.peer, self.pipeline.gate())?;
            self.pipeline.push(produces, handled, context);
            self.large_permit = None;
            self.frame_is_timed = false;
            begun = true;
        }
        Ok(begun)
    }

    fn finish_requests(&mut self, context: &mut Context<'_>) -> Result<bool, Disconnect> {
        self.pipeline.poll(context);
        let mut finished = false;
        while let Some(outcome) = self.pipeline.pop() {
            if let Some(answer) = outcome? {
                self.outbound.push(answer.frame, answer.permit);
            }
            finished = true;
        }
        Ok(finished)
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, Disconnect> {
        let mut moved = false;
        loop {
            let sent = match self.poll_write(context) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(result) => result?,
            };
            if sent == 0 {
                return Ok(moved);
            }
            self.outbound.advance(sent);
            self.moved_bytes(0, sent);
            moved = true;
        }
    }

    /// Writes once; 0 when there is nothing to write.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let result = match self.outbound.head() {
                Head::Empty => return Poll::Ready(Ok(0)),
                Head::Memory => {
                    let mut vectors = [IoSlice::new(&[]); MAX_WRITE_VECTORS];
                    let count = self.outbound.vectors(&mut vectors);
                    self.writing.try_write_vectored(&vectors[..count])
                }
                Head::File(range) => {
                    if self.sending.is_none() {
                        ready!(self.stream().poll_write_ready(context))?;
                    }
                    let handle = self
                        .sending
                        .get_or_insert_with(|| send_file(Arc::clone(&self.writing), range.clone()));
                    let result = ready!(Pin::new(handle).poll(context)).map_err(io::Error::other);
                    self.sending = None;
                    match result.flatten() {
                        // The file ends before the range does: the frame cannot be finished.
                        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                        result => result,
                    }
                }
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream().poll_write_ready(context))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn read(&mut self, context: &mut Context<'_>) -> Result<bool, Disconnect> {
        let large_bytes = self.inbound.large_frame_bytes();
        if large_bytes > 0 && self.large_permit.is_none() {
            let kib = u32::try_from(large_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
            let granted = self.large_requests.poll_acquire_many(context, kib);
            self.awaits_permit = granted.is_pending();
            let Poll::Ready(permit) = granted else { return Ok(false) };
            self.large_permit = permit;
        }
        // A read that does not fill the buffer has emptied the socket, and is not followed by one that finds nothing.
        match poll_read_buf(Pin::new(&mut self.reading), context, self.inbound.room()) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Ok(true)
            }
            Poll::Ready(Ok(count)) => {
                self.inbound.was_read();
                self.moved_bytes(count, 0);
                Ok(true)
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Poll::Ready(Err(error)) => Err(error.into()),
        }
    }

    fn moved_bytes(&self, received: usize, sent: usize) {
        self.peer.moved_at_ms.store(self.service.clock().monotonic_ms(), Ordering::Relaxed);
        self.service.moved(received, sent);
    }
}

/// Moves a piece of a file to the socket on a disk thread: reading the file may block.
///
/// The disk thread itself tells tokio of a full socket. Told later, from here, tokio would also forget the room that
/// came up in between, and that news comes only once: the rest of the answer would wait for ever.
fn send_file(writing: Arc<OwnedWriteHalf>, range: wire::codec::FileRange) -> JoinHandle<io::Result<usize>> {
    tokio::task::spawn_blocking(move || {
        let stream: &TcpStream = (*writing).as_ref();
        let mut position = range.position;
        let length = range.length.min(SEND_FILE_BYTES);
        stream.try_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(stream, &*range.file, Some(&mut position), length)?)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sweep_calls_on_a_connection_that_is_overdue_or_idle_with_a_buffer() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9092));
        let called_on = |phase: Phase, buffered: bool, now_ms: i64| {
            let peer = Peer::new(address, 0);
            peer.phase.store(phase as u8, Ordering::Relaxed);
            peer.buffered.store(buffered, Ordering::Relaxed);
            peer.sweep(now_ms);
            let mut notified = Box::pin(Arc::clone(&peer.swept).notified_owned());
            notified.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
        };
        assert!(!called_on(Phase::Idle, true, IDLE_BUFFER_MS - 1));
        assert!(called_on(Phase::Idle, true, IDLE_BUFFER_MS));
        assert!(!called_on(Phase::Idle, false, IDLE_TIMEOUT_MS));
        assert!(called_on(Phase::Idle, false, IDLE_TIMEOUT_MS + 1));
        assert!(!called_on(Phase::RequestBegun, true, STALLED_REQUEST_MS));
        assert!(called_on(Phase::RequestBegun, true, STALLED_REQUEST_MS + 1));
        assert!(!called_on(Phase::Working, true, IDLE_TIMEOUT_MS + 1));
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_has_its_time_too() {
        let peer = Peer::new(SocketAddr::from(([127, 0, 0, 1], 9092)), 0);
        peer.phase.store(Phase::RequestBegun as u8, Ordering::Relaxed);
        peer.frame_due_ms.store(1_000_000, Ordering::Relaxed);
        peer.moved_at_ms.store(1_000_000, Ordering::Relaxed);
        assert!(peer.overdue(1_000_000).is_none());
        assert!(matches!(peer.overdue(1_000_001), Some(Disconnect::SlowRequest)));
    }
}
