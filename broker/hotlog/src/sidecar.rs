//! The sidecar: what a sealed segment's readers need beside its batches, in one checked file.
//!
//! Owns: its fields, its bytes (`FORMAT-SIDECAR.md`) and the refusal of anything else.
//! Does not own: when it is written, nor where; tiering puts these bytes verbatim into its objects.

use thiserror::Error;
use wire::ids::{LeaderEpoch, Offset, TopicId};

use crate::aborted::AbortedTransactions;
use crate::encoding::{DecodeError, Decoder};
use crate::epochs::EpochHistory;
use crate::index::{MaxTimestamp, SegmentIndex};
use crate::producers::ProducerStates;

/// The largest sidecar that is written or read; four times what a full index, full producers and a long list of
/// aborted transactions take together.
pub const MAX_SIDECAR_BYTES: usize = 64 << 20;

/// The version written, and the only one there is.
pub const SIDECAR_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"LHSIDE\r\n";
const FIXED_BYTES: usize = 96;
const DIRECTORY_ENTRY_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;
/// More than this version has, so that a later one can add sections that this one skips.
const MAX_SECTIONS: u16 = 16;

/// A section's number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Offset and time index.
    Index = 1,
    /// Transactions aborted by a marker in this segment.
    Aborted = 2,
    /// The partition's producers after the segment's last batch.
    Producers = 3,
    /// The partition's leader epochs up to the segment's end.
    Epochs = 4,
}

const SECTIONS: [Section; 4] = [Section::Index, Section::Aborted, Section::Producers, Section::Epochs];

/// What a sealed segment's readers need beside its batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition of the topic.
    pub partition: i32,
    /// The leader epoch of the segment's last batch.
    pub leader_epoch: LeaderEpoch,
    /// The offset that follows the segment's last record; the first is the index's base offset.
    pub next_offset: Offset,
    /// When the segment's first batch was appended, in milliseconds since 1970.
    pub first_append_time_ms: i64,
    /// When its last batch was appended.
    pub last_append_time_ms: i64,
    /// Offset and time index; holds base offset, size and largest record time as well.
    pub index: SegmentIndex,
    /// Transactions aborted by a marker in this segment.
    pub aborted: AbortedTransactions,
    /// The partition's producers after the segment's last batch.
    pub producers: ProducerStates,
    /// The partition's leader epochs up to the segment's end.
    pub epochs: EpochHistory,
}

/// Why bytes are not a sidecar that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SidecarError {
    /// The bytes do not begin as a sidecar does.
    #[error("not a sidecar: the first bytes are not its magic")]
    Foreign,
    /// Another program version wrote it.
    #[error("sidecar version {found} is not known here: this program reads version {known}")]
    Version {
        /// The version found.
        found: u16,
        /// The version known.
        known: u16,
    },
    /// More or fewer bytes than the sidecar says it has, or than any may have.
    #[error("sidecar of {found} bytes claims {stated}, of at most {limit}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes stated.
        stated: u64,
        /// Bytes allowed.
        limit: usize,
    },
    /// The bytes changed since they were written.
    #[error("sidecar checksum is {found:08x}, stated is {stated:08x}: the file is damaged")]
    Checksum {
        /// The checksum of the bytes found.
        found: u32,
        /// The checksum they carry.
        stated: u32,
    },
    /// A needed section is not there, or there twice.
    #[error("sidecar does not hold section {0:?} exactly once")]
    Sections(Section),
    /// The fixed part cannot be read.
    #[error("sidecar header: {0}")]
    Header(DecodeError),
    /// A section cannot be read.
    #[error("sidecar section {section:?}: {source}")]
    Section {
        /// The section.
        section: Section,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The fixed part says something else than a section.
    #[error("sidecar header and sections disagree about {0}")]
    Disagree(&'static str),
}

impl Sidecar {
    /// The segment's first offset.
    pub fn base_offset(&self) -> Offset {
        self.index.base_offset()
    }

    /// The bytes of batches in the segment.
    pub fn size_bytes(&self) -> u32 {
        self.index.size_bytes()
    }

    /// The largest record time in the segment and where it is.
    pub fn max_timestamp(&self) -> MaxTimestamp {
        self.index.max_timestamp()
    }

    /// The sidecar's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut directory = [0u8; DIRECTORY_ENTRY_BYTES * SECTIONS.len()];
        for (section, entry) in SECTIONS.iter().zip(directory.chunks_exact_mut(DIRECTORY_ENTRY_BYTES)) {
            let start = body.len();
            match section {
                Section::Index => self.index.encode(&mut body),
                Section::Aborted => self.aborted.encode(&mut body),
                Section::Producers => self.producers.encode(&mut body),
                Section::Epochs => self.epochs.encode(&mut body),
            }
            let length =
                u32::try_from(body.len() - start).expect("the limits of its parts keep a section small");
            entry[..2].copy_from_slice(&(*section as u16).to_be_bytes());
            entry[4..].copy_from_slice(&length.to_be_bytes());
        }
        let length = FIXED_BYTES + directory.len() + body.len() + CHECKSUM_BYTES;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend(MAGIC);
        bytes.extend(SIDECAR_VERSION.to_be_bytes());
        bytes.extend((SECTIONS.len() as u16).to_be_bytes());
        bytes.extend(
            u32::try_from(length).expect("the limits of its parts keep a sidecar small").to_be_bytes(),
        );
        bytes.extend(self.topic_id.0);
        bytes.extend(self.partition.to_be_bytes());
        bytes.extend(self.leader_epoch.0.to_be_bytes());
        let max = self.max_timestamp();
        for field in [
            self.base_offset().0,
            self.next_offset.0,
            i64::from(self.size_bytes()),
            max.timestamp_ms,
            max.batch_base_offset.0,
            self.first_append_time_ms,
            self.last_append_time_ms,
        ] {
            bytes.extend(field.to_be_bytes());
        }
        bytes.extend(directory);
        bytes.extend(body);
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        bytes
    }

    /// Reads what [`Sidecar::encode`] wrote.
    ///
    /// # Errors
    /// Anything else, each kind by name. Memory stays within a small multiple of the bytes given.
    pub fn decode(bytes: &[u8]) -> Result<Self, SidecarError> {
        let header = Header::decode(check_envelope(bytes)?)?;
        let index = header.section(Section::Index, SegmentIndex::decode)?;
        let sidecar = Self {
            topic_id: header.topic_id,
            partition: header.partition,
            leader_epoch: header.leader_epoch,
            next_offset: header.next_offset,
            first_append_time_ms: header.first_append_time_ms,
            last_append_time_ms: header.last_append_time_ms,
            aborted: header.section(Section::Aborted, AbortedTransactions::decode)?,
            producers: header.section(Section::Producers, ProducerStates::decode)?,
            epochs: header.section(Section::Epochs, EpochHistory::decode)?,
            index,
        };
        if sidecar.base_offset() != header.base_offset || header.next_offset < header.base_offset {
            return Err(SidecarError::Disagree("the offsets"));
        }
        if i64::from(sidecar.size_bytes()) != header.size_bytes {
            return Err(SidecarError::Disagree("the segment's size"));
        }
        if sidecar.max_timestamp() != header.max_timestamp {
            return Err(SidecarError::Disagree("the largest record time"));
        }
        Ok(sidecar)
    }
}

