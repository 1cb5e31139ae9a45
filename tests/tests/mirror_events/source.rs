//! The cases of a source that comes back under a running flow: as it was, or with another log in the place of its own,
//! longer than what was copied, as after a power loss, an unclean election or a restored disk.
//!
//! In all of them `cut` begins at source offset 37, so that source offset 100 is target offset 63.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use client::producer::OutgoingRecord;
use client::{Producer, ProducerOptions, TopicPartition};
use tests::flow::connect;
use tests::oracle;
use tests::server::{Kind, Server};

use crate::cases::{ALL, World, copied};
use crate::target::{copy_folder, older};

/// Records that were copied, from offset 100 on, and that the source then lost.
const LOST: usize = 100;
/// Records in their place: the log ends beyond what was copied.
const OTHERS: usize = 140;
const TIME_MS: i64 = 1_357_016_400_000;

/// Starts of the source, each of which gives its next records a newer leader epoch.
struct Starts {
    /// From the older copy to the records that are lost.
    before_the_lost: usize,
    /// From the same copy to the records in their place.
    before_the_others: usize,
}

/// The source lost what came after an older copy of its disk, and took other records.
pub(crate) async fn replaced(from: Kind) {
    come_back_with_others(from, Starts { before_the_lost: 1, before_the_others: 2 }).await;
}

/// The epochs are those of the older copy too, and the source knows none as high as that of the lost records.
pub(crate) async fn restored_with_its_epochs() {
    come_back_with_others(Kind::Longhaul, Starts { before_the_lost: 3, before_the_others: 1 }).await;
}

async fn come_back_with_others(from: Kind, starts: Starts) {
    let mut world = World::start(from, Kind::Longhaul).await;
    let data = world.source.data();
    world.source.stop().unwrap();
    let part = match from {
        Kind::Kafka => data.join("cut-0"),
        Kind::Longhaul => data.clone(),
    };
    copy_folder(&part, &older(&data));
    // Restarts of which nobody needs to hear.
    for _ in 0..starts.before_the_lost {
        world.source.restart().unwrap();
    }
    write(&world.source.bootstrap(), "lost", LOST).await;
    world.flow.caught_up(&ALL).await.unwrap();
    assert_eq!(copied(&world).await, 163);

    // The flow must not meet the log while it is still short: that would be another event.
    world.source.stop().unwrap();
    let mut elsewhere = start_elsewhere(from, &data, starts.before_the_others);
    write(&elsewhere.bootstrap(), "other", OTHERS).await;
    elsewhere.stop().unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(elsewhere.data(), &data).unwrap();
    world.source.restart().unwrap();

    let said = "the source replaced offsets 100..200 of leader epoch";
    let status = world.event(&[said]).await;
    assert_eq!(status.generation, 1, "it was noticed while the flow ran");
    world.shows_the_pause(said);
    world.others_go_on().await;
    only_the_lost_were_copied(&world).await;
    // What was copied can still be asked for, and the next owner says the same.
    world.translates(&["99"], "exact", 62);
    world.translates(&["185"], "exact", 148);
    world.translates(&["201"], "ahead", 163);
    world.stop();
    world.mirror.restart().unwrap();
    world.flow.wait_for("the next owner", |status| status.generation > 1).await.unwrap();
    world.event(&[said]).await;
    world.others_go_on().await;
    only_the_lost_were_copied(&world).await;
}

/// Nothing of a source is lost by a restart, nor of a target; only their leader epochs are newer.
pub(crate) async fn restarted() {
    let mut world = World::start(Kind::Longhaul, Kind::Longhaul).await;
    for turn in ["20", "21"] {
        world.source.restart().unwrap();
        world.call("more", &[turn]);
        world.flow.caught_up(&ALL).await.unwrap();
    }
    // Nothing is under way to the target: the flow hears of the new epoch after it has written under it.
    world.target.restart().unwrap();
    world.call("more", &["22"]);
    world.flow.caught_up(&ALL).await.unwrap();
    world.stop();
    world.mirror.restart().unwrap();
    world.call("more", &["23"]);
    world.flow.caught_up(&ALL).await.unwrap();
    oracle::check(&world.flow, &ALL).await.unwrap();
}

/// A server that the flow does not know, on the older copy of what is in `data`, after so many starts of it.
fn start_elsewhere(kind: Kind, data: &Path, starts: usize) -> Server {
    let folder = data.parent().unwrap().with_file_name("elsewhere");
    let mut server = Server::start(kind, folder, &[]).unwrap();
    server.stop().unwrap();
    let own = server.data();
    std::fs::remove_dir_all(&own).unwrap();
    match kind {
        // Its metadata are on other disks: they and the other topics are as they were.
        Kind::Kafka => {
            copy_folder(data, &own);
            std::fs::remove_dir_all(own.join("cut-0")).unwrap();
            std::fs::rename(older(data), own.join("cut-0")).unwrap();
        }
        Kind::Longhaul => std::fs::rename(older(data), &own).unwrap(),
    }
    for _ in 0..starts {
        server.restart().unwrap();
    }
    server
}

/// Writes to `cut` alone.
async fn write(bootstrap: &str, name: &str, count: usize) {
    let cluster = connect(bootstrap).await.unwrap();
    let producer = Producer::new(&cluster, ProducerOptions::default()).await.unwrap();
    let topic = Arc::from("cut");
    for number in 0..count {
        let value = Some(Bytes::from(format!("{name} {number}")));
        let record =
            OutgoingRecord { partition: Some(0), timestamp_ms: TIME_MS, value, ..Default::default() };
        producer.send_now(&topic, record).await.unwrap();
    }
}

async fn only_the_lost_were_copied(world: &World) {
    let target = connect(&world.target.bootstrap()).await.unwrap();
    let cut = oracle::read(&target, &TopicPartition::new("cut", 0)).await.unwrap();
    let of = |name: &str| {
        let begins = |value: &Vec<u8>| value.starts_with(name.as_bytes());
        cut.records.iter().filter(|record| record.value.as_ref().is_some_and(begins)).count()
    };
    assert_eq!((cut.records.len(), of("lost"), of("other")), (163, LOST, 0));
}
