//! Answers that clients rely on, each as Apache Kafka 4.3.1 gives it, also after a restart.

use std::time::Duration;

use crate::support::{Client, Served, now_ms, records};
use wire::ErrorCode;
use wire::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use wire::api::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use wire::api::init_producer_id::InitProducerIdRequest;
use wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use wire::api::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::api::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use wire::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
use wire::codec::Text;

fn named(name: &str) -> CreatableTopic {
    let keep = CreatableTopicConfig { name: "retention.ms".into(), value: Some("-1".into()) };
    CreatableTopic {
        name: Text::from(name),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![keep],
        ..CreatableTopic::default()
    }
}

fn create(client: &mut Client, topic: CreatableTopic) -> ErrorCode {
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    client.ask(7, &request).topics[0].error_code
}

/// One record with that time, and a value of a kilobyte.
fn produce(client: &mut Client, topic: &str, timestamp_ms: i64) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(&NewRecord { timestamp_ms, value: Some(&[b'v'; 1_000]), ..NewRecord::default() });
    let partition = PartitionProduceData { index: 0, records: records(builder.build()) };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 1_000,
        topic_data: vec![TopicProduceData {
            name: Text::from(topic),
            partition_data: vec![partition],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    let answer = client.ask(8, &request);
    let answer = &answer.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, ErrorCode::NONE, "{:?}", answer.error_message);
}

/// A commit of a group without members, with a note, answered once the groups are loaded.
fn commit(client: &mut Client, offset: i64, note: &str) -> ErrorCode {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some(Text::from(note)),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    let request =
        OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..OffsetCommitRequest::default() };
    once_loaded(|| client.ask(8, &request).topics[0].partitions[0].error_code)
}

fn position(client: &mut Client) -> (ErrorCode, i64) {
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![topic]),
        ..OffsetFetchRequest::default()
    };
    let mut offset = -1;
    let code = once_loaded(|| {
        let answer = client.ask(7, &request);
        offset = answer.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset);
        answer.error_code
    });
    (code, offset)
}

/// Asks again while the groups are being loaded, for ten seconds at most.
fn once_loaded(mut ask: impl FnMut() -> ErrorCode) -> ErrorCode {
    for _ in 0..200 {
        match ask() {
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => std::thread::sleep(Duration::from_millis(50)),
            code => return code,
        }
    }
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
}

/// More than a checkpoint keeps in its own file: the rest is in the segment's, and one commit is in both.
const COMMITS: i64 = 200;

#[test]
fn groups_are_served_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    assert_eq!(create(&mut client, named("t")), ErrorCode::NONE);
    let note = "n".repeat(1_000);
    for offset in 0..COMMITS {
        assert_eq!(commit(&mut client, offset, &note), ErrorCode::NONE);
    }
    drop(client);
    broker.stop();
    let broker = Served::start(folder.path());
    assert_eq!(position(&mut broker.client()), (ErrorCode::NONE, COMMITS - 1));
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

fn list(client: &mut Client, topic: &str, timestamp: i64) -> ListOffsetsPartitionResponse {
    let partition = ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() };
    let topic = ListOffsetsTopic { name: Text::from(topic), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
    client.ask(7, &request).topics[0].partitions[0].clone()
}

/// Offset, time and epoch of an answer without an error.
fn found(answer: &ListOffsetsPartitionResponse) -> (i64, i64, i32) {
    assert_eq!(answer.error_code, ErrorCode::NONE);
    (answer.offset, answer.timestamp, answer.leader_epoch)
}

/// Long enough ago to be told from the times of the tests.
const FIRST_MS: i64 = 1_600_000_000_000;
/// More than a checkpoint keeps in its own file.
const PRODUCED: i64 = 100;

#[test]
fn offsets_are_listed_with_the_epoch_that_wrote_them_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    for topic in ["t", "empty"] {
        assert_eq!(create(&mut client, named(topic)), ErrorCode::NONE);
    }
    for number in 0..PRODUCED {
        produce(&mut client, "t", FIRST_MS + number);
    }
    let before = list(&mut client, "t", LATEST).leader_epoch;
    drop(client);
    broker.stop();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    let latest = list(&mut client, "t", LATEST);
    let now = latest.leader_epoch;
    assert!(now > before, "epoch {now} after {before}");
    assert_eq!(found(&latest), (PRODUCED, -1, now));
    assert_eq!(found(&list(&mut client, "t", EARLIEST)), (0, -1, before));
    for number in 0..PRODUCED {
        let answer = list(&mut client, "t", FIRST_MS + number);
        assert_eq!(found(&answer), (number, FIRST_MS + number, before));
    }
    let newest_ms = FIRST_MS + PRODUCED - 1;
    assert_eq!(found(&list(&mut client, "t", MAX_TIMESTAMP)), (PRODUCED - 1, newest_ms, before));
    assert_eq!(found(&list(&mut client, "t", newest_ms + 1)), (-1, -1, -1));
    for end in [LATEST, EARLIEST] {
        assert_eq!(found(&list(&mut client, "empty", end)), (0, -1, now), "{end}");
    }
    produce(&mut client, "t", newest_ms + 1);
    assert_eq!(found(&list(&mut client, "t", newest_ms + 1)), (PRODUCED, newest_ms + 1, now));
    assert_eq!(found(&list(&mut client, "t", MAX_TIMESTAMP)), (PRODUCED, newest_ms + 1, now));
    assert_eq!(found(&list(&mut client, "t", EARLIEST)), (0, -1, before));
}

