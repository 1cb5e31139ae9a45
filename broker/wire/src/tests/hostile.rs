//! Malformed and hostile bytes: each is refused with its fault, none costs more memory than its size entitles it to.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::allocation::peak_bytes;
use super::requests::Pair;
use super::sample::Source;
use crate::codec::{Fault, limits};
use crate::frame::FrameError;
use crate::header::{OpenError, Opened};
use crate::{ApiKey, Request, frame, header};

/// Decodes a body, and checks the memory that it took.
fn decode_within_budget(pair: Pair, body: &[u8]) -> Result<(), Fault> {
    let body = Bytes::copy_from_slice(body);
    let factor = if pair.is_request { limits::REQUEST_FACTOR } else { limits::RESPONSE_FACTOR };
    let allowed = factor * body.len() + limits::ALLOWANCE_BYTES;
    let (result, peak) = peak_bytes(|| pair.decode(body));
    assert!(peak <= allowed, "{pair:?}: {peak} bytes, {allowed} allowed");
    result.map(drop).map_err(|error| error.fault)
}

fn request(key: ApiKey, version: i16) -> Pair {
    Pair { key, version, is_request: true }
}

const COMPACT_MAXIMUM: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

#[test]
fn counts_and_lengths_beyond_the_frame_cost_nothing() {
    let counted = |count: i32| count.to_be_bytes().to_vec();
    let cases: &[(&str, Pair, Vec<u8>)] = &[
        ("metadata, 2^31-1 topics", request(ApiKey::Metadata, 1), counted(i32::MAX)),
        ("metadata, 50 million topics", request(ApiKey::Metadata, 1), counted(50_000_000)),
        ("metadata, compact count", request(ApiKey::Metadata, 12), COMPACT_MAXIMUM.to_vec()),
        (
            "metadata, a string of a gigabyte",
            request(ApiKey::Metadata, 12),
            // One topic: its id, then the length of its name.
            [&[2][..], &[0; 16], &COMPACT_MAXIMUM, &[0; 16]].concat(),
        ),
        (
            "produce, 20 million topics",
            request(ApiKey::Produce, 9),
            [&[0, 0, 1, 0, 0, 0, 0][..], &[0x80, 0xda, 0xc4, 0x09]].concat(),
        ),
        (
            "produce, records of a gigabyte",
            request(ApiKey::Produce, 3),
            [
                // No transactional id, acks, timeout, one topic "t", one partition 0.
                &[0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0][..],
                &((1_i32 << 30) - 1).to_be_bytes(),
                &[0; 15],
            ]
            .concat(),
        ),
        (
            "join group, a name beyond the frame",
            request(ApiKey::JoinGroup, 0),
            vec![0x7f, 0xff, b'a', b'b', b'c'],
        ),
    ];
    for (case, pair, body) in cases {
        let body = Bytes::copy_from_slice(body);
        let (result, peak) = peak_bytes(|| pair.decode(body));
        assert_eq!(result.unwrap_err().fault, Fault::LengthBeyondFrame, "{case}");
        assert!(peak < 1024, "{case}: {peak} bytes");
    }
}

#[test]
fn negative_lengths_and_nulls_are_refused_where_they_mean_nothing() {
    let cases: &[(&str, Pair, &[u8], Fault)] = &[
        ("a count of -2", request(ApiKey::Metadata, 1), &[0xff, 0xff, 0xff, 0xfe], Fault::NegativeLength),
        ("a null list", request(ApiKey::DescribeGroups, 0), &[0xff; 4], Fault::UnexpectedNull),
        ("a null list, compact", request(ApiKey::DeleteGroups, 2), &[0, 0], Fault::UnexpectedNull),
        ("a null topic list before null", request(ApiKey::Metadata, 0), &[0xff; 4], Fault::UnexpectedNull),
        ("a null string", request(ApiKey::FindCoordinator, 0), &[0xff, 0xff], Fault::UnexpectedNull),
        ("a string of -2", request(ApiKey::FindCoordinator, 0), &[0xff, 0xfe], Fault::NegativeLength),
        ("no utf-8", request(ApiKey::FindCoordinator, 0), &[0, 2, 0xc3, 0x28], Fault::NotUtf8),
        ("a varint of six bytes", request(ApiKey::DeleteGroups, 2), &[0x80; 6], Fault::OverlongVarint),
        (
            "a varint of 33 bits",
            request(ApiKey::DeleteGroups, 2),
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
            Fault::OverlongVarint,
        ),
        ("nothing", request(ApiKey::DeleteGroups, 2), &[], Fault::Truncated),
    ];
    for (case, pair, body, fault) in cases {
        assert_eq!(decode_within_budget(*pair, body), Err(*fault), "{case}");
    }
}

