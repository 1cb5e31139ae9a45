//! Accepts connections, within limits, and ends those that have exhausted their patience.
//!
//! Owns: the listening socket, the table of connections, the budget for large requests.
//! Does not own: what a request does (`Service`).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Disconnect;
use super::session::{Peer, Service, Session};
use crate::limits::{
    DRAIN_TIMEOUT, LARGE_REQUESTS_BYTES, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, SWEEP_INTERVAL,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// After a failed accept (no file descriptors left, say) the next try waits this long.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Where to listen and when to stop.
#[derive(Clone, Debug)]
pub(crate) struct ListenerOptions {
    /// The address; port 0 takes any free one.
    pub(crate) address: SocketAddr,
    /// Cancelled to stop accepting and drain.
    pub(crate) stop: CancellationToken,
}

/// A bound listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: TcpListener,
    stop: CancellationToken,
}

#[derive(Default)]
struct Table {
    peers: HashMap<u64, Weak<Peer>>,
    per_address: HashMap<IpAddr, usize>,
    next: u64,
}

impl Listener {
    /// Binds the socket. Nothing is accepted until [`Listener::serve`].
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) fn bind(options: ListenerOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(options.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&options.address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { listener: TcpListener::from_std(socket.into())?, stop: options.stop })
    }

    /// The address bound.
    ///
    /// # Errors
    /// When the socket cannot say.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until stopped, then waits for what was begun.
    pub(crate) async fn serve<S: Service>(self, service: Arc<S>) {
        let tracker = TaskTracker::new();
        let table = Arc::new(Mutex::new(Table::default()));
        let large_requests = Arc::new(Semaphore::new(LARGE_REQUESTS_BYTES / 1024));
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = sweep.tick() => Self::sweep(&table, service.clock().monotonic_ms()),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, address)) => {
                        if let Err(error) = stream.set_nodelay(true) {
                            tracing::debug!(%error, "the connection was gone before it began");
                            continue;
                        }
                        let entry = Entry::admit(&table, address, service.clock().monotonic_ms());
                        match entry {
                            Some(entry) => {
                                let session = Session::new(
                                    Arc::clone(&service), stream, Arc::clone(&entry.peer), Arc::clone(&large_requests),
                                );
                                tracker.spawn(Self::drive(Arc::clone(&service), session, entry, self.stop.clone()));
                            }
                            None => refuse(stream, address),
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        tracker.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, tracker.wait()).await.is_err() {
            tracing::warn!(connections = tracker.len(), "connections did not finish in time and are cut");
        }
    }

    async fn drive<S: Service>(service: Arc<S>, session: Session<S>, entry: Entry, stop: CancellationToken) {
        service.connected(1, false);
        let ended = session.run(stop).await;
        service.connected(-1, ended.is_err());
        match ended {
            Ok(()) => tracing::debug!(peer = %entry.peer.address, "connection closed"),
            Err(Disconnect::Io(error)) => {
                tracing::debug!(peer = %entry.peer.address, %error, "connection lost")
            }
            Err(reason) => tracing::info!(peer = %entry.peer.address, %reason, "connection closed by us"),
        }
    }

    fn sweep(table: &Mutex<Table>, now_ms: i64) {
        let table = table.lock().unwrap_or_else(PoisonError::into_inner);
        for peer in table.peers.values().filter_map(Weak::upgrade) {
            peer.sweep(now_ms);
        }
    }
}

fn refuse(stream: TcpStream, address: SocketAddr) {
    tracing::info!(peer = %address, "connection refused: too many, in all or from this address");
    drop(stream);
}

/// A place in the table, given back when the connection ends.
struct Entry {
    table: Arc<Mutex<Table>>,
    number: u64,
    peer: Arc<Peer>,
}

impl Entry {
    fn admit(table: &Arc<Mutex<Table>>, address: SocketAddr, now_ms: i64) -> Option<Self> {
        let mut locked = table.lock().unwrap_or_else(PoisonError::into_inner);
        let from_address = locked.per_address.get(&address.ip()).copied().unwrap_or(0);
        if locked.peers.len() >= MAX_CONNECTIONS || from_address >= MAX_CONNECTIONS_PER_ADDRESS {
            return None;
        }
        let peer = Arc::new(Peer::new(address, now_ms));
        let number = locked.next;
        locked.next += 1;
        locked.peers.insert(number, Arc::downgrade(&peer));
        *locked.per_address.entry(address.ip()).or_default() += 1;
        Some(Self { table: Arc::clone(table), number, peer })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.peers.remove(&self.number);
        let ip = self.peer.address.ip();
        if let Some(count) = table.per_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                table.per_address.remove(&ip);
            }
        }
    }
}
