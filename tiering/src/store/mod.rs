//! The object store as this crate sees it: write once, read ranges, list, delete.
//!
//! Owns: the narrow trait, its outcomes, and the rule that settles an unknown PUT by reading back.
//! Does not own: what the objects mean, keys, retries of whole tasks.
//!
//! Nothing here overwrites: the only write is create-if-absent (a multipart upload goes to a key that carries a
//! random attempt, so nobody else can want it).

mod cloud;
mod faulty;
#[cfg(test)]
pub(crate) mod memory;
mod probe;
mod rights;
mod settle;
mod url;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub use cloud::{OpenStoreError, open_existing_store, open_store};
pub use faulty::{Fault, FaultPlan, FaultyStore, Operation};
pub use probe::{ProbeError, probe_conditional_put};
pub(crate) use rights::WatchedStore;
pub use rights::{Right, StoreFailure};
pub use settle::{Settled, create_settled};
pub use url::{ParseStoreUrlError, Secret, StoreLocation, StoreUrl};

/// The name of an object, relative to the store's prefix.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoreKey(String);

impl StoreKey {
    /// Names an object. Keys are made by this crate from checked parts: no empty part, no dots, no odd characters.
    pub fn new(key: impl Into<String>) -> Self {
        let key = key.into();
        debug_assert!(key.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        StoreKey(key)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bytes of one object, in pieces.
pub type Payload = Vec<Bytes>;

/// Length of a payload, in bytes.
pub fn payload_bytes(payload: &Payload) -> u64 {
    payload.iter().map(|piece| piece.len() as u64).sum()
}

/// What became of a create-if-absent.
#[derive(Debug)]
pub enum PutOutcome {
    /// The object did not exist and now holds our bytes.
    Created,
    /// Some object has that key. It may be ours, from a try whose answer was lost.
    Exists,
    /// Refused: nothing was written.
    Failed(StoreError),
    /// Nobody knows: the write may have happened, or may still happen.
    Unknown(StoreError),
}

/// Why the store did not do what it was asked. Kinds are those a caller acts on differently.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The object, or the bucket, is not there.
    #[error("{key} is not in the store")]
    NotFound {
        /// The key asked for.
        key: String,
    },
    /// Credentials or rights do not allow the operation; trying again does not help.
    #[error(
        "the store denies the right to {right} at {key}: {detail}; check the credentials and the rights on the bucket"
    )]
    Denied {
        /// The right that it takes.
        right: Right,
        /// The key asked for.
        key: String,
        /// What the store said.
        detail: String,
    },
    /// The store did not answer, or answered that it cannot now; trying again may help.
    #[error("the store is unavailable for {key}: {detail}")]
    Unavailable {
        /// The key asked for.
        key: String,
        /// What happened.
        detail: String,
    },
    /// The object is larger than the caller can accept.
    #[error("{key} has {size_bytes} bytes, more than the {limit_bytes} allowed here")]
    TooLarge {
        /// The key asked for.
        key: String,
        /// The object's size.
        size_bytes: u64,
        /// The caller's limit.
        limit_bytes: u64,
    },
}

impl StoreError {
    /// Whether another try may succeed.
    pub fn is_retriable(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }

    /// Whether a right is missing.
    pub fn is_denied(&self) -> bool {
        matches!(self, StoreError::Denied { .. })
    }

    /// Whether the object is known not to be there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::NotFound { .. })
    }
}

/// One entry of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The object's key.
    pub key: StoreKey,
    /// Its size.
    pub size_bytes: u64,
}

/// Bytes of one range, as they arrive. Ends early on error only.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// An object that is written in parts and appears whole, at `complete`, or not at all.
pub trait PartUpload: Send {
    /// Sends the next part. The returned future is independent of the upload, so several may run.
    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<(), StoreError>>;
    /// Makes the object visible; all parts must have succeeded. An error leaves the outcome unknown.
    fn complete(&mut self) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Gives the parts up, as far as the store answers.
    fn abort(&mut self) -> BoxFuture<'_, ()>;
}

/// The object store.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Writes an object unless the key is taken.
    fn put_if_absent<'a>(&'a self, key: &'a StoreKey, body: Payload) -> BoxFuture<'a, PutOutcome>;
    /// Starts an object too large for one PUT, under a key that nobody else can choose.
    fn start_parts<'a>(&'a self, key: &'a StoreKey)
    -> BoxFuture<'a, Result<Box<dyn PartUpload>, StoreError>>;
    /// Reads a whole object of at most `limit_bytes`.
    fn get<'a>(&'a self, key: &'a StoreKey, limit_bytes: usize) -> BoxFuture<'a, Result<Bytes, StoreError>>;
    /// Reads a range, streamed. A range beyond the end fails or ends early.
    fn get_range<'a>(
        &'a self,
        key: &'a StoreKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<ByteStream, StoreError>>;
    /// The size of an object.
    fn head<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<u64, StoreError>>;
    /// Removes an object; one that is not there is removed already.
    fn delete<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<(), StoreError>>;
    /// One page, in key order, of the keys in folder `folder` (all below it) that come after `start_after`.
    fn list<'a>(&'a self, page: ListPage<'a>) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>>;
}

/// Which page of which listing.
#[derive(Clone, Copy, Debug)]
pub struct ListPage<'a> {
    /// The folder, without a slash at its end; empty for all of the store's prefix.
    pub folder: &'a str,
    /// Only keys after this one.
    pub start_after: Option<&'a str>,
    /// At most this many.
    pub limit: usize,
}

/// Reads a small range into memory; shorter than asked only where the object ends.
pub async fn read_range(store: &dyn Store, key: &StoreKey, range: Range<u64>) -> Result<Bytes, StoreError> {
    use futures::StreamExt as _;
    let wanted = (range.end - range.start) as usize;
    let mut stream = store.get_range(key, range).await?;
    let mut body = bytes::BytesMut::with_capacity(wanted.min(crate::limits::FOOTER_LIMIT_BYTES));
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        if body.len() + piece.len() > wanted {
            return Err(StoreError::Unavailable {
                key: key.to_string(),
                detail: "the store sent more bytes than were asked for".into(),
            });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// Every key below a folder, page by page, handed to `each`.
pub async fn list_all(store: &dyn Store, folder: &str) -> Result<Vec<Listed>, StoreError> {
    use crate::limits::{LIST_PAGE, LIST_PAGES};
    let mut all: Vec<Listed> = Vec::new();
    for _ in 0..LIST_PAGES {
        let after = all.last().map(|entry| entry.key.as_str().to_owned());
        let page = store.list(ListPage { folder, start_after: after.as_deref(), limit: LIST_PAGE }).await?;
        let full = page.len() >= LIST_PAGE;
        // A store that repeats itself would otherwise be listed for ever.
        all.extend(
            page.into_iter().filter(|entry| after.as_deref().is_none_or(|last| entry.key.as_str() > last)),
        );
        if !full || all.last().map(|entry| entry.key.as_str()) == after.as_deref() {
            return Ok(all);
        }
    }
    Err(StoreError::Unavailable { key: folder.to_owned(), detail: "the listing does not end".into() })
}
