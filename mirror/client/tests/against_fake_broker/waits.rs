//! Who waits for whom: a caller that does not poll holds nobody up, a broker that hangs is waited for once, and what a
//! client is done with ends at once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use crate::broker::{FakeBroker, Reply, connect, layout, options};
use client::connection::{Connection, ConnectionOptions};
use client::offsets::Place;
use client::transport::PlainTcp;
use client::{BrokerId, CallError, Cluster, Disconnect, Isolation, Lane, RequestError, TopicPartition};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use wire::Request;
use wire::api::heartbeat::HeartbeatRequest;
use wire::api::metadata::MetadataResponse;

/// Far longer than anything here takes, and far shorter than for ever.
const SOON: Duration = Duration::from_secs(5);

/// A broker that leads `t` and answers nothing else.
async fn leads_only() -> FakeBroker {
    let [broker, _] = FakeBroker::start_two(|addresses, _, request| match request {
        Request::Metadata(_) => layout(addresses, 0, 1).into(),
        _ => Reply::Silence,
    })
    .await;
    broker
}

/// A broker that answers Metadata until it is told to hang.
async fn may_hang() -> (FakeBroker, Arc<AtomicBool>) {
    let hangs = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&hangs);
    let [broker, _] = FakeBroker::start_two(move |addresses, _, request| match request {
        Request::Metadata(_) if !told.load(Ordering::SeqCst) => layout(addresses, 0, 1).into(),
        _ => Reply::Silence,
    })
    .await;
    (broker, hangs)
}

#[tokio::test]
async fn a_refresh_that_nobody_polls_holds_up_no_other() {
    let cluster = connect(&leads_only().await).await;
    let mut begun = pin!(cluster.refresh(&[]));
    assert!(poll_fn(|context| Poll::Ready(begun.as_mut().poll(context))).await.is_pending());
    timeout(SOON, cluster.refresh_all()).await.expect("its turn comes").unwrap();
    let unknown = TopicPartition::new("unknown", 0);
    let leader = timeout(SOON, cluster.leader(&unknown)).await.expect("its turn comes");
    assert_eq!(leader, Err(RequestError::UnknownPartition(unknown)));
    begun.await.unwrap();
}

#[tokio::test]
async fn a_connection_whose_opener_does_not_poll_is_opened_all_the_same() {
    let cluster = connect(&leads_only().await).await;
    let mut begun = pin!(cluster.connection(BrokerId(0), Lane::Fetch));
    assert!(poll_fn(|context| Poll::Ready(begun.as_mut().poll(context))).await.is_pending());
    let second = timeout(SOON, cluster.connection(BrokerId(0), Lane::Fetch)).await;
    let second = second.expect("its turn comes").unwrap();
    assert!(Arc::ptr_eq(&second, &begun.await.unwrap()));
}

#[tokio::test]
async fn many_wait_for_a_broker_that_hangs_no_longer_than_one() {
    let (broker, hangs) = may_hang().await;
    let cluster = connect(&broker).await;
    hangs.store(true, Ordering::SeqCst);
    let ask = |count: usize| {
        let mut asking = JoinSet::new();
        for _ in 0..count {
            let cluster = cluster.clone();
            asking.spawn(async move { cluster.refresh(&[]).await });
        }
        async move {
            let began = Instant::now();
            for answer in asking.join_all().await {
                assert!(matches!(answer, Err(RequestError::Unreachable(_))), "{answer:?}");
            }
            began.elapsed()
        }
    };
    let one = ask(1).await;
    let twenty = ask(20).await;
    assert!(twenty < one * 4, "{twenty:?} where one alone takes {one:?}");
    // It is no verdict for good.
    hangs.store(false, Ordering::SeqCst);
    cluster.refresh(&[]).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_hangs_ends_though_nobody_waits_for_it() {
    let broker = leads_only().await;
    let options = ConnectionOptions { request_timeout: Duration::from_millis(300), ..Default::default() };
    let connection = Connection::open(&PlainTcp, &broker.address, &options).await.unwrap();
    // Abandoned, as by a time-out of the caller's own; they hold all the room that the connection has.
    for _ in 0..options.in_flight_max {
        drop(connection.start(4, &HeartbeatRequest::default()).await.unwrap());
    }
    let ended = timeout(SOON, async {
        while connection.is_open() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    ended.await.expect("the connection ends");
}

#[tokio::test]
async fn what_is_asked_of_a_closed_cluster_ends_at_once() {
    let broker = leads_only().await;
    let mut options = options(&broker);
    options.connection.request_timeout = Duration::from_secs(60);
    options.retry_for = Duration::from_secs(60);
    let cluster = Cluster::connect(options).await.unwrap();
    let is_finished = |error: &RequestError| {
        let reason = match error {
            RequestError::Call(CallError::Unanswered { reason, .. } | CallError::NotSent { reason, .. }) => {
                reason
            }
            other => panic!("{other}"),
        };
        *reason == Disconnect::Finished && !error.retriable()
    };
    let asking = cluster.clone();
    let asked = tokio::spawn(async move {
        asking.list_offsets(&[(TopicPartition::new("t", 0), Place::Latest)], Isolation::ReadUncommitted).await
    });
    while !broker.seen().iter().any(|request| matches!(request, Request::ListOffsets(_))) {
        sleep(Duration::from_millis(5)).await;
    }
    cluster.close().await;
    let error = timeout(SOON, asked).await.expect("it ends").unwrap().unwrap_err();
    assert!(is_finished(&error), "{error}");
    let later = timeout(SOON, cluster.describe_producers(&TopicPartition::new("t", 0))).await;
    let error = later.expect("it ends").unwrap_err();
    assert!(is_finished(&error), "{error}");
}

#[tokio::test]
async fn a_cluster_is_heard_when_it_answers_and_not_while_it_hangs() {
    let hangs = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&hangs);
    let broker = FakeBroker::start(move |_, _| match told.load(Ordering::SeqCst) {
        false => MetadataResponse::default().into(),
        true => Reply::Silence,
    })
    .await;
    let cluster = connect(&broker).await;
    let first = cluster.heard_at().expect("it has answered");
    cluster.refresh(&[]).await.unwrap();
    let second = cluster.heard_at().unwrap();
    assert!(second > first);
    hangs.store(true, Ordering::SeqCst);
    let asked = cluster.clone();
    let asked = tokio::spawn(async move { asked.refresh(&[]).await });
    sleep(Duration::from_millis(150)).await;
    assert_eq!(cluster.heard_at(), Some(second));
    asked.await.unwrap().unwrap_err();
    // The connection is gone, and what was heard on it counts all the same.
    hangs.store(false, Ordering::SeqCst);
    assert!(cluster.heard_at() >= Some(second));
    cluster.refresh(&[]).await.unwrap();
    assert!(cluster.heard_at() > Some(second));
}
