//! How each type of the schemas lies in a message: one pair of functions for each.
//!
//! Owns: the choice of encoding by version, flexibility and null.
//! Does not own: the primitives and their bounds (`reader`, `writer`), which fields a message has (`message`).

use bytes::Bytes;

use super::error::{DecodeError, EncodeError, Fault};
use super::reader::Reader;
use super::records::Records;
use super::text::Text;
use super::writer::Writer;
use crate::error_code::ErrorCode;
use crate::ids::TopicId;

/// What decides the encoding of a value besides its type.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The message's version.
    pub version: i16,
    /// Whether that version is flexible: compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether the value may be null.
    pub nullable: bool,
}

/// A value that a message can have in a field.
pub trait Wire: Sized {
    /// Reads one value.
    fn read(reader: &mut Reader, shape: Shape) -> Result<Self, DecodeError>;

    /// Writes the value.
    fn write(&self, writer: &mut Writer, shape: Shape) -> Result<(), EncodeError>;

    /// The fewest bytes that a value of this type takes.
    fn minimum_bytes(shape: Shape) -> usize;
}

/// A value that has an encoding for null.
pub trait Nullable: Wire {
    /// Reads one value, or null.
    fn read_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Self>, DecodeError>;

    /// Writes the value where null could stand.
    #[inline]
    fn write_present(&self, writer: &mut Writer, shape: Shape) -> Result<(), EncodeError> {
        self.write(writer, shape)
    }

    /// Writes null.
    fn write_null(writer: &mut Writer, shape: Shape);

    /// The fewest bytes that a value or null takes.
    #[inline]
    fn minimum_nullable_bytes(shape: Shape) -> usize {
        Self::minimum_bytes(shape)
    }
}

impl<T: Nullable> Wire for Option<T> {
    #[inline]
    fn read(reader: &mut Reader, shape: Shape) -> Result<Option<T>, DecodeError> {
        match T::read_nullable(reader, shape)? {
            None if !shape.nullable => Err(reader.fault(Fault::UnexpectedNull)),
            value => Ok(value),
        }
    }

    #[inline]
    fn write(&self, writer: &mut Writer, shape: Shape) -> Result<(), EncodeError> {
        match self {
            Some(value) => value.write_present(writer, shape),
            None if shape.nullable => {
                T::write_null(writer, shape);
                Ok(())
            }
            None => Err(EncodeError::NullNotAllowed { field: "", version: shape.version }),
        }
    }

    #[inline]
    fn minimum_bytes(shape: Shape) -> usize {
        T::minimum_nullable_bytes(shape)
    }
}

macro_rules! integers {
    ($($kind:ident)+) => { $(
        impl Wire for $kind {
            #[inline]
            fn read(reader: &mut Reader, _: Shape) -> Result<$kind, DecodeError> {
                reader.$kind()
            }

            #[inline]
            fn write(&self, writer: &mut Writer, _: Shape) -> Result<(), EncodeError> {
                writer.$kind(*self);
                Ok(())
            }

            #[inline]
            fn minimum_bytes(_: Shape) -> usize {
                size_of::<$kind>()
            }
        }
    )+ };
}

integers! { i8 i16 i32 i64 }

impl Wire for bool {
    #[inline]
    fn read(reader: &mut Reader, _: Shape) -> Result<bool, DecodeError> {
        Ok(reader.i8()? != 0)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, _: Shape) -> Result<(), EncodeError> {
        writer.i8(i8::from(*self));
        Ok(())
    }

    #[inline]
    fn minimum_bytes(_: Shape) -> usize {
        1
    }
}

impl Wire for ErrorCode {
    #[inline]
    fn read(reader: &mut Reader, _: Shape) -> Result<ErrorCode, DecodeError> {
        Ok(ErrorCode(reader.i16()?))
    }

    #[inline]
    fn write(&self, writer: &mut Writer, _: Shape) -> Result<(), EncodeError> {
        writer.i16(self.0);
        Ok(())
    }

    #[inline]
    fn minimum_bytes(_: Shape) -> usize {
        size_of::<i16>()
    }
}

impl Wire for TopicId {
    #[inline]
    fn read(reader: &mut Reader, _: Shape) -> Result<TopicId, DecodeError> {
        Ok(TopicId(reader.id()?))
    }

