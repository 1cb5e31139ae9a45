//! The two tasks of a connection: one writes what is queued, the other reads what is answered.
//!
//! Owns: the socket's halves, and noticing that a request is overdue although nobody waits for it.
//! Does not own: the table of what is under way (`connection`).

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::{Encoded, Piece, frame};

use super::{Lost, Outgoing, Shared};
use crate::error::Disconnect;
use crate::limits;
use crate::transport::Stream;

/// How often a silent connection is looked at for a request that is overdue.
const OVERDUE_LOOK: Duration = Duration::from_secs(1);

/// Writes what is queued until the connection ends.
pub(super) async fn write(
    mut queue: mpsc::Receiver<Outgoing>,
    mut sink: WriteHalf<Box<dyn Stream>>,
    shared: Arc<Shared>,
) {
    let mut closed = shared.closed.subscribe();
    loop {
        let outgoing = tokio::select! {
            outgoing = queue.recv() => outgoing,
            _ = closed.wait_for(|closed| *closed) => None,
        };
        let Some(Outgoing { frame, waiting }) = outgoing else { break };
        if let Err((waiting, reason)) = shared.begin(waiting) {
            let _ = waiting.answer.send(Err(Lost::NotSent(reason)));
            break;
        }
        let written = tokio::select! {
            written = write_frame(&mut sink, &frame) => written,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        if let Err(error) = written {
            shared.close(Disconnect::Io(error.to_string()));
            break;
        }
    }
    queue.close();
    let reason = shared.closed_because().unwrap_or(Disconnect::Closed);
    while let Some(outgoing) = queue.recv().await {
        let _ = outgoing.waiting.answer.send(Err(Lost::NotSent(reason.clone())));
    }
    // The peer learns it from the socket's end as well, so a failure here changes nothing.
    let _ = sink.shutdown().await;
}

async fn write_frame(sink: &mut WriteHalf<Box<dyn Stream>>, frame: &Encoded) -> io::Result<()> {
    let memory = |piece: &'_ Piece| match piece {
        Piece::Memory(bytes) => bytes.clone(),
        Piece::File(_) => unreachable!("a client's requests are made of memory"),
    };
    for pieces in frame.pieces.chunks(limits::WRITE_PIECES) {
        let pieces: Vec<Bytes> = pieces.iter().map(memory).collect();
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match sink.write_vectored(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut rest, written),
            }
        }
    }
    sink.flush().await
}

/// Hands answers on until the connection ends.
pub(super) async fn read(mut source: ReadHalf<Box<dyn Stream>>, shared: Arc<Shared>, limit_bytes: usize) {
    let mut received = BytesMut::with_capacity(limits::READ_BYTES);
    let reason = loop {
        match frame::split(&mut received, limit_bytes) {
            Ok(Some(frame)) => match shared.answer(frame) {
                Ok(()) => continue,
                Err(reason) => break reason,
            },
            Ok(None) => {}
            Err(error) => break Disconnect::Frame(error),
        }
        received.reserve(wanted_bytes(&received));
        let Ok(read) = timeout(OVERDUE_LOOK, source.read_buf(&mut received)).await else {
            match shared.overdue() {
                Some(allowed) => break Disconnect::Timeout(allowed),
                None => continue,
            }
        };
        match read {
            Ok(0) => break Disconnect::ClosedByBroker,
            Ok(_) => {}
            Err(error) => break Disconnect::Io(error.to_string()),
        }
    };
    shared.close(reason);
}

/// Room for the rest of the frame that has begun, whose length has been checked. Room is not memory until bytes
/// arrive in it.
fn wanted_bytes(received: &BytesMut) -> usize {
    let whole = received
        .first_chunk::<{ frame::PREFIX_BYTES }>()
        .map_or(0, |prefix| frame::PREFIX_BYTES + u32::from_be_bytes(*prefix) as usize);
    whole.saturating_sub(received.len()).max(limits::READ_BYTES)
}
