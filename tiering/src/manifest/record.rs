//! One record of a manifest: the envelope around a base, a delta, or a spilled range.
//!
//! Owns: the envelope's bytes and checks. Does not own: bodies.

use std::io::{BufReader, Read};

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::bytes_reader::{BytesReader, Short};
use crate::limits::MANIFEST_RECORD_LIMIT_BYTES;
use crate::seams::AttemptId;

const MAGIC: &[u8; 8] = b"LONGHMAN";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 68;
/// Bodies below this size are not worth a compressor.
const COMPRESS_FROM_BYTES: usize = 256;
const ZSTD_LEVEL: i32 = 3;

/// What the body of a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecordKind {
    /// The whole state.
    Base,
    /// Edits on the state before.
    Delta,
    /// Rows that left the state (see `spill`).
    Spilled,
    /// Group offsets that are too many for the state (see `groups`).
    Groups,
}

impl RecordKind {
    fn id(self) -> u8 {
        match self {
            RecordKind::Base => 0,
            RecordKind::Delta => 1,
            RecordKind::Spilled => 2,
            RecordKind::Groups => 3,
        }
    }
}

/// A record, decoded as far as its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) kind: RecordKind,
    /// Which log it belongs to, such as `{cluster id}/{topic id}/{partition}/manifest`.
    pub(super) folder: String,
    pub(super) sequence: u64,
    pub(super) writer_epoch: u64,
    pub(super) attempt: AttemptId,
    pub(super) written_at_ms: i64,
    pub(super) body: Bytes,
    /// How many bytes the body had where it was too large to be read, and is what was left of it.
    pub(super) slimmed_from: Option<usize>,
}

/// Makes a body that can be held of one that is too large for that, as it streams by: of a base, or of a delta.
pub(super) type Slim = fn(is_base: bool, body: &mut dyn Read) -> Result<Bytes, String>;

/// Why bytes are not the record they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("it is not a manifest record")]
    Magic,
    #[error("it has format version {0}; this program reads version {VERSION}: update it")]
    Version(u16),
    #[error("it is truncated or extended")]
    Size,
    #[error("its checksum does not match")]
    Checksum,
    #[error("its body does not unpack")]
    Unpack,
    #[error("it belongs to {0}")]
    Swapped(String),
    #[error("its body is malformed: {0}")]
    Body(String),
    #[error(
        "it would have {stored_bytes} bytes, {body_bytes} unpacked, and nobody reads more than \
         {MANIFEST_RECORD_LIMIT_BYTES}"
    )]
    TooLarge { body_bytes: usize, stored_bytes: usize },
}

impl Record {
    /// The bytes to write.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`]: no reader would take them.
    pub(super) fn encode(&self) -> Result<Bytes, RecordError> {
        let body_bytes = self.body.len();
        let too_large = |stored_bytes| RecordError::TooLarge { body_bytes, stored_bytes };
        // What is too large as it is keeps no compressor busy.
        if body_bytes > MANIFEST_RECORD_LIMIT_BYTES {
            return Err(too_large(body_bytes));
        }
        let bytes = self.pack();
        if bytes.len() > MANIFEST_RECORD_LIMIT_BYTES { Err(too_large(bytes.len())) } else { Ok(bytes) }
    }

