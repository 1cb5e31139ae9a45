//! A decorator that makes a store fail, stall and lie, as real ones do.
//!
//! Owns: the injected outcomes. Does not own: when they happen; a plan given by the test decides call by call.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};

use super::{
    ByteStream, ListPage, Listed, PartUpload, Payload, PutOutcome, Right, Store, StoreError, StoreKey,
};

/// What a call does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// Create-if-absent.
    Put,
    /// Start of a multipart upload.
    StartParts,
    /// One part.
    Part,
    /// Completion of a multipart upload.
    Complete,
    /// Read of a whole object.
    Get,
    /// Read of a range.
    GetRange,
    /// Size of an object.
    Head,
    /// Delete.
    Delete,
    /// One page of a listing.
    List,
}

impl Operation {
    /// The right that it takes.
    pub fn right(self) -> Right {
        match self {
            Operation::Put | Operation::StartParts | Operation::Part | Operation::Complete => Right::Write,
            Operation::Get | Operation::GetRange | Operation::Head => Right::Read,
            Operation::Delete => Right::Delete,
            Operation::List => Right::List,
        }
    }
}

/// What goes wrong with one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It fails without effect.
    FailBefore,
    /// It has its effect, but the answer is lost.
    FailAfter,
    /// It is denied.
    Deny,
    /// It takes this long.
    Slow(Duration),
    /// It never answers, and has no effect.
    Hang,
    /// It has its effect, and never answers.
    HangAfter,
    /// It answers something that is not so: reads are damaged, listings lack an entry, a create that was refused
    /// says that it was done.
    Lie,
}

/// Decides about each call: its running number, what it is, and which key it names.
pub type FaultPlan = dyn Fn(u64, Operation, &str) -> Fault + Send + Sync;

/// One call, and what becomes of it.
#[derive(Clone, Copy)]
struct Call<'a> {
    operation: Operation,
    key: &'a str,
    fault: Fault,
}

impl Call<'_> {
    fn denied(self) -> StoreError {
        let (right, key) = (self.operation.right(), self.key.to_owned());
        StoreError::Denied { right, key, detail: "injected".into() }
    }
}

/// A store whose calls go wrong by plan.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: Arc<FaultPlan>,
    calls: Arc<AtomicU64>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// Decorates a store.
    pub fn new(
        inner: Arc<dyn Store>,
        plan: impl Fn(u64, Operation, &str) -> Fault + Send + Sync + 'static,
    ) -> Self {
        FaultyStore { inner, plan: Arc::new(plan), calls: Arc::new(AtomicU64::new(0)) }
    }

    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn next<'a>(&self, operation: Operation, key: &'a str) -> Call<'a> {
        let fault = (self.plan)(self.calls.fetch_add(1, Ordering::Relaxed), operation, key);
        Call { operation, key, fault }
    }

    /// The call with its fault; `Lie` is the caller's to act out.
    async fn run<T>(
        &self,
        call: Call<'_>,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match call.fault {
            Fault::None | Fault::Lie => work.await,
            Fault::FailBefore => Err(lost(call.key)),
            Fault::FailAfter => work.await.and_then(|_| Err(lost(call.key))),
            Fault::Deny => Err(call.denied()),
            Fault::Hang => futures::future::pending().await,
            Fault::HangAfter => {
                let _ = work.await;
                futures::future::pending().await
            }
            Fault::Slow(time) => {
                crate::timers::sleep(time).await;
                work.await
            }
        }
    }
}

fn lost(key: &str) -> StoreError {
    StoreError::Unavailable { key: key.to_owned(), detail: "injected".into() }
}

/// Flips one bit in the middle.
fn damaged(bytes: &[u8]) -> Bytes {
    let mut copy = BytesMut::from(bytes);
    let middle = copy.len() / 2;
    if let Some(byte) = copy.get_mut(middle) {
        *byte ^= 0x10;
    }
    copy.freeze()
}

