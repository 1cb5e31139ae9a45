//! Which bytes to ask for next. Pure.
//!
//! Owns: the ramp, the cut of blocks into ranges, the guess of where an offset lies. Does not own: asking.

use std::ops::Range;

use wire::ids::Offset;

use crate::limits::{RANGE_FIRST_BYTES, RANGE_LAST_BYTES};
use crate::manifest::SegmentRow;
use crate::object::{BlockRow, TRAILER_BYTES};

/// Sizes of successive ranges of one reader: small at first, so that the first byte comes soon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp(u64);

impl Ramp {
    pub(super) fn new() -> Self {
        Ramp(RANGE_FIRST_BYTES)
    }

    /// The size to ask for now; the next is twice as large, up to the last.
    pub(super) fn step(&mut self) -> u64 {
        let now = self.0;
        self.0 = (now * 2).min(RANGE_LAST_BYTES);
        now
    }
}

/// The blocks from `first` on that make one range of about `bytes`: at least one.
pub(super) fn cut_range(blocks: &[BlockRow], first: usize, bytes: u64) -> Range<usize> {
    let mut end = first;
    let mut sum = 0;
    while let Some(row) = blocks.get(end) {
        sum += u64::from(row.stored_bytes);
        if end > first && sum > bytes {
            break;
        }
        end += 1;
    }
    first..end
}

/// Where in an object the data of `offset` probably lies, before its block table is known: exact at the start of a
/// segment, proportional elsewhere (minus half a block, since reading on is cheaper than reading again).
pub(super) fn guess_range(row: &SegmentRow, offset: Offset, bytes: u64) -> Range<u64> {
    let data_bytes = row.object_bytes - u64::from(row.footer_bytes) - TRAILER_BYTES as u64;
    let into = (offset.0 - row.base_offset.0).max(0) as f64;
    let share = into / (row.next_offset.0 - row.base_offset.0).max(1) as f64;
    let position = (data_bytes as f64 * share) as u64;
    let start = if into == 0.0 { 0 } else { position.saturating_sub(RANGE_FIRST_BYTES / 2) };
    let start = start.min(data_bytes.saturating_sub(1));
    start..(start + bytes).min(data_bytes)
}

/// The blocks from `first` on that lie whole in a range.
pub(super) fn blocks_inside(blocks: &[BlockRow], first: usize, range: &Range<u64>) -> Range<usize> {
    let starts_inside = blocks.get(first).is_some_and(|row| row.stored_position >= range.start);
    if !starts_inside {
        return first..first;
    }
    let inside = |row: &&BlockRow| row.stored_position + u64::from(row.stored_bytes) <= range.end;
    first..first + blocks[first..].iter().take_while(inside).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::BlockCodec;

    fn blocks(sizes: &[u32]) -> Vec<BlockRow> {
        let mut position = 0;
        sizes
            .iter()
            .enumerate()
            .map(|(index, size)| {
                let row = BlockRow {
                    raw_position: position,
                    stored_position: position,
                    raw_bytes: *size,
                    stored_bytes: *size,
                    codec: BlockCodec::Raw,
                    checksum: 0,
                    base_offset: Offset(index as i64),
                    max_timestamp_ms: -1,
                };
                position += u64::from(*size);
                row
            })
            .collect()
    }

    #[test]
    fn the_ramp_doubles_up_to_its_end() {
        let mut ramp = Ramp::new();
        let steps: Vec<u64> = (0..6).map(|_| ramp.step() >> 20).collect();
        assert_eq!(steps, [1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn a_range_has_at_least_one_block_and_no_half_ones() {
        let blocks = blocks(&[10, 10, 50, 10]);
        assert_eq!(cut_range(&blocks, 0, 25), 0..2);
        assert_eq!(cut_range(&blocks, 2, 25), 2..3);
        assert_eq!(cut_range(&blocks, 3, 25), 3..4);
        assert_eq!(cut_range(&blocks, 4, 25), 4..4);
    }

    #[test]
    fn only_whole_blocks_of_a_guess_count() {
        let blocks = blocks(&[10, 10, 50, 10]);
        assert_eq!(blocks_inside(&blocks, 0, &(0..25)), 0..2);
        assert_eq!(blocks_inside(&blocks, 1, &(5..80)), 1..4);
        assert_eq!(blocks_inside(&blocks, 0, &(5..80)), 0..0);
    }
}
