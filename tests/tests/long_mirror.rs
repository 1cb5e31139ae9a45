//! What holds towards one kind of cluster holds towards the other: the long half of `mirror_kill` and `mirror_events`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "mirror_events/cases.rs"]
mod cases;
#[path = "mirror_kill/steps.rs"]
mod steps;

use tests::server::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_to_longhaul_survives_kill_at_every_step() {
    steps::kill_at_every_step(Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_longhaul_source_pauses_its_partition() {
    cases::truncated(Kind::Longhaul, Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_kafka_topic_pauses_and_its_name_is_no_topic() {
    cases::deleted_and_made_again(Kind::Kafka, Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longhaul_topic_made_again_under_a_running_flow_pauses() {
    cases::made_again(Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_kafka_target_pauses() {
    cases::target_deleted(Kind::Kafka).await;
}
