//! The cases of the target's own log: it deletes its oldest records, loses its newest, or gets others in their place.
//!
//! In all of them `cut` begins at source offset 37, so that source offset 100 is target offset 63.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::TopicPartition;
use mirror::map_topic::{Key, MAP_TOPIC};
use tests::clients::java::{self, Tool};
use tests::deadline::{Deadline, sleep};
use tests::flow::connect;
use tests::flow_source;
use tests::oracle;
use tests::server::Kind;

use crate::cases::{ALL, EVENTS, World, copied};

/// The flow asks every half minute where the target's log begins.
const FORGOTTEN_WITHIN_SECONDS: u64 = 90;
/// Records of somebody else, more than the target lost.
const OTHERS: usize = 150;

impl World {
    /// Stops the flow, then the target; `meanwhile` works on what it left, and both go on.
    fn while_target_is_down(&mut self, meanwhile: impl FnOnce(&Self, &Path)) {
        self.stop();
        self.target.stop().unwrap();
        meanwhile(self, &self.target.data());
        self.target.restart().unwrap();
        self.mirror.restart().unwrap();
    }

    pub(crate) fn translates(&self, arguments: &[&str], kind: &str, offset: i64) {
        let answer = self.flow.ask("translate", &[&["cut", "0"], arguments].concat()).unwrap();
        let said = (answer["kind"].as_str(), answer["offset"].as_i64());
        assert_eq!(said, (Some(kind), Some(offset)), "{arguments:?}");
    }

    /// Waits until the map of `cut` begins at this source offset, as the target has it.
    async fn map_begins_at(&self, source: i64) {
        let deadline = Deadline::seconds(FORGOTTEN_WITHIN_SECONDS);
        loop {
            let map = mirror::load_offset_map(&self.flow.spec, "cut", 0).await.unwrap();
            if map.start().source.0 == source {
                return;
            }
            assert!(!deadline.passed(), "the map still begins at {:?}", map.start());
            sleep(Duration::from_millis(500));
        }
    }

    /// Starts of the blocks of `cut` that are in the map topic, and of those that a tombstone took out of it.
    async fn blocks_of_cut(&self) -> (Vec<i64>, Vec<i64>) {
        let target = connect(&self.target.bootstrap()).await.unwrap();
        let known = target.refresh(&[Arc::from("cut")]).await.unwrap();
        let cut = known.topics["cut"].id;
        let log = oracle::read(&target, &TopicPartition::new(MAP_TOPIC, 0)).await.unwrap();
        let mut blocks = BTreeMap::new();
        for record in log.records {
            let key = String::from_utf8(record.key.unwrap()).unwrap();
            if let Ok(Key::Block { partition, generation, start }) = key.parse::<Key>()
                && partition.target_topic == cut
            {
                blocks.insert((generation, start.0), record.value.is_some());
            }
        }
        let starts = |is_there: bool| -> Vec<i64> {
            let of_kind = blocks.iter().filter(move |(_, there)| **there == is_there);
            of_kind.map(|((_, start), _)| *start).collect()
        };
        (starts(true), starts(false))
    }

    /// `longhaul status` shows the pause, with these words.
    pub(crate) fn shows_the_pause(&self, said: &str) {
        let mut last = None;
        let seen = Deadline::seconds(30).wait_for("the pause in the status", || {
            let Ok(flow) = self.flow.shown() else { return Ok(None) };
            let is_it = flow["state"] == "paused" && flow["partitions"].to_string().contains(said);
            last = Some(flow);
            Ok(is_it.then_some(()))
        });
        seen.unwrap_or_else(|error| panic!("{error:#}; the last was {last:?}"));
    }
}

