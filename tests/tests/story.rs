//! The whole line with real parts: produce, keep, tier, replay, mirror, fail over, lose a disk, recover.
//!
//! Clients are librdkafka's, the store is MinIO, every server is a process, and every kill is kill -9.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use control::v1::FlowStatus;

use serde_json::json;
use tests::clients::exchange::is_what_was_written;
use tests::clients::python::{Acknowledged, Consumed, Python};
use tests::deadline::{Deadline, sleep};
use tests::flights::{self, Record};
use tests::longhaul::{Broker, Verb, verb};
use tests::minio::Minio;
use tests::ports::free_port;
use tests::scratch::Scratch;
use tests::tiered::{self, ask, make_topic, partitions_of, tier, wait_until_released};

const TOPIC: &str = "flights";
const PARTITIONS: u32 = 3;
const FLOW: &str = "west-to-east";
const GROUP: &str = "departures";

/// About 26 MB as JSON: many times what the topic may keep on local disk.
const RECORDS: usize = 80_000;

/// Flights that are told apart by their numbers, also where the table begins anew.
fn distinct_records(count: usize) -> Vec<Record> {
    let mut records = flights::records(count).unwrap();
    for (number, record) in records.iter_mut().enumerate() {
        record.value.insert_str(1, &format!("\"number\":{number},"));
    }
    records
}

/// Two clusters and a flow between them.
struct TwoClusters {
    west: Broker,
    east: Broker,
    flow: Verb,
    flow_admin: String,
    topology: PathBuf,
    minio: Minio,
    scratch: Scratch,
}

impl TwoClusters {
    fn start() -> Self {
        let scratch = Scratch::new().unwrap();
        let minio = Minio::start(scratch.join("minio")).unwrap();
        let west = tiered::start(&scratch, "west", &minio).unwrap();
        let east = tiered::start(&scratch, "east", &minio).unwrap();
        make_topic(&west, TOPIC, PARTITIONS).unwrap();
        let flow_admin = format!("127.0.0.1:{}", free_port());
        let topology = scratch.join("topology.toml");
        let text = format!(
            "[cluster.west]\ndatacenter = \"dc-west\"\nbootstrap = [\"{}\"]\n\
             [cluster.east]\ndatacenter = \"dc-east\"\nbootstrap = [\"{}\"]\n\
             [flow.{FLOW}]\nfrom = \"west\"\nto = \"east\"\ntopics = [\"{TOPIC}\"]\nadmin = \"{flow_admin}\"\n",
            west.bootstrap(),
            east.bootstrap()
        );
        std::fs::write(&topology, text).unwrap();
        let flow = start_flow(&scratch, &topology);
        Self { west, east, flow, flow_admin, topology, minio, scratch }
    }

    /// Waits until the flow's process says so of its one flow.
    fn wait_until(&self, what: &str, holds: impl Fn(&FlowStatus) -> bool) {
        Deadline::seconds(90)
            .wait_for(what, || {
                // The process may still be starting.
                let flows = ask(&self.flow_admin).map(|reply| reply.flows).unwrap_or_default();
                Ok(flows.first().is_some_and(&holds).then_some(()))
            })
            .unwrap();
    }

    /// Waits until every partition of the flow has copied all that the source had.
    fn wait_until_copied(&self) {
        self.wait_until("the flow to catch up", |flow| {
            let caught_up = flow.partitions.iter().all(|each| each.lag_offsets == Some(0));
            flow.partitions.len() == PARTITIONS as usize && caught_up
        });
    }

    /// Waits until the flow's status says that the group's position in each partition is the one that the source has.
    fn wait_until_synced(&self, positions: &BTreeMap<i32, i64>) {
        self.wait_until("the group's position to be synced", |flow| synced(flow) == *positions);
    }

    fn failover(&self) -> String {
        verb(&["mirror", "failover", &self.topology.display().to_string(), FLOW]).unwrap().success().unwrap()
    }
}

