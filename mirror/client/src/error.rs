//! What can go wrong between a request and its answer.
//!
//! Owns: the line between "not sent" and "perhaps done", and whether asking again may help.
//! Does not own: asking again (`cluster`), what became of a batch (`produce`), errors of `producer` and `consumer`.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use wire::frame::FrameError;
use wire::{ApiKey, DecodeError, EncodeError, ErrorCode};

use crate::layout::{BrokerId, TopicPartition};

/// Why there is no connection, or none any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Disconnect {
    /// The broker could not be reached.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Reaching it took too long.
    #[error("connecting took longer than {0:?}")]
    ConnectTimeout(Duration),
    /// The broker hung up.
    #[error("the broker closed the connection")]
    ClosedByBroker,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(String),
    /// An answer was due for too long. What comes after it on the same connection cannot come either.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The broker sent something that is no frame, or too large a one.
    #[error("the broker's answer is refused: {0}")]
    Frame(#[from] FrameError),
    /// The broker answered another request than the one that was due.
    #[error("the broker answered request {received} where the answer to {expected} was due")]
    Correlation {
        /// The number in the answer.
        received: i32,
        /// The number that was due; -1 when none was.
        expected: i32,
    },
    /// The client has as many connections as it may have.
    #[error("the client has {0} connections, which is its limit")]
    TooMany(usize),
    /// The client closed it.
    #[error("the client closed the connection")]
    Closed,
    /// The client is done with the whole cluster; see [`crate::Cluster::close`].
    #[error("the client is done with the cluster")]
    Finished,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// No byte of it has left: the broker has not seen it.
    #[error("{api} was not sent to {broker}: {reason}")]
    NotSent {
        /// The API.
        api: ApiKey,
        /// The broker's address.
        broker: Arc<str>,
        /// Why.
        reason: Disconnect,
    },
    /// It was sent, at least in part, and no answer came: the broker may have acted on it or not.
    #[error("{api} was sent to {broker}, which did not answer: {reason}")]
    Unanswered {
        /// The API.
        api: ApiKey,
        /// The broker's address.
        broker: Arc<str>,
        /// Why.
        reason: Disconnect,
    },
    /// It was answered, in a way that makes no sense.
    #[error("{broker} answered {api} with nonsense: {fault}")]
    Malformed {
        /// The API.
        api: ApiKey,
        /// The broker's address.
        broker: Arc<str>,
        /// What is wrong with the answer.
        fault: Nonsense,
    },
    /// The broker and this client have no version of the API in common.
    #[error("{broker} does not serve a version of {api} that this client speaks ({first} to {last})")]
    Unsupported {
        /// The API.
        api: ApiKey,
        /// The broker's address.
        broker: Arc<str>,
        /// First version that would do.
        first: i16,
        /// Last version that would do.
        last: i16,
    },
    /// The request says something that the version the broker speaks cannot say.
    #[error("{api} cannot be said to {broker}: {error}")]
    Encode {
        /// The API.
        api: ApiKey,
        /// The broker's address.
        broker: Arc<str>,
        /// What cannot be said.
        error: EncodeError,
    },
    /// The cluster has no such broker, as far as is known.
    #[error("no address is known of broker {broker}")]
    UnknownBroker {
        /// Its number.
        broker: BrokerId,
    },
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Nonsense {
    /// It cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It lacks what was asked for, or says more.
    #[error("it does not speak of {0} as it was asked to")]
    Missing(String),
}

impl CallError {
    /// Whether the broker may have acted on the request.
    #[must_use]
    pub fn may_have_been_done(&self) -> bool {
        matches!(self, Self::Unanswered { .. } | Self::Malformed { .. })
    }

    /// Whether the same request may work later.
    #[must_use]
    pub fn retriable(&self) -> bool {
        match self {
            Self::NotSent { reason, .. } | Self::Unanswered { reason, .. } => *reason != Disconnect::Finished,
            Self::UnknownBroker { .. } => true,
            Self::Malformed { .. } | Self::Unsupported { .. } | Self::Encode { .. } => false,
        }
    }

    /// Whether the client itself has ended what was asked.
    fn is_own_end(&self) -> bool {
        matches!(
            self,
            Self::NotSent { reason: Disconnect::Finished, .. }
                | Self::Unanswered { reason: Disconnect::Finished, .. }
        )
    }
}

/// Why a question to the cluster has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// There is no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The broker said no.
    #[error("{api} was refused: {code:?}{}", message.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// The API.
        api: ApiKey,
        /// Kafka's code.
        code: ErrorCode,
        /// What the broker said besides.
        message: Option<String>,
    },
    /// The cluster has no such topic or partition.
    #[error("{0} does not exist")]
    UnknownPartition(TopicPartition),
    /// The partition has no leader now.
    #[error("{0} has no leader")]
    NoLeader(TopicPartition),
    /// No broker could be reached at all.
    #[error("no broker of the cluster can be reached: {0}")]
    Unreachable(Box<CallError>),
}

impl RequestError {
    /// Whether the same question may be answered later.
    #[must_use]
    pub fn retriable(&self) -> bool {
        match self {
            Self::Call(error) => error.retriable(),
            Self::Refused { code, .. } => code.retriable(),
            Self::Unreachable(error) => !error.is_own_end(),
            Self::UnknownPartition(_) | Self::NoLeader(_) => true,
        }
    }

    /// Kafka's code, where the broker gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn check(
        api: ApiKey,
        code: ErrorCode,
        message: Option<&wire::Text>,
    ) -> Result<(), RequestError> {
        if code == ErrorCode::NONE {
            return Ok(());
        }
        let message = message.filter(|text| !text.is_empty()).map(String::from);
        Err(Self::Refused { api, code, message })
    }
}
