//! Data folders and stores that do not belong together: an older copy of a folder, another store, a folder that was
//! replaced. Each is named, serves what it rightly has, and loses nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use client::TopicPartition;
use client::produce::{Outcome, ProduceBatch, Refusal};
use tests::clients::exchange::is_what_was_written;
use tests::clients::python::{Acknowledged, Python};
use tests::deadline::Deadline;
use tests::flights::{self, Record};
use tests::flow::connect;
use tests::longhaul::{Broker, BrokerSettings, verb};
use tests::minio::Minio;
use tests::scratch::Scratch;
use tests::tiered::{self, ask, make_topic, partitions_of, tier, wait_until_released};
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
use wire::{ErrorCode, TopicId};

const TOPIC: &str = "flights";
const RECORDS: usize = 20_000;

/// A broker that tiers to a folder.
fn settings(scratch: &Scratch, store: &str) -> BrokerSettings {
    let store = format!("file:{}", scratch.join(store).display());
    BrokerSettings::default().with("--cluster").with("west").with("--store").with(store)
}

fn send(broker: &Broker) -> (Vec<Record>, Vec<Acknowledged>) {
    let records = flights::records(RECORDS).unwrap();
    let acknowledged = Python::Confluent.produce(&broker.bootstrap(), TOPIC, &records, &[]).unwrap();
    (records, acknowledged)
}

fn has_all(broker: &Broker, (records, acknowledged): &(Vec<Record>, Vec<Acknowledged>)) {
    let consumed = Python::Confluent.consume_all(&broker.bootstrap(), TOPIC).unwrap();
    is_what_was_written(records, acknowledged, &consumed).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}

