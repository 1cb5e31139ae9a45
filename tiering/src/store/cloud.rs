//! The stores that exist: S3-compatible buckets and a local folder, both through `object_store`.
//!
//! Owns: the mapping of that crate's answers to our outcomes. Does not own: retries beyond one request's connection.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt as _,
    PutMode, PutOptions, PutPayload, RetryConfig,
};

use super::{
    ByteStream, ListPage, Listed, PartUpload, Payload, PutOutcome, Right, Store, StoreError, StoreKey,
    StoreLocation, StoreUrl,
};

/// Retries inside one request: few, since every caller has its own, which can tell a lost answer from a refusal.
const REQUEST_RETRIES: usize = 2;
const REQUEST_RETRY_TIME: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const IDLE_CONNECTIONS: usize = 32;
/// Bytes read at once from an object of a local folder.
const FOLDER_READ_BYTES: u64 = 1 << 20;

/// Where the library looks for credentials last: at the metadata service of the machine, if that is one of AWS. These are its
/// pages as an error spells them; no object of ours is called so.
const METADATA_PAGES: [&str; 2] = ["/latest/api/token in ", "/latest/meta-data/iam/security-credentials/"];
/// What it means that it was looked there in vain.
const NO_CREDENTIALS: &str = "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or, for a web identity, \
     AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN; or, for a role of a container, the AWS_CONTAINER_ variables; or give this \
     machine an instance role); the machine's metadata service does not give any";

/// Why a store could not be opened. Whether it answers is not asked here.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The folder cannot be made or opened.
    #[error("store folder {folder} cannot be opened: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder is not there, and whoever asks does not make one.
    #[error(
        "there is no store {url}: check the folder's name; `longhaul tier init --store {url}` makes a new one"
    )]
    Missing {
        /// The store.
        url: String,
    },
    /// The client refuses the options.
    #[error("the store {url} cannot be opened: {detail}")]
    Options {
        /// The store.
        url: String,
        /// What the client said.
        detail: String,
    },
}

/// Opens a store that somebody uses already: a folder that is not there is not made. Sends nothing yet.
///
/// # Errors
/// As [`open_store`], and [`OpenStoreError::Missing`].
pub fn open_existing_store(url: &StoreUrl) -> Result<Arc<dyn Store>, OpenStoreError> {
    match &url.location {
        StoreLocation::Folder(folder) if !folder.is_dir() => {
            Err(OpenStoreError::Missing { url: url.to_string() })
        }
        _ => open_store(url),
    }
}

/// Opens a store, and makes it where it is a folder. Sends nothing yet.
pub fn open_store(url: &StoreUrl) -> Result<Arc<dyn Store>, OpenStoreError> {
    let refused = |source: object_store::Error| OpenStoreError::Options {
        url: url.to_string(),
        detail: one_line(&source),
    };
    match &url.location {
        StoreLocation::Folder(folder) => {
            std::fs::create_dir_all(folder)
                .map_err(|source| OpenStoreError::Folder { folder: folder.display().to_string(), source })?;
            let inner = LocalFileSystem::new_with_prefix(folder).map_err(refused)?.with_fsync(true);
            Ok(Arc::new(CloudStore { inner: Arc::new(inner), prefix: String::new(), lists_in_order: false }))
        }
        StoreLocation::S3 { bucket, prefix } => {
            let inner = s3_builder(url, bucket).build().map_err(refused)?;
            Ok(Arc::new(CloudStore { inner: Arc::new(inner), prefix: prefix.clone(), lists_in_order: true }))
        }
    }
}

