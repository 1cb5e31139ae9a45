//! Messages declared as data: the `messages!` notation, and what it makes of a declaration.
//!
//! A declaration names each field in the schema's order:
//!
//! ```text
//! messages! {
//!     flexible 9;                                       // from this version on (KIP-482), in all of the block
//!
//!     /// What it is.
//!     Example {
//!         count: i32,                                   // in every version
//!         name: Text { until: 12, ignorable: true },    // up to version 12
//!         epoch: i32 { since: 4 } = -1,                 // from version 4, and what it is before or unsaid
//!         note: Option<Text> { null_since: 0 },         // may be null from version 0 on
//!         leader: Leader { since: 10, tag: 0 },         // a tagged field
//!     }
//! }
//! ```
//!
//! Reading a version that lacks a field gives its default. Writing one is an error if the field says something else
//! than its default, unless the schema calls it ignorable. A `Vec` of a structure is read only if the bytes left can
//! hold as many as it claims, by the fewest bytes that the structure takes in that version.
//!
//! Owns: the notation. Does not own: the messages themselves (`api/`), or how a type is encoded (`codec/`).

use crate::codec::{DecodeError, EncodeError, Reader, Shape, Wire, Writer};

/// A request, a response, a header, or a structure inside one.
pub trait Message: Wire + Default {
    /// First version with compact lengths and tagged fields (KIP-482); `i16::MAX` if there is none.
    const FLEXIBLE_SINCE: i16;

    /// Reads the message in a version. Bytes may follow; [`Reader::finish`] says whether they do.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        Self::read(reader, shape::<Self>(version))
    }

    /// Appends the message in a version.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        self.write(writer, shape::<Self>(version))
    }
}

pub(crate) fn shape<M: Message>(version: i16) -> Shape {
    Shape { version, flexible: version >= M::FLEXIBLE_SINCE, nullable: false }
}

/// What a declaration says of one field besides its type.
pub(crate) struct Field {
    /// First version that has it.
    pub(crate) since: i16,
    /// Last version that has it.
    pub(crate) until: i16,
    /// First version in which it may be null.
    pub(crate) null_since: i16,
    /// Its tag, or [`Field::UNTAGGED`].
    pub(crate) tag: i32,
    /// Whether a version that lacks it may drop its value.
    pub(crate) ignorable: bool,
}

impl Field {
    pub(crate) const UNTAGGED: i32 = -1;

    /// A field of every version, never null, that must not be dropped.
    pub(crate) const PLAIN: Field =
        Field { since: 0, until: i16::MAX, null_since: i16::MAX, tag: Field::UNTAGGED, ignorable: false };

    /// Whether the version has the field.
    #[inline]
    pub(crate) const fn present(&self, version: i16) -> bool {
        version >= self.since && version <= self.until
    }

    /// Whether the version has the field in its place, not as a tagged one.
    #[inline]
    pub(crate) const fn in_place(&self, version: i16) -> bool {
        self.present(version) && self.tag == Field::UNTAGGED
    }

    /// Whether the version has the field with this tag.
    #[inline]
    pub(crate) const fn tagged(&self, tag: u32, version: i16) -> bool {
        self.tag != Field::UNTAGGED && self.tag as u32 == tag && self.present(version)
    }

    #[inline]
    pub(crate) const fn shape(&self, of_message: Shape) -> Shape {
        Shape { nullable: of_message.version >= self.null_since, ..of_message }
    }
}

