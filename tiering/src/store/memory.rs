//! A store in memory, for tests: exact, and open to be looked at and damaged.
//!
//! Owns: the objects, and outcomes as a well-behaved store gives them.
//! Does not own: failures, delays and lies (`faulty`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};

use super::{ByteStream, ListPage, Listed, PartUpload, Payload, PutOutcome, Store, StoreError, StoreKey};

type Objects = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// Pieces of a streamed range: small and odd, so that blocks cross their borders.
const PIECE_BYTES: usize = 40_009;

#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryStore {
    objects: Objects,
}

impl MemoryStore {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<String, Bytes>) -> T) -> T {
        look(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.with(|objects| objects.keys().cloned().collect())
    }

    fn find(&self, key: &StoreKey) -> Result<Bytes, StoreError> {
        let found = self.with(|objects| objects.get(key.as_str()).cloned());
        found.ok_or_else(|| StoreError::NotFound { key: key.to_string() })
    }
}

fn joined(body: &Payload) -> Bytes {
    body.iter()
        .fold(BytesMut::new(), |mut whole, piece| {
            whole.extend_from_slice(piece);
            whole
        })
        .freeze()
}

impl Store for MemoryStore {
    fn put_if_absent<'a>(&'a self, key: &'a StoreKey, body: Payload) -> BoxFuture<'a, PutOutcome> {
        let outcome = self.with(|objects| {
            if objects.contains_key(key.as_str()) {
                return PutOutcome::Exists;
            }
            objects.insert(key.to_string(), joined(&body));
            PutOutcome::Created
        });
        futures::future::ready(outcome).boxed()
    }

    fn start_parts<'a>(
        &'a self,
        key: &'a StoreKey,
    ) -> BoxFuture<'a, Result<Box<dyn PartUpload>, StoreError>> {
        let upload =
            MemoryUpload { store: self.clone(), key: key.to_string(), parts: Arc::default(), next: 0 };
        futures::future::ready(Ok(Box::new(upload) as Box<dyn PartUpload>)).boxed()
    }

    fn get<'a>(&'a self, key: &'a StoreKey, limit_bytes: usize) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        let found = self.find(key).and_then(|bytes| match bytes.len() > limit_bytes {
            false => Ok(bytes),
            true => Err(StoreError::TooLarge {
                key: key.to_string(),
                size_bytes: bytes.len() as u64,
                limit_bytes: limit_bytes as u64,
            }),
        });
        futures::future::ready(found).boxed()
    }

    fn get_range<'a>(
        &'a self,
        key: &'a StoreKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<ByteStream, StoreError>> {
        let body = self.find(key).map(|bytes| {
            let end = (range.end as usize).min(bytes.len());
            let body = bytes.slice((range.start as usize).min(end)..end);
            let pieces: Vec<_> = (0..body.len())
                .step_by(PIECE_BYTES)
                .map(|at| Ok(body.slice(at..(at + PIECE_BYTES).min(body.len()))))
                .collect();
            stream::iter(pieces).boxed()
        });
        futures::future::ready(body).boxed()
    }

    fn head<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<u64, StoreError>> {
        futures::future::ready(self.find(key).map(|bytes| bytes.len() as u64)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<(), StoreError>> {
        self.with(|objects| objects.remove(key.as_str()));
        futures::future::ready(Ok(())).boxed()
    }

    fn list<'a>(&'a self, page: ListPage<'a>) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let prefix = if page.folder.is_empty() { String::new() } else { format!("{}/", page.folder) };
        let entries = self.with(|objects| {
            objects
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix))
                .filter(|(key, _)| page.start_after.is_none_or(|after| key.as_str() > after))
                .take(page.limit)
                .map(|(key, body)| Listed { key: StoreKey::new(key.as_str()), size_bytes: body.len() as u64 })
                .collect()
        });
        futures::future::ready(Ok(entries)).boxed()
    }
}

struct MemoryUpload {
    store: MemoryStore,
    key: String,
    parts: Arc<Mutex<BTreeMap<u32, Bytes>>>,
    next: u32,
}

impl PartUpload for MemoryUpload {
    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<(), StoreError>> {
        let (parts, number) = (self.parts.clone(), self.next);
        self.next += 1;
        async move {
            parts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, joined(&part));
            Ok(())
        }
        .boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        let parts: Payload =
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        self.store.with(|objects| objects.insert(self.key.clone(), joined(&parts)));
        futures::future::ready(Ok(())).boxed()
    }

    fn abort(&mut self) -> BoxFuture<'_, ()> {
        futures::future::ready(()).boxed()
    }
}