/// The source positions of the group that the flow has carried over, by partition.
fn synced(flow: &FlowStatus) -> BTreeMap<i32, i64> {
    let groups = flow.groups.iter().filter(|each| each.group == GROUP && each.target_offset.is_some());
    groups.map(|each| (each.partition, each.source_offset)).collect()
}

fn start_flow(scratch: &Scratch, topology: &std::path::Path) -> Verb {
    Verb::start(&["mirror", "run", &topology.display().to_string()], scratch.join("flow.log")).unwrap()
}

/// The position after each partition's last record that a group was given.
fn positions(consumed: &[Consumed]) -> BTreeMap<i32, i64> {
    let mut positions = BTreeMap::new();
    for record in consumed {
        let position = positions.entry(record.partition).or_insert(0);
        *position = (*position).max(record.offset + 1);
    }
    positions
}

/// Records by what they say: the table's rows are distinct within one year.
fn values(consumed: &[Consumed]) -> BTreeSet<String> {
    consumed.iter().map(|record| record.value.clone().unwrap()).collect()
}

#[test]
fn history_from_the_store_and_the_hot_log_read_as_one() {
    let scratch = Scratch::new().unwrap();
    let minio = Minio::start(scratch.join("minio")).unwrap();
    let mut west = tiered::start(&scratch, "west", &minio).unwrap();
    make_topic(&west, TOPIC, PARTITIONS).unwrap();
    let records = distinct_records(RECORDS);
    let acknowledged = Python::Confluent.produce(&west.bootstrap(), TOPIC, &records, &[]).unwrap();
    wait_until_released(&west, TOPIC).unwrap();

    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    is_what_was_written(&records, &acknowledged, &consumed).unwrap();

    west.kill9().unwrap();
    west.restart().unwrap();
    let consumed = Python::Aiokafka.consume_all(&west.bootstrap(), TOPIC).unwrap();
    is_what_was_written(&records, &acknowledged, &consumed).unwrap();
    tier(&["verify", "--store", &tiered::store_of("west")], &minio).unwrap().success().unwrap();
}

/// Per partition, the first offset and the end.
fn offsets(broker: &Broker) -> BTreeMap<i32, (i64, i64)> {
    let asked = ["offsets", "--bootstrap", &broker.bootstrap(), "--topic", TOPIC];
    let lines = Python::Confluent.call(&asked, &[]).unwrap();
    let number = |line: &serde_json::Value, name: &str| line[name].as_i64().unwrap();
    lines
        .iter()
        .map(|line| (number(line, "partition") as i32, (number(line, "start"), number(line, "end"))))
        .collect()
}

#[test]
fn a_lost_data_folder_is_rebuilt_from_the_bucket() {
    let scratch = Scratch::new().unwrap();
    let minio = Minio::start(scratch.join("minio")).unwrap();
    let mut west = tiered::start(&scratch, "west", &minio).unwrap();
    make_topic(&west, TOPIC, PARTITIONS).unwrap();
    let records = distinct_records(RECORDS);
    let acknowledged = Python::Confluent.produce(&west.bootstrap(), TOPIC, &records, &[]).unwrap();
    wait_until_released(&west, TOPIC).unwrap();
    let seen = partitions_of(&west, TOPIC).unwrap();
    let ends = offsets(&west);

    west.kill9().unwrap();
    let (data, store) = (west.data().display().to_string(), tiered::store_of("west"));
    let recover = || tier(&["recover", "--data", &data, "--store", &store, "--json"], &minio).unwrap();
    let refused = recover().success().unwrap_err().to_string();
    assert!(refused.contains("is not empty"), "{refused}");
    std::fs::remove_dir_all(west.data()).unwrap();
    let refusal = west.refusal().unwrap();
    assert!(refusal.contains("longhaul tier recover"), "{refusal}");

    let said: serde_json::Value = serde_json::from_str(&recover().success().unwrap()).unwrap();
    assert_eq!((&said["cluster"], &said["recovery_generation"]), (&json!("west"), &json!(1)));
    let reported = said["report"]["partitions"].as_array().unwrap();
    let tiered: BTreeMap<i32, i64> = reported
        .iter()
        .filter(|each| each["topic"] == TOPIC)
        .map(|each| (each["partition"].as_i64().unwrap() as i32, each["lost_from"].as_i64().unwrap()))
        .collect();
    for (partition, each) in &seen {
        assert!(tiered[partition] >= each.tiered_end_offset.unwrap(), "{said}");
        assert!(tiered[partition] <= ends[partition].1, "{said}");
    }
    west.restart().unwrap();

    let kept: Vec<Acknowledged> =
        acknowledged.iter().copied().filter(|place| place.offset < tiered[&place.partition]).collect();
    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    is_what_was_written(&records, &kept, &consumed).unwrap();

    let new = distinct_records(300);
    let added = Python::Confluent.produce(&west.bootstrap(), TOPIC, &new, &[]).unwrap();
    for place in &added {
        let (_, end) = ends[&place.partition];
        assert!(place.offset >= end, "offset {} was handed out before (end {end})", place.offset);
    }
    // Over the gap, with another client, after another kill.
    west.kill9().unwrap();
    west.restart().unwrap();
    let consumed = Python::Aiokafka.consume_all(&west.bootstrap(), TOPIC).unwrap();
    let (old, fresh): (Vec<_>, Vec<_>) =
        consumed.into_iter().partition(|record| record.offset < tiered[&record.partition]);
    is_what_was_written(&records, &kept, &old).unwrap();
    is_what_was_written(&new, &added, &fresh).unwrap();
}