    #[inline]
    fn write(&self, writer: &mut Writer, _: Shape) -> Result<(), EncodeError> {
        writer.raw(&self.0);
        Ok(())
    }

    #[inline]
    fn minimum_bytes(_: Shape) -> usize {
        size_of::<TopicId>()
    }
}

/// Reads a nullable type where null has no meaning.
#[inline]
fn read_required<T: Nullable>(reader: &mut Reader, shape: Shape) -> Result<T, DecodeError> {
    match T::read_nullable(reader, shape)? {
        Some(value) => Ok(value),
        None => Err(reader.fault(Fault::UnexpectedNull)),
    }
}

/// Bytes of a length or count of zero.
#[inline]
fn length_bytes(flexible: bool) -> usize {
    if flexible { 1 } else { size_of::<i32>() }
}

impl Wire for Text {
    #[inline]
    fn read(reader: &mut Reader, shape: Shape) -> Result<Text, DecodeError> {
        read_required(reader, shape)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, shape: Shape) -> Result<(), EncodeError> {
        writer.text(self.as_str(), shape.flexible)
    }

    #[inline]
    fn minimum_bytes(shape: Shape) -> usize {
        if shape.flexible { 1 } else { size_of::<i16>() }
    }
}

impl Nullable for Text {
    #[inline]
    fn read_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Text>, DecodeError> {
        match reader.text_length(shape.flexible)? {
            Some(length) => reader.text(length).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn write_null(writer: &mut Writer, shape: Shape) {
        writer.null_text_length(shape.flexible);
    }
}

impl Wire for Bytes {
    #[inline]
    fn read(reader: &mut Reader, shape: Shape) -> Result<Bytes, DecodeError> {
        read_required(reader, shape)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, shape: Shape) -> Result<(), EncodeError> {
        writer.length(self.len(), shape.flexible)?;
        writer.raw(self);
        Ok(())
    }

    #[inline]
    fn minimum_bytes(shape: Shape) -> usize {
        length_bytes(shape.flexible)
    }
}

impl Nullable for Bytes {
    #[inline]
    fn read_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Bytes>, DecodeError> {
        match reader.length(shape.flexible)? {
            Some(length) => reader.bytes(length).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn write_null(writer: &mut Writer, shape: Shape) {
        writer.null_length(shape.flexible);
    }
}

impl Wire for Records {
    #[inline]
    fn read(reader: &mut Reader, shape: Shape) -> Result<Records, DecodeError> {
        Bytes::read(reader, shape).map(Records::from)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, shape: Shape) -> Result<(), EncodeError> {
        writer.records(self, shape.flexible)
    }

    #[inline]
    fn minimum_bytes(shape: Shape) -> usize {
        length_bytes(shape.flexible)
    }
}

impl Nullable for Records {
    #[inline]
    fn read_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Records>, DecodeError> {
        Ok(Bytes::read_nullable(reader, shape)?.map(Records::from))
    }

    #[inline]
    fn write_null(writer: &mut Writer, shape: Shape) {
        Bytes::write_null(writer, shape);
    }
}

impl<T: Wire> Wire for Vec<T> {
    #[inline]
    fn read(reader: &mut Reader, shape: Shape) -> Result<Vec<T>, DecodeError> {
        read_required(reader, shape)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, shape: Shape) -> Result<(), EncodeError> {
        writer.length(self.len(), shape.flexible)?;
        let shape = Shape { nullable: false, ..shape };
        self.iter().try_for_each(|element| element.write(writer, shape))
    }

    #[inline]
    fn minimum_bytes(shape: Shape) -> usize {
        length_bytes(shape.flexible)
    }
}

impl<T: Wire> Nullable for Vec<T> {
    #[inline]
    fn read_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = reader.length(shape.flexible)? else { return Ok(None) };
        let shape = Shape { nullable: false, ..shape };
        let mut elements = reader.vector(count, T::minimum_bytes(shape))?;
        for _ in 0..count {
            elements.push(T::read(reader, shape)?);
        }
        Ok(Some(elements))
    }

    #[inline]
    fn write_null(writer: &mut Writer, shape: Shape) {
        writer.null_length(shape.flexible);
    }
}
