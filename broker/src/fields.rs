//! Fields of the records that the broker itself keeps: group records in Kafka's encodings, metadata records in ours.
//!
//! Owns: bounded reading and plain writing of primitives. A read never takes more memory than the bytes it was given.
//! Does not own: requests and responses (crate `wire`), nor which fields a record has.

/// Bytes that are not the record they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field} of a stored record is damaged")]
pub(crate) struct DamagedField {
    /// The field that was being read.
    pub(crate) field: &'static str,
}

/// A cursor over one record's bytes.
#[derive(Debug)]
pub(crate) struct FieldReader<'a> {
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    /// Reads from the start of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    pub(crate) fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DamagedField> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DamagedField { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DamagedField> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DamagedField { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DamagedField> {
        Ok(self.fixed::<1>(field)?[0])
    }

    /// Two bytes, big-endian.
    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, DamagedField> {
        Ok(i16::from_be_bytes(self.fixed(field)?))
    }

    /// Four bytes, big-endian.
    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DamagedField> {
        Ok(i32::from_be_bytes(self.fixed(field)?))
    }

    /// Eight bytes, big-endian.
    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, DamagedField> {
        Ok(i64::from_be_bytes(self.fixed(field)?))
    }

    /// The sixteen bytes of an id.
    pub(crate) fn id(&mut self, field: &'static str) -> Result<[u8; 16], DamagedField> {
        self.fixed(field)
    }

    /// An unsigned variable-length integer of at most 32 bits.
    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u32, DamagedField> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8(field)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| DamagedField { field });
            }
        }
        Err(DamagedField { field })
    }

    /// A string behind its 16-bit length; -1 is null.
    pub(crate) fn nullable_text(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<String>, DamagedField> {
        let length = if flexible {
            self.varint(field)?.checked_sub(1)
        } else {
            match self.i16(field)? {
                -1 => None,
                length => Some(u32::try_from(length).map_err(|_| DamagedField { field })?),
            }
        };
        let Some(length) = length else { return Ok(None) };
        let bytes = self.take(length as usize, field)?;
        let text = std::str::from_utf8(bytes).map_err(|_| DamagedField { field })?;
        Ok(Some(text.to_owned()))
    }

    /// A string that is not null.
    pub(crate) fn text(&mut self, flexible: bool, field: &'static str) -> Result<String, DamagedField> {
        self.nullable_text(flexible, field)?.ok_or(DamagedField { field })
    }

    /// Bytes behind their length.
    pub(crate) fn bytes(&mut self, flexible: bool, field: &'static str) -> Result<Vec<u8>, DamagedField> {
        let length = self.count(flexible, field)?;
        Ok(self.take(length, field)?.to_vec())
    }

    /// A count or length, which the bytes left must be able to hold.
    pub(crate) fn count(&mut self, flexible: bool, field: &'static str) -> Result<usize, DamagedField> {
        let count = if flexible {
            self.varint(field)?.checked_sub(1).ok_or(DamagedField { field })?
        } else {
            u32::try_from(self.i32(field)?).map_err(|_| DamagedField { field })?
        };
        if count as usize > self.remaining() { Err(DamagedField { field }) } else { Ok(count as usize) }
    }

    /// Passes over the tagged fields that end a flexible structure, handing each to `known`.
    pub(crate) fn tagged(
        &mut self,
        mut known: impl FnMut(u32, FieldReader<'a>) -> Result<(), DamagedField>,
    ) -> Result<(), DamagedField> {
        for _ in 0..self.varint("tagged fields")? {
            let tag = self.varint("tag")?;
            let size = self.varint("tag size")? as usize;
            known(tag, FieldReader::new(self.take(size, "tagged field")?))?;
        }
        Ok(())
    }
}

/// Appends an unsigned variable-length integer.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a string behind its 16-bit length, -1 for null. Callers bound what they store, so the length fits.
pub(crate) fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.extend_from_slice(&(-1i16).to_be_bytes()),
        Some(text) => {
            let kept = &text[..text.floor_char_boundary(i16::MAX as usize)];
            out.extend_from_slice(&(kept.len() as i16).to_be_bytes());
            out.extend_from_slice(kept.as_bytes());
        }
    }
}

/// Appends a string behind a varint of its length and one.
pub(crate) fn put_compact_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u32 + 1);
    out.extend_from_slice(text.as_bytes());
}

/// Appends bytes behind their 32-bit length.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}
