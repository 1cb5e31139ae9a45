//! Reading fixed binary fields from bytes that may be short or hostile.
//!
//! Owns: bounds. Does not own: any format.

use bytes::{Buf, Bytes};

/// A cursor over bytes; every read is checked.
#[derive(Clone, Debug)]
pub(crate) struct BytesReader(Bytes);

/// The bytes end before the field does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Short;

impl BytesReader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        BytesReader(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<Bytes, Short> {
        if self.0.len() < count { Err(Short) } else { Ok(self.0.split_to(count)) }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let mut field = [0; N];
        self.0.try_copy_to_slice(&mut field).map_err(|_| Short)?;
        Ok(field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        self.0.try_get_u8().map_err(|_| Short)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.0.try_get_u16().map_err(|_| Short)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.0.try_get_u32().map_err(|_| Short)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        self.0.try_get_u64().map_err(|_| Short)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Short> {
        self.0.try_get_i32().map_err(|_| Short)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Short> {
        self.0.try_get_i64().map_err(|_| Short)
    }

    /// A text with its length in two bytes before it; `None` when it is not UTF-8.
    pub(crate) fn text(&mut self) -> Result<Option<String>, Short> {
        let length = usize::from(self.u16()?);
        let bytes = self.take(length)?;
        Ok(std::str::from_utf8(&bytes).ok().map(str::to_owned))
    }
}
