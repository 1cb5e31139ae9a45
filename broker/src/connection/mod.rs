//! Connections: bytes in, requests, answers in the order of the requests, bytes out.
//!
//! Owns: the way of bytes between socket and request, and the reasons to close a connection (`Disconnect`).
//! Does not own: what a request does (`api`, behind `Service`), the bounds (`limits`).
//!
//! * `listener` accepts, within limits, and closes who is idle, stalled or too many.
//! * `inbound` is the buffer that frames are sliced from; it grows with what was received, never with what was declared.
//! * `outbound` is the queue of finished answers, written by few calls; file ranges go by `sendfile` on disk threads.
//! * `pipeline` is the queue of requests begun: in what order they may begin, and that they are answered in order.
//! * `session` drives one connection as one task: it never blocks and hands nothing to another task on the common path.

mod inbound;
mod listener;
mod outbound;
mod pipeline;
mod session;

pub(crate) use listener::{Listener, ListenerOptions};
pub(crate) use pipeline::{Answer, AppendGate, Handled, Outcome};
pub(crate) use session::{Peer, Service};

/// Why a connection was closed by us; one line in the log each.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Disconnect {
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] wire::frame::FrameError),
    /// The frame is no request that is served.
    #[error(transparent)]
    Open(#[from] wire::header::OpenError),
    /// The request's body is malformed.
    #[error(transparent)]
    Decode(#[from] wire::codec::DecodeError),
    /// An answer could not be written in the version asked for.
    #[error("the answer cannot be written in the version asked for: {0}")]
    Encode(#[from] wire::codec::EncodeError),
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The peer went away in the middle of a frame.
    #[error("the peer closed the connection {received} bytes into a request")]
    CutShort {
        /// Bytes of the frame that had come.
        received: usize,
    },
    /// A produce with acks=0 failed: closing is the only way to tell (as Kafka does).
    #[error("a produce request with acks=0 failed")]
    UnansweredFailure,
    /// The request asks for more work than one request may.
    #[error("one request names {0} topics and partitions")]
    TooManyPartitions(usize),
    /// Nothing was said for too long.
    #[error("nothing was received for {0} ms")]
    Idle(i64),
    /// A frame was begun and not finished.
    #[error("a request was begun and not finished within {0} ms")]
    StalledRequest(i64),
    /// A frame comes too slowly to be worth the memory that it holds.
    #[error("a request came too slowly: a few bytes now and then")]
    SlowRequest,
    /// Answers are not taken.
    #[error("no byte of the answers was taken for {0} ms")]
    StalledResponse(i64),
}