/// Records that the target deleted are forgotten in its map topic, and nothing else is.
pub(crate) async fn trimmed(to: Kind) {
    let mut world = World::start(Kind::Longhaul, to).await;
    // What the next owner copies has a block of its own.
    world.stop();
    world.call("more", &["20"]);
    world.mirror.restart().unwrap();
    world.flow.caught_up(&ALL).await.unwrap();
    world.translates(&["99"], "exact", 62);
    assert_eq!(world.blocks_of_cut().await.0, [37, 100]);

    flow_source::call(&["cut", &world.target.bootstrap(), "cut", "63"]).unwrap();
    world.map_begins_at(100).await;
    let (there, gone) = world.blocks_of_cut().await;
    assert!(there == [100] && gone.contains(&37), "{there:?} and not {gone:?}");
    let answers = |world: &World| {
        world.translates(&["37"], "before", 63);
        world.translates(&["99"], "before", 63);
        world.translates(&["100"], "exact", 63);
        world.translates(&["199"], "exact", 162);
        world.translates(&["62", "--reverse"], "before", 100);
        world.translates(&["63", "--reverse"], "exact", 100);
    };
    answers(&world);

    // The flow goes on, and so does the next owner, with the same map.
    world.call("more", &["21"]);
    world.flow.caught_up(&ALL).await.unwrap();
    world.translates(&["299"], "exact", 262);
    world.stop();
    world.call("more", &["22"]);
    world.mirror.restart().unwrap();
    world.flow.caught_up(&ALL).await.unwrap();
    answers(&world);
    world.translates(&["399"], "exact", 362);
    assert_eq!(copied(&world).await, 300);
    oracle::check(&world.flow, &EVENTS).await.unwrap();
}

/// One partition's folder comes from an older copy, as when a disk was restored, and the map topic beside it does not:
/// the flow knows of copies that the target no longer has. Then somebody else writes on from there.
pub(crate) async fn tail_lost_and_replaced() {
    let mut world = World::start(Kind::Longhaul, Kind::Kafka).await;
    world.while_target_is_down(|_, data| copy_folder(&data.join("cut-0"), &older(data)));
    world.call("more", &["20"]);
    world.flow.caught_up(&ALL).await.unwrap();
    assert_eq!(copied(&world).await, 163);

    world.while_target_is_down(|world, data| {
        // There is something to copy, so that a flow that went on would show.
        world.call("more", &["21"]);
        std::fs::remove_dir_all(data.join("cut-0")).unwrap();
        copy_folder(&older(data), &data.join("cut-0"));
    });
    world.event(&["the target log ends at 63, below the flow's position 163"]).await;
    world.shows_the_pause("the target log ends at 63");
    world.others_go_on().await;
    assert_eq!(copied(&world).await, 63, "nothing is produced behind the gap");

    // The log grows again beyond the position, with what no flow copied.
    let lines: String = (0..OTHERS).map(|number| format!("somebody else's {number}\n")).collect();
    let bootstrap = world.target.bootstrap();
    let arguments = ["--bootstrap-server", &bootstrap, "--topic", "cut"];
    java::call(Tool::ConsoleProducer, &arguments, lines.as_bytes()).unwrap();
    assert_eq!(copied(&world).await, 63 + OTHERS);
    world.stop();
    world.mirror.restart().unwrap();
    world.event(&["the target replaced offsets 63..163 of leader epoch"]).await;
    world.shows_the_pause("the target replaced offsets 63..163");
    world.others_go_on().await;
    assert_eq!(copied(&world).await, 63 + OTHERS, "nothing is produced behind the others");
}

/// The whole target comes from an older copy, its map topic with it: the flow stands where that copy stood, and copies
/// again what came after.
pub(crate) async fn restored_whole(to: Kind) {
    let mut world = World::start(Kind::Longhaul, to).await;
    world.while_target_is_down(|_, data| copy_folder(data, &older(data)));
    world.call("more", &["20"]);
    world.flow.caught_up(&ALL).await.unwrap();
    world.while_target_is_down(|_, data| {
        std::fs::remove_dir_all(data).unwrap();
        std::fs::rename(older(data), data).unwrap();
    });
    world.flow.caught_up(&ALL).await.unwrap();
    oracle::check(&world.flow, &ALL).await.unwrap();
}

/// Where a copy of a server's data, or of a part of it, is kept.
pub(crate) fn older(data: &Path) -> PathBuf {
    data.with_file_name("older")
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
