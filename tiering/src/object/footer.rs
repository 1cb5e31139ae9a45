//! Footer and trailer: the part of an object that says what the rest is.
//!
//! Owns: their encoding, side by side with the decoding. Does not own: blocks.

use bytes::{BufMut as _, Bytes, BytesMut};
use wire::ids::{LeaderEpoch, Offset, TopicId};

use super::{BlockCodec, BlockRow, LogIdentity, ObjectError, ObjectIdentity};
use crate::bytes_reader::{BytesReader, Short};
use crate::limits::{BLOCK_LIMIT_BYTES, FOOTER_LIMIT_BYTES};
use crate::seams::AttemptId;

/// Size of the trailer, the last bytes of every object.
pub const TRAILER_BYTES: usize = 48;
const MAGIC: &[u8; 8] = b"LONGHSEG";
const VERSION: u16 = 1;
/// Bytes of the trailer that its checksum covers.
const TRAILER_CHECKED: usize = 36;
const BLOCK_ROW_BYTES: usize = 48;
const DIRECTORY_ENTRY_BYTES: usize = 12;
/// Sections of one footer; the format has room for more, hostile bytes do not get to use it.
const SECTION_LIMIT: usize = 64;
/// A section with this flag must be understood by whoever reads the object.
const FLAG_REQUIRED: u16 = 1;

const SECTION_SIDECAR: u16 = 1;
const SECTION_BLOCKS: u16 = 2;
const SECTION_IDENTITY: u16 = 3;

/// The trailer, checked against itself and the object's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// Where the footer starts: the length of all blocks.
    pub footer_position: u64,
    /// Length of the footer.
    pub footer_bytes: u32,
    /// CRC-32C of the footer.
    pub footer_crc: u32,
    /// The write that made the object.
    pub attempt: AttemptId,
}

/// The decoded footer. Its blocks tile the segment and the object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Footer {
    /// What the object says it is.
    pub identity: ObjectIdentity,
    /// The block table, in order; never empty.
    pub blocks: Vec<BlockRow>,
    /// The sealed sidecar, verbatim.
    pub sidecar: Bytes,
}

impl Footer {
    /// Index of the block that holds `offset`, or would: the last one that starts at or before it.
    pub fn block_of(&self, offset: Offset) -> usize {
        self.blocks.partition_point(|row| row.base_offset <= offset).saturating_sub(1)
    }

    /// Rough size in memory, for caches.
    pub fn memory_bytes(&self) -> usize {
        self.sidecar.len() + self.blocks.len() * size_of::<BlockRow>() + size_of::<Self>()
    }
}

/// Footer and trailer as bytes, to follow the last block.
pub(super) fn encode(footer: &Footer) -> Bytes {
    let mut out = BytesMut::new();
    let mut directory: Vec<(u16, u16, usize, usize)> = Vec::new();
    let mut section = |out: &mut BytesMut, kind: u16, write: &dyn Fn(&mut BytesMut)| {
        let start = out.len();
        write(out);
        directory.push((kind, FLAG_REQUIRED, start, out.len() - start));
    };
    section(&mut out, SECTION_SIDECAR, &|out| out.extend_from_slice(&footer.sidecar));
    section(&mut out, SECTION_BLOCKS, &|out| encode_blocks(&footer.blocks, out));
    section(&mut out, SECTION_IDENTITY, &|out| encode_identity(&footer.identity, out));
    for (kind, flags, start, length) in &directory {
        out.put_u16(*kind);
        out.put_u16(*flags);
        out.put_u32(*start as u32);
        out.put_u32(*length as u32);
    }
    out.put_u16(directory.len() as u16);
    let end_of_blocks =
        footer.blocks.last().map_or(0, |row| row.stored_position + u64::from(row.stored_bytes));
    let trailer = encode_trailer(&Trailer {
        footer_position: end_of_blocks,
        footer_bytes: out.len() as u32,
        footer_crc: crc32c::crc32c(&out),
        attempt: footer.identity.attempt,
    });
    out.extend_from_slice(&trailer);
    out.freeze()
}

fn encode_trailer(trailer: &Trailer) -> [u8; TRAILER_BYTES] {
    let mut out = BytesMut::with_capacity(TRAILER_BYTES);
    out.put_u64(trailer.footer_position);
    out.put_u32(trailer.footer_bytes);
    out.put_u32(trailer.footer_crc);
    out.put_slice(&trailer.attempt.0);
    out.put_u16(VERSION);
    out.put_u16(0);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out.put_slice(MAGIC);
    out[..].try_into().expect("the fields above add up to the trailer's size")
}

