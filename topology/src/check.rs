//! Rules between keys and between sections: names that are used are declared, and nothing is used twice.
//!
//! Owns: references, shared ports and folders, which cluster may hold topics, what may be reached from elsewhere.
//! Does not own: loops between flows (`loops`).
//!
//! A rule looks only at keys of which the file's own value is known, so that one fault is not reported as two.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::address::Address;
use crate::fault::{Sink, did_you_mean};
use crate::model::{Cluster, Flow, OurCluster};
use crate::read::{Draft, Placed};
use crate::topic_settings::TopicSettings;

pub(crate) fn check(draft: &mut Draft, settings: Option<&dyn TopicSettings>, faults: &mut Sink) {
    check_stores(draft, faults);
    check_folders(draft, faults);
    check_reach(draft, faults);
    check_topics(draft, faults);
    if let Some(settings) = settings {
        check_settings(draft, settings, faults);
    }
    check_flows(draft, faults);
    check_listeners(draft, faults);
    place_flows(draft);
}

fn our_clusters(draft: &Draft) -> impl Iterator<Item = (&String, &OurCluster, &Placed<Cluster>)> {
    draft.clusters.iter().filter_map(|(name, placed)| Some((name, placed.value.ours()?, placed)))
}

fn check_stores(draft: &Draft, faults: &mut Sink) {
    let declared = draft.store_names();
    for (name, ours, placed) in our_clusters(draft) {
        if let Some(store) = ours.store.as_deref().filter(|store| !declared.contains(store)) {
            let reason = format!("cluster.{name}.store: no store is called \"{store}\"");
            faults.suggest(placed.at("store"), reason, did_you_mean(store, declared.iter().copied()));
        }
    }
}

fn check_folders(draft: &Draft, faults: &mut Sink) {
    let mut users: BTreeMap<&PathBuf, &str> = BTreeMap::new();
    for (name, ours, placed) in our_clusters(draft) {
        for (key, folder) in [("data", Some(&ours.data)), ("journal", ours.journal.as_ref())] {
            if let Some(folder) = folder.filter(|_| placed.says(key))
                && let Some(other) = users.insert(folder, name)
            {
                let reason = format!(
                    "cluster.{name}.{key}: the folder {} is used by cluster.{other} already",
                    folder.display()
                );
                faults.suggest(placed.at(key), reason, "give each its own folder");
            }
        }
    }
}

/// Nothing is encrypted or authenticated yet, so that only this machine may reach it unless the file says otherwise.
fn check_reach(draft: &Draft, faults: &mut Sink) {
    const ACCEPT: &str = "listen on 127.0.0.1, or accept the risk with insecure_listen = true";
    for (name, ours, placed) in our_clusters(draft) {
        if ours.insecure_listen || !placed.says("insecure_listen") {
            continue;
        }
        for (key, address) in [("listen", &ours.listen), ("admin", &ours.admin)] {
            if placed.says(key) && !address.is_loopback() {
                let reason = format!(
                    "cluster.{name}.{key}: {address} can be reached from other machines, and nothing is encrypted or \
                     authenticated yet"
                );
                faults.suggest(placed.at(key), reason, ACCEPT);
            }
        }
    }
}

fn check_topics(draft: &Draft, faults: &mut Sink) {
    let declared = draft.cluster_names();
    for (topic, placed) in &draft.topics {
        let (clusters, at) = (&placed.value.clusters, placed.at("clusters"));
        for (index, cluster) in clusters.iter().enumerate() {
            if clusters[..index].contains(cluster) {
                let reason = format!("topic.{topic}.clusters: \"{cluster}\" is named twice");
                faults.suggest(at, reason, "name each cluster once");
            } else if !declared.contains(&cluster.as_str()) {
                let reason = format!("topic.{topic}.clusters: no cluster is called \"{cluster}\"");
                faults.suggest(at, reason, did_you_mean(cluster, declared.iter().copied()));
            } else if draft.clusters.get(cluster).is_some_and(|cluster| cluster.value.ours().is_none()) {
                let reason =
                    format!("topic.{topic}.clusters: \"{cluster}\" is an existing cluster, only talked to");
                faults.suggest(at, reason, "create the topic with that cluster's own tools");
            }
        }
    }
}

/// Settings that contradict each other, or a cluster that has to hold the topic.
fn check_settings(draft: &Draft, settings: &dyn TopicSettings, faults: &mut Sink) {
    for (topic, placed) in draft.topics.iter().filter(|(_, placed)| placed.says("config")) {
        let at = placed.at("config");
        if let Err(contradiction) = settings.check_together(&placed.value.config, true) {
            let reason = format!("topic.{topic}.config: {contradiction}");
            faults.suggest(at, reason, "change one of them");
            continue;
        }
        for (cluster, ours, cluster_placed) in our_clusters(draft) {
            let has_store = ours.store.is_some() || !cluster_placed.says("store");
            if placed.value.clusters.contains(cluster)
                && let Err(contradiction) = settings.check_together(&placed.value.config, has_store)
            {
                let reason = format!("topic.{topic}.config: on {cluster}: {contradiction}");
                faults.suggest(at, reason, format!("change it, or the section of {cluster}"));
            }
        }
    }
}

fn check_flows(draft: &Draft, faults: &mut Sink) {
    let declared = draft.cluster_names();
    for (name, placed) in &draft.flows {
        for (key, cluster) in [("from", &placed.value.from), ("to", &placed.value.to)] {
            if placed.says(key) && !declared.contains(&cluster.as_str()) {
                let reason = format!("flow.{name}.{key}: no cluster is called \"{cluster}\"");
                faults.suggest(placed.at(key), reason, did_you_mean(cluster, declared.iter().copied()));
            }
        }
    }
}

/// An address that something listens on.
struct Listener<'a> {
    place: String,
    address: &'a Address,
    /// Whether the file gives it, or it is a default.
    given: bool,
    span: &'a crate::fault::Span,
}

fn listener<'a, T>(
    (section, placed): (String, &'a Placed<T>),
    (key, address): (&str, &'a Address),
) -> Option<Listener<'a>> {
    let (given, span) = (placed.has(key), placed.at(key));
    placed.says(key).then(|| Listener { place: format!("{section}.{key}"), address, given, span })
}

/// No two listeners of this file may share an address.
fn check_listeners(draft: &Draft, faults: &mut Sink) {
    let clusters = our_clusters(draft).flat_map(|(name, ours, placed)| {
        let of = |key, address| listener((format!("cluster.{name}"), placed), (key, address));
        [of("listen", &ours.listen), of("admin", &ours.admin)]
    });
    let flows = draft
        .flows
        .iter()
        .map(|(name, placed)| listener((format!("flow.{name}"), placed), ("admin", &placed.value.admin)));
    let mut taken = BTreeMap::new();
    for Listener { place, address, given, span } in clusters.chain(flows).flatten() {
        if address.port == 0 {
            faults.suggest(span, format!("{place}: port 0 is a new port at every start"), "choose a port");
        } else if let Some(other) = taken.insert(address, place.clone()) {
            let another = if given { "choose another port" } else { "give it an `admin` with another port" };
            faults.suggest(span, format!("{place}: {address} is used by {other} already"), another);
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
