//! Groups are carried over, the source dies, the flow is promoted: the group goes on at the target at the exact next
//! record, or reads again no more than the failover said; and a promoted flow stays stopped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::time::Duration;

use client::TopicPartition;
use client::group::{Membership, Position};
use mirror::map_topic::MAP_TOPIC;
use serde_json::{Value, json};
use tests::deadline::{Deadline, sleep};
use tests::fault_proxy::{FaultProxy, Point};
use tests::flow::{Flow, connect};
use tests::flow_source::{self, Read};
use tests::longhaul::Verb;
use tests::oracle;
use tests::scratch::Scratch;
use tests::server::{Kind, Server};
use wire::{LeaderEpoch, Offset, Request};

const PARTITIONS: [(&str, i32); 3] = [("events", 0), ("events", 1), ("cut", 0)];
const GROUP: &str = "readers";
/// A group that has committed in one partition of two.
const HALF: &str = "half";

struct World {
    _scratch: Scratch,
    source: Server,
    _target: Server,
    proxy: FaultProxy,
    flow: Flow,
    mirror: Verb,
}

impl World {
    async fn start(from: Kind, to: Kind) -> Self {
        let scratch = Scratch::new().unwrap();
        let source = Server::start(from, scratch.join("old"), &[]).unwrap();
        let proxy = FaultProxy::listen().unwrap();
        let target = Server::start_behind(&proxy, to, scratch.join("new"), &[]).unwrap();
        let features: &[&str] = if from == Kind::Kafka { &["transactions"] } else { &[] };
        flow_source::call(&[&["fill", &source.bootstrap()], features].concat()).unwrap();
        let ends = (&*source.bootstrap(), &*proxy.address());
        let flow = Flow::declare(scratch.path(), "old-to-new", ends, "topics = [\"*\"]").unwrap();
        let mirror = flow.run().unwrap();
        flow.caught_up(&PARTITIONS).await.unwrap();
        Self { _scratch: scratch, source, _target: target, proxy, flow, mirror }
    }

    /// The values of `events` at the target, by partition, in order.
    async fn at_target(&self) -> [Vec<Option<String>>; 2] {
        let target = connect(&self.proxy.address()).await.unwrap();
        let mut all = [Vec::new(), Vec::new()];
        for (number, values) in (0..).zip(&mut all) {
            let log = oracle::read(&target, &TopicPartition::new("events", number)).await.unwrap();
            let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
            *values = log.records.into_iter().map(|record| record.value.map(text)).collect();
        }
        all
    }

    fn read_rest(&self) -> Vec<Read> {
        flow_source::read_as_group(&self.proxy.address(), GROUP, 100_000, "earliest").unwrap()
    }

    async fn synced(&self) {
        let there = connect(&self.source.bootstrap()).await.unwrap();
        let there = there.group(GROUP).positions(None, false).await.unwrap();
        let synced = self.flow.wait_for("the group's sync", |status| {
            there.iter().all(|(partition, position)| {
                status.groups.iter().any(|group| {
                    (&*group.topic, group.partition) == (&*partition.topic, partition.partition)
                        && group.source == position.offset.0
                        && group.reason.is_none()
                })
            })
        });
        synced.await.unwrap();
    }
}

impl World {
    /// Waits until `longhaul status` says something of the flow; with a dead cluster it may have to be asked again.
    fn shows(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let mut last = None;
        let seen = Deadline::seconds(30).wait_for(what, || {
            let Ok(flow) = self.flow.shown() else { return Ok(None) };
            let done = wanted(&flow);
            last = Some(flow);
            Ok(done.then_some(()))
        });
        seen.unwrap_or_else(|error| panic!("{error:#}; the last was {last:?}"));
    }
}

fn values(read: &[Read], partition: i32) -> Vec<Option<String>> {
    read.iter().filter(|(of, ..)| *of == partition).map(|(.., value)| value.clone()).collect()
}