/// Declares messages; see the head of `message.rs`.
macro_rules! messages {
    (
        flexible $flexible:expr;
        $(
            $(#[$meta:meta])*
            $name:ident {
                $(
                    $(#[$field_meta:meta])*
                    $field:ident : $kind:ty $({ $($spec:tt)* })? $(= $default:expr)?
                ),* $(,)?
            }
        )+
    ) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                #[doc = concat!("Schema: `", stringify!($field $({ $($spec)* })? $(= $default)?), "`.")]
                #[doc = ""]
                $(#[$field_meta])*
                pub $field: $kind,
            )*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $( $field: messages!(@default $($default)?), )* }
            }
        }

        impl $crate::message::Message for $name {
            const FLEXIBLE_SINCE: i16 = $flexible;
        }

        impl $crate::codec::Wire for $name {
            fn read(
                reader: &mut $crate::codec::Reader,
                shape: $crate::codec::Shape,
            ) -> Result<$name, $crate::codec::DecodeError> {
                #[allow(unused_mut, reason = "only structures with tagged fields change after their body")]
                let mut message = $name {
                    $( $field: {
                        const FIELD: $crate::message::Field = messages!(@field $($($spec)*)?);
                        if FIELD.in_place(shape.version) {
                            <$kind as $crate::codec::Wire>::read(reader, FIELD.shape(shape))
                                .map_err(|error| error.in_field(stringify!($field)))?
                        } else {
                            messages!(@default $($default)?)
                        }
                    }, )*
                };
                if shape.flexible {
                    #[allow(unused_variables, reason = "only structures with tagged fields look at a tag")]
                    reader.tagged_fields(|reader, tag| {
                        $( {
                            const FIELD: $crate::message::Field = messages!(@field $($($spec)*)?);
                            if FIELD.tagged(tag, shape.version) {
                                message.$field = <$kind as $crate::codec::Wire>::read(reader, FIELD.shape(shape))
                                    .map_err(|error| error.in_field(stringify!($field)))?;
                                return Ok(true);
                            }
                        } )*
                        Ok(false)
                    })?;
                }
                Ok(message)
            }

            fn write(
                &self,
                writer: &mut $crate::codec::Writer,
                shape: $crate::codec::Shape,
            ) -> Result<(), $crate::codec::EncodeError> {
                #[allow(unused_mut, reason = "only structures with tagged fields count them")]
                let mut tagged = 0;
                $( {
                    const FIELD: $crate::message::Field = messages!(@field $($($spec)*)?);
                    if FIELD.in_place(shape.version) {
                        self.$field
                            .write(writer, FIELD.shape(shape))
                            .map_err(|error| error.in_field(stringify!($field), shape.version))?;
                    } else if FIELD.present(shape.version) {
                        tagged += u32::from(self.$field != messages!(@typed $kind, $($default)?));
                    } else if !FIELD.ignorable && self.$field != messages!(@typed $kind, $($default)?) {
                        return Err($crate::codec::EncodeError::NotInVersion {
                            field: stringify!($field),
                            version: shape.version,
                        });
                    }
                } )*
                if shape.flexible {
                    writer.varint(tagged);
                }
                if tagged > 0 {
                    $( {
                        const FIELD: $crate::message::Field = messages!(@field $($($spec)*)?);
                        if FIELD.present(shape.version)
                            && FIELD.tag != $crate::message::Field::UNTAGGED
                            && self.$field != messages!(@typed $kind, $($default)?)
                        {
                            writer
                                .tagged_field(FIELD.tag as u32, |writer| self.$field.write(writer, FIELD.shape(shape)))
                                .map_err(|error| error.in_field(stringify!($field), shape.version))?;
                        }
                    } )*
                }
                Ok(())
            }

            fn minimum_bytes(shape: $crate::codec::Shape) -> usize {
                // The count of tagged fields, where there are such.
                let mut total = usize::from(shape.flexible);
                $( {
                    const FIELD: $crate::message::Field = messages!(@field $($($spec)*)?);
                    if FIELD.in_place(shape.version) {
                        total += <$kind as $crate::codec::Wire>::minimum_bytes(FIELD.shape(shape));
                    }
                } )*
                total
            }
        }

        #[cfg(test)]
        impl $crate::tests::sample::Sample for $name {
            const MANY: usize = 3;

            fn sample(source: &mut $crate::tests::sample::Source, shape: $crate::codec::Shape) -> $name {
                $name {
                    $( $field: {
                        const FIELD: $crate::message::Field = messages!(@field $($($spec)*)?);
                        if FIELD.present(shape.version) {
                            <$kind as $crate::tests::sample::Sample>::sample(source, FIELD.shape(shape))
                        } else {
                            messages!(@default $($default)?)
                        }
                    }, )*
                }
            }
        }
    )+ };
    (@field $($spec:tt)+) => { $crate::message::Field { $($spec)+, ..$crate::message::Field::PLAIN } };
    (@field) => { $crate::message::Field::PLAIN };
    (@default $default:expr) => { $default };
    (@default) => { Default::default() };
    (@typed $kind:ty, $default:expr) => { { let default: $kind = $default; default } };
    (@typed $kind:ty,) => { <$kind>::default() };
}

/// Gives structures the encoding that those have which may be null: a byte ahead, -1 for null, 1 otherwise (KIP-893).
macro_rules! nullable_structures {
    ($($name:ident)+) => { $(
        impl $crate::codec::Nullable for $name {
            fn read_nullable(
                reader: &mut $crate::codec::Reader,
                shape: $crate::codec::Shape,
            ) -> Result<Option<$name>, $crate::codec::DecodeError> {
                let shape = $crate::codec::Shape { nullable: false, ..shape };
                if reader.i8()? < 0 { Ok(None) } else { <$name as $crate::codec::Wire>::read(reader, shape).map(Some) }
            }

            fn write_present(
                &self,
                writer: &mut $crate::codec::Writer,
                shape: $crate::codec::Shape,
            ) -> Result<(), $crate::codec::EncodeError> {
                writer.i8(1);
                $crate::codec::Wire::write(self, writer, shape)
            }

            fn write_null(writer: &mut $crate::codec::Writer, _: $crate::codec::Shape) {
                writer.i8(-1);
            }

            fn minimum_nullable_bytes(_: $crate::codec::Shape) -> usize {
                1
            }
        }
    )+ };
}

pub(crate) use messages;
pub(crate) use nullable_structures;