fn s3_builder(url: &StoreUrl, bucket: &str) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let environment_endpoint = || {
        ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok())
    };
    let endpoint = url.endpoint.clone().or_else(environment_endpoint);
    let mut client = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT)
        .with_http1_only()
        .with_pool_max_idle_per_host(IDLE_CONNECTIONS);
    if let Some(endpoint) = endpoint {
        // The scheme was written by the operator: plain HTTP is asked for, not fallen back to.
        let is_plain = endpoint.starts_with("http://");
        // And asks for no certificates, which a machine, or an image with nothing but us in it, may not have.
        client = client.with_allow_http(is_plain).with_no_system_certificates(is_plain);
        builder = builder
            .with_endpoint(endpoint)
            .with_virtual_hosted_style_request(!url.path_style.unwrap_or(true));
    } else if let Some(path_style) = url.path_style {
        builder = builder.with_virtual_hosted_style_request(!path_style);
    }
    if let Some(region) = &url.region {
        builder = builder.with_region(region);
    }
    if let Some((key, secret)) = &url.credentials {
        builder = builder.with_access_key_id(key).with_secret_access_key(secret.reveal());
    }
    let retry = RetryConfig {
        max_retries: REQUEST_RETRIES,
        retry_timeout: REQUEST_RETRY_TIME,
        ..RetryConfig::default()
    };
    builder.with_client_options(client).with_retry(retry)
}

struct CloudStore {
    inner: Arc<dyn ObjectStore>,
    prefix: String,
    lists_in_order: bool,
}

impl fmt::Debug for CloudStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The inner store's own text holds its options; ours holds only where it is.
        f.debug_struct("CloudStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl CloudStore {
    fn path(&self, key: &str) -> Path {
        match (self.prefix.is_empty(), key.is_empty()) {
            (true, _) => Path::from(key),
            (false, true) => Path::from(self.prefix.as_str()),
            (false, false) => Path::from(format!("{}/{key}", self.prefix)),
        }
    }

    fn key(&self, path: &Path) -> Option<StoreKey> {
        let path: &str = path.as_ref();
        if self.prefix.is_empty() {
            return Some(StoreKey::new(path));
        }
        path.strip_prefix(&self.prefix)?.strip_prefix('/').map(StoreKey::new)
    }
}

impl Store for CloudStore {
    fn put_if_absent<'a>(&'a self, key: &'a StoreKey, body: Payload) -> BoxFuture<'a, PutOutcome> {
        async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let payload = PutPayload::from_iter(body);
            match self.inner.put_opts(&self.path(key.as_str()), payload, options).await {
                Ok(_) => PutOutcome::Created,
                Err(object_store::Error::AlreadyExists { .. }) => PutOutcome::Exists,
                Err(error) => match classify(Right::Write, key.as_str(), &error) {
                    // Nothing else than a plain refusal proves that nothing was written.
                    error @ (StoreError::Denied { .. } | StoreError::NotFound { .. }) => {
                        PutOutcome::Failed(error)
                    }
                    error => PutOutcome::Unknown(error),
                },
            }
        }
        .boxed()
    }

    fn start_parts<'a>(
        &'a self,
        key: &'a StoreKey,
    ) -> BoxFuture<'a, Result<Box<dyn PartUpload>, StoreError>> {
        async move {
            let upload = self.inner.put_multipart(&self.path(key.as_str())).await;
            let upload = upload.map_err(|error| classify(Right::Write, key.as_str(), &error))?;
            Ok(Box::new(CloudUpload { key: key.clone(), upload }) as Box<dyn PartUpload>)
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a StoreKey, limit_bytes: usize) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        async move {
            let result = self.inner.get(&self.path(key.as_str())).await;
            let result = result.map_err(|error| classify(Right::Read, key.as_str(), &error))?;
            let (size_bytes, limit_bytes) = (result.meta.size, limit_bytes as u64);
            if size_bytes > limit_bytes {
                return Err(StoreError::TooLarge { key: key.to_string(), size_bytes, limit_bytes });
            }
            result.bytes().await.map_err(|error| classify(Right::Read, key.as_str(), &error))
        }
        .boxed()
    }

    fn get_range<'a>(
        &'a self,
        key: &'a StoreKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<ByteStream, StoreError>> {
        async move {
            let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
            let result = self.inner.get_opts(&self.path(key.as_str()), options).await;
            let result = result.map_err(|error| classify(Right::Read, key.as_str(), &error))?;
            let (text, range) = (key.to_string(), result.range.clone());
            Ok(match result.payload {
                GetResultPayload::File(file, _) => folder_stream(text, file, range),
                GetResultPayload::Stream(stream) => {
                    stream.map_err(move |error| classify(Right::Read, &text, &error)).boxed()
                }
            })
        }
        .boxed()
    }

    fn head<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<u64, StoreError>> {
        async move {
            let meta = self.inner.head(&self.path(key.as_str())).await;
            Ok(meta.map_err(|error| classify(Right::Read, key.as_str(), &error))?.size)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            match self.inner.delete(&self.path(key.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(classify(Right::Delete, key.as_str(), &error)),
            }
        }
        .boxed()
    }

    fn list<'a>(&'a self, page: ListPage<'a>) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        async move {
            let folder = self.path(page.folder);
            let folder = (!folder.as_ref().is_empty()).then_some(folder);
            let entries = match page.start_after {
                Some(after) => self.inner.list_with_offset(folder.as_ref(), &self.path(after)),
                None => self.inner.list(folder.as_ref()),
            };
            let entries = entries.map_err(|error| classify(Right::List, page.folder, &error)).try_filter_map(
                |meta| async move {
                    Ok(self.key(&meta.location).map(|key| Listed { key, size_bytes: meta.size }))
                },
            );
            if self.lists_in_order {
                return entries.take(page.limit).try_collect().await;
            }
            let mut entries: Vec<Listed> = entries.try_collect().await?;
            entries.sort_by(|left, right| left.key.cmp(&right.key));
            entries.truncate(page.limit);
            Ok(entries)
        }
        .boxed()
    }
}

