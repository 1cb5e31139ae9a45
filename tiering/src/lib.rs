//! Sealed segments as objects: manifest, archiver, replay, retention.
