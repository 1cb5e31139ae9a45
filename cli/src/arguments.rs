//! The command line.
//!
//! Owns: verbs, options and their help. Does not own: what a verb does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tiering::store::StoreUrl;
use topology::{Address, FlushMode};

/// A Kafka-protocol log for many datacenters: brokers, tiering to object storage, and flows between clusters.
#[derive(Debug, Parser)]
#[command(name = "longhaul", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// How log lines are written to standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "LONGHAUL_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Which log lines: error, warn, info, debug, or per room such as `info,hotlog=debug`
    #[arg(long, global = true, default_value = "info", env = "LONGHAUL_LOG")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run one broker
    Broker(Box<BrokerArguments>),
    /// Look after a store of sealed segments
    #[command(subcommand)]
    Tier(TierVerb),
    /// Look after the log of a broker that runs
    #[command(subcommand)]
    Log(LogVerb),
    /// Run flows between clusters, translate offsets, fail over
    #[command(subcommand)]
    Mirror(MirrorVerb),
    /// Say what `up` would change, and touch nothing
    Plan(PlanArguments),
    /// Run our clusters and flows of a topology file and apply its topics, until stopped
    Up(UpArguments),
    /// Stop what `up` runs, in good order
    Down(FileArguments),
    /// Show clusters, flows, lag, and what only local disk holds
    ///
    /// Exits with 0 if all is well. Exits with 1 if something needs somebody: a cluster or a flow does not answer, an alarm
    /// is on, or an event pauses a flow; a line on standard error says which. A promoted flow is as it was asked to be.
    Status(StatusArguments),
    /// Show the whole story in half a minute: two datacenters, real data, kills at bad moments
    Demo(DemoArguments),
}

#[derive(Debug, Args)]
pub(crate) struct BrokerArguments {
    /// Data folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Where clients connect
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Address,
    /// What clients are told to connect to, where that differs
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<Address>,
    /// Name of the cluster, kept by the first start, which also makes its id; later starts must say the same
    #[arg(long, value_name = "NAME", default_value = "longhaul")]
    pub(crate) cluster: String,
    /// When a record is acknowledged: `ack` once it is on disk, `os` once the kernel has it
    #[arg(long, value_name = "ack|os", default_value_t = FlushMode::Ack)]
    pub(crate) flush: FlushMode,
    /// Folder of the journal, for a device of its own
    #[arg(long, value_name = "DIR")]
    pub(crate) journal: Option<PathBuf>,
    /// Where control, metrics and health listen
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Option<Address>,
    /// Where sealed segments go: file:DIR or s3://BUCKET/PREFIX (endpoint, region and keys by the AWS_ variables)
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<StoreUrl>,
    /// For trying out: a topic is made when a client first names it, and a new group does not wait for more members
    #[arg(long)]
    pub(crate) dev: bool,
    /// Listen where other machines can connect (clients, and --admin), although nothing is encrypted or authenticated yet
    #[arg(long)]
    pub(crate) insecure_listen: bool,
    /// Start although the log is damaged, giving up what the refusal named
    #[arg(long)]
    pub(crate) accept_loss: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TierVerb {
    /// Make the bucket where it is missing, and check rights, conditional PUT and lifecycle rules
    Init(StoreArguments),
    /// Show clusters, topics, partitions and objects
    Inspect(StoreArguments),
    /// Read every object and check it against its manifest
    Verify(StoreArguments),
    /// Bring a cluster whose data folder is lost back from its store alone
    Recover(RecoverArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogVerb {
    /// Write all that was acknowledged into the segment files, for tools that read them; a broker that stops does so too
    Flush(FlushArguments),
}

#[derive(Debug, Args)]
pub(crate) struct FlushArguments {
    /// Where the broker's control listens; `longhaul status --json` names it
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Address,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArguments {
    /// Data folder to write: empty, or not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Folder of the journal, for a device of its own
    #[arg(long, value_name = "DIR")]
    pub(crate) journal: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    /// The store: file:DIR or s3://BUCKET/PREFIX (endpoint, region and keys by the AWS_ variables)
    #[arg(long, value_name = "URL")]
    pub(crate) store: StoreUrl,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MirrorVerb {
    /// Run the flows of a topology file
    Run(MirrorRunArguments),
    /// Say where a source offset is on the target
    ///
    /// exact N: the same place, nothing is read twice or skipped. ahead N: not copied yet, and the copies end at N. before N: N is
    /// where the map begins, and the offset lies below; or, where the target has records of its own that were not read at the
    /// source, N is the first of them, and nothing is skipped from there on. foreign N, with --reverse: the target's record is no
    /// copy, and N follows the last copied one before it.
    Translate(TranslateArguments),
    /// Promote the target: stop the flow until it is redeclared, and say what a group may read again
    Failover(FlowArguments),
    /// Lift a promotion: the flow copies again from where it stood
    Redeclare(FlowArguments),
}

#[derive(Debug, Args)]
pub(crate) struct MirrorRunArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// Only this flow; may be given several times
    #[arg(long = "flow", value_name = "NAME")]
    pub(crate) flows: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TranslateArguments {
    #[command(flatten)]
    pub(crate) flow: FlowArguments,
    /// Topic, by its name on the source
    pub(crate) topic: String,
    /// Partition
    pub(crate) partition: i32,
    /// Offset on the source; on the target with --reverse
    pub(crate) offset: i64,
    /// Translate from the target to the source
    #[arg(long)]
    pub(crate) reverse: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FlowArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// The flow's name in the file
    pub(crate) flow: String,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FileArguments {
    /// Topology file
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// Only the clusters and flows of this datacenter
    #[arg(long, value_name = "NAME")]
    pub(crate) datacenter: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// Show it again every two seconds
    #[arg(long)]
    pub(crate) watch: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Leave everything running at the end and print its addresses
    #[arg(long)]
    pub(crate) keep: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_script_finds_out_what_the_exit_status_says() {
        let command = Arguments::command();
        let status = command.find_subcommand("status").expect("the verb");
        let help = status.get_long_about().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Exits with 1 if"), "{help}");
    }

    #[test]
    fn a_bad_store_names_the_forms() {
        let line = ["longhaul", "broker", "--data", "d", "--listen", "127.0.0.1:1", "--store", "ftp://x"];
        let message = Arguments::try_parse_from(line).expect_err("ftp is no store").to_string();
        assert!(message.contains("s3://BUCKET/PREFIX"), "{message}");
    }

    #[test]
    fn a_broker_needs_data_and_listen() {
        let parsed = Arguments::try_parse_from(["longhaul", "broker", "--data", "d"]);
        assert!(parsed.expect_err("no --listen").to_string().contains("--listen <HOST:PORT>"));
    }
}
