//! The versions served are Kafka's, and what is not served is refused as Kafka refuses it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};
use crate::codec::{Text, Writer};
use crate::header::{OpenError, Opened, RequestHeader};
use crate::{ApiKey, ErrorCode, Message, Reader, frame, header};

/// What Apache Kafka 4.3.1 answers to ApiVersions, as `tests/tests/wire_oracle.rs` asks a running one.
const KAFKA: &str = include_str!("../../../../tests/oracle/api-versions-4.3.1.txt");

fn kafka_versions() -> BTreeMap<i16, (i16, i16)> {
    let lines = KAFKA.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let numbers: Vec<i16> = line.split(' ').map(|word| word.parse().unwrap()).collect();
            let [key, first, last] = numbers[..] else { panic!("KEY FIRST LAST, not {line}") };
            (key, (first, last))
        })
        .collect()
}

#[test]
fn versions_are_kafkas_and_two_more_for_old_clients() {
    let kafka = kafka_versions();
    for version in header::advertised_versions() {
        let (mut first, last) = kafka[&version.api_key];
        if version.api_key == ApiKey::ListOffsets as i16 {
            first = 0;
        }
        assert_eq!((version.min_version, version.max_version), (first, last), "api {}", version.api_key);
    }
    assert_eq!(header::advertised_versions().len(), ApiKey::ALL.len());
    for key in ApiKey::ALL {
        let announced = key.advertised();
        let served = key.served();
        assert_eq!(announced.end(), served.end(), "{key}");
        let refused = if *key == ApiKey::Produce { 3 } else { 0 };
        assert_eq!(served.start() - announced.start(), refused, "{key}");
    }
}

#[test]
fn keys_and_numbers_agree() {
    for key in ApiKey::ALL {
        assert_eq!(ApiKey::from_number(*key as i16), Some(*key));
        assert_eq!(format!("{key:?}"), key.name());
    }
    for number in [-1, 4, 999, i16::MAX] {
        assert_eq!(ApiKey::from_number(number), None);
    }
}

fn body_of(frame: &[u8]) -> Bytes {
    let length = frame::body_length(*frame.first_chunk().unwrap(), usize::MAX).unwrap();
    assert_eq!(length, frame.len() - frame::PREFIX_BYTES);
    Bytes::copy_from_slice(&frame[frame::PREFIX_BYTES..])
}

/// A header's bytes: key, version, correlation id 7, client id "me", then what follows.
fn raw_header(key: i16, version: i16, rest: &[u8]) -> Bytes {
    let mut writer = Writer::new();
    writer.i16(key);
    writer.i16(version);
    writer.i32(7);
    writer.i16(2);
    writer.raw(b"me");
    writer.raw(rest);
    body_of(&writer.finish().unwrap().to_bytes().unwrap())
}

#[test]
fn unknown_apis_and_versions_close_the_connection() {
    for number in [-1, 4, 52, 999] {
        let error = header::open_request(raw_header(number, 0, &[])).unwrap_err();
        assert_eq!(error, OpenError::UnknownApi { key: number });
    }
    for (key, version) in
        [(ApiKey::Produce, 2), (ApiKey::Produce, 14), (ApiKey::Fetch, 3), (ApiKey::Metadata, -1)]
    {
        let (first, last) = key.api().served;
        let error = header::open_request(raw_header(key as i16, version, &[])).unwrap_err();
        assert_eq!(error, OpenError::UnsupportedVersion { key, version, first, last });
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    for version in [-1, 5, 99, i16::MAX] {
        // A header of the future: nothing after the correlation id is relied on.
        let opened = header::open_request(raw_header(18, version, &[0xff; 3])).unwrap();
        let Opened::UnsupportedApiVersions { correlation_id } = opened else { panic!("{opened:?}") };
        let frame = header::unsupported_api_versions(correlation_id).to_bytes().unwrap();
        let (correlation_id, mut reader) =
            header::open_response(body_of(&frame), ApiKey::ApiVersions, 0).unwrap();
        let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
        reader.finish().unwrap();
        assert_eq!(correlation_id, 7);
        assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
        assert_eq!(response.api_keys, header::advertised_versions());
    }
}

#[test]
fn requests_and_responses_pass_through_their_frames() {
    for (version, client_id) in [(0, None), (2, Some(Text::from("me"))), (3, Some(Text::EMPTY)), (4, None)] {
        let sent = RequestHeader { key: ApiKey::ApiVersions, version, correlation_id: -7, client_id };
        let request = ApiVersionsRequest::default();
        let frame = sent.frame(&request).unwrap().to_bytes().unwrap();
        let Opened::Request(received, reader) = header::open_request(body_of(&frame)).unwrap() else {
            panic!("version {version} is served")
        };
        assert_eq!(received, sent);
        assert_eq!(received.decode_body(reader).unwrap(), request.into());
    }
    for (key, version, header_bytes) in
        [(ApiKey::ApiVersions, 4, 4), (ApiKey::Heartbeat, 3, 4), (ApiKey::Heartbeat, 4, 5)]
    {
        let frame = header::response_writer(key, version, 42).finish().unwrap().to_bytes().unwrap();
        assert_eq!(frame.len(), frame::PREFIX_BYTES + header_bytes, "{key} {version}");
        let body = body_of(&frame);
        assert_eq!(header::correlation_id(&body), Some(42));
        let (correlation_id, reader) = header::open_response(body, key, version).unwrap();
        assert_eq!((correlation_id, reader.remaining()), (42, 0));
    }
}

/// No oracle at hand knows this version, so its bytes are spelt out, from the protocol guide of Kafka 2.1.
#[test]
fn list_offsets_0_asks_for_several_offsets() {
    let partition =
        ListOffsetsPartition { partition_index: 3, timestamp: -1, max_num_offsets: 2, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let expected: &[&[u8]] = &[
        &(-1_i32).to_be_bytes(),
        &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1],
        &3_i32.to_be_bytes(),
        &(-1_i64).to_be_bytes(),
        &2_i32.to_be_bytes(),
    ];
    assert_body(&request, &expected.concat());

    let partition = ListOffsetsPartitionResponse {
        partition_index: 3,
        old_style_offsets: vec![9, 4],
        ..ListOffsetsPartitionResponse::default()
    };
    let topic = ListOffsetsTopicResponse { name: "t".into(), partitions: vec![partition] };
    let response = ListOffsetsResponse { topics: vec![topic], ..Default::default() };
    let expected: &[&[u8]] = &[
        &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1],
        &3_i32.to_be_bytes(),
        &[0, 0, 0, 0, 0, 2],
        &9_i64.to_be_bytes(),
        &4_i64.to_be_bytes(),
    ];
    assert_body(&response, &expected.concat());
}

fn assert_body<M: Message + PartialEq + std::fmt::Debug>(message: &M, expected: &[u8]) {
    let mut writer = Writer::new();
    message.encode(&mut writer, 0).unwrap();
    let body = body_of(&writer.finish().unwrap().to_bytes().unwrap());
    assert_eq!(body, expected);
    let mut reader = Reader::for_request(body);
    assert_eq!(M::decode(&mut reader, 0).as_ref(), Ok(message));
    reader.finish().unwrap();
}
