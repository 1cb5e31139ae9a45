//! The harness itself: the real peers come up, answer the real clients, die and come back.
//!
//! A fault of a peer's set-up shows here by its name, before it can look like a fault of ours elsewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use tests::clients::java::{self, Tool};
use tests::clients::{exchange, kcat};
use tests::flights;
use tests::kafka::Kafka;
use tests::minio::Minio;
use tests::scratch::Scratch;

#[test]
fn apache_kafka_serves_every_client_and_survives_a_kill() {
    let scratch = Scratch::new().unwrap();
    let mut kafka = Kafka::start(scratch.join("kafka"), &[]).unwrap();
    let bootstrap = kafka.bootstrap();
    let records = flights::records(500).unwrap();
    exchange::between_all(&bootstrap, &records, "lz4").unwrap();
    kafka.kill9().unwrap();
    kafka.restart().unwrap();
    let listed = java::call(Tool::Topics, &["--bootstrap-server", &bootstrap, "--list"], &[]).unwrap();
    assert!(listed.lines().any(|topic| topic == "Aiokafka-lz4"), "{listed}");
    let metadata = kcat::call(&bootstrap, &["-L"], &[]).unwrap();
    assert!(metadata.contains("topic \"Confluent-lz4\" with 3 partitions"), "{metadata}");
}

#[test]
fn minio_comes_up_again_after_a_kill() {
    let scratch = Scratch::new().unwrap();
    let mut minio = Minio::start(scratch.join("minio")).unwrap();
    minio.make_bucket("longhaul").unwrap();
    minio.kill9().unwrap();
    minio.restart().unwrap();
    minio.process().ensure_running().unwrap();
}
