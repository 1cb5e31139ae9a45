//! What can be wrong with bytes that claim to be a message, and with a message that is to become bytes.
//!
//! Owns: both errors and the field that they name.
//! Does not own: what is wrong with a frame's length (`frame`), a header (`header`) or a batch (`batch::error`).

use thiserror::Error;

/// Why a message could not be read: the fault, the field that was being read, and the place.
///
/// Whoever sent it does not speak the protocol, so the only answer is to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed message: {fault}, in field {field:?} near byte {position}")]
pub struct DecodeError {
    /// What is wrong.
    pub fault: Fault,
    /// The innermost field that was being read; empty when it was none.
    pub field: &'static str,
    /// Bytes of the frame that had been read.
    pub position: usize,
}

impl DecodeError {
    /// Names the field, unless one further inside has been named already.
    #[cold]
    pub(crate) fn in_field(mut self, field: &'static str) -> DecodeError {
        if self.field.is_empty() {
            self.field = field;
        }
        self
    }
}

/// The kinds of malformed input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The frame ends within a value.
    #[error("the bytes end early")]
    Truncated,
    /// The frame goes on after the message.
    #[error("bytes follow the end of the message")]
    TrailingBytes,
    /// A length or count below null's -1.
    #[error("a length is negative")]
    NegativeLength,
    /// A length or count that the bytes left cannot hold.
    #[error("a length or count is larger than the bytes left can hold")]
    LengthBeyondFrame,
    /// A variable-length integer that does not end, or does not fit its type.
    #[error("a variable-length integer is too long")]
    OverlongVarint,
    /// Null where this version has no null.
    #[error("null where a value is required")]
    UnexpectedNull,
    /// A string that is not UTF-8.
    #[error("a string is not utf-8")]
    NotUtf8,
    /// Tagged fields whose tags do not rise.
    #[error("tagged fields are duplicated or out of order")]
    TagOrder,
    /// A tagged field whose content is shorter than its declared size.
    #[error("a tagged field is longer than its content")]
    TagSize,
    /// The message would take more memory than its frame entitles it to.
    #[error("the message needs more memory than its size allows")]
    OverBudget,
}

/// Why a message cannot be written in the version asked for. The message is wrong, not the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The field has a value that says something, and the version has no such field.
    #[error("version {version} has no field {field}, and its value must not be dropped")]
    NotInVersion {
        /// The field.
        field: &'static str,
        /// The message's version.
        version: i16,
    },
    /// The field is null, and the version requires a value.
    #[error("field {field} must not be null in version {version}")]
    NullNotAllowed {
        /// The field.
        field: &'static str,
        /// The message's version.
        version: i16,
    },
    /// A string, array or frame whose length its encoding cannot say.
    #[error("field {field} is too long for the encoding of version {version}")]
    TooLong {
        /// The field; empty for the frame.
        field: &'static str,
        /// The message's version.
        version: i16,
    },
}

impl EncodeError {
    /// Names the field and version, unless a field further inside has been named already.
    #[cold]
    pub(crate) fn in_field(self, field: &'static str, version: i16) -> EncodeError {
        match self {
            EncodeError::TooLong { field: "", .. } => EncodeError::TooLong { field, version },
            EncodeError::NullNotAllowed { field: "", .. } => EncodeError::NullNotAllowed { field, version },
            named => named,
        }
    }
}
