//! A lost data folder, and `tier recover` itself killed on its way: what was tiered is there, and groups go on.
//!
//! The store is MinIO, the clients are librdkafka's, every kill is kill -9.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::clients::exchange::is_what_was_written;
use tests::clients::python::{Acknowledged, Python};
use tests::deadline::{Deadline, sleep};
use tests::flights;
use tests::installed;
use tests::longhaul::Broker;
use tests::minio::Minio;
use tests::process::Process;
use tests::scratch::Scratch;
use tests::tiered::{self, make_topic, tier, wait_until_released};

const TOPIC: &str = "flights";
const GROUP: &str = "departures";
/// What the group has read when the disk goes.
const READ: usize = 7_000;
const RECORDS: usize = 30_000;
/// The broker hands group offsets to the store this often, and commits them there soon after.
const GROUPS_REACH_THE_STORE_SECONDS: u64 = 20;
/// Each recovery is killed this much later than the one before.
const KILLED_LATER_BY: Duration = Duration::from_millis(12);

/// Kills one recovery after another, each a little later, until one ends by itself. Returns how many were killed.
fn kill_recoveries(scratch: &Scratch, west: &mut Broker, minio: &Minio) -> u32 {
    for killed in 0.. {
        let _ = std::fs::remove_dir_all(west.data());
        let mut recover = Command::new(installed::longhaul().unwrap());
        recover.args(["tier", "recover", "--store", &tiered::store_of("west"), "--data"]).arg(west.data());
        recover.envs(minio.environment());
        let log = scratch.join(format!("recover-{killed}.log"));
        let mut recover = Process::start("longhaul tier recover", recover, &log).unwrap();
        sleep(KILLED_LATER_BY * (killed + 1));
        if recover.ensure_running().is_err() {
            assert!(recover.wait(Deadline::seconds(1)).unwrap().success(), "{}", recover.log());
            return killed;
        }
        recover.kill9().unwrap();
        // Half a folder is neither served nor taken for an empty one.
        match west.refusal() {
            Ok(said) => assert!(said.contains("longhaul tier recover"), "killed {killed}: {said}"),
            // Killed between its last write and its last word: the folder is whole.
            Err(_) => {
                west.restart().unwrap();
                assert!(Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap().len() > READ);
                west.kill9().unwrap();
                return killed;
            }
        }
    }
    unreachable!("one of them ends");
}

#[test]
fn a_recovery_killed_at_any_moment_is_done_again_and_groups_go_on() {
    let scratch = Scratch::new().unwrap();
    let minio = Minio::start(scratch.join("minio")).unwrap();
    let mut west = tiered::start(&scratch, "west", &minio).unwrap();
    make_topic(&west, TOPIC, 1).unwrap();
    let records = flights::records(RECORDS).unwrap();
    let acknowledged = Python::Confluent.produce(&west.bootstrap(), TOPIC, &records, &[]).unwrap();
    let read = Python::Confluent.consume_as_group(&west.bootstrap(), TOPIC, GROUP, READ).unwrap();
    let heard = Deadline::seconds(GROUPS_REACH_THE_STORE_SECONDS);
    wait_until_released(&west, TOPIC).unwrap();
    sleep(heard.left());
    west.kill9().unwrap();

    let killed = kill_recoveries(&scratch, &mut west, &minio);
    assert!(killed > 3, "only {killed} recoveries were killed on their way");
    std::fs::remove_dir_all(west.data()).unwrap();
    let (data, store) = (west.data().display().to_string(), tiered::store_of("west"));
    let recover = ["recover", "--data", &data, "--store", &store, "--json"];
    let said = tier(&recover, &minio).unwrap().success().unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["groups"], &said["group_offsets"]), (&1.into(), &1.into()), "{said}");
    let reported = said["report"]["partitions"].as_array().unwrap();
    let lost_from =
        reported.iter().find(|each| each["topic"] == TOPIC).unwrap()["lost_from"].as_i64().unwrap();
    let kept: Vec<Acknowledged> =
        acknowledged.iter().copied().filter(|place| place.offset < lost_from).collect();
    assert!(kept.len() > READ, "{said}");

    west.restart().unwrap();
    let rest =
        Python::Confluent.consume_as_group(&west.bootstrap(), TOPIC, GROUP, kept.len() - READ).unwrap();
    is_what_was_written(&records, &kept, &[read, rest].concat()).unwrap();
}
