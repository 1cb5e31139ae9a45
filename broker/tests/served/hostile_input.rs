//! What hostile or broken clients send: each gets its answer or is closed, and nobody else notices.

use std::sync::Mutex;

use crate::support::{Client, Served, batch, now_ms, records};
use bytes::Bytes;
use wire::ErrorCode;
use wire::api::api_versions::ApiVersionsRequest;
use wire::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic};
use wire::api::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use wire::api::metadata::{MetadataRequest, MetadataRequestTopic};
use wire::api::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::api::produce::{PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData};
use wire::batch::{
    Attributes, BatchBuilder, BatchOptions, HEADER_BYTES, HeaderPatch, NewRecord, ProducerFields,
};
use wire::codec::{Records, Text};
use wire::ids::{ProducerEpoch, ProducerId};

/// Held by the test that looks at the memory of this process, and by the one that needs much of it.
static MEMORY: Mutex<()> = Mutex::new(());

/// The kernel's count of pages this process holds, in bytes.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn still_serves(broker: &Served) {
    let request =
        ApiVersionsRequest { client_software_name: "a".into(), client_software_version: "1".into() };
    let answer = broker.client().ask(4, &request);
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

/// Frames that are no request that is served: key, version, correlation id, client id, then what follows.
fn request(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let mut body = key.to_be_bytes().to_vec();
    body.extend_from_slice(&version.to_be_bytes());
    body.extend_from_slice(&7i32.to_be_bytes());
    body.extend_from_slice(rest);
    body
}

const NO_CLIENT: [u8; 2] = [0xff, 0xff];

