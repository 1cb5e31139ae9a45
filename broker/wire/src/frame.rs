//! Frames on a connection: a 32-bit length, then so many bytes. No I/O; whoever reads the socket asks here.
//!
//! Owns: which lengths are refused, and what to say about the first bytes of something that is not Kafka.
//! Does not own: the buffer (`broker::connection`, `client::connection`), how long a frame may be (they say), what
//! is in one (`header`).

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Length of the prefix that says how long the rest is.
pub const PREFIX_BYTES: usize = 4;

/// Why the bytes cannot be a frame. The connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is zero or negative.
    #[error("a frame of {length} bytes cannot hold a request")]
    NotPositive {
        /// The length.
        length: i32,
    },
    /// The frame is longer than is allowed.
    #[error("a frame of {length} bytes is larger than the limit of {limit_bytes}")]
    TooLarge {
        /// The length.
        length: i32,
        /// The limit.
        limit_bytes: usize,
    },
    /// The first bytes are those of another protocol.
    #[error("the peer speaks {protocol} to a plaintext kafka port")]
    OtherProtocol {
        /// Its name.
        protocol: &'static str,
    },
}

/// The length of the frame that this prefix opens. Nothing should be allocated for the frame before this says so.
pub fn body_length(prefix: [u8; PREFIX_BYTES], limit_bytes: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(bytes) if bytes > 0 && bytes <= limit_bytes => Ok(bytes),
        _ => Err(match other_protocol(prefix) {
            Some(protocol) => FrameError::OtherProtocol { protocol },
            None if length > 0 => FrameError::TooLarge { length, limit_bytes },
            None => FrameError::NotPositive { length },
        }),
    }
}

/// Takes the next whole frame off `received`, without its prefix; `None` when more bytes are needed first.
pub fn split(received: &mut BytesMut, limit_bytes: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = received.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = body_length(*prefix, limit_bytes)?;
    if received.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    received.advance(PREFIX_BYTES);
    Ok(Some(received.split_to(length).freeze()))
}

fn other_protocol(prefix: [u8; PREFIX_BYTES]) -> Option<&'static str> {
    match &prefix {
        // A record of TLS: handshake, version 3.x.
        [0x16, 0x03, 0x00..=0x04, _] => Some("tls"),
        b"SSH-" => Some("ssh"),
        b"GET " | b"PUT " | b"POST" | b"HEAD" | b"OPTI" | b"DELE" | b"PRI " | b"CONN" | b"PATC" => {
            Some("http")
        }
        _ => None,
    }
}
