//! Child processes that are kept running: started, restarted after a pause, stopped in order.
//!
//! Owns: the children of one `up` or `demo`, their logs and pid files.
//! Does not own: which children there are (`children`), or whether they serve (their admin addresses say that).
//!
//! A child that fails is started again, after a pause that doubles while it keeps failing. A child that ends in good
//! order was asked to, and stays down. A supervisor that dies leaves its children at work; their pid files let `down`
//! find them.

mod backoff;
mod pid_file;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
pub(crate) use self::pid_file::{PidFile, PidFileError};

/// How long a child may take to stop in good order before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a foreign process is looked at while its end is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What is run as a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChildSpec {
    /// Unique among the children; names its pid file and log.
    pub(crate) name: String,
    /// Arguments of this same binary.
    pub(crate) arguments: Vec<OsString>,
    /// Variables beside those of the supervisor.
    pub(crate) environment: Vec<(String, String)>,
}

/// Why a child cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("cannot write the log {}: {source}", path.display())]
    Log { path: PathBuf, source: std::io::Error },
    #[error("cannot start {name}: {source}")]
    Start { name: String, source: std::io::Error },
    #[error(transparent)]
    PidFile(#[from] PidFileError),
}

/// A folder for pid files and logs of one `up`.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder(PathBuf);

impl StateFolder {
    /// The folder that belongs to a topology file: `.longhaul/NAME` beside it.
    pub(crate) fn of(file: &Path) -> Self {
        let name = file.file_stem().unwrap_or(file.as_os_str());
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self(parent.join(".longhaul").join(name))
    }

    pub(crate) fn create(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.0)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn log(&self, child: &str) -> PathBuf {
        self.0.join(format!("{child}.log"))
    }

    pub(crate) fn pid_file(&self, child: &str) -> PathBuf {
        self.0.join(format!("{child}.pid"))
    }
}

/// One running child; dropping it leaves the process at work.
pub(crate) struct Running {
    child: Child,
    pid_file: PidFile,
}

impl Running {
    /// Starts a child in a process group of its own, so that a Ctrl-C reaches it only through its supervisor.
    pub(crate) fn start(spec: &ChildSpec, state: &StateFolder) -> Result<Self, SpawnError> {
        let log = state.log(&spec.name);
        let failed = |source| SpawnError::Log { path: log.clone(), source };
        let output = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let start = |source| SpawnError::Start { name: spec.name.clone(), source };
        let mut command = Command::new(std::env::current_exe().map_err(start)?);
        command.args(&spec.arguments).envs(spec.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().map_err(start)?;
        let pid = child.id().expect("a child that was not waited for has an id");
        let pid_file = PidFile::write(state.pid_file(&spec.name), pid)?;
        Ok(Self { child, pid_file })
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.pid_file.remove();
        Ok(status)
    }

    /// kill -9, and waits for the end.
    pub(crate) async fn kill(&mut self) -> std::io::Result<()> {
        self.signal(Signal::KILL);
        self.ended().await.map(|_| ())
    }

    /// Asks for a stop in good order; kills what has not stopped in time.
    pub(crate) async fn stop(&mut self) -> std::io::Result<()> {
        self.signal(Signal::TERM);
        match tokio::time::timeout(STOP_TIMEOUT, self.ended()).await {
            Ok(ended) => ended.map(|_| ()),
            Err(_) => self.kill().await,
        }
    }

    /// kill -9 without waiting for the end, for a supervisor that is ending itself.
    pub(crate) fn kill_now(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let group = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // A group that has just ended needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// Children in the order of their start.
pub(crate) struct Supervisor {
    state: StateFolder,
    kept: Vec<(String, CancellationToken, JoinHandle<()>)>,
}

impl Supervisor {
    pub(crate) fn new(state: StateFolder) -> Self {
        Self { state, kept: Vec::new() }
    }

    /// Keeps a child running from now on.
    pub(crate) fn keep(&mut self, spec: ChildSpec) {
        let stop = CancellationToken::new();
        let name = spec.name.clone();
        let task = tokio::spawn(keep(spec, self.state.clone(), stop.clone()));
        self.kept.push((name, stop, task));
    }

    /// Stops the children, the last started first, so that a flow stops before the clusters it copies between.
    pub(crate) async fn stop(mut self) {
        while let Some((name, stop, task)) = self.kept.pop() {
            stop.cancel();
            if let Err(error) = task.await {
                tracing::error!(child = %name, %error, "the keeper of a child failed");
            }
        }
    }
}

/// Starts a child again and again until told to stop, or until it ends in good order.
async fn keep(spec: ChildSpec, state: StateFolder, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        let started_at = Instant::now();
        match Running::start(&spec, &state) {
            Err(error) => tracing::error!(child = %spec.name, %error, "cannot start"),
            Ok(mut running) => {
                tracing::info!(child = %spec.name, pid = running.child.id(), "started");
                tokio::select! {
                    ended = running.ended() => if ended_well(&spec, &state, ended) { return },
                    () = stop.cancelled() => {
                        if let Err(error) = running.stop().await {
                            tracing::error!(child = %spec.name, %error, "cannot stop");
                        }
                        tracing::info!(child = %spec.name, "stopped");
                        return;
                    }
                }
            }
        }
        let pause = backoff.after_running(started_at.elapsed());
        tracing::info!(child = %spec.name, pause_ms = pause.as_millis(), "starting again after a pause");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Says how a child ended; true if it was in good order.
fn ended_well(spec: &ChildSpec, state: &StateFolder, ended: std::io::Result<ExitStatus>) -> bool {
    let log = state.log(&spec.name);
    match ended {
        Ok(status) if status.success() => {
            tracing::info!(child = %spec.name, "ended in good order and stays down");
            return true;
        }
        Ok(status) => {
            let said = last_line(&log).unwrap_or_default();
            tracing::error!(child = %spec.name, %status, log = %log.display(), said, "ended");
        }
        Err(error) => tracing::error!(child = %spec.name, %error, "cannot be waited for"),
    }
    false
}

/// The last line of a log that says something.
pub(crate) fn last_line(log: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    const LOOK_BYTES: u64 = 8 << 10;
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOOK_BYTES))).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end);
    end.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}

/// Stops a process that another supervisor started: in good order, and by force when that takes too long.
pub(crate) async fn stop_foreign(pid_file: &PidFile) {
    let Some(pid) = i32::try_from(pid_file.pid()).ok().and_then(Pid::from_raw) else { return };
    // A process that has just ended needs no signal.
    let _ = kill_process(pid, Signal::TERM);
    let deadline = Instant::now() + STOP_TIMEOUT;
    while pid_file.is_alive() {
        if Instant::now() >= deadline {
            let _ = kill_process(pid, Signal::KILL);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    pid_file.remove();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_stands_beside_the_file() {
        assert_eq!(StateFolder::of(Path::new("a/prod.toml")).path(), Path::new("a/.longhaul/prod"));
        assert_eq!(StateFolder::of(Path::new("prod.toml")).path(), Path::new("./.longhaul/prod"));
    }

    #[test]
    fn the_last_line_skips_blank_ones() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "first\nrefused: the bucket is in use\n\n").unwrap();
        assert_eq!(last_line(&log).as_deref(), Some("refused: the bucket is in use"));
    }
}
