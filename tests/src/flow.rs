//! A flow between two clusters that its file only names: its topology file, its process, what it says of itself.
//!
//! Owns: the file, and waiting until the flow has come somewhere. Does not own: the clusters, the comparison (`oracle`).

use std::path::{Path, PathBuf};

use anyhow::Context;
use client::offsets::Place;
use client::{Cluster, ClusterOptions, Isolation, TopicPartition};
use mirror::{FlowSpec, FlowStatus};
use serde_json::Value;

use crate::deadline::{Deadline, sleep};
use crate::longhaul::{Verb, verb};
use crate::ports::free_port;

/// How long a flow may take to come to where a test wants it.
const COME_THERE_SECONDS: u64 = 90;
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// A declared flow.
pub struct Flow {
    folder: PathBuf,
    file: PathBuf,
    name: String,
    /// The flow as the file declares it.
    pub spec: FlowSpec,
}

impl Flow {
    /// Writes a file that declares one flow between two running clusters; `lines` are added to the flow's section.
    ///
    /// # Errors
    /// When the file is not valid.
    pub fn declare(folder: &Path, name: &str, (from, to): (&str, &str), lines: &str) -> anyhow::Result<Self> {
        let admin = free_port();
        let text = format!(
            "[cluster.old]\ndatacenter = \"there\"\nbootstrap = [\"{from}\"]\n\n\
             [cluster.new]\ndatacenter = \"here\"\nbootstrap = [\"{to}\"]\n\n\
             [flow.{name}]\nfrom = \"old\"\nto = \"new\"\nadmin = \"127.0.0.1:{admin}\"\n{lines}\n"
        );
        let file = folder.join(format!("{name}.toml"));
        std::fs::write(&file, &text)?;
        let topology = topology::parse(&text).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
        let spec = FlowSpec::from_topology(&topology, name).context("the file declares the flow")?;
        Ok(Self { folder: folder.to_owned(), file, name: name.to_owned(), spec })
    }

    /// Starts `longhaul mirror run FILE`.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn run(&self) -> anyhow::Result<Verb> {
        let log = self.folder.join(format!("{}.log", self.name));
        Verb::start(&["mirror", "run", &self.file_name()], log)
    }

    /// As [`Flow::run`], for a second process: another admin address, another log.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn run_beside(&self) -> anyhow::Result<Verb> {
        let text = std::fs::read_to_string(&self.file)?;
        let other = |line: &str| match line.starts_with("admin") {
            true => format!("admin = \"127.0.0.1:{}\"", free_port()),
            false => line.to_owned(),
        };
        let text: Vec<_> = text.lines().map(other).collect();
        let file = self.folder.join(format!("{}-beside.toml", self.name));
        std::fs::write(&file, text.join("\n"))?;
        let log = self.folder.join(format!("{}-beside.log", self.name));
        Verb::start(&["mirror".to_owned(), "run".to_owned(), file.display().to_string()], log)
    }

    /// Runs `longhaul mirror VERB FILE FLOW ... --json` and gives its answer.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, name: &str, more: &[&str]) -> anyhow::Result<Value> {
        let file = self.file_name();
        let mut arguments = vec!["mirror", name, &file, &self.name];
        arguments.extend(more);
        arguments.push("--json");
        Ok(serde_json::from_str(&verb(&arguments)?.success()?)?)
    }

    /// Starts `longhaul mirror VERB FILE FLOW --json` without waiting for its end.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn start(&self, name: &str) -> anyhow::Result<Verb> {
        let log = self.folder.join(format!("{}-{name}.log", self.name));
        Verb::start(&["mirror", name, &self.file_name(), &self.name, "--json"], log)
    }

    /// What `longhaul status FILE --json` says of the flow.
    ///
    /// # Errors
    /// When it fails.
    pub fn shown(&self) -> anyhow::Result<Value> {
        // Its exit status says whether all is well, which it need not be.
        let answer = verb(&["status", &self.file_name(), "--json"])?;
        let all: Value = serde_json::from_str(&answer.stdout)
            .map_err(|error| anyhow::anyhow!("{error}: {} {}", answer.stdout, answer.stderr))?;
        Ok(all["flows"][&self.name].clone())
    }

    /// Waits until the target's account of the flow is what a test wants.
    ///
    /// # Errors
    /// When it does not come to pass; the last account is in the message.
    pub async fn wait_for(
        &self,
        what: &str,
        mut done: impl FnMut(&FlowStatus) -> bool,
    ) -> anyhow::Result<FlowStatus> {
        let deadline = Deadline::seconds(COME_THERE_SECONDS);
        loop {
            let status = mirror::status(&self.spec).await;
            if let Ok(status) = &status
                && done(status)
            {
                return Ok(status.clone());
            }
            anyhow::ensure!(
                !deadline.passed(),
                "{what} did not come to pass: {status:#?}\n{}",
                self.log_tail()
            );
            sleep(LOOK_EVERY);
        }
    }

    /// Waits until the flow has copied these partitions to the source's present end.
    ///
    /// # Errors
    /// When it does not, or stands at an event.
    pub async fn caught_up(&self, partitions: &[(&str, i32)]) -> anyhow::Result<FlowStatus> {
        let source = connect(&self.spec.from.bootstrap[0]).await?;
        let mut ends = Vec::new();
        for (topic, partition) in partitions {
            let asked = [(TopicPartition::new(*topic, *partition), Place::Latest)];
            let found = source.list_offsets(&asked, Isolation::ReadCommitted).await?;
            ends.push((*topic, *partition, found[0].offset.map_or(0, |offset| offset.0)));
        }
        let status = self.wait_for("the copy", |status| {
            !status.events.is_empty()
                || ends.iter().all(|(topic, partition, end)| {
                    status.partitions.iter().any(|known| {
                        known.topic == *topic
                            && known.partition == *partition
                            && known.source_position >= *end
                    })
                })
        });
        let status = status.await?;
        anyhow::ensure!(status.events.is_empty(), "the flow stands: {:?}", status.events);
        Ok(status)
    }

    fn file_name(&self) -> String {
        self.file.display().to_string()
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join(format!("{}.log", self.name))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Our own client, connected.
///
/// # Errors
/// When the cluster does not answer.
pub async fn connect(bootstrap: &str) -> anyhow::Result<Cluster> {
    let bootstrap = bootstrap.parse().map_err(|error| anyhow::anyhow!("{bootstrap}: {error}"))?;
    Ok(Cluster::connect(ClusterOptions::new(vec![bootstrap])).await?)
}
