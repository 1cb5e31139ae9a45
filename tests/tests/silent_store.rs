//! A store that answers nothing: who reads what is here notices nothing of it, and whoever waits for the store goes on when
//! it is back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use client::fetch::{FetchFrom, FetchRound};
use client::{Cluster, Isolation, Lane, TopicPartition};
use tests::clients::python::Python;
use tests::deadline::Deadline;
use tests::flights;
use tests::flow::connect;
use tests::longhaul::Broker;
use tests::minio::Minio;
use tests::scratch::Scratch;
use tests::tiered::{self, ask, make_topic, wait_until_released};
use wire::batch::Batches;
use wire::{ErrorCode, LeaderEpoch, Offset, TopicId};

const COLD: &str = "cold";
const HOT: &str = "hot";
const COLD_RECORDS: usize = 20_000;
const HOT_RECORDS: usize = 100;

/// Reads the first partition of two topics, each from where it has got to, as one consumer of both does.
struct Reader {
    runtime: tokio::runtime::Runtime,
    cluster: Cluster,
    partitions: [TopicPartition; 2],
    next: [Offset; 2],
}

impl Reader {
    fn new(broker: &Broker) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let partitions = [COLD, HOT].map(|topic| TopicPartition::new(topic, 0));
        let cluster = runtime.block_on(async {
            let cluster = connect(&broker.bootstrap()).await.unwrap();
            cluster.refresh(&partitions.clone().map(|partition| partition.topic)).await.unwrap();
            cluster
        });
        Self { runtime, cluster, partitions, next: [Offset(0); 2] }
    }

    /// One fetch of both that waits half a second by its own word; the time it took.
    fn round(&mut self) -> Duration {
        let from = |(partition, next): (&TopicPartition, &Offset)| FetchFrom {
            partition: partition.clone(),
            topic_id: TopicId::ZERO,
            offset: *next,
            leader_epoch: LeaderEpoch::NONE,
            last_fetched_epoch: LeaderEpoch::NONE,
            max_bytes: 1 << 20,
        };
        let round = FetchRound {
            partitions: self.partitions.iter().zip(&self.next).map(from).collect(),
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 8 << 20,
            isolation: Isolation::ReadCommitted,
            lane: Lane::Fetch,
        };
        let asked = Deadline::seconds(60);
        let fetched = self.runtime.block_on(async {
            let leader = self.cluster.leader(&self.partitions[0]).await.unwrap();
            self.cluster.fetch(leader.broker, &round).await.unwrap()
        });
        for (fetched, next) in fetched.iter().zip(&mut self.next) {
            // A read that the store has failed to answer for long says so, and is tried again.
            let is_served = matches!(fetched.code, ErrorCode::NONE | ErrorCode::REPLICA_NOT_AVAILABLE);
            assert!(is_served, "{}: {:?}", fetched.partition, fetched.code);
            let last = Batches::new(&fetched.records).filter_map(Result::ok).last();
            *next = last.map_or(*next, |batch| batch.header().next_offset());
        }
        asked.spent()
    }
}

fn wait_for_alarm(broker: &Broker, is_raised: bool) {
    let what = format!("the alarm of a silent store to be raised: {is_raised}");
    Deadline::seconds(60)
        .wait_for(&what, || {
            let status = ask(&broker.admin().to_string())?;
            let alarms = status.broker.map(|broker| broker.alarms).unwrap_or_default();
            let says = "the store has not answered a read of cold-0";
            Ok((alarms.iter().any(|alarm| alarm.contains(says)) == is_raised).then_some(()))
        })
        .unwrap();
}

#[test]
fn a_store_that_is_silent_starves_nobody_of_what_is_here() {
    let scratch = Scratch::new().unwrap();
    let mut minio = Minio::start(scratch.join("minio")).unwrap();
    let mut west = tiered::start(&scratch, "west", &minio).unwrap();
    make_topic(&west, COLD, 1).unwrap();
    make_topic(&west, HOT, 1).unwrap();
    let records = flights::records(COLD_RECORDS).unwrap();
    Python::Confluent.produce(&west.bootstrap(), COLD, &records, &[]).unwrap();
    wait_until_released(&west, COLD).unwrap();
    let mut reader = Reader::new(&west);

    minio.process().freeze(true);
    Python::Confluent.produce(&west.bootstrap(), HOT, &records[..HOT_RECORDS], &[]).unwrap();
    let deadline = Deadline::seconds(20);
    while reader.next[1] < Offset(HOT_RECORDS as i64) {
        assert!(!deadline.passed(), "hot records up to {:?} in 20 s", reader.next[1]);
        let took = reader.round();
        assert!(took < Duration::from_secs(5), "a fetch took {took:?}");
    }
    // Nothing is new, and the store is waited for, but not for long.
    let took = reader.round();
    assert!(took < Duration::from_secs(5), "a fetch took {took:?}");
    assert_eq!(reader.next[0], Offset(0));
    wait_for_alarm(&west, true);
    assert!(west.process().log().contains("the store has not answered a read of cold-0"));

    minio.process().freeze(false);
    let deadline = Deadline::seconds(90);
    while reader.next[0] < Offset(COLD_RECORDS as i64) {
        assert!(!deadline.passed(), "cold records up to {:?} in 90 s", reader.next[0]);
        reader.round();
    }
    wait_for_alarm(&west, false);
}
