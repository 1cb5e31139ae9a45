//! How far groups may have read of what the target holds beside settled copies.
//!
//! A topic that is copied both ways holds the target's own records, which groups have read at the source; and of a tail
//! that could not be settled nobody knows how much was copied. Up to the log's end, all of it may have been read before.
//!
//! Owns: which partitions these are, and asking the target for their ends. Does not own: what is said of it (`status`).

use std::collections::BTreeMap;
use std::time::Duration;

use client::offsets::Place;
use client::{Cluster, Isolation, TopicPartition};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::events::Event;
use crate::map_topic::Ledger;
use crate::spec::FlowSpec;
use crate::status::{PartitionStatus, from_ledger};
use crate::translate::key_of;

/// How long the target may take to say where a log ends.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Where these logs end now, by [`PartitionStatus::name`]. One that does not say is left out, with a warning.
pub(super) async fn ask(
    target: &Cluster,
    spec: &FlowSpec,
    (ledger, unsettled): (&Ledger, &[Event]),
) -> BTreeMap<String, i64> {
    let mut asking = JoinSet::new();
    for known in from_ledger(ledger, spec).partitions {
        if !holds_more_than_copies(&known, spec, ledger) && !is_unsettled(&known, unsettled) {
            continue;
        }
        let (name, target) = (known.name(), target.clone());
        let asked = [(TopicPartition::new(known.target_topic.as_str(), known.partition), Place::Latest)];
        asking.spawn(async move {
            let found = timeout(END_WITHIN, target.list_offsets(&asked, Isolation::ReadUncommitted)).await;
            let why_not = match found {
                Ok(Ok(found)) => return Some((name, found[0].offset.map_or(0, |offset| offset.0))),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            tracing::warn!(
                partition = %asked[0].0, why_not,
                "not known where the target's log ends: groups may read more again than is said of it"
            );
            None
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

fn holds_more_than_copies(known: &PartitionStatus, spec: &FlowSpec, ledger: &Ledger) -> bool {
    let progress = key_of(ledger, spec, &known.topic, known.partition)
        .and_then(|key| ledger.partition(&key)?.progress());
    spec.comes_back(&known.topic) || progress.is_some_and(|(_, progress)| progress.left_out)
}

fn is_unsettled(known: &PartitionStatus, unsettled: &[Event]) -> bool {
    unsettled.iter().any(|event| event.topic == known.topic && event.partition == Some(known.partition))
}