/// Appends an unsigned varint.
fn varint(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[test]
fn a_million_unknown_tagged_fields_are_passed_over() {
    let mut body = vec![1, 1];
    varint(&mut body, 1_000_000);
    for tag in 0..1_000_000 {
        varint(&mut body, tag + 10);
        varint(&mut body, 0);
    }
    let pair = request(ApiKey::ApiVersions, 3);
    let body = Bytes::from(body);
    let (result, peak) = peak_bytes(|| pair.decode(body));
    result.unwrap();
    assert!(peak < 1024, "{peak} bytes");
}

#[test]
fn tagged_fields_must_rise_and_fill_their_size() {
    // DescribeProducers has no known tags; Fetch 12 knows tag 0, the cluster id.
    let producers = request(ApiKey::DescribeProducers, 0);
    assert_eq!(decode_within_budget(producers, &[1, 2, 3, 1, 0xaa, 9, 0]), Ok(()));
    assert_eq!(decode_within_budget(producers, &[1, 2, 3, 0, 3, 0]), Err(Fault::TagOrder));
    assert_eq!(decode_within_budget(producers, &[1, 2, 3, 0, 2, 0]), Err(Fault::TagOrder));
    assert_eq!(decode_within_budget(producers, &[1, 1, 3, 9, 0]), Err(Fault::LengthBeyondFrame));
    assert_eq!(decode_within_budget(producers, &[1, 100, 3, 0, 4, 0]), Err(Fault::LengthBeyondFrame));

    // Replica, wait, minimum, maximum, isolation, session, its epoch, no topics, none forgotten, no rack.
    let fetch = |tagged: &[u8]| {
        let body = [&[0; 16][..], &[0], &[0; 8], &[1, 1, 1], tagged].concat();
        decode_within_budget(request(ApiKey::Fetch, 12), &body)
    };
    assert_eq!(fetch(&[1, 0, 2, 2, b'c']), Ok(()));
    assert_eq!(fetch(&[1, 0, 3, 2, b'c', 0]), Err(Fault::TagSize));
    assert_eq!(fetch(&[1, 0, 1, 2, b'c']), Err(Fault::LengthBeyondFrame));
    // A known field reaches no further than its size says, though the frame goes on.
    assert_eq!(fetch(&[2, 0, 1, 2, 7, 1, b'c']), Err(Fault::LengthBeyondFrame));
}

#[test]
fn a_request_of_many_small_parts_is_refused_before_it_fills_memory() {
    // A million members without a name: four bytes each on the wire, more in memory than the frame entitles to.
    let mut body = vec![2, b'g'];
    varint(&mut body, 1_000_001);
    body.extend(std::iter::repeat_n([1, 0, 0, 0], 1_000_000).flatten());
    body.push(0);
    assert_eq!(decode_within_budget(request(ApiKey::LeaveGroup, 5), &body), Err(Fault::OverBudget));
}

#[test]
fn ordinary_requests_with_many_parts_fit_the_budget() {
    // 5,000 partitions in one fetch, and 5,000 topics with a name of 12 letters in one metadata request.
    let mut body = vec![0; 4 + 4 + 4];
    body.extend([0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    body.extend([7; 16]);
    varint(&mut body, 5_001);
    body.extend(std::iter::repeat_n([0_u8; 33], 5_000).flatten());
    body.extend([0, 1, 1, 0]);
    assert_eq!(decode_within_budget(request(ApiKey::Fetch, 17), &body[4..]), Ok(()));

    let mut body = Vec::new();
    varint(&mut body, 5_001);
    body.extend(std::iter::repeat_n(*b"\x0dflights-2013\0", 5_000).flatten());
    body.extend([0, 0, 0, 0]);
    assert_eq!(decode_within_budget(request(ApiKey::Metadata, 9), &body), Ok(()));
}

#[test]
fn every_prefix_of_a_message_is_refused() {
    for pair in Pair::all() {
        for seed in 0..3 {
            let body = pair.encode(&pair.sample(seed)).unwrap();
            for length in 0..body.len() {
                let result = decode_within_budget(pair, &body[..length]);
                assert!(result.is_err(), "{pair:?} seed {seed}: {length} of {} bytes", body.len());
            }
            // A server bears what clients are known to send; a client takes nothing that it did not expect.
            let expected = if pair.is_request { Ok(()) } else { Err(Fault::TrailingBytes) };
            let longer = [&body[..], &[0]].concat();
            assert_eq!(decode_within_budget(pair, &longer), expected, "{pair:?} seed {seed}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn damaged_messages_stay_within_their_budget(
        pair in proptest::sample::select(Pair::all()),
        seed: u64,
        damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
    ) {
        let mut body = pair.encode(&pair.sample(seed)).unwrap().to_vec();
        for (place, value) in damage {
            if !body.is_empty() {
                let place = usize::from(place) % body.len();
                body[place] = value;
            }
        }
        let _ = decode_within_budget(pair, &body);
    }

    #[test]
    fn random_bytes_stay_within_their_budget(
        pair in proptest::sample::select(Pair::all()),
        body in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let _ = decode_within_budget(pair, &body);
    }

    #[test]
    fn random_frames_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), seed: u64) {
        let mut frame = bytes;
        // Half of them begin with a key and a version that exist.
        let mut source = Source::new(seed);
        if source.below(2) == 0 && frame.len() >= 4 {
            let key = ApiKey::ALL[source.below(ApiKey::ALL.len())];
            frame[..2].copy_from_slice(&(key as i16).to_be_bytes());
            frame[2..4].copy_from_slice(&key.served().start().to_be_bytes());
        }
        if let Ok(Opened::Request(header, reader)) = header::open_request(Bytes::from(frame)) {
            let _ = header.decode_body(reader);
        }
    }
}

#[test]
fn librdkafkas_metadata_request_is_understood() {
    // Version 13 with client id "rdkafka", a null list of topics, and three bytes behind the end.
    let frame = b"\0\x03\0\x0d\0\0\0\x03\0\x07rdkafka\0\0\0\0\0\x01\0\0";
    let Ok(Opened::Request(header, reader)) = header::open_request(Bytes::from_static(frame)) else {
        panic!("no request that is served");
    };
    let Ok(Request::Metadata(request)) = header.decode_body(reader) else { panic!("no Metadata request") };
    assert_eq!(request.topics, None);
}

#[test]
fn malformed_headers_are_refused() {
    let header = |rest: &[u8]| {
        // Heartbeat 4, flexible, with a correlation id.
        let frame = [&[0, 12, 0, 4, 0, 0, 0, 1][..], rest].concat();
        match header::open_request(Bytes::from(frame)) {
            Ok(opened) => panic!("{opened:?}"),
            Err(OpenError::Malformed(error)) => error.fault,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(header(&[0xff, 0xfe]), Fault::NegativeLength);
    assert_eq!(header(&[0x7f, 0xff, b'a', b'b', b'c']), Fault::LengthBeyondFrame);
    assert_eq!(header(&[0, 1, 0xff, 0]), Fault::NotUtf8);
    assert_eq!(header(&[0, 0]), Fault::Truncated);
    // Twenty million tagged fields.
    assert_eq!(header(&[0, 0, 0x80, 0xda, 0xc4, 0x09, 0, 0]), Fault::LengthBeyondFrame);
    for length in 0..8 {
        assert!(header::open_request(Bytes::from(vec![0; length])).is_err());
    }
}

#[test]
fn frames_of_a_wrong_length_are_refused_before_anything_is_kept() {
    let limit_bytes = 100 << 20;
    let refused = |prefix: [u8; 4]| frame::body_length(prefix, limit_bytes).unwrap_err();
    assert_eq!(refused([0; 4]), FrameError::NotPositive { length: 0 });
    assert_eq!(refused([0xff; 4]), FrameError::NotPositive { length: -1 });
    assert_eq!(refused([0x7f, 0xff, 0xff, 0xff]), FrameError::TooLarge { length: i32::MAX, limit_bytes });
    assert_eq!(refused(*b"GET "), FrameError::OtherProtocol { protocol: "http" });
    assert_eq!(refused(*b"SSH-"), FrameError::OtherProtocol { protocol: "ssh" });
    assert_eq!(refused([0x16, 3, 1, 2]), FrameError::OtherProtocol { protocol: "tls" });
    assert_eq!(frame::body_length([0x06, 0x40, 0, 0], limit_bytes), Ok(limit_bytes));
    assert_eq!(frame::body_length([0x06, 0x40, 0, 1], limit_bytes).ok(), None);
}

#[test]
fn frames_come_off_as_they_become_whole() {
    let mut received = BytesMut::new();
    let mut frames = Vec::new();
    for byte in [0, 0, 0, 2, b'a', b'b', 0, 0, 0, 1, b'c', 0, 0, 0] {
        received.extend_from_slice(&[byte]);
        frames.extend(frame::split(&mut received, 10).unwrap());
    }
    assert_eq!(frames, ["ab", "c"]);
    assert_eq!(received.len(), 3);
    received.extend_from_slice(&[11]);
    assert_eq!(frame::split(&mut received, 10), Err(FrameError::TooLarge { length: 11, limit_bytes: 10 }));
}
