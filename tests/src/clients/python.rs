//! The three Python clients behind one contract: a script each in `tests/peers/python`, JSON lines in and out.
//!
//! Owns: starting them and reading their answers. Does not own: the scripts.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::deadline::Deadline;
use crate::flights::Record;
use crate::installed;
use crate::process::{Process, run};

/// How long one call may take.
const CALL_SECONDS: u64 = 120;

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Python {
    /// confluent-kafka, on librdkafka.
    Confluent,
    /// kafka-python.
    KafkaPython,
    /// aiokafka.
    Aiokafka,
}

/// An acknowledged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acknowledged {
    /// The record's place in what was handed over, from 0.
    pub sequence: usize,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// A record as a consumer gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Record time in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key as text.
    pub key: Option<String>,
    /// Value as text.
    pub value: Option<String>,
}

impl Python {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Confluent, Self::KafkaPython, Self::Aiokafka];

    fn script(self) -> &'static str {
        match self {
            Self::Confluent => "confluent_client.py",
            Self::KafkaPython => "kafka_python_client.py",
            Self::Aiokafka => "aiokafka_client.py",
        }
    }

    /// The command that runs a script's verb.
    ///
    /// # Errors
    /// When Python is not installed.
    pub fn command(self, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<Command> {
        let mut command = Command::new(installed::python()?);
        command.arg(installed::repository().join("tests/peers/python").join(self.script())).args(arguments);
        Ok(command)
    }

    /// Starts a long-running verb, its output in `log`.
    ///
    /// # Errors
    /// When Python is not installed.
    pub fn start(self, arguments: &[&str], log: &std::path::Path) -> anyhow::Result<Process> {
        Process::start(self.script(), self.command(arguments)?, log)
    }

    /// Runs a verb to its end and gives its lines.
    ///
    /// # Errors
    /// When it fails or takes too long, with what it printed.
    pub fn call(self, arguments: &[&str], input: &[u8]) -> anyhow::Result<Vec<Value>> {
        let output = run(self.script(), self.command(arguments)?, input, Deadline::seconds(CALL_SECONDS))?;
        let printed = output.success().with_context(|| format!("{} {arguments:?}", self.script()))?;
        printed.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Writes records and waits for every acknowledgement; `options` are the script's, such as `--codec zstd`.
    ///
    /// # Errors
    /// When a record is not acknowledged.
    pub fn produce(
        self,
        bootstrap: &str,
        topic: &str,
        records: &[Record],
        options: &[&str],
    ) -> anyhow::Result<Vec<Acknowledged>> {
        let input: String = records.iter().map(|record| record.to_line() + "\n").collect();
        let mut arguments = vec!["produce", "--bootstrap", bootstrap, "--topic", topic];
        arguments.extend(options);
        let lines = self.call(&arguments, input.as_bytes())?;
        anyhow::ensure!(
            lines.len() == records.len(),
            "{} of {} records acknowledged",
            lines.len(),
            records.len()
        );
        lines.iter().map(acknowledged).collect()
    }

    /// Reads every partition of a topic from its first offset to the end that it had at the start.
    ///
    /// # Errors
    /// When the client fails.
    pub fn consume_all(self, bootstrap: &str, topic: &str) -> anyhow::Result<Vec<Consumed>> {
        let lines = self.call(&["consume", "--bootstrap", bootstrap, "--topic", topic], &[])?;
        lines.iter().map(consumed).collect()
    }

    /// Joins a group, reads `count` records, commits after each poll and leaves.
    ///
    /// # Errors
    /// When fewer arrive in time.
    pub fn consume_as_group(
        self,
        bootstrap: &str,
        topic: &str,
        group: &str,
        count: usize,
    ) -> anyhow::Result<Vec<Consumed>> {
        let count = count.to_string();
        let arguments =
            ["group", "--bootstrap", bootstrap, "--topic", topic, "--group", group, "--count", &count];
        self.call(&arguments, &[])?.iter().map(consumed).collect()
    }

    /// Makes a topic; settings as `key=value`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create_topic(
        self,
        bootstrap: &str,
        topic: &str,
        partitions: u32,
        settings: &[&str],
    ) -> anyhow::Result<()> {
        let partitions = partitions.to_string();
        let mut arguments =
            vec!["create-topic", "--bootstrap", bootstrap, "--topic", topic, "--partitions", &partitions];
        for setting in settings {
            arguments.extend(["--config", setting]);
        }
        self.call(&arguments, &[])?;
        Ok(())
    }
}

/// Reads a line of `produce`.
///
/// # Errors
/// When it is not one.
pub fn acknowledged(line: &Value) -> anyhow::Result<Acknowledged> {
    Ok(Acknowledged {
        sequence: usize::try_from(integer(line, "sequence")?)?,
        partition: i32::try_from(integer(line, "partition")?)?,
        offset: integer(line, "offset")?,
    })
}

/// Reads a line of `consume` or `group`.
///
/// # Errors
/// When it is not one.
pub fn consumed(line: &Value) -> anyhow::Result<Consumed> {
    let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Consumed {
        partition: i32::try_from(integer(line, "partition")?)?,
        offset: integer(line, "offset")?,
        timestamp_ms: integer(line, "timestamp")?,
        key: text("key"),
        value: text("value"),
    })
}

fn integer(line: &Value, name: &str) -> anyhow::Result<i64> {
    line.get(name).and_then(Value::as_i64).with_context(|| format!("no {name} in {line}"))
}
