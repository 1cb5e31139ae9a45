//! Apache Kafka as a peer: one node, broker and controller in one process.
//!
//! Owns: its settings, its data folder, its start, kill and restart.
//! Does not own: its tools (`clients::java`).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use crate::deadline::Deadline;
use crate::process::{Process, run};
use crate::{installed, ports, ready};

/// How long a start may take on a loaded machine.
const START_SECONDS: u64 = 90;
/// How long an orderly stop may take.
const STOP_SECONDS: u64 = 60;

/// A single-node Apache Kafka.
pub struct Kafka {
    folder: PathBuf,
    address: SocketAddr,
    java_options: Vec<String>,
    process: Option<Process>,
}

/// A small heap and a quick compiler, so that several nodes fit on a test machine.
const TEST_JAVA_OPTIONS: [&str; 4] = ["-Xmx512m", "-Xms256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

impl Kafka {
    /// Formats `folder` and starts a node there; `settings` are added to, or replace, those of a single node.
    ///
    /// # Errors
    /// When it is not installed or does not come up in time, with the end of its log.
    pub fn start(folder: PathBuf, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_with(folder, settings, &TEST_JAVA_OPTIONS)
    }

    /// As [`Kafka::start`], with options for the Java machine; none of them gives Java's own defaults.
    ///
    /// # Errors
    /// When it is not installed or does not come up in time, with the end of its log.
    pub fn start_with(
        folder: PathBuf,
        settings: &[(&str, &str)],
        java_options: &[&str],
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()));
        let java_options = java_options.iter().map(|option| (*option).to_owned()).collect();
        let mut kafka = Self { folder, address, java_options, process: None };
        kafka.write_settings(settings)?;
        kafka.format()?;
        kafka.launch()?;
        Ok(kafka)
    }

    /// `HOST:PORT` for clients.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// The folder of its partitions.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The running process.
    ///
    /// # Panics
    /// After a kill or a stop without a restart.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the node runs")
    }

    /// kill -9.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// An orderly stop.
    ///
    /// # Errors
    /// When it takes too long; it is then killed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Deadline::seconds(STOP_SECONDS))?;
        }
        Ok(())
    }

    /// Starts it again on the same address and data after a kill or a stop.
    ///
    /// # Errors
    /// When it does not come up in time.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill9()?;
        self.launch()
    }

    fn write_settings(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let controller = ports::free_port();
        let mut all: BTreeMap<String, String> = [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", "1".to_owned()),
            ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
            ("listeners", format!("PLAINTEXT://{},CONTROLLER://127.0.0.1:{controller}", self.address)),
            ("advertised.listeners", format!("PLAINTEXT://{}", self.address)),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("log.dirs", self.data().display().to_string()),
            ("offsets.topic.replication.factor", "1".to_owned()),
            ("offsets.topic.num.partitions", "4".to_owned()),
            ("transaction.state.log.replication.factor", "1".to_owned()),
            ("transaction.state.log.min.isr", "1".to_owned()),
            ("transaction.state.log.num.partitions", "4".to_owned()),
            ("share.coordinator.state.topic.replication.factor", "1".to_owned()),
            ("share.coordinator.state.topic.min.isr", "1".to_owned()),
            ("share.coordinator.state.topic.num.partitions", "1".to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
            ("auto.create.topics.enable", "false".to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let text: String = all.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        std::fs::write(self.settings_path(), text)?;
        std::fs::write(
            self.folder.join("log4j2.properties"),
            "rootLogger.level=INFO\nrootLogger.appenderRef.out.ref=out\nappender.out.type=Console\nappender.out.name=out\n\
             appender.out.layout.type=PatternLayout\nappender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n\n\
             logger.config.name=org.apache.kafka.common.config\nlogger.config.level=WARN\n",
        )?;
        Ok(())
    }

    fn settings_path(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn format(&self) -> anyhow::Result<()> {
        // Any 16 bytes do as a cluster id; the port makes two nodes of one test differ.
        let id = format!("longhaul-peer-{:08}", self.address.port());
        let mut command =
            self.java(&["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(str::to_owned))?;
        command.args(["kafka.tools.StorageTool", "format", "-t", &id, "-c"]).arg(self.settings_path());
        run("kafka format", command, &[], Deadline::seconds(START_SECONDS))?.success()?;
        Ok(())
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let mut command = self.java(&self.java_options)?;
        command.arg("kafka.Kafka").arg(self.settings_path());
        let process = Process::start("Apache Kafka", command, &self.folder.join("kafka.log"))?;
        let process = self.process.insert(process);
        Deadline::seconds(START_SECONDS).wait_for("Apache Kafka to answer", || {
            process.ensure_running()?;
            Ok(ready::speaks_kafka(self.address).then_some(()))
        })
    }

    fn java(&self, options: &[String]) -> anyhow::Result<Command> {
        let mut command = Command::new("java");
        command
            .args(options)
            .arg("-Djava.awt.headless=true")
            .arg(format!("-Dlog4j2.configurationFile={}", self.folder.join("log4j2.properties").display()))
            .arg("-cp")
            .arg(format!("{}/*", installed::kafka_libs()?.display()))
            .current_dir(&self.folder);
        Ok(command)
    }
}
