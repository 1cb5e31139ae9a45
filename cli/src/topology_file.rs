//! Reading a topology file from disk.
//!
//! Owns: the file, the wording that names it, and who judges the topics' settings.
//! Does not own: its grammar and rules (`topology`), which settings there are (`broker`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use broker::InvalidTopicConfig;
use topology::{Faults, Flow, TopicSettings, Topology};

/// Why a topology file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read topology file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} has {}:\n{faults}", path.display(), count(faults))]
    Faults { path: PathBuf, faults: Faults },
    #[error("{} declares no flow \"{flow}\"; it declares {known}", path.display())]
    NoFlow { path: PathBuf, flow: String, known: String },
    #[error("{} declares nothing in datacenter \"{datacenter}\"; it knows {known}", path.display())]
    NoDatacenter { path: PathBuf, datacenter: String, known: String },
}

fn count(faults: &Faults) -> String {
    match faults.iter().count() {
        1 => "a fault".to_owned(),
        several => format!("{several} faults"),
    }
}

/// Reads and checks a file.
pub(crate) fn load(path: &Path) -> Result<Topology, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    topology::parse_with(&text, &OurBrokers)
        .map_err(|faults| FileError::Faults { path: path.to_owned(), faults })
}

/// The settings that a topic may have where this binary runs the broker.
struct OurBrokers;

impl TopicSettings for OurBrokers {
    fn names(&self) -> Vec<&'static str> {
        broker::topic_config_names().collect()
    }

    fn check(&self, name: &str, value: &str) -> Result<(), String> {
        broker::check_topic_config(name, value).map_err(|error| match error {
            InvalidTopicConfig::Value { reason, .. } => reason,
            other => other.to_string(),
        })
    }

    fn check_together(&self, settings: &BTreeMap<String, String>, has_store: bool) -> Result<(), String> {
        broker::check_topic_configs(settings, has_store).map_err(|error| error.to_string())
    }
}

/// The flow of this name.
pub(crate) fn flow<'t>(topology: &'t Topology, path: &Path, name: &str) -> Result<&'t Flow, FileError> {
    topology.flows.get(name).ok_or_else(|| FileError::NoFlow {
        path: path.to_owned(),
        flow: name.to_owned(),
        known: listed(topology.flows.keys()),
    })
}

/// Leaves only our clusters and the flows of one datacenter to be run; the rest stays to be talked to.
pub(crate) fn check_datacenter(topology: &Topology, path: &Path, datacenter: &str) -> Result<(), FileError> {
    let clusters = topology.clusters.values().map(|cluster| &cluster.datacenter);
    let flows = topology.flows.values().map(|flow| &flow.datacenter);
    let known: std::collections::BTreeSet<&String> = clusters.chain(flows).collect();
    if known.iter().any(|known| *known == datacenter) {
        return Ok(());
    }
    Err(FileError::NoDatacenter {
        path: path.to_owned(),
        datacenter: datacenter.to_owned(),
        known: listed(known),
    })
}

fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "[cluster.west]\ndatacenter = \"w\"\nlisten = \"127.0.0.1:1\"\ndata = \"d\"\n";

    fn load_topic(config: &str) -> Result<Topology, FileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        let topic = format!("[topic.flights]\nclusters = [\"west\"]\nconfig = {{ {config} }}\n");
        std::fs::write(&path, format!("{CLUSTER}{topic}")).unwrap();
        load(&path)
    }

    #[test]
    fn a_setting_that_the_broker_would_refuse_is_a_fault_of_the_file() {
        for (config, expected) in [
            (r#""retentoin.ms" = "7d""#, "no setting \"retentoin.ms\" (did you mean \"retention.ms\"?)"),
            (
                r#""cleanup.policy" = "shred""#,
                "\"shred\" is no value of cleanup.policy (it must be a list of compact, delete)",
            ),
            (r#""retention.ms" = -2"#, "\"-2\" is no value of retention.ms (it must be at least -1"),
            (
                r#""retention.ms" = "1d", "local.retention.ms" = "2d""#,
                "local.retention.ms must not be more than retention.ms (change one of them)",
            ),
            (r#""remote.storage.enable" = true"#, "on west: remote.storage.enable=true is not possible"),
        ] {
            let faults = load_topic(config).unwrap_err().to_string();
            assert!(faults.contains("has a fault:\nline 7: topic.flights.config: "), "{faults}");
            assert!(faults.contains(expected), "{faults}");
        }
    }

    #[test]
    fn what_the_broker_takes_is_taken() {
        let config = r#""retention.ms" = "-1", "local.retention.ms" = -2, "local.retention.bytes" = "64MiB", "cleanup.policy" = "delete""#;
        let topology = load_topic(config).unwrap();
        assert_eq!(topology.topics["flights"].config["local.retention.bytes"], "67108864");
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::Error::from(load(Path::new("nowhere/t.toml")).unwrap_err());
        let said = crate::complaint(&error);
        assert!(said.contains("cannot read topology file nowhere/t.toml"), "{said}");
        assert_eq!(said.matches("os error").count(), 1, "{said}");
    }
}
