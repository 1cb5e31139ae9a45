//! What a mirror costs: MB of records per second and core of the mirror process, against MirrorMaker 2, both between
//! two real Kafkas and over lz4 data.
//!
//! Owns: the sides, the data, when measuring begins and ends, the marks. Does not own: the load tools (`perf_tools`).
//!
//! Start-up is left out: the clock and the processor time run from the moment when the target holds a tenth of the
//! records until it holds them all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use tests::clients::java::{Tool, call};
use tests::clients::kcat;
use tests::deadline::{Deadline, sleep};
use tests::installed;
use tests::kafka::Kafka;
use tests::longhaul::Verb;
use tests::process::Process;
use tests::scratch::Scratch;

use crate::Options;
use crate::cost::process_time;
use crate::perf_tools::{Payloads, produce_payloads};
use crate::table::{Mark, Row, Table, median};

const TOPIC: &str = "bench";
const PARTITIONS: i32 = 6;
/// About 2 GB of records of about 1 KB: three flights each, as JSON.
const RECORDS: u64 = 2_000_000;
/// How long one copy of everything may take.
const COPY_SECONDS: u64 = 300;
/// How often the target is asked how far it is.
const POLL: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// MirrorMaker 2 with its defaults.
    MirrorMaker,
    /// MirrorMaker 2 with lz4 and large batches, the fair peer.
    MirrorMakerTuned,
    /// `longhaul mirror run` with its defaults.
    Longhaul,
}

const SIDES: [Side; 3] = [Side::MirrorMaker, Side::MirrorMakerTuned, Side::Longhaul];

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::MirrorMaker => "MirrorMaker 2",
            Self::MirrorMakerTuned => "MirrorMaker 2, tuned",
            Self::Longhaul => "Longhaul",
        }
    }

    /// The name that the copy has in the target.
    fn target_topic(self) -> String {
        match self {
            Self::MirrorMaker | Self::MirrorMakerTuned => format!("source.{TOPIC}"),
            Self::Longhaul => TOPIC.to_owned(),
        }
    }
}

/// Lz4 with large batches, and consumers to match.
const TUNED: &str = "target.producer.compression.type=lz4\ntarget.producer.batch.size=1000000\n\
                     target.producer.linger.ms=20\ntarget.producer.buffer.memory=134217728\n\
                     source.consumer.max.poll.records=10000\n\
                     source.consumer.max.partition.fetch.bytes=10485760\n\
                     source.consumer.fetch.min.bytes=1048576\n";

/// A mirror under way.
enum Mirror {
    Maker(Process),
    Longhaul(Verb),
}

impl Mirror {
    fn process(&mut self) -> &mut Process {
        match self {
            Self::Maker(process) => process,
            Self::Longhaul(verb) => verb.process(),
        }
    }
}

#[derive(Clone, Copy)]
struct Cost {
    megabytes_per_core_second: f64,
    megabytes_per_second: f64,
}

pub(crate) fn measure(options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let heap = ["-Xmx1g", "-Xms1g"];
    let source = Kafka::start_with(scratch.join("source"), &[], &heap)?;
    let payloads = Payloads::flights(&scratch.join("payloads"))?;
    make_topic(&source.bootstrap(), TOPIC)?;
    eprintln!("  writing {RECORDS} records to the source");
    produce_payloads(&source.bootstrap(), TOPIC, RECORDS, &payloads)?;
    let mut runs: BTreeMap<Side, Vec<Cost>> = BTreeMap::new();
    for run in 0..options.runs {
        for side in SIDES {
            eprintln!("  run {} of {}: mirror, {}", run + 1, options.runs, side.name());
            let folder = scratch.join(format!("run-{run}-{side:?}"));
            let cost = copy(side, &source, &payloads, &folder)?;
            runs.entry(side).or_default().push(cost);
            std::fs::remove_dir_all(&folder)?;
        }
    }
    let mut per_core = BTreeMap::new();
    for (side, costs) in runs {
        let middle = |figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
        let rate = middle(|cost| cost.megabytes_per_core_second);
        per_core.insert(side, rate);
        let figures = vec![("MB/s/core", rate), ("MB/s", middle(|cost| cost.megabytes_per_second))];
        table.row(Row { work: "mirror, lz4 records".to_owned(), side: side.name().to_owned(), figures });
    }
    for (side, least) in [(Side::MirrorMaker, 8.0), (Side::MirrorMakerTuned, 4.0)] {
        let value = per_core[&Side::Longhaul] / per_core[&side];
        table.ratio(format!("MB/s per core: Longhaul / {}", side.name()), value, Mark::AtLeast(least));
    }
    Ok(())
}

