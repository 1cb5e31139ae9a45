//! The primitives by themselves, and what leaves the crate as pieces.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Message;
use crate::api::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use crate::api::find_coordinator::FindCoordinatorRequest;
use crate::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};

#[test]
fn records_go_out_as_the_pieces_that_they_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let range = FileRange { file: Arc::new(File::open(path).unwrap()), position: 7, length: 100 };
    let memory = Bytes::from_static(b"a batch");
    let partition = |pieces: Vec<Piece>| PartitionData {
        aborted_transactions: None,
        records: Some(Records::from(pieces)),
        ..PartitionData::default()
    };
    let topic = FetchableTopicResponse {
        partitions: vec![
            partition(vec![memory.clone().into(), range.clone().into()]),
            partition(vec![Bytes::new().into()]),
        ],
        ..FetchableTopicResponse::default()
    };
    let response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
    let mut writer = Writer::new();
    response.encode(&mut writer, 16).unwrap();
    let encoded = writer.finish().unwrap();

    let [Piece::Memory(head), batch, file, Piece::Memory(tail)] = &encoded.pieces[..] else {
        panic!("{:?}", encoded.pieces)
    };
    assert_eq!(*batch, Piece::Memory(memory.clone()));
    let Piece::Memory(sent) = batch else { panic!("a piece of memory") };
    assert_eq!(sent.as_ptr(), memory.as_ptr(), "records are not copied");
    assert_eq!(*file, Piece::File(range));
    // The head ends with the length of both pieces, plus one; the frame's length counts the file's bytes too.
    assert_eq!(head.last(), Some(&(7 + 100 + 1)));
    assert_eq!(encoded.length, head.len() + 7 + 100 + tail.len());
    let prefix = i32::from_be_bytes(*head.first_chunk().unwrap());
    assert_eq!(usize::try_from(prefix), Ok(encoded.length - 4));
    assert_eq!(encoded.to_bytes(), None);
}

#[test]
fn records_that_were_read_are_a_slice_of_the_frame() {
    let records = Some(Records::from(Bytes::from_static(b"a batch")));
    let partition_data = vec![PartitionProduceData { index: 0, records }];
    let topic = TopicProduceData { name: "flights".into(), partition_data, ..TopicProduceData::default() };
    let request = ProduceRequest { topic_data: vec![topic], ..ProduceRequest::default() };
    let mut writer = Writer::new();
    request.encode(&mut writer, 9).unwrap();
    let frame = writer.finish().unwrap().to_bytes().unwrap().slice(4..);
    let read = ProduceRequest::decode(&mut Reader::for_request(frame.clone()), 9).unwrap();
    let records = read.topic_data[0].partition_data[0].records.as_ref().unwrap().as_bytes().unwrap();
    let within = frame.as_ptr_range();
    assert!(within.contains(&records.as_ptr()));
    assert!(within.contains(&read.topic_data[0].name.as_ptr()));
    assert!(!within.contains(&read.topic_data[0].name.detached().as_ptr()));
}

#[test]
fn what_a_version_cannot_say_is_an_error_that_names_the_field() {
    let encode = |request: &FindCoordinatorRequest, version| request.encode(&mut Writer::new(), version);
    let long = FindCoordinatorRequest { key: "k".repeat(32_768).into(), ..FindCoordinatorRequest::default() };
    assert_eq!(encode(&long, 2), Err(EncodeError::TooLong { field: "key", version: 2 }));
    assert_eq!(encode(&long, 3), Ok(()));
    assert_eq!(encode(&long, 4), Err(EncodeError::NotInVersion { field: "key", version: 4 }));

    let partition_data = vec![PartitionProduceData { index: 0, records: None }];
    let topic = TopicProduceData { partition_data, ..TopicProduceData::default() };
    let request = ProduceRequest { topic_data: vec![topic], ..ProduceRequest::default() };
    assert_eq!(request.encode(&mut Writer::new(), 3), Ok(()), "produce knows null records");

    let request = crate::api::metadata::MetadataRequest { topics: None, ..Default::default() };
    let error = EncodeError::NullNotAllowed { field: "topics", version: 0 };
    assert_eq!(request.encode(&mut Writer::new(), 0), Err(error));
    assert_eq!(error.to_string(), "field topics must not be null in version 0");
}

#[test]
fn a_decode_error_names_the_innermost_field_and_the_place() {
    // Acks, timeout, one topic without a name.
    let body = [&[0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff][..], &[0; 8]].concat();
    let error = ProduceRequest::decode(&mut Reader::for_request(Bytes::from(body)), 3).unwrap_err();
    assert_eq!(error, DecodeError { fault: Fault::UnexpectedNull, field: "name", position: 14 });
    assert_eq!(
        error.to_string(),
        "malformed message: null where a value is required, in field \"name\" near byte 14"
    );
}

#[test]
fn an_optional_string_takes_no_more_room_than_a_string() {
    assert_eq!(size_of::<Option<Text>>(), 16);
    assert_eq!(Text::default(), Text::EMPTY);
    assert_eq!(Text::from(""), "");
}

proptest! {
    #[test]
    fn varints_round_trip(value: u32) {
        let mut writer = Writer::new();
        writer.varint(value);
        let mut reader = Reader::for_request(writer.finish().unwrap().to_bytes().unwrap().slice(4..));
        prop_assert_eq!(reader.varint(), Ok(value));
        prop_assert!(reader.finish().is_ok());
    }

    #[test]
    fn texts_are_their_strings(string: String, other: String) {
        let text = Text::from(string.clone());
        prop_assert_eq!(text.as_str(), &string);
        prop_assert_eq!(text.detached(), text.clone());
        prop_assert_eq!(text.cmp(&Text::from(other.clone())), string.cmp(&other));
    }
}
