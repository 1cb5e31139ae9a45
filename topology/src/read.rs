//! From text to a draft: the grammar of a topology file.
//!
//! Owns: sections, keys, value types and their defaults; faults that one value shows by itself.
//! Does not own: rules between keys or sections (`check`, `loops`), which settings a topic has (`topic_settings`).
//!
//! A section with faults is kept as far as it could be read, so that one run finds the faults of its other keys too; each
//! key whose value is a stand-in is marked as such.

mod section;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use crate::address::Address;
use crate::fault::{Sink, Span, did_you_mean};
use crate::model::{
    Cluster, ClusterKind, ExistingCluster, Flow, FlushMode, OurCluster, Rename, Secret, Start, Store,
    StoreUrl, Topic, Topology,
};
use crate::pattern::Pattern;
use crate::quantity::{parse_bytes, parse_milliseconds};
use crate::topic_settings::TopicSettings;
pub(crate) use section::Placed;
use section::{Section, Setting};

/// Sections in the file's spelling, before the rules between them were checked.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) stores: BTreeMap<String, Placed<Store>>,
    pub(crate) clusters: BTreeMap<String, Placed<Cluster>>,
    pub(crate) topics: BTreeMap<String, Placed<Topic>>,
    pub(crate) flows: BTreeMap<String, Placed<Flow>>,
    /// Names of sections that were declared and could not be read at all; naming them elsewhere is no second fault.
    pub(crate) faulty: Vec<(&'static str, String)>,
}

impl Draft {
    /// The names of all stores that are declared, whatever their faults.
    pub(crate) fn store_names(&self) -> Vec<&str> {
        self.names("store", &self.stores)
    }

    /// The names of all clusters that are declared, whatever their faults.
    pub(crate) fn cluster_names(&self) -> Vec<&str> {
        self.names("cluster", &self.clusters)
    }

