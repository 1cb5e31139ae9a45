//! The object both ways, and what a reader says to bytes that are not what they should be.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::test_support::{SMALL, Shape, batch_ends, pack, segment};

const ATTEMPT: AttemptId = AttemptId([0xA5; 16]);

/// Reads a whole object as a careful reader does.
fn read(object: &Bytes) -> Result<(Footer, Vec<u8>), ObjectError> {
    let trailer = decode_trailer(object, object.len() as u64)?;
    let start = trailer.footer_position as usize;
    let footer = decode_footer(&trailer, &object.slice(start..start + trailer.footer_bytes as usize))?;
    let mut raw = Vec::new();
    for (index, row) in footer.blocks.iter().enumerate() {
        let start = row.stored_position as usize;
        let block = open_block(row, object.slice(start..start + row.stored_bytes as usize))?;
        let end = footer.blocks.get(index + 1).map_or(footer.identity.next_offset, |next| next.base_offset);
        check_batches(row, &block, end, true)?;
        raw.extend_from_slice(&block);
    }
    Ok((footer, raw))
}

#[test]
fn a_segment_comes_back_byte_for_byte_in_every_codec() {
    for codec in [BlockCodec::Raw, BlockCodec::Zstd, BlockCodec::Lz4] {
        for compressible in [true, false] {
            let shape = Shape { batches: 60, value_bytes: 20_000, compressible, ..SMALL };
            let segment = segment(shape);
            let (object, packed) = pack(&segment, codec, ATTEMPT);
            let (footer, raw) = read(&object).unwrap();
            assert_eq!(raw, segment.bytes);
            assert_eq!(footer.sidecar, segment.sidecar);
            assert_eq!(footer.identity, packed.identity);
            assert_eq!(packed.object_bytes, object.len() as u64);
            assert_eq!(packed.identity.raw_crc, crc32c::crc32c(&segment.bytes));
            let expected = if compressible { codec } else { BlockCodec::Raw };
            assert!(footer.blocks.iter().all(|row| row.codec == expected), "{codec:?} {compressible}");
            let small = footer.blocks.iter().rev().skip(1).any(|row| row.raw_bytes < (256 << 10));
            let large = footer.blocks.iter().any(|row| row.raw_bytes > (1 << 20));
            assert!(!small && !large && footer.blocks.len() > 4);
        }
    }
}

#[test]
fn a_batch_larger_than_a_block_is_a_block() {
    let shape =
        Shape { batches: 3, records_per_batch: 1, value_bytes: 3 << 20, compressible: false, ..SMALL };
    let segment = segment(shape);
    let (object, _) = pack(&segment, BlockCodec::Zstd, ATTEMPT);
    let (footer, raw) = read(&object).unwrap();
    assert_eq!(raw, segment.bytes);
    assert_eq!(footer.blocks.len(), 3);
}

#[test]
fn offsets_lead_to_their_blocks() {
    let segment = segment(Shape { batches: 60, value_bytes: 20_000, ..SMALL });
    let (object, _) = pack(&segment, BlockCodec::Zstd, ATTEMPT);
    let (footer, _) = read(&object).unwrap();
    for (end, next) in batch_ends(&segment.bytes) {
        let row = footer.blocks[footer.block_of(Offset(next - 1))];
        let range = row.raw_position..row.raw_position + u64::from(row.raw_bytes);
        assert!(range.contains(&(end as u64 - 1)), "offset {} is not in its block", next - 1);
    }
}

#[test]
fn a_damaged_local_segment_is_never_packed() {
    let good = segment(SMALL);
    for position in [0, 17, 30, 80, good.bytes.len() - 1] {
        let mut bytes = BytesMut::from(&good.bytes[..]);
        bytes[position] ^= 1;
        let mut packer = Packer::new(crate::test_support::log(), good.base_offset, ATTEMPT, BlockCodec::Raw);
        let fed = packer.feed(&bytes);
        let done = fed.and_then(|_| packer.finish(good.next_offset, good.sidecar.clone()).map(|_| ()));
        assert!(done.is_err(), "a flipped bit at {position} went unnoticed");
    }
    let mut short = Packer::new(crate::test_support::log(), good.base_offset, ATTEMPT, BlockCodec::Raw);
    short.feed(&good.bytes[..good.bytes.len() - 1]).unwrap();
    let error = short.finish(good.next_offset, good.sidecar.clone()).unwrap_err();
    assert!(matches!(error, PackError::End { .. }));
}

