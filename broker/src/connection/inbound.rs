//! The buffer a connection reads into, and that frames are sliced from.
//!
//! Owns: the buffer, when it grows, when it is given back.
//! Does not own: the socket and the share of memory that a large frame needs (`session`), which lengths are refused
//! (`wire::frame`).
//!
//! One large read serves many small requests; a frame is a slice of the buffer, and once the requests of a read are
//! done with, the same memory is read into again. It grows by doubling as bytes arrive, so a frame that declares
//! 100 MiB and sends ten bytes costs ten bytes.

use bytes::{Bytes, BytesMut};
use wire::frame::{self, FrameError, PREFIX_BYTES};

use crate::limits::{FIRST_READ_BYTES, MAX_FIRST_REQUEST_BYTES, MAX_REQUEST_BYTES, READ_BUFFER_BYTES};

/// Received bytes that are not yet requests.
#[derive(Debug)]
pub(super) struct Inbound {
    buffer: BytesMut,
    read_bytes: usize,
    frame_limit_bytes: usize,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            read_bytes: FIRST_READ_BYTES,
            frame_limit_bytes: MAX_FIRST_REQUEST_BYTES,
        }
    }

    /// Takes the next whole frame, `None` when more must be read first.
    pub(super) fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let frame = frame::split(&mut self.buffer, self.frame_limit_bytes)?;
        if frame.is_some() {
            self.frame_limit_bytes = MAX_REQUEST_BYTES;
        }
        Ok(frame)
    }

    /// Bytes of a frame that has begun and not ended.
    pub(super) fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a first request has been received.
    pub(super) fn has_begun(&self) -> bool {
        self.frame_limit_bytes == MAX_REQUEST_BYTES
    }

    /// What the frame that has begun will take beyond the buffer every connection has, 0 for small ones.
    pub(super) fn large_frame_bytes(&self) -> usize {
        match self.buffer.first_chunk::<PREFIX_BYTES>() {
            Some(prefix) => match frame::body_length(*prefix, self.frame_limit_bytes) {
                Ok(length) if length + PREFIX_BYTES > READ_BUFFER_BYTES => length + PREFIX_BYTES,
                _ => 0,
            },
            None => 0,
        }
    }

    /// Room to read into: at least a good read's worth, doubling while a frame keeps arriving.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        let pending = self.buffer.len();
        if pending == 0 {
            // From the front again, so that a connection with small requests keeps to memory that the processor has at hand.
            let _ = self.buffer.try_reclaim(self.read_bytes);
        }
        let wanted = if pending >= self.read_bytes {
            // A frame larger than the buffer: grow by what has come, up to what it still needs.
            let whole = self
                .buffer
                .first_chunk::<PREFIX_BYTES>()
                .map_or(0, |prefix| usize::try_from(i32::from_be_bytes(*prefix)).unwrap_or(0) + PREFIX_BYTES);
            whole.saturating_sub(pending).clamp(self.read_bytes / 2, pending.max(self.read_bytes))
        } else {
            self.read_bytes - pending
        };
        if self.buffer.capacity() - pending < wanted.min(self.read_bytes / 4).max(1) {
            self.buffer.reserve(wanted);
        }
        &mut self.buffer
    }

    /// Learns from a read: one that filled the buffer asks for a larger one.
    pub(super) fn was_read(&mut self) {
        if self.buffer.len() == self.buffer.capacity() && self.read_bytes < READ_BUFFER_BYTES {
            self.read_bytes = (self.read_bytes * 4).min(READ_BUFFER_BYTES);
        }
    }

    /// Whether there is anything to release.
    pub(super) fn holds_memory(&self) -> bool {
        self.buffer.capacity() > 0
    }

    /// Gives the buffer back while nothing is expected: an idle connection holds next to nothing.
    pub(super) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.read_bytes = FIRST_READ_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn feed(inbound: &mut Inbound, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = inbound.room();
            let count = bytes.len().min(room.capacity() - room.len());
            assert!(count > 0, "there must always be room to read into");
            room.put_slice(&bytes[..count]);
            inbound.was_read();
            bytes = &bytes[count..];
        }
    }

    fn frame(length: usize) -> Vec<u8> {
        let mut bytes = (length as i32).to_be_bytes().to_vec();
        bytes.extend(std::iter::repeat_n(7u8, length));
        bytes
    }

    #[test]
    fn frames_come_out_whole_and_in_order() {
        let mut inbound = Inbound::new();
        for length in [1, 100, 70_000, 5, 3_000_000, 20] {
            feed(&mut inbound, &frame(length));
            assert_eq!(inbound.next_frame().unwrap().unwrap().len(), length);
            assert_eq!(inbound.next_frame(), Ok(None));
        }
    }

    #[test]
    fn a_declared_length_costs_nothing_until_the_bytes_come() {
        let mut inbound = Inbound::new();
        feed(&mut inbound, &frame(4));
        inbound.next_frame().unwrap().unwrap();
        feed(&mut inbound, &(90i32 << 20).to_be_bytes());
        feed(&mut inbound, &[0; 10]);
        assert_eq!(inbound.next_frame(), Ok(None));
        assert_eq!(inbound.large_frame_bytes(), (90 << 20) + 4);
        assert!(inbound.buffer.capacity() <= READ_BUFFER_BYTES);
    }

    #[test]
    fn an_emptied_buffer_is_read_into_from_its_front() {
        let mut inbound = Inbound::new();
        feed(&mut inbound, &frame(100));
        let front = inbound.buffer.as_ptr();
        inbound.next_frame().unwrap().unwrap();
        for _ in 0..1_000 {
            let room = inbound.room();
            assert_eq!((room.as_ptr(), room.capacity()), (front, FIRST_READ_BYTES));
            feed(&mut inbound, &frame(100));
            inbound.next_frame().unwrap().unwrap();
        }
    }

    #[test]
    fn memory_is_given_back_only_when_nothing_is_in_it() {
        let mut inbound = Inbound::new();
        assert!(!inbound.holds_memory());
        feed(&mut inbound, &frame(100)[..50]);
        inbound.release();
        assert!(inbound.holds_memory());
        feed(&mut inbound, &frame(100)[50..]);
        assert_eq!(inbound.next_frame().unwrap().unwrap().len(), 100);
        inbound.release();
        assert!(!inbound.holds_memory());
    }

    #[test]
    fn the_first_frame_must_be_small() {
        let mut inbound = Inbound::new();
        feed(&mut inbound, &(1i32 << 20).to_be_bytes());
        assert!(inbound.next_frame().is_err());
        assert!(!inbound.has_begun());
    }
}
