//! From text to a draft: the grammar of a topology file.
//!
//! Owns: sections, keys, value types and their defaults; faults that one value shows by itself.
//! Does not own: rules between sections (`check`, `loops`).

mod section;

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use crate::address::Address;
use crate::fault::{Sink, Span, did_you_mean};
use crate::model::{
    Cluster, ClusterKind, ExistingCluster, Flow, FlushMode, OurCluster, Rename, Secret, Start, Store,
    StoreUrl, Topic, Topology,
};
use crate::pattern::Pattern;
use crate::quantity::{parse_bytes, parse_milliseconds};
use section::Section;

/// A value and where it stands, so that later rules can name its line.
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// Sections in the file's spelling, before the rules between them were checked.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) stores: BTreeMap<String, Placed<Store>>,
    pub(crate) clusters: BTreeMap<String, Placed<Cluster>>,
    pub(crate) topics: BTreeMap<String, Placed<Topic>>,
    pub(crate) flows: BTreeMap<String, Placed<Flow>>,
    /// Names of sections that were declared but had faults of their own; naming them elsewhere is no second fault.
    pub(crate) faulty: Vec<(&'static str, String)>,
}

impl Draft {
    pub(crate) fn into_topology(self) -> Topology {
        fn values<T>(placed: BTreeMap<String, Placed<T>>) -> BTreeMap<String, T> {
            placed.into_iter().map(|(name, placed)| (name, placed.value)).collect()
        }
        Topology {
            stores: values(self.stores),
            clusters: values(self.clusters),
            topics: values(self.topics),
            flows: values(self.flows),
        }
    }
}

const KINDS: [&str; 4] = ["store", "cluster", "topic", "flow"];

/// The first port of the flows' default admin addresses; flow number `n` by name gets this plus `n`.
const FLOW_ADMIN_PORT: u16 = 11_090;

/// What a cluster's default admin port lies above its listen port.
const CLUSTER_ADMIN_PORT_STEP: u16 = 1_000;

pub(crate) fn read(text: &str, faults: &mut Sink) -> Draft {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        faults.report(&error.span().unwrap_or(0..0), error.message().to_owned());
    }
    let mut draft = Draft::default();
    for (kind, value) in document.get_ref() {
        let kind_name = kind.get_ref().as_ref();
        let Some(known) = KINDS.into_iter().find(|known| *known == kind_name) else {
            let reason = format!("unknown section \"{kind_name}\"");
            faults.suggest(&kind.span(), reason, did_you_mean(kind_name, KINDS));
            continue;
        };
        let DeValue::Table(entries) = value.get_ref() else {
            faults.suggest(
                &kind.span(),
                format!("\"{known}\" is a section"),
                format!("write [{known}.NAME]"),
            );
            continue;
        };
        for (index, (name, entry)) in entries.iter().enumerate() {
            let span = name.span();
            let name = name.get_ref().as_ref();
            if !check_name(known, name, &span, faults) {
                draft.faulty.push((known, name.to_owned()));
                continue;
            }
            let DeValue::Table(table) = entry.get_ref() else {
                faults.suggest(&span, format!("\"{name}\" is no section"), format!("write [{known}.{name}]"));
                draft.faulty.push((known, name.to_owned()));
                continue;
            };
            let section = Section::new(format!("{known}.{name}"), table, span, faults);
            draft.read_section(known, name, index, section);
        }
    }
    draft
}

impl Draft {
    fn read_section(&mut self, kind: &'static str, name: &str, index: usize, section: Section<'_>) {
        let span = section.span();
        let name = name.to_owned();
        let read = match kind {
            "store" => {
                store(section).map(|value| drop(self.stores.insert(name.clone(), Placed { value, span })))
            }
            "cluster" => {
                cluster(section).map(|value| drop(self.clusters.insert(name.clone(), Placed { value, span })))
            }
            "topic" => {
                topic(section).map(|value| drop(self.topics.insert(name.clone(), Placed { value, span })))
            }
            _ => flow(section, index)
                .map(|value| drop(self.flows.insert(name.clone(), Placed { value, span }))),
        };
        if read.is_none() {
            self.faulty.push((kind, name));
        }
    }
}

/// Topic names follow Kafka's rule; the others are also used as file names, so they are kept narrower.
fn check_name(kind: &str, name: &str, span: &Span, faults: &mut Sink) -> bool {
    let (limit, extra) = if kind == "topic" { (249, "._-") } else { (64, "_-") };
    let allowed = |c: char| c.is_ascii_alphanumeric() || extra.contains(c);
    if name.is_empty() || name.len() > limit || !name.chars().all(allowed) || name == "." || name == ".." {
        let reason = format!("\"{name}\" is no {kind} name");
        faults.suggest(span, reason, format!("up to {limit} letters, digits and any of {extra}"));
        return false;
    }
    true
}