#[test]
fn every_cut_and_every_flipped_bit_is_a_specific_error() {
    let (object, _) = pack(&segment(SMALL), BlockCodec::Zstd, ATTEMPT);
    assert!(read(&object).is_ok());
    for length in 0..object.len() {
        assert!(read(&object.slice(..length)).is_err(), "an object cut to {length} bytes was believed");
    }
    for position in 0..object.len() {
        for bit in 0..8 {
            let mut bytes = BytesMut::from(&object[..]);
            bytes[position] ^= 1 << bit;
            assert!(read(&bytes.freeze()).is_err(), "bit {bit} of byte {position} went unnoticed");
        }
    }
    let mut extended = BytesMut::from(&object[..]);
    extended.extend_from_slice(&object);
    assert!(matches!(read(&extended.freeze()), Err(ObjectError::Size { .. })));
}

#[test]
fn another_object_under_the_same_key_is_named() {
    let (_, packed) = pack(&segment(SMALL), BlockCodec::Zstd, ATTEMPT);
    let (other, _) =
        pack(&segment(Shape { seed: 2, compressible: false, ..SMALL }), BlockCodec::Zstd, ATTEMPT);
    let (footer, _) = read(&other).unwrap();
    let error = footer.identity.expect(&packed.identity).unwrap_err();
    assert!(matches!(error, ObjectError::Swapped { .. }), "{error}");
    let (other, _) = pack(&segment(SMALL), BlockCodec::Zstd, AttemptId([1; 16]));
    let error = read(&other).unwrap().0.identity.expect(&packed.identity).unwrap_err();
    assert!(error.to_string().contains("attempt"), "{error}");
}

#[test]
fn a_bomb_takes_no_more_than_the_table_says() {
    let zeros = vec![0u8; 64 << 20];
    let stored = Bytes::from(zstd::bulk::compress(&zeros, 1).unwrap());
    let row = BlockRow {
        raw_position: 0,
        stored_position: 0,
        raw_bytes: 1000,
        stored_bytes: stored.len() as u32,
        codec: BlockCodec::Zstd,
        checksum: crc32c::crc32c(&stored),
        base_offset: Offset(0),
        max_timestamp_ms: -1,
    };
    assert!(matches!(open_block(&row, stored), Err(ObjectError::BlockUnpack { .. })));
}

proptest! {
    #[test]
    fn hostile_tails_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096), size in any::<u64>()) {
        let _ = decode_trailer(&bytes, size);
        let footer = Bytes::from(bytes);
        let trailer = Trailer {
            footer_position: size,
            footer_bytes: footer.len() as u32,
            footer_crc: crc32c::crc32c(&footer),
            attempt: ATTEMPT,
        };
        let _ = decode_footer(&trailer, &footer);
    }

    #[test]
    fn a_footer_edited_under_a_right_checksum_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (object, _) = pack(&segment(SMALL), BlockCodec::Zstd, ATTEMPT);
        let trailer = decode_trailer(&object, object.len() as u64).unwrap();
        let start = trailer.footer_position as usize;
        let mut footer = BytesMut::from(&object[start..start + trailer.footer_bytes as usize]);
        let at = at.index(footer.len());
        footer[at] = byte;
        let trailer = Trailer { footer_crc: crc32c::crc32c(&footer), ..trailer };
        if let Ok(footer) = decode_footer(&trailer, &footer.freeze()) {
            // What is accepted still tiles, so that positions from it stay inside the object.
            let mut stored = 0;
            for row in &footer.blocks {
                prop_assert_eq!(row.stored_position, stored);
                stored += u64::from(row.stored_bytes);
            }
            prop_assert_eq!(stored, trailer.footer_position);
        }
    }
}

/// Version 1, frozen: an object written by the first program is read by every later one.
#[test]
fn the_golden_object_is_read_and_written_the_same() {
    let golden = Bytes::from_static(include_bytes!("golden/object-v1-raw.seg"));
    let segment = segment(SMALL);
    let (footer, raw) = read(&golden).unwrap();
    assert_eq!(raw, segment.bytes);
    assert_eq!(footer.identity.attempt, ATTEMPT);
    let (object, _) = pack(&segment, BlockCodec::Raw, ATTEMPT);
    assert_eq!(object, golden, "the format changed: add a version, keep this file");
    for golden in
        [&include_bytes!("golden/object-v1-zstd.seg")[..], include_bytes!("golden/object-v1-lz4.seg")]
    {
        let (footer, raw) = read(&Bytes::from_static(golden)).unwrap();
        assert_eq!(raw, segment.bytes);
        assert!(footer.blocks.iter().all(|row| row.codec != BlockCodec::Raw));
    }
}
