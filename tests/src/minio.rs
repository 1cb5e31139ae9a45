//! MinIO as the real S3.
//!
//! Owns: its folder, credentials, start, kill and restart, and what other users may do.
//! Does not own: its buckets' contents; a bucket is made by `longhaul tier init`, or by [`Minio::make_bucket`] where a
//! test needs one that Longhaul has not touched.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use crate::deadline::Deadline;
use crate::process::{Process, run};
use crate::{installed, ports, ready};

/// How long a start may take on a loaded machine.
const START_SECONDS: u64 = 60;
/// How long a script may take that asks something of it.
const SCRIPT_SECONDS: u64 = 30;

/// The user of the server under test.
pub const ACCESS_KEY: &str = "longhaul-test";
/// That user's password.
pub const SECRET_KEY: &str = "longhaul-test-secret";
/// The region it claims to be.
pub const REGION: &str = "us-east-1";

/// A single-node MinIO.
pub struct Minio {
    folder: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

impl Minio {
    /// Starts a server on an empty folder.
    ///
    /// # Errors
    /// When it is not installed or does not come up in time, with the end of its log.
    pub fn start(folder: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder.join("data"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()));
        let mut minio = Self { folder, address, process: None };
        minio.launch()?;
        Ok(minio)
    }

    /// Base URL for S3 clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The usual AWS variables, for a process that should use this server.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// The variables of [`Minio::environment`] for other credentials.
    pub fn environment_of(&self, access_key: &str, secret_key: &str) -> Vec<(&'static str, String)> {
        let mut environment = self.environment();
        environment.retain(|(name, _)| !name.contains("KEY"));
        environment.push(("AWS_ACCESS_KEY_ID", access_key.to_owned()));
        environment.push(("AWS_SECRET_ACCESS_KEY", secret_key.to_owned()));
        environment
    }

    /// Says what a user may do from now on, as S3's actions; makes the user where it is not there.
    ///
    /// # Errors
    /// When the script fails, with what it printed.
    pub fn allow(&self, user: &str, password: &str, actions: &[&str]) -> anyhow::Result<()> {
        self.call("minio_rights.py", &[&[user, password], actions].concat())?;
        Ok(())
    }

    /// Runs a script of `tests/peers/python` as the user who may do everything; what it printed.
    ///
    /// # Errors
    /// When it fails, with what it printed.
    pub fn call(&self, script: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(installed::python()?);
        command.arg(installed::repository().join("tests/peers/python").join(script));
        command.args([&*self.endpoint(), REGION]).args(arguments).envs(self.environment());
        run(script, command, &[], Deadline::seconds(SCRIPT_SECONDS))?.success()
    }

    /// Makes an empty bucket behind the server's back: on one disk a bucket is a folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn make_bucket(&self, bucket: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.folder.join("data").join(bucket))?;
        Ok(())
    }

    /// The running process.
    ///
    /// # Panics
    /// After a kill without a restart.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server runs")
    }

    /// kill -9.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// Starts it again on the same address and data.
    ///
    /// # Errors
    /// When it does not come up in time.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill9()?;
        self.launch()
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(installed::minio()?);
        command
            .args(["server", "--quiet", "--address", &self.address.to_string()])
            .args(["--console-address", &format!("127.0.0.1:{}", ports::free_port())])
            .arg(self.folder.join("data"))
            .env("MINIO_ROOT_USER", ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
            .env("MINIO_REGION", REGION)
            .env("MINIO_UPDATE", "off");
        let process = Process::start("MinIO", command, &self.folder.join("minio.log"))?;
        let process = self.process.insert(process);
        Deadline::seconds(START_SECONDS).wait_for("MinIO to answer", || {
            process.ensure_running()?;
            Ok(ready::http_get(self.address, "/minio/health/ready")
                .is_ok_and(|answer| answer.0 == 200)
                .then_some(()))
        })
    }
}
