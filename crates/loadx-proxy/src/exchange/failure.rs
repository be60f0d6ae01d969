//! Maps a broken connection or a fault in a body to the failure of an attempt.

use loadx_core::Failure;
use loadx_http::BodyFault;

use crate::io::Broken;
use crate::sides::RelayFault;

/// Whether LoadX had sent bytes of the request when the connection broke.
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

/// The failure when the backend's connection broke before the first byte of a response.
pub(super) fn unanswered(broken: &Broken, sent: Sent) -> Failure {
    match broken {
        Broken::TimedOut => Failure::Silent,
        broken => Failure::Unanswered { reason: broken.to_string(), unsent: sent == Sent::Nothing },
    }
}

/// The failure when the client's connection broke.
pub(super) fn client_gone(broken: &Broken) -> Failure {
    match broken {
        Broken::TimedOut => Failure::ClientGone("the client stopped reading".to_owned()),
        broken => Failure::ClientGone(format!("the client disconnected: {broken}")),
    }
}

/// The failure when the request body did not reach the backend.
pub(super) fn upload_failure(fault: RelayFault) -> Failure {
    match fault {
        RelayFault::Source(Broken::TimedOut) => {
            Failure::ClientBody { status: 408, reason: "the request body did not arrive in time".to_owned() }
        }
        RelayFault::Source(broken) => client_gone(&broken),
        RelayFault::Body(BodyFault::Incomplete) => {
            Failure::ClientGone("the client disconnected before the end of its request body".to_owned())
        }
        RelayFault::Body(fault) => {
            let status = if fault == BodyFault::TooLarge { 413 } else { 400 };
            Failure::ClientBody { status, reason: fault.as_str().to_owned() }
        }
        RelayFault::Sink(broken) => unanswered(&broken, Sent::Something),
    }
}
