//! From what went wrong on a connection to the failure of an attempt.

use loadx_core::Failure;
use loadx_http::BodyFault;

use crate::io::Broken;
use crate::sides::RelayFault;

/// How much of the request had left when the connection broke.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Nothing,
    Something,
}

impl Sent {
    pub(super) fn of_bytes(written: u64) -> Self {
        if written == 0 { Sent::Nothing } else { Sent::Something }
    }
}

/// The backend's connection broke before the first byte of a response.
pub(super) fn unanswered(broken: &Broken, sent: Sent) -> Failure {
    match broken {
        Broken::TimedOut => Failure::Silent,
        broken => Failure::Unanswered { reason: broken.to_string(), unsent: sent == Sent::Nothing },
    }
}

/// The client's connection broke.
pub(super) fn client_gone(broken: &Broken) -> Failure {
    match broken {
        Broken::TimedOut => Failure::ClientGone("the client stopped reading".to_owned()),
        broken => Failure::ClientGone(format!("the client left: {broken}")),
    }
}

/// The request's body did not reach the backend.
pub(super) fn upload_failure(fault: RelayFault) -> Failure {
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
        RelayFault::Sink(broken) => unanswered(&broken, Sent::Something),
    }
}