/// Copies everything into a fresh Kafka and gives what it cost after a tenth of it.
fn copy(side: Side, source: &Kafka, payloads: &Payloads, folder: &Path) -> anyhow::Result<Cost> {
    let mut target = Kafka::start_with(folder.join("target"), &[], &["-Xmx1g", "-Xms1g"])?;
    let mut mirror = start(side, &source.bootstrap(), &target.bootstrap(), folder)?;
    let mut first = None;
    let deadline = Deadline::seconds(COPY_SECONDS);
    let topic = side.target_topic();
    let (begin, end) = loop {
        mirror.process().ensure_running()?;
        let sample = Sample {
            records: records_in(&target.bootstrap(), &topic),
            processor: process_time(mirror.process().id())?,
            elapsed: deadline.spent(),
        };
        if sample.records >= RECORDS {
            let begin: Sample = first.context("the copy was complete before a tenth of it was seen")?;
            break (begin, sample);
        }
        if first.is_none() && sample.records >= RECORDS / 10 {
            first = Some(sample);
        }
        anyhow::ensure!(
            !deadline.passed(),
            "{} copied {} of {RECORDS} records:\n{}",
            side.name(),
            sample.records,
            mirror.process().log_tail()
        );
        sleep(POLL);
    };
    mirror.process().kill9()?;
    target.stop()?;
    let megabytes = (end.records - begin.records) as f64 * payloads.mean_bytes / 1e6;
    Ok(Cost {
        megabytes_per_core_second: megabytes / (end.processor - begin.processor).as_secs_f64(),
        megabytes_per_second: megabytes / (end.elapsed - begin.elapsed).as_secs_f64(),
    })
}

#[derive(Clone, Copy)]
struct Sample {
    records: u64,
    processor: Duration,
    elapsed: Duration,
}

/// Records in a topic that nothing has been deleted from; none while it does not exist.
fn records_in(bootstrap: &str, topic: &str) -> u64 {
    let queries: Vec<String> = (0..PARTITIONS).map(|partition| format!("{topic}:{partition}:-1")).collect();
    let mut arguments = vec!["-Q"];
    arguments.extend(queries.iter().flat_map(|query| ["-t", query.as_str()]));
    // `bench [3] offset 1234`
    let answer = kcat::call(bootstrap, &arguments, &[]).unwrap_or_default();
    answer.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn make_topic(bootstrap: &str, topic: &str) -> anyhow::Result<()> {
    let partitions = PARTITIONS.to_string();
    let arguments =
        ["--bootstrap-server", bootstrap, "--create", "--topic", topic, "--partitions", &partitions];
    call(Tool::Topics, &arguments, &[])?;
    Ok(())
}

fn start(side: Side, source: &str, target: &str, folder: &Path) -> anyhow::Result<Mirror> {
    match side {
        Side::MirrorMaker => Ok(Mirror::Maker(start_mirror_maker(source, target, folder, "")?)),
        Side::MirrorMakerTuned => Ok(Mirror::Maker(start_mirror_maker(source, target, folder, TUNED)?)),
        Side::Longhaul => {
            let topology = folder.join("topology.toml");
            let text = format!(
                "[cluster.source]\ndatacenter = \"a\"\nbootstrap = [\"{source}\"]\n\
                 [cluster.target]\ndatacenter = \"b\"\nbootstrap = [\"{target}\"]\n\
                 [flow.bench]\nfrom = \"source\"\nto = \"target\"\ntopics = [\"{TOPIC}\"]\n"
            );
            std::fs::write(&topology, text)?;
            let arguments = [PathBuf::from("mirror"), PathBuf::from("run"), topology];
            Ok(Mirror::Longhaul(Verb::start(&arguments, folder.join("mirror.log"))?))
        }
    }
}

/// Dedicated mode, two tasks, one node of everything.
fn start_mirror_maker(source: &str, target: &str, folder: &Path, tuning: &str) -> anyhow::Result<Process> {
    let settings = folder.join("mirror-maker.properties");
    let text = format!(
        "clusters=source,target\nsource.bootstrap.servers={source}\ntarget.bootstrap.servers={target}\n\
         source->target.enabled=true\ntarget->source.enabled=false\nsource->target.topics={TOPIC}\n\
         source->target.groups=none\ntasks.max=2\nreplication.factor=1\n\
         checkpoints.topic.replication.factor=1\nheartbeats.topic.replication.factor=1\n\
         offset-syncs.topic.replication.factor=1\noffset.storage.replication.factor=1\n\
         status.storage.replication.factor=1\nconfig.storage.replication.factor=1\n{tuning}"
    );
    std::fs::write(&settings, text)?;
    let mut command = Command::new("java");
    command.arg("-Xmx1g").arg("-cp").arg(format!("{}/*", installed::kafka_libs()?.display()));
    command.arg("org.apache.kafka.connect.mirror.MirrorMaker").arg(settings);
    Process::start("MirrorMaker 2", command, &folder.join("mirror-maker.log"))
}
