//! One server process: its own process group, its output in a file, killed with all its children when dropped.
//!
//! Owns: the child and its log. Does not own: what "ready" means (`ready`), or how a server is configured.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::deadline::Deadline;

/// Log lines shown when a test fails.
const SHOWN_LOG_LINES: usize = 60;

/// A running (or finished) child in a process group of its own.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs appended to the file `log`.
    ///
    /// # Errors
    /// When the program cannot be started; the message names it.
    pub fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt;

        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let program = command.get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name}: cannot start {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The process id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds its output.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything it has printed so far, over all starts with the same log.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n")
    }

    /// Fails, with the end of the log, when the process is no longer running.
    ///
    /// # Errors
    /// When it has ended.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended with {status}:\n{}", self.name, self.log_tail()),
        }
    }

    /// kill -9 of the process and its children; returns once it is gone.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL);
        self.child.wait()?;
        Ok(())
    }

    /// Asks for an orderly stop and waits for the end.
    ///
    /// # Errors
    /// When it still runs at the deadline; it is then killed.
    pub fn stop(&mut self, deadline: Deadline) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait(deadline)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it still runs at the deadline; it is then killed.
    pub fn wait(&mut self, deadline: Deadline) -> anyhow::Result<ExitStatus> {
        let waited = deadline.wait_for(&format!("the end of {}", self.name), || Ok(self.child.try_wait()?));
        if waited.is_err() {
            self.kill9()?;
        }
        waited.with_context(|| self.log_tail())
    }

    /// Freezes or thaws the process and its children.
    pub fn freeze(&self, frozen: bool) {
        self.signal(if frozen { Signal::STOP } else { Signal::CONT });
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A group that is already gone needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- end of the log of {} ({}) ----\n{}",
                self.name,
                self.log.display(),
                self.log_tail()
            );
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// What a finished command printed.
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Output {
    /// The standard output of a command that must have succeeded.
    ///
    /// # Errors
    /// When it ended otherwise, with all that it printed.
    pub fn success(self) -> anyhow::Result<String> {
        anyhow::ensure!(
            self.status.success(),
            "ended with {}\n{}\n{}",
            self.status,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        );
        Ok(self.stdout)
    }
}

/// Runs a command to its end with `input` on its standard input, killing its whole group at the deadline.
///
/// # Errors
/// When it cannot be started or still runs at the deadline.
pub fn run(name: &str, mut command: Command, input: &[u8], deadline: Deadline) -> anyhow::Result<Output> {
    // Files rather than pipes: no reader threads, and nothing blocks however much is printed.
    let folder = tempfile::tempdir()?;
    let (input_path, stdout, stderr) =
        (folder.path().join("in"), folder.path().join("out"), folder.path().join("err"));
    std::fs::write(&input_path, input)?;
    use std::os::unix::process::CommandExt;
    let program = command.get_program().to_owned();
    let child = command
        .stdin(File::open(&input_path)?)
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&stderr)?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("{name}: cannot start {}", program.display()))?;
    let mut process = Process { name: name.to_owned(), child, log: stderr.clone() };
    let status = process.wait(deadline)?;
    let text = |path: &Path| -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
    };
    Ok(Output { stdout: text(&stdout)?, stderr: text(&stderr)?, status })
}
