//! Which child processes a topology asks for, and with which arguments.
//!
//! Owns: turning a cluster or a flow into a child, resolving its secrets.
//! Does not own: running it (`supervisor`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use topology::{OurCluster, Secret, Store, StoreUrl, Topology};

use crate::supervisor::ChildSpec;

/// Why a secret that a topology file points to cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("store {store}: the environment variable {variable} is not set")]
    Unset { store: String, variable: String },
    #[error("store {store}: cannot read the secret {}: {source}", path.display())]
    Read { store: String, path: PathBuf, source: std::io::Error },
}

/// Our clusters and the flows of one datacenter, or all of them; clusters first.
pub(crate) struct Wanted<'t> {
    /// Clusters to run, by name.
    pub(crate) clusters: Vec<(&'t str, &'t OurCluster)>,
    /// Names of flows to run.
    pub(crate) flows: Vec<&'t str>,
}

impl<'t> Wanted<'t> {
    pub(crate) fn of(topology: &'t Topology, datacenter: Option<&str>) -> Self {
        let here = |place: &str| datacenter.is_none_or(|datacenter| datacenter == place);
        let clusters = topology.clusters.iter().filter(|(_, cluster)| here(&cluster.datacenter));
        let flows = topology.flows.iter().filter(|(_, flow)| here(&flow.datacenter));
        Self {
            clusters: clusters.filter_map(|(name, cluster)| Some((name.as_str(), cluster.ours()?))).collect(),
            flows: flows.map(|(name, _)| name.as_str()).collect(),
        }
    }
}

/// The name of a cluster's child; a cluster and a flow may be called the same.
pub(crate) fn broker_name(cluster: &str) -> String {
    format!("broker-{cluster}")
}

/// The name of a flow's child.
pub(crate) fn flow_name(flow: &str) -> String {
    format!("flow-{flow}")
}

/// The broker of one of our clusters.
pub(crate) fn broker(
    topology: &Topology,
    name: &str,
    cluster: &OurCluster,
) -> Result<ChildSpec, SecretError> {
    let mut arguments: Vec<OsString> = vec!["broker".into()];
    let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    option("--data", cluster.data.clone().into());
    option("--listen", cluster.listen.to_string().into());
    option("--cluster", name.into());
    option("--flush", cluster.flush.to_string().into());
    option("--admin", cluster.admin.to_string().into());
    if let Some(advertise) = &cluster.advertise {
        option("--advertise", advertise.to_string().into());
    }
    if let Some(journal) = &cluster.journal {
        option("--journal", journal.clone().into());
    }
    let mut environment = Vec::new();
    if let Some(store_name) = &cluster.store {
        let store = &topology.stores[store_name];
        option("--store", prefix_of(store, name).to_string().into());
        environment = store_environment(store_name, store)?;
    }
    if cluster.auto_create_topics {
        arguments.push("--dev".into());
    }
    if cluster.insecure_listen {
        arguments.push("--insecure-listen".into());
    }
    Ok(ChildSpec { name: broker_name(name), arguments, environment })
}

/// One flow of a file.
pub(crate) fn flow(file: &Path, name: &str) -> ChildSpec {
    let arguments = ["mirror".into(), "run".into(), file.into(), "--flow".into(), name.into()].to_vec();
    ChildSpec { name: flow_name(name), arguments, environment: Vec::new() }
}

/// Where in a store a cluster has its objects: clusters that share a store have a prefix each.
pub(crate) fn prefix_of(store: &Store, cluster: &str) -> StoreUrl {
    match &store.url {
        StoreUrl::Folder(folder) => StoreUrl::Folder(folder.join(cluster)),
        StoreUrl::S3 { bucket, prefix } => {
            let prefix = format!("{prefix}/{cluster}").trim_start_matches('/').to_owned();
            StoreUrl::S3 { bucket: bucket.clone(), prefix }
        }
    }
}

