//! The cluster's metadata: which topics there are, with which ids and settings, and which producer ids are taken.
//!
//! Owns: the seam behind which changes become durable.
//! Does not own: the topics being served, and the order decide, commit, apply (`broker`); what a setting means
//! (`topic_config`).
//!
//! * `records` are the changes, as bytes in the metadata log.
//! * `image` is what they add up to; it only knows how to apply them.
//! * `changes` decide: an image and a wish become records, or the reason why not.
//! * [`MetadataLog`] commits records. One broker keeps them in its own hot log; a quorum will implement the same trait.

pub(crate) mod changes;
pub(crate) mod image;
pub(crate) mod log;
pub(crate) mod records;

use std::future::Future;
use std::pin::Pin;

use records::MetadataRecord;

/// Why a change could not be made durable.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the metadata log cannot be written: {reason}")]
pub(crate) struct CommitMetadataError {
    /// What failed.
    pub(crate) reason: String,
}

/// Commits changes in order. When the future is done, the records are durable and will be replayed at every start.
pub(crate) trait MetadataLog: Send + Sync {
    /// Appends the records as one unit and waits until they are durable.
    fn commit<'a>(
        &'a self,
        records: &'a [MetadataRecord],
    ) -> Pin<Box<dyn Future<Output = Result<(), CommitMetadataError>> + Send + 'a>>;
}
