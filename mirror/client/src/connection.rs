//! One connection to one broker: requests go out in order and under way together, answers come back in order.
//!
//! A writer and a reader task share a table of what is under way. A request enters the table before its first byte is
//! written; what is in the table when the connection ends was perhaps sent, and what is still queued was not
//! (invariant A of the crate).
//!
//! A request that is overdue ends the connection whether or not anybody still waits for its answer: nothing behind it
//! can be answered before it.
//!
//! Owns: pipelining, correlation, the bound on what is under way, timeouts, the negotiation of versions.
//! Does not own: the socket (`connection/socket`), when to connect again, whom to ask.

mod socket;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use wire::header::{RequestHeader, open_response};
use wire::{ApiKey, Encoded, ErrorCode, Message, RequestMessage, Text};

use crate::error::{CallError, Disconnect, Nonsense};
use crate::limits;
use crate::transport::{Address, Connector, Stream};
use crate::versions::Versions;

/// What holds for every connection of a client.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// The client's name for itself.
    pub client_id: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long an answer may take, beyond what the request itself allows the broker to wait.
    pub request_timeout: Duration,
    /// Requests under way at the same time.
    pub in_flight_max: usize,
    /// The largest answer that is taken.
    pub response_bytes_max: usize,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            client_id: "longhaul".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            in_flight_max: limits::IN_FLIGHT_MAX,
            response_bytes_max: limits::RESPONSE_BYTES_MAX,
        }
    }
}

/// An open connection whose versions are known. Dropping it closes the socket.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Outgoing>,
    permits: Arc<Semaphore>,
    next_correlation_id: AtomicI32,
    client_id: Text,
    request_timeout: Duration,
    versions: Versions,
    tasks: [AbortHandle; 2],
}

/// Why an answer will not come.
#[derive(Clone, Debug)]
enum Lost {
    NotSent(Disconnect),
    Unanswered(Disconnect),
}

#[derive(Debug)]
struct Outgoing {
    frame: Encoded,
    waiting: Waiting,
}

