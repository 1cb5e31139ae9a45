//! The whole line with real parts: produce, keep, tier, replay, lose a disk, recover.
//!
//! Clients are librdkafka's, the store is MinIO, every server is a process, and every kill is kill -9.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use serde_json::json;
use tests::clients::exchange::is_what_was_written;
use tests::clients::python::{Acknowledged, Consumed, Python};
use tests::flights::{self, Record};
use tests::longhaul::Broker;
use tests::minio::Minio;
use tests::scratch::Scratch;
use tests::tiered::{self, make_topic, partitions_of, tier, wait_until_released};

const TOPIC: &str = "flights";
const PARTITIONS: u32 = 3;

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
    is_there(&kept, &records, &Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap());

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
    is_there(&kept, &records, &old);
    is_what_was_written(&new, &added, &fresh).unwrap();
}

/// Exactly these records, where they were acknowledged.
fn is_there(kept: &[Acknowledged], records: &[Record], consumed: &[Consumed]) {
    assert_eq!(consumed.len(), kept.len());
    let found: BTreeMap<(i32, i64), &Consumed> =
        consumed.iter().map(|record| ((record.partition, record.offset), record)).collect();
    for place in kept {
        let record = found.get(&(place.partition, place.offset)).expect("a tiered record is there");
        assert_eq!(record.value.as_deref(), Some(records[place.sequence].value.as_str()));
    }
}