#[test]
fn frames_and_headers_that_are_no_kafka_are_closed() {
    let _alone = MEMORY.lock();
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    still_serves(&broker);
    let before = resident_bytes();
    let behind = |rest: &[u8]| [&NO_CLIENT[..], rest].concat();
    let mut many_tags = behind(&[0xff, 0xff, 0xff, 0x7f]);
    many_tags.extend(std::iter::repeat_n(0, 60_000));
    let raw: [(&str, Vec<u8>); 5] = [
        ("length -1", (-1i32).to_be_bytes().to_vec()),
        ("length 0", 0i32.to_be_bytes().to_vec()),
        ("length of 2 GiB", i32::MAX.to_be_bytes().to_vec()),
        ("a large first frame", (1i32 << 20).to_be_bytes().to_vec()),
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in raw {
        let mut client = broker.client();
        client.send(&bytes);
        assert_eq!(client.receive(), None, "{what}");
    }
    let framed: Vec<(&str, Vec<u8>)> = vec![
        ("api 999", request(999, 0, &NO_CLIENT)),
        ("api -1", request(-1, 0, &NO_CLIENT)),
        ("a controller's api", request(52, 0, &NO_CLIENT)),
        ("transactions", request(26, 3, &NO_CLIENT)),
        ("metadata of version 99", request(3, 99, &NO_CLIENT)),
        ("produce of version 2", request(0, 2, &NO_CLIENT)),
        ("metadata of version -1", request(3, -1, &NO_CLIENT)),
        ("client id of length -2", request(3, 1, &[0xff, 0xfe])),
        ("client id beyond the frame", request(3, 1, &[0x7f, 0xff, b'a', b'b', b'c'])),
        ("client id that is not utf-8", request(3, 1, &[0, 2, 0xff, 0xfe, 0, 0, 0, 0])),
        ("no body", request(3, 1, &NO_CLIENT)),
        ("array of 2^31-1", request(3, 1, &behind(&[0x7f, 0xff, 0xff, 0xff]))),
        ("array of -2", request(3, 1, &behind(&[0xff, 0xff, 0xff, 0xfe]))),
        ("varint without end", request(3, 9, &behind(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))),
        ("20 million tagged fields", request(3, 9, &many_tags)),
        ("duplicate tags", request(3, 9, &behind(&[2, 0, 0, 0, 0, 0, 0, 0]))),
        ("tag larger than the rest", request(3, 9, &behind(&[1, 0, 99, 0, 0]))),
        ("null where there is none", request(0, 9, &behind(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]))),
    ];
    for (what, body) in framed {
        let mut client = broker.client();
        client.send_frame(&body);
        assert_eq!(client.receive(), None, "{what}");
        still_serves(&broker);
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "hostile frames cost {grown} bytes");
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_with_the_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    client.send_frame(&request(18, 99, &NO_CLIENT));
    let frame = client.receive().unwrap();
    assert_eq!(&frame[..6], [0, 0, 0, 7, 0, 35]);
    // The connection lives on, and correlation ids are echoed whatever they are.
    for correlation_id in [-5, -5, i32::MIN] {
        let request = ApiVersionsRequest::default();
        let mut header = client.header::<ApiVersionsRequest>(0);
        header.correlation_id = correlation_id;
        client.send(&header.frame(&request).unwrap().to_bytes().unwrap());
        assert_eq!(client.receive().unwrap()[..4], correlation_id.to_be_bytes());
    }
    let unnamed = client.ask(3, &ApiVersionsRequest::default());
    assert_eq!(unnamed.error_code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn ten_thousand_requests_without_reading_an_answer_are_held_back_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut reader = broker.client();
    let mut writer = reader.twin();
    let before = resident_bytes();
    let sender = std::thread::spawn(move || {
        for _ in 0..10_000 {
            writer.post(0, &ApiVersionsRequest::default());
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(resident_bytes().saturating_sub(before) < 64 << 20);
    for expected in 1..=10_000i32 {
        assert_eq!(reader.receive().unwrap()[..4], expected.to_be_bytes());
    }
    sender.join().unwrap();
}

fn topic(client: &mut Client, name: &str, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: Text::from(*name),
        value: Some(Text::from(*value)),
    });
    let topic = CreatableTopic {
        name: Text::from(name),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.collect(),
        ..CreatableTopic::default()
    };
    let answer =
        client.ask(7, &CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() });
    assert_eq!(answer.topics[0].error_code, ErrorCode::NONE, "{:?}", answer.topics[0].error_message);
}

fn produce_request(topic: &str, acks: i16, records: Option<Records>) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: Text::from(topic),
            partition_data: vec![PartitionProduceData { index: 0, records }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

fn produce(client: &mut Client, topic: &str, bytes: Vec<u8>) -> PartitionProduceResponse {
    let answer = client.ask(8, &produce_request(topic, -1, records(bytes)));
    answer.responses[0].partition_responses[0].clone()
}

/// A batch with a changed header and a right checksum.
fn with_header(patch: HeaderPatch) -> Vec<u8> {
    let mut bytes = batch(&["a", "b"]);
    patch.apply(bytes.first_chunk_mut::<HEADER_BYTES>().unwrap()).unwrap();
    bytes
}

fn produced_by(id: i64, epoch: i16, base_sequence: i32) -> Vec<u8> {
    let producer = ProducerFields { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence };
    with_header(HeaderPatch { producer: Some(producer), ..HeaderPatch::default() })
}

#[test]
fn batches_that_break_a_rule_get_the_rules_code() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    topic(&mut client, "t", &[("max.message.bytes", "2000")]);
    topic(&mut client, "compacted", &[("cleanup.policy", "compact")]);
    let good = batch(&["a", "b"]);
    let at = |position: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[position] = byte;
        bytes
    };
    let attributes = |attributes: Attributes| {
        with_header(HeaderPatch { attributes: Some(attributes), ..HeaderPatch::default() })
    };
    let time = |max_timestamp_ms| {
        with_header(HeaderPatch { max_timestamp_ms: Some(max_timestamp_ms), ..HeaderPatch::default() })
    };
    let large = "x".repeat(3000);
    let cases: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("good", good.clone(), ErrorCode::NONE),
        ("empty", Vec::new(), ErrorCode::INVALID_RECORD),
        ("two batches", [good.clone(), good.clone()].concat(), ErrorCode::INVALID_RECORD),
        ("magic 0", at(16, 0), ErrorCode::INVALID_RECORD),
        ("magic 127", at(16, 127), ErrorCode::INVALID_RECORD),
        ("length below the header", at(11, 10), ErrorCode::CORRUPT_MESSAGE),
        ("length beyond the bytes", at(10, 99), ErrorCode::CORRUPT_MESSAGE),
        ("negative length", at(8, 0xff), ErrorCode::CORRUPT_MESSAGE),
        ("wrong checksum", at(good.len() - 1, 0xee), ErrorCode::CORRUPT_MESSAGE),
        ("cut in the header", good[..40].to_vec(), ErrorCode::CORRUPT_MESSAGE),
        ("too large", batch(&[&large]), ErrorCode::MESSAGE_TOO_LARGE),
        ("control", attributes(Attributes::default().with_control(true)), ErrorCode::INVALID_RECORD),
        ("append time", attributes(Attributes(8)), ErrorCode::INVALID_TIMESTAMP),
        ("transaction without producer", attributes(Attributes(16)), ErrorCode::INVALID_RECORD),
        ("far future", time(now_ms() + 1_000_000_000), ErrorCode::INVALID_TIMESTAMP),
        ("end of time", time(i64::MAX), ErrorCode::INVALID_TIMESTAMP),
        ("producer id never given out", produced_by(1 << 40, 0, 0), ErrorCode::UNKNOWN_PRODUCER_ID),
        ("producer without sequence", produced_by(0, 0, -1), ErrorCode::INVALID_RECORD),
    ];
    for (what, bytes, expected) in cases {
        let answer = produce(&mut client, "t", bytes);
        assert_eq!(answer.error_code, expected, "{what}: {:?}", answer.error_message);
        assert_eq!(answer.base_offset >= 0, expected == ErrorCode::NONE, "{what}");
    }
    let mut keyless = BatchBuilder::new(BatchOptions::default());
    keyless.push(&NewRecord { timestamp_ms: now_ms(), key: None, value: Some(b"v"), headers: &[] });
    let answer = produce(&mut client, "compacted", keyless.build());
    assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD);
    assert_eq!(answer.record_errors.len(), 1);
    assert_eq!(produce(&mut client, "compacted", batch(&["a"])).error_code, ErrorCode::NONE);
    for acks in [2, -2] {
        let answer = client.ask(8, &produce_request("t", acks, records(good.clone())));
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::INVALID_REQUIRED_ACKS);
    }
    assert_eq!(
        produce(&mut client, "missing", good.clone()).error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(produce(&mut client, "__consumer_offsets", good.clone()).base_offset, -1);
    // Nothing of what was refused is in the log.
    assert_eq!(produce(&mut client, "t", good.clone()).base_offset, 2);
    // With acks=0 closing is the only way to tell.
    client.post(8, &produce_request("missing", 0, records(good)));
    assert_eq!(client.receive(), None);
}