impl Store for FaultyStore {
    fn put_if_absent<'a>(&'a self, key: &'a StoreKey, body: Payload) -> BoxFuture<'a, PutOutcome> {
        async move {
            let call = self.next(Operation::Put, key.as_str());
            match call.fault {
                Fault::FailBefore => return PutOutcome::Unknown(lost(key.as_str())),
                Fault::Deny => return PutOutcome::Failed(call.denied()),
                Fault::Hang => return futures::future::pending().await,
                Fault::Slow(time) => crate::timers::sleep(time).await,
                Fault::None | Fault::FailAfter | Fault::HangAfter | Fault::Lie => {}
            }
            let outcome = self.inner.put_if_absent(key, body).await;
            match call.fault {
                Fault::FailAfter => PutOutcome::Unknown(lost(key.as_str())),
                Fault::HangAfter => futures::future::pending().await,
                Fault::Lie => PutOutcome::Created,
                _ => outcome,
            }
        }
        .boxed()
    }

    fn start_parts<'a>(
        &'a self,
        key: &'a StoreKey,
    ) -> BoxFuture<'a, Result<Box<dyn PartUpload>, StoreError>> {
        async move {
            let call = self.next(Operation::StartParts, key.as_str());
            let upload = self.run(call, self.inner.start_parts(key)).await?;
            Ok(Box::new(FaultyUpload { store: self.clone(), key: key.clone(), upload })
                as Box<dyn PartUpload>)
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a StoreKey, limit_bytes: usize) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        async move {
            let call = self.next(Operation::Get, key.as_str());
            let bytes = self.run(call, self.inner.get(key, limit_bytes)).await?;
            Ok(if call.fault == Fault::Lie { damaged(&bytes) } else { bytes })
        }
        .boxed()
    }

    fn get_range<'a>(
        &'a self,
        key: &'a StoreKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<ByteStream, StoreError>> {
        async move {
            let call = self.next(Operation::GetRange, key.as_str());
            if call.fault == Fault::FailAfter {
                // Half of the body arrives, then the connection breaks.
                let half = range.start + (range.end - range.start) / 2;
                let body = self.inner.get_range(key, range.start..half).await?;
                let broken = stream::iter([Err(lost(key.as_str()))]);
                return Ok(body.chain(broken).boxed());
            }
            let body = self.run(call, self.inner.get_range(key, range)).await?;
            Ok(match call.fault {
                Fault::Lie => body.map(|piece| piece.map(|bytes| damaged(&bytes))).boxed(),
                _ => body,
            })
        }
        .boxed()
    }

    fn head<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<u64, StoreError>> {
        async move {
            let call = self.next(Operation::Head, key.as_str());
            let size = self.run(call, self.inner.head(key)).await?;
            Ok(if call.fault == Fault::Lie { size + 1 } else { size })
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let call = self.next(Operation::Delete, key.as_str());
            match call.fault {
                // Says that it is done, and is not.
                Fault::Lie => Ok(()),
                _ => self.run(call, self.inner.delete(key)).await,
            }
        }
        .boxed()
    }

    fn list<'a>(&'a self, page: ListPage<'a>) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        async move {
            let call = self.next(Operation::List, page.folder);
            let mut entries = self.run(call, self.inner.list(page)).await?;
            if call.fault == Fault::Lie {
                entries.pop();
            }
            Ok(entries)
        }
        .boxed()
    }
}

struct FaultyUpload {
    store: FaultyStore,
    key: StoreKey,
    upload: Box<dyn PartUpload>,
}

impl PartUpload for FaultyUpload {
    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<(), StoreError>> {
        let Call { operation, fault, .. } = self.store.next(Operation::Part, self.key.as_str());
        let (store, key, part) = (self.store.clone(), self.key.clone(), self.upload.put_part(part));
        async move { store.run(Call { operation, key: key.as_str(), fault }, part).await }.boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let store = self.store.clone();
            let call = store.next(Operation::Complete, self.key.as_str());
            store.run(call, self.upload.complete()).await
        }
        .boxed()
    }

    fn abort(&mut self) -> BoxFuture<'_, ()> {
        self.upload.abort()
    }
}