fn encode_blocks(blocks: &[BlockRow], out: &mut BytesMut) {
    out.put_u32(blocks.len() as u32);
    for row in blocks {
        out.put_u64(row.raw_position);
        out.put_u64(row.stored_position);
        out.put_u32(row.raw_bytes);
        out.put_u32(row.stored_bytes);
        out.put_u8(row.codec.id());
        out.put_bytes(0, 3);
        out.put_u32(row.checksum);
        out.put_i64(row.base_offset.0);
        out.put_i64(row.max_timestamp_ms);
    }
}

fn encode_identity(identity: &ObjectIdentity, out: &mut BytesMut) {
    out.put_u16(identity.log.cluster_id.len() as u16);
    out.put_slice(identity.log.cluster_id.as_bytes());
    out.put_slice(&identity.log.topic_id.0);
    out.put_i32(identity.log.partition);
    out.put_i64(identity.base_offset.0);
    out.put_i64(identity.next_offset.0);
    out.put_i32(identity.leader_epoch.0);
    out.put_slice(&identity.attempt.0);
    out.put_u64(identity.raw_bytes);
    out.put_u32(identity.raw_crc);
    out.put_i64(identity.max_timestamp_ms);
}

/// Reads the trailer from the last bytes of an object of `object_bytes`.
///
/// # Errors
/// Whatever shows that these are not the last bytes of a whole object of ours.
pub fn decode_trailer(tail: &[u8], object_bytes: u64) -> Result<Trailer, ObjectError> {
    let start = tail.len().checked_sub(TRAILER_BYTES).ok_or(ObjectError::Magic)?;
    let bytes = &tail[start..];
    if &bytes[TRAILER_BYTES - MAGIC.len()..] != MAGIC {
        return Err(ObjectError::Magic);
    }
    read_trailer(Bytes::copy_from_slice(bytes), object_bytes)
        .unwrap_or(Err(ObjectError::Footer { detail: "trailer is short" }))
}

fn read_trailer(bytes: Bytes, object_bytes: u64) -> Result<Result<Trailer, ObjectError>, Short> {
    let checksum = crc32c::crc32c(&bytes[..TRAILER_CHECKED]);
    let mut reader = BytesReader::new(bytes);
    let trailer = Trailer {
        footer_position: reader.u64()?,
        footer_bytes: reader.u32()?,
        footer_crc: reader.u32()?,
        attempt: AttemptId(reader.array()?),
    };
    let version = reader.u16()?;
    let _reserved = reader.u16()?;
    if reader.u32()? != checksum {
        return Ok(Err(ObjectError::TrailerChecksum));
    }
    if version != VERSION {
        return Ok(Err(ObjectError::Version { found: version, supported: VERSION }));
    }
    let expected_bytes = trailer
        .footer_position
        .saturating_add(u64::from(trailer.footer_bytes))
        .saturating_add(TRAILER_BYTES as u64);
    if expected_bytes != object_bytes {
        return Ok(Err(ObjectError::Size { found_bytes: object_bytes, expected_bytes }));
    }
    if trailer.footer_bytes as usize > FOOTER_LIMIT_BYTES {
        return Ok(Err(ObjectError::Footer { detail: "it is larger than any footer can be" }));
    }
    Ok(Ok(trailer))
}

/// Reads the footer that `trailer` describes.
///
/// # Errors
/// A failed checksum, an unknown required section, or a footer that contradicts itself.
pub fn decode_footer(trailer: &Trailer, footer: &Bytes) -> Result<Footer, ObjectError> {
    if footer.len() != trailer.footer_bytes as usize || crc32c::crc32c(footer) != trailer.footer_crc {
        return Err(ObjectError::FooterChecksum);
    }
    let short = |_: Short| ObjectError::Footer { detail: "a section is short" };
    let sections = read_directory(footer)?;
    let find = |kind: u16, detail: &'static str| {
        let found = sections.iter().find(|section| section.kind == kind);
        found.map(|section| section.bytes.clone()).ok_or(ObjectError::Footer { detail })
    };
    let identity = read_identity(find(SECTION_IDENTITY, "it has no identity")?).map_err(short)??;
    let blocks = read_blocks(find(SECTION_BLOCKS, "it has no block table")?).map_err(short)??;
    let sidecar = find(SECTION_SIDECAR, "it has no sidecar")?;
    if identity.attempt != trailer.attempt {
        return Err(ObjectError::Footer { detail: "footer and trailer are of different writes" });
    }
    check_tiling(&identity, &blocks, trailer.footer_position)?;
    Ok(Footer { identity, blocks, sidecar })
}

struct Section {
    kind: u16,
    bytes: Bytes,
}

