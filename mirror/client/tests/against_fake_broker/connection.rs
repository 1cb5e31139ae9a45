//! One connection: what is sent, what is not, and what becomes of it when the broker misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::broker::{FakeBroker, Reply};
use client::connection::{Connection, ConnectionOptions};
use client::transport::PlainTcp;
use client::{CallError, Disconnect};
use wire::ApiKey;
use wire::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use wire::frame::FrameError;

fn options() -> ConnectionOptions {
    ConnectionOptions { request_timeout: Duration::from_millis(300), ..Default::default() }
}

async fn open(broker: &FakeBroker, options: &ConnectionOptions) -> Connection {
    Connection::open(&PlainTcp, &broker.address, options).await.unwrap()
}

fn heartbeat(generation_id: i32) -> HeartbeatRequest {
    HeartbeatRequest { generation_id, ..Default::default() }
}

/// What a heartbeat comes to when the broker replies so, and whether the connection is still open.
async fn after(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (CallError, bool) {
    let broker = FakeBroker::start(move |_, _| reply()).await;
    let connection = open(&broker, &options()).await;
    let error = connection.call(4, &heartbeat(0)).await.unwrap_err();
    (error, connection.is_open())
}

fn reason(error: &CallError) -> &Disconnect {
    match error {
        CallError::Unanswered { reason, .. } => reason,
        other => panic!("not an unanswered request: {other}"),
    }
}

#[tokio::test]
async fn nobody_there_means_not_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    drop(listener);
    let error = Connection::open(&PlainTcp, &address, &options()).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent { reason: Disconnect::Connect(_), .. }), "{error}");
    assert!(!error.may_have_been_done());
}

#[tokio::test]
async fn a_broker_that_hangs_up_leaves_the_request_unanswered() {
    let (error, open) = after(|| Reply::Close).await;
    assert!(error.may_have_been_done() && !open);
    assert!(matches!(reason(&error), Disconnect::ClosedByBroker | Disconnect::Io(_)), "{error}");
}

#[tokio::test]
async fn silence_ends_the_connection_after_the_timeout() {
    let (error, open) = after(|| Reply::Silence).await;
    assert_eq!((reason(&error), open), (&Disconnect::Timeout(Duration::from_millis(300)), false));
}

#[tokio::test]
async fn frames_that_make_no_sense_end_the_connection() {
    let (error, open) = after(|| Reply::Bytes(vec![0xff; 8])).await;
    assert_eq!((reason(&error), open), (&Disconnect::Frame(FrameError::NotPositive { length: -1 }), false));
    let (error, open) = after(|| Reply::Bytes(vec![0x7f, 0, 0, 0, 1])).await;
    let too_large =
        FrameError::TooLarge { length: 0x7f00_0000, limit_bytes: client::limits::RESPONSE_BYTES_MAX };
    assert_eq!((reason(&error), open), (&Disconnect::Frame(too_large), false));
    let (error, open) = after(|| Reply::Bytes(vec![0, 0, 0, 5, 0, 0, 0, 99, 0])).await;
    assert_eq!((reason(&error), open), (&Disconnect::Correlation { received: 99, expected: 1 }, false));
    let (error, open) = after(|| Reply::Bytes(vec![0, 0, 0, 2, 0, 0])).await;
    assert_eq!((reason(&error), open), (&Disconnect::Correlation { received: -1, expected: 1 }, false));
}

#[tokio::test]
async fn a_body_that_makes_no_sense_concerns_that_request_alone() {
    for body in [vec![], vec![0; 3], vec![0; 40]] {
        let (error, open) = after(move || Reply::Raw(body.clone())).await;
        assert!(matches!(error, CallError::Malformed { api: ApiKey::Heartbeat, .. }) && open, "{error}");
        assert!(error.may_have_been_done());
    }
}

#[tokio::test]
async fn what_is_queued_behind_a_dead_request_was_not_sent() {
    let broker = FakeBroker::start(|_, _| Reply::Silence).await;
    let connection = open(&broker, &ConnectionOptions { in_flight_max: 2, ..options() }).await;
    let first = connection.start(4, &heartbeat(0)).await.unwrap();
    let second = connection.start(4, &heartbeat(1)).await.unwrap();
    // The third waits for room in vain.
    let third = connection.start(4, &heartbeat(2)).await.unwrap_err();
    assert!(matches!(third, CallError::NotSent { reason: Disconnect::Timeout(_), .. }), "{third}");
    assert!(first.answer().await.unwrap_err().may_have_been_done());
    assert!(second.answer().await.unwrap_err().may_have_been_done());
    let after = connection.start(4, &heartbeat(3)).await;
    let after = match after {
        Ok(pending) => pending.answer().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(!after.may_have_been_done(), "{after}");
    assert_eq!(broker.seen().len(), 2);
}

#[tokio::test]
async fn requests_are_under_way_together_and_answered_in_order() {
    let broker = FakeBroker::start(|_, request| {
        let wire::Request::Heartbeat(request) = request else { panic!("{request:?}") };
        HeartbeatResponse { throttle_time_ms: request.generation_id, ..Default::default() }.into()
    })
    .await;
    let connection = open(&broker, &options()).await;
    for round in 0..50 {
        let mut pending = Vec::new();
        for place in 0..5 {
            pending.push(connection.start(4, &heartbeat(round * 5 + place)).await.unwrap());
        }
        for (place, pending) in (0..).zip(pending) {
            assert_eq!(pending.answer().await.unwrap().throttle_time_ms, round * 5 + place);
        }
    }
}

#[tokio::test]
async fn no_more_than_the_limit_is_under_way() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&under_way);
    let broker = FakeBroker::start(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::Silence
    })
    .await;
    let connection = Arc::new(open(&broker, &options()).await);
    let mut calls = tokio::task::JoinSet::new();
    for generation in 0..20 {
        let connection = Arc::clone(&connection);
        calls.spawn(async move { connection.call(4, &heartbeat(generation)).await });
    }
    while let Some(result) = calls.join_next().await {
        assert!(result.unwrap().is_err());
    }
    assert_eq!(under_way.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn an_abandoned_request_does_not_disturb_the_next() {
    let broker = FakeBroker::start(|_, request| {
        let wire::Request::Heartbeat(request) = request else { panic!("{request:?}") };
        HeartbeatResponse { throttle_time_ms: request.generation_id, ..Default::default() }.into()
    })
    .await;
    let connection = open(&broker, &options()).await;
    for generation in 0..20 {
        drop(connection.start(4, &heartbeat(1000)).await.unwrap());
        assert_eq!(connection.call(4, &heartbeat(generation)).await.unwrap().throttle_time_ms, generation);
    }
}

#[tokio::test]
async fn an_api_that_the_broker_lacks_is_named() {
    let broker = FakeBroker::start(|_, _| Reply::Close).await;
    let connection = open(&broker, &options()).await;
    let error = connection.version(ApiKey::Fetch, 19, 20).unwrap_err();
    assert!(matches!(error, CallError::Unsupported { api: ApiKey::Fetch, first: 19, last: 20, .. }));
    assert_eq!(connection.version(ApiKey::Fetch, 4, 18), Ok(18));
}
