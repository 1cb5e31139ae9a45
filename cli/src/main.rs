//! The one binary: its verbs, and the supervisor that `up` and `demo` use.
//!
//! Owns: the command line, the processes that `up` runs, what people read. Does not own: what a room decides.

mod arguments;
mod broker_verb;
mod children;
mod clock;
mod demo;
mod down;
mod flow_subject;
mod live;
mod log_verb;
mod logging;
mod mirror_verb;
mod plan;
mod signals;
mod status;
mod supervisor;
mod tier;
mod topology_file;
mod up;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::arguments::{Arguments, Verb};

/// Given back to the system by the last thread that used it, and quick across threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longhaul: {}", complaint(&error));
            ExitCode::FAILURE
        }
    }
}

/// What a person is told of an error: its own text, which has its causes in it as far as they say more. That holds for the
/// errors of all rooms, because most are read in log lines and answers, where nobody walks along a chain.
fn complaint(error: &anyhow::Error) -> String {
    error.to_string()
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    logging::start(arguments.log_format, &arguments.log)?;
    allow_huge_pages();
    allow_files();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // A thread with nothing to do lets others run before it sleeps. On a machine that is busy, a client on it, or the kernel on behalf of
    // one, so gets to send what it has, and that is taken in one turn rather than in several, each with its own sleep and wake. On
    // one that is not, the call returns at once.
    runtime.on_thread_park(std::thread::yield_now);
    runtime.enable_all().build()?.block_on(call(arguments.verb))
}

/// The allocator, built not to use huge pages, has turned them off for the whole process: those who ask for them by name may have them.
fn allow_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(false) {
        tracing::debug!(%error, "huge pages stay turned off");
    }
}

/// What a process may open at once is bounded low as a rule, for those that still use `select`, and may be raised by whoever does not: every
/// client and every segment that is read is a file, and one that cannot be opened poisons a log.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, files = ?limit.current, "the limit of open files stays as it is");
    }
}

async fn call(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Broker(asked) => broker::serve(broker_verb::options(*asked), signals::stop_token()?).await?,
        Verb::Tier(verb) => {
            // What was found has been printed; the exit status says it too.
            anyhow::ensure!(tier::call(verb).await?, "the store has faults");
        }
        Verb::Log(verb) => log_verb::call(verb).await?,
        Verb::Mirror(verb) => mirror_verb::call(verb).await?,
        Verb::Up(up) => up::up(&up.file.file, up.datacenter.as_deref()).await?,
        Verb::Down(file) => down::down(&file.file).await?,
        Verb::Status(asked) => {
            let topology = topology_file::load(&asked.file.file)?;
            let complaints = status::status(&topology, asked.watch, asked.json).await?;
            anyhow::ensure!(complaints.is_empty(), complaints.join("; "));
        }
        Verb::Plan(asked) => {
            let topology = topology_file::load(&asked.file.file)?;
            let world = live::look(&topology, &status::ask(&topology).await).await;
            plan::show(&plan::decide(&topology, &world), asked.json)?;
        }
        Verb::Demo(asked) => demo::demo(asked.keep).await?,
    }
    Ok(())
}
