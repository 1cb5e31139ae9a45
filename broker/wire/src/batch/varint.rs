//! Zigzag numbers of variable length, as records carry them: seven bits a byte, the lowest first.
//!
//! Owns: both directions, and the refusal of overlong ones.
//! Does not own: the unsigned numbers of messages (`codec`), or those of hotlog's files (`hotlog::encoding`).

/// The most bytes of a 32-bit number.
pub(super) const BYTES_MAX_32: usize = 5;

/// Reads a 32-bit number from the front of `bytes`, which moves behind it. `None` when it is cut short, longer than
/// five bytes, or holds more than 32 bits.
#[inline]
pub(super) fn read_i32(bytes: &mut &[u8]) -> Option<i32> {
    let number = u32::try_from(read::<BYTES_MAX_32>(bytes)?).ok()?;
    Some((number >> 1) as i32 ^ -((number & 1) as i32))
}

/// Reads a 64-bit number, in at most ten bytes, likewise.
#[inline]
pub(super) fn read_i64(bytes: &mut &[u8]) -> Option<i64> {
    let number = read::<10>(bytes)?;
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
}

#[inline]
fn read<const BYTES_MAX: usize>(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..BYTES_MAX {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if place == 9 && bits > 1 {
            return None;
        }
        number |= bits << (7 * place);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[inline]
pub(super) fn write_i32(out: &mut Vec<u8>, number: i32) {
    write(out, u64::from((number << 1 ^ number >> 31) as u32));
}

#[inline]
pub(super) fn write_i64(out: &mut Vec<u8>, number: i64) {
    write(out, (number << 1 ^ number >> 63) as u64);
}

#[inline]
fn write(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Bytes that [`write_i64`] takes; also those of [`write_i32`] for the same number.
#[inline]
pub(super) fn length(number: i64) -> usize {
    let bits = 64 - ((number << 1 ^ number >> 63) as u64 | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip(small: i32, large: i64) {
            let mut out = Vec::new();
            write_i32(&mut out, small);
            prop_assert_eq!(out.len(), length(i64::from(small)));
            write_i64(&mut out, large);
            prop_assert_eq!(out.len(), length(i64::from(small)) + length(large));
            let mut rest = out.as_slice();
            prop_assert_eq!((read_i32(&mut rest), read_i64(&mut rest)), (Some(small), Some(large)));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn overlong_numbers_are_refused() {
        assert_eq!(read_i32(&mut [0xff, 0xff, 0xff, 0xff, 0x0f].as_slice()), Some(i32::MIN));
        assert_eq!(read_i32(&mut [0xff, 0xff, 0xff, 0xff, 0x1f].as_slice()), None);
        assert_eq!(read_i32(&mut [0x80, 0x80, 0x80, 0x80, 0x80, 0].as_slice()), None);
        assert_eq!(read_i64(&mut [[0xff; 9].as_slice(), &[1]].concat().as_slice()), Some(i64::MIN));
        assert_eq!(read_i64(&mut [[0xff; 9].as_slice(), &[2]].concat().as_slice()), None);
        assert_eq!(read_i64(&mut [0x80; 11].as_slice()), None);
        assert_eq!(read_i32(&mut [0x80].as_slice()), None);
    }
}
