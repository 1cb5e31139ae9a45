//! Apache Kafka's own command-line tools on the Java client.
//!
//! Owns: main classes and how they are started. Does not own: reading their answers.

use std::process::Command;

use crate::deadline::Deadline;
use crate::installed;
use crate::process::{Output, run};

/// How long one tool may take, the start of a Java machine on a loaded computer included.
const TOOL_SECONDS: u64 = 120;

/// A tool by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `kafka-topics`.
    Topics,
    /// `kafka-configs`.
    Configs,
    /// `kafka-consumer-groups`.
    Groups,
    /// `kafka-console-producer`.
    ConsoleProducer,
    /// `kafka-console-consumer`.
    ConsoleConsumer,
    /// `kafka-delete-records`.
    DeleteRecords,
    /// `kafka-get-offsets`.
    GetOffsets,
    /// `kafka-dump-log`.
    DumpLogSegments,
    /// `kafka-broker-api-versions`.
    ApiVersions,
    /// `kafka-transactions`.
    Transactions,
    /// `kafka-producer-perf-test`.
    ProducerPerformance,
    /// `kafka-consumer-perf-test`.
    ConsumerPerformance,
}

impl Tool {
    fn main_class(self) -> &'static str {
        match self {
            Self::Topics => "org.apache.kafka.tools.TopicCommand",
            Self::Configs => "kafka.admin.ConfigCommand",
            Self::Groups => "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            Self::ConsoleProducer => "org.apache.kafka.tools.ConsoleProducer",
            Self::ConsoleConsumer => "org.apache.kafka.tools.consumer.ConsoleConsumer",
            Self::DeleteRecords => "org.apache.kafka.tools.DeleteRecordsCommand",
            Self::GetOffsets => "org.apache.kafka.tools.GetOffsetShell",
            Self::DumpLogSegments => "org.apache.kafka.tools.DumpLogSegments",
            Self::ApiVersions => "org.apache.kafka.tools.BrokerApiVersionsCommand",
            Self::Transactions => "org.apache.kafka.tools.TransactionsCommand",
            Self::ProducerPerformance => "org.apache.kafka.tools.ProducerPerformance",
            Self::ConsumerPerformance => "org.apache.kafka.tools.ConsumerPerformance",
        }
    }
}

/// Runs a tool to its end.
///
/// # Errors
/// When it is not installed or takes too long; a tool that failed is an `Output`, not an error.
pub fn output(tool: Tool, arguments: &[&str], input: &[u8]) -> anyhow::Result<Output> {
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{}/*", installed::kafka_libs()?.display()))
        .arg(tool.main_class())
        .args(arguments);
    run(&format!("{tool:?}"), command, input, Deadline::seconds(TOOL_SECONDS))
}

/// The standard output of a tool that must succeed.
///
/// # Errors
/// Also when it fails, with all that it printed.
pub fn call(tool: Tool, arguments: &[&str], input: &[u8]) -> anyhow::Result<String> {
    output(tool, arguments, input)?.success()
}
