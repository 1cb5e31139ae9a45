//! Two clusters that copy one topic to each other: each ends up with both sides' records, in an order of its own, and
//! a group that goes on at the other side skips none of them.
//!
//! What a group has not read is found by brute force, from the logs of both sides.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::admin::NewTopic;
use client::group::{Membership, Position};
use client::producer::OutgoingRecord;
use client::{Cluster, Producer, ProducerOptions, TopicPartition};
use mirror::FlowStatus;
use serde_json::Value;
use tests::deadline::{Deadline, sleep};
use tests::flow::{Flow, connect};
use tests::longhaul::{Verb, verb};
use tests::oracle;
use tests::scratch::Scratch;
use tests::server::{Kind, Server};
use wire::{LeaderEpoch, Offset};

const COPIED: [(&str, i32); 1] = [("t", 0)];
/// Records of the west before there is a flow back.
const FIRST: usize = 500;
/// Stood in the west before, and reads no more.
const IDLE: &str = "idle";
const IDLE_AT: i64 = 123;
const TIME_MS: i64 = 1_357_016_400_000;

struct Side {
    server: Server,
    cluster: Cluster,
    producer: Producer,
    name: &'static str,
    written: usize,
}

impl Side {
    async fn start(scratch: &Scratch, name: &'static str) -> Self {
        let server = Server::start(Kind::Longhaul, scratch.join(name), &[]).unwrap();
        let cluster = connect(&server.bootstrap()).await.unwrap();
        let producer = Producer::new(&cluster, ProducerOptions::default()).await.unwrap();
        Self { server, cluster, producer, name, written: 0 }
    }

    async fn write(&mut self, records: usize) {
        for _ in 0..records {
            let value = Some(Bytes::from(format!("{} {}", self.name, self.written)));
            let record =
                OutgoingRecord { partition: Some(0), timestamp_ms: TIME_MS, value, ..Default::default() };
            self.producer.send_now(&Arc::from("t"), record).await.unwrap();
            self.written += 1;
        }
        self.producer.flush().await;
    }

    /// The values of the log, by offset; `None` where there is no record.
    async fn log(&self) -> Vec<Option<Vec<u8>>> {
        let log = oracle::read(&self.cluster, &partition()).await.unwrap();
        let mut values = vec![None; usize::try_from(log.end).unwrap()];
        for record in log.records {
            values[usize::try_from(record.offset).unwrap()] = record.value;
        }
        values
    }

    async fn commit(&self, group: &str, offset: i64) {
        let place =
            Position { offset: Offset(offset), leader_epoch: LeaderEpoch::NONE, metadata: String::new() };
        let positions = [(partition(), place)].into();
        self.cluster.group(group).commit(&Membership::OUTSIDE, &positions).await.unwrap();
    }

    async fn position(&self, group: &str) -> Option<i64> {
        let positions = self.cluster.group(group).positions(None, false).await.unwrap();
        positions.get(&partition()).map(|position| position.offset.0)
    }

    /// Waits until a group stands there, which it may never be beyond: a flow that has not yet written down its last
    /// copies says less than there is.
    async fn comes_to(&self, group: &str, wanted: i64) {
        let deadline = Deadline::seconds(30);
        loop {
            let at = self.position(group).await;
            if at == Some(wanted) {
                return;
            }
            assert!(
                at.is_none_or(|at| at < wanted),
                "{group} is at {at:?} in the {}, not {wanted}",
                self.name
            );
            assert!(!deadline.passed(), "{group} stays at {at:?} in the {}, not {wanted}", self.name);
            sleep(Duration::from_millis(200));
        }
    }
}

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

struct Pair {
    scratch: Scratch,
    west: Side,
    east: Side,
    there: Flow,
    _there: Verb,
}

impl Pair {
    /// The west has records and a group, and all of it is in the east. `declared` follows the flow's section in its file.
    async fn start(declared: &str) -> Self {
        let scratch = Scratch::new().unwrap();
        let (mut west, east) = (Side::start(&scratch, "west").await, Side::start(&scratch, "east").await);
        let configs = vec![("retention.ms".to_owned(), "-1".to_owned())];
        let topic = NewTopic { name: "t".to_owned(), partitions: 1, replication_factor: -1, configs };
        west.cluster.create_topic(&topic).await.unwrap();
        west.write(FIRST).await;
        west.commit(IDLE, IDLE_AT).await;
        let ends = (&*west.server.bootstrap(), &*east.server.bootstrap());
        let lines = format!("topics = [\"t\"]\n{declared}");
        let there = Flow::declare(scratch.path(), "there", ends, &lines).unwrap();
        let file = scratch.join("there.toml").display().to_string();
        let running =
            Verb::start(&["mirror", "run", &file, "--flow", "there"], scratch.join("there.log")).unwrap();
        there.caught_up(&COPIED).await.unwrap();
        east.comes_to(IDLE, IDLE_AT).await;
        Self { scratch, west, east, there, _there: running }
    }

    fn back(&self) -> Flow {
        let ends = (&*self.east.server.bootstrap(), &*self.west.server.bootstrap());
        Flow::declare(self.scratch.path(), "back", ends, "topics = [\"t\"]").unwrap()
    }
}

