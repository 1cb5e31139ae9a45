//! Strings of a message, as slices of the frame that they came in.
//!
//! Owns: the sharing, and the proof that the bytes are UTF-8.
//! Does not own: its length on the wire (`value`), how long a frame may be kept alive (whoever keeps the string).

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// A UTF-8 string that shares the bytes it was read from; 16 bytes, null included, and cheap to clone.
///
/// It keeps its whole frame alive. Whoever keeps a string for longer than the request calls [`Text::detached`].
#[derive(Clone, Default)]
pub struct Text {
    /// The bytes that hold the string; `None` for the empty string.
    owner: Option<Arc<Bytes>>,
    /// Start of the string plus one, so that a null string needs no room of its own.
    start_plus_one: Start,
    length: u32,
}

#[derive(Clone, Copy)]
struct Start(NonZeroU32);

impl Default for Start {
    fn default() -> Start {
        Start(NonZeroU32::MIN)
    }
}

impl Text {
    /// The empty string.
    pub const EMPTY: Text = Text { owner: None, start_plus_one: Start(NonZeroU32::MIN), length: 0 };

    /// The string at `start..start + length` of `owner`, or `None` if it is not UTF-8.
    ///
    /// The range must lie in `owner`, and `owner` must be shorter than 4 GiB.
    pub(crate) fn shared(owner: &Arc<Bytes>, start: usize, length: usize) -> Option<Text> {
        if length == 0 {
            return Some(Text::EMPTY);
        }
        std::str::from_utf8(&owner[start..start + length]).ok()?;
        let start = u32::try_from(start + 1).ok().and_then(NonZeroU32::new)?;
        Some(Text {
            owner: Some(Arc::clone(owner)),
            start_plus_one: Start(start),
            length: u32::try_from(length).ok()?,
        })
    }

    /// The string's characters.
    pub fn as_str(&self) -> &str {
        let Some(owner) = &self.owner else { return "" };
        let start = (self.start_plus_one.0.get() - 1) as usize;
        let bytes = &owner[start..start + self.length as usize];
        #[allow(
            unsafe_code,
            reason = "validating again at every use would double the cost of reading a name"
        )]
        // SAFETY: a `Text` is made in two places: `shared` validates exactly these bytes, and `From<String>` takes
        // them from a `String`. `Bytes` are immutable, and no field changes afterwards.
        unsafe {
            std::str::from_utf8_unchecked(bytes)
        }
    }

    /// A copy that shares nothing with the frame.
    pub fn detached(&self) -> Text {
        Text::from(self.as_str())
    }
}

impl From<String> for Text {
    /// Panics if the string has 4 GiB or more, which no frame can carry.
    fn from(string: String) -> Text {
        if string.is_empty() {
            return Text::EMPTY;
        }
        let length = u32::try_from(string.len()).expect("a frame, and so a string, has less than 2 GiB");
        Text { owner: Some(Arc::new(Bytes::from(string))), start_plus_one: Start::default(), length }
    }
}

impl From<&str> for Text {
    fn from(string: &str) -> Text {
        Text::from(string.to_owned())
    }
}

impl From<&String> for Text {
    fn from(string: &String) -> Text {
        Text::from(string.as_str())
    }
}

impl From<&Text> for String {
    fn from(text: &Text) -> String {
        text.as_str().to_owned()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), formatter)
    }
}
