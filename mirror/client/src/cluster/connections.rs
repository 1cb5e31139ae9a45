//! The connections of a cluster, one for each broker and lane.
//!
//! Owns: opening them one attempt at a time, with growing waits; when the cluster was last heard; the end of them all.
//! Does not own: what goes over them (`connection`), whom to ask (`cluster`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use wire::ApiKey;

use super::{Cluster, Lane, in_own_task};
use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::error::{CallError, Disconnect};
use crate::layout::BrokerId;
use crate::limits;
use crate::transport::Address;

/// Whom a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    Bootstrap(usize),
    Broker(BrokerId),
}

type Slots = HashMap<(Peer, Lane), Arc<tokio::sync::Mutex<Slot>>>;

/// All connections of a cluster.
#[derive(Debug)]
pub(super) struct Connections {
    slots: Mutex<Slots>,
    /// When a connection that is gone was last heard.
    heard_at: Mutex<Option<Instant>>,
    finished: watch::Sender<bool>,
}

impl Connections {
    pub(super) fn new() -> Self {
        Self { slots: Mutex::default(), heard_at: Mutex::default(), finished: watch::Sender::new(false) }
    }
}

#[derive(Debug)]
struct Slot {
    connection: Option<(Address, Arc<Connection>)>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// When the last attempt to open it failed, and how.
    failed: Option<(Instant, CallError)>,
}

impl Slot {
    fn open_to(&self, address: &Address) -> Option<Arc<Connection>> {
        let (_, connection) =
            self.connection.as_ref().filter(|(of, connection)| of == address && connection.is_open())?;
        Some(Arc::clone(connection))
    }

    fn heard_at(&self) -> Option<Instant> {
        self.connection.as_ref()?.1.heard_at()
    }
}

impl Cluster {
    /// An open connection to a peer. When the last attempt failed, the next waits its turn.
    pub(super) async fn connect_peer(&self, peer: Peer, lane: Lane) -> Result<Arc<Connection>, CallError> {
        let address = self.address(peer)?;
        let slot = self.slot(peer, lane, &address)?;
        // Whoever holds it opens it: then there is something to wait for.
        let open = slot.try_lock().ok().and_then(|slot| slot.open_to(&address));
        if let Some(connection) = open {
            return Ok(connection);
        }
        let cluster = self.clone();
        in_own_task(async move { cluster.open_slot(&slot, address).await }).await
    }

    /// Opens a slot's connection, unless somebody has while this waited; only for tasks of their own.
    async fn open_slot(
        &self,
        slot: &tokio::sync::Mutex<Slot>,
        address: Address,
    ) -> Result<Arc<Connection>, CallError> {
        let asked_at = Instant::now();
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.open_to(&address) {
            return Ok(connection);
        }
        if let Some((failed_at, error)) = &slot.failed
            && *failed_at > asked_at
        {
            return Err(error.clone());
        }
        if let Some((_, closed)) = slot.connection.take() {
            self.note_heard(closed.heard_at());
        }
        match self.open(slot.retry_at.take(), &address).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                slot.connection = Some((address, Arc::clone(&connection)));
                slot.failed = None;
                slot.backoff.reset();
                Ok(connection)
            }
            Err(error) => {
                let now = Instant::now();
                slot.retry_at = Some(now + slot.backoff.next());
                slot.failed = Some((now, error.clone()));
                Err(error)
            }
        }
    }

    /// Opens a connection, at `at` if that is said, unless the cluster is closed first.
    async fn open(&self, at: Option<Instant>, address: &Address) -> Result<Connection, CallError> {
        let options = &self.inner.options;
        let opening = async {
            if let Some(at) = at {
                sleep_until(at).await;
            }
            Connection::open(&*options.connector, address, &options.connection).await
        };
        let mut finished = self.inner.connections.finished.subscribe();
        tokio::select! {
            biased;
            _ = finished.wait_for(|finished| *finished) => Err(CallError::NotSent {
                api: ApiKey::ApiVersions,
                broker: address.to_string().into(),
                reason: Disconnect::Finished,
            }),
            opened = opening => opened,
        }
    }

    fn note_heard(&self, at: Option<Instant>) -> Option<Instant> {
        let mut heard_at = self.inner.connections.heard_at.lock().unwrap_or_else(PoisonError::into_inner);
        *heard_at = (*heard_at).max(at);
        *heard_at
    }

    /// When a broker last answered anything.
    #[must_use]
    pub fn heard_at(&self) -> Option<Instant> {
        let slots = self.inner.connections.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // What is held is being opened: nothing is heard there yet.
        let heard = slots.values().filter_map(|slot| slot.try_lock().ok()?.heard_at());
        self.note_heard(heard.max())
    }

    /// Ends every connection and every wait for one, for all who share the handle: whoever still asks is told
    /// [`Disconnect::Finished`], now and later.
    pub async fn close(&self) {
        self.inner.connections.finished.send_replace(true);
        let slots =
            std::mem::take(&mut *self.inner.connections.slots.lock().unwrap_or_else(PoisonError::into_inner));
        for slot in slots.into_values() {
            // Who holds it sees the end too, and lets go.
            if let Some((_, connection)) = slot.lock().await.connection.take() {
                connection.close(Disconnect::Finished);
            }
        }
    }

    fn address(&self, peer: Peer) -> Result<Address, CallError> {
        match peer {
            Peer::Bootstrap(index) => Ok(self.inner.options.bootstrap[index].clone()),
            Peer::Broker(broker) => {
                let layout = self.layout();
                let known = layout.brokers.get(&broker).ok_or(CallError::UnknownBroker { broker })?;
                Ok(known.address.clone())
            }
        }
    }

    fn slot(
        &self,
        peer: Peer,
        lane: Lane,
        address: &Address,
    ) -> Result<Arc<tokio::sync::Mutex<Slot>>, CallError> {
        let mut slots = self.inner.connections.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= limits::CONNECTIONS_MAX && !slots.contains_key(&(peer, lane)) {
            // What nobody holds and is closed can go.
            slots.retain(|_, slot| match slot.try_lock() {
                Ok(slot) => slot.connection.as_ref().is_some_and(|(_, connection)| connection.is_open()),
                Err(_) => true,
            });
            if slots.len() >= limits::CONNECTIONS_MAX {
                return Err(CallError::NotSent {
                    api: ApiKey::ApiVersions,
                    broker: address.to_string().into(),
                    reason: Disconnect::TooMany(limits::CONNECTIONS_MAX),
                });
            }
        }
        let new = || {
            let backoff = Backoff::new(self.inner.options.backoff);
            Arc::new(tokio::sync::Mutex::new(Slot {
                connection: None,
                backoff,
                retry_at: None,
                failed: None,
            }))
        };
        Ok(Arc::clone(slots.entry((peer, lane)).or_insert_with(new)))
    }

    /// Closes the connections of a lane that its owner is done with.
    pub fn close_lane(&self, lane: Lane) {
        let mut slots = self.inner.connections.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|(_, of), _| *of != lane);
    }
}
