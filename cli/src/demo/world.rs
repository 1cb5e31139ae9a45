//! The demo's two datacenters: a folder, a topology file, and the processes that run it.
//!
//! Owns: ports, files, children; nothing is left behind unless it is asked for.
//! Does not own: what happens in them (`steps`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use topology::Topology;

use super::DemoError;
use crate::children;
use crate::status::{self, Report};
use crate::supervisor::{ChildSpec, Running, StateFolder, last_line};

/// How long anything may take before the demo gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How often something awaited is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The flow of the demo.
pub(super) const FLOW: &str = "west-to-east";
/// The topic of the demo.
pub(super) const TOPIC: &str = "flights";
/// Its partitions.
pub(super) const PARTITIONS: i32 = 3;

/// All of it.
pub(super) struct World {
    folder: PathBuf,
    file: PathBuf,
    topology: Topology,
    state: StateFolder,
    running: BTreeMap<String, Running>,
    kept: bool,
    logs_kept: bool,
}

impl World {
    /// Writes the topology file into a new folder; nothing runs yet.
    pub(super) fn new() -> Result<Self, DemoError> {
        let folder = std::env::temp_dir().join(format!("longhaul-demo-{}", std::process::id()));
        let unusable = |source| DemoError::Folder { path: folder.clone(), source };
        std::fs::create_dir(&folder).map_err(unusable)?;
        let file = folder.join("demo.toml");
        let text = file_text(&folder, free_ports().map_err(unusable)?);
        std::fs::write(&file, &text).map_err(unusable)?;
        let state = StateFolder::of(&file);
        state.create().map_err(unusable)?;
        let topology = topology::parse(&text).expect("the demo's own file has no faults");
        Ok(Self { folder, file, topology, state, running: BTreeMap::new(), kept: false, logs_kept: false })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The URL of a cluster's part of the store.
    pub(super) fn store_url(&self, cluster: &str) -> String {
        children::prefix_of(&self.topology.stores["lake"], cluster).to_string()
    }

    /// Data folder of one of the two clusters.
    pub(super) fn data(&self, cluster: &str) -> PathBuf {
        self.folder.join(cluster)
    }

    /// Starts a broker and waits until it serves.
    pub(super) async fn start_broker(&mut self, cluster: &str) -> Result<(), DemoError> {
        self.spawn(self.broker_spec(cluster))?;
        let admin = self.ours(cluster).admin.to_string();
        let name = children::broker_name(cluster);
        self.wait_for(&format!("the broker of {cluster} to serve"), &name, async || {
            let reply = control::ask_status(&admin).await;
            reply.is_ok_and(|reply| reply.broker.is_some()).then_some(())
        })
        .await
    }

    /// Starts a broker that is expected to refuse, and gives the reason that it ended with.
    pub(super) async fn start_refused(&mut self, cluster: &str) -> Result<String, DemoError> {
        let spec = self.broker_spec(cluster);
        let mut running = Running::start(&spec, &self.state)?;
        let ended = tokio::time::timeout(PATIENCE, running.ended()).await;
        match ended {
            Ok(Ok(status)) if !status.success() => {
                Ok(last_line(&self.state.log(&spec.name)).unwrap_or_default())
            }
            _ => {
                self.running.insert(spec.name, running);
                Err(DemoError::Disproved(format!("the broker of {cluster} started where it had to refuse")))
            }
        }
    }

    /// Starts the flow; whether it copies is seen in its status.
    pub(super) fn start_flow(&mut self) -> Result<(), DemoError> {
        self.spawn(children::flow(&self.file, FLOW))
    }

    /// kill -9 of a child.
    pub(super) async fn kill(&mut self, name: &str) -> Result<(), DemoError> {
        let Some(mut running) = self.running.remove(name) else { return Ok(()) };
        let unusable = |source| DemoError::Folder { path: self.folder.clone(), source };
        running.kill().await.map_err(unusable)
    }

    /// How everything fares.
    pub(super) async fn report(&self) -> Report {
        status::ask(&self.topology).await
    }

    /// Looks again and again until `look` gives a value.
    pub(super) async fn wait_for<T>(
        &self,
        what: &str,
        child: &str,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, DemoError> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        });
        found.await.map_err(|_| DemoError::InVain {
            what: what.to_owned(),
            seconds: PATIENCE.as_secs(),
            said: last_line(&self.state.log(child)).unwrap_or_default(),
        })
    }

    /// Runs another verb of this binary to its end and gives what it printed.
    pub(super) async fn verb(&self, arguments: &[&str]) -> Result<String, DemoError> {
        let unusable = |source| DemoError::Folder { path: self.folder.clone(), source };
        let program = std::env::current_exe().map_err(unusable)?;
        let mut command = tokio::process::Command::new(program);
        command.args(["--log", "error"]).args(arguments).kill_on_drop(true);
        let shown = format!("longhaul {}", arguments.join(" "));
        let output = tokio::time::timeout(PATIENCE, command.output());
        let output = output.await.map_err(|_| DemoError::InVain {
            what: shown.clone(),
            seconds: PATIENCE.as_secs(),
            said: String::new(),
        })?;
        let output = output.map_err(unusable)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(DemoError::Disproved(format!("`{shown}` failed: {said}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Leaves files and logs when the demo ends, for somebody to look at.
    pub(super) fn keep_logs(&mut self) {
        self.logs_kept = true;
    }

    /// Leaves everything at work when the demo ends.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    fn ours(&self, cluster: &str) -> &topology::OurCluster {
        self.topology.clusters[cluster].ours().expect("both clusters are ours")
    }

    fn broker_spec(&self, cluster: &str) -> ChildSpec {
        children::broker(&self.topology, cluster, self.ours(cluster)).expect("a local folder has no secrets")
    }

    fn spawn(&mut self, spec: ChildSpec) -> Result<(), DemoError> {
        let running = Running::start(&spec, &self.state)?;
        self.running.insert(spec.name, running);
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        for running in self.running.values() {
            running.kill_now();
        }
        if self.logs_kept {
            return;
        }
        // What cannot be removed from the temporary folder is left to the system's own cleaning.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Ports that nobody listens on: two brokers, their admin addresses, the flow's.
fn free_ports() -> std::io::Result<[u16; 5]> {
    // All are held until all are known, so that no two are the same.
    let listeners: Vec<TcpListener> =
        (0..5).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; 5];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn file_text(folder: &Path, [west, west_admin, east, east_admin, flow_admin]: [u16; 5]) -> String {
    let path = |name: &str| OsString::from(folder.join(name)).to_string_lossy().into_owned();
    format!(
        r#"# Made by `longhaul demo`: two datacenters on one machine, and a flow between them.
[store.lake]
url = "file:{lake}"

[cluster.west]
datacenter = "dc-west"
listen = "127.0.0.1:{west}"
admin = "127.0.0.1:{west_admin}"
data = "{west_data}"
store = "lake"
auto_create_topics = true

[cluster.east]
datacenter = "dc-east"
listen = "127.0.0.1:{east}"
admin = "127.0.0.1:{east_admin}"
data = "{east_data}"
store = "lake"
auto_create_topics = true

[topic.{TOPIC}]
clusters = ["west"]
partitions = {PARTITIONS}
config = {{ "retention.ms" = "-1", "segment.bytes" = "1MiB", "local.retention.bytes" = "1" }}

[flow.{FLOW}]
from = "west"
to = "east"
topics = ["{TOPIC}"]
groups = ["*"]
admin = "127.0.0.1:{flow_admin}"
"#,
        lake = path("lake"),
        west_data = path("west"),
        east_data = path("east"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_demo_is_valid() {
        let text = file_text(Path::new("/tmp/longhaul-demo"), [1, 2, 3, 4, 5]);
        let topology = topology::parse(&text).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(topology.flows[FLOW].to, "east");
        assert_eq!(topology.topics[TOPIC].partitions, PARTITIONS);
    }
}