fn store(mut section: Section<'_>) -> Option<Store> {
    let url = section.parsed::<StoreUrl>("url");
    let endpoint = section.text("endpoint");
    if let Some(endpoint) = &endpoint
        && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
    {
        section.fault(
            "endpoint",
            format!("\"{endpoint}\" is no URL"),
            "write http://HOST:PORT or https://HOST:PORT",
        );
    }
    let region = section.text("region");
    let access_key = secret(&mut section, "access_key");
    let secret_key = secret(&mut section, "secret_key");
    if access_key.is_some() != secret_key.is_some() {
        section.fault(
            "access_key",
            "access_key and secret_key go together".to_owned(),
            "give both, or neither",
        );
    }
    let url = section.required("url", "\"s3://BUCKET/PREFIX\" or \"file:DIR\"", url);
    section.finish(url.map(|url| Store { url, endpoint, region, access_key, secret_key }))
}

/// A secret is `{ env = "NAME" }` or `{ file = "PATH" }`; the file must never hold the secret itself.
fn secret(section: &mut Section<'_>, key: &'static str) -> Option<Secret> {
    const FORM: &str = "write { env = \"NAME\" } or { file = \"PATH\" }";
    let (value, _) = section.take(key)?;
    let DeValue::Table(table) = value else {
        section.fault(key, "a secret does not stand in this file".to_owned(), FORM);
        return None;
    };
    let text = |name: &str| {
        table.get(name).and_then(|value| value.get_ref().as_str()).filter(|text| !text.is_empty())
    };
    match (text("env"), text("file"), table.len()) {
        (Some(name), None, 1) => Some(Secret::Environment(name.to_owned())),
        (None, Some(path), 1) => Some(Secret::File(path.into())),
        _ => {
            section.fault(key, "a secret names one place where it is kept".to_owned(), FORM);
            None
        }
    }
}

fn cluster(mut section: Section<'_>) -> Option<Cluster> {
    const NEITHER: &str = "give `listen` and `data` to run it here, or `bootstrap` for an existing cluster";
    let datacenter = section.text("datacenter");
    let datacenter = section.required("datacenter", "the name of the place where it stands", datacenter);
    // Which keys belong here depends on the kind; without one, unknown keys cannot be told from misplaced ones.
    let kind = match (section.has("bootstrap"), section.has("listen") || section.has("data")) {
        (true, false) => {
            let bootstrap = section.list::<Address>("bootstrap");
            if bootstrap.as_ref().is_some_and(Vec::is_empty) {
                section.fault(
                    "bootstrap",
                    "the list is empty".to_owned(),
                    "name at least one broker, HOST:PORT",
                );
            }
            bootstrap.map(|bootstrap| ClusterKind::Existing(ExistingCluster { bootstrap }))
        }
        (false, true) => our_cluster(&mut section).map(ClusterKind::Ours),
        (true, true) => {
            section.fault("bootstrap", "a cluster is either run here or only talked to".to_owned(), NEITHER);
            return None;
        }
        (false, false) => {
            section.fault("", "neither `listen` nor `bootstrap` is given".to_owned(), NEITHER);
            return None;
        }
    };
    section.finish(datacenter.zip(kind).map(|(datacenter, kind)| Cluster { datacenter, kind }))
}

fn our_cluster(section: &mut Section<'_>) -> Option<OurCluster> {
    let listen = section.parsed::<Address>("listen");
    let listen = section.required("listen", "\"HOST:PORT\"", listen);
    let data = section.text("data");
    let data = section.required("data", "the folder for its data", data);
    let advertise = section.parsed::<Address>("advertise");
    let journal = section.text("journal").map(Into::into);
    let flush = section.parsed::<FlushMode>("flush").unwrap_or_default();
    let store = section.text("store");
    let admin = section.parsed::<Address>("admin");
    let auto_create_topics = section.flag("auto_create_topics");
    let insecure_listen = section.flag("insecure_listen");
    let listen = listen?;
    if !listen.is_loopback() && !insecure_listen {
        section.fault(
            "listen",
            format!(
                "{listen} can be reached from other machines, and nothing is encrypted or authenticated yet"
            ),
            "listen on 127.0.0.1, or accept the risk with insecure_listen = true",
        );
    }
    let default_port =
        listen.port.checked_add(CLUSTER_ADMIN_PORT_STEP).unwrap_or(listen.port - CLUSTER_ADMIN_PORT_STEP);
    let admin = admin.unwrap_or_else(|| Address { host: "127.0.0.1".to_owned(), port: default_port });
    if !admin.is_loopback() && !insecure_listen {
        section.fault(
            "admin",
            format!("{admin} can be reached from other machines"),
            "use 127.0.0.1, or accept the risk with insecure_listen = true",
        );
    }
    let data = data?.into();
    Some(OurCluster {
        listen,
        advertise,
        data,
        journal,
        flush,
        store,
        admin,
        auto_create_topics,
        insecure_listen,
    })
}