struct CloudUpload {
    key: StoreKey,
    upload: Box<dyn MultipartUpload>,
}

impl PartUpload for CloudUpload {
    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<(), StoreError>> {
        let (part, key) = (self.upload.put_part(PutPayload::from_iter(part)), self.key.clone());
        async move { part.await.map_err(|error| classify(Right::Write, key.as_str(), &error)) }.boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let done = self.upload.complete().await;
            done.map(|_| ()).map_err(|error| classify(Right::Write, self.key.as_str(), &error))
        }
        .boxed()
    }

    fn abort(&mut self) -> BoxFuture<'_, ()> {
        async move {
            if let Err(error) = self.upload.abort().await {
                tracing::debug!(key = %self.key, error = %one_line(&error), "abandoned upload not aborted");
            }
        }
        .boxed()
    }
}

/// A local object in large pieces: the library's own stream hops threads every 8 KiB.
fn folder_stream(key: String, file: File, range: Range<u64>) -> ByteStream {
    let file = Arc::new(file);
    stream::try_unfold(range.start, move |position| {
        let (file, key, end) = (file.clone(), key.clone(), range.end);
        async move {
            if position >= end {
                return Ok(None);
            }
            let wanted = (end - position).min(FOLDER_READ_BYTES) as usize;
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = BytesMut::zeroed(wanted);
                file.read_exact_at(&mut piece, position).map(|()| piece.freeze())
            });
            let piece = match read.await {
                Ok(Ok(piece)) => piece,
                Ok(Err(error)) => return Err(StoreError::Unavailable { key, detail: error.to_string() }),
                Err(error) => return Err(StoreError::Unavailable { key, detail: error.to_string() }),
            };
            let next = position + piece.len() as u64;
            Ok(Some((piece, next)))
        }
    })
    .boxed()
}

fn classify(right: Right, key: &str, error: &object_store::Error) -> StoreError {
    let (key, detail) = (key.to_owned(), one_line(error));
    match error {
        object_store::Error::NotFound { .. } => StoreError::NotFound { key },
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            StoreError::Denied { right, key, detail }
        }
        object_store::Error::Generic { .. } if METADATA_PAGES.iter().any(|page| detail.contains(page)) => {
            StoreError::Unavailable { key, detail: format!("{NO_CREDENTIALS}: {detail}") }
        }
        _ if is_denial(right, &detail) => StoreError::Denied { right, key, detail },
        _ => StoreError::Unavailable { key, detail },
    }
}

