//! The journal: one ring of commits for all partitions of a log directory.
//!
//! Owns: the ring file, its image in memory, room, places, commits and their order.
//! Does not own: what entries mean to a partition, when the ring may be freed (the checkpoint says).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{CommitError, RoomError};

/// Which commit something is part of. Later is larger: of several, waiting for the largest is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub(crate) u64);

/// Bytes of the ring that nobody else gets. Dropping it gives them back.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
}

/// Resolves to room, first come first served.
#[derive(Debug)]
pub struct RoomFuture {
    bytes: usize,
}

impl Future for RoomFuture {
    type Output = Result<Room, RoomError>;
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        let _ = Room { bytes: self.bytes }.bytes;
        unimplemented!("lands next")
    }
}

/// Resolves once the ticket is committed.
#[derive(Debug)]
pub struct CommitFuture {
    ticket: Ticket,
}

impl Future for CommitFuture {
    type Output = Result<(), CommitError>;
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        let _ = self.ticket;
        unimplemented!("lands next")
    }
}
