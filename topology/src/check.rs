//! Rules between sections: names that are used are declared, and nothing is used twice.
//!
//! Owns: references, shared ports and folders, which cluster may hold topics.
//! Does not own: loops between flows (`loops`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::fault::{Sink, did_you_mean};
use crate::model::{Flow, OurCluster};
use crate::read::{Draft, Placed};

pub(crate) fn check(draft: &mut Draft, faults: &mut Sink) {
    check_clusters(draft, faults);
    check_topics(draft, faults);
    check_flows(draft, faults);
    check_listeners(draft, faults);
    place_flows(draft);
}

fn our_clusters(draft: &Draft) -> impl Iterator<Item = (&String, &OurCluster, &crate::fault::Span)> {
    draft
        .clusters
        .iter()
        .filter_map(|(name, placed)| placed.value.ours().map(|ours| (name, ours, &placed.span)))
}

fn is_faulty(draft: &Draft, kind: &str, name: &str) -> bool {
    draft.faulty.iter().any(|(faulty_kind, faulty)| *faulty_kind == kind && faulty == name)
}

fn check_clusters(draft: &Draft, faults: &mut Sink) {
    let mut folders: BTreeMap<&PathBuf, &str> = BTreeMap::new();
    for (name, ours, span) in our_clusters(draft) {
        if let Some(store) = &ours.store
            && !draft.stores.contains_key(store)
            && !is_faulty(draft, "store", store)
        {
            let reason = format!("cluster.{name}.store: no store is called \"{store}\"");
            faults.suggest(span, reason, did_you_mean(store, draft.stores.keys().map(String::as_str)));
        }
        for folder in std::iter::once(&ours.data).chain(ours.journal.as_ref()) {
            if let Some(other) = folders.insert(folder, name) {
                let reason =
                    format!("cluster.{name}: the folder {} is used by {other} already", folder.display());
                faults.suggest(span, reason, "give each its own folder");
            }
        }
    }
}

fn check_topics(draft: &Draft, faults: &mut Sink) {
    for (topic, placed) in &draft.topics {
        for cluster in &placed.value.clusters {
            if !known_cluster(draft, cluster) {
                let reason = format!("topic.{topic}.clusters: no cluster is called \"{cluster}\"");
                faults.suggest(&placed.span, reason, did_you_mean(cluster, cluster_names(draft)));
            } else if draft.clusters.get(cluster).is_some_and(|cluster| cluster.value.ours().is_none()) {
                let reason =
                    format!("topic.{topic}.clusters: \"{cluster}\" is an existing cluster, only talked to");
                faults.suggest(&placed.span, reason, "create the topic with that cluster's own tools");
            }
        }
    }
}

fn check_flows(draft: &Draft, faults: &mut Sink) {
    for (name, Placed { value: flow, span }) in &draft.flows {
        for (key, cluster) in [("from", &flow.from), ("to", &flow.to)] {
            if !known_cluster(draft, cluster) {
                let reason = format!("flow.{name}.{key}: no cluster is called \"{cluster}\"");
                faults.suggest(span, reason, did_you_mean(cluster, cluster_names(draft)));
            }
        }
    }
}

fn known_cluster(draft: &Draft, name: &str) -> bool {
    draft.clusters.contains_key(name) || is_faulty(draft, "cluster", name)
}

fn cluster_names(draft: &Draft) -> impl Iterator<Item = &str> + Clone {
    draft.clusters.keys().map(String::as_str)
}

/// No two listeners of this file may share an address.
fn check_listeners(draft: &Draft, faults: &mut Sink) {
    let clusters = our_clusters(draft).flat_map(|(name, ours, span)| {
        [
            (format!("cluster.{name}.listen"), &ours.listen, span),
            (format!("cluster.{name}.admin"), &ours.admin, span),
        ]
    });
    let flows = draft
        .flows
        .iter()
        .map(|(name, placed)| (format!("flow.{name}.admin"), &placed.value.admin, &placed.span));
    let mut taken = BTreeMap::new();
    for (place, address, span) in clusters.chain(flows) {
        if address.port == 0 {
            faults.suggest(span, format!("{place}: port 0 is a new port at every start"), "choose a port");
        } else if let Some(other) = taken.insert(address, place.clone()) {
            faults.suggest(
                span,
                format!("{place}: {address} is used by {other} already"),
                "choose another port",
            );
        }
    }
}

/// A flow runs near its target unless the file says where.
fn place_flows(draft: &mut Draft) {
    let Draft { flows, clusters, .. } = draft;
    for Placed { value: Flow { to, datacenter, .. }, .. } in flows.values_mut() {
        if datacenter.is_empty()
            && let Some(target) = clusters.get(to)
        {
            datacenter.clone_from(&target.value.datacenter);
        }
    }
}
