//! Why an exchange failed: the side that caused the failure, the error response for the client, the report to control.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ErrorKind;
use crate::{NoBackend, Outcome};

/// Why LoadX could not open a connection to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    /// The side that caused the failure.
    pub kind: ConnectFailureKind,
    /// The reason, as text for logs.
    pub reason: Arc<str>,
}

/// The side that caused a failed connect.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConnectFailureKind {
    /// The backend refused the connection or is unreachable.
    Refused,
    /// The backend did not accept the connection in time.
    TimedOut,
    /// The backend accepted the connection and showed a certificate that LoadX does not trust.
    TlsCertificate,
    /// The backend accepted the connection, and the handshake of TLS failed for another reason.
    Tls,
    /// LoadX has no ports, file descriptors or memory. The backend must not be ejected for this failure.
    Local,
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ConnectFailure {}

/// Why one attempt did not end with a complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// LoadX could not open a connection.
    Connect(ConnectFailure),
    /// The backend closed or reset the connection before the first byte of a response.
    Unanswered {
        /// The reason, as text for logs.
        reason: String,
        /// Whether LoadX had sent no byte of the request, or the backend said that it has not looked at the request.
        unsent: bool,
    },
    /// The backend was silent for longer than `AttemptPolicy::response`.
    Silent,
    /// The response is not valid HTTP; with the reason, as text for logs.
    BadResponse(String),
    /// The backend sent a response that the request does not allow: interim responses without end, or a protocol that
    /// the client had not offered. The text names the fault of the backend.
    Unrequested(&'static str),
    /// The backend sent bytes, or closed the connection, before the request was sent.
    Premature,
    /// The drain of the backend was over before the response began.
    DrainOver,
    /// The connection broke within the first head of a response; with the reason, as text for logs.
    HeadBrokeOff(String),
    /// The response ended before it was complete; the client may have received a part. With the reason, as text for
    /// logs.
    BrokeOff(String),
    /// The backend answered with a status after which the config wants another backend asked.
    Status {
        /// The status.
        status: u16,
    },
    /// The backend no longer answers anything, as control found, and another backend can be asked.
    GivenUp,
    /// Another backend, which got the request as well, answered first.
    Overtaken,
    /// The backend answered a call of gRPC with a status after which the config wants another backend asked.
    GrpcStatus {
        /// The number of the status.
        status: u8,
        /// The value of grpc-message, decoded as far as it is UTF-8.
        message: String,
    },
    /// The whole exchange took longer than `limit`.
    TookTooLong {
        /// The limit of the exchange.
        limit: Duration,
        /// What LoadX was waiting for.
        stage: Stage,
    },
    /// The client closed its connection; with the reason, as text for logs.
    ClientGone(String),
    /// The client's request body breaks the rules of HTTP, or did not arrive in time.
    ClientBody {
        /// The status of the error response.
        status: u16,
        /// The reason, as text for logs.
        reason: String,
    },
}

/// The shortest time of Retry-After. A queue that was overloaded for a moment is empty a second later.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What an exchange waits for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The client's request body.
    Uploading,
    /// The head of the response.
    Waiting,
    /// The rest of the response.
    Downloading,
}

/// The error response for a failed exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyError {
    /// The status code.
    pub status: u16,
    /// The kind of the error, the value of `error` in Proxy-Status (RFC 9209, section 2.3).
    pub kind: ErrorKind,
    /// The message of the error response.
    pub message: String,
    /// The number of the status of gRPC, if it does not follow from the rest.
    pub grpc_status: Option<u8>,
    /// The seconds after which the client may try again, for Retry-After (RFC 9110, section 10.2.3).
    pub retry_after: Option<u32>,
}

impl ProxyError {
    /// Makes an error response from its status, its error type and its message.
    pub fn new(status: u16, kind: ErrorKind, message: impl Into<String>) -> Self {
        ProxyError { status, kind, message: message.into(), grpc_status: None, retry_after: None }
    }

