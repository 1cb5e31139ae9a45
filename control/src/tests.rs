//! One listener, asked in every way it serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::v1::{BrokerStatus, StatusReply};
use crate::{Kind, Metric, Sample, Subject, ask_drain, ask_flush_log, ask_status, serve};

#[derive(Default)]
struct Process {
    draining: AtomicBool,
    flushes: AtomicUsize,
}

impl Subject for Process {
    fn status(&self) -> StatusReply {
        let broker = BrokerStatus { cluster: "west".into(), ..BrokerStatus::default() };
        StatusReply { version: "0.1.0".into(), started_at_ms: 7, broker: Some(broker), flows: Vec::new() }
    }

    fn metrics(&self) -> Vec<Metric> {
        let labelled = Sample { labels: vec![("topic", "a\"b\\c\n".into())], value: 1.5 };
        vec![
            Metric::plain("longhaul_broker_produced_bytes", "Bytes taken in.", Kind::Counter, 12.0),
            Metric { name: "longhaul_lag", help: "Lag.", kind: Kind::Gauge, samples: vec![labelled] },
        ]
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::SeqCst) { Err("draining".into()) } else { Ok(()) }
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    fn flush_log(&self) -> Result<(), String> {
        self.ready()?;
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

async fn get(address: &str, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\n")).await
}

async fn ask(address: &str, head: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("{head}Host: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn one_port_serves_grpc_metrics_and_health() {
    let stop = CancellationToken::new();
    let bound = serve("127.0.0.1:0", Arc::new(Process::default()), stop.clone()).await.unwrap();
    let address = bound.to_string();

    assert_eq!(ask_status(&address).await.unwrap().broker.unwrap().cluster, "west");
    let page = get(&address, "/metrics").await;
    assert!(page.contains("longhaul_broker_produced_bytes_total 12.0\n"), "{page}");
    assert!(page.contains("longhaul_lag{topic=\"a\\\"b\\\\c\\n\"} 1.5\n"), "{page}");
    assert!(get(&address, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/readyz").await.starts_with("HTTP/1.1 200"));

    ask_drain(&address).await.unwrap();
    let answer = get(&address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("draining\n"), "{answer}");
    stop.cancel();
}

#[tokio::test]
async fn a_log_is_flushed_once_for_each_who_asks_or_the_reason_is_told() {
    let (stop, process) = (CancellationToken::new(), Arc::new(Process::default()));
    let bound = serve("127.0.0.1:0", process.clone(), stop.clone()).await.unwrap();
    let address = bound.to_string();
    let (first, second) = tokio::join!(ask_flush_log(&address), ask_flush_log(&address));
    first.and(second).unwrap();
    assert_eq!(process.flushes.load(Ordering::SeqCst), 2);

    ask_drain(&address).await.unwrap();
    let error = ask_flush_log(&address).await.unwrap_err().to_string();
    assert!(error.contains(&address) && error.ends_with("has not flushed its log: draining"), "{error}");
    assert_eq!(process.flushes.load(Ordering::SeqCst), 2);
    stop.cancel();
}

#[tokio::test]
async fn a_page_that_is_not_there_is_no_good_answer() {
    let stop = CancellationToken::new();
    let bound = serve("127.0.0.1:0", Arc::new(Process::default()), stop.clone()).await.unwrap();
    let address = bound.to_string();
    for path in ["/health", "/ready", "/", "/metrics/", "/longhaul.control.v1.Controls/Status"] {
        let answer = get(&address, path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        for known in ["/metrics", "/healthz", "/readyz"] {
            assert!(answer.contains(known), "{path}: {answer}");
        }
    }
    // Whoever speaks gRPC is told in its own terms, and so with HTTP's 200 (code 12 is UNIMPLEMENTED).
    let grpc =
        "POST /longhaul.control.v1.Controls/Status HTTP/1.1\r\nContent-Type: application/grpc+proto\r\n";
    let answer = ask(&address, grpc).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("grpc-status: 12\r\n"), "{answer}");
    stop.cancel();
}

#[tokio::test]
async fn a_taken_address_and_a_silent_one_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = serve(&address, Arc::new(Process::default()), CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains(&address) && error.to_string().contains("--admin"), "{error}");
    drop(taken);
    let error = ask_status(&address).await.unwrap_err();
    assert!(error.to_string().contains(&format!("nothing answers at admin address {address}")), "{error}");
    assert!(error.to_string().contains("refused"), "the system's own word is in it: {error}");
}
