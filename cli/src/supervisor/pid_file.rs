//! Pid files that cannot name a stranger: a process id with the moment its process started.
//!
//! Owns: the file's two numbers and the check against the running system.
//! Does not own: who is started or stopped.

use std::path::{Path, PathBuf};

/// Why a pid file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    #[error("cannot write the pid file {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot read the pid file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the pid file {} holds no process; remove it if nothing of it runs", path.display())]
    Malformed { path: PathBuf },
}

/// A process that was started, maybe by another process.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    pid: u32,
    /// The kernel's start time of the process, in clock ticks since boot; a later process of the same id has another.
    start_ticks: u64,
}

impl PidFile {
    /// Records a process that runs now.
    pub(crate) fn write(path: PathBuf, pid: u32) -> Result<Self, PidFileError> {
        // A process that ended at once has no start time, and 0 is never alive.
        let start_ticks = start_ticks(pid).unwrap_or(0);
        std::fs::write(&path, format!("{pid} {start_ticks}\n"))
            .map_err(|source| PidFileError::Write { path: path.clone(), source })?;
        Ok(Self { path, pid, start_ticks })
    }

    /// Reads a file that an earlier process wrote, if there is one.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, PidFileError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PidFileError::Read { path: path.to_owned(), source }),
        };
        let mut numbers = text.split_whitespace();
        let pid = numbers.next().and_then(|number| number.parse().ok());
        let start_ticks = numbers.next().and_then(|number| number.parse().ok());
        match (pid, start_ticks) {
            (Some(pid), Some(start_ticks)) => Ok(Some(Self { path: path.to_owned(), pid, start_ticks })),
            _ => Err(PidFileError::Malformed { path: path.to_owned() }),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether that very process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Removes the file; one that is gone already is fine.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The start time of a process that runs and is no zombie, from the kernel's `/proc/PID/stat` (proc_pid_stat(5)).
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may itself hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    // Start time is field 22; the state is field 3.
    let ticks = fields.nth(22 - 3 - 1)?.parse().ok()?;
    (state != "Z").then_some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_is_alive_and_an_ended_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.pid");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        PidFile::write(path.clone(), child.id()).unwrap();
        let read = PidFile::read(&path).unwrap().expect("it was written");
        assert!(read.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!read.is_alive());
    }

    #[test]
    fn a_process_of_the_same_id_that_started_later_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.pid");
        let own = std::process::id();
        let ticks = start_ticks(own).unwrap();
        std::fs::write(&path, format!("{own} {}\n", ticks - 1)).unwrap();
        assert!(!PidFile::read(&path).unwrap().unwrap().is_alive());
    }

    #[test]
    fn an_unreadable_file_is_named_and_a_missing_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.pid");
        assert!(PidFile::read(&path).unwrap().is_none());
        std::fs::write(&path, "nonsense").unwrap();
        assert!(PidFile::read(&path).unwrap_err().to_string().contains("p.pid"));
    }
}
