//! Reads the primitives of a message out of one frame, within bounds.
//!
//! Owns: the place in the frame and the budget.
//! Does not own: which encoding a type has (`value`), which fields follow each other (`message`), record bytes
//! (`batch`).
//!
//! Invariants:
//!   A. Nothing is allocated for a count or a length that the bytes left cannot hold.
//!   B. All allocations of one message together stay within the budget that its frame's size gives it.
//!   C. Every failure is a [`DecodeError`]; no input panics.

use std::sync::Arc;

use bytes::Bytes;

use super::error::{DecodeError, Fault};
use super::limits;
use super::text::Text;

/// A cursor over one frame.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    position: usize,
    /// Bytes beyond here are not this reader's to take; it moves while a tagged field is read.
    end: usize,
    /// Bytes that may still be allocated.
    budget: usize,
    /// The frame once more, as the strings hold it; made with the first string.
    owner: Option<Arc<Bytes>>,
}

impl Reader {
    /// A reader of a request's frame. Panics if the frame has 4 GiB or more; a frame's length is an `i32`.
    pub fn for_request(frame: Bytes) -> Reader {
        Reader::with_factor(frame, limits::REQUEST_FACTOR)
    }

    /// A reader of a response's frame. Panics if the frame has 4 GiB or more; a frame's length is an `i32`.
    pub fn for_response(frame: Bytes) -> Reader {
        Reader::with_factor(frame, limits::RESPONSE_FACTOR)
    }

    fn with_factor(frame: Bytes, factor: usize) -> Reader {
        assert!(u32::try_from(frame.len()).is_ok(), "a frame's length fits its 32-bit prefix");
        let budget = frame.len() * factor + limits::ALLOWANCE_BYTES - limits::SHARING_BYTES;
        Reader { position: 0, end: frame.len(), frame, budget, owner: None }
    }

    /// Bytes not yet read.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Checks that the whole frame was read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.fault(Fault::TrailingBytes)) }
    }

    /// The error for a fault at the current position.
    #[cold]
    pub fn fault(&self, fault: Fault) -> DecodeError {
        DecodeError { fault, field: "", position: self.position }
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.frame[self.position..self.end].first_chunk::<N>() {
            Some(bytes) => {
                self.position += N;
                Ok(*bytes)
            }
            None => Err(self.fault(Fault::Truncated)),
        }
    }

    /// Reads one byte.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// Reads two bytes.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// Reads four bytes.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// Reads eight bytes.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// Reads the sixteen bytes of an id.
    #[inline]
    pub fn id(&mut self) -> Result<[u8; 16], DecodeError> {
        self.fixed()
    }

    /// Reads an unsigned variable-length integer of at most 32 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(self.fault(Fault::OverlongVarint));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fault(Fault::OverlongVarint))
    }

    /// Reads a length or count, `None` for null: a varint of one more in flexible versions, else an `i32`.
    #[inline]
    pub fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return Ok(self.varint()?.checked_sub(1).map(|length| length as usize));
        }
        let length = self.i32()?;
        self.signed_length(length)
    }

    /// Reads a string's length: as [`Reader::length`], but an `i16` where the version is not flexible.
    #[inline]
    pub fn text_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.length(true);
        }
        let length = self.i16()?;
        self.signed_length(i32::from(length))
    }

    #[inline]
    fn signed_length(&self, length: i32) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            ..-1 => Err(self.fault(Fault::NegativeLength)),
            _ => Ok(Some(length as usize)),
        }
    }

    /// Passes over `length` bytes and returns where they begin.
    #[inline]
    fn take(&mut self, length: usize) -> Result<usize, DecodeError> {
        if length > self.remaining() {
            return Err(self.fault(Fault::LengthBeyondFrame));
        }
        let start = self.position;
        self.position += length;
        Ok(start)
    }

    /// Takes `length` bytes as a slice that shares the frame.
    #[inline]
    pub fn bytes(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let start = self.take(length)?;
        Ok(self.frame.slice(start..start + length))
    }

    /// Takes `length` bytes as a string that shares the frame.
    #[inline]
    pub fn text(&mut self, length: usize) -> Result<Text, DecodeError> {
        let start = self.take(length)?;
        let owner = self.owner.get_or_insert_with(|| Arc::new(self.frame.clone()));
        Text::shared(owner, start, length).ok_or_else(|| self.fault(Fault::NotUtf8))
    }

    /// An empty vector with room for `count` elements, none of which takes less than `minimum_bytes` of the frame.
    #[inline]
    pub fn vector<T>(&mut self, count: usize, minimum_bytes: usize) -> Result<Vec<T>, DecodeError> {
        if count > self.remaining() / minimum_bytes.max(1) {
            return Err(self.fault(Fault::LengthBeyondFrame));
        }
        // No overflow: the count is at most the frame's length, which is below 4 GiB.
        let size = count * size_of::<T>();
        if size > self.budget {
            return Err(self.fault(Fault::OverBudget));
        }
        self.budget -= size;
        Ok(Vec::with_capacity(count))
    }

    /// Reads the tagged fields that end a structure of a flexible version, and hands each to `known`, which reads
    /// the field and returns true, or returns false without reading; what it does not know is passed over.
    #[inline]
    pub(crate) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Reader, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.varint()? as usize;
        // Each takes two bytes at least.
        if count > self.remaining() / 2 {
            return Err(self.fault(Fault::LengthBeyondFrame));
        }
        let mut next_tag = 0;
        for _ in 0..count {
            let tag = self.varint()?;
            if u64::from(tag) < next_tag {
                return Err(self.fault(Fault::TagOrder));
            }
            next_tag = u64::from(tag) + 1;
            let size = self.varint()? as usize;
            if size > self.remaining() {
                return Err(self.fault(Fault::LengthBeyondFrame));
            }
            let outer_end = self.end;
            self.end = self.position + size;
            if !known(self, tag)? {
                self.position = self.end;
            }
            if self.position != self.end {
                return Err(self.fault(Fault::TagSize));
            }
            self.end = outer_end;
        }
        Ok(())
    }
}
