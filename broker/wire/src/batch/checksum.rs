//! CRC-32C of batches, and its change when only the header changes.
//!
//! Owns: the arithmetic.
//! Does not own: which bytes a CRC covers (`header`), comparing it (`view`), the CRC-32 of old messages (`legacy`).
//!
//! A CRC is linear: the checksums of two byte strings of one length differ by the (plain) CRC of their difference.
//! When two batches differ in the header alone, that difference is a few bytes followed by as many zeros as the
//! payload is long, and zeros only multiply the remainder by a power of x. So the new checksum costs one
//! multiplication per byte of the payload's *length field*, whatever the payload is: it is not read again, and a
//! checksum that was wrong before stays wrong.

/// x^1 in the reflected bit order of CRC-32C is bit 30; bit 31 is x^0.
const ONE: u32 = 1 << 31;
/// The Castagnoli polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `POWERS[k][d]` is x to the 8 * d * 256^k: what `d * 256^k` zero bytes multiply a remainder by.
static POWERS: [[u32; 256]; 4] = powers();

/// CRC-32C (Castagnoli) of `bytes`.
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// CRC-32C of two strings put together, from theirs and the length of the second.
#[inline]
#[must_use]
pub fn combine_crc32c(first: u32, second: u32, second_bytes: u32) -> u32 {
    shift(first, second_bytes) ^ second
}

/// The remainder `crc` after `zero_bytes` more zero bytes. Constant time but for the number of bytes that the
/// length takes.
#[inline]
pub(super) fn shift(crc: u32, zero_bytes: u32) -> u32 {
    let mut shifted = crc;
    for (digit, powers) in zero_bytes.to_le_bytes().into_iter().zip(&POWERS) {
        if digit != 0 {
            shifted = multiply(shifted, powers[usize::from(digit)]);
        }
    }
    shifted
}

/// Product of two polynomials modulo the CRC's, both reflected.
const fn multiply(mut a: u32, b: u32) -> u32 {
    // Horner's rule from the highest power of `b` (its lowest bit) would walk the bits the wrong way round, so `a`
    // takes the powers of x one by one and is added wherever `b` has that power.
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        // All ones where the bit is set: no branch to mispredict.
        product ^= a & (0u32.wrapping_sub((b >> bit) & 1));
        a = (a >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(a & 1));
    }
    product
}

const fn powers() -> [[u32; 256]; 4] {
    let mut table = [[ONE; 256]; 4];
    // x^8: one zero byte.
    let mut step = ONE >> 8;
    let mut place = 0;
    while place < 4 {
        let mut digit = 1;
        while digit < 256 {
            table[place][digit] = multiply(table[place][digit - 1], step);
            digit += 1;
        }
        step = multiply(table[place][255], step);
        place += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn combining_equals_computing(
            first in proptest::collection::vec(any::<u8>(), 0..2_000),
            second in proptest::collection::vec(any::<u8>(), 0..70_000),
        ) {
            let whole = [first.as_slice(), second.as_slice()].concat();
            let combined = combine_crc32c(crc32c(&first), crc32c(&second), second.len() as u32);
            prop_assert_eq!(combined, crc32c(&whole));
        }

        #[test]
        fn combining_agrees_with_the_crate_at_any_length(first: u32, second: u32, length: u32) {
            let expected = ::crc32c::crc32c_combine(first, second, length as usize);
            prop_assert_eq!(combine_crc32c(first, second, length), expected);
        }
    }
}