/// Checks magic, version, length and checksum; returns what lies between the version and the checksum.
fn check_envelope(bytes: &[u8]) -> Result<&[u8], SidecarError> {
    let mut decoder = Decoder::new(bytes);
    let Ok(MAGIC) = decoder.array("magic") else { return Err(SidecarError::Foreign) };
    let found = decoder.u16("version").map_err(SidecarError::Header)?;
    if found != SIDECAR_VERSION {
        return Err(SidecarError::Version { found, known: SIDECAR_VERSION });
    }
    decoder.u16("section count").map_err(SidecarError::Header)?;
    let stated = u64::from(decoder.u32("length").map_err(SidecarError::Header)?);
    let least = FIXED_BYTES + CHECKSUM_BYTES;
    if stated != bytes.len() as u64 || !(least..=MAX_SIDECAR_BYTES).contains(&bytes.len()) {
        return Err(SidecarError::Length { found: bytes.len(), stated, limit: MAX_SIDECAR_BYTES });
    }
    let (checked, checksum) =
        bytes.split_last_chunk::<CHECKSUM_BYTES>().expect("the length was checked above");
    let (stated, found) = (u32::from_be_bytes(*checksum), crc32c::crc32c(checked));
    if stated != found {
        return Err(SidecarError::Checksum { found, stated });
    }
    Ok(&checked[MAGIC.len() + 2..])
}

struct Header<'a> {
    topic_id: TopicId,
    partition: i32,
    leader_epoch: LeaderEpoch,
    base_offset: Offset,
    next_offset: Offset,
    size_bytes: i64,
    max_timestamp: MaxTimestamp,
    first_append_time_ms: i64,
    last_append_time_ms: i64,
    sections: Vec<(u16, &'a [u8])>,
}

impl<'a> Header<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, SidecarError> {
        Self::decode_fields(&mut Decoder::new(bytes)).map_err(SidecarError::Header)
    }

    fn decode_fields(decoder: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let count = decoder.u16("section count")?;
        if count > MAX_SECTIONS {
            return Err(DecodeError::Count {
                field: "section count",
                count: count.into(),
                limit: MAX_SECTIONS.into(),
            });
        }
        decoder.u32("length")?;
        let mut header = Header {
            topic_id: TopicId(decoder.array("topic id")?),
            partition: decoder.i32("partition")?,
            leader_epoch: LeaderEpoch(decoder.i32("leader epoch")?),
            base_offset: Offset(decoder.i64("base offset")?),
            next_offset: Offset(decoder.i64("next offset")?),
            size_bytes: decoder.i64("segment size")?,
            max_timestamp: MaxTimestamp {
                timestamp_ms: decoder.i64("largest record time")?,
                batch_base_offset: Offset(decoder.i64("offset of the largest record time")?),
            },
            first_append_time_ms: decoder.i64("first append time")?,
            last_append_time_ms: decoder.i64("last append time")?,
            sections: Vec::with_capacity(usize::from(count)),
        };
        let mut lengths = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let kind = decoder.u16("section kind")?;
            decoder.u16("reserved")?;
            lengths.push((kind, decoder.u32("section length")?));
        }
        for (kind, length) in lengths {
            header.sections.push((kind, decoder.take(length as usize, "section")?));
        }
        decoder.finish("sidecar")?;
        Ok(header)
    }

    fn section<T>(
        &self,
        section: Section,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, SidecarError> {
        let mut found = self.sections.iter().filter(|(kind, _)| *kind == section as u16);
        match (found.next(), found.next()) {
            (Some((_, bytes)), None) => {
                decode(bytes).map_err(|source| SidecarError::Section { section, source })
            }
            _ => Err(SidecarError::Sections(section)),
        }
    }
}

#[cfg(test)]
mod tests;
