//! Our client against a real Apache Kafka: what it says is understood, and what it hears is true.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use client::admin::{NewTopic, ProducerIdentity, Resource};
use client::consumer::ConsumedRecord;
use client::fetch::{FetchFrom, FetchRound, Fetched};
use client::group::{Membership, Position};
use client::offsets::Place;
use client::produce::{Outcome, ProduceBatch};
use client::producer::OutgoingRecord;
use client::{
    Cluster, ClusterOptions, Consumer, ConsumerOptions, Isolation, Lane, Producer, ProducerOptions,
    RequestError, TopicPartition,
};
use tests::clients::java::{self, Tool};
use tests::clients::python::Python;
use tests::deadline::Deadline;
use tests::installed;
use tests::kafka::Kafka;
use tests::process::run;
use tests::scratch::Scratch;
use wire::batch::{
    BatchBuilder, BatchOptions, BatchView, HEADER_BYTES, HeaderPatch, NewRecord, ProducerFields,
};
use wire::compress::Codec;
use wire::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch};

const TIME_MS: i64 = 1_356_998_400_000;
const TIMEOUT: Duration = Duration::from_secs(20);

async fn connect(kafka: &Kafka) -> Cluster {
    Cluster::connect(ClusterOptions::new(vec![kafka.bootstrap().parse().unwrap()])).await.unwrap()
}