fn topic(mut section: Section<'_>) -> Option<Topic> {
    let clusters = section.list::<String>("clusters");
    let clusters = section.required("clusters", "a list of cluster names", clusters);
    let partitions = section.integer("partitions").unwrap_or(1);
    if !(1..=10_000).contains(&partitions) {
        section.fault("partitions", format!("{partitions} partitions"), "write a number from 1 to 10000");
    }
    let mut config = BTreeMap::new();
    for (key, text) in section.settings("config") {
        match plain_setting(&key, &text) {
            Some(plain) => drop(config.insert(key, plain)),
            None => section.fault(
                "config",
                format!("\"{text}\" is no value of {key}"),
                if key.ends_with(".bytes") {
                    "write bytes, KiB, MiB or GiB"
                } else {
                    "write ms, s, m, h or d"
                },
            ),
        }
    }
    section.finish(clusters.map(|clusters| Topic { clusters, partitions: partitions as i32, config }))
}

/// Kafka's settings take plain numbers; a file may say `64MiB` and `7d`. None if the unit is not understood.
fn plain_setting(key: &str, text: &str) -> Option<String> {
    let number = match key.rsplit('.').next() {
        Some("bytes") => parse_bytes(text)?,
        Some("ms") => parse_milliseconds(text)?,
        _ => return Some(text.to_owned()),
    };
    Some(number.to_string())
}

fn flow(mut section: Section<'_>, index: usize) -> Option<Flow> {
    let from = section.text("from");
    let from = section.required("from", "the name of the source cluster", from);
    let to = section.text("to");
    let to = section.required("to", "the name of the target cluster", to);
    let topics =
        section.list_by("topics", |text| Pattern::for_topics(text).map_err(|error| error.to_string()));
    let topics =
        section.required("topics", "a list of names or patterns, as [\"orders\", \"audit.*\"]", topics);
    section.not_empty("topics", "name a topic, or \"*\" for all");
    let groups = section.list::<Pattern>("groups").unwrap_or_else(|| vec![all_groups()]);
    let start = match section.text("start").as_deref() {
        None | Some("earliest") => Start::Earliest,
        Some("latest") => Start::Latest,
        Some(other) => {
            let reason = format!("\"{other}\" is no start");
            section.fault("start", reason, "write \"earliest\" or \"latest\"");
            Start::Earliest
        }
    };
    let rename = rename(&mut section);
    let datacenter = section.text("datacenter").unwrap_or_default();
    let default_admin =
        Address { host: "127.0.0.1".to_owned(), port: FLOW_ADMIN_PORT + (index % 10_000) as u16 };
    let admin = section.parsed::<Address>("admin").unwrap_or(default_admin);
    if !admin.is_loopback() {
        section.fault("admin", format!("{admin} can be reached from other machines"), "use 127.0.0.1");
    }
    section.finish(from.zip(to).zip(topics).map(|((from, to), topics)| Flow {
        from,
        to,
        topics,
        groups,
        start,
        rename,
        datacenter,
        admin,
    }))
}

fn all_groups() -> Pattern {
    "*".parse().expect("a single wildcard is a pattern")
}

fn rename(section: &mut Section<'_>) -> Rename {
    const FORM: &str = "write { prefix = \"legacy.\" }";
    let Some((value, _)) = section.take("rename") else { return Rename::Same };
    let prefix = value.as_table().filter(|table| table.len() == 1).and_then(|table| table.get("prefix"));
    let prefix = prefix.and_then(|prefix| prefix.get_ref().as_str());
    match prefix {
        Some(prefix)
            if !prefix.is_empty() && !prefix.contains('*') && Pattern::for_topics(prefix).is_ok() =>
        {
            Rename::Prefix(prefix.to_owned())
        }
        _ => {
            section.fault(
                "rename",
                "a rename is a prefix of letters, digits, '.', '_' and '-'".to_owned(),
                FORM,
            );
            Rename::Same
        }
    }
}
