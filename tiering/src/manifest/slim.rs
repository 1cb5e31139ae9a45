//! What is left of a record of the cluster manifest that was written too large to be read: all but the group offsets.
//!
//! Owns: looking through such a body as it streams by. Does not own: why none is written any more (`record`, `groups`),
//! telling of it (`register`).
//!
//! Programs before this rule wrote what groups held into the manifest itself, whatever its size, and then could not read
//! it. Topics, producer ids and claims must not be lost with it; the next snapshot of the groups takes its place.

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::cluster::{ClusterEdit, ClusterManifest};
use super::register::State as _;
use crate::cluster_record::TopicRecord;

/// A base without its groups, which are passed over as an unknown field is.
#[derive(Deserialize)]
struct LeanManifest {
    cluster_name: String,
    recovery_generation: u32,
    writer_epoch: u64,
    topics: BTreeMap<String, TopicRecord>,
    next_producer_id: i64,
    producer_ids_at_ms: i64,
}

/// An edit whose groups are passed over.
#[derive(Deserialize)]
enum LeanEdit {
    Claim { writer_epoch: u64, recovery_generation: u32, cluster_name: String },
    PutTopic(TopicRecord),
    DropTopic { topic_id: String },
    ProducerIds { next: i64, at_ms: i64 },
    Groups(IgnoredAny),
}

/// The body of a base, or else of a delta, without group offsets.
pub(super) fn without_groups(is_base: bool, body: &mut dyn Read) -> Result<Bytes, String> {
    if is_base {
        let lean: LeanManifest = parse(body)?;
        let state = ClusterManifest {
            cluster_name: lean.cluster_name,
            recovery_generation: lean.recovery_generation,
            writer_epoch: lean.writer_epoch,
            topics: lean.topics,
            next_producer_id: lean.next_producer_id,
            producer_ids_at_ms: lean.producer_ids_at_ms,
            groups: None,
        };
        return Ok(state.encode_state());
    }
    let lean: Vec<LeanEdit> = parse(body)?;
    let edits: Vec<ClusterEdit> = lean.into_iter().filter_map(kept).collect();
    Ok(ClusterManifest::encode_edits(&edits))
}

fn parse<T: DeserializeOwned>(body: &mut dyn Read) -> Result<T, String> {
    serde_json::from_reader(body).map_err(|error| error.to_string())
}

fn kept(edit: LeanEdit) -> Option<ClusterEdit> {
    Some(match edit {
        LeanEdit::Claim { writer_epoch, recovery_generation, cluster_name } => {
            ClusterEdit::Claim { writer_epoch, recovery_generation, cluster_name }
        }
        LeanEdit::PutTopic(topic) => ClusterEdit::PutTopic(topic),
        LeanEdit::DropTopic { topic_id } => ClusterEdit::DropTopic { topic_id },
        LeanEdit::ProducerIds { next, at_ms } => ClusterEdit::ProducerIds { next, at_ms },
        LeanEdit::Groups(IgnoredAny) => return None,
    })
}
