//! Writes a message as the pieces of one frame: its own bytes gathered in one buffer, records left where they are.
//!
//! Owns: the frame's length and where records go in between.
//! Does not own: which encoding a type has (`value`), the header (`header`), sending (`broker::connection`,
//! `client::connection`).

use bytes::Bytes;

use super::error::EncodeError;
use super::limits;
use super::records::{Piece, Records};

/// Length of a frame's prefix.
const PREFIX_BYTES: usize = 4;

/// A frame under construction.
#[derive(Debug)]
pub struct Writer {
    /// Everything but records; the first four bytes wait for the frame's length.
    inline: Vec<u8>,
    /// Records, and where in `inline` each goes.
    cuts: Vec<(usize, Piece)>,
    /// Bytes of all cuts.
    cut_bytes: usize,
}

/// A finished frame, length prefix included.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The parts to send, in order.
    pub pieces: Vec<Piece>,
    /// Bytes of all parts.
    pub length: usize,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer::new()
    }
}

impl Writer {
    /// An empty frame.
    pub fn new() -> Writer {
        Writer::with_capacity(256)
    }

    /// An empty frame with room for `capacity` bytes besides records.
    pub fn with_capacity(capacity: usize) -> Writer {
        let mut inline = Vec::with_capacity(capacity + PREFIX_BYTES);
        inline.extend_from_slice(&[0; PREFIX_BYTES]);
        Writer { inline, cuts: Vec::new(), cut_bytes: 0 }
    }

    /// Closes the frame. Fails only when it is longer than a frame can say.
    pub fn finish(mut self) -> Result<Encoded, EncodeError> {
        let length = self.inline.len() + self.cut_bytes;
        let body = i32::try_from(length - PREFIX_BYTES)
            .map_err(|_| EncodeError::TooLong { field: "", version: 0 })?;
        self.inline[..PREFIX_BYTES].copy_from_slice(&body.to_be_bytes());
        let inline = Bytes::from(self.inline);
        let mut pieces = Vec::with_capacity(2 * self.cuts.len() + 1);
        let mut from = 0;
        for (at, piece) in self.cuts {
            if at > from {
                pieces.push(Piece::Memory(inline.slice(from..at)));
                from = at;
            }
            pieces.push(piece);
        }
        if inline.len() > from {
            pieces.push(Piece::Memory(inline.slice(from..)));
        }
        Ok(Encoded { pieces, length })
    }

    /// Writes one byte.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.inline.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes two bytes.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.inline.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes four bytes.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.inline.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes eight bytes.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.inline.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.inline.extend_from_slice(bytes);
    }

    /// Writes an unsigned variable-length integer.
    #[inline]
    pub fn varint(&mut self, value: u32) {
        let (bytes, length) = varint_bytes(value);
        self.inline.extend_from_slice(&bytes[..length]);
    }

    /// Writes null where a length stands.
    #[inline]
    pub fn null_length(&mut self, flexible: bool) {
        if flexible { self.varint(0) } else { self.i32(-1) }
    }

    /// Writes null where a string's length stands.
    #[inline]
    pub fn null_text_length(&mut self, flexible: bool) {
        if flexible { self.varint(0) } else { self.i16(-1) }
    }

    /// Writes a length or count. `Err` when it is too large for the encoding.
    #[inline]
    pub fn length(&mut self, length: usize, flexible: bool) -> Result<(), EncodeError> {
        let Ok(length) = i32::try_from(length) else { return Err(too_long()) };
        if flexible {
            self.varint(length as u32 + 1)
        } else {
            self.i32(length)
        }
        Ok(())
    }

    /// Writes a string with its length.
    #[inline]
    pub fn text(&mut self, text: &str, flexible: bool) -> Result<(), EncodeError> {
        if flexible {
            self.length(text.len(), true)?;
        } else if text.len() > limits::SHORT_STRING_BYTES {
            return Err(too_long());
        } else {
            self.i16(text.len() as i16);
        }
        self.raw(text.as_bytes());
        Ok(())
    }

    /// Writes records with their length, without copying them.
    pub fn records(&mut self, records: &Records, flexible: bool) -> Result<(), EncodeError> {
        let length = records.length();
        self.length(length, flexible)?;
        for piece in records.pieces() {
            if piece.length() > 0 {
                self.cuts.push((self.inline.len(), piece.clone()));
            }
        }
        self.cut_bytes += length;
        Ok(())
    }

    /// Writes one tagged field: its tag, its size, and what `content` writes, which holds no records.
    pub(crate) fn tagged_field(
        &mut self,
        tag: u32,
        content: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.varint(tag);
        let start = self.inline.len();
        content(self)?;
        let Ok(size) = u32::try_from(self.inline.len() - start) else { return Err(too_long()) };
        let (bytes, length) = varint_bytes(size);
        self.inline.splice(start..start, bytes[..length].iter().copied());
        Ok(())
    }
}

impl Encoded {
    /// The frame as one run of bytes, or `None` if a piece is in a file: this crate does no I/O.
    pub fn to_bytes(&self) -> Option<Bytes> {
        let mut whole = Vec::with_capacity(self.length);
        for piece in &self.pieces {
            match piece {
                Piece::Memory(bytes) => whole.extend_from_slice(bytes),
                Piece::File(_) => return None,
            }
        }
        Some(Bytes::from(whole))
    }
}

#[cold]
fn too_long() -> EncodeError {
    EncodeError::TooLong { field: "", version: 0 }
}

#[inline]
fn varint_bytes(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut length = 0;
    while value >= 0x80 {
        bytes[length] = value as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = value as u8;
    (bytes, length + 1)
}
