//! The checkpoint file's frames as bytes: how each kind is written and read, and how one is chained to the next.
//!
//! Owns: the encoding that `FORMAT-CHECKPOINT.md` draws, save what is in a partition's record. Does not own: the file,
//! the order of its frames, what they mean together.

use wire::ids::TopicId;

use super::{Cut, LoadError, Start};
use crate::disk::BootId;
use crate::encoding::{DecodeError, Decoder};
use crate::journal::{ChainPoint, Geometry, RingId};
use crate::options::FlushMode;
use crate::partition::PartitionId;

const MAGIC: [u8; 8] = *b"LHCHKP\r\n";
/// The version written, and the only one there is.
const CHECKPOINT_VERSION: u16 = 1;
const FRAME_HEADER_BYTES: usize = 16;
const FRAME_ALIGN: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    Identity = 1,
    Partition = 2,
    Removed = 3,
    Cut = 4,
    Start = 5,
}

/// Builds frames, each chained to the one before.
#[derive(Debug)]
pub(super) struct FrameWriter<'a> {
    pub(super) buffer: &'a mut Vec<u8>,
    pub(super) last_crc: u32,
}

impl FrameWriter<'_> {
    pub(super) fn frame(&mut self, kind: FrameKind, encode: impl FnOnce(&mut Vec<u8>)) {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        encode(self.buffer);
        let length = (self.buffer.len() - at - FRAME_HEADER_BYTES) as u32;
        self.buffer.resize(self.buffer.len().next_multiple_of(FRAME_ALIGN), 0);
        let frame = &mut self.buffer[at..];
        frame[4..8].copy_from_slice(&length.to_be_bytes());
        frame[8] = kind as u8;
        frame[12..16].copy_from_slice(&self.last_crc.to_be_bytes());
        let crc = crc32c::crc32c(&frame[4..]);
        frame[..4].copy_from_slice(&crc.to_be_bytes());
        self.last_crc = crc;
    }
}

fn put_point(target: &mut Vec<u8>, point: &ChainPoint) {
    target.extend_from_slice(&point.position.to_be_bytes());
    target.extend_from_slice(&point.sequence.to_be_bytes());
    target.extend_from_slice(&point.last_start.to_be_bytes());
    target.extend_from_slice(&point.crc.to_be_bytes());
}

fn read_point(decoder: &mut Decoder<'_>) -> Result<ChainPoint, DecodeError> {
    Ok(ChainPoint {
        position: decoder.u64("chain position")?,
        sequence: decoder.u64("chain sequence")?,
        last_start: decoder.u64("last commit position")?,
        crc: decoder.u32("chain checksum")?,
    })
}

pub(super) fn put_identity(target: &mut Vec<u8>, geometry: &Geometry) {
    target.extend_from_slice(&MAGIC);
    target.extend_from_slice(&CHECKPOINT_VERSION.to_be_bytes());
    target.extend_from_slice(&[0; 6]);
    target.extend_from_slice(&geometry.ring_id.0);
    target.extend_from_slice(&geometry.block.to_be_bytes());
    target.extend_from_slice(&geometry.capacity.to_be_bytes());
}

pub(super) fn put_cut(target: &mut Vec<u8>, cut: &Cut) {
    target.extend_from_slice(&cut.number.to_be_bytes());
    put_point(target, &cut.point);
    target.extend_from_slice(&[u8::from(cut.is_stop), 0, 0, 0]);
}

pub(super) fn read_cut(decoder: &mut Decoder<'_>) -> Result<Cut, DecodeError> {
    let number = decoder.u64("checkpoint number")?;
    let point = read_point(decoder)?;
    let [is_stop, ..] = decoder.array::<4>("stop mark")?;
    Ok(Cut { number, point, is_stop: flag(is_stop, "stop mark")? })
}

fn flag(byte: u8, field: &'static str) -> Result<bool, DecodeError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(DecodeError::Value { field, value: other.into(), rule: "this version" }),
    }
}

pub(super) fn put_start(target: &mut Vec<u8>, start: &Start) {
    target.extend_from_slice(&start.number.to_be_bytes());
    let mode = match start.mode {
        FlushMode::Ack => 0,
        FlushMode::Os => 1,
    };
    target.extend_from_slice(&[mode, u8::from(start.lacks_last), 0, 0]);
    put_point(target, &start.point);
    target.extend_from_slice(&start.boot.0);
}

/// One whole frame at the front of the bytes: its kind's number, its payload, its checksum, and where the next begins.
pub(super) fn next_frame(bytes: &[u8], last_crc: u32) -> Option<(u8, &[u8], u32, usize)> {
    let header: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = word(4) as usize;
    let whole = (FRAME_HEADER_BYTES + length).next_multiple_of(FRAME_ALIGN);
    let frame = bytes.get(..whole)?;
    let sound = word(12) == last_crc && crc32c::crc32c(&frame[4..]) == word(0);
    sound.then(|| (header[8], &frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length], word(0), whole))
}

pub(super) fn partition_of(decoder: &mut Decoder<'_>) -> Result<PartitionId, DecodeError> {
    let topic_id = TopicId(decoder.array("topic id")?);
    Ok(PartitionId { topic_id, partition: decoder.i32("partition")? })
}

pub(super) fn read_start(decoder: &mut Decoder<'_>) -> Result<Start, DecodeError> {
    let number = decoder.u32("start number")?;
    let [mode, lacks_last, ..] = decoder.array::<4>("flush mode")?;
    let mode = if flag(mode, "flush mode")? { FlushMode::Os } else { FlushMode::Ack };
    let lacks_last = flag(lacks_last, "mark of a lost commit")?;
    let point = read_point(decoder)?;
    Ok(Start { number, mode, point, lacks_last, boot: BootId(decoder.array("boot id")?) })
}

pub(super) fn read_identity(payload: &[u8]) -> Result<Geometry, LoadError> {
    let damaged = |error: DecodeError| LoadError::Identity(error.to_string());
    let mut decoder = Decoder::new(payload);
    if decoder.array("magic").map_err(damaged)? != MAGIC {
        return Err(LoadError::Identity("it does not begin as a checkpoint does".to_owned()));
    }
    let version = decoder.u16("version").map_err(damaged)?;
    if version != CHECKPOINT_VERSION {
        return Err(LoadError::Identity(format!(
            "its version is {version}, this program reads version {CHECKPOINT_VERSION}"
        )));
    }
    decoder.take(6, "reserved").map_err(damaged)?;
    let ring_id = RingId(decoder.array("ring id").map_err(damaged)?);
    let block = decoder.u64("block").map_err(damaged)?;
    let capacity = decoder.u64("capacity").map_err(damaged)?;
    Ok(Geometry { ring_id, block, capacity })
}
