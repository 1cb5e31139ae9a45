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
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::metrics::{Metric, to_text};
use crate::v1::control_server::{Control, ControlServer};
use crate::v1::{DrainReply, DrainRequest, StatusReply, StatusRequest};

/// What a process says of itself. Every call has to be quick and must not wait for a disk or a peer.
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
    let grpc = tonic::service::Routes::new(ControlServer::new(Service(Arc::clone(&subject))));
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

struct Service(Arc<dyn Subject>);

#[tonic::async_trait]
impl Control for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(self.0.status()))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        self.0.drain();
        Ok(Response::new(DrainReply {}))
    }
}
