//! kcat, the command-line client on librdkafka.
//!
//! Owns: how it is started. Does not own: reading its answers.

use std::process::Command;

use crate::deadline::Deadline;
use crate::installed;
use crate::process::run;

/// How long one call may take.
const CALL_SECONDS: u64 = 60;

/// The standard output of `kcat -b BOOTSTRAP ARGUMENTS...`, which must succeed.
///
/// # Errors
/// When it is not installed, takes too long or fails, with all that it printed.
pub fn call(bootstrap: &str, arguments: &[&str], input: &[u8]) -> anyhow::Result<String> {
    let mut command = Command::new(installed::kcat());
    command.args(["-b", bootstrap]).args(arguments);
    run("kcat", command, input, Deadline::seconds(CALL_SECONDS))?.success()
}
