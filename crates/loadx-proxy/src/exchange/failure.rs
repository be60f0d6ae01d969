//! Why an exchange failed: whose fault it was, what the client is told of it, and what control hears.

use std::sync::Arc;
use std::time::Duration;

use loadx_core::{NoBackend, Outcome};
use loadx_http::{BodyFault, Fault};

use crate::io::Broken;
use crate::origin::{ConnectFault, ConnectFaultKind};
use crate::relay::RelayFault;
use crate::reply::ErrorReply;

/// Why an attempt with one backend did not end in a whole response.
#[derive(Debug)]
pub(super) enum Failure {
    Connect(ConnectFault),
    /// The connection broke before a byte of the response; `unsent` tells that no byte of the request
    /// had left either.
    Unanswered {
        reason: String,
        unsent: bool,
    },
    /// The backend was silent for too long before its response.
    Silent,
    /// The response cannot be trusted.
    BadResponse(Fault),
    /// It sent interim responses without end, or went over to a protocol that nobody had asked for.
    Unasked(&'static str),
    /// The backend spoke, or closed the connection, before it was asked.
    Premature,
    /// The response broke off; part of it may be with the client already.
    BrokeOff(String),
    /// The whole exchange took too long.
    TookTooLong {
        limit: Duration,
        /// Whether the client was still sending.
        uploading: bool,
    },
    /// The client is gone.
    ClientGone(String),
    /// The client's body breaks the rules, or stalls.
    ClientBody {
        status: u16,
        reason: String,
    },
}

pub(super) fn unanswered(broken: &Broken, written: u64) -> Failure {
    match broken {
        Broken::TimedOut => Failure::Silent,
        broken => Failure::Unanswered { reason: broken.describe(), unsent: written == 0 },
    }
}

pub(super) fn client_gone(broken: &Broken) -> Failure {
    match broken {
        Broken::TimedOut => Failure::ClientGone("the client stopped reading".to_owned()),
        broken => Failure::ClientGone(format!("the client left: {}", broken.describe())),
    }
}

pub(super) fn upload_failure(fault: RelayFault, written: u64) -> Failure {
    match fault {
        RelayFault::Source(Broken::TimedOut) => {
            Failure::ClientBody { status: 408, reason: "the request body did not arrive in time".to_owned() }
        }
        RelayFault::Source(broken) => client_gone(&broken),
        RelayFault::Body(BodyFault::Incomplete) => {
            Failure::ClientGone("the client left before its request body ended".to_owned())
        }
        RelayFault::Body(fault) => {
            let status = if fault == BodyFault::TooLarge { 413 } else { 400 };
            Failure::ClientBody { status, reason: fault.as_str().to_owned() }
        }
        RelayFault::Sink(broken) => unanswered(&broken, written),
    }
}

impl Failure {
    /// What the backend is to be blamed for.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Failure::Connect(fault) if fault.kind != ConnectFaultKind::Ours => {
                Outcome::ConnectFailed(Arc::clone(&fault.reason))
            }
            Failure::Connect(_) | Failure::TookTooLong { .. } | Failure::ClientGone(_) | Failure::ClientBody { .. } => {
                Outcome::Cancelled
            }
            Failure::Unanswered { .. }
            | Failure::Silent
            | Failure::BadResponse(_)
            | Failure::Unasked(_)
            | Failure::Premature
            | Failure::BrokeOff(_) => Outcome::Broke,
        }
    }
}

/// What a client is told of a failed exchange, if it is still there.
#[derive(Debug)]
pub(super) enum Unserved {
    Reply(ErrorReply),
    Gone(String),
}

impl From<Failure> for Unserved {
    fn from(failure: Failure) -> Self {
        let (status, kind, message) = match failure {
            Failure::ClientGone(reason) => return Unserved::Gone(reason),
            Failure::Connect(fault) => match fault.kind {
                ConnectFaultKind::Refused => {
                    (502, "connection_refused", format!("no backend could be connected to: {}", fault.reason))
                }
                ConnectFaultKind::TimedOut => {
                    (504, "connection_timeout", "connecting to a backend timed out".to_owned())
                }
                ConnectFaultKind::Ours => {
                    (503, "proxy_internal_error", format!("LoadX could not open a connection: {}", fault.reason))
                }
            },
            Failure::Unanswered { reason, .. } => {
                (502, "connection_terminated", format!("the backend did not answer: {reason}"))
            }
            Failure::Silent => (504, "http_response_timeout", "the backend did not answer in time".to_owned()),
            Failure::BadResponse(fault) => {
                (502, "http_protocol_error", format!("the backend's response is not valid HTTP: {fault}"))
            }
            Failure::Unasked(what) => (502, "http_protocol_error", format!("the backend {what}")),
            Failure::Premature => (
                502,
                "http_protocol_error",
                "the backend spoke, or closed the connection, before it was asked".to_owned(),
            ),
            Failure::BrokeOff(reason) => {
                (502, "http_response_incomplete", format!("the backend's response broke off: {reason}"))
            }
            Failure::TookTooLong { limit, uploading } => {
                let message = format!("the exchange took longer than {} s", limit.as_secs_f64());
                if uploading { (408, "http_request_error", message) } else { (504, "http_response_timeout", message) }
            }
            Failure::ClientBody { status, reason } => (status, "http_request_error", reason),
        };
        Unserved::Reply(ErrorReply::new(status, kind, message))
    }
}

pub(super) fn no_backend(none: NoBackend) -> Unserved {
    let message = match none {
        NoBackend::NoneAdmitted => "no backend is in rotation",
        NoBackend::AllTried => "every backend in rotation was tried in vain",
    };
    Unserved::Reply(ErrorReply::new(503, "destination_unavailable", message))
}
