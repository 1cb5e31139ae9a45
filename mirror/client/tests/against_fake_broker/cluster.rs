//! Routing: leaders that move, brokers that lie, answers that miss what was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::broker::{FakeBroker, Reply, connect, layout, options};
use bytes::Bytes;
use client::fetch::{FetchFrom, FetchRound};
use client::offsets::Place;
use client::produce::{Outcome, ProduceBatch, ProduceError};
use client::{BrokerId, CallError, Cluster, Isolation, Lane, RequestError, TopicPartition};
use wire::api::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use wire::api::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse};
use wire::api::metadata::MetadataResponse;
use wire::api::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use wire::{ErrorCode, LeaderEpoch, Offset, Request, Text, TopicId};

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn batch() -> Vec<ProduceBatch> {
    let pieces = vec![Bytes::from_static(b"not looked into "), Bytes::from_static(b"here")];
    vec![ProduceBatch { partition: partition(), topic_id: TopicId([7; 16]), pieces }]
}

/// A broker that leads `t` and answers Produce so.
async fn produce_answered_by(
    reply: impl Fn() -> Reply + Send + Sync + 'static,
) -> Result<Outcome, ProduceError> {
    let [broker, _] = FakeBroker::start_two({
        let reply = Arc::new(reply);
        move |addresses, _, request| match request {
            Request::Metadata(_) => layout(addresses, 0, 1).into(),
            _ => reply(),
        }
    })
    .await;
    let cluster = connect(&broker).await;
    let leader = cluster.leader(&partition()).await.unwrap();
    let produced = cluster.produce(leader.broker, batch(), Duration::from_secs(1)).await;
    produced.map(|mut produced| produced.remove(0).outcome)
}

fn produce_response(index: i32, error_code: ErrorCode) -> ProduceResponse {
    let answer = PartitionProduceResponse { index, error_code, base_offset: 40, ..Default::default() };
    let topic = TopicProduceResponse {
        topic_id: TopicId([7; 16]),
        partition_responses: vec![answer],
        ..Default::default()
    };
    ProduceResponse { responses: vec![topic], ..Default::default() }
}

#[tokio::test]
async fn what_became_of_a_batch_is_told_apart() {
    let outcome = produce_answered_by(|| produce_response(0, ErrorCode::NONE).into()).await;
    assert!(matches!(outcome, Ok(Outcome::Acknowledged { base_offset: Offset(40), .. })), "{outcome:?}");
    let outcome = produce_answered_by(|| produce_response(0, ErrorCode::MESSAGE_TOO_LARGE).into()).await;
    assert!(matches!(outcome, Ok(Outcome::Refused(_))), "{outcome:?}");
    let outcome = produce_answered_by(|| produce_response(0, ErrorCode::REQUEST_TIMED_OUT).into()).await;
    assert!(matches!(outcome, Ok(Outcome::Ambiguous(_))), "{outcome:?}");
    for reply in [|| Reply::Close, || Reply::Silence, || Reply::Raw(vec![1; 9])] {
        let outcome = produce_answered_by(reply).await;
        assert!(matches!(outcome, Err(ProduceError::Ambiguous(_))), "{outcome:?}");
    }
    let outcome = produce_answered_by(|| produce_response(9, ErrorCode::NONE).into()).await;
    assert!(matches!(outcome, Err(ProduceError::Ambiguous(CallError::Malformed { .. }))), "{outcome:?}");
}

#[tokio::test]
async fn the_pieces_of_a_batch_arrive_as_one() {
    let broker = FakeBroker::start(|_, request| match request {
        Request::Metadata(_) => MetadataResponse::default().into(),
        _ => Reply::Close,
    })
    .await;
    let cluster = connect(&broker).await;
    let error = cluster.produce(BrokerId(0), batch(), Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, ProduceError::NotSent(CallError::UnknownBroker { .. })), "{error}");

    let [broker, _] = FakeBroker::start_two(|addresses, _, request| match request {
        Request::Metadata(_) => layout(addresses, 0, 1).into(),
        _ => produce_response(0, ErrorCode::NONE).into(),
    })
    .await;
    let cluster = connect(&broker).await;
    cluster.produce(BrokerId(0), batch(), Duration::from_secs(1)).await.unwrap();
    let seen = broker.seen();
    let Some(Request::Produce(request)) = seen.last() else { panic!("{seen:?}") };
    let records = request.topic_data[0].partition_data[0].records.as_ref().unwrap();
    assert_eq!(records.as_bytes().unwrap(), &b"not looked into here"[..]);
    assert_eq!((request.acks, request.topic_data[0].topic_id), (-1, TopicId([7; 16])));
}

fn offsets_response(code: ErrorCode) -> ListOffsetsResponse {
    let answer = ListOffsetsPartitionResponse { error_code: code, offset: 12, ..Default::default() };
    let topic = ListOffsetsTopicResponse { name: Text::from("t"), partitions: vec![answer] };
    ListOffsetsResponse { topics: vec![topic], ..Default::default() }
}

