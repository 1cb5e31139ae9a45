//! kill -9 of the broker under load, again and again, with requests in flight each time.
//!
//! An idempotent producer that knows nothing of the kills must find every record it was promised, once, in order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::clients::python::{Python, acknowledged};
use tests::deadline::{Deadline, sleep};
use tests::longhaul::{Broker, BrokerSettings};
use tests::minio::Minio;
use tests::scratch::Scratch;
use tests::tiered::{self, tier};

/// Kills that count: each had at least one request sent and not answered.
const CYCLES: usize = 50;
/// Kills of a broker that also sends its segments to MinIO.
const TIERED_CYCLES: usize = 15;
const SETTINGS: [&str; 2] = ["segment.bytes=1048576", "retention.ms=-1"];
/// Enough for the last two lines of the load's output.
const TAIL_BYTES: u64 = 4096;

/// Requests in flight by the load's latest report.
fn in_flight(log: &Path) -> u64 {
    let tail = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let tail = tail().unwrap_or_default();
    let reports = tail.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    reports.filter_map(|line| line.get("in_flight")?.as_u64()).next().unwrap_or(0)
}

/// A small generator, so that a run can be repeated by its seed.
struct Pauses(u64);

impl Pauses {
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(30 + self.0 % 400)
    }
}

fn kill_again_and_again(
    scratch: &Scratch,
    settings: BrokerSettings,
    topic: &[&str],
    cycles: usize,
) -> Broker {
    let seed = std::env::var("LONGHAUL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x9e37_79b9);
    println!("LONGHAUL_SEED={seed}");
    let mut broker = Broker::start(scratch.join("broker"), settings).unwrap();
    let bootstrap = broker.bootstrap();
    Python::Confluent.create_topic(&bootstrap, "load", 3, topic).unwrap();
    let log = scratch.join("load.log");
    let mut load =
        Python::Confluent.start(&["load", "--bootstrap", &bootstrap, "--topic", "load"], &log).unwrap();
    let mut pauses = Pauses(seed);
    for cycle in 0..cycles {
        sleep(pauses.next());
        let waited = Deadline::seconds(60).wait_for("a request in flight", || {
            load.ensure_running()?;
            Ok((in_flight(&log) > 0).then_some(()))
        });
        waited.unwrap_or_else(|error| panic!("cycle {cycle}: {error:#}"));
        broker.kill9().unwrap();
        broker.restart().unwrap_or_else(|error| panic!("cycle {cycle}: {error:#}"));
    }
    let status = load.stop(Deadline::seconds(120)).unwrap();
    assert!(status.success(), "the load ended with {status}:\n{}", load.log_tail());
    check(&bootstrap, &load.log());
    broker
}

/// Every record that was promised stands where it was promised, and no record stands twice.
fn check(bootstrap: &str, load: &str) {
    let promised: Vec<_> = load
        .lines()
        .filter(|line| line.contains("\"sequence\""))
        .map(|line| acknowledged(&serde_json::from_str(line).unwrap()).unwrap())
        .collect();
    let produced = load.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let produced = produced.and_then(|line| line["produced"].as_u64()).expect("the load's last line");
    assert_eq!(promised.len() as u64, produced, "every record was acknowledged in the end");
    let consumed = Python::Confluent.consume_all(bootstrap, "load").unwrap();
    let mut places = HashMap::new();
    let mut seen = HashSet::new();
    let mut last_of_partition = HashMap::new();
    for record in &consumed {
        let sequence: usize = record.key.as_ref().unwrap().parse().unwrap();
        assert!(seen.insert(sequence), "record {sequence} is there twice, the second time at {record:?}");
        let last = last_of_partition.insert(record.partition, sequence);
        assert!(last < Some(sequence), "record {sequence} comes after {last:?} at {record:?}");
        places.insert((record.partition, record.offset), sequence);
    }
    for place in &promised {
        assert_eq!(
            places.get(&(place.partition, place.offset)),
            Some(&place.sequence),
            "{place:?} was acknowledged"
        );
    }
    println!("{} records, each where it was acknowledged", promised.len());
}

/// Whatever is in the store is let go of: how much was produced between the kills depends on the machine.
const TIERED_SETTINGS: [&str; 4] =
    ["retention.ms=-1", "segment.bytes=1048576", "local.retention.bytes=1", "local.retention.ms=-2"];

fn with_flush(mode: &str) {
    let settings = BrokerSettings::default().with("--flush").with(mode);
    drop(kill_again_and_again(&Scratch::new().unwrap(), settings, &SETTINGS, CYCLES));
}

#[test]
fn no_record_is_lost_or_doubled_when_acknowledgements_are_durable() {
    with_flush("ack");
}

#[test]
fn no_record_is_lost_or_doubled_when_the_kernel_holds_them() {
    with_flush("os");
}

#[test]
fn no_record_is_lost_or_doubled_while_segments_go_to_the_store_and_local_copies_go() {
    let scratch = Scratch::new().unwrap();
    let minio = Minio::start(scratch.join("minio")).unwrap();
    let store = tiered::store_of("load");
    tier(&["init", "--store", &store], &minio).unwrap().success().unwrap();
    let settings = tiered::settings("load", &minio);
    let broker = kill_again_and_again(&scratch, settings, &TIERED_SETTINGS, TIERED_CYCLES);
    let partitions = tiered::partitions_of(&broker, "load").unwrap();
    let released = partitions.values().filter(|each| each.local_log_start_offset > 0).count();
    assert!(released > 0, "local copies went while it was killed: {partitions:?}");
    tier(&["verify", "--store", &store], &minio).unwrap().success().unwrap();
}
