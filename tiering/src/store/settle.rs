//! The rule for a PUT whose answer was lost: read back, and compare our own mark.
//!
//! Owns: the loop that ends in "ours" or "theirs" or an honest "not settled".
//! Does not own: what the mark is; callers put a random attempt id into every object.

use bytes::Bytes;

use super::{Payload, PutOutcome, Store, StoreError, StoreKey};
use crate::seams::{Backoff, Seams};

/// Whose object the key holds now, for certain.
#[derive(Debug)]
pub enum Settled {
    /// The object is the one we wrote.
    Ours,
    /// Somebody else wrote it first; these are its bytes.
    Theirs(Bytes),
}

/// Creates a small object and finds out, whatever answers get lost, whether it is ours.
///
/// Every try sends identical bytes, so a late first try and a second one cannot contradict each other. `Exists` alone
/// proves nothing: it is also what a retried create answers after its own success.
///
/// # Errors
/// The last error, when the bounded tries did not settle it: the object may or may not appear later.
pub async fn create_settled(
    store: &dyn Store,
    key: &StoreKey,
    body: &Payload,
    seams: &Seams,
) -> Result<Settled, StoreError> {
    let size = super::payload_bytes(body) as usize;
    let mut backoff = Backoff::for_operation(seams);
    loop {
        let mut last = match store.put_if_absent(key, body.clone()).await {
            PutOutcome::Created => return Ok(Settled::Ours),
            PutOutcome::Failed(error) => return Err(error),
            PutOutcome::Exists => None,
            PutOutcome::Unknown(error) => Some(error),
        };
        match store.get(key, size.max(crate::limits::MANIFEST_RECORD_LIMIT_BYTES)).await {
            Ok(found) if is_same(&found, body) => return Ok(Settled::Ours),
            Ok(found) => return Ok(Settled::Theirs(found)),
            // Not there: the first try did not take effect, or not yet. The next one sends the same bytes.
            Err(error) if error.is_not_found() => last = last.or(Some(error)),
            Err(error) if error.is_retriable() => last = Some(error),
            Err(error) => return Err(error),
        }
        if !backoff.pause().await {
            let detail = last.map(|error| error.to_string()).unwrap_or_default();
            return Err(StoreError::Unavailable { key: key.to_string(), detail });
        }
    }
}

/// Objects that need settling carry a random attempt id, so equal bytes are the same write.
fn is_same(found: &[u8], body: &Payload) -> bool {
    let mut rest = found;
    for piece in body {
        match rest.strip_prefix(&piece[..]) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}