async fn fail_over(from: Kind, to: Kind) {
    let mut world = World::start(from, to).await;
    let first = flow_source::read_as_group(&world.source.bootstrap(), GROUP, 40, "earliest").unwrap();
    assert_eq!(first.len(), 40);
    world.synced().await;
    world.shows("the group", |flow| flow["groups"].to_string().contains(GROUP));

    world.source.kill9().unwrap();
    // The first to promote the flow dies with the mark written and does not know it; the second says the same.
    let is_promotion = |request: &Request| match request {
        Request::Produce(request) => {
            let map = request.topic_data.iter().filter(|topic| *topic.name == *MAP_TOPIC);
            let records = map
                .flat_map(|topic| &topic.partition_data)
                .filter_map(|data| data.records.as_ref()?.as_bytes());
            records.into_iter().any(|bytes| bytes.windows(10).any(|window| window == b"promotion/"))
        }
        _ => false,
    };
    for point in [Point::BeforeServer, Point::AfterServer] {
        let trap = world.proxy.trap(point, is_promotion);
        let mut failover = world.flow.start("failover").unwrap();
        trap.wait(&Deadline::seconds(60)).unwrap();
        failover.kill9().unwrap();
        drop(trap);
    }
    let report = world.flow.ask("failover", &[]).unwrap();
    assert_eq!(report["unsettled"], Value::Array(Vec::new()), "{report}");
    for group in report["groups"].as_array().unwrap() {
        assert!(group["reason"].is_null(), "{report}");
    }
    // The owner has noticed and stopped.
    world.shows("that it was promoted", |flow| flow["state"] == "promoted");

    let rest = world.read_rest();
    let all = world.at_target().await;
    for (partition, wanted) in (0..).zip(&all) {
        let read = [values(&first, partition), values(&rest, partition)].concat();
        assert_eq!(&read, wanted, "none read twice, none skipped in partition {partition}");
    }

    // The source is back: the promoted flow stays stopped, and nothing more comes.
    world.source.restart().unwrap();
    flow_source::call(&["more", &world.source.bootstrap(), "30"]).unwrap();
    world.mirror.restart().unwrap();
    world.shows("that it was promoted", |flow| flow["state"] == "promoted");
    assert_eq!(world.at_target().await, all);
    let answer = world.flow.ask("translate", &["cut", "0", "37"]).unwrap();
    assert_eq!((answer["kind"].as_str(), answer["offset"].as_i64()), (Some("exact"), Some(0)));
    world.flow.ask("redeclare", &[]).unwrap();
    world.mirror.restart().unwrap();
    world.flow.caught_up(&PARTITIONS).await.unwrap();
    // Not `cut`: Apache Kafka forgets a log start that it had not checkpointed when it was killed.
    oracle::check(&world.flow, &PARTITIONS[..2]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_on_exactly_from_kafka_to_longhaul() {
    fail_over(Kind::Kafka, Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_on_exactly_from_longhaul_to_kafka() {
    fail_over(Kind::Longhaul, Kind::Kafka).await;
}

/// The source lives: what a group has just read is carried over by the failover itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_takes_the_last_positions() {
    let mut world = World::start(Kind::Longhaul, Kind::Longhaul).await;
    // Nobody syncs any more; the group reads on.
    world.mirror.kill9().unwrap();
    let first = flow_source::read_as_group(&world.source.bootstrap(), GROUP, 40, "earliest").unwrap();
    let source = connect(&world.source.bootstrap()).await.unwrap();
    let place = Position { offset: Offset(3), leader_epoch: LeaderEpoch::NONE, metadata: String::new() };
    let only = [(TopicPartition::new("events", 0), place)].into();
    source.group(HALF).commit(&Membership::OUTSIDE, &only).await.unwrap();
    let report = world.flow.ask("failover", &[]).unwrap();
    let groups = report["groups"].as_array().unwrap();
    assert!(!groups.is_empty() && groups.iter().all(|group| group["reason"].is_null()), "{report}");
    assert!(groups.iter().any(|group| group["group"] == HALF && group["partition"] == 0), "{report}");
    // Of `cut`, which it never touched, nothing is said.
    let not_synced = report["not_synced"].as_array().unwrap();
    let of_half: Vec<&Value> = not_synced.iter().filter(|missing| missing["group"] == HALF).collect();
    let end = &report["promotion"]["positions"]["events-1"][1];
    assert_eq!(of_half, [&json!({"group": HALF, "topic": "events", "partition": 1, "to": end})], "{report}");
    let rest = world.read_rest();
    for (partition, wanted) in (0..).zip(&world.at_target().await) {
        let read = [values(&first, partition), values(&rest, partition)].concat();
        assert_eq!(&read, wanted, "partition {partition}");
    }
}

/// What a group commits in another topic, under the old name, says nothing of the copy: neither while the flow runs, nor
/// in a failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_a_topic_that_was_made_again_stays_where_it_was() {
    let mut world = World::start(Kind::Longhaul, Kind::Longhaul).await;
    let (source, bootstrap) = (connect(&world.source.bootstrap()).await.unwrap(), world.source.bootstrap());
    let commit = async |offset| {
        let place =
            Position { offset: Offset(offset), leader_epoch: LeaderEpoch::NONE, metadata: String::new() };
        let positions = [(TopicPartition::new("cut", 0), place)].into();
        source.group(HALF).commit(&Membership::OUTSIDE, &positions).await.unwrap();
    };
    commit(50).await;
    let synced = world.flow.wait_for("the group's sync", |status| {
        status.groups.iter().any(|group| group.group == HALF && group.from == Some(13))
    });
    synced.await.unwrap();
    for arguments in
        [&["delete", &bootstrap, "cut"][..], &["create", &bootstrap, "cut", "1", "retention.ms=-1"]]
    {
        flow_source::call(arguments).unwrap();
    }
    commit(90).await;
    let paused =
        world.flow.wait_for("the event", |status| status.events.iter().any(|event| event.topic == "cut"));
    paused.await.unwrap();
    let at_target = async |when: &str| {
        let target = connect(&world.proxy.address()).await.unwrap();
        let positions = target.group(HALF).positions(None, false).await.unwrap();
        assert_eq!(positions[&TopicPartition::new("cut", 0)].offset, Offset(13), "{when}");
    };
    commit(95).await;
    sleep(Duration::from_secs(3));
    at_target("while the flow runs").await;
    world.mirror.kill9().unwrap();
    commit(99).await;
    let report = world.flow.ask("failover", &[]).unwrap();
    assert!(report["groups"].to_string().contains("no longer the one that was copied"), "{report}");
    at_target("after the failover").await;
}

/// The source dies while it is written to, read from and copied: nothing of the copy is skipped, and what is read again
/// is at most what the failover said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sudden_death_skips_nothing_and_repeats_what_was_said() {
    let seed = std::env::var("LONGHAUL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(u64::from(std::process::id()));
    println!("LONGHAUL_SEED={seed}");
    let mut world = World::start(Kind::Longhaul, Kind::Longhaul).await;
    let bootstrap = world.source.bootstrap();
    let writing = {
        let bootstrap = bootstrap.clone();
        std::thread::spawn(move || {
            for turn in 30.. {
                if flow_source::call(&["more", &bootstrap, &turn.to_string()]).is_err() {
                    return;
                }
            }
        })
    };
    let reading = std::thread::spawn(move || {
        let mut all: Vec<Read> = Vec::new();
        // What was read and not committed at the end is not counted as read: the reader dies with the source.
        while let Ok(read) = flow_source::read_as_group(&bootstrap, GROUP, 10, "earliest")
            && !read.is_empty()
        {
            all.extend(read);
        }
        all
    });
    sleep(Duration::from_millis(4_000 + seed % 4_000));
    world.source.kill9().unwrap();
    let report = world.flow.ask("failover", &[]).unwrap();
    let (first, ()) = (reading.join().unwrap(), writing.join().unwrap());
    let rest = world.read_rest();
    let at_target = world.at_target().await;
    for (partition, wanted) in (0..).zip(&at_target) {
        let (first, rest) = (values(&first, partition), values(&rest, partition));
        let of_partition = |kind: &str| {
            let is_of_it = |said: &&Value| {
                said["group"] == GROUP && said["topic"] == "events" && said["partition"] == partition
            };
            report[kind].as_array().unwrap().iter().filter(is_of_it).collect::<Vec<_>>()
        };
        let range: i64 = [of_partition("groups"), of_partition("not_synced")]
            .concat()
            .iter()
            // Where it is not synced, the group begins anew, here as there.
            .map(|said| said["to"].as_i64().unwrap() - said["from"].as_i64().unwrap_or(0))
            .sum();
        let again = rest.iter().filter(|value| value.is_some() && first.contains(value)).count();
        assert!(again as i64 <= range, "{again} read again, {range} said: {report}");
        // `None` is a value of several records; all others are unique.
        let read: BTreeSet<_> = first.iter().chain(&rest).collect();
        let skipped: Vec<_> = wanted.iter().filter(|value| !read.contains(value)).collect();
        assert!(skipped.is_empty(), "skipped in partition {partition}: {skipped:?}");
        println!(
            "partition {partition}: {} read at the source, {again} again, at most {range} said",
            first.len()
        );
    }
}