    /// The error response for a request that LoadX has no room for, for this reason.
    pub fn crowded(reason: &str) -> Self {
        let error = ProxyError::new(503, ErrorKind::ConnectionLimitReached, format!("{reason}; try again later"));
        ProxyError { retry_after: Some(RETRY_AFTER_SECONDS), ..error }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProxyError {}

impl Failure {
    /// Whether the backend cannot have acted on the request: it received no byte, or said that it refused the request unseen.
    pub fn left_no_trace(&self) -> bool {
        matches!(self, Failure::Connect(_) | Failure::Premature | Failure::Unanswered { unsent: true, .. })
    }

    /// Why one attempt failed, as text for operators. [`Display`](fmt::Display) is the text for clients.
    pub fn of_attempt(&self) -> String {
        match self {
            Failure::Connect(failure) => format!("LoadX could not connect: {failure}"),
            failure => failure.to_string(),
        }
    }

    /// The outcome of the attempt for the health and the counts of the backend.
    pub fn outcome(&self) -> Outcome {
        match self {
            Failure::Overtaken => Outcome::Overtaken,
            Failure::Connect(failure) if failure.kind == ConnectFailureKind::TimedOut => {
                Outcome::ConnectTimedOut(Arc::clone(&failure.reason))
            }
            Failure::Connect(failure) if failure.kind != ConnectFailureKind::Local => {
                Outcome::ConnectFailed(Arc::clone(&failure.reason))
            }
            Failure::Connect(_)
            | Failure::DrainOver
            // Counted already when control gave the backend up.
            | Failure::GivenUp
            // The caller reports the status.
            | Failure::Status { .. }
            // The backend works: it has answered.
            | Failure::GrpcStatus { .. }
            | Failure::TookTooLong { stage: Stage::Uploading | Stage::Downloading, .. }
            | Failure::ClientGone(_)
            | Failure::ClientBody { .. } => Outcome::Cancelled,
            Failure::Unanswered { .. }
            | Failure::Silent
            | Failure::TookTooLong { stage: Stage::Waiting, .. }
            | Failure::BadResponse(_)
            | Failure::Unrequested(_)
            | Failure::Premature
            | Failure::HeadBrokeOff(_)
            | Failure::BrokeOff(_) => Outcome::Broke(self.to_string().into()),
        }
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Failure::ClientGone(_) => ErrorKind::ClientGone,
            Failure::Connect(failure) => match failure.kind {
                ConnectFailureKind::Refused => ErrorKind::ConnectionRefused,
                ConnectFailureKind::TimedOut => ErrorKind::ConnectionTimeout,
                ConnectFailureKind::TlsCertificate => ErrorKind::TlsCertificateError,
                ConnectFailureKind::Tls => ErrorKind::TlsProtocolError,
                ConnectFailureKind::Local => ErrorKind::ProxyInternalError,
            },
            Failure::Unanswered { .. } => ErrorKind::ConnectionTerminated,
            Failure::BadResponse(_) | Failure::Unrequested(_) | Failure::Premature => ErrorKind::HttpProtocolError,
            Failure::HeadBrokeOff(_) | Failure::BrokeOff(_) => ErrorKind::HttpResponseIncomplete,
            Failure::Status { .. } | Failure::DrainOver | Failure::GrpcStatus { .. } => {
                ErrorKind::DestinationUnavailable
            }
            Failure::TookTooLong { stage: Stage::Uploading, .. } | Failure::ClientBody { .. } => {
                ErrorKind::HttpRequestError
            }
            Failure::Silent | Failure::GivenUp | Failure::Overtaken | Failure::TookTooLong { .. } => {
                ErrorKind::HttpResponseTimeout
            }
        }
    }

    /// The error response for the client; `None` when the client closed its connection.
    pub fn response(&self) -> Option<ProxyError> {
        let status = match self {
            Failure::ClientGone(_) => return None,
            Failure::Connect(failure) => match failure.kind {
                ConnectFailureKind::TimedOut => 504,
                ConnectFailureKind::Local => 503,
                ConnectFailureKind::Refused | ConnectFailureKind::TlsCertificate | ConnectFailureKind::Tls => 502,
            },
            Failure::Status { status } | Failure::ClientBody { status, .. } => *status,
            Failure::DrainOver | Failure::GrpcStatus { .. } => 503,
            Failure::Silent | Failure::GivenUp | Failure::Overtaken => 504,
            Failure::TookTooLong { stage: Stage::Uploading, .. } => 408,
            Failure::TookTooLong { .. } => 504,
            Failure::Unanswered { .. }
            | Failure::BadResponse(_)
            | Failure::Unrequested(_)
            | Failure::Premature
            | Failure::HeadBrokeOff(_)
            | Failure::BrokeOff(_) => 502,
        };
        let grpc_status = if let Failure::GrpcStatus { status, .. } = self { Some(*status) } else { None };
        Some(ProxyError { grpc_status, ..ProxyError::new(status, self.kind(), self.to_string()) })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(failure) => match failure.kind {
                ConnectFailureKind::Refused => write!(f, "LoadX could not connect to any backend: {failure}"),
                ConnectFailureKind::TimedOut => f.write_str("connecting to a backend timed out"),
                // Clients read this. The log has the reason, which names hosts inside the network.
                ConnectFailureKind::TlsCertificate => {
                    f.write_str("LoadX does not trust the certificate of the backend")
                }
                ConnectFailureKind::Tls => f.write_str("the handshake of TLS with the backend failed"),
                ConnectFailureKind::Local => write!(f, "LoadX could not open a connection: {failure}"),
            },
            Failure::Unanswered { reason, .. } => write!(f, "the backend did not answer: {reason}"),
            Failure::Silent => f.write_str("the backend did not answer in time"),
            Failure::BadResponse(reason) => write!(f, "the backend's response is not valid HTTP: {reason}"),
            Failure::Unrequested(what) => write!(f, "the backend {what}"),
            Failure::Premature => f.write_str("the backend sent bytes, or closed the connection, before the request"),
            Failure::DrainOver => f.write_str("the drain of the backend was over before the backend answered"),
            Failure::GrpcStatus { message, .. } => f.write_str(message),
            Failure::Status { status } => write!(f, "the backend answered {status}"),
            Failure::Overtaken => f.write_str("another backend answered first"),
            Failure::GivenUp => f.write_str("the backend answers nothing any more"),
            Failure::HeadBrokeOff(reason) | Failure::BrokeOff(reason) => {
                write!(f, "the backend's response was truncated: {reason}")
            }
            Failure::TookTooLong { limit, .. } => {
                write!(f, "the exchange took longer than {} s", limit.as_secs_f64())
            }
            Failure::ClientGone(reason) | Failure::ClientBody { reason, .. } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Failure {}

impl NoBackend {
    /// The error response when LoadX could not make an attempt.
    pub fn response(self) -> ProxyError {
        match self {
            NoBackend::NoneAdmitted | NoBackend::AllTried => {
                ProxyError::new(503, ErrorKind::DestinationUnavailable, self.to_string())
            }
            NoBackend::AtLimit | NoBackend::BreakerOpen => {
                let error = ProxyError::new(503, ErrorKind::ConnectionLimitReached, self.to_string());
                ProxyError { retry_after: Some(RETRY_AFTER_SECONDS), ..error }
            }
        }
    }
}
