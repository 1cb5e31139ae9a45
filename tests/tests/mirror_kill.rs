//! kill -9 of the mirror process at every step of the copier, towards Apache Kafka; two owners of one flow.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "mirror_kill/steps.rs"]
mod steps;

use std::time::Duration;

use steps::{PARTITIONS, World, kill_at_every_step};
use tests::deadline::Deadline;
use tests::server::Kind;

/// A session of the least length that Kafka grants, and what a takeover adds on a loaded machine.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_to_kafka_survives_kill_at_every_step() {
    kill_at_every_step(Kind::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_owners_one_works_and_the_other_takes_over() {
    let mut world = World::start(Kind::Longhaul).await;
    let mut second = world.flow.run_beside().unwrap();
    let first_id = world.mirror.process().id();
    let is_owner =
        |status: &mirror::FlowStatus, id: u32| status.owner.as_deref() == Some(&*format!("pid {id}"));
    for _ in 0..3 {
        world.write();
        world.flow.caught_up(&PARTITIONS).await.unwrap();
        second.process().ensure_running().unwrap();
        let status = mirror::status(&world.flow.spec).await.unwrap();
        assert!(is_owner(&status, first_id), "{status:?}");
        // When another joins, the owner stays and claims the flow once more.
        world.generation = status.generation;
    }
    let log = second.process().log();
    assert!(!log.contains("owning the flow"), "{log}");

    let takeover = Deadline::after(TAKEOVER_WITHIN);
    world.kill();
    world.write();
    let second_id = second.process().id();
    let newer = world.flow.wait_for("the takeover", |status| is_owner(status, second_id)).await.unwrap();
    println!("taken over after {:?}", takeover.spent());
    assert!(!takeover.passed(), "{newer:?}");
    world.check("the second owner").await;
    drop(second);
}
