//! The integers of hotlog's own files: big-endian fixed fields, LEB128 varints and zigzag for signed values.
//!
//! Owns: reading them from bytes that nobody vouches for, and the one error that reading can give.
//! Does not own: what the integers mean; each persisted kind checks its own.
//!
//! A count is believed only as far as the bytes behind it reach ([`Decoder::count`]), so that a few hostile
//! bytes never cost more than a small multiple of their own length in memory.

use thiserror::Error;

/// Why bytes are not what they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes ended inside a field.
    #[error("bytes end inside {field}")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
    },
    /// A field holds a value that its kind cannot have.
    #[error("{field} holds {value}, which {rule} forbids")]
    Value {
        /// The field that was being read.
        field: &'static str,
        /// The value found, widened.
        value: i128,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A count is larger than its limit, or than the bytes that are left could hold.
    #[error("{field} counts {count}, but at most {limit} can be here")]
    Count {
        /// What is counted.
        field: &'static str,
        /// The count found.
        count: u64,
        /// The largest count that was possible.
        limit: u64,
    },
    /// Bytes are left where the kind must have ended.
    #[error("{left} bytes are left after the end of {kind}")]
    Trailing {
        /// The kind that should have ended.
        kind: &'static str,
        /// How many bytes follow.
        left: usize,
    },
}

/// Reads fields from the front of a slice.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::Truncated { field })?;
        self.bytes = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated { field })?;
        self.bytes = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    /// An unsigned LEB128 varint.
    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(DecodeError::Value {
                    field,
                    value: i128::from(byte),
                    rule: "the width of 64 bits",
                });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Value { field, value: i128::from(value), rule: "the width of 64 bits" })
    }

    /// A varint that must fit `limit`.
    pub(crate) fn varint_up_to(&mut self, limit: u64, field: &'static str) -> Result<u64, DecodeError> {
        let value = self.varint(field)?;
        if value > limit {
            return Err(DecodeError::Value { field, value: i128::from(value), rule: "its largest value" });
        }
        Ok(value)
    }

    /// A varint that holds a non-negative `i64`.
    pub(crate) fn varint_i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(self.varint_up_to(i64::MAX.cast_unsigned(), field)?.cast_signed())
    }

    /// A varint that holds a non-negative `i32`.
    pub(crate) fn varint_i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        let value = self.varint(field)?;
        i32::try_from(value).map_err(|_| DecodeError::Value {
            field,
            value: i128::from(value),
            rule: "the width of 31 bits",
        })
    }

    /// A zigzag varint.
    pub(crate) fn signed(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        let value = self.varint(field)?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// A count of items of which each takes at least `least_bytes`, at most `limit` of them.
    pub(crate) fn count(
        &mut self,
        least_bytes: usize,
        limit: usize,
        field: &'static str,
    ) -> Result<usize, DecodeError> {
        let count = self.varint(field)?;
        let possible = limit.min(self.bytes.len() / least_bytes.max(1));
        match usize::try_from(count) {
            Ok(count) if count <= possible => Ok(count),
            _ => Err(DecodeError::Count { field, count, limit: possible as u64 }),
        }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Refuses bytes behind the end of `kind`.
    pub(crate) fn finish(&self, kind: &'static str) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { kind, left }),
        }
    }
}

/// Appends an unsigned LEB128 varint.
pub(crate) fn put_varint(target: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        target.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    target.push(value as u8);
}

/// Appends a zigzag varint.
pub(crate) fn put_signed(target: &mut Vec<u8>, value: i64) {
    put_varint(target, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_signed(&mut bytes, signed);
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(decoder.varint("value"), Ok(value));
            prop_assert_eq!(decoder.signed("signed"), Ok(signed));
            prop_assert_eq!(decoder.finish("test"), Ok(()));
        }
    }

    #[test]
    fn a_varint_wider_than_64_bits_is_refused() {
        for bytes in [&[0xffu8; 11][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]] {
            assert!(matches!(Decoder::new(bytes).varint("x"), Err(DecodeError::Value { .. })));
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_left_is_refused() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        bytes.extend([0; 10]);
        let found = Decoder::new(&bytes).count(2, 1000, "items");
        assert_eq!(found, Err(DecodeError::Count { field: "items", count: u64::MAX, limit: 5 }));
    }
}