#[test]
fn a_group_that_stopped_goes_on_in_the_other_cluster_at_the_exact_next_record() {
    let mut clusters = TwoClusters::start();
    let records = distinct_records(30_000);
    Python::Confluent.produce(&clusters.west.bootstrap(), TOPIC, &records, &[]).unwrap();
    let before =
        Python::Confluent.consume_as_group(&clusters.west.bootstrap(), TOPIC, GROUP, 11_111).unwrap();
    clusters.wait_until_copied();
    clusters.wait_until_synced(&positions(&before));

    clusters.west.kill9().unwrap();
    clusters.failover();
    let after = Python::KafkaPython
        .consume_as_group(&clusters.east.bootstrap(), TOPIC, GROUP, records.len() - before.len())
        .unwrap();
    let (before, after) = (values(&before), values(&after));
    assert!(before.is_disjoint(&after), "no record is read twice");
    assert_eq!(before.len() + after.len(), records.len(), "no record is skipped");

    // West comes back with more records; a promoted flow carries none of them over.
    clusters.west.restart().unwrap();
    let ends = offsets(&clusters.east);
    Python::Confluent.produce(&clusters.west.bootstrap(), TOPIC, &records[..500], &[]).unwrap();
    clusters.flow.restart().unwrap();
    clusters.wait_until("the flow to say that it was promoted", |flow| flow.state == "promoted");
    sleep(Duration::from_secs(2));
    assert_eq!(offsets(&clusters.east), ends, "a promoted flow stays stopped");
}

