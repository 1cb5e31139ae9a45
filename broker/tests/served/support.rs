//! A broker within the test, and a client that says exactly what the test wants said.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use broker::{BrokerOptions, ServeError, serve};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use topology::{Address, FlushMode};
use wire::api::RequestMessage;
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
use wire::codec::Text;
use wire::header::{RequestHeader, open_response};
use wire::{Message, Records};

/// A broker that runs in the test's own process.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<Result<(), ServeError>>>,
}

pub(crate) fn options(data: &Path, port: u16) -> BrokerOptions {
    BrokerOptions {
        data: data.to_owned(),
        listen: Address { host: "127.0.0.1".into(), port },
        advertise: None,
        cluster: "test".into(),
        flush: FlushMode::Os,
        journal: None,
        admin: None,
        store: None,
        dev: true,
        insecure_listen: false,
        accept_loss: false,
    }
}

impl Served {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, |_| {})
    }

    pub(crate) fn start_with(data: &Path, change: impl FnOnce(&mut BrokerOptions)) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut options = options(data, port);
        change(&mut options);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(serve(options, stopping))
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for _ in 0..600 {
            if TcpStream::connect(address).is_ok() {
                return Self { address, stop, thread: Some(thread) };
            }
            assert!(!thread.is_finished(), "the broker ended: {:?}", thread.join());
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the broker does not come up");
    }

    pub(crate) fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, correlation_id: 0 }
    }

    /// Stops in good order.
    pub(crate) fn stop(mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Sends raw bytes; whether the peer still takes them is seen later.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Another handle of the same connection, with a count of its own.
    pub(crate) fn twin(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap(), correlation_id: 0 }
    }

    /// Sends bytes behind their length.
    pub(crate) fn send_frame(&mut self, body: &[u8]) {
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        self.send(&frame);
    }

    /// The next frame; `None` when the peer closed.
    pub(crate) fn receive(&mut self) -> Option<Bytes> {
        let mut prefix = [0; 4];
        match self.stream.read_exact(&mut prefix) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) =>
            {
                return None;
            }
            Err(error) => panic!("neither an answer nor a close: {error}"),
        }
        let mut body = vec![0; i32::from_be_bytes(prefix) as usize];
        self.stream.read_exact(&mut body).unwrap();
        Some(Bytes::from(body))
    }

    pub(crate) fn header<M: RequestMessage>(&mut self, version: i16) -> RequestHeader {
        self.correlation_id += 1;
        let client_id = Some(Text::from("test"));
        RequestHeader { key: M::KEY, version, correlation_id: self.correlation_id, client_id }
    }

    pub(crate) fn post<M: RequestMessage>(&mut self, version: i16, request: &M) {
        let frame = self.header::<M>(version).frame(request).unwrap();
        self.send(&frame.to_bytes().unwrap());
    }

    pub(crate) fn take<M: RequestMessage>(&mut self, version: i16) -> M::Response {
        let frame = self.receive().expect("an answer, not a close");
        let (_, mut reader) = open_response(frame, M::KEY, version).unwrap();
        let response = M::Response::decode(&mut reader, version).unwrap();
        reader.finish().unwrap();
        response
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask<M: RequestMessage>(&mut self, version: i16, request: &M) -> M::Response {
        self.post(version, request);
        self.take::<M>(version)
    }
}

/// A batch of records of one kilobyte each or less.
pub(crate) fn batch(values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for value in values {
        builder.push(&NewRecord {
            timestamp_ms: now_ms(),
            key: Some(b"key"),
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    builder.build()
}

#[allow(clippy::disallowed_methods, reason = "the broker under test has the machine's clock")]
pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

pub(crate) fn records(bytes: Vec<u8>) -> Option<Records> {
    Some(Records::from(Bytes::from(bytes)))
}