/// Listings and deletes (which go several in one request) are told apart by the library in their text alone. Nothing
/// is proved by that; only a write would need a proof.
fn is_denial(right: Right, detail: &str) -> bool {
    match right {
        Right::List => detail.contains("403 Forbidden"),
        Right::Delete => detail.contains("(code: AccessDenied)"),
        Right::Read | Right::Write => false,
    }
}

/// The error and its causes on one line, each said once.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_mistyped_is_not_made_by_those_who_only_look() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("lkae");
        let url: StoreUrl = format!("file:{}", folder.display()).parse().unwrap();
        let refused = open_existing_store(&url).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("there is no store") && refused.contains("tier init"), "{refused}");
        assert!(!folder.exists());
        open_store(&url).unwrap();
        open_existing_store(&url).unwrap();
    }

    #[tokio::test]
    async fn who_gave_no_credentials_is_told_which_to_give() {
        let client = ClientOptions::new().with_allow_http(true).with_no_system_certificates(true);
        // As where no variable is set: nothing answers that would know of a role either.
        let library = AmazonS3Builder::new()
            .with_bucket_name("lake")
            .with_endpoint("http://127.0.0.1:1")
            .with_metadata_endpoint("http://127.0.0.1:1")
            .with_client_options(client)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        let inner = Arc::new(library.build().unwrap());
        let store = CloudStore { inner, prefix: "prod".to_owned(), lists_in_order: true };
        let key = StoreKey::new("probe/a");
        let PutOutcome::Unknown(put) = store.put_if_absent(&key, vec![Bytes::new()]).await else {
            panic!("nothing answers there")
        };
        let page = ListPage { folder: "", start_after: None, limit: 1 };
        for error in [put, store.head(&key).await.unwrap_err(), store.list(page).await.unwrap_err()] {
            let said = error.to_string();
            // A service that only hesitates may answer the next time.
            assert!(error.is_retriable(), "{said}");
            let advice =
                said.find("no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
            let cause = said.find("Error performing PUT http://127.0.0.1:1/latest/api/token");
            assert!(advice.is_some() && advice < cause, "{said}");
        }
        // A store that does not answer those who have credentials is another matter.
        let source = "Error performing PUT http://127.0.0.1:1/lake/latest/api/token/a in 1ms - HTTP error";
        let silent = object_store::Error::Generic { store: "S3", source: source.into() };
        assert!(!classify(Right::Write, "a", &silent).to_string().contains("credentials"));
    }

    #[test]
    fn a_missing_right_is_told_by_name_also_where_the_library_says_it_in_words_alone() {
        let generic = |text: &str| object_store::Error::Generic { store: "S3", source: text.into() };
        let listing = generic(
            "Error performing list request: Error performing GET http://localhost/lake in 1ms - Server returned \
             non-2xx status code: 403 Forbidden: <Error>\n<Code>AccessDenied</Code></Error>",
        );
        let delete = generic("DeleteObjects request failed for key a: Access Denied. (code: AccessDenied)");
        let plain = || object_store::Error::PermissionDenied { path: "a".into(), source: "no".into() };
        for (right, error, says) in [
            (Right::List, listing, "right to list (s3:ListBucket) at a"),
            (Right::Delete, delete, "right to delete (s3:DeleteObject) at a"),
            (Right::Write, plain(), "right to write (s3:PutObject) at a"),
            (Right::Read, plain(), "right to read (s3:GetObject) at a"),
        ] {
            let said = classify(right, "a", &error);
            assert!(said.is_denied() && said.to_string().contains(says), "{said}");
            assert!(!said.to_string().contains('\n'), "{said}");
        }
        // What a proxy writes on its page is no proof that nothing was written.
        let page = generic("Server returned non-2xx status code: 503: 403 Forbidden (code: AccessDenied)");
        assert!(classify(Right::Write, "a", &page).is_retriable());
    }
}
