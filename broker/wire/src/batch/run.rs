//! What lies in bytes one behind the other: batches, or entries of any age.
//!
//! Owns: going from one to the next, and stopping at damage. Does not own: what one is.

use std::marker::PhantomData;

use super::{BatchError, BatchView, Entry, MalformedAt};

/// What a [`Run`] is made of.
pub trait Piece<'a>: Sized {
    /// The piece at the start of `bytes`; whatever follows it is left out. The CRC is not checked.
    ///
    /// # Errors
    /// [`BatchError`], all but `Crc` and `Trailing`.
    fn first(bytes: &'a [u8]) -> Result<Self, BatchError>;

    /// How many bytes it takes.
    fn size_bytes(&self) -> usize;
}

impl<'a> Piece<'a> for BatchView<'a> {
    #[inline]
    fn first(bytes: &'a [u8]) -> Result<Self, BatchError> {
        Self::first(bytes)
    }

    #[inline]
    fn size_bytes(&self) -> usize {
        self.bytes().len()
    }
}

impl<'a> Piece<'a> for Entry<'a> {
    #[inline]
    fn first(bytes: &'a [u8]) -> Result<Self, BatchError> {
        Self::first(bytes)
    }

    #[inline]
    fn size_bytes(&self) -> usize {
        self.bytes().len()
    }
}

/// The pieces of a segment or of a fetch answer, one after the other. Stops after the first error.
#[derive(Clone, Debug)]
pub struct Run<'a, P> {
    bytes: &'a [u8],
    position: usize,
    pieces: PhantomData<P>,
}

/// Batches, all of magic 2.
pub type Batches<'a> = Run<'a, BatchView<'a>>;

/// Batches, and messages of older formats.
pub type Entries<'a> = Run<'a, Entry<'a>>;

impl<'a, P> Run<'a, P> {
    /// Over all of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, pieces: PhantomData }
    }

    /// Where the next piece starts.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a, P: Piece<'a>> Iterator for Run<'a, P> {
    type Item = Result<P, MalformedAt>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let position = self.position;
        let rest = self.bytes.get(position..).filter(|rest| !rest.is_empty())?;
        match P::first(rest) {
            Ok(piece) => {
                self.position += piece.size_bytes();
                Some(Ok(piece))
            }
            Err(error) => {
                self.bytes = &self.bytes[..position];
                Some(Err(MalformedAt { position, error }))
            }
        }
    }
}
