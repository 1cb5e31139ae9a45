//! Where everything lies below a store's prefix. One file, so that the layout can be read at once.
//!
//! ```text
//! longhaul-owner                                                      whose prefix this is
//! {cluster id}/cluster/records/{sequence 20d}                         cluster manifest
//! {cluster id}/cluster/closed/{slot 20d}                              its closed slots
//! {cluster id}/cluster/groups/{attempt}                               group offsets that are too many for its records
//! {cluster id}/{topic id}/{partition}/{base offset 20d}-{leader epoch}-{attempt}.seg
//! {cluster id}/{topic id}/{partition}/manifest/records/{sequence 20d}  partition manifest
//! {cluster id}/{topic id}/{partition}/manifest/closed/{slot 20d}       its closed slots
//! {cluster id}/{topic id}/{partition}/manifest/spilled/{base offset 20d}-{attempt}
//! probe/{attempt}                                                     left only by a start that died
//! ```
//!
//! Owns: names. Does not own: what the objects hold. An object is believed by what it says inside, never by its name.

use wire::ids::{LeaderEpoch, Offset, TopicId};

use crate::object::LogIdentity;
use crate::seams::AttemptId;
use crate::store::StoreKey;

/// Whose prefix this is.
pub(crate) fn owner() -> StoreKey {
    StoreKey::new("longhaul-owner")
}

/// A throw-away object of a start-up probe.
pub(crate) fn probe(attempt: AttemptId) -> StoreKey {
    StoreKey::new(format!("probe/{attempt}"))
}

/// Whether a text can be a cluster id, and so a part of keys.
pub(crate) fn is_cluster_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The folder of the cluster manifest.
pub(crate) fn cluster_folder(cluster_id: &str) -> String {
    format!("{cluster_id}/cluster")
}

/// The folder of all that a topic has.
pub(crate) fn topic_folder(cluster_id: &str, topic_id: TopicId) -> String {
    format!("{cluster_id}/{topic_id}")
}

/// The folder of a partition.
pub(crate) fn partition_folder(log: &LogIdentity) -> String {
    format!("{}/{}", topic_folder(&log.cluster_id, log.topic_id), log.partition)
}

/// The folder of a partition's manifest.
pub(crate) fn manifest_folder(log: &LogIdentity) -> String {
    format!("{}/manifest", partition_folder(log))
}

/// What all objects of one segment (whatever the attempt) begin with.
pub(crate) fn segment_stem(log: &LogIdentity, base_offset: Offset, leader_epoch: LeaderEpoch) -> String {
    format!("{}/{:020}-{}-", partition_folder(log), base_offset.0, leader_epoch.0)
}

/// A segment's object.
pub(crate) fn segment(log: &LogIdentity, base: Offset, epoch: LeaderEpoch, attempt: AttemptId) -> StoreKey {
    StoreKey::new(format!("{}{attempt}.seg", segment_stem(log, base, epoch)))
}

/// A spilled range of manifest rows.
pub(crate) fn spilled(log: &LogIdentity, base_offset: Offset, attempt: AttemptId) -> StoreKey {
    StoreKey::new(format!("{}/spilled/{:020}-{attempt}", manifest_folder(log), base_offset.0))
}

/// One record of a manifest.
pub(crate) fn record(folder: &str, sequence: u64) -> StoreKey {
    StoreKey::new(format!("{folder}/records/{sequence:020}"))
}

/// The sequence that a record's key names.
pub(crate) fn record_sequence(folder: &str, key: &StoreKey) -> Option<u64> {
    let digits = key.as_str().strip_prefix(folder)?.strip_prefix("/records/")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

/// A file of group offsets beside the cluster manifest.
pub(crate) fn group_part(folder: &str, attempt: &str) -> StoreKey {
    StoreKey::new(format!("{folder}/groups/{attempt}"))
}

/// The mark that a slot of sequences is closed for ever.
pub(crate) fn closed(folder: &str, slot: u64) -> StoreKey {
    StoreKey::new(format!("{folder}/closed/{slot:020}"))
}
