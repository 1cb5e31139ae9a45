//! Our own verbs as processes: `longhaul broker`, `longhaul mirror run`, and those that answer and end.
//!
//! Owns: their arguments, start, kill and restart. Does not own: the binary; `tests/run build` makes it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::deadline::Deadline;
use crate::process::{Output, Process, run};
use crate::{installed, ports, ready};

/// How long a start, recovery included, may take on a loaded machine.
const START_SECONDS: u64 = 30;
/// How long an orderly stop may take.
const STOP_SECONDS: u64 = 30;
/// How long a verb that answers and ends may take.
const VERB_SECONDS: u64 = 60;

/// How a broker is started; what is not set is the program's own default.
#[derive(Clone, Debug, Default)]
pub struct BrokerSettings {
    /// Arguments after those that the harness gives (`--data`, `--listen`, `--admin`).
    pub arguments: Vec<OsString>,
    /// Environment variables, such as those of `Minio::environment`.
    pub environment: Vec<(&'static str, String)>,
    /// A program with arguments that starts the broker in its own stead, such as that of `SmallDisk::within`.
    pub wrapper: Vec<OsString>,
}

impl BrokerSettings {
    /// These settings with one more argument.
    #[must_use]
    pub fn with(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

/// A `longhaul broker` process.
pub struct Broker {
    folder: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
    settings: BrokerSettings,
    process: Option<Process>,
}

impl Broker {
    /// Starts a broker with its data in `folder`.
    ///
    /// # Errors
    /// When it is not built or does not come up in time, with the end of its log.
    pub fn start(folder: PathBuf, settings: BrokerSettings) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()));
        let mut broker = Self { folder, address, admin, settings, process: None };
        broker.launch()?;
        Ok(broker)
    }

    /// `HOST:PORT` for clients.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Where control, metrics and health listen.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The settings that the next start uses.
    pub fn settings_mut(&mut self) -> &mut BrokerSettings {
        &mut self.settings
    }

    /// The running process.
    ///
    /// # Panics
    /// After a kill or a stop without a restart.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the broker runs")
    }

    /// kill -9.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// An orderly stop, which must end well.
    ///
    /// # Errors
    /// When it takes too long or ends with an error, with the end of its log.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            let status = process.stop(Deadline::seconds(STOP_SECONDS))?;
            anyhow::ensure!(status.success(), "the broker stopped with {status}:\n{}", process.log_tail());
        }
        Ok(())
    }

    /// Starts it again on the same addresses and data after a kill or a stop.
    ///
    /// # Errors
    /// When it does not come up in time, with the end of its log.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill9()?;
        self.launch()
    }

    /// Starts it and expects it to refuse: waits for its end and gives what it printed.
    ///
    /// # Errors
    /// When it comes up instead.
    pub fn refusal(&mut self) -> anyhow::Result<String> {
        self.kill9()?;
        let log = self.folder.join("refusal.log");
        let _ = std::fs::remove_file(&log);
        let mut process = Process::start("longhaul broker", self.command()?, &log)?;
        let status = process.wait(Deadline::seconds(START_SECONDS))?;
        anyhow::ensure!(!status.success(), "the broker ended well where it should have refused");
        Ok(process.log())
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut line = self.settings.wrapper.clone();
        line.push(installed::longhaul()?.into());
        let mut command = Command::new(&line[0]);
        command
            .args(&line[1..])
            .arg("broker")
            .arg("--data")
            .arg(self.data())
            .args(["--listen", &self.address.to_string(), "--admin", &self.admin.to_string()])
            .args(&self.settings.arguments)
            .envs(self.settings.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder);
        Ok(command)
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let command = self.command()?;
        let process = Process::start("longhaul broker", command, &self.folder.join("broker.log"))?;
        let process = self.process.insert(process);
        Deadline::seconds(START_SECONDS).wait_for("longhaul broker to answer", || {
            process.ensure_running()?;
            Ok(ready::speaks_kafka(self.address).then_some(()))
        })
    }
}

/// A long-running verb other than the broker, such as `mirror run FILE`.
pub struct Verb {
    arguments: Vec<OsString>,
    log: PathBuf,
    process: Process,
}

impl Verb {
    /// Starts `longhaul ARGUMENTS...`; `log` takes its output, over restarts.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn start(arguments: &[impl Into<OsString> + Clone], log: PathBuf) -> anyhow::Result<Self> {
        let arguments: Vec<OsString> = arguments.iter().cloned().map(Into::into).collect();
        let process = Self::launch(&arguments, &log)?;
        Ok(Self { arguments, log, process })
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// kill -9.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.kill9()
    }

    /// Starts it again with the same arguments.
    ///
    /// # Errors
    /// When the binary is gone.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill9()?;
        self.process = Self::launch(&self.arguments, &self.log)?;
        Ok(())
    }

    fn launch(arguments: &[OsString], log: &Path) -> anyhow::Result<Process> {
        let mut command = Command::new(installed::longhaul()?);
        command.args(arguments);
        let name: Vec<_> = arguments.iter().take(2).map(|argument| argument.to_string_lossy()).collect();
        Process::start(&format!("longhaul {}", name.join(" ")), command, log)
    }
}

/// Runs `longhaul ARGUMENTS...` to its end.
///
/// # Errors
/// When the binary is not built or the verb takes too long; a failed verb is an `Output`, not an error.
pub fn verb(arguments: &[impl AsRef<std::ffi::OsStr>]) -> anyhow::Result<Output> {
    verb_with(arguments, &[])
}

/// Runs `longhaul ARGUMENTS...` to its end with more environment variables, such as those of `Minio::environment`.
///
/// # Errors
/// As [`verb`].
pub fn verb_with(
    arguments: &[impl AsRef<std::ffi::OsStr>],
    environment: &[(&'static str, String)],
) -> anyhow::Result<Output> {
    let mut command = Command::new(installed::longhaul()?);
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    run("longhaul", command, &[], Deadline::seconds(VERB_SECONDS))
}