/// A request under way.
#[derive(Debug)]
struct Waiting {
    correlation_id: i32,
    answer: oneshot::Sender<Result<Bytes, Lost>>,
    /// When the answer is overdue, and how long it was allowed to take.
    deadline: Instant,
    timeout: Duration,
    /// Given back when the answer is there, whether or not anybody still waits for it.
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Shared {
    broker: Arc<str>,
    table: Mutex<Table>,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Table {
    under_way: VecDeque<Waiting>,
    /// When the last answer came.
    heard_at: Option<Instant>,
    closed: Option<Disconnect>,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request whose first byte is about to be written; gives it back when the connection has ended.
    fn begin(&self, waiting: Waiting) -> Result<(), (Waiting, Disconnect)> {
        let mut table = self.table();
        match table.closed.clone() {
            Some(reason) => Err((waiting, reason)),
            None => {
                table.under_way.push_back(waiting);
                Ok(())
            }
        }
    }

    /// Hands an answer to whoever waits for it.
    fn answer(&self, frame: Bytes) -> Result<(), Disconnect> {
        let waiting = {
            let mut table = self.table();
            table.heard_at = Some(Instant::now());
            table.under_way.pop_front()
        };
        let received = wire::header::correlation_id(&frame).unwrap_or(-1);
        let expected = waiting.as_ref().map_or(-1, |waiting| waiting.correlation_id);
        match waiting {
            Some(waiting) if received == expected && frame.len() >= 4 => {
                // Whoever has stopped waiting does not want the answer.
                let _ = waiting.answer.send(Ok(frame));
                Ok(())
            }
            mismatched => {
                let reason = Disconnect::Correlation { received, expected };
                if let Some(waiting) = mismatched {
                    let _ = waiting.answer.send(Err(Lost::Unanswered(reason.clone())));
                }
                Err(reason)
            }
        }
    }

    /// Ends the connection; the first reason counts.
    fn close(&self, reason: Disconnect) {
        let (reason, lost) = {
            let mut table = self.table();
            let reason = table.closed.get_or_insert(reason).clone();
            (reason, std::mem::take(&mut table.under_way))
        };
        for waiting in lost {
            let _ = waiting.answer.send(Err(Lost::Unanswered(reason.clone())));
        }
        self.closed.send_replace(true);
    }

    fn closed_because(&self) -> Option<Disconnect> {
        self.table().closed.clone()
    }

    /// How long the request whose turn it is was allowed to take, when it has taken longer.
    fn overdue(&self) -> Option<Duration> {
        let table = self.table();
        let first = table.under_way.front()?;
        (first.deadline <= Instant::now()).then_some(first.timeout)
    }
}

impl Connection {
    /// Connects to `address` and learns what the broker speaks.
    ///
    /// # Errors
    /// [`CallError`], of the API `ApiVersions`.
    pub async fn open(
        connector: &dyn Connector,
        address: &Address,
        options: &ConnectionOptions,
    ) -> Result<Self, CallError> {
        let broker: Arc<str> = address.to_string().into();
        let not_sent =
            |reason| CallError::NotSent { api: ApiKey::ApiVersions, broker: Arc::clone(&broker), reason };
        let opened = tokio::time::timeout(options.connect_timeout, connector.connect(address)).await;
        let stream = match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(not_sent(Disconnect::Connect(error.to_string()))),
            Err(_) => return Err(not_sent(Disconnect::ConnectTimeout(options.connect_timeout))),
        };
        let mut connection = Self::start_on(stream, broker, options);
        connection.versions = connection.negotiate().await?;
        Ok(connection)
    }

    fn start_on(stream: Box<dyn Stream>, broker: Arc<str>, options: &ConnectionOptions) -> Self {
        let shared = Arc::new(Shared { broker, table: Mutex::default(), closed: watch::Sender::new(false) });
        let (queue, queued) = mpsc::channel(options.in_flight_max);
        let (source, sink) = tokio::io::split(stream);
        let writer = tokio::spawn(socket::write(queued, sink, Arc::clone(&shared)));
        let reader = tokio::spawn(socket::read(source, Arc::clone(&shared), options.response_bytes_max));
        Self {
            shared,
            queue,
            permits: Arc::new(Semaphore::new(options.in_flight_max)),
            next_correlation_id: AtomicI32::new(0),
            client_id: Text::from(&options.client_id),
            request_timeout: options.request_timeout,
            versions: Versions::default(),
            tasks: [writer.abort_handle(), reader.abort_handle()],
        }
    }

    /// Asks in version 3; a broker that does not know it says so in version 0 (KIP-511), and is asked again there.
    async fn negotiate(&self) -> Result<Versions, CallError> {
        let request = ApiVersionsRequest {
            client_software_name: Text::from("longhaul"),
            client_software_version: Text::from(env!("CARGO_PKG_VERSION")),
        };
        let frame = self.start(3, &request).await?.frame().await?;
        // The error code follows the correlation id in every version.
        let refused =
            frame.get(4..6).is_some_and(|code| code == ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
        let announced: ApiVersionsResponse = match refused {
            false => self.decode(ApiKey::ApiVersions, 3, frame)?,
            true => self.call(0, &request).await?,
        };
        Ok(Versions::new(&announced))
    }

    /// The highest version of `key` from `first` to `last` that both sides speak.
    ///
    /// # Errors
    /// [`CallError::Unsupported`].
    pub fn version(&self, key: ApiKey, first: i16, last: i16) -> Result<i16, CallError> {
        self.versions.pick(key, first, last).ok_or_else(|| CallError::Unsupported {
            api: key,
            broker: Arc::clone(&self.shared.broker),
            first,
            last,
        })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<M: RequestMessage>(&self, version: i16, request: &M) -> Result<M::Response, CallError> {
        let frame = self.start(version, request).await?.frame().await?;
        self.decode(M::KEY, version, frame)
    }

    /// As [`Connection::call`], for a request that lets the broker wait before it answers.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_waiting<M: RequestMessage>(
        &self,
        version: i16,
        request: &M,
        broker_may_wait: Duration,
    ) -> Result<M::Response, CallError> {
        let frame = self.start_waiting(version, request, broker_may_wait).await?.frame().await?;
        self.decode(M::KEY, version, frame)
    }

    /// Sends a request. Requests are sent in the order in which this returns; the answer may be awaited later.
    ///
    /// # Errors
    /// [`CallError::NotSent`] and [`CallError::Encode`].
    pub async fn start<M: RequestMessage>(
        &self,
        version: i16,
        request: &M,
    ) -> Result<Pending<M::Response>, CallError> {
        self.start_waiting(version, request, Duration::ZERO).await
    }

    async fn start_waiting<M: RequestMessage>(
        &self,
        version: i16,
        request: &M,
        broker_may_wait: Duration,
    ) -> Result<Pending<M::Response>, CallError> {
        let room_until = Instant::now() + self.request_timeout;
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let client_id = Some(self.client_id.clone());
        let header = RequestHeader { key: M::KEY, version, correlation_id, client_id };
        let broker = || Arc::clone(&self.shared.broker);
        let frame = header.frame(request).map_err(|error| CallError::Encode {
            api: M::KEY,
            broker: broker(),
            error,
        })?;
        let not_sent = |reason| CallError::NotSent { api: M::KEY, broker: broker(), reason };
        let permit = timeout_at(room_until, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| not_sent(Disconnect::Timeout(self.request_timeout)))?
            .expect("the semaphore is never closed");
        // The end of a connection makes room too.
        if let Some(reason) = self.shared.closed_because() {
            return Err(not_sent(reason));
        }
        let (answer, receiver) = oneshot::channel();
        let (deadline, timeout) = (room_until + broker_may_wait, self.request_timeout + broker_may_wait);
        let waiting = Waiting { correlation_id, answer, deadline, timeout, _permit: permit };
        // Permits bound the queue, so this does not wait.
        if self.queue.send(Outgoing { frame, waiting }).await.is_err() {
            return Err(not_sent(self.shared.closed_because().unwrap_or(Disconnect::Closed)));
        }
        Ok(Pending {
            shared: Arc::clone(&self.shared),
            receiver,
            key: M::KEY,
            version,
            deadline,
            timeout,
            response: PhantomData,
        })
    }

    fn decode<R: Message>(&self, key: ApiKey, version: i16, frame: Bytes) -> Result<R, CallError> {
        decode(&self.shared, key, version, frame)
    }

    /// Whether requests can still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.table().closed.is_none()
    }

    /// When the broker last answered anything on it.
    #[must_use]
    pub fn heard_at(&self) -> Option<Instant> {
        self.shared.table().heard_at
    }

    /// Ends it: whoever waits for an answer is told why there is none.
    pub(crate) fn close(&self, reason: Disconnect) {
        self.shared.close(reason);
    }

    /// The broker's address.
    #[must_use]
    pub fn broker(&self) -> &Arc<str> {
        &self.shared.broker
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close(Disconnect::Closed);
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A request that is queued or sent. Dropping it takes nothing back.
#[derive(Debug)]
pub struct Pending<R> {
    shared: Arc<Shared>,
    receiver: oneshot::Receiver<Result<Bytes, Lost>>,
    key: ApiKey,
    version: i16,
    deadline: Instant,
    timeout: Duration,
    response: PhantomData<fn() -> R>,
}

impl<R: Message> Pending<R> {
    /// Waits for the answer. The connection must be kept open until then.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn answer(self) -> Result<R, CallError> {
        let (shared, key, version) = (Arc::clone(&self.shared), self.key, self.version);
        let frame = self.frame().await?;
        decode(&shared, key, version, frame)
    }
}

impl<R> Pending<R> {
    async fn frame(mut self) -> Result<Bytes, CallError> {
        let answer = match timeout_at(self.deadline, &mut self.receiver).await {
            Ok(answer) => answer,
            Err(_) => {
                // Answers come in order: what this one holds up cannot come either.
                self.shared.close(Disconnect::Timeout(self.timeout));
                self.receiver.await
            }
        };
        let (api, broker) = (self.key, Arc::clone(&self.shared.broker));
        match answer {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(Lost::NotSent(reason))) => Err(CallError::NotSent { api, broker, reason }),
            Ok(Err(Lost::Unanswered(reason))) => Err(CallError::Unanswered { api, broker, reason }),
            // The connection was dropped with this under way; whether it was sent is not known.
            Err(_) => Err(CallError::Unanswered { api, broker, reason: Disconnect::Closed }),
        }
    }
}

fn decode<R: Message>(shared: &Shared, key: ApiKey, version: i16, frame: Bytes) -> Result<R, CallError> {
    let read = || {
        let (_, mut reader) = open_response(frame, key, version)?;
        let response = R::decode(&mut reader, version)?;
        reader.finish()?;
        Ok(response)
    };
    read().map_err(|error| CallError::Malformed {
        api: key,
        broker: Arc::clone(&shared.broker),
        fault: Nonsense::Decode(error),
    })
}
