//! The broker's processor time per GB against Apache Kafka: produce in three sizes, durable and not, and tail fetch.
//!
//! Owns: the sides, the workloads, the marks. Does not own: the load tools (`perf_tools`), the accounting (`cost`).

use std::collections::BTreeMap;
use std::process::Command;

use tests::clients::java::{Tool, call};
use tests::kafka::Kafka;
use tests::longhaul::{Broker, BrokerSettings};
use tests::scratch::Scratch;

use crate::Options;
use crate::cost::Meter;
use crate::perf_tools::{Load, RECORD_BYTES, consume, produce};
use crate::table::{Mark, Row, Table, median};

const PARTITIONS: &str = "6";

/// A server under test, or one with another promise about durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// Apache Kafka as shipped: an acknowledged record may be in memory only.
    Kafka,
    /// Apache Kafka that syncs before each acknowledgement (`flush.messages=1`).
    KafkaDurable,
    /// `longhaul broker --flush os`: survives the process, as Kafka's default.
    LonghaulOs,
    /// `longhaul broker --flush ack`: survives the power.
    LonghaulAck,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka 4.3.1",
            Self::KafkaDurable => "Kafka 4.3.1 flush.messages=1",
            Self::LonghaulOs => "Longhaul --flush os",
            Self::LonghaulAck => "Longhaul --flush ack",
        }
    }
}

/// One piece of work, the same for every side that it names.
struct Work {
    name: &'static str,
    load: Load,
    sides: &'static [Side],
}

const GIB_RECORDS: u64 = (1 << 30) / RECORD_BYTES;

const WORKS: [Work; 3] = [
    Work {
        name: "produce, 64 KiB batches",
        load: Load { records: GIB_RECORDS, pace: None, batch_bytes: Some(65_536) },
        sides: &[Side::Kafka, Side::KafkaDurable, Side::LonghaulOs, Side::LonghaulAck],
    },
    Work {
        name: "produce, client defaults (16 KiB)",
        load: Load { records: GIB_RECORDS, pace: None, batch_bytes: None },
        sides: &[Side::Kafka, Side::LonghaulOs, Side::LonghaulAck],
    },
    Work {
        name: "produce, paced 20,000 records/s",
        load: Load { records: 300_000, pace: Some(20_000), batch_bytes: None },
        sides: &[Side::Kafka, Side::LonghaulOs, Side::LonghaulAck],
    },
];

/// What one run cost.
#[derive(Clone, Copy)]
struct Cost {
    seconds_per_gb: f64,
    megabytes_per_second: f64,
    p99_ms: f64,
}

/// The servers, all up for the whole of the measurement; only one of them works at a time.
struct Servers {
    kafka: (Kafka, Meter),
    os: (Broker, Meter),
    ack: (Broker, Meter),
    topics: u32,
    _scratch: Scratch,
}

impl Servers {
    fn start(warm_gib: u64) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let heap = ["-Xmx1g", "-Xms1g", "-XX:+AlwaysPreTouch"];
        let mut kafka = Kafka::start_with(scratch.join("kafka"), &[], &heap)?;
        let kafka_meter = Meter::on("kafka", kafka.process().id());
        let start = |mode: &str| -> anyhow::Result<(Broker, Meter)> {
            let settings = BrokerSettings::default().with("--flush").with(mode);
            let mut broker = Broker::start(scratch.join(mode), settings)?;
            let meter = Meter::on(mode, broker.process().id());
            Ok((broker, meter))
        };
        let (os, ack) = (start("os")?, start("ack")?);
        let mut servers = Self { kafka: (kafka, kafka_meter), os, ack, topics: 0, _scratch: scratch };
        for side in [Side::Kafka, Side::LonghaulOs, Side::LonghaulAck] {
            eprintln!("  warming {} with {warm_gib} GiB", side.name());
            let load = Load { records: warm_gib * GIB_RECORDS, pace: None, batch_bytes: Some(65_536) };
            let topic = servers.make_topic(side)?;
            if load.records > 0 {
                produce(&servers.bootstrap(side), &topic, load)?;
            }
            servers.delete_topic(side, &topic)?;
        }
        Ok(servers)
    }

    fn bootstrap(&self, side: Side) -> String {
        match side {
            Side::Kafka | Side::KafkaDurable => self.kafka.0.bootstrap(),
            Side::LonghaulOs => self.os.0.bootstrap(),
            Side::LonghaulAck => self.ack.0.bootstrap(),
        }
    }

    fn meter(&self, side: Side) -> &Meter {
        match side {
            Side::Kafka | Side::KafkaDurable => &self.kafka.1,
            Side::LonghaulOs => &self.os.1,
            Side::LonghaulAck => &self.ack.1,
        }
    }

    fn make_topic(&mut self, side: Side) -> anyhow::Result<String> {
        self.topics += 1;
        let topic = format!("bench-{}", self.topics);
        let bootstrap = self.bootstrap(side);
        let mut arguments = vec!["--bootstrap-server", bootstrap.as_str(), "--create", "--topic", &topic];
        arguments.extend(["--partitions", PARTITIONS]);
        if side == Side::KafkaDurable {
            arguments.extend(["--config", "flush.messages=1"]);
        }
        call(Tool::Topics, &arguments, &[])?;
        Ok(topic)
    }

    fn delete_topic(&self, side: Side, topic: &str) -> anyhow::Result<()> {
        let bootstrap = self.bootstrap(side);
        call(Tool::Topics, &["--bootstrap-server", &bootstrap, "--delete", "--topic", topic], &[])?;
        // What was written goes to the device now, not while the next side is measured.
        Command::new("sync").status()?;
        Ok(())
    }

    /// One run of a load; the topic is consumed too where that is asked for, and its cost returned beside.
    fn run(&mut self, side: Side, load: Load, fetch: bool) -> anyhow::Result<(Cost, Option<Cost>)> {
        let topic = self.make_topic(side)?;
        let bootstrap = self.bootstrap(side);
        let gigabytes = (load.records * RECORD_BYTES) as f64 / 1e9;
        let before = self.meter(side).processor_time()?;
        let produced = produce(&bootstrap, &topic, load)?;
        let between = self.meter(side).processor_time()?;
        let cost = Cost {
            seconds_per_gb: (between - before).as_secs_f64() / gigabytes,
            megabytes_per_second: produced.megabytes_per_second,
            p99_ms: produced.p99_ms,
        };
        let mut fetched = None;
        if fetch {
            let rate = consume(&bootstrap, &topic, load.records)?;
            let after = self.meter(side).processor_time()?;
            let seconds_per_gb = (after - between).as_secs_f64() / gigabytes;
            fetched = Some(Cost { seconds_per_gb, megabytes_per_second: rate, p99_ms: 0.0 });
        }
        self.delete_topic(side, &topic)?;
        Ok((cost, fetched))
    }
}

