//! What a server process costs: processor time by the kernel's own accounting, and memory.
//!
//! Owns: control groups (version 1 or 2) and reading them. Does not own: the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

/// The memory that a server under test may use, page cache included.
pub(crate) const MEMORY_LIMIT_BYTES: u64 = 3 << 30;

/// A control group that one server runs in; removed when dropped, after the server's end.
pub(crate) struct Group {
    memory: PathBuf,
    cpu: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Group {
    /// Makes a group and moves the process and all its threads into it.
    ///
    /// # Errors
    /// When the system does not let us; the caller then measures without, and says that its figures do not compare.
    pub(crate) fn around(name: &str, process: u32) -> anyhow::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("longhaul-benchmark-{}-{name}", std::process::id());
        let version = if root.join("memory").is_dir() { Version::One } else { Version::Two };
        let (memory, cpu) = match version {
            Version::One => (root.join("memory").join(&name), root.join("cpuacct").join(&name)),
            Version::Two => (root.join(&name), root.join(&name)),
        };
        let limit_file = if version == Version::One { "memory.limit_in_bytes" } else { "memory.max" };
        for folder in [&memory, &cpu] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make control group {}", folder.display()))?;
        }
        let group = Self { memory, cpu, version };
        fs::write(group.memory.join(limit_file), MEMORY_LIMIT_BYTES.to_string())
            .context("cannot limit its memory")?;
        for folder in [&group.memory, &group.cpu] {
            fs::write(folder.join("cgroup.procs"), process.to_string())
                .context("cannot move a process into it")?;
        }
        Ok(group)
    }

    /// Processor time, user and system, of everything in the group since it was made.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        match self.version {
            Version::One => {
                let nanoseconds = fs::read_to_string(self.cpu.join("cpuacct.usage"))?;
                Ok(Duration::from_nanos(nanoseconds.trim().parse()?))
            }
            Version::Two => {
                let text = fs::read_to_string(self.cpu.join("cpu.stat"))?;
                let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                Ok(Duration::from_micros(usage.context("cpu.stat has no usage_usec")?.parse()?))
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group goes only when its last process is gone; one that stays behind is empty and costs nothing.
        let _ = fs::remove_dir(&self.memory);
        let _ = fs::remove_dir(&self.cpu);
    }
}

/// Where a server's processor time is read: its group, or its process entry where no group could be made.
pub(crate) struct Meter {
    group: Option<Group>,
    process: u32,
}

impl Meter {
    /// Puts the process into a group where that is possible, and says loudly where it is not.
    pub(crate) fn on(name: &str, process: u32) -> Self {
        let group = Group::around(name, process);
        if let Err(error) = &group {
            eprintln!("NOT COMPARABLE: {name} runs without a memory control group: {error:#}");
        }
        Self { group: group.ok(), process }
    }

    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        match &self.group {
            Some(group) => group.processor_time(),
            None => process_time(self.process),
        }
    }
}

/// Processor time of a process with all its threads: fields 14 and 15 of `/proc/PID/stat`, in ticks of 10 ms.
pub(crate) fn process_time(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("no process name in its stat")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields.get(11).context("no user time")?.parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}
