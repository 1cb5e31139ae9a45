//! Finished answers on their way to the socket.
//!
//! Owns: their order, how much is queued, and how many bytes of the first piece have gone.
//! Does not own: the socket; `session` writes what `vectors` offers and says how much was taken.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use tokio::sync::OwnedSemaphorePermit;
use wire::codec::{Encoded, FileRange, Piece};

use crate::limits::MAX_WRITE_VECTORS;

/// What goes out next.
#[derive(Debug)]
enum Item {
    Memory(Bytes),
    File(FileRange),
    /// All before it has gone: the memory it stood for is free.
    Release {
        _permit: OwnedSemaphorePermit,
    },
}

/// What the head of the queue is.
#[derive(Debug)]
pub(super) enum Head<'a> {
    Empty,
    Memory,
    File(&'a FileRange),
}

/// The queue of finished answers.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    items: VecDeque<Item>,
    queued_bytes: usize,
}

impl Outbound {
    pub(super) fn push(&mut self, frame: Encoded, permit: Option<OwnedSemaphorePermit>) {
        self.queued_bytes += frame.length;
        for piece in frame.pieces {
            match piece {
                Piece::Memory(bytes) if bytes.is_empty() => {}
                Piece::Memory(bytes) => self.items.push_back(Item::Memory(bytes)),
                Piece::File(range) if range.length == 0 => {}
                Piece::File(range) => self.items.push_back(Item::File(range)),
            }
        }
        if let Some(permit) = permit {
            self.items.push_back(Item::Release { _permit: permit });
        }
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn head(&self) -> Head<'_> {
        match self.items.front() {
            None | Some(Item::Release { .. }) => Head::Empty,
            Some(Item::Memory(_)) => Head::Memory,
            Some(Item::File(range)) => Head::File(range),
        }
    }

    /// The run of memory at the head of the queue, for one vectored write; returns how many vectors were filled.
    pub(super) fn vectors<'a>(&'a self, vectors: &mut [IoSlice<'a>; MAX_WRITE_VECTORS]) -> usize {
        let mut count = 0;
        for item in &self.items {
            match item {
                Item::Memory(bytes) if count < MAX_WRITE_VECTORS => {
                    vectors[count] = IoSlice::new(bytes);
                    count += 1;
                }
                Item::Release { .. } => {}
                Item::Memory(_) | Item::File(_) => break,
            }
        }
        count
    }

    /// The socket took `count` bytes.
    pub(super) fn advance(&mut self, mut count: usize) {
        self.queued_bytes -= count;
        while let Some(item) = self.items.front_mut() {
            match item {
                Item::Memory(bytes) if count < bytes.len() => {
                    bytes.advance(count);
                    return;
                }
                Item::Memory(bytes) => count -= bytes.len(),
                Item::File(range) if count < range.length => {
                    range.position += count as u64;
                    range.length -= count;
                    return;
                }
                Item::File(range) => count -= range.length,
                Item::Release { .. } => {}
            }
            self.items.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_whatever_the_socket_takes() {
        let mut outbound = Outbound::default();
        let mut expected = Vec::new();
        for size in [3usize, 0, 5, 1, 40] {
            let bytes = Bytes::from(vec![size as u8; size]);
            expected.extend_from_slice(&bytes);
            outbound.push(Encoded { length: size, pieces: vec![Piece::Memory(bytes)] }, None);
        }
        let mut sent = Vec::new();
        let mut step = 1;
        while !outbound.is_empty() {
            let mut vectors = [IoSlice::new(&[]); MAX_WRITE_VECTORS];
            let count = outbound.vectors(&mut vectors);
            let run: Vec<u8> = vectors[..count].iter().flat_map(|vector| vector.iter().copied()).collect();
            let taken = step.min(run.len());
            sent.extend_from_slice(&run[..taken]);
            outbound.advance(taken);
            step += 2;
        }
        assert_eq!(sent, expected);
        assert_eq!(outbound.queued_bytes(), 0);
    }
}