#[test]
fn a_group_that_is_cut_off_skips_nothing_and_reads_again_at_most_what_the_failover_reported() {
    let mut clusters = TwoClusters::start();
    let records = distinct_records(20_000);
    let west = clusters.west.bootstrap();
    Python::Confluent.produce(&west, TOPIC, &records, &[]).unwrap();
    let at = ["--bootstrap", west.as_str(), "--topic", TOPIC];
    let writing = [&["load"], &at[..]].concat();
    let mut writer = Python::Confluent.start(&writing, &clusters.scratch.join("writer.log")).unwrap();
    let reading = [&["group"], &at[..], &["--group", GROUP, "--count", "100000000"]].concat();
    let mut reader = Python::Confluent.start(&reading, &clusters.scratch.join("reader.log")).unwrap();
    clusters.wait_until("a first position to be synced", |flow| synced(flow).len() == PARTITIONS as usize);
    // At some moment, while one writes, the group reads and commits, and the flow copies and syncs.
    let moment_ms = u64::from(std::process::id()) * 7_919 % 2_000;
    eprintln!("west is killed after {moment_ms} ms");
    sleep(Duration::from_millis(moment_ms));
    clusters.west.kill9().unwrap();
    reader.kill9().unwrap();
    writer.kill9().unwrap();
    let report = clusters.failover();

    let given: Vec<Consumed> = reader
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|line| tests::clients::python::consumed(&line).ok())
        .collect();
    let copied = Python::Confluent.consume_all(&clusters.east.bootstrap(), TOPIC).unwrap();
    assert!(copied.len() > records.len(), "{} records were copied", copied.len());
    let again = committed(&clusters.east);
    let left: usize = offsets(&clusters.east)
        .iter()
        .map(|(partition, (_, end))| (end - again.get(partition).copied().unwrap_or(0)) as usize)
        .sum();
    let after = match left {
        0 => Vec::new(),
        left => Python::Confluent.consume_as_group(&clusters.east.bootstrap(), TOPIC, GROUP, left).unwrap(),
    };
    let (before, after, copied) = (values(&given), values(&after), values(&copied));
    let skipped = copied.iter().find(|value| !before.contains(*value) && !after.contains(*value));
    assert_eq!(skipped, None, "nothing is skipped");
    let twice = before.intersection(&after).count();
    let allowed = reported_again(&report);
    assert!(twice <= allowed, "{twice} records are read again, {allowed} were reported:\n{report}");
}

#[test]
fn a_flow_whose_target_was_rebuilt_pauses_rather_than_copy_everything_again() {
    let mut clusters = TwoClusters::start();
    let records = distinct_records(2_000);
    Python::Confluent.produce(&clusters.west.bootstrap(), TOPIC, &records, &[]).unwrap();
    clusters.wait_until_copied();
    let (data, store) = (clusters.east.data().display().to_string(), tiered::store_of("east"));
    Deadline::seconds(30)
        .wait_for("the store to know of the flow's topics", || {
            let known = tier(&["inspect", "--store", &store], &clusters.minio)?.success()?;
            Ok((known.contains(TOPIC) && known.contains("__longhaul_mirror")).then_some(()))
        })
        .unwrap();
    clusters.flow.kill9().unwrap();
    clusters.east.kill9().unwrap();
    std::fs::remove_dir_all(clusters.east.data()).unwrap();
    let said = tier(&["recover", "--data", &data, "--store", &store], &clusters.minio).unwrap();
    let said = said.success().unwrap();
    assert!(said.contains("LOST: what flows into this cluster remembered"), "{said}");
    clusters.east.restart().unwrap();
    let ends = offsets(&clusters.east);
    clusters.flow.restart().unwrap();
    clusters.wait_until("the flow to say that it has forgotten its copy", |flow| {
        let events = flow.partitions.iter().filter_map(|each| each.event.as_deref());
        events.into_iter().any(|event| event.contains("lost with the target's disk"))
    });
    sleep(Duration::from_secs(2));
    assert_eq!(offsets(&clusters.east), ends, "nothing is copied again");
}

/// The number of offsets that the failover said the group may read again: the sum of `(N offsets at most)`.
fn reported_again(report: &str) -> usize {
    let lines: Vec<&str> = report.lines().filter(|line| line.contains(GROUP)).collect();
    assert_eq!(lines.len(), PARTITIONS as usize, "{report}");
    let at_most = |line: &&str| {
        let (_, rest) = line.rsplit_once('(')?;
        rest.strip_suffix(" offsets at most) may be read again")?.parse::<usize>().ok()
    };
    lines.iter().filter_map(at_most).sum()
}

/// The group's committed positions.
fn committed(broker: &Broker) -> BTreeMap<i32, i64> {
    let lines = Python::Confluent
        .call(&["describe-group", "--bootstrap", &broker.bootstrap(), "--group", GROUP], &[])
        .unwrap();
    let offsets = lines[0]["offsets"].as_object().unwrap();
    offsets
        .iter()
        .map(|(place, offset)| (place.rsplit('-').next().unwrap().parse().unwrap(), offset.as_i64().unwrap()))
        .collect()
}