#[tokio::test]
async fn a_leader_that_has_moved_is_found() {
    let [broker, other] = FakeBroker::start_two(|addresses, me, request| match (me, request) {
        // The first answer lags behind.
        (0, Request::Metadata(request)) if request.topics.as_ref().is_some_and(Vec::is_empty) => {
            layout(addresses, 0, 1).into()
        }
        (_, Request::Metadata(_)) => {
            static ASKED: AtomicUsize = AtomicUsize::new(0);
            let moved = ASKED.fetch_add(1, Ordering::SeqCst) > 0;
            layout(addresses, usize::from(moved), 1 + i32::from(moved)).into()
        }
        (0, _) => offsets_response(ErrorCode::NOT_LEADER_OR_FOLLOWER).into(),
        (_, _) => offsets_response(ErrorCode::NONE).into(),
    })
    .await;
    let cluster = connect(&broker).await;
    let found =
        cluster.list_offsets(&[(partition(), Place::Latest)], Isolation::ReadUncommitted).await.unwrap();
    assert_eq!(found[0].offset, Some(Offset(12)));
    assert!(other.seen().iter().any(|request| matches!(request, Request::ListOffsets(_))));
    assert_eq!(cluster.layout().leader(&partition()).unwrap().epoch, LeaderEpoch(2));
}

/// A cluster that was restored from an older copy has older leader epochs than the layout, which never goes back.
#[tokio::test]
async fn a_leader_behind_the_layout_is_asked_without_an_epoch() {
    let [broker, _] = FakeBroker::start_two(|addresses, _, request| match request {
        Request::Metadata(_) => layout(addresses, 0, 7).into(),
        Request::ListOffsets(request) => match request.topics[0].partitions[0].current_leader_epoch {
            -1 => offsets_response(ErrorCode::NONE).into(),
            _ => offsets_response(ErrorCode::UNKNOWN_LEADER_EPOCH).into(),
        },
        _ => Reply::Close,
    })
    .await;
    let cluster = connect(&broker).await;
    let found =
        cluster.list_offsets(&[(partition(), Place::Latest)], Isolation::ReadUncommitted).await.unwrap();
    assert_eq!(found[0].offset, Some(Offset(12)));
    let claims: Vec<i32> = broker
        .seen()
        .iter()
        .filter_map(|request| match request {
            Request::ListOffsets(request) => Some(request.topics[0].partitions[0].current_leader_epoch),
            _ => None,
        })
        .collect();
    assert_eq!(claims, [7, -1], "named first, so that a leader that is ahead refuses");
}

#[tokio::test]
async fn topics_that_do_not_exist_are_named() {
    let broker = FakeBroker::start(|_, _| MetadataResponse::default().into()).await;
    let cluster = connect(&broker).await;
    let error = cluster.leader(&TopicPartition::new("gone", 3)).await.unwrap_err();
    assert_eq!(error, RequestError::UnknownPartition(TopicPartition::new("gone", 3)));
    assert_eq!(error.to_string(), "gone/3 does not exist");
}

#[tokio::test]
async fn a_connection_that_broke_is_opened_again() {
    let broken = Arc::new(AtomicBool::new(false));
    let broker = FakeBroker::start(move |_, _| match broken.fetch_xor(true, Ordering::SeqCst) {
        true => Reply::Close,
        false => MetadataResponse::default().into(),
    })
    .await;
    let cluster = connect(&broker).await;
    let error = cluster.refresh(&[]).await.unwrap_err();
    assert!(matches!(error, RequestError::Unreachable(_)), "{error}");
    cluster.refresh(&[]).await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_an_error_that_says_whom_it_asked() {
    let broker = FakeBroker::start(|_, _| Reply::Close).await;
    let error = Cluster::connect(options(&broker)).await.unwrap_err().to_string();
    assert!(error.contains(&broker.address.to_string()), "{error}");
}

fn round(offset: i64) -> FetchRound {
    FetchRound {
        partitions: vec![FetchFrom {
            partition: partition(),
            topic_id: TopicId([7; 16]),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(1),
            last_fetched_epoch: LeaderEpoch(-1),
            max_bytes: 1 << 20,
        }],
        max_wait: Duration::from_millis(10),
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadCommitted,
        lane: Lane::Fetch,
    }
}

#[tokio::test]
async fn fetched_partitions_are_those_asked_for_or_it_is_an_error() {
    let [broker, _] = FakeBroker::start_two(|addresses, _, request| match request {
        Request::Metadata(_) => layout(addresses, 0, 1).into(),
        Request::Fetch(request) => {
            let asked = &request.topics[0];
            let mut data = PartitionData {
                partition_index: 0,
                high_watermark: 9,
                records: Some(Bytes::from_static(b"whole batches").into()),
                ..Default::default()
            };
            if asked.partitions[0].fetch_offset == 77 {
                data.partition_index = 5;
            }
            let topic = FetchableTopicResponse {
                topic_id: asked.topic_id,
                partitions: vec![data],
                ..Default::default()
            };
            FetchResponse { responses: vec![topic], ..Default::default() }.into()
        }
        _ => Reply::Close,
    })
    .await;
    let cluster = connect(&broker).await;
    let fetched = cluster.fetch(BrokerId(0), &round(3)).await.unwrap();
    assert_eq!((fetched[0].high_watermark, &fetched[0].records[..]), (Offset(9), &b"whole batches"[..]));
    let error = cluster.fetch(BrokerId(0), &round(77)).await.unwrap_err();
    assert!(matches!(error, RequestError::Call(CallError::Malformed { .. })), "{error}");
}
