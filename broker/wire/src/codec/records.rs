//! Record bytes on their way through: one slice of a frame when read, pieces of memory and of files when written.
//!
//! Owns: holding them without a copy.
//! Does not own: what they say (`batch`), reading a file's range (whoever sends the frame: `broker::connection`).

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

/// A range of a file that goes into a frame. This crate never reads it: whoever sends the frame does.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The open file.
    pub file: Arc<File>,
    /// Where the range begins in the file, in bytes.
    pub position: u64,
    /// How many bytes it has.
    pub length: usize,
}

/// Ranges are equal when they are the same range of the same open file.
impl PartialEq for FileRange {
    fn eq(&self, other: &FileRange) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.position == other.position && self.length == other.length
    }
}

/// One part of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Bytes in memory.
    Memory(Bytes),
    /// Bytes in a file.
    File(FileRange),
}

impl Piece {
    /// Bytes that the piece puts into the frame.
    pub fn length(&self) -> usize {
        match self {
            Piece::Memory(bytes) => bytes.len(),
            Piece::File(range) => range.length,
        }
    }
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Piece {
        Piece::Memory(bytes)
    }
}

impl From<FileRange> for Piece {
    fn from(range: FileRange) -> Piece {
        Piece::File(range)
    }
}

/// The records of one partition in one message: whole batches, one after the other, never looked into here.
///
/// What was read is a single [`Piece::Memory`] that shares its frame; what is to be written may have any number of
/// pieces.
#[derive(Clone, Debug)]
pub struct Records(Held);

#[derive(Clone, Debug)]
enum Held {
    One(Piece),
    Many(Vec<Piece>),
}

impl Records {
    /// The pieces in order.
    pub fn pieces(&self) -> &[Piece] {
        match &self.0 {
            Held::One(piece) => std::slice::from_ref(piece),
            Held::Many(pieces) => pieces,
        }
    }

    /// Bytes of all pieces.
    pub fn length(&self) -> usize {
        self.pieces().iter().map(Piece::length).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length() == 0
    }

    /// The records as one slice: always there for what was read; `None` where a file or several pieces are involved.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Held::One(Piece::Memory(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// [`Records::as_bytes`], without sharing them.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self.0 {
            Held::One(Piece::Memory(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

impl Default for Records {
    fn default() -> Records {
        Records::from(Bytes::new())
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records(Held::One(Piece::Memory(bytes)))
    }
}

impl From<Piece> for Records {
    fn from(piece: Piece) -> Records {
        Records(Held::One(piece))
    }
}

impl From<Vec<Piece>> for Records {
    fn from(pieces: Vec<Piece>) -> Records {
        Records(Held::Many(pieces))
    }
}

/// Records are equal when their pieces are, empty ones left out.
impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        let filled = |piece: &&Piece| piece.length() > 0;
        self.pieces().iter().filter(filled).eq(other.pieces().iter().filter(filled))
    }
}
