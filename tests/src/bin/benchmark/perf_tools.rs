//! Kafka's own load tools, which drive every side alike.
//!
//! Owns: their arguments and reading their last line. Does not own: what is loaded.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use tests::deadline::Deadline;
use tests::flights;
use tests::installed;
use tests::process::run;

/// How long one run of a tool may take.
const TOOL_SECONDS: u64 = 900;

/// Payload of each record.
pub(crate) const RECORD_BYTES: u64 = 1024;

/// How the producer batches and paces.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) records: u64,
    /// Records per second; none means as fast as it goes.
    pub(crate) pace: Option<u64>,
    /// Largest batch in bytes, with a linger of 5 ms; none means the client's own default (16 KiB).
    pub(crate) batch_bytes: Option<u32>,
}

/// What the producer reports at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Produced {
    pub(crate) megabytes_per_second: f64,
    pub(crate) p99_ms: f64,
}

pub(crate) fn produce(bootstrap: &str, topic: &str, load: Load) -> anyhow::Result<Produced> {
    let records = load.records.to_string();
    let size = RECORD_BYTES.to_string();
    let pace = load.pace.map_or_else(|| "-1".to_owned(), |pace| pace.to_string());
    let servers = format!("bootstrap.servers={bootstrap}");
    let mut arguments = vec!["--topic", topic, "--num-records", &records, "--record-size", &size];
    arguments.extend(["--throughput", &pace, "--producer-props", &servers, "acks=all"]);
    let batch = load.batch_bytes.map(|bytes| format!("batch.size={bytes}"));
    if let Some(batch) = &batch {
        arguments.extend([batch.as_str(), "linger.ms=5"]);
    }
    let output = java("org.apache.kafka.tools.ProducerPerformance", &arguments)?;
    let last = output.lines().rev().find(|line| line.contains("99th")).context("no summary line")?;
    let rate = last.split_once('(').and_then(|(_, rest)| rest.split_once(" MB/sec")).context("no rate")?;
    let p99 =
        last.split(", ").find_map(|part| part.strip_suffix(" ms 99th")).context("no 99th percentile")?;
    Ok(Produced { megabytes_per_second: rate.0.parse::<f64>()? * 1.048_576, p99_ms: p99.parse()? })
}

/// Records that look like somebody's: flights as JSON, three to a record.
pub(crate) struct Payloads {
    file: PathBuf,
    pub(crate) mean_bytes: f64,
}

/// How many different records there are; the tool picks among them.
const PAYLOADS: usize = 20_000;
const FLIGHTS_PER_PAYLOAD: usize = 3;

impl Payloads {
    /// Writes the file that the load tool reads, one record a line.
    pub(crate) fn flights(file: &Path) -> anyhow::Result<Self> {
        let flights = flights::records(PAYLOADS * FLIGHTS_PER_PAYLOAD)?;
        let mut text = String::new();
        for some in flights.chunks(FLIGHTS_PER_PAYLOAD) {
            let values: Vec<&str> = some.iter().map(|flight| flight.value.as_str()).collect();
            text.push_str(&format!("[{}]\n", values.join(",")));
        }
        let mean_bytes = (text.len() - PAYLOADS) as f64 / PAYLOADS as f64;
        std::fs::write(file, text)?;
        Ok(Self { file: file.to_owned(), mean_bytes })
    }
}

/// Writes `records` records picked from `payloads`, compressed by lz4 in batches of up to 64 KiB.
pub(crate) fn produce_payloads(
    bootstrap: &str,
    topic: &str,
    records: u64,
    payloads: &Payloads,
) -> anyhow::Result<()> {
    let (records, file) = (records.to_string(), payloads.file.display().to_string());
    let servers = format!("bootstrap.servers={bootstrap}");
    let mut arguments = vec!["--topic", topic, "--num-records", &records, "--payload-file", &file];
    arguments.extend(["--throughput", "-1", "--producer-props", &servers, "acks=all", "linger.ms=20"]);
    arguments.extend(["compression.type=lz4", "batch.size=65536"]);
    java("org.apache.kafka.tools.ProducerPerformance", &arguments)?;
    Ok(())
}

/// Reads `records` records from the topic's first offset on and gives MB per second.
pub(crate) fn consume(bootstrap: &str, topic: &str, records: u64) -> anyhow::Result<f64> {
    let records = records.to_string();
    let arguments = [
        "--bootstrap-server",
        bootstrap,
        "--topic",
        topic,
        "--num-records",
        &records,
        "--reporting-interval",
        "1000000",
        "--timeout",
        "60000",
    ];
    let output = java("org.apache.kafka.tools.ConsumerPerformance", &arguments)?;
    let last = output.lines().rfind(|line| line.starts_with("20")).context("no summary line")?;
    let rate = last.split(", ").nth(3).context("no MB/sec column")?;
    Ok(rate.trim().parse::<f64>()? * 1.048_576)
}

/// Runs a tool as its shipped script would: the full compiler and 512 MiB of heap.
fn java(main_class: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-cp"]).arg(format!("{}/*", installed::kafka_libs()?.display()));
    command.arg(main_class).args(arguments);
    run(main_class, command, &[], Deadline::seconds(TOOL_SECONDS))?.success()
}
