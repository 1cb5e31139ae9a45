//! The archiver: sealed segments go to the store, in order, and only then may their local copies go.
//!
//! Three roles. The *order-keeper* (`order`) decides, purely, what comes next for a partition. The *uploader* makes one
//! object of one segment. The *committer* alone changes the manifest, and so alone can prove that a segment is safe.
//!
//! Owns: the roles. Does not own: when they run (see `tier`), nor what is deleted locally.

mod committer;
mod order;
mod rate;
mod uploader;

pub(crate) use committer::{Committer, ManifestView, dead_key};
pub use order::Blocked;
pub(crate) use order::{LagClock, Step, View, next_step};
pub(crate) use rate::RateLimit;
pub(crate) use uploader::{UploadError, Uploader};