fn read_directory(footer: &Bytes) -> Result<Vec<Section>, ObjectError> {
    let malformed = ObjectError::Footer { detail: "its directory is malformed" };
    let count_at = footer.len().checked_sub(2).ok_or(malformed.clone())?;
    let count = usize::from(u16::from_be_bytes([footer[count_at], footer[count_at + 1]]));
    let directory_at = count_at.checked_sub(count * DIRECTORY_ENTRY_BYTES).ok_or(malformed.clone())?;
    if count > SECTION_LIMIT {
        return Err(malformed);
    }
    let mut reader = BytesReader::new(footer.slice(directory_at..count_at));
    let mut sections = Vec::with_capacity(count);
    while !reader.is_empty() {
        let entry = (|| Ok::<_, Short>((reader.u16()?, reader.u16()?, reader.u32()?, reader.u32()?)))();
        let (kind, flags, start, length) = entry.map_err(|Short| malformed.clone())?;
        let (start, end) = (start as usize, (start as usize).saturating_add(length as usize));
        if end > directory_at {
            return Err(malformed);
        }
        let known = matches!(kind, SECTION_SIDECAR | SECTION_BLOCKS | SECTION_IDENTITY);
        if !known && flags & FLAG_REQUIRED != 0 {
            return Err(ObjectError::UnknownSection { kind });
        }
        sections.push(Section { kind, bytes: footer.slice(start..end) });
    }
    Ok(sections)
}

fn read_identity(bytes: Bytes) -> Result<Result<ObjectIdentity, ObjectError>, Short> {
    let mut reader = BytesReader::new(bytes);
    let Some(cluster_id) = reader.text()? else {
        return Ok(Err(ObjectError::Footer { detail: "the cluster id is not text" }));
    };
    let log = LogIdentity { cluster_id, topic_id: TopicId(reader.array()?), partition: reader.i32()? };
    Ok(Ok(ObjectIdentity {
        log,
        base_offset: Offset(reader.i64()?),
        next_offset: Offset(reader.i64()?),
        leader_epoch: LeaderEpoch(reader.i32()?),
        attempt: AttemptId(reader.array()?),
        raw_bytes: reader.u64()?,
        raw_crc: reader.u32()?,
        max_timestamp_ms: reader.i64()?,
    }))
}

fn read_blocks(bytes: Bytes) -> Result<Result<Vec<BlockRow>, ObjectError>, Short> {
    let mut reader = BytesReader::new(bytes);
    let count = reader.u32()? as usize;
    // The count is believed only as far as there are bytes for it.
    if reader.remaining() != count.saturating_mul(BLOCK_ROW_BYTES) {
        return Ok(Err(ObjectError::Footer {
            detail: "the block table has another length than its count says",
        }));
    }
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        let (raw_position, stored_position) = (reader.u64()?, reader.u64()?);
        let (raw_bytes, stored_bytes) = (reader.u32()?, reader.u32()?);
        let Some(codec) = BlockCodec::from_id(reader.u8()?) else {
            return Ok(Err(ObjectError::Footer { detail: "a block has an unknown codec" }));
        };
        let _reserved: [u8; 3] = reader.array()?;
        blocks.push(BlockRow {
            raw_position,
            stored_position,
            raw_bytes,
            stored_bytes,
            codec,
            checksum: reader.u32()?,
            base_offset: Offset(reader.i64()?),
            max_timestamp_ms: reader.i64()?,
        });
    }
    Ok(Ok(blocks))
}

/// Invariant B, and that offsets rise: what lets a reader trust positions from the table.
fn check_tiling(
    identity: &ObjectIdentity,
    blocks: &[BlockRow],
    footer_position: u64,
) -> Result<(), ObjectError> {
    let wrong = |detail| Err(ObjectError::Footer { detail });
    let (mut raw, mut stored, mut offset) = (0u64, 0u64, identity.base_offset);
    for (index, row) in blocks.iter().enumerate() {
        if row.raw_position != raw || row.stored_position != stored {
            return wrong("blocks do not follow each other");
        }
        if row.raw_bytes == 0 || row.stored_bytes == 0 || row.raw_bytes as usize > BLOCK_LIMIT_BYTES {
            return wrong("a block has an impossible length");
        }
        if row.stored_bytes > row.raw_bytes
            || (row.codec == BlockCodec::Raw && row.stored_bytes != row.raw_bytes)
        {
            return wrong("a block is stored in more bytes than it has");
        }
        if row.base_offset < offset
            || (index > 0 && row.base_offset == offset)
            || row.base_offset >= identity.next_offset
        {
            return wrong("offsets of the blocks do not rise");
        }
        (raw, stored, offset) =
            (raw + u64::from(row.raw_bytes), stored + u64::from(row.stored_bytes), row.base_offset);
    }
    if blocks.is_empty() || raw != identity.raw_bytes || stored != footer_position {
        return wrong("blocks do not add up to the segment and the object");
    }
    Ok(())
}
