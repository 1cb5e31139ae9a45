//! What a flow's source holds: a script writes it, because much of it our own client has no words for.
//!
//! Owns: calling the script. Does not own: what it writes (`tests/peers/python/flow_source.py`).

use std::process::Command;

use crate::deadline::Deadline;
use crate::installed;
use crate::process::run;

/// The longest fill waits for Kafka's log cleaner.
const SCRIPT_SECONDS: u64 = 150;

/// What only Apache Kafka can hold.
pub const OF_KAFKA: [&str; 3] = ["transactions", "compaction", "stamped"];

/// Runs a verb of the script.
///
/// # Errors
/// When it fails, with what it printed.
pub fn call(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(installed::python()?);
    command.arg(installed::repository().join("tests/peers/python/flow_source.py")).args(arguments);
    run("flow_source.py", command, &[], Deadline::seconds(SCRIPT_SECONDS))?.success()
}

/// Partition, offset and value of a record that a group read.
pub type Read = (i32, i64, Option<String>);

/// Reads `events` as a group until `count` records were seen or no more come, commits and leaves.
///
/// # Errors
/// When the script fails.
pub fn read_as_group(bootstrap: &str, group: &str, count: usize, reset: &str) -> anyhow::Result<Vec<Read>> {
    let printed = call(&["read", bootstrap, group, &count.to_string(), reset])?;
    Ok(serde_json::from_str(&printed)?)
}
