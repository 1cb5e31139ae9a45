//! A disk that is soon full: a file system in memory with a size, in a mount namespace that needs no rights.
//!
//! Owns: the namespace, for as long as the value lives, over any number of starts of what runs in it.
//! Does not own: what runs in it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::deadline::Deadline;
use crate::process::Process;

/// How long making it may take.
const START_SECONDS: u64 = 10;

/// A small file system at a folder, seen only by what is started within.
pub struct SmallDisk {
    holder: Process,
}

impl SmallDisk {
    /// Mounts `bytes` of disk at `folder`, which is made where it is missing; `log` takes what goes wrong.
    ///
    /// # Errors
    /// When the kernel lets this user make no namespaces (`user.max_user_namespaces`), with what it said.
    pub fn mount(folder: &Path, bytes: u64, log: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg("mount -t tmpfs -o size=\"$1\" tmpfs \"$2\" && echo mounted && exec sleep infinity");
        command.args(["sh", &bytes.to_string()]).arg(folder);
        let mut holder = Process::start("a small disk", command, log)?;
        Deadline::seconds(START_SECONDS).wait_for("the small disk", || {
            holder.ensure_running()?;
            Ok(holder.log().contains("mounted").then_some(()))
        })?;
        Ok(Self { holder })
    }

    /// What starts another program where the disk is seen.
    pub fn within(&self) -> Vec<OsString> {
        let holder = self.holder.id().to_string();
        let words = ["nsenter", "--target", &holder, "--user", "--mount", "--preserve-credentials", "--"];
        words.map(OsString::from).to_vec()
    }
}