/// What a store's settings are as the usual AWS variables; what the file leaves open, the environment may say.
fn store_environment(name: &str, store: &Store) -> Result<Vec<(String, String)>, SecretError> {
    let mut environment = Vec::new();
    let mut set = |variable: &str, value: String| environment.push((variable.to_owned(), value));
    if let Some(endpoint) = &store.endpoint {
        if endpoint.starts_with("http://") {
            set("AWS_ALLOW_HTTP", "true".to_owned());
        }
        set("AWS_ENDPOINT_URL", endpoint.clone());
    }
    if let Some(region) = &store.region {
        set("AWS_REGION", region.clone());
    }
    if let Some(access_key) = &store.access_key {
        set("AWS_ACCESS_KEY_ID", resolve(name, access_key)?);
    }
    if let Some(secret_key) = &store.secret_key {
        set("AWS_SECRET_ACCESS_KEY", resolve(name, secret_key)?);
    }
    Ok(environment)
}

fn resolve(store: &str, secret: &Secret) -> Result<String, SecretError> {
    match secret {
        Secret::Environment(variable) => std::env::var(variable)
            .map_err(|_| SecretError::Unset { store: store.to_owned(), variable: variable.clone() }),
        Secret::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| SecretError::Read {
                store: store.to_owned(),
                path: path.clone(),
                source,
            })?;
            Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, MirrorVerb, Verb};

    const FILE: &str = r#"
[store.lake]
url = "s3://longhaul/prod"
endpoint = "http://127.0.0.1:9000"
access_key = { file = "SECRET" }
secret_key = { file = "SECRET" }
[cluster.west]
datacenter = "w"
listen = "127.0.0.1:9092"
data = "data/west"
store = "lake"
flush = "os"
[cluster.east]
datacenter = "e"
listen = "127.0.0.1:9192"
data = "data/east"
[flow.over]
from = "west"
to = "east"
topics = ["*"]
"#;

    #[test]
    fn a_broker_child_is_a_command_line_that_the_binary_understands() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "key\n").unwrap();
        let text = FILE.replace("SECRET", &secret.display().to_string());
        let topology = topology::parse(&text).unwrap();
        let west = topology.clusters["west"].ours().unwrap();
        let spec = broker(&topology, "west", west).unwrap();
        let line = std::iter::once("longhaul".into()).chain(spec.arguments);
        let Verb::Broker(parsed) = Arguments::try_parse_from(line).unwrap().verb else {
            panic!("another verb")
        };
        assert_eq!(parsed.listen, west.listen);
        assert_eq!(parsed.admin.as_ref(), Some(&west.admin));
        assert_eq!((parsed.data, parsed.flush), (west.data.clone(), west.flush));
        assert_eq!(parsed.store.unwrap().to_string(), "s3://longhaul/prod/west");
        let environment: Vec<(&str, &str)> =
            spec.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "key"),
        ];
        assert_eq!(environment, expected);
    }

    #[test]
    fn a_flow_child_is_a_command_line_that_the_binary_understands() {
        let line = std::iter::once("longhaul".into()).chain(flow(Path::new("t.toml"), "over").arguments);
        let Verb::Mirror(MirrorVerb::Run(parsed)) = Arguments::try_parse_from(line).unwrap().verb else {
            panic!("another verb")
        };
        assert_eq!((parsed.file.file, parsed.flows), ("t.toml".into(), vec!["over".to_owned()]));
    }

    #[test]
    fn a_datacenter_runs_its_own_clusters_and_the_flows_into_them() {
        let topology = topology::parse(&FILE.replace("SECRET", "s")).unwrap();
        let east = Wanted::of(&topology, Some("e"));
        assert_eq!(east.clusters.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["east"]);
        assert_eq!(east.flows, ["over"]);
        assert_eq!(Wanted::of(&topology, None).clusters.len(), 2);
    }

    #[test]
    fn a_missing_secret_names_its_place() {
        let topology = topology::parse(&FILE.replace("SECRET", "/nowhere/secret")).unwrap();
        let west = topology.clusters["west"].ours().unwrap();
        let error = broker(&topology, "west", west).unwrap_err();
        assert!(error.to_string().contains("/nowhere/secret"), "{error}");
    }
}