async fn topic(cluster: &Cluster, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Arc<str> {
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut configs: Vec<_> = configs.collect();
    // The records are from 2013.
    configs.push(("retention.ms".to_owned(), "-1".to_owned()));
    let new = NewTopic { name: name.to_owned(), partitions, replication_factor: 1, configs };
    let id = cluster.create_topic(&new).await.unwrap();
    for _ in 0..100 {
        let known = cluster.refresh(&[name.into()]).await.unwrap().topics.get(name).cloned();
        if known.is_some_and(|known| known.id == id && known.partitions.iter().all(|at| at.leader.is_some()))
        {
            return name.into();
        }
    }
    panic!("{name} does not come up");
}

fn batch(codec: Codec, identity: ProducerIdentity, base_sequence: i32, records: i32) -> Vec<u8> {
    let producer = ProducerFields { id: identity.id, epoch: identity.epoch, base_sequence };
    let mut builder = BatchBuilder::new(BatchOptions { codec, producer, ..Default::default() });
    let value = "a flight ".repeat(5_000);
    for number in 0..i64::from(records) {
        let key = format!("key-{number}");
        builder.push(&NewRecord {
            timestamp_ms: TIME_MS + i64::from(base_sequence) + number,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    builder.build()
}

async fn produce(cluster: &Cluster, partition: &TopicPartition, batch: &[u8]) -> Outcome {
    let leader = cluster.leader(partition).await.unwrap();
    let (header, payload) = batch.split_at(HEADER_BYTES);
    let pieces = vec![Bytes::copy_from_slice(header), Bytes::copy_from_slice(payload)];
    let batch = ProduceBatch { partition: partition.clone(), topic_id: leader.topic_id, pieces };
    cluster.produce(leader.broker, vec![batch], TIMEOUT).await.unwrap().remove(0).outcome
}

fn base_offset(outcome: &Outcome) -> i64 {
    match outcome {
        Outcome::Acknowledged { base_offset, .. } => base_offset.0,
        other => panic!("not acknowledged: {other:?}"),
    }
}

fn code(outcome: &Outcome) -> ErrorCode {
    match outcome {
        Outcome::Refused(refusal) | Outcome::Ambiguous(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

async fn fetch(cluster: &Cluster, partition: &TopicPartition, offset: i64, isolation: Isolation) -> Fetched {
    let leader = cluster.leader(partition).await.unwrap();
    let round = FetchRound {
        partitions: vec![FetchFrom {
            partition: partition.clone(),
            topic_id: leader.topic_id,
            offset: Offset(offset),
            leader_epoch: leader.epoch,
            last_fetched_epoch: LeaderEpoch(-1),
            max_bytes: 10 << 20,
        }],
        max_wait: Duration::from_millis(500),
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation,
        lane: Lane::Fetch,
    };
    cluster.fetch(leader.broker, &round).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_pass_as_they_are_and_sequences_hold() {
    let scratch = Scratch::new().unwrap();
    let mut kafka = Kafka::start(scratch.join("kafka"), &[]).unwrap();
    let cluster = connect(&kafka).await;
    for codec in Codec::ALL {
        // Kafka reads every record of a compressed batch before it takes it.
        let name = topic(&cluster, codec.name(), 1, &[]).await;
        let partition = TopicPartition::new(name, 0);
        let identity = cluster.init_producer_id().await.unwrap();
        let first = batch(codec, identity, 0, 3);
        assert_eq!(base_offset(&produce(&cluster, &partition, &first).await), 0);
        assert_eq!(base_offset(&produce(&cluster, &partition, &batch(codec, identity, 3, 2)).await), 3);
        // The same again is recognised, a gap is refused.
        assert_eq!(base_offset(&produce(&cluster, &partition, &first).await), 0);
        let gap = produce(&cluster, &partition, &batch(codec, identity, 9, 1)).await;
        assert_eq!(code(&gap), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);

        let fetched = fetch(&cluster, &partition, 1, Isolation::ReadUncommitted).await;
        assert_eq!((fetched.code, fetched.high_watermark), (ErrorCode::NONE, Offset(5)));
        assert_eq!((fetched.last_stable_offset, fetched.log_start_offset), (Offset(5), Offset(0)));
        let stored = BatchView::first(&fetched.records).unwrap();
        stored.check_crc().unwrap();
        assert_eq!(stored.payload(), &first[HEADER_BYTES..], "{codec}");

        // Patched by combination, and taken: Kafka has computed the checksum anew.
        let mut header = *stored.bytes().first_chunk::<HEADER_BYTES>().unwrap();
        wire::batch::patch_placement(&mut header, Offset(0), LeaderEpoch(-1));
        let epoch = ProducerEpoch(identity.epoch.0 + 1);
        let producer = Some(ProducerFields { id: identity.id, epoch, base_sequence: 0 });
        HeaderPatch { producer, ..Default::default() }.apply(&mut header).unwrap();
        let patched = [header.as_slice(), stored.payload()].concat();
        assert_eq!(base_offset(&produce(&cluster, &partition, &patched).await), 5);
        // Now the epoch before is fenced.
        let fenced = produce(&cluster, &partition, &batch(codec, identity, 5, 1)).await;
        assert_eq!(code(&fenced), ErrorCode::INVALID_PRODUCER_EPOCH);
        let producers = cluster.describe_producers(&partition).await.unwrap();
        assert_eq!((producers[0].producer_id, producers[0].last_sequence), (identity.id.0, 2));
    }
    let listed = java::call(
        Tool::ConsoleConsumer,
        &[
            "--bootstrap-server",
            &kafka.bootstrap(),
            "--topic",
            "zstd",
            "--from-beginning",
            "--max-messages",
            "8",
        ],
        &[],
    );
    assert_eq!(listed.unwrap().lines().filter(|line| line.starts_with("a flight a flight")).count(), 8);
    kafka.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_settings_and_positions() {
    let scratch = Scratch::new().unwrap();
    let mut kafka = Kafka::start(scratch.join("kafka"), &[]).unwrap();
    let cluster = connect(&kafka).await;
    let name = topic(&cluster, "positions", 1, &[("max.message.bytes", "200000")]).await;
    let again =
        NewTopic { name: name.to_string(), partitions: 1, replication_factor: 1, configs: Vec::new() };
    let refused = cluster.create_topic(&again).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS), "{refused}");
    let partition = TopicPartition::new(Arc::clone(&name), 0);
    let identity = cluster.init_producer_id().await.unwrap();
    for sequence in 0..10 {
        produce(&cluster, &partition, &batch(Codec::None, identity, sequence, 1)).await;
    }
    let too_large = produce(&cluster, &partition, &batch(Codec::None, identity, 10, 20)).await;
    assert_eq!(code(&too_large), ErrorCode::MESSAGE_TOO_LARGE);

    assert_eq!(cluster.delete_records(&partition, Offset(4)).await.unwrap(), Offset(4));
    let at = |place| (partition.clone(), place);
    for (place, offset) in [
        (Place::Earliest, Some(4)),
        (Place::Latest, Some(10)),
        (Place::Time(0), Some(4)),
        (Place::Time(TIME_MS + 7), Some(7)),
        (Place::Time(TIME_MS + 10), None),
        (Place::MaxTimestamp, Some(9)),
    ] {
        let found = cluster.list_offsets(&[at(place)], Isolation::ReadCommitted).await.unwrap();
        assert_eq!(found[0].offset.map(|offset| offset.0), offset, "{place:?}");
    }
    let end = cluster.offset_for_leader_epoch(&partition, LeaderEpoch(0)).await.unwrap();
    assert_eq!((end.epoch, end.end_offset), (LeaderEpoch(0), Offset(10)));
    let below = fetch(&cluster, &partition, 2, Isolation::ReadUncommitted).await;
    assert_eq!(below.code, ErrorCode::OFFSET_OUT_OF_RANGE);

    let resource = Resource::Topic(name.to_string());
    cluster.alter_configs(&resource, &[("segment.bytes", Some("1048576"))]).await.unwrap();
    cluster.alter_configs(&resource, &[("max.message.bytes", None)]).await.unwrap();
    let configs = cluster.describe_configs(&resource).await.unwrap();
    let own: BTreeMap<_, _> = configs
        .iter()
        .filter(|entry| entry.is_own)
        .map(|entry| (entry.name.as_str(), entry.value.as_deref().unwrap()))
        .collect();
    assert_eq!(own, BTreeMap::from([("retention.ms", "-1"), ("segment.bytes", "1048576")]));

    cluster.create_partitions(&name, 3).await.unwrap();
    let third = TopicPartition::new(Arc::clone(&name), 2);
    while cluster.leader(&third).await.is_err() {}
    cluster.delete_topic(&name).await.unwrap();
    let mut gone = cluster.refresh(&[Arc::clone(&name)]).await.unwrap();
    while gone.topics.contains_key(&name) {
        gone = cluster.refresh(&[Arc::clone(&name)]).await.unwrap();
    }
    // Made again under the name: the old id is not mistaken for it.
    let old = ProduceBatch {
        partition: partition.clone(),
        topic_id: wire::TopicId([9; 16]),
        pieces: vec![batch(Codec::None, identity, 0, 1).into()],
    };
    let name = topic(&cluster, &name, 1, &[]).await;
    let leader = cluster.leader(&TopicPartition::new(name, 0)).await.unwrap();
    let outcome = cluster.produce(leader.broker, vec![old], TIMEOUT).await.unwrap().remove(0).outcome;
    assert_eq!(code(&outcome), ErrorCode::UNKNOWN_TOPIC_ID);
    kafka.stop().unwrap();
}

fn record(value: &str) -> OutgoingRecord {
    OutgoingRecord {
        timestamp_ms: TIME_MS,
        key: Some(Bytes::from(value.to_owned())),
        value: Some(Bytes::from(value.to_owned())),
        ..Default::default()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the broker compares record times with its own clock, the machine's"
)]
fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since_1970.as_millis()).unwrap()
}

fn text(record: &ConsumedRecord) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<ConsumedRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(consumer.poll().await.unwrap());
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_shared_with_real_clients() {
    let scratch = Scratch::new().unwrap();
    let mut kafka = Kafka::start(scratch.join("kafka"), &[]).unwrap();
    let cluster = connect(&kafka).await;
    let name = topic(&cluster, "shared", 4, &[]).await;
    let producer = Producer::new(&cluster, ProducerOptions::default()).await.unwrap();
    let mut deliveries = Vec::new();
    for number in 0..400 {
        deliveries.push(producer.send(&name, record(&format!("record-{number}"))).await.unwrap());
    }
    for delivery in deliveries {
        assert!(delivery.delivered().await.unwrap().offset.is_some());
    }
    let subscribe = |group: &str| {
        let options =
            ConsumerOptions { heartbeat_interval: Duration::from_millis(300), ..Default::default() };
        Consumer::subscribe(&cluster, group, BTreeSet::from([Arc::clone(&name)]), options)
    };

    // Alone, then gone: a real client goes on where ours stopped, and the other way round.
    let mut consumer = subscribe("in-turn");
    let first = read(&mut consumer, 400).await;
    assert_eq!(first.iter().map(text).collect::<BTreeSet<_>>().len(), 400);
    consumer.close().await.unwrap();
    for number in 400..440 {
        producer.send_now(&name, record(&format!("record-{number}"))).await.unwrap();
    }
    let bootstrap = kafka.bootstrap();
    let taken = tokio::task::spawn_blocking(move || {
        Python::KafkaPython.consume_as_group(&bootstrap, "shared", "in-turn", 40)
    });
    assert_eq!(taken.await.unwrap().unwrap().len(), 40);
    let mut consumer = subscribe("in-turn");
    producer.send_now(&name, record("last")).await.unwrap();
    assert_eq!(read(&mut consumer, 1).await.iter().map(text).collect::<Vec<_>>(), ["last"]);
    consumer.close().await.unwrap();

    // Two members share, by the same rule.
    let held = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let poll_until_shared = |mut consumer: Consumer, me: usize| {
        let held = Arc::clone(&held);
        tokio::spawn(async move {
            while held.iter().any(|count| count.load(Ordering::SeqCst) != 2) {
                consumer.poll().await.unwrap();
                held[me].store(consumer.positions().len(), Ordering::SeqCst);
            }
            consumer
        })
    };
    let (one, other) =
        (poll_until_shared(subscribe("together"), 0), poll_until_shared(subscribe("together"), 1));
    let (one, other) = (one.await.unwrap(), other.await.unwrap());
    let partitions: BTreeSet<_> = one.positions().keys().chain(other.positions().keys()).cloned().collect();
    assert_eq!(partitions.len(), 4);
    let described = cluster.group("together").describe().await.unwrap();
    assert_eq!(
        (&*described.group_state, &*described.protocol_data, described.members.len()),
        ("Stable", "range", 2)
    );
    one.close().await.unwrap();
    other.close().await.unwrap();

    // Positions of a group without members, from outside.
    let group = cluster.group("from-outside");
    let position = Position { offset: Offset(7), leader_epoch: LeaderEpoch(-1), metadata: "note".to_owned() };
    let positions = BTreeMap::from([(TopicPartition::new(Arc::clone(&name), 1), position)]);
    group.commit(&Membership::OUTSIDE, &positions).await.unwrap();
    assert_eq!(group.positions(None, true).await.unwrap(), positions);
    let listed = cluster.list_groups().await.unwrap();
    assert_eq!(
        listed.iter().map(|group| &*group.group_id).collect::<Vec<_>>(),
        ["from-outside", "in-turn", "together"],
    );
    group.delete().await.unwrap();
    kafka.stop().unwrap();
}

/// Writes a committed, an aborted and an open transaction with librdkafka.
const TRANSACTIONS: &str = r#"
import sys
from confluent_kafka import Producer
def transaction(name, values):
    settings = {"bootstrap.servers": sys.argv[1], "transactional.id": name, "transaction.timeout.ms": 600000}
    producer = Producer(settings)
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in values:
        producer.produce("decided", value, partition=0)
    producer.flush(20)
    return producer
first = transaction("first", ["a1", "a2"])
second = transaction("second", ["b1", "b2"])
first.abort_transaction(20)
second.commit_transaction(20)
third = transaction("third", ["c1"])
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_committed_records_see_no_others() {
    let scratch = Scratch::new().unwrap();
    let mut kafka = Kafka::start(scratch.join("kafka"), &[]).unwrap();
    let cluster = connect(&kafka).await;
    let name = topic(&cluster, "decided", 1, &[]).await;
    let mut python = Command::new(installed::python().unwrap());
    python.args(["-c", TRANSACTIONS, &kafka.bootstrap()]);
    run("transactions", python, &[], Deadline::seconds(90)).unwrap().success().unwrap();
    let partition = TopicPartition::new(name, 0);
    let positions = BTreeMap::from([(partition.clone(), Offset(0))]);
    let mut seen = Vec::new();
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        let options = ConsumerOptions { isolation, ..Default::default() };
        let mut consumer = Consumer::assign(&cluster, positions.clone(), options);
        let mut values = Vec::new();
        while consumer.positions()[&partition] < Offset(6) {
            values.extend(consumer.poll().await.unwrap().iter().map(text));
        }
        seen.push(values);
    }
    assert_eq!(seen[0], ["b1", "b2"]);
    assert_eq!(seen[1][..4], ["a1", "a2", "b1", "b2"]);
    let fetched = fetch(&cluster, &partition, 0, Isolation::ReadCommitted).await;
    assert_eq!((fetched.last_stable_offset, fetched.high_watermark), (Offset(6), Offset(7)));
    assert_eq!(fetched.aborted.len(), 1);
    kafka.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_loses_and_doubles_nothing() {
    let scratch = Scratch::new().unwrap();
    let mut kafka = Kafka::start(scratch.join("kafka"), &[]).unwrap();
    let cluster = connect(&kafka).await;
    let name = topic(&cluster, "killed", 2, &[]).await;
    let producer = Producer::new(&cluster, ProducerOptions::default()).await.unwrap();
    let (producing, of) = (
        tokio::spawn({
            let name = Arc::clone(&name);
            async move {
                let mut deliveries = Vec::new();
                for number in 0..6_000 {
                    // Of today: a restarted Kafka forgets producers whose last record's time is older than a day, and
                    // then takes the repetition of a batch for a new one.
                    let timestamp_ms = now_ms();
                    let record = OutgoingRecord { timestamp_ms, ..record(&format!("record-{number}")) };
                    deliveries.push(producer.send(&name, record).await.unwrap());
                    if number % 20 == 0 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                for delivery in deliveries {
                    delivery.delivered().await.unwrap();
                }
            }
        }),
        6_000,
    );
    tokio::time::sleep(Duration::from_millis(800)).await;
    tokio::task::block_in_place(|| {
        kafka.kill9().unwrap();
        kafka.restart().unwrap();
    });
    tokio::time::timeout(Duration::from_secs(90), producing).await.unwrap().unwrap();
    let positions =
        (0..2).map(|number| (TopicPartition::new(Arc::clone(&name), number), Offset(0))).collect();
    let mut consumer = Consumer::assign(&cluster, positions, ConsumerOptions::default());
    let read = read(&mut consumer, of).await;
    assert_eq!(read.len(), of);
    assert_eq!(read.iter().map(text).collect::<BTreeSet<_>>().len(), of);
    assert!(consumer.poll().await.unwrap().is_empty());

    kafka.kill9().unwrap();
    let error = cluster.refresh(&[]).await.unwrap_err();
    assert!(matches!(error, RequestError::Unreachable(_)), "{error}");
}
