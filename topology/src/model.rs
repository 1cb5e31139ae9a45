//! The checked description that the program uses.
//!
//! Owns: the shape of a valid topology. Does not own: how it is written in a file (`read`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::address::Address;
use crate::pattern::Pattern;

/// A whole topology file, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Stores by name.
    pub stores: BTreeMap<String, Store>,
    /// Clusters by name.
    pub clusters: BTreeMap<String, Cluster>,
    /// Topics by name.
    pub topics: BTreeMap<String, Topic>,
    /// Flows by name.
    pub flows: BTreeMap<String, Flow>,
}

/// Where sealed segments go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Bucket and prefix, or local folder.
    pub url: StoreUrl,
    /// Base URL of an S3-compatible server; none means AWS itself.
    pub endpoint: Option<String>,
    /// Region; none means what the environment says.
    pub region: Option<String>,
    /// Access key; none means the usual AWS variables.
    pub access_key: Option<Secret>,
    /// Secret key; none means the usual AWS variables.
    pub secret_key: Option<Secret>,
}

/// `file:DIR` or `s3://BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// A local folder.
    Folder(PathBuf),
    /// An S3 bucket; the prefix has no slash at either end and may be empty.
    S3 {
        /// Bucket name.
        bucket: String,
        /// Prefix of every key, without slashes at its ends.
        prefix: String,
    },
}

/// Why a text is not the URL of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrlError {
    /// Neither `file:` nor `s3://`.
    Scheme,
    /// `file:` without a folder.
    NoFolder,
    /// A bucket name that S3 does not allow: 3 to 63 lower-case letters, digits, dots and dashes.
    Bucket(String),
}

impl fmt::Display for StoreUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => write!(f, "a store is \"file:DIR\" or \"s3://BUCKET/PREFIX\""),
            Self::NoFolder => write!(f, "\"file:\" needs a folder after it"),
            Self::Bucket(bucket) => write!(
                f,
                "\"{bucket}\" is no bucket name: 3 to 63 lower-case letters, digits, dots and dashes"
            ),
        }
    }
}

impl std::error::Error for StoreUrlError {}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        if let Some(folder) = text.strip_prefix("file:") {
            let folder = folder.strip_prefix("//").unwrap_or(folder);
            return if folder.is_empty() {
                Err(StoreUrlError::NoFolder)
            } else {
                Ok(Self::Folder(folder.into()))
            };
        }
        let rest = text.strip_prefix("s3://").ok_or(StoreUrlError::Scheme)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(allowed) {
            return Err(StoreUrlError::Bucket(bucket.to_owned()));
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "file:{}", folder.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Where a secret is kept; the file itself never holds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// An environment variable.
    Environment(String),
    /// A file whose content, less a last line break, is the secret.
    File(PathBuf),
}

/// A Kafka-protocol cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Where it stands; `up --datacenter` runs only the clusters and flows of one.
    pub datacenter: String,
    /// Ours, or one that is only talked to.
    pub kind: ClusterKind,
}

/// Whether a topology runs a cluster or only talks to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    /// This topology runs it.
    Ours(OurCluster),
    /// An existing Kafka-protocol cluster.
    Existing(ExistingCluster),
}

/// A cluster that this topology runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurCluster {
    /// Where its broker listens.
    pub listen: Address,
    /// What clients are told to connect to; none means `listen`.
    pub advertise: Option<Address>,
    /// Data folder; relative to where `longhaul` runs.
    pub data: PathBuf,
    /// Folder of the journal, for a device of its own; none means inside `data`.
    pub journal: Option<PathBuf>,
    /// When an acknowledged record is durable.
    pub flush: FlushMode,
    /// Name of the store to tier to.
    pub store: Option<String>,
    /// Where gRPC control, metrics and health listen.
    pub admin: Address,
    /// Whether a topic is made when a client first names it.
    pub auto_create_topics: bool,
    /// Whether `listen` may be reachable from other machines although nothing is encrypted or authenticated yet.
    pub insecure_listen: bool,
}

/// A cluster that is only talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingCluster {
    /// Brokers to ask first.
    pub bootstrap: Vec<Address>,
}

/// When an acknowledged record is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushMode {
    /// Synced to disk before the acknowledgement: survives a power loss.
    #[default]
    Ack,
    /// In the kernel's hands before the acknowledgement: survives the process, not the power.
    Os,
}

impl fmt::Display for FlushMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ack => "ack",
            Self::Os => "os",
        })
    }
}

impl FromStr for FlushMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ack" => Ok(Self::Ack),
            "os" => Ok(Self::Os),
            _ => Err("write \"ack\" (durable) or \"os\"".to_owned()),
        }
    }
}

impl Cluster {
    /// The addresses that a client asks first.
    pub fn bootstrap(&self) -> Vec<String> {
        match &self.kind {
            ClusterKind::Ours(ours) => vec![ours.advertise.as_ref().unwrap_or(&ours.listen).to_string()],
            ClusterKind::Existing(existing) => existing.bootstrap.iter().map(Address::to_string).collect(),
        }
    }

    /// The cluster's settings if this topology runs it.
    pub fn ours(&self) -> Option<&OurCluster> {
        match &self.kind {
            ClusterKind::Ours(ours) => Some(ours),
            ClusterKind::Existing(_) => None,
        }
    }
}

/// A topic that `up` applies to our clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Names of the clusters that hold it.
    pub clusters: Vec<String>,
    /// Number of partitions.
    pub partitions: i32,
    /// Kafka's topic settings; sizes and durations are plain numbers here.
    pub config: BTreeMap<String, String>,
}

/// A stream of records from one cluster to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Name of the source cluster.
    pub from: String,
    /// Name of the target cluster.
    pub to: String,
    /// Which topics are copied.
    pub topics: Vec<Pattern>,
    /// Which groups' positions are carried over.
    pub groups: Vec<Pattern>,
    /// Where a topic that is met for the first time starts.
    pub start: Start,
    /// How the topic is called on the target.
    pub rename: Rename,
    /// Where the flow runs; the target's datacenter unless it says so.
    pub datacenter: String,
    /// Where the flow's control, metrics and health listen.
    pub admin: Address,
}

/// Where a flow starts a topic that it meets for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the source's log start.
    #[default]
    Earliest,
    /// At the source's end.
    Latest,
}

/// How a topic is called on the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rename {
    /// As on the source.
    #[default]
    Same,
    /// With this text before the source's name.
    Prefix(String),
}

impl Rename {
    /// The target's name of a source topic.
    pub fn apply(&self, source_topic: &str) -> String {
        match self {
            Self::Same => source_topic.to_owned(),
            Self::Prefix(prefix) => format!("{prefix}{source_topic}"),
        }
    }
}