    fn names<'d, T>(&'d self, kind: &str, read: &'d BTreeMap<String, Placed<T>>) -> Vec<&'d str> {
        let unread = self.faulty.iter().filter(|(faulty, _)| *faulty == kind).map(|(_, name)| name.as_str());
        read.keys().map(String::as_str).chain(unread).collect()
    }

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

/// The ports of the flows' default admin addresses: below those that systems give out by themselves.
const FLOW_ADMIN_PORTS: Range<u16> = 21_000..31_000;

/// What a cluster's default admin port lies above its listen port.
const CLUSTER_ADMIN_PORT_STEP: u16 = 1_000;

/// Stands where no address could be read.
const NO_ADDRESS: Address = Address { host: String::new(), port: 0 };

pub(crate) fn read(text: &str, settings: Option<&dyn TopicSettings>, faults: &mut Sink) -> Draft {
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
        for (name, entry) in entries {
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
            let name = name.to_owned();
            match known {
                "store" => drop(draft.stores.insert(name, store(section))),
                "cluster" => match cluster(section) {
                    Some(cluster) => drop(draft.clusters.insert(name, cluster)),
                    None => draft.faulty.push((known, name)),
                },
                "topic" => drop(draft.topics.insert(name, topic(section, settings))),
                _ => {
                    let flow = flow(section, &name);
                    draft.flows.insert(name, flow);
                }
            }
        }
    }
    draft
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

fn store(mut section: Section<'_>) -> Placed<Store> {
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
    if section.has("access_key") != section.has("secret_key") {
        section.fault(
            "access_key",
            "access_key and secret_key go together".to_owned(),
            "give both, or neither",
        );
    }
    let url = section.required("url", "\"s3://BUCKET/PREFIX\" or \"file:DIR\"", url);
    let url = url.unwrap_or_else(|| StoreUrl::Folder(PathBuf::new()));
    section.finish(Store { url, endpoint, region, access_key, secret_key })
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

/// A cluster; none where it cannot be told whether it is ours.
fn cluster(mut section: Section<'_>) -> Option<Placed<Cluster>> {
    const NEITHER: &str = "give `listen` and `data` to run it here, or `bootstrap` for an existing cluster";
    let datacenter = section.text("datacenter");
    let datacenter = section.required("datacenter", "the name of the place where it stands", datacenter);
    // Which keys belong here depends on the kind; without one, unknown keys cannot be told from misplaced ones.
    let kind = match (section.has("bootstrap"), section.has("listen") || section.has("data")) {
        (true, false) => {
            let bootstrap = section.list::<Address>("bootstrap").unwrap_or_default();
            section.not_empty("bootstrap", "name at least one broker, HOST:PORT");
            ClusterKind::Existing(ExistingCluster { bootstrap })
        }
        (false, true) => ClusterKind::Ours(our_cluster(&mut section)),
        (true, true) => {
            section.fault("bootstrap", "a cluster is either run here or only talked to".to_owned(), NEITHER);
            return None;
        }
        (false, false) => {
            section.fault("", "neither `listen` nor `bootstrap` is given".to_owned(), NEITHER);
            return None;
        }
    };
    Some(section.finish(Cluster { datacenter: datacenter.unwrap_or_default(), kind }))
}

fn our_cluster(section: &mut Section<'_>) -> OurCluster {
    let listen = section.parsed::<Address>("listen");
    let listen = section.required("listen", "\"HOST:PORT\"", listen);
    let data = section.text("data");
    let data = section.required("data", "the folder for its data", data);
    let advertise = section.parsed::<Address>("advertise");
    let journal = section.text("journal").map(Into::into);
    let flush = section.parsed::<FlushMode>("flush").unwrap_or_default();
    let store = section.text("store");
    let admin = section.parsed::<Address>("admin").or_else(|| default_admin(listen.as_ref()));
    let auto_create_topics = section.flag("auto_create_topics");
    let insecure_listen = section.flag("insecure_listen");
    if admin.is_none() {
        section.unread("admin");
    }
    OurCluster {
        listen: listen.unwrap_or(NO_ADDRESS),
        advertise,
        data: data.unwrap_or_default().into(),
        journal,
        flush,
        store,
        admin: admin.unwrap_or(NO_ADDRESS),
        auto_create_topics,
        insecure_listen,
    }
}

/// A cluster's admin address where the file gives none; unknown where the address that it stands beside is.
fn default_admin(listen: Option<&Address>) -> Option<Address> {
    let port = match listen?.port {
        0 => return None,
        high if high > u16::MAX - CLUSTER_ADMIN_PORT_STEP => high - CLUSTER_ADMIN_PORT_STEP,
        port => port + CLUSTER_ADMIN_PORT_STEP,
    };
    Some(Address { host: "127.0.0.1".to_owned(), port })
}

fn topic(mut section: Section<'_>, known: Option<&dyn TopicSettings>) -> Placed<Topic> {
    let clusters = section.list::<String>("clusters");
    let clusters = section.required("clusters", "a list of cluster names", clusters);
    let partitions = section.integer("partitions").unwrap_or(1);
    if !(1..=10_000).contains(&partitions) {
        section.fault("partitions", format!("{partitions} partitions"), "write a number from 1 to 10000");
    }
    let mut config = BTreeMap::new();
    for setting in section.settings("config") {
        match plain_setting(&setting, known) {
            Ok(plain) => drop(config.insert(setting.name, plain)),
            Err((reason, suggestion)) => {
                section.fault_at(&setting.span, "config", reason, &suggestion);
                section.unread("config");
            }
        }
    }
    let partitions = i32::try_from(partitions).unwrap_or(1);
    section.finish(Topic { clusters: clusters.unwrap_or_default(), partitions, config })
}

/// Kafka's settings take plain numbers; a file may say `64MiB` and `7d`. Otherwise the reason and the suggestion.
fn plain_setting(setting: &Setting, known: Option<&dyn TopicSettings>) -> Result<String, (String, String)> {
    let Setting { name, value: text, .. } = setting;
    if let Some(known) = known {
        let names = known.names();
        if !names.contains(&name.as_str()) {
            let reason = format!("a topic has no setting \"{name}\"");
            return Err((reason, did_you_mean(name, names.iter().copied())));
        }
    }
    let no_value = || format!("\"{text}\" is no value of {name}");
    let measured = match name.rsplit('.').next() {
        Some("bytes") => Some((parse_bytes(text), "write bytes, KiB, MiB or GiB")),
        Some("ms") => Some((parse_milliseconds(text), "write ms, s, m, h or d")),
        _ => None,
    };
    let plain = match measured {
        None => text.clone(),
        Some((Some(number), _)) => number.to_string(),
        // Kafka has negative numbers with a meaning of their own; which, is for those to say who know the setting.
        Some((None, _)) if text.parse::<i64>().is_ok() => text.clone(),
        Some((None, units)) => return Err((no_value(), units.to_owned())),
    };
    match known.map(|known| known.check(name, &plain)) {
        Some(Err(wanted)) => Err((no_value(), format!("it {wanted}"))),
        _ => Ok(plain),
    }
}

fn flow(mut section: Section<'_>, name: &str) -> Placed<Flow> {
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
        || Address { host: "127.0.0.1".to_owned(), port: FLOW_ADMIN_PORTS.start + flow_port_step(name) };
    let admin = section.parsed::<Address>("admin").unwrap_or_else(default_admin);
    if !admin.is_loopback() {
        section.fault("admin", format!("{admin} can be reached from other machines"), "use 127.0.0.1");
    }
    section.finish(Flow {
        from: from.unwrap_or_default(),
        to: to.unwrap_or_default(),
        topics: topics.unwrap_or_default(),
        groups,
        start,
        rename,
        datacenter,
        admin,
    })
}

/// Where a flow's default port lies among those of flows: from its name alone (FNV-1a, 32 bits), so that it stays the
/// same whatever else the file declares.
fn flow_port_step(name: &str) -> u16 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let ports = FLOW_ADMIN_PORTS.end - FLOW_ADMIN_PORTS.start;
    u16::try_from(hash % u32::from(ports)).expect("a remainder is less than its divisor")
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
            section.unread("rename");
            Rename::Same
        }
    }
}
