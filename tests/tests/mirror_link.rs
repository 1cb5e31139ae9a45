//! A flow from a source that is far away, and from one that hangs, dies and comes back: groups are synced all the same,
//! the flow goes on by itself, says meanwhile what it does not know, and stops at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};
use tests::deadline::{Deadline, sleep};
use tests::fault_proxy::FaultProxy;
use tests::flow::{Flow, connect};
use tests::flow_source;
use tests::longhaul::Verb;
use tests::oracle;
use tests::scratch::Scratch;
use tests::server::{Kind, Server};

const PARTITIONS: [(&str, i32); 3] = [("events", 0), ("events", 1), ("cut", 0)];
const GROUP: &str = "readers";
/// Between continents.
const EACH_WAY: Duration = Duration::from_millis(200);
/// A pass over one group takes some ten round trips, the machine may be loaded, and looking takes time too.
const SYNCED_WITHIN: Duration = Duration::from_secs(30);
/// A stop waits for the target alone, which is near.
const STOPPED_WITHIN: Duration = Duration::from_secs(4);
/// Long enough for a pass over the groups to have begun, and with it all that the flow asks of its source.
const ALL_BEGUN: Duration = Duration::from_secs(2);
/// Longer than the target's group waits for its member.
const OUTLIVES_THE_SESSION: Duration = Duration::from_secs(8);

struct World {
    _scratch: Scratch,
    source: Server,
    _target: Server,
    proxy: FaultProxy,
    flow: Flow,
    mirror: Verb,
}

impl World {
    async fn start(each_way: Duration) -> Self {
        let scratch = Scratch::new().unwrap();
        let proxy = FaultProxy::listen().unwrap();
        let source = Server::start_behind(&proxy, Kind::Longhaul, scratch.join("old"), &[]).unwrap();
        let target = Server::start(Kind::Longhaul, scratch.join("new"), &[]).unwrap();
        flow_source::call(&["fill", &proxy.address()]).unwrap();
        proxy.delay(each_way);
        let ends = (&*proxy.address(), &*target.bootstrap());
        let flow = Flow::declare(scratch.path(), "old-to-new", ends, "topics = [\"*\"]").unwrap();
        let mirror = flow.run().unwrap();
        flow.caught_up(&PARTITIONS).await.unwrap();
        Self { _scratch: scratch, source, _target: target, proxy, flow, mirror }
    }

    fn move_group(&self, count: usize) {
        let read = flow_source::read_as_group(&self.proxy.address(), GROUP, count, "earliest").unwrap();
        assert_eq!(read.len(), count);
    }

    /// Waits until the target has the group where the source has it.
    async fn synced(&self) {
        let within = Deadline::after(SYNCED_WITHIN);
        let source = connect(&self.proxy.address()).await.unwrap();
        let there = source.group(GROUP).positions(None, false).await.unwrap();
        assert!(!there.is_empty());
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
        assert!(!within.passed(), "it took longer than {SYNCED_WITHIN:?}");
    }

    /// Waits until `longhaul status` says something of the flow, and gives all that it says then.
    fn shows(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let seen = Deadline::seconds(30).wait_for(what, || {
            let flow = self.flow.shown()?;
            let done = wanted(&flow);
            last = Some(flow.clone());
            Ok(done.then_some(flow))
        });
        seen.unwrap_or_else(|error| panic!("{error:#}; the last was {last:?}"))
    }

    /// New records are copied, and nothing is left of what was wrong.
    async fn goes_on(&self) {
        flow_source::call(&["late", &self.proxy.address(), "6"]).unwrap();
        self.flow.caught_up(&PARTITIONS).await.unwrap();
        let is_well = |flow: &Value| {
            let caught_up =
                |partition: &Value| partition["lag_offsets"] == 0 && partition["state"] == "caught-up";
            flow["state"] == "running"
                && flow["source_silent_since_ms"].is_null()
                && flow["alarms"] == json!([])
                && partitions(flow).iter().all(caught_up)
        };
        self.shows("that all is well", is_well);
    }

    fn stops_at_once(&mut self) {
        let stopping = Deadline::seconds(30);
        self.mirror.process().stop(stopping).unwrap();
        assert!(stopping.spent() < STOPPED_WITHIN, "it took {:?}", stopping.spent());
    }
}

fn partitions(flow: &Value) -> &[Value] {
    let partitions = flow["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), PARTITIONS.len(), "{flow}");
    partitions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_long_way_groups_are_synced_and_a_stop_is_quick() {
    let mut world = World::start(EACH_WAY).await;
    world.move_group(5);
    world.synced().await;
    let flow = world.shows("the group", |flow| flow["groups"].to_string().contains(GROUP));
    assert_eq!(flow["alarms"], json!([]));
    world.stops_at_once();
    world.proxy.delay(Duration::ZERO);
    oracle::check(&world.flow, &PARTITIONS).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_hangs_or_dies_and_comes_back_is_waited_for() {
    let mut world = World::start(Duration::ZERO).await;
    world.source.freeze(true);
    let silent = world.shows("that the source is silent", |flow| flow["source_silent_since_ms"].is_i64());
    for partition in partitions(&silent) {
        assert!(partition["lag_offsets"].is_null() && partition["state"] == "unknown", "{silent}");
    }
    world.source.freeze(false);
    world.goes_on().await;

    world.source.kill9().unwrap();
    world.shows("what is wrong", |flow| flow["alarms"].as_array().is_some_and(|alarms| !alarms.is_empty()));
    // All connections are gone and the place in the group as well when the mirror wakes up.
    world.mirror.process().freeze(true);
    world.source.restart().unwrap();
    sleep(OUTLIVES_THE_SESSION);
    world.mirror.process().freeze(false);
    world.goes_on().await;
    world.move_group(5);
    world.synced().await;

    world.source.freeze(true);
    sleep(ALL_BEGUN);
    world.stops_at_once();
    world.source.freeze(false);
    oracle::check(&world.flow, &PARTITIONS).await.unwrap();
}
