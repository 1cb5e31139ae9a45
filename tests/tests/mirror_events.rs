//! What a flow must never pass over in silence: a source topic truncated, deleted, replaced, or made again under it, a target
//! that lost what was copied. Each pauses with its own event, which names range and reason; the flow's other topics go on,
//! and nothing that was copied is lost. What the target deletes by its own rules is no event: the map forgets it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "mirror_events/cases.rs"]
mod cases;
#[path = "mirror_events/source.rs"]
mod source;
#[path = "mirror_events/target.rs"]
mod target;

use tests::longhaul::verb;
use tests::scratch::Scratch;
use tests::server::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_source_pauses_its_partition() {
    cases::truncated(Kind::Kafka, Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_source_topic_pauses_and_its_name_is_no_topic() {
    cases::deleted_and_made_again(Kind::Longhaul, Kind::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_again_under_a_running_flow_pauses() {
    cases::made_again(Kind::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_target_topic_pauses() {
    cases::target_deleted(Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_deletes_as_a_target_is_forgotten() {
    target::trimmed(Kind::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_longhaul_deletes_as_a_target_is_forgotten() {
    target::trimmed(Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_partition_that_lost_its_end_pauses_and_so_it_does_when_others_wrote_on() {
    target::tail_lost_and_replaced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_restored_whole_is_copied_to_again() {
    target::restored_whole(Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longhaul_source_whose_log_was_replaced_under_a_running_flow_pauses() {
    source::replaced(Kind::Longhaul).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_source_whose_log_was_replaced_under_a_running_flow_pauses() {
    source::replaced(Kind::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_restored_with_its_epochs_pauses() {
    source::restored_with_its_epochs().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_source_or_of_the_target_is_no_event() {
    source::restarted().await;
}

#[test]
fn flows_that_form_a_loop_are_refused() {
    let scratch = Scratch::new().unwrap();
    let cluster = |name: &str, port: u16| {
        format!("[cluster.{name}]\ndatacenter = \"{name}\"\nbootstrap = [\"127.0.0.1:{port}\"]\n")
    };
    let flow = |name: &str, from: &str, to: &str| {
        format!("[flow.{name}]\nfrom = \"{from}\"\nto = \"{to}\"\ntopics = [\"*\"]\n")
    };
    let clusters = [cluster("a", 1), cluster("b", 2), cluster("c", 3)].concat();
    let ring = [flow("ab", "a", "b"), flow("bc", "b", "c"), flow("ca", "c", "a")].concat();
    let itself = flow("aa", "a", "a");
    for (flows, said) in [(ring, "form a ring"), (itself, "onto itself")] {
        let file = scratch.join("loop.toml");
        std::fs::write(&file, format!("{clusters}{flows}")).unwrap();
        let output = verb(&["mirror", "run", &file.display().to_string()]).unwrap();
        assert!(!output.status.success() && output.stderr.contains(said), "{}", output.stderr);
    }
}