#[test]
fn idempotent_batches_are_taken_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    topic(&mut client, "t", &[]);
    let id = client.ask(
        4,
        &wire::api::init_producer_id::InitProducerIdRequest { transactional_id: None, ..Default::default() },
    );
    assert_eq!((id.error_code, id.producer_epoch), (ErrorCode::NONE, 0));
    let id = id.producer_id;
    let mut check = |epoch, sequence, code: ErrorCode, offset| {
        let answer = produce(&mut client, "t", produced_by(id, epoch, sequence));
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (code, offset),
            "epoch {epoch}, sequence {sequence}"
        );
    };
    check(0, 0, ErrorCode::NONE, 0);
    check(0, 2, ErrorCode::NONE, 2);
    check(0, 0, ErrorCode::NONE, 0);
    check(0, 9, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    check(1, 5, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    check(1, 0, ErrorCode::NONE, 4);
    check(0, 4, ErrorCode::INVALID_PRODUCER_EPOCH, -1);
    let transactional = client.ask(
        4,
        &wire::api::init_producer_id::InitProducerIdRequest {
            transactional_id: Some("t".into()),
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        },
    );
    assert_eq!(transactional.error_code, ErrorCode::INVALID_TRANSACTION_TIMEOUT);
}

fn fetch_request(offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

#[test]
fn fetches_are_bounded_and_records_are_never_null() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    topic(&mut client, "t", &[]);
    let sent = batch(&["a", "b", "c"]);
    produce(&mut client, "t", sent.clone());
    let mut check = |request: FetchRequest, code: ErrorCode, bytes: usize| {
        let answer = client.ask(11, &request);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, code, "{request:?}");
        assert_eq!(partition.records.as_ref().unwrap().length(), bytes, "{request:?}");
    };
    check(fetch_request(0), ErrorCode::NONE, sent.len());
    // An offset within a batch returns the whole batch, and so do limits below its size.
    check(fetch_request(2), ErrorCode::NONE, sent.len());
    check(FetchRequest { max_bytes: 1, ..fetch_request(0) }, ErrorCode::NONE, sent.len());
    check(
        FetchRequest { max_bytes: -1, min_bytes: i32::MAX, ..fetch_request(0) },
        ErrorCode::NONE,
        sent.len(),
    );
    check(fetch_request(3), ErrorCode::NONE, 0);
    check(fetch_request(4), ErrorCode::OFFSET_OUT_OF_RANGE, 0);
    check(fetch_request(-5), ErrorCode::OFFSET_OUT_OF_RANGE, 0);
    check(FetchRequest { replica_id: 3, ..fetch_request(0) }, ErrorCode::TOPIC_AUTHORIZATION_FAILED, 0);
    let mut stale = fetch_request(0);
    stale.topics[0].partitions[0].current_leader_epoch = 1_000_000;
    check(stale, ErrorCode::UNKNOWN_LEADER_EPOCH, 0);
    let unknown = client.ask(11, &FetchRequest { session_id: 5, session_epoch: 3, ..fetch_request(0) });
    assert_eq!(unknown.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

/// More than the journal's ring holds, so that the first of it is read from segment files.
const FILED_BATCHES: usize = 96;
/// Fetches that each fill the socket many times over.
const LARGE_FETCHES: usize = 200;

#[test]
fn files_larger_than_the_socket_arrive_to_their_last_byte() {
    let _alone = MEMORY.lock();
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    topic(&mut client, "t", &[("segment.bytes", "8388608")]);
    let value = "v".repeat(1_000_000);
    for _ in 0..FILED_BATCHES {
        assert_eq!(produce(&mut client, "t", batch(&[&value])).error_code, ErrorCode::NONE);
    }
    let mut request = fetch_request(0);
    request.max_bytes = 8 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 8 << 20;
    for round in 0..LARGE_FETCHES {
        request.topics[0].partitions[0].fetch_offset = (round % 16) as i64;
        let answer = client.ask(11, &request);
        let length = answer.responses[0].partitions[0].records.as_ref().unwrap().length();
        assert!(length > 1_000_000, "fetch {round} brought {length} bytes");
    }
}

#[test]
fn a_waiting_fetch_is_woken_by_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut consumer = broker.client();
    topic(&mut consumer, "t", &[]);
    consumer.post(11, &FetchRequest { max_wait_ms: 15_000, ..fetch_request(0) });
    std::thread::sleep(std::time::Duration::from_millis(200));
    let began_ms = now_ms();
    let sent = batch(&["late"]);
    produce(&mut broker.client(), "t", sent.clone());
    let answer = consumer.take::<FetchRequest>(11);
    assert_eq!(answer.responses[0].partitions[0].records.as_ref().unwrap().length(), sent.len());
    assert!(now_ms() - began_ms < 5_000);
}

#[test]
fn groups_topics_and_offsets_have_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    topic(&mut client, "t", &[]);
    client.ask(
        3,
        &wire::api::find_coordinator::FindCoordinatorRequest { key: "g".into(), ..Default::default() },
    );
    let join = |group: &str, session_timeout_ms| JoinGroupRequest {
        group_id: Text::from(group),
        session_timeout_ms,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"m"),
        }],
        ..JoinGroupRequest::default()
    };
    assert_eq!(client.ask(5, &join("", 10_000)).error_code, ErrorCode::INVALID_GROUP_ID);
    assert_eq!(client.ask(5, &join("g", 0)).error_code, ErrorCode::INVALID_SESSION_TIMEOUT);
    assert_eq!(client.ask(5, &join("g", i32::MAX)).error_code, ErrorCode::INVALID_SESSION_TIMEOUT);
    let given = client.ask(5, &join("g", 10_000));
    assert_eq!((given.error_code, given.member_id.is_empty()), (ErrorCode::MEMBER_ID_REQUIRED, false));
    let mut commit = |offset, metadata: &str, generation| {
        let partition = OffsetCommitRequestPartition {
            committed_offset: offset,
            committed_metadata: Some(Text::from(metadata)),
            ..OffsetCommitRequestPartition::default()
        };
        let topics = vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        }];
        let generation_id_or_member_epoch = generation;
        let request = OffsetCommitRequest {
            group_id: "plain".into(),
            generation_id_or_member_epoch,
            topics,
            ..Default::default()
        };
        client.ask(8, &request).topics[0].partitions[0].error_code
    };
    assert_eq!(commit(5, "note", -1), ErrorCode::NONE);
    assert_eq!(commit(-2, "note", -1), ErrorCode::INVALID_REQUEST);
    assert_eq!(commit(5, &"x".repeat(5_000), -1), ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(commit(5, "note", 3), ErrorCode::UNKNOWN_MEMBER_ID);
    let mut create = |name: &str, partitions, replicas, config: Option<(&str, &str)>| {
        let configs = config.iter().map(|(name, value)| CreatableTopicConfig {
            name: Text::from(*name),
            value: Some(Text::from(*value)),
        });
        let topic = CreatableTopic {
            name: Text::from(name),
            num_partitions: partitions,
            replication_factor: replicas,
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        client.ask(7, &request).topics[0].error_code
    };
    let long = "x".repeat(1 << 20);
    assert_eq!(create("many", 10_000_000, 1, None), ErrorCode::INVALID_PARTITIONS);
    assert_eq!(create("copies", 1, 3, None), ErrorCode::INVALID_REPLICATION_FACTOR);
    assert_eq!(create("..", 1, 1, None), ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert_eq!(create("a/b", 1, 1, None), ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert_eq!(create("A.b", -1, -1, None), ErrorCode::NONE);
    assert_eq!(create("A_b", 1, 1, None), ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert_eq!(create("A.b", 1, 1, None), ErrorCode::TOPIC_ALREADY_EXISTS);
    assert_eq!(create("c", 1, 1, Some(("no.such", "1"))), ErrorCode::INVALID_CONFIG);
    assert_eq!(
        create("c", 1, 1, Some(("leader.replication.throttled.replicas", &long))),
        ErrorCode::INVALID_CONFIG
    );
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let sent = batch(&["kept"]);
    let topic_id;
    {
        let broker = Served::start(folder.path());
        let mut client = broker.client();
        topic(&mut client, "t", &[("retention.ms", "-1")]);
        assert_eq!(produce(&mut client, "t", sent.clone()).base_offset, 0);
        topic_id = described(&mut client).unwrap();
        broker.stop();
    }
    let broker = Served::start(folder.path());
    let mut client = broker.client();
    assert_eq!(described(&mut client), Some(topic_id));
    let answer = client.ask(11, &fetch_request(0));
    assert_eq!(answer.responses[0].partitions[0].records.as_ref().unwrap().length(), sent.len());
    assert_eq!(produce(&mut client, "t", sent).base_offset, 1);
}

fn described(client: &mut Client) -> Option<wire::TopicId> {
    let asked = MetadataRequestTopic { name: Some("t".into()), ..MetadataRequestTopic::default() };
    let request = MetadataRequest {
        topics: Some(vec![asked]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let answer = client.ask(12, &request);
    let topic = &answer.topics[0];
    (topic.error_code == ErrorCode::NONE).then_some(topic.topic_id)
}
