//! What a store allows: the rights by name, and which of them fail at the moment.
//!
//! Owns: a decorator that notes the outcome of every call. Does not own: the calls' errors and retries, who is told.
//! A call that its caller gave up after a while has failed too: the store did not answer it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{ByteStream, ListPage, Listed, PartUpload, Payload, PutOutcome, Store, StoreError, StoreKey};
use crate::seams::Seams;

/// A right that a broker needs on its store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Right {
    /// To read objects, and ask for their sizes.
    Read,
    /// To create objects, whole or in parts.
    Write,
    /// To list them.
    List,
    /// To delete them.
    Delete,
}

impl Right {
    /// All of them.
    pub const ALL: [Right; 4] = [Right::Read, Right::Write, Right::List, Right::Delete];

    /// Its name, in one word.
    pub fn name(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Write => "write",
            Right::List => "list",
            Right::Delete => "delete",
        }
    }

    /// What it is called where an operator grants it.
    fn action(self) -> &'static str {
        match self {
            Right::Read => "s3:GetObject",
            Right::Write => "s3:PutObject",
            Right::List => "s3:ListBucket",
            Right::Delete => "s3:DeleteObject",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.action())
    }
}

/// A right by which nothing has worked since it failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreFailure {
    /// The right.
    pub right: Right,
    /// When that began, milliseconds since 1970.
    pub since_ms: i64,
    /// What happened last.
    pub detail: String,
}

/// A call that is given up after so long was not answered; one that is given up sooner was not wanted any more.
const UNANSWERED: Duration = Duration::from_secs(20);

/// A call under way.
struct Call<'a> {
    store: &'a WatchedStore,
    right: Right,
    key: &'a str,
    started: Instant,
    is_answered: bool,
}

impl Call<'_> {
    fn answered(mut self, failure: Option<&StoreError>) {
        self.is_answered = true;
        self.store.note(self.right, failure);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let waited = crate::timers::since(self.started);
        if !self.is_answered && waited >= UNANSWERED {
            let detail = format!("no answer within {} s", waited.as_secs());
            let error = StoreError::Unavailable { key: self.key.to_owned(), detail };
            self.store.note(self.right, Some(&error));
        }
    }
}

/// A store that knows which rights fail on it.
#[derive(Debug)]
pub(crate) struct WatchedStore {
    inner: Arc<dyn Store>,
    seams: Seams,
    failures: Mutex<BTreeMap<Right, StoreFailure>>,
}

impl WatchedStore {
    pub(crate) fn new(inner: Arc<dyn Store>, seams: Seams) -> Self {
        WatchedStore { inner, seams, failures: Mutex::default() }
    }

    /// The rights that fail.
    pub(crate) fn failures(&self) -> Vec<StoreFailure> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn fails(&self, right: Right) -> bool {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&right)
    }

    fn note(&self, right: Right, failure: Option<&StoreError>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = failure else {
            failures.remove(&right);
            return;
        };
        let since_ms = failures.get(&right).map_or_else(|| self.seams.now_ms(), |known| known.since_ms);
        failures.insert(right, StoreFailure { right, since_ms, detail: error.to_string() });
    }

    fn call<'a>(&'a self, right: Right, key: &'a str) -> Call<'a> {
        Call { store: self, right, key, started: Instant::now(), is_answered: false }
    }

    async fn noted<T>(
        &self,
        (right, key): (Right, &str),
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let call = self.call(right, key);
        let answer = work.await;
        // An object that is not there, or too large, is an answer.
        let failed = |error: &&StoreError| error.is_retriable() || error.is_denied();
        call.answered(answer.as_ref().err().filter(failed));
        answer
    }
}

impl Store for WatchedStore {
    fn put_if_absent<'a>(&'a self, key: &'a StoreKey, body: Payload) -> BoxFuture<'a, PutOutcome> {
        async move {
            let call = self.call(Right::Write, key.as_str());
            let outcome = self.inner.put_if_absent(key, body).await;
            call.answered(match &outcome {
                PutOutcome::Created | PutOutcome::Exists => None,
                PutOutcome::Failed(error) | PutOutcome::Unknown(error) => Some(error),
            });
            outcome
        }
        .boxed()
    }

    /// The parts need the right that the start needed.
    fn start_parts<'a>(
        &'a self,
        key: &'a StoreKey,
    ) -> BoxFuture<'a, Result<Box<dyn PartUpload>, StoreError>> {
        self.noted((Right::Write, key.as_str()), self.inner.start_parts(key)).boxed()
    }

    fn get<'a>(&'a self, key: &'a StoreKey, limit_bytes: usize) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.noted((Right::Read, key.as_str()), self.inner.get(key, limit_bytes)).boxed()
    }

    fn get_range<'a>(
        &'a self,
        key: &'a StoreKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<ByteStream, StoreError>> {
        self.noted((Right::Read, key.as_str()), self.inner.get_range(key, range)).boxed()
    }

    fn head<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.noted((Right::Read, key.as_str()), self.inner.head(key)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<(), StoreError>> {
        self.noted((Right::Delete, key.as_str()), self.inner.delete(key)).boxed()
    }

    fn list<'a>(&'a self, page: ListPage<'a>) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        self.noted((Right::List, page.folder), self.inner.list(page)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{Fault, FaultyStore};
    use crate::test_support::seams;

    #[tokio::test]
    async fn a_call_that_is_given_up_after_a_while_has_failed() {
        let hangs = FaultyStore::new(Arc::new(MemoryStore::default()), |_, _, _| Fault::Hang);
        let watched = WatchedStore::new(Arc::new(hangs), seams(1).0);
        let key = StoreKey::new("probe/a");
        assert!(watched.head(&key).now_or_never().is_none());
        assert!(watched.failures().is_empty(), "a reader that went away is no fault of the store");

        let late = UNANSWERED * 2;
        assert!(crate::timers::timeout(late, watched.head(&key)).await.is_err());
        assert!(crate::timers::timeout(late, watched.put_if_absent(&key, Vec::new())).await.is_err());
        let failing: Vec<Right> = watched.failures().iter().map(|failure| failure.right).collect();
        assert_eq!(failing, [Right::Read, Right::Write]);
        assert!(watched.failures()[0].detail.contains("no answer within"), "{:?}", watched.failures());
    }
}
