//! Manifests: what is in the bucket, and since when.

/// Proof that a segment is in the store for good.
#[derive(Debug)]
pub struct Committed {
    _private: (),
}