fn waiting_fetch(session: (i32, i32), max_wait_ms: i32) -> FetchRequest {
    let (session_id, session_epoch) = session;
    FetchRequest { session_id, session_epoch, max_wait_ms, min_bytes: 1, ..FetchRequest::default() }
}

/// How long the answer to a fetch took, in milliseconds.
fn fetch_ms(client: &mut Client, request: &FetchRequest) -> i64 {
    let began_ms = now_ms();
    assert_eq!(client.ask(11, request).error_code, ErrorCode::NONE);
    now_ms() - began_ms
}

#[test]
fn a_fetch_of_nothing_does_not_wait_and_one_of_partitions_without_news_does() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    assert_eq!(create(&mut client, named("t")), ErrorCode::NONE);
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topics = vec![FetchTopic { topic: "t".into(), partitions: vec![partition], ..FetchTopic::default() }];
    let session = client.ask(11, &FetchRequest { topics, ..waiting_fetch((0, 0), 0) }).session_id;
    assert!(session > 0);
    let waited_ms = fetch_ms(&mut client, &waiting_fetch((session, 1), 700));
    assert!(waited_ms >= 600, "a session with a partition was answered after {waited_ms} ms");
    let forgotten = ForgottenTopic { topic: "t".into(), partitions: vec![0], ..ForgottenTopic::default() };
    let mut forgets = waiting_fetch((session, 2), 15_000);
    forgets.forgotten_topics_data.push(forgotten);
    let ends = waiting_fetch((session, -1), 15_000);
    for request in [forgets, ends] {
        let waited_ms = fetch_ms(&mut client, &request);
        assert!(waited_ms < 5_000, "{waited_ms} ms for {request:?}");
    }
}

/// More than one segment of the smallest size holds.
const OVER_A_SEGMENT: i64 = 1_200;

#[test]
fn a_reader_of_files_does_not_wait_at_the_end_of_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    let mut topic = named("t");
    topic.configs.push(CreatableTopicConfig { name: "segment.bytes".into(), value: Some("1048576".into()) });
    assert_eq!(create(&mut client, topic), ErrorCode::NONE);
    for number in 0..OVER_A_SEGMENT {
        produce(&mut client, "t", FIRST_MS + number);
    }
    drop(client);
    // What was in memory is read from files afterwards.
    broker.stop();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    let partition = FetchPartition { partition_max_bytes: 8 << 20, ..FetchPartition::default() };
    let topics = vec![FetchTopic { topic: "t".into(), partitions: vec![partition], ..FetchTopic::default() }];
    let wants_all = FetchRequest { topics, max_bytes: 8 << 20, ..waiting_fetch((0, -1), 15_000) };
    let waited_ms = fetch_ms(&mut client, &FetchRequest { min_bytes: 8 << 20, ..wants_all });
    assert!(waited_ms < 5_000, "{waited_ms} ms for the first of two segments");
}

#[test]
fn a_producer_without_transactions_always_gets_an_id_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    let mut ask = |producer_id, producer_epoch| {
        let request = InitProducerIdRequest {
            transactional_id: None,
            producer_id,
            producer_epoch,
            ..InitProducerIdRequest::default()
        };
        let answer = client.ask(4, &request);
        (answer.error_code, answer.producer_id, answer.producer_epoch)
    };
    let (_, first, epoch) = ask(-1, -1);
    assert_eq!(epoch, 0);
    let (code, second, epoch) = ask(first, 0);
    assert_eq!((code, epoch), (ErrorCode::NONE, 0));
    assert_ne!(second, first, "somebody else's id");
    for (id, epoch) in [(first, -1), (-1, 0)] {
        assert_eq!(ask(id, epoch), (ErrorCode::INVALID_REQUEST, -1, -1));
    }
}

#[test]
fn a_topic_is_asked_for_by_replicas_or_by_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    let mut with = |num_partitions, replication_factor| {
        let replicas = CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1] };
        let assignments = vec![replicas];
        create(&mut client, CreatableTopic { num_partitions, replication_factor, assignments, ..named("t") })
    };
    for (partitions, replicas) in [(1, -1), (-1, 1), (1, 1)] {
        assert_eq!(with(partitions, replicas), ErrorCode::INVALID_REQUEST, "{partitions} and {replicas}");
    }
    assert_eq!(with(-1, -1), ErrorCode::NONE);
}

#[test]
fn the_topic_of_group_offsets_keeps_the_partitions_that_groups_are_spread_over() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    assert_eq!(create(&mut client, named("t")), ErrorCode::NONE);
    let offsets = "__consumer_offsets";
    assert_eq!(create(&mut client, named(offsets)), ErrorCode::INVALID_PARTITIONS);
    assert_eq!(commit(&mut client, 5, ""), ErrorCode::NONE, "the broker makes its topic itself");

    let topic = CreatePartitionsTopic { name: offsets.into(), count: 60, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], ..CreatePartitionsRequest::default() };
    assert_eq!(client.ask(3, &request).results[0].error_code, ErrorCode::INVALID_PARTITIONS);

    let topic = DeleteTopicState { name: Some(offsets.into()), ..DeleteTopicState::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], ..DeleteTopicsRequest::default() };
    assert_eq!(client.ask(6, &request).responses[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert_eq!(position(&mut client), (ErrorCode::NONE, 5));
}
