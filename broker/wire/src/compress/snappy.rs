//! Snappy in the framing of the snappy-java library, which Kafka took for its own, and raw.
//!
//! ```text
//!  | 82 53 4e 41 50 50 59 00 | version i32 | compatible version i32 | ( length i32 | raw snappy ) ... |
//! ```
//! Numbers are big-endian. Streams may be put one after the other, so the 16 bytes may come again between chunks.
//! A payload that does not start with the eight magic bytes is one raw snappy block (librdkafka writes those).
//!
//! Owns: that framing, both ways, and the bound on what a chunk claims.
//! Does not own: a chunk's inside (crate `snap`), the count against the budget (`decompress`).

use std::mem;

use super::DecompressError;
use super::decompress::corrupt;
use crate::compress::Codec;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic bytes, version 1, readable by version 1.
const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// The library's default: records after a chunk border do not refer to those before.
const CHUNK_BYTES: usize = 32 * 1024;
/// The densest element: three bytes that copy 64.
const EXPANSION_MAX: usize = 22;

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) {
    output.extend_from_slice(&HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for chunk in input.chunks(CHUNK_BYTES) {
        let length_at = output.len();
        let data_at = length_at + 4;
        output.resize(data_at + snap::raw::max_compress_len(chunk.len()), 0);
        let length = encoder.compress(chunk, &mut output[data_at..]).expect("the buffer fits the worst case");
        output[length_at..data_at].copy_from_slice(&(length as u32).to_be_bytes());
        output.truncate(data_at + length);
    }
}

/// Yields decompressed chunks, one buffer at a time.
pub(super) struct Reader<'a> {
    input: &'a [u8],
    framed: bool,
    chunk: Vec<u8>,
    consumed: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, framed: input.starts_with(&MAGIC), chunk: Vec::new(), consumed: 0 }
    }

    /// Reads into `out`; 0 at the end. A chunk that would hold more than `budget_bytes` is refused before any
    /// memory is taken for it.
    pub(super) fn read(&mut self, out: &mut [u8], budget_bytes: usize) -> Result<usize, DecompressError> {
        while self.consumed == self.chunk.len() {
            let Some(raw) = self.next_chunk()? else { return Ok(0) };
            self.decompress(raw, budget_bytes)?;
        }
        let ready = &self.chunk[self.consumed..];
        let length = ready.len().min(out.len());
        out[..length].copy_from_slice(&ready[..length]);
        self.consumed += length;
        Ok(length)
    }

    fn next_chunk(&mut self) -> Result<Option<&'a [u8]>, DecompressError> {
        if !self.framed {
            let raw = mem::take(&mut self.input);
            return Ok((!raw.is_empty()).then_some(raw));
        }
        while self.input.starts_with(&MAGIC) {
            self.input = self
                .input
                .get(HEADER.len()..)
                .ok_or_else(|| corrupt(Codec::Snappy, "stream header is cut short"))?;
        }
        if self.input.is_empty() {
            return Ok(None);
        }
        let cut = || corrupt(Codec::Snappy, "chunk is cut short");
        let (length, rest) = self.input.split_first_chunk::<4>().ok_or_else(cut)?;
        let (raw, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut)?;
        self.input = rest;
        Ok(Some(raw))
    }

    fn decompress(&mut self, raw: &[u8], budget_bytes: usize) -> Result<(), DecompressError> {
        let claimed = snap::raw::decompress_len(raw).map_err(|error| corrupt(Codec::Snappy, error))?;
        if claimed > raw.len().saturating_mul(EXPANSION_MAX) {
            return Err(corrupt(Codec::Snappy, "chunk claims more than its length can encode"));
        }
        if claimed > budget_bytes {
            return Err(DecompressError::OverBudget);
        }
        self.chunk.resize(claimed, 0);
        self.consumed = 0;
        snap::raw::Decoder::new()
            .decompress(raw, &mut self.chunk)
            .map_err(|error| corrupt(Codec::Snappy, error))?;
        Ok(())
    }
}
