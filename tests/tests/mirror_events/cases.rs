//! The cases, for any kinds of cluster.

use mirror::FlowStatus;
use tests::deadline::Deadline;
use tests::flow::Flow;
use tests::flow_source;
use tests::longhaul::Verb;
use tests::oracle;
use tests::scratch::Scratch;
use tests::server::{Kind, Server};

pub(crate) const EVENTS: [(&str, i32); 2] = [("events", 0), ("events", 1)];
pub(crate) const ALL: [(&str, i32); 3] = [("events", 0), ("events", 1), ("cut", 0)];

pub(crate) struct World {
    _scratch: Scratch,
    pub(crate) source: Server,
    pub(crate) target: Server,
    pub(crate) flow: Flow,
    pub(crate) mirror: Verb,
}

impl World {
    pub(crate) async fn start(from: Kind, to: Kind) -> Self {
        let scratch = Scratch::new().unwrap();
        let source = Server::start(from, scratch.join("old"), &[]).unwrap();
        let target = Server::start(to, scratch.join("new"), &[]).unwrap();
        flow_source::call(&["fill", &source.bootstrap()]).unwrap();
        let ends = (&*source.bootstrap(), &*target.bootstrap());
        let flow = Flow::declare(scratch.path(), "old-to-new", ends, "topics = [\"*\"]").unwrap();
        let mirror = flow.run().unwrap();
        flow.caught_up(&ALL).await.unwrap();
        Self { _scratch: scratch, source, target, flow, mirror }
    }

    pub(crate) fn call(&self, verb: &str, more: &[&str]) {
        flow_source::call(&[&[verb, &self.source.bootstrap()], more].concat()).unwrap();
    }

    pub(crate) fn stop(&mut self) {
        self.mirror.process().stop(Deadline::seconds(20)).unwrap();
    }

    /// Waits for the one event of `cut`, which says all of this.
    pub(crate) async fn event(&self, said: &[&str]) -> FlowStatus {
        let is_it = |status: &FlowStatus| {
            status.events.iter().any(|event| {
                let text = event.to_string();
                event.topic == "cut" && said.iter().all(|part| text.contains(part))
            })
        };
        let status = self.flow.wait_for(&format!("an event that says {said:?}"), is_it).await.unwrap();
        assert!(status.events.iter().all(|event| event.topic == "cut"), "{:?}", status.events);
        status
    }

    /// The other topic is still copied, and exactly.
    pub(crate) async fn others_go_on(&mut self) {
        let events = connect_and_count(&self.source.bootstrap()).await;
        self.call("late", &["3"]);
        let status = self.flow.wait_for("the other topic's copy", |status| {
            EVENTS.iter().zip(events).all(|((topic, partition), end)| {
                status.partitions.iter().any(|known| {
                    known.topic == *topic && known.partition == *partition && known.source_position > end
                })
            })
        });
        status.await.unwrap();
        oracle::check(&self.flow, &EVENTS).await.unwrap();
    }
}

async fn connect_and_count(bootstrap: &str) -> [i64; 2] {
    let cluster = tests::flow::connect(bootstrap).await.unwrap();
    let mut ends = [0; 2];
    for (end, (topic, partition)) in ends.iter_mut().zip(EVENTS) {
        *end = oracle::read(&cluster, &client::TopicPartition::new(topic, partition)).await.unwrap().end;
    }
    ends
}

/// Copied records of `cut` at the target.
pub(crate) async fn copied(world: &World) -> usize {
    let cluster = tests::flow::connect(&world.target.bootstrap()).await.unwrap();
    oracle::read(&cluster, &client::TopicPartition::new("cut", 0)).await.unwrap().records.len()
}

pub(crate) async fn truncated(from: Kind, to: Kind) {
    let mut world = World::start(from, to).await;
    let before = copied(&world).await;
    world.stop();
    // 100 records were copied to offset 100; of the next 100 half are gone before the flow is back.
    world.call("more", &["20"]);
    world.call("cut", &["cut", "150"]);
    world.mirror.restart().unwrap();
    world.event(&["100..150", "deleted before they were copied", "retention"]).await;
    world.others_go_on().await;
    assert_eq!(copied(&world).await, before);
    // What was copied can still be asked for, and a restart says the same.
    let answer = world.flow.ask("translate", &["cut", "0", "99"]).unwrap();
    assert_eq!((answer["kind"].as_str(), answer["offset"].as_i64()), (Some("exact"), Some(62)));
    world.mirror.restart().unwrap();
    world.event(&["100..150"]).await;
}

pub(crate) async fn deleted_and_made_again(from: Kind, to: Kind) {
    let mut world = World::start(from, to).await;
    let before = copied(&world).await;
    world.call("delete", &["cut"]);
    world.event(&["deleted at the source"]).await;
    world.others_go_on().await;
    // The next owner says it too.
    world.mirror.restart().unwrap();
    world.flow.wait_for("the next owner", |status| status.generation > 1).await.unwrap();
    world.event(&["deleted at the source"]).await;
    // Another topic under the name, with fewer records, then with more: never taken for the old one.
    world.call("create", &["cut", "1", "retention.ms=-1"]);
    world.mirror.restart().unwrap();
    world.event(&["re-created at the source", "its id was"]).await;
    world.others_go_on().await;
    assert_eq!(copied(&world).await, before);
}

/// Made again while the flow runs: the next fetch meets another topic.
pub(crate) async fn made_again(from: Kind) {
    let mut world = World::start(from, Kind::Longhaul).await;
    let before = copied(&world).await;
    world.call("delete", &["cut"]);
    world.call("create", &["cut", "3", "retention.ms=-1"]);
    world.call("more", &["20"]);
    world.event(&["at the source"]).await;
    world.others_go_on().await;
    assert_eq!(copied(&world).await, before);
    world.mirror.restart().unwrap();
    world.event(&["re-created at the source"]).await;
}

/// The target's topic goes away under the flow, and while nobody looks.
pub(crate) async fn target_deleted(to: Kind) {
    let mut world = World::start(Kind::Longhaul, to).await;
    flow_source::call(&["delete", &world.target.bootstrap(), "cut"]).unwrap();
    world.call("more", &["20"]);
    world.event(&["deleted at the target"]).await;
    world.others_go_on().await;
    world.mirror.restart().unwrap();
    world.flow.wait_for("the next owner", |status| status.generation > 1).await.unwrap();
    world.event(&["deleted at the target"]).await;
    world.others_go_on().await;
}
