//! `up`: runs our clusters and flows of a file as children and applies its topics, until it is stopped.
//!
//! Owns: the order (brokers, topics, flows; the other way round at the end).
//! Does not own: keeping a child running (`supervisor`), what changes (`plan`), how (`live`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use topology::Topology;

use crate::children::{self, SecretError, Wanted};
use crate::down::{self, SUPERVISOR};
use crate::plan::{self, Step};
use crate::signals::stop_token;
use crate::supervisor::{PidFile, PidFileError, StateFolder, Supervisor};
use crate::topology_file::{self, FileError};
use crate::{live, status};

/// How long brokers may take to serve before the topics wait no longer and say so.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a broker that does not serve yet is asked.
const READY_INTERVAL: Duration = Duration::from_millis(100);
/// How long brokers that serve may take to say what topics they have.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(20);

/// Why nothing is up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error("cannot use {} for pid files and logs: {source}", path.display())]
    State { path: PathBuf, source: std::io::Error },
    #[error("{name} (process {pid}) of {} runs already; stop it with `longhaul down {}`", file.display(), file.display())]
    Running { name: String, pid: u32, file: PathBuf },
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn up(file: &Path, datacenter: Option<&str>) -> Result<(), UpError> {
    let topology = topology_file::load(file)?;
    if let Some(datacenter) = datacenter {
        topology_file::check_datacenter(&topology, file, datacenter)?;
    }
    let stop = stop_token().map_err(UpError::Signals)?;
    let state = StateFolder::of(file);
    let pid_file = claim(&state, file)?;
    let mut supervisor = Supervisor::new(state.clone());
    tokio::select! {
        started = start(&mut supervisor, &topology, file, datacenter) => {
            started?;
            tracing::info!(logs = %state.path().display(), "all processes are started; Ctrl-C stops them in good order");
            stop.cancelled().await;
        }
        () = stop.cancelled() => {}
    }
    supervisor.stop().await;
    pid_file.remove();
    Ok(())
}

/// Makes sure that nothing of the file runs here yet, and says that it does from now on.
fn claim(state: &StateFolder, file: &Path) -> Result<PidFile, UpError> {
    let unusable = |source| UpError::State { path: state.path().to_owned(), source };
    state.create().map_err(unusable)?;
    if let Some((name, other)) = down::running(state).map_err(unusable)?.into_iter().next() {
        return Err(UpError::Running { name, pid: other.pid(), file: file.to_owned() });
    }
    Ok(PidFile::write(state.pid_file(SUPERVISOR), std::process::id())?)
}

async fn start(
    supervisor: &mut Supervisor,
    topology: &Topology,
    file: &Path,
    datacenter: Option<&str>,
) -> Result<(), UpError> {
    let wanted = Wanted::of(topology, datacenter);
    for (name, cluster) in &wanted.clusters {
        supervisor.keep(children::broker(topology, name, cluster)?);
    }
    for (name, cluster) in &wanted.clusters {
        await_broker(name, &cluster.admin.to_string()).await;
    }
    apply(topology, &wanted).await;
    for flow in wanted.flows {
        supervisor.keep(children::flow(file, flow));
    }
    Ok(())
}

/// Waits until a broker serves; gives up with a log line, because its keeper goes on trying.
async fn await_broker(name: &str, admin: &str) {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        match control::ask_status(admin).await {
            Ok(reply) if reply.broker.is_some() => return,
            Ok(_) if Instant::now() >= deadline => {
                tracing::error!(
                    cluster = name,
                    admin,
                    "what answers there is no broker: is its admin address another's?"
                );
                return;
            }
            Err(error) if Instant::now() >= deadline => {
                tracing::error!(cluster = name, %error, "the broker does not serve yet; its topics wait for the next up");
                return;
            }
            Ok(_) | Err(_) => {}
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
}

/// Applies the topics of the clusters that this process runs.
async fn apply(topology: &Topology, wanted: &Wanted<'_>) {
    for step in topic_steps(topology, wanted).await {
        match live::apply(topology, &step).await {
            Ok(()) => tracing::info!("{step}"),
            Err(error) => tracing::error!(%error, "cannot: {step}"),
        }
    }
}

/// What is to be done to the topics of the clusters that this process runs, once these say what they have.
async fn topic_steps(topology: &Topology, wanted: &Wanted<'_>) -> Vec<Step> {
    let deadline = Instant::now() + TOPICS_TIMEOUT;
    loop {
        let world = live::look(topology, &status::ask(topology).await).await;
        let mut steps = plan::decide(topology, &world);
        steps.retain(|step| {
            let cluster = step.changed_topic_of();
            cluster.is_some_and(|cluster| wanted.clusters.iter().any(|(name, _)| *name == cluster))
        });
        let compared = !steps.iter().any(|step| matches!(step, Step::EnsureTopic { .. }));
        if compared || Instant::now() >= deadline {
            return steps;
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
}