/// Waits until the flow has seen the group there, and says what came of it.
async fn synced(flow: &Flow, group: &str, source: i64) -> FlowStatus {
    let seen = |status: &FlowStatus| {
        status.groups.iter().any(|known| known.group == group && known.source == source)
    };
    flow.wait_for(&format!("the sync of {group} at {source}"), seen).await.unwrap()
}

/// The first offset of `there` that holds a record which is not among the first `next` of `here`.
fn first_unread(here: &[Option<Vec<u8>>], next: usize, there: &[Option<Vec<u8>>]) -> i64 {
    let is_unread = |value: &Option<Vec<u8>>| value.is_some() && !here[..next].contains(value);
    there.iter().position(is_unread).unwrap_or(there.len()) as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_a_pair_skip_nothing_at_the_other_side() {
    let mut pair = Pair::start("").await;
    let back = pair.back();
    let mut running = back.run().unwrap();
    back.caught_up(&COPIED).await.unwrap();
    synced(&back, IDLE, IDLE_AT).await;
    sleep(Duration::from_secs(3));
    for side in [&pair.west, &pair.east] {
        assert_eq!(side.position(IDLE).await, Some(IDLE_AT), "{} moved a group that read nothing", side.name);
    }

    // Both write at once, so that each side has an order of its own.
    for _ in 0..12 {
        pair.west.write(9).await;
        pair.east.write(7).await;
        sleep(Duration::from_millis(30));
    }
    pair.there.caught_up(&COPIED).await.unwrap();
    back.caught_up(&COPIED).await.unwrap();
    let (west, east) = (pair.west.log().await, pair.east.log().await);
    let records = |log: &[Option<Vec<u8>>]| log.iter().filter(|value| value.is_some()).count();
    assert_eq!((records(&west), records(&east)), (FIRST + 12 * 16, FIRST + 12 * 16));
    assert_ne!(west, east, "the orders are the same, so this proves nothing");

    let asked: Vec<usize> = (0..east.len()).step_by(23).chain([east.len()]).collect();
    for next in &asked {
        pair.east.commit(&format!("at-{next}"), *next as i64).await;
    }
    for next in &asked {
        let (group, unread) = (format!("at-{next}"), first_unread(&east, *next, &west));
        synced(&back, &group, *next as i64).await;
        let answer = back.ask("translate", &["t", "0", &next.to_string()]).unwrap();
        assert_eq!(answer["offset"].as_i64(), Some(unread), "{answer} for {next}");
        pair.west.comes_to(&group, unread).await;
        assert_eq!(pair.east.position(&group).await, Some(*next as i64), "the other flow moved {group}");
    }

    // Without the source nobody knows more, and nobody moves.
    let mut last = Vec::new();
    for next in &asked {
        last.push(pair.west.position(&format!("at-{next}")).await);
    }
    // What the west writes now comes to the east, and whether a group read it there nobody knows once the east is dead.
    pair.west.write(5).await;
    pair.there.caught_up(&COPIED).await.unwrap();
    let end = pair.west.log().await.len() as i64;
    pair.east.server.kill9().unwrap();
    let file = pair.scratch.join("back.toml").display().to_string();
    let answer = verb(&["mirror", "translate", &file, "back", "t", "0", "600"]).unwrap();
    assert!(!answer.status.success() && answer.stderr.contains("copied both ways"), "{}", answer.stderr);
    let report = back.ask("failover", &[]).unwrap();
    assert_eq!(report["unsettled"].as_array().map(Vec::len), Some(0), "{report}");
    for (next, last) in asked.iter().zip(last) {
        let group = format!("at-{next}");
        assert_eq!(pair.west.position(&group).await, last, "{report}");
        let said = report["groups"].as_array().unwrap().iter().find(|said| said["group"] == *group);
        assert_eq!(said.map(|said| &said["to"]), Some(&Value::from(end)), "{report} for {group}");
    }
    running.kill9().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_back_that_is_declared_and_never_ran_loses_no_group_its_place() {
    let back = "[flow.back]\nfrom = \"new\"\nto = \"old\"\ntopics = [\"t\"]\n";
    let mut pair = Pair::start(back).await;
    let answer = pair.there.ask("translate", &["t", "0", "200"]).unwrap();
    assert_eq!((answer["kind"].as_str(), answer["offset"].as_i64()), (Some("exact"), Some(200)), "{answer}");

    // What the east writes itself comes to no reader of the west as long as nothing flows back.
    pair.east.write(5).await;
    pair.west.write(5).await;
    pair.there.caught_up(&COPIED).await.unwrap();
    let all = pair.west.log().await.len();
    pair.west.commit("all", all as i64).await;
    let unread = first_unread(&pair.west.log().await, all, &pair.east.log().await);
    assert_eq!(unread, FIRST as i64);
    synced(&pair.there, "all", all as i64).await;
    pair.east.comes_to("all", unread).await;

    pair.west.server.kill9().unwrap();
    let report = pair.there.ask("failover", &[]).unwrap();
    assert_eq!(pair.east.position(IDLE).await, Some(IDLE_AT), "{report}");
    assert_eq!(pair.east.position("all").await, Some(unread), "{report}");
}
