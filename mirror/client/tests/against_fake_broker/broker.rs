//! A broker of a few lines, made with the same codec: it answers what a test tells it to, or misbehaves.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use client::transport::Address;
use client::{Cluster, ClusterOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wire::api::api_versions::ApiVersionsResponse;
use wire::api::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use wire::header::{self, Opened, RequestHeader};
use wire::{Request, Response, Text, TopicId, frame};

/// What the broker does about a request.
pub(crate) enum Reply {
    /// Answers it.
    With(Response),
    /// Answers with these bytes instead of a body.
    Raw(Vec<u8>),
    /// Sends these bytes instead of a frame.
    Bytes(Vec<u8>),
    /// Does not answer it, nor anything else on the connection.
    Silence,
    /// Hangs up.
    Close,
}

impl<R: Into<Response>> From<R> for Reply {
    fn from(response: R) -> Self {
        Self::With(response.into())
    }
}

type Handler = Arc<dyn Fn(&RequestHeader, &Request) -> Reply + Send + Sync>;

/// A broker on a port of its own.
pub(crate) struct FakeBroker {
    pub(crate) address: Address,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl FakeBroker {
    /// Starts a broker that answers ApiVersions as Kafka does, and everything else by `handler`.
    pub(crate) async fn start(
        handler: impl Fn(&RequestHeader, &Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, Arc::new(handler))
    }

    /// Starts two brokers that know each other's addresses.
    pub(crate) async fn start_two(
        handler: impl Fn(&[Address; 2], usize, &Request) -> Reply + Clone + Send + Sync + 'static,
    ) -> [Self; 2] {
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let addresses = [address(&listeners[0]), address(&listeners[1])];
        let mut index = 0;
        listeners.map(|listener| {
            let (handler, addresses, me) = (handler.clone(), addresses.clone(), index);
            index += 1;
            Self::on(listener, Arc::new(move |_, request| handler(&addresses, me, request)))
        })
    }

    fn on(listener: TcpListener, handler: Handler) -> Self {
        let broker = Self { address: address(&listener), seen: Arc::default() };
        let seen = Arc::clone(&broker.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&handler), Arc::clone(&seen)));
            }
        });
        broker
    }

    /// The requests that came, but for ApiVersions.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn address(listener: &TcpListener) -> Address {
    let address = listener.local_addr().unwrap();
    Address { host: address.ip().to_string(), port: address.port() }
}

async fn serve(mut stream: TcpStream, handler: Handler, seen: Arc<Mutex<Vec<Request>>>) {
    let mut received = BytesMut::new();
    loop {
        let Ok(frame) = frame::split(&mut received, 1 << 20) else { return };
        let Some(frame) = frame else {
            match stream.read_buf(&mut received).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let Ok(Opened::Request(header, reader)) = header::open_request(frame) else { return };
        let request = header.decode_body(reader).unwrap();
        let answer = match &request {
            Request::ApiVersions(_) => Reply::from(ApiVersionsResponse {
                api_keys: header::advertised_versions(),
                ..Default::default()
            }),
            _ => {
                seen.lock().unwrap().push(request.clone());
                handler(&header, &request)
            }
        };
        let bytes = match answer {
            Reply::With(response) => {
                let mut writer = header::response_writer(header.key, header.version, header.correlation_id);
                response.encode(&mut writer, header.version).unwrap();
                writer.finish().unwrap().to_bytes().unwrap()
            }
            Reply::Raw(body) => {
                let mut writer = header::response_writer(header.key, header.version, header.correlation_id);
                writer.raw(&body);
                writer.finish().unwrap().to_bytes().unwrap()
            }
            Reply::Bytes(bytes) => Bytes::from(bytes),
            Reply::Silence => continue,
            Reply::Close => return,
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The layout of a cluster whose topic `t` has one partition, led by the broker of that index.
pub(crate) fn layout(addresses: &[Address], leader: usize, leader_epoch: i32) -> MetadataResponse {
    let brokers = (0..).zip(addresses).map(|(node_id, address)| MetadataResponseBroker {
        node_id,
        host: Text::from(&address.host),
        port: i32::from(address.port),
        rack: None,
    });
    let partition = MetadataResponsePartition {
        leader_id: leader as i32,
        leader_epoch,
        replica_nodes: vec![0],
        isr_nodes: vec![0],
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some(Text::from("t")),
        topic_id: TopicId([7; 16]),
        partitions: vec![partition],
        ..Default::default()
    };
    MetadataResponse {
        brokers: brokers.collect(),
        topics: vec![topic],
        controller_id: 0,
        ..Default::default()
    }
}

/// A client of the broker that loses no time.
pub(crate) fn options(broker: &FakeBroker) -> ClusterOptions {
    let mut options = ClusterOptions::new(vec![broker.address.clone()]);
    options.connection.request_timeout = std::time::Duration::from_millis(300);
    options.backoff.initial = std::time::Duration::from_millis(5);
    options.retry_for = std::time::Duration::from_secs(5);
    options
}

/// A cluster handle on the broker.
pub(crate) async fn connect(broker: &FakeBroker) -> Cluster {
    Cluster::connect(options(broker)).await.unwrap()
}
