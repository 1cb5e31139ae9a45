//! A full disk: writers are refused by name, readers go on, nothing acknowledged is lost, not even over a kill, and
//! room that comes free is used again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use bytes::Bytes;
use client::cluster::{Cluster, ClusterOptions};
use client::produce::{Outcome, ProduceBatch};
use client::transport::Address;
use client::{Leader, TopicPartition};
use tests::clients::python::Python;
use tests::deadline::Deadline;
use tests::longhaul::{Broker, BrokerSettings};
use tests::scratch::Scratch;
use tests::small_disk::SmallDisk;
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
use wire::{ErrorCode, TopicId};

/// The journal's ring, what the broker keeps in reserve, and a few segments.
const DISK_BYTES: u64 = 256 << 20;
const VALUE_BYTES: usize = 512 << 10;

/// A value that says which it is.
fn value(number: usize) -> Vec<u8> {
    let mut value = format!("{number:08}").into_bytes();
    value.resize(VALUE_BYTES, b'.');
    value
}

struct Writer {
    cluster: Cluster,
    partition: TopicPartition,
    leader: Leader,
}

impl Writer {
    async fn new(broker: &Broker, topic: &str) -> Self {
        let bootstrap = broker.bootstrap().parse::<Address>().unwrap();
        let cluster = Cluster::connect(ClusterOptions::new(vec![bootstrap])).await.unwrap();
        let partition = TopicPartition::new(topic, 0);
        cluster.refresh(std::slice::from_ref(&partition.topic)).await.unwrap();
        let leader = cluster.leader(&partition).await.unwrap();
        Self { cluster, partition, leader }
    }

    async fn write(&self, number: usize) -> Outcome {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.push(&NewRecord { value: Some(&value(number)), ..NewRecord::default() });
        let batch = ProduceBatch {
            partition: self.partition.clone(),
            topic_id: TopicId::ZERO,
            pieces: vec![Bytes::from(builder.build())],
        };
        let wait = Duration::from_secs(30);
        self.cluster.produce(self.leader.broker, vec![batch], wait).await.unwrap().remove(0).outcome
    }

    /// Writes until the broker refuses; gives how many it took, and the code of the refusal.
    async fn fill(&self) -> (usize, ErrorCode) {
        for number in 0..(2 * DISK_BYTES as usize / VALUE_BYTES) {
            match self.write(number).await {
                Outcome::Acknowledged { base_offset, .. } => assert_eq!(base_offset.0, number as i64),
                // Of other brokers, this code leaves open whether the batch is in the log; here it is not, as read below.
                Outcome::Refused(refusal) | Outcome::Ambiguous(refusal) => {
                    assert!(refusal.message.is_some_and(|message| message.contains("no disk space is left")));
                    return (number, refusal.code);
                }
                other => panic!("record {number}: {other:?}"),
            }
        }
        panic!("twice the disk was written and nothing refused");
    }
}

fn holds_exactly(broker: &Broker, topic: &str, count: usize) {
    let consumed = Python::Confluent.consume_all(&broker.bootstrap(), topic).unwrap();
    assert_eq!(consumed.len(), count, "every acknowledged record, and no other");
    for (number, record) in consumed.iter().enumerate() {
        assert_eq!(record.offset, number as i64);
        assert!(record.value.as_deref().is_some_and(|value| value.starts_with(&format!("{number:08}."))));
    }
}

#[test]
fn a_full_disk_refuses_writers_and_nobody_else() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scratch = Scratch::new().unwrap();
    let folder = scratch.join("broker");
    let disk = SmallDisk::mount(&folder.join("data"), DISK_BYTES, &scratch.join("disk.log")).unwrap();
    let settings = BrokerSettings { wrapper: disk.within(), ..BrokerSettings::default() };
    let mut broker = Broker::start(folder, settings).unwrap();
    let topics = ["small", "filler", "more"];
    for topic in topics {
        let settings = ["segment.bytes=4194304", "retention.ms=-1", "max.message.bytes=1048588"];
        Python::Confluent.create_topic(&broker.bootstrap(), topic, 1, &settings).unwrap();
    }
    let (taken, code) = runtime.block_on(async {
        let small = Writer::new(&broker, "small").await;
        assert!(matches!(small.write(0).await, Outcome::Acknowledged { .. }));
        Writer::new(&broker, "filler").await.fill().await
    });
    assert_eq!(code, ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(taken > 20, "{taken} records of half a mebibyte went onto a disk of 256");
    holds_exactly(&broker, "small", 1);
    holds_exactly(&broker, "filler", taken);

    broker.kill9().unwrap();
    broker.restart().unwrap();
    holds_exactly(&broker, "small", 1);
    holds_exactly(&broker, "filler", taken);

    let more = runtime.block_on(Writer::new(&broker, "more"));
    runtime.block_on(more.cluster.delete_topic("filler")).unwrap();
    Deadline::seconds(60)
        .wait_for("the room of the deleted topic", || {
            let outcome = runtime.block_on(more.write(0));
            Ok(matches!(outcome, Outcome::Acknowledged { .. }).then_some(()))
        })
        .unwrap();
    holds_exactly(&broker, "more", 1);
}
