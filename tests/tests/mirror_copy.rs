//! A flow between clusters of either kind: everything that makes offsets differ is copied, and every offset is
//! translated both ways as a brute-force comparison of the two logs has it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use tests::clients::python::Python;
use tests::deadline::Deadline;
use tests::flow::{Flow, connect};
use tests::flow_source::{self, OF_KAFKA};
use tests::oracle;
use tests::scratch::Scratch;
use tests::server::{Kind, Server};

/// A cleaner that comes at once, and no deletion of data from 2013 by a default.
const SOURCE_SETTINGS: [(&str, &str); 2] =
    [("log.cleaner.backoff.ms", "200"), ("log.retention.check.interval.ms", "1000")];
/// Kills of the target, each at another moment of the copying.
const TARGET_KILLS: u64 = 12;
const OF_ALL: [(&str, i32); 3] = [("events", 0), ("events", 1), ("cut", 0)];
const ALL: [(&str, i32); 6] =
    [("events", 0), ("events", 1), ("cut", 0), ("thin-lz4", 0), ("thin-zstd", 0), ("stamped", 0)];

async fn end_of_cut(target: &Server) -> i64 {
    let target = connect(&target.bootstrap()).await.unwrap();
    oracle::read(&target, &client::TopicPartition::new("cut", 0)).await.unwrap().end
}

async fn copy(from: Kind, to: Kind) {
    let scratch = Scratch::new().unwrap();
    let source = Server::start(from, scratch.join("old"), &SOURCE_SETTINGS).unwrap();
    let target = Server::start(to, scratch.join("new"), &[]).unwrap();
    let (features, partitions) = match from {
        Kind::Kafka => (&OF_KAFKA[..], &ALL[..]),
        Kind::Longhaul => (&[][..], &OF_ALL[..]),
    };
    flow_source::call(&[&["fill", &source.bootstrap()], features].concat()).unwrap();
    let ends = (&*source.bootstrap(), &*target.bootstrap());
    let flow = Flow::declare(scratch.path(), "old-to-new", ends, "topics = [\"*\"]").unwrap();
    let mut mirror = flow.run().unwrap();
    flow.caught_up(partitions).await.unwrap();
    oracle::check(&flow, partitions).await.unwrap();

    // Somebody else writes to the target between two turns of the flow.
    flow_source::call(&["foreign", &target.bootstrap(), "7"]).unwrap();
    for turn in [20, 21] {
        flow_source::call(&[&["more", &source.bootstrap(), &turn.to_string()], features].concat()).unwrap();
        flow.caught_up(partitions).await.unwrap();
    }
    oracle::check(&flow, partitions).await.unwrap();

    // The verbs say what the map says.
    let map = mirror::load_offset_map(&flow.spec, "events", 0).await.unwrap();
    let position = map.position();
    for (offset, reverse) in
        [(0, false), (position.source.0, false), (position.source.0 + 1, false), (3, true)]
    {
        let offset_text = offset.to_string();
        let mut arguments = vec!["events", "0", offset_text.as_str()];
        arguments.extend(reverse.then_some("--reverse"));
        let answer = flow.ask("translate", &arguments).unwrap();
        let wanted = match reverse {
            false => map.translate(mirror::offset_map::SourceOffset(offset)).to_string(),
            true => map.translate_back(mirror::offset_map::TargetOffset(offset)).to_string(),
        };
        let said = format!("{} {}", answer["kind"].as_str().unwrap(), answer["offset"]);
        assert_eq!(said, wanted);
    }

    // A stop drains; the next process goes on at the same place, and nothing is copied again.
    mirror.process().stop(Deadline::seconds(20)).unwrap();
    let before = end_of_cut(&target).await;
    let _mirror = flow.run().unwrap();
    flow.wait_for("a second owner", |status| status.generation > 1).await.unwrap();
    flow_source::call(&[&["more", &source.bootstrap(), "22"], features].concat()).unwrap();
    flow.caught_up(partitions).await.unwrap();
    oracle::check(&flow, partitions).await.unwrap();
    assert_eq!(end_of_cut(&target).await, before + 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_kafka_to_kafka() {
    copy(Kind::Kafka, Kind::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_kafka_to_longhaul() {
    copy(Kind::Kafka, Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_longhaul_to_kafka() {
    copy(Kind::Longhaul, Kind::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_longhaul_to_longhaul() {
    copy(Kind::Longhaul, Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_killed_again_and_again_while_it_is_copied_to() {
    let scratch = Scratch::new().unwrap();
    let source = Server::start(Kind::Longhaul, scratch.join("old"), &[]).unwrap();
    let mut target = Server::start(Kind::Longhaul, scratch.join("new"), &[]).unwrap();
    flow_source::call(&["fill", &source.bootstrap()]).unwrap();
    let ends = (&*source.bootstrap(), &*target.bootstrap());
    let flow = Flow::declare(scratch.path(), "old-to-new", ends, "topics = [\"*\"]").unwrap();
    let _mirror = flow.run().unwrap();
    flow.caught_up(&OF_ALL).await.unwrap();
    let writing = ["load", "--bootstrap", &source.bootstrap(), "--topic", "events"];
    let mut writer = Python::Confluent.start(&writing, &scratch.join("writer.log")).unwrap();
    for kill in 1..=TARGET_KILLS {
        tests::deadline::sleep(Duration::from_millis(137 * kill % 900));
        target.kill9().unwrap();
        target.restart().unwrap();
    }
    let status = writer.stop(Deadline::seconds(60)).unwrap();
    assert!(status.success(), "{}", writer.log_tail());
    flow.caught_up(&OF_ALL).await.unwrap();
    oracle::check(&flow, &OF_ALL).await.unwrap();
}
