//! The one binary: its verbs, and the supervisor that `up` and `demo` use.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use topology::{Address, FlushMode};

/// Given back to the system by the last thread that used it, and quick across threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Kafka-protocol log for many datacenters.
#[derive(Debug, Parser)]
#[command(name = "longhaul", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run one broker
    Broker(BrokerArguments),
}

#[derive(Debug, clap::Args)]
struct BrokerArguments {
    /// Data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where clients connect
    #[arg(long, value_name = "HOST:PORT")]
    listen: Address,
    /// What clients are told to connect to, where that differs
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<Address>,
    /// Name of the cluster
    #[arg(long, value_name = "NAME", default_value = "longhaul")]
    cluster: String,
    /// When a record is acknowledged
    #[arg(long, value_name = "ack|os", default_value_t = FlushMode::Ack)]
    flush: FlushMode,
    /// Folder of the journal
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Where control, metrics and health listen
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<Address>,
    /// Where sealed segments go: file:DIR or s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Make topics when a client first names them
    #[arg(long)]
    dev: bool,
    /// Listen where other machines can connect
    #[arg(long)]
    insecure_listen: bool,
    /// Start although the log is damaged
    #[arg(long)]
    accept_loss: bool,
}

fn main() -> ExitCode {
    let Arguments { verb: Verb::Broker(arguments) } = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longhaul: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: BrokerArguments) -> anyhow::Result<()> {
    let filter = std::env::var("LONGHAUL_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options = broker::BrokerOptions {
        data: arguments.data,
        listen: arguments.listen,
        advertise: arguments.advertise,
        cluster: arguments.cluster,
        flush: arguments.flush,
        journal: arguments.journal,
        admin: arguments.admin,
        store: arguments.store.map(|url| url.parse()).transpose()?,
        dev: arguments.dev,
        insecure_listen: arguments.insecure_listen,
        accept_loss: arguments.accept_loss,
    };
    runtime.block_on(async {
        let stop = tokio_util::sync::CancellationToken::new();
        let signalled = stop.clone();
        tokio::spawn(async move {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                result = tokio::signal::ctrl_c() => result?,
                _ = terminate.recv() => {}
            }
            signalled.cancel();
            Ok::<_, std::io::Error>(())
        });
        broker::serve(options, stop).await
    })?;
    Ok(())
}
