//! Reading a topology file from disk.
//!
//! Owns: the file and the wording that names it. Does not own: its grammar and rules (`topology`).

use std::path::{Path, PathBuf};

use topology::{Faults, Flow, Topology};

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
    topology::parse(&text).map_err(|faults| FileError::Faults { path: path.to_owned(), faults })
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