/// Measures every work on every side in turn and adds rows and ratios.
pub(crate) fn measure(options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let mut servers = Servers::start(options.warm_gib)?;
    let mut medians = BTreeMap::new();
    for (index, work) in WORKS.iter().enumerate() {
        let mut runs: BTreeMap<Side, Vec<Cost>> = BTreeMap::new();
        let mut fetches: BTreeMap<Side, Vec<Cost>> = BTreeMap::new();
        for run in 0..options.runs {
            for &side in work.sides {
                eprintln!("  run {} of {}: {}, {}", run + 1, options.runs, work.name, side.name());
                let fetch = index == 0 && side != Side::KafkaDurable;
                let (cost, fetched) = servers.run(side, work.load, fetch)?;
                runs.entry(side).or_default().push(cost);
                fetches.entry(side).or_default().extend(fetched);
            }
        }
        for (side, costs) in runs {
            medians.insert((work.name, side), add_row(table, work.name, side, &costs));
        }
        for (side, costs) in fetches.into_iter().filter(|(_, costs)| !costs.is_empty()) {
            medians.insert((FETCH, side), add_row(table, FETCH, side, &costs));
        }
    }
    add_ratios(table, &medians);
    Ok(())
}

const FETCH: &str = "fetch of what was just produced";

fn add_row(table: &mut Table, work: &str, side: Side, costs: &[Cost]) -> Cost {
    let middle = |figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
    let cost = Cost {
        seconds_per_gb: middle(|cost| cost.seconds_per_gb),
        megabytes_per_second: middle(|cost| cost.megabytes_per_second),
        p99_ms: middle(|cost| cost.p99_ms),
    };
    let mut figures = vec![("core-s/GB", cost.seconds_per_gb), ("MB/s", cost.megabytes_per_second)];
    if cost.p99_ms > 0.0 {
        figures.push(("ms p99", cost.p99_ms));
    }
    table.row(Row { work: work.to_owned(), side: side.name().to_owned(), figures });
    cost
}

fn add_ratios(table: &mut Table, medians: &BTreeMap<(&str, Side), Cost>) {
    let processor = [
        (WORKS[0].name, Side::LonghaulOs, 0.5),
        (WORKS[1].name, Side::LonghaulOs, 0.3),
        (WORKS[2].name, Side::LonghaulOs, 0.5),
        (WORKS[0].name, Side::LonghaulAck, 0.8),
        (FETCH, Side::LonghaulOs, 0.8),
        (FETCH, Side::LonghaulAck, 0.8),
    ];
    for (work, side, limit) in processor {
        let value = medians[&(work, side)].seconds_per_gb / medians[&(work, Side::Kafka)].seconds_per_gb;
        table.ratio(format!("CPU, {work}: {} / Kafka", side.name()), value, Mark::AtMost(limit));
    }
    let durable = medians[&(WORKS[0].name, Side::LonghaulAck)].megabytes_per_second
        / medians[&(WORKS[0].name, Side::KafkaDurable)].megabytes_per_second;
    table.ratio("rate, durable, 64 KiB: Longhaul / Kafka flush.messages=1", durable, Mark::AtLeast(2.5));
}
