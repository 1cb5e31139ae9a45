//! The listener of one admin address.
//!
//! Owns: the port, routing between gRPC and HTTP, and stopping.
//! Does not own: what is answered; that is the [`Subject`]'s.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::metrics::{Metric, to_text};
use crate::v1::control_server::{Control, ControlServer};
use crate::v1::{DrainReply, DrainRequest, FlushLogReply, FlushLogRequest, StatusReply, StatusRequest};

/// What a process says of itself, and what it can be asked to do. Every call but [`Subject::flush_log`] has to be quick and
/// must not wait for a disk or a peer.
pub trait Subject: Send + Sync + 'static {
    /// What the process runs and how it fares.
    fn status(&self) -> StatusReply;
    /// All figures of the process.
    fn metrics(&self) -> Vec<Metric>;
    /// Whether the process works at all; the reason where it does not.
    fn health(&self) -> Result<(), String>;
    /// Whether it serves its users now; the reason where it does not.
    fn ready(&self) -> Result<(), String>;
    /// Begins an orderly stop. It does not wait for its end.
    fn drain(&self);
    /// Writes what was acknowledged into the segment files, for tools that read files; the reason where that cannot be. Waits
    /// for the disk, on a thread where that harms nobody, and is called by one at a time.
    fn flush_log(&self) -> Result<(), String>;
}

/// Why the admin address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not ours, or not allowed.
    #[error(
        "cannot listen on admin address {address}: {source}; choose another (--admin, or `admin` in the topology file)"
    )]
    Bind {
        /// The address that was asked for.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Starts to serve an admin address until `stop` is cancelled; returns the address that was bound (port 0 lets the
/// system choose).
///
/// # Errors
/// [`ListenError::Bind`] if the address cannot be bound.
pub async fn serve(
    address: &str,
    subject: Arc<dyn Subject>,
    stop: CancellationToken,
) -> Result<SocketAddr, ListenError> {
    let failed = |source| ListenError::Bind { address: address.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let service = Service { subject: Arc::clone(&subject), flushing: Arc::default() };
    let grpc = tonic::service::Routes::new(ControlServer::new(service));
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(subject)
        // Its own answer to what it does not know is 200, which a probe of a mistyped page would take for good health.
        .merge(grpc.into_axum_router().reset_fallback())
        .fallback(unknown);
    tokio::spawn(async move {
        let stopped = stop.clone().cancelled_owned();
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, address = %bound, "the admin listener stopped");
        }
    });
    Ok(bound)
}

async fn metrics(State(subject): State<Arc<dyn Subject>>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], to_text(subject.metrics()))
}

async fn health(State(subject): State<Arc<dyn Subject>>) -> impl IntoResponse {
    answer(subject.health())
}

async fn ready(State(subject): State<Arc<dyn Subject>>) -> impl IntoResponse {
    answer(subject.ready())
}

fn answer(verdict: Result<(), String>) -> (StatusCode, String) {
    match verdict {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn unknown(uri: Uri, headers: HeaderMap) -> axum::response::Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|content_type| content_type.starts_with("application/grpc")) {
        return Status::unimplemented(format!("no such method: {}", uri.path())).into_http::<Body>();
    }
    let known = "/metrics, /healthz (the process works), /readyz (it serves), and gRPC";
    (StatusCode::NOT_FOUND, format!("no such page: {}; here are {known}\n", uri.path())).into_response()
}

struct Service {
    subject: Arc<dyn Subject>,
    /// Held while the log is flushed, so that however many ask, one thread waits for the disk.
    flushing: Arc<Mutex<()>>,
}

#[tonic::async_trait]
impl Control for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(self.subject.status()))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        self.subject.drain();
        Ok(Response::new(DrainReply {}))
    }

    async fn flush_log(&self, _: Request<FlushLogRequest>) -> Result<Response<FlushLogReply>, Status> {
        let turn = Arc::clone(&self.flushing).lock_owned().await;
        let subject = Arc::clone(&self.subject);
        let flushed = tokio::task::spawn_blocking(move || {
            let flushed = subject.flush_log();
            // Not before: whoever asked may have gone away meanwhile, and the thread is still busy.
            drop(turn);
            flushed
        });
        match flushed.await {
            Ok(Ok(())) => Ok(Response::new(FlushLogReply {})),
            Ok(Err(reason)) => Err(Status::failed_precondition(reason)),
            Err(died) => Err(Status::internal(died.to_string())),
        }
    }
}
