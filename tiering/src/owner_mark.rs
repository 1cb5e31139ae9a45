//! The mark that says whose prefix this is: one prefix, one cluster.
//!
//! Owns: the mark and its comparison. Does not own: who writes within the cluster (the writer epoch's business).

use bytes::Bytes;
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};

use crate::keys;
use crate::seams::{Backoff, Seams};
use crate::store::{Settled, Store, StoreError, StoreUrl, create_settled};
use crate::tier::{OpenTierError, TierOptions};

const FORMAT: u32 = 1;
/// The mark is a few hundred bytes; anything larger is not ours.
const LIMIT_BYTES: usize = 64 << 10;

/// The mark.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// Version of the mark.
    pub format: u32,
    /// The cluster that owns the prefix.
    pub cluster_id: String,
    /// Its name when it took the prefix.
    pub cluster_name: String,
    /// When that was, milliseconds.
    pub since_ms: i64,
    /// The write, so that an owner recognises its own mark whatever answers got lost.
    pub attempt: String,
}

/// Why the mark cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OwnerError {
    /// The store does not answer or denies.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mark is damaged, or of another program version.
    #[error("object longhaul-owner is not a mark that this program reads: {detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
}

/// Reads whose prefix this is; `None` when nobody's.
///
/// # Errors
/// See [`OwnerError`].
pub async fn read_owner(store: &dyn Store, seams: &Seams) -> Result<Option<Owner>, OwnerError> {
    let mut backoff = Backoff::for_operation(seams);
    loop {
        match store.get(&keys::owner(), LIMIT_BYTES).boxed().await {
            Ok(bytes) => return parse(&bytes).map(Some),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.is_retriable() && backoff.pause().await => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Owner, OwnerError> {
    let malformed = |detail: String| OwnerError::Malformed { detail };
    let owner: Owner = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if owner.format != FORMAT {
        return Err(malformed(format!("format {} instead of {FORMAT}", owner.format)));
    }
    if !keys::is_cluster_id(&owner.cluster_id) {
        return Err(malformed(format!("cluster id {:?}", owner.cluster_id)));
    }
    Ok(owner)
}

/// Takes a free prefix for the cluster, or checks that it is the cluster's already. A cluster whose records are in a store
/// takes no free one: there they are not.
pub(crate) async fn take_prefix(
    store: &dyn Store,
    options: &TierOptions,
    seams: &Seams,
) -> Result<(), OpenTierError> {
    let (url, identity) = (&options.store, &options.identity);
    if !keys::is_cluster_id(&identity.cluster_id) {
        let detail = format!("cluster id {:?} cannot be part of keys", identity.cluster_id);
        return Err(OpenTierError::Unusable { url: url.to_string(), detail });
    }
    let owner = match read_owner(store, seams).await.map_err(|error| owner_fault(url, error))? {
        Some(owner) => owner,
        None if options.relies_on_store => {
            let (url, cluster_id) = (url.to_string(), identity.cluster_id.clone());
            return Err(OpenTierError::NotTheFormer { url, cluster_id });
        }
        None => {
            let ours = Owner {
                format: FORMAT,
                cluster_id: identity.cluster_id.clone(),
                cluster_name: identity.cluster_name.clone(),
                since_ms: seams.now_ms(),
                attempt: seams.attempt().to_string(),
            };
            let body = vec![Bytes::from(serde_json::to_vec(&ours).expect("the mark has text keys only"))];
            match create_settled(store, &keys::owner(), &body, seams).await {
                Ok(Settled::Ours) => ours,
                Ok(Settled::Theirs(bytes)) => parse(&bytes).map_err(|error| owner_fault(url, error))?,
                Err(error) => return Err(store_fault(url, &error)),
            }
        }
    };
    if owner.cluster_id == identity.cluster_id {
        return Ok(());
    }
    let (url, owner_id, owner_name) = (url.to_string(), owner.cluster_id, owner.cluster_name);
    Err(match identity.fresh {
        true => OpenTierError::InUse { url, owner_id, owner_name },
        false => OpenTierError::OwnedByAnother {
            url,
            owner_id,
            owner_name,
            cluster_id: identity.cluster_id.clone(),
        },
    })
}

fn owner_fault(url: &StoreUrl, error: OwnerError) -> OpenTierError {
    match error {
        OwnerError::Store(error) => store_fault(url, &error),
        malformed => OpenTierError::Unusable { url: url.to_string(), detail: malformed.to_string() },
    }
}

/// A store error at start, as the broker hears it.
pub(crate) fn store_fault(url: &StoreUrl, error: &StoreError) -> OpenTierError {
    let (url, detail) = (url.to_string(), error.to_string());
    match error {
        StoreError::Unavailable { .. } => OpenTierError::Unavailable { url, detail },
        StoreError::NotFound { .. } => OpenTierError::Unusable {
            detail: format!("the bucket is not there; `longhaul tier init --store {url}` makes it"),
            url,
        },
        _ => OpenTierError::Unusable { url, detail },
    }
}
