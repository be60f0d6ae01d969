//! Why an exchange failed: which side is to blame, what the client is told, what control hears.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{NoBackend, Outcome};

/// Why no connection to a backend could be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    /// Which side is to blame.
    pub kind: ConnectFailureKind,
    /// The reason, in words.
    pub reason: Arc<str>,
}

/// Which side is to blame for a connection that could not be opened.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConnectFailureKind {
    /// The backend: it refused, or cannot be reached.
    Refused,
    /// The backend: it did not answer in time.
    TimedOut,
    /// LoadX: no ports, file descriptors or memory. The backend must not be ejected for that.
    Local,
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ConnectFailure {}

/// Why one attempt did not end in a whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be opened.
    Connect(ConnectFailure),
    /// The connection broke before the first byte of a response.
    Unanswered {
        /// The reason, in words.
        reason: String,
        /// Whether no byte of the request had left.
        unsent: bool,
    },
    /// The backend sent nothing for too long.
    Silent,
    /// The response is not valid HTTP. The reason, in words.
    BadResponse(String),
    /// The backend sent a response that the request does not allow: interim responses without end, or a protocol
    /// that the client had not offered. What the backend did, in words.
    Unrequested(&'static str),
    /// The backend sent bytes, or closed the connection, before the request was sent.
    Premature,
    /// The response ended before it was complete; the client may have received a part. The reason, in words.
    BrokeOff(String),
    /// The whole exchange took too long.
    TookTooLong {
        /// The limit of the exchange.
        limit: Duration,
        /// Whether LoadX was waiting for the client's request body.
        uploading: bool,
    },
    /// The client left. The reason, in words.
    ClientGone(String),
    /// The client's request body breaks the rules, or did not arrive in time.
    ClientBody {
        /// The status that the client is told.
        status: u16,
        /// The reason, in words.
        reason: String,
    },
}

/// The error response for a failed exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyError {
    /// The status code.
    pub status: u16,
    /// The proxy error type (RFC 9209, section 2.3).
    pub kind: &'static str,
    /// What happened, in words.
    pub message: String,
}

impl ProxyError {
    /// An error response.
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        ProxyError { status, kind, message: message.into() }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProxyError {}

impl Failure {
    /// Whether the backend cannot have seen a byte of the request.
    pub fn left_no_trace(&self) -> bool {
        matches!(self, Failure::Connect(_) | Failure::Premature | Failure::Unanswered { unsent: true, .. })
    }

    /// The outcome of the attempt, as far as the backend is concerned.
    pub fn outcome(&self) -> Outcome {
        match self {
            Failure::Connect(failure) if failure.kind != ConnectFailureKind::Local => {
                Outcome::ConnectFailed(Arc::clone(&failure.reason))
            }
            Failure::Connect(_) | Failure::TookTooLong { .. } | Failure::ClientGone(_) | Failure::ClientBody { .. } => {
                Outcome::Cancelled
            }
            Failure::Unanswered { .. }
            | Failure::Silent
            | Failure::BadResponse(_)
            | Failure::Unrequested(_)
            | Failure::Premature
            | Failure::BrokeOff(_) => Outcome::Broke,
        }
    }

    /// The error response for the client. None when the client is gone.
    pub fn response(&self) -> Option<ProxyError> {
        let (status, kind) = match self {
            Failure::ClientGone(_) => return None,
            Failure::Connect(failure) => match failure.kind {
                ConnectFailureKind::Refused => (502, "connection_refused"),
                ConnectFailureKind::TimedOut => (504, "connection_timeout"),
                ConnectFailureKind::Local => (503, "proxy_internal_error"),
            },
            Failure::Unanswered { .. } => (502, "connection_terminated"),
            Failure::Silent => (504, "http_response_timeout"),
            Failure::BadResponse(_) | Failure::Unrequested(_) | Failure::Premature => (502, "http_protocol_error"),
            Failure::BrokeOff(_) => (502, "http_response_incomplete"),
            Failure::TookTooLong { uploading: true, .. } => (408, "http_request_error"),
            Failure::TookTooLong { uploading: false, .. } => (504, "http_response_timeout"),
            Failure::ClientBody { status, .. } => (*status, "http_request_error"),
        };
        Some(ProxyError::new(status, kind, self.to_string()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(failure) => match failure.kind {
                ConnectFailureKind::Refused => write!(f, "no backend could be connected to: {failure}"),
                ConnectFailureKind::TimedOut => f.write_str("connecting to a backend timed out"),
                ConnectFailureKind::Local => write!(f, "LoadX could not open a connection: {failure}"),
            },
            Failure::Unanswered { reason, .. } => write!(f, "the backend did not answer: {reason}"),
            Failure::Silent => f.write_str("the backend did not answer in time"),
            Failure::BadResponse(reason) => write!(f, "the backend's response is not valid HTTP: {reason}"),
            Failure::Unrequested(what) => write!(f, "the backend {what}"),
            Failure::Premature => f.write_str("the backend spoke, or closed the connection, before it was asked"),
            Failure::BrokeOff(reason) => write!(f, "the backend's response broke off: {reason}"),
            Failure::TookTooLong { limit, .. } => {
                write!(f, "the exchange took longer than {} s", limit.as_secs_f64())
            }
            Failure::ClientGone(reason) | Failure::ClientBody { reason, .. } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Failure {}

impl NoBackend {
    /// The error response when no attempt could be made.
    pub fn response(self) -> ProxyError {
        ProxyError::new(503, "destination_unavailable", self.to_string())
    }
}
