//! The first oracle: the crate `kafka-protocol`, generated from Kafka's own schemas, reads and writes the same bytes.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message};

use super::requests::Pair;
use crate::api::ApiKey;

/// Reads a body by the oracle and writes it again; `None` where it does not know the version.
fn through_oracle<M: Message + Decodable + Encodable>(body: &Bytes, version: i16) -> Option<Bytes> {
    if version < M::VERSIONS.min || version > M::VERSIONS.max {
        return None;
    }
    let mut rest = body.clone();
    let message = M::decode(&mut rest, version).expect("the oracle reads what we wrote");
    assert!(rest.is_empty(), "the oracle leaves {} bytes", rest.len());
    let mut written = BytesMut::new();
    message.encode(&mut written, version).expect("the oracle writes what it read");
    Some(written.freeze())
}

macro_rules! oracle {
    ($($name:ident: $request:ident, $response:ident;)+) => {
        fn ask(pair: Pair, body: &Bytes) -> Option<Bytes> {
            match (pair.key, pair.is_request) {
                $(
                    (ApiKey::$name, true) => through_oracle::<theirs::$request>(body, pair.version),
                    (ApiKey::$name, false) => through_oracle::<theirs::$response>(body, pair.version),
                )+
            }
        }
    };
}

oracle! {
    Produce: ProduceRequest, ProduceResponse;
    Fetch: FetchRequest, FetchResponse;
    ListOffsets: ListOffsetsRequest, ListOffsetsResponse;
    Metadata: MetadataRequest, MetadataResponse;
    OffsetCommit: OffsetCommitRequest, OffsetCommitResponse;
    OffsetFetch: OffsetFetchRequest, OffsetFetchResponse;
    FindCoordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    JoinGroup: JoinGroupRequest, JoinGroupResponse;
    Heartbeat: HeartbeatRequest, HeartbeatResponse;
    LeaveGroup: LeaveGroupRequest, LeaveGroupResponse;
    SyncGroup: SyncGroupRequest, SyncGroupResponse;
    DescribeGroups: DescribeGroupsRequest, DescribeGroupsResponse;
    ListGroups: ListGroupsRequest, ListGroupsResponse;
    ApiVersions: ApiVersionsRequest, ApiVersionsResponse;
    CreateTopics: CreateTopicsRequest, CreateTopicsResponse;
    DeleteTopics: DeleteTopicsRequest, DeleteTopicsResponse;
    DeleteRecords: DeleteRecordsRequest, DeleteRecordsResponse;
    InitProducerId: InitProducerIdRequest, InitProducerIdResponse;
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    DescribeConfigs: DescribeConfigsRequest, DescribeConfigsResponse;
    CreatePartitions: CreatePartitionsRequest, CreatePartitionsResponse;
    DeleteGroups: DeleteGroupsRequest, DeleteGroupsResponse;
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    DescribeCluster: DescribeClusterRequest, DescribeClusterResponse;
    DescribeProducers: DescribeProducersRequest, DescribeProducersResponse;
    DescribeTopicPartitions: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
}

#[test]
fn kafka_protocol_reads_and_writes_the_same_bytes() {
    let mut unknown = Vec::new();
    for pair in Pair::all() {
        for seed in 0..60 {
            let message = pair.sample(seed);
            let body = pair.encode(&message).unwrap();
            match ask(pair, &body) {
                Some(written) => {
                    assert_eq!(written, body, "{pair:?} seed {seed}: {message:?}");
                    assert_eq!(pair.decode(written).unwrap(), message, "{pair:?} seed {seed}");
                }
                None => {
                    unknown.push((pair.key.name(), pair.version));
                    break;
                }
            }
        }
    }
    unknown.dedup();
    // The oracle was made for Kafka 4.1; the rest is left to Kafka's own classes (tests/tests/wire_oracle.rs).
    assert_eq!(unknown, [("ListOffsets", 0), ("ListOffsets", 11), ("OffsetCommit", 10), ("OffsetFetch", 10)]);
}