    /// The bytes, whatever their size: tests write with it what programs once did.
    pub(super) fn pack(&self) -> Bytes {
        let packed = (self.body.len() >= COMPRESS_FROM_BYTES)
            .then(|| zstd::bulk::compress(&self.body, ZSTD_LEVEL).ok())
            .flatten()
            .filter(|packed| packed.len() < self.body.len());
        let (codec, stored) = match &packed {
            Some(packed) => (1, &packed[..]),
            None => (0, &self.body[..]),
        };
        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.folder.len() + stored.len());
        out.put_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u8(self.kind.id());
        out.put_u8(codec);
        out.put_u64(self.sequence);
        out.put_u64(self.writer_epoch);
        out.put_slice(&self.attempt.0);
        out.put_i64(self.written_at_ms);
        out.put_u16(self.folder.len() as u16);
        out.put_u16(0);
        out.put_u32(self.body.len() as u32);
        out.put_u32(stored.len() as u32);
        let mut crc = crc32c::crc32c(&out);
        crc = crc32c::crc32c_append(crc, self.folder.as_bytes());
        crc = crc32c::crc32c_append(crc, stored);
        out.put_u32(crc);
        out.put_slice(self.folder.as_bytes());
        out.put_slice(stored);
        out.freeze()
    }

    /// Decodes a record of `folder`, under caps.
    pub(super) fn decode(bytes: Bytes, folder: &str) -> Result<Self, RecordError> {
        Self::decode_or_slim(bytes, folder, None)
    }

    /// Decodes a record of `folder`; of a body that is too large, what `slim` leaves.
    pub(super) fn decode_or_slim(
        bytes: Bytes,
        folder: &str,
        slim: Option<Slim>,
    ) -> Result<Self, RecordError> {
        if bytes.len() < HEADER_BYTES || &bytes[..MAGIC.len()] != MAGIC {
            return Err(RecordError::Magic);
        }
        let record = Self::read(bytes, slim).map_err(|Short| RecordError::Size)??;
        if record.folder != folder {
            return Err(RecordError::Swapped(record.folder));
        }
        Ok(record)
    }

    fn read(bytes: Bytes, slim: Option<Slim>) -> Result<Result<Self, RecordError>, Short> {
        let header = bytes.slice(..HEADER_BYTES - 4);
        let mut reader = BytesReader::new(bytes);
        reader.take(MAGIC.len())?;
        let version = reader.u16()?;
        let (kind, codec) = (reader.u8()?, reader.u8()?);
        let (sequence, writer_epoch) = (reader.u64()?, reader.u64()?);
        let attempt = AttemptId(reader.array()?);
        let written_at_ms = reader.i64()?;
        let folder_bytes = usize::from(reader.u16()?);
        let _reserved = reader.u16()?;
        let (body_bytes, stored_bytes) = (reader.u32()? as usize, reader.u32()? as usize);
        let crc = reader.u32()?;
        if version != VERSION {
            return Ok(Err(RecordError::Version(version)));
        }
        let slim = slim.filter(|_| body_bytes > MANIFEST_RECORD_LIMIT_BYTES);
        let is_readable = body_bytes <= MANIFEST_RECORD_LIMIT_BYTES || slim.is_some();
        if reader.remaining() != folder_bytes + stored_bytes || !is_readable {
            return Ok(Err(RecordError::Size));
        }
        let (folder, stored) = (reader.take(folder_bytes)?, reader.take(stored_bytes)?);
        let found = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&header), &folder), &stored);
        if found != crc {
            return Ok(Err(RecordError::Checksum));
        }
        let kinds = [RecordKind::Base, RecordKind::Delta, RecordKind::Spilled, RecordKind::Groups];
        let Some(kind) = kinds.into_iter().find(|known| known.id() == kind) else {
            return Ok(Err(RecordError::Body(format!("unknown kind {kind}"))));
        };
        let body = match slim {
            None => unpack(codec, stored, body_bytes),
            Some(slim) => slimmed(codec, &stored, |body| slim(kind == RecordKind::Base, body)),
        };
        let folder = String::from_utf8_lossy(&folder).into_owned();
        let slimmed_from = slim.map(|_| body_bytes);
        Ok(body.map(|body| Record {
            kind,
            folder,
            sequence,
            writer_epoch,
            attempt,
            written_at_ms,
            body,
            slimmed_from,
        }))
    }
}

fn unpack(codec: u8, stored: Bytes, body_bytes: usize) -> Result<Bytes, RecordError> {
    let body = match codec {
        0 => stored,
        1 => zstd::bulk::decompress(&stored, body_bytes).map_err(|_| RecordError::Unpack)?.into(),
        _ => return Err(RecordError::Unpack),
    };
    if body.len() == body_bytes { Ok(body) } else { Err(RecordError::Unpack) }
}

/// What is left of a body that is too large: it is unpacked as it is looked through, and never held whole.
fn slimmed(
    codec: u8,
    stored: &[u8],
    slim: impl FnOnce(&mut dyn Read) -> Result<Bytes, String>,
) -> Result<Bytes, RecordError> {
    let mut body: Box<dyn Read + '_> = match codec {
        0 => Box::new(stored),
        1 => {
            let unpacking = zstd::stream::read::Decoder::with_buffer(stored);
            Box::new(BufReader::new(unpacking.map_err(|_| RecordError::Unpack)?))
        }
        _ => return Err(RecordError::Unpack),
    };
    slim(&mut *body).map_err(RecordError::Body)
}
