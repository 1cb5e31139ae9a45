//! The start-up probe: does this store keep the one promise that fencing rests on?
//!
//! Owns: the question. Does not own: rights on the bucket (`admin`), whose prefix it is (`owner_mark`).

use bytes::Bytes;

use super::{PutOutcome, Store, StoreError, StoreKey};
use crate::keys;
use crate::seams::{Backoff, Seams};

/// Why a store cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProbeError {
    /// The second create of one key succeeded, or the first one's bytes are gone.
    #[error(
        "the store ignores conditional writes (If-None-Match: *): two writers would overwrite each other; use a store \
         that honours them"
    )]
    NotConditional,
    /// The store denies what it must allow.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates a throw-away object twice; a store that fences refuses the second create and keeps the first bytes.
///
/// # Errors
/// See [`ProbeError`].
pub async fn probe_conditional_put(store: &dyn Store, seams: &Seams) -> Result<(), ProbeError> {
    let key = keys::probe(seams.attempt());
    let result = probe(store, &key, seams).await;
    if let Err(error) = store.delete(&key).await {
        tracing::debug!(%key, %error, "probe object stays");
        // Without the right to delete, retention cannot work: better said now.
        if error.is_denied() {
            return result.and(Err(error.into()));
        }
    }
    result
}

async fn probe(store: &dyn Store, key: &StoreKey, seams: &Seams) -> Result<(), ProbeError> {
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    let mut backoff = Backoff::for_operation(seams);
    loop {
        let put = match store.put_if_absent(key, vec![first.clone()]).await {
            // Nobody else knows the key: what exists is our own first try.
            PutOutcome::Created | PutOutcome::Exists => store.put_if_absent(key, vec![second.clone()]).await,
            other => other,
        };
        match put {
            PutOutcome::Exists => match store.get(key, first.len() + second.len()).await {
                Ok(found) if found == first => return Ok(()),
                Ok(_) => return Err(ProbeError::NotConditional),
                Err(error) if !error.is_retriable() => return Err(error.into()),
                Err(error) if !backoff.pause().await => return Err(error.into()),
                Err(_) => {}
            },
            PutOutcome::Created => return Err(ProbeError::NotConditional),
            PutOutcome::Failed(error) => return Err(error.into()),
            PutOutcome::Unknown(error) => {
                if !backoff.pause().await {
                    return Err(error.into());
                }
            }
        }
    }
}
