//! Asking another process through its admin address.
//!
//! Owns: the deadline and the wording of failures. Does not own: which address belongs to which process.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::v1::control_client::ControlClient;
use crate::v1::{DrainRequest, FlushLogRequest, StatusReply, StatusRequest};

/// How long a process may take to be reached and to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long it may take to write what memory holds of a log: at most what a journal does, to a slow disk.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest answer that is read; a broker with 10,000 partitions answers with about 1 MiB.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Why a process gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The address is no `HOST:PORT`.
    #[error("\"{0}\" is no admin address: write HOST:PORT")]
    Address(String),
    /// Nothing listens there.
    #[error("nothing answers at admin address {address}: {}", root_cause(source))]
    Unreachable {
        /// The admin address.
        address: String,
        /// What the connection said.
        source: tonic::transport::Error,
    },
    /// It listens, but did not answer as it should.
    #[error("the process at admin address {address} did not answer: {}", source.message())]
    Refused {
        /// The admin address.
        address: String,
        /// What it said instead.
        source: Box<tonic::Status>,
    },
    /// It has no log, or cannot write it.
    #[error("the process at admin address {address} has not flushed its log: {reason}")]
    NotFlushed {
        /// The admin address.
        address: String,
        /// Why.
        reason: String,
    },
}

/// What the process at an admin address runs and how it fares.
///
/// # Errors
/// [`AskError`] if it cannot be reached or does not answer within three seconds.
pub async fn ask_status(address: &str) -> Result<StatusReply, AskError> {
    let mut control = connect(address, ANSWER_TIMEOUT).await?;
    let reply = control.status(StatusRequest {}).await;
    Ok(reply.map_err(|source| refused(address, source))?.into_inner())
}

/// Asks the process at an admin address to stop in good order; it goes on doing so after the answer.
///
/// # Errors
/// [`AskError`] if it cannot be reached or does not answer within three seconds.
pub async fn ask_drain(address: &str) -> Result<(), AskError> {
    let mut control = connect(address, ANSWER_TIMEOUT).await?;
    control.drain(DrainRequest {}).await.map_err(|source| refused(address, source))?;
    Ok(())
}

/// Asks the broker at an admin address to write what it acknowledged into its segment files; it has, once this returns.
///
/// # Errors
/// [`AskError`] if it cannot be reached within three seconds, has not answered within a minute, or cannot do it.
pub async fn ask_flush_log(address: &str) -> Result<(), AskError> {
    let mut control = connect(address, FLUSH_TIMEOUT).await?;
    let flushed = control.flush_log(FlushLogRequest {}).await;
    flushed.map(|_| ()).map_err(|source| match source.code() {
        tonic::Code::FailedPrecondition => {
            AskError::NotFlushed { address: address.to_owned(), reason: source.message().to_owned() }
        }
        _ => refused(address, source),
    })
}

async fn connect(address: &str, answer_timeout: Duration) -> Result<ControlClient<Channel>, AskError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| AskError::Address(address.to_owned()))?
        .connect_timeout(ANSWER_TIMEOUT)
        .timeout(answer_timeout);
    let unreachable = |source| AskError::Unreachable { address: address.to_owned(), source };
    let channel = endpoint.connect().await.map_err(unreachable)?;
    Ok(ControlClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
}

/// What the system said: the transport's own text says no more than that it failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn refused(address: &str, source: tonic::Status) -> AskError {
    AskError::Refused { address: address.to_owned(), source: Box::new(source) }
}