/// What one batch is refused with.
fn refusal_of_a_batch(broker: &Broker) -> Refusal {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let partition = TopicPartition::new(TOPIC, 0);
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(&NewRecord { value: Some(b"v"), ..NewRecord::default() });
    let pieces = vec![Bytes::from(builder.build())];
    let outcome = runtime.block_on(async {
        let cluster = connect(&broker.bootstrap()).await.unwrap();
        cluster.refresh(std::slice::from_ref(&partition.topic)).await.unwrap();
        let leader = cluster.leader(&partition).await.unwrap();
        let batch = ProduceBatch { partition, topic_id: TopicId::ZERO, pieces };
        cluster.produce(leader.broker, vec![batch], Duration::from_secs(30)).await.unwrap().remove(0).outcome
    });
    match outcome {
        Outcome::Refused(refusal) | Outcome::Ambiguous(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_older_copy_of_a_data_folder_serves_what_it_has_and_takes_no_records() {
    let scratch = Scratch::new().unwrap();
    let mut west = Broker::start(scratch.join("west"), settings(&scratch, "lake")).unwrap();
    make_topic(&west, TOPIC, 1).unwrap();
    let sent = send(&west);
    wait_until_released(&west, TOPIC).unwrap();
    west.stop().unwrap();
    let older = scratch.join("older");
    copy(&west.data(), &older);

    west.restart().unwrap();
    send(&west);
    Deadline::seconds(90)
        .wait_for("the store to be ahead of the copy", || {
            let end = partitions_of(&west, TOPIC)?[&0].tiered_end_offset;
            Ok(end.is_some_and(|end| end > RECORDS as i64 + 1_000).then_some(()))
        })
        .unwrap();
    west.stop().unwrap();
    let newer = scratch.join("newer");
    std::fs::rename(west.data(), &newer).unwrap();
    std::fs::rename(&older, west.data()).unwrap();

    // Not one record gets an offset that the store has given to another.
    west.restart().unwrap();
    let refusal = refusal_of_a_batch(&west);
    assert_eq!(refusal.code, ErrorCode::KAFKA_STORAGE_ERROR);
    let message = refusal.message.unwrap();
    assert!(
        message.contains("older than the store") && message.contains("longhaul tier recover"),
        "{message}"
    );
    let alarms = ask(&west.admin().to_string()).unwrap().broker.unwrap().alarms;
    let says =
        |alarm: &String| alarm.contains("tiering of flights-0") && alarm.contains("older than the store");
    assert!(alarms.iter().any(says), "{alarms:?}");
    let before = partitions_of(&west, TOPIC).unwrap().remove(&0).unwrap();
    has_all(&west, &sent);
    tests::deadline::sleep(Duration::from_secs(20));
    let after = partitions_of(&west, TOPIC).unwrap().remove(&0).unwrap();
    assert_eq!(after.local_log_start_offset, before.local_log_start_offset, "nothing is let go of");
    assert_eq!(after.high_watermark, RECORDS as i64);

    // The newer folder is still the store's.
    west.stop().unwrap();
    std::fs::remove_dir_all(west.data()).unwrap();
    std::fs::rename(&newer, west.data()).unwrap();
    west.restart().unwrap();
    send(&west);
    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    assert_eq!(consumed.len(), 3 * RECORDS);
}

#[test]
fn a_broker_whose_records_are_in_a_store_starts_with_no_other() {
    let scratch = Scratch::new().unwrap();
    let mut west = Broker::start(scratch.join("west"), settings(&scratch, "lake")).unwrap();
    make_topic(&west, TOPIC, 1).unwrap();
    let sent = send(&west);
    wait_until_released(&west, TOPIC).unwrap();
    west.stop().unwrap();

    *west.settings_mut() = settings(&scratch, "other");
    let refusal = west.refusal().unwrap();
    assert!(refusal.contains("start it with the store that it had before"), "{refusal}");
    assert!(!scratch.join("other/longhaul-owner").exists(), "nobody took that prefix");

    *west.settings_mut() = settings(&scratch, "lake");
    west.restart().unwrap();
    has_all(&west, &sent);
}

#[test]
fn what_is_missing_on_disk_is_read_from_the_store() {
    let scratch = Scratch::new().unwrap();
    let mut west = Broker::start(scratch.join("west"), settings(&scratch, "lake")).unwrap();
    // All of it stays on disk too.
    let all_local = ["retention.ms=-1", "segment.bytes=1048576"];
    Python::Confluent.create_topic(&west.bootstrap(), TOPIC, 1, &all_local).unwrap();
    let sent = send(&west);
    // Files are written behind the journal: now they have all of it.
    verb(&["log", "flush", "--admin", &west.admin().to_string()]).unwrap().success().unwrap();
    let logs = logs_of(&west);
    let [.., newest_sealed, open] = &*logs else { panic!("too few segments: {logs:?}") };
    let open_base: i64 = open.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    Deadline::seconds(90)
        .wait_for("all that is sealed to be in the store", || {
            let end = partitions_of(&west, TOPIC)?[&0].tiered_end_offset;
            Ok(end.is_some_and(|end| end == open_base).then_some(()))
        })
        .unwrap();
    west.stop().unwrap();
    for lost in [&logs[2], newest_sealed] {
        for kind in ["log", "sidecar"] {
            std::fs::remove_file(lost.with_extension(kind)).unwrap();
        }
    }
    west.restart().unwrap();
    has_all(&west, &sent);
    assert_eq!(partitions_of(&west, TOPIC).unwrap()[&0].local_log_start_offset, 0);

    // A file that is missing is no other history, not even where nothing sealed lies behind it: by now the log was held
    // against the store, and takes records.
    tests::deadline::sleep(Duration::from_secs(5));
    send(&west);
    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    assert_eq!(consumed.len(), 2 * RECORDS);
}

/// The files of the topic's sealed and open segments, oldest first.
fn logs_of(broker: &Broker) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(broker.data()).unwrap().map(|entry| entry.unwrap().path());
    let logs = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.is_dir());
    let is_log = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "log");
    let mut all: Vec<Vec<PathBuf>> = folders.map(|folder| logs(folder).filter(is_log).collect()).collect();
    // The topic's has the most: the others are the broker's own.
    all.sort_by_key(Vec::len);
    let mut logs = all.pop().unwrap_or_default();
    logs.sort();
    logs
}

#[test]
fn a_replaced_broker_that_starts_while_the_store_is_away_stops_once_it_is_back() {
    let scratch = Scratch::new().unwrap();
    let mut minio = Minio::start(scratch.join("minio")).unwrap();
    let mut west = tiered::start(&scratch, "west", &minio).unwrap();
    make_topic(&west, TOPIC, 1).unwrap();
    send(&west);
    wait_until_released(&west, TOPIC).unwrap();
    west.stop().unwrap();
    let (data, store) = (scratch.join("new").display().to_string(), tiered::store_of("west"));
    tier(&["recover", "--data", &data, "--store", &store], &minio).unwrap().success().unwrap();

    minio.kill9().unwrap();
    west.restart().unwrap();
    minio.restart().unwrap();
    let status = west.process().wait(Deadline::seconds(180)).unwrap();
    let log = west.process().log();
    assert!(!status.success(), "{log}");
    assert!(log.contains("this folder must not serve any more"), "{log}");
    west.kill9().unwrap();
    let refusal = west.refusal().unwrap();
    assert!(refusal.contains("this folder must not serve any more"), "{refusal}");
}
