//! Opens connections to backends, and classifies the failures.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use loadx_core::{Backend, ConnectFailure, ConnectFailureKind, Failure};

use crate::clock::Clock;
use crate::context::Worker;
use crate::io::{describe, is_silent};
use crate::limits::CONNECT_LOOK;
use crate::net::{Network, Stream as _, StreamOf, Transport};
use crate::shared::LocalPlan;
use crate::upstream::pool::Connection;

/// Opens a connection to `backend` for a request. Gives up when the backend leaves rotation, so that the request can go
/// to another backend.
///
/// # Errors
/// [`Failure::Connect`], or [`Failure::Premature`] if the backend sends bytes or closes before the request.
pub(crate) async fn connect<N: Network>(
    worker: &Worker<N>,
    target: (&LocalPlan, usize),
    backend: &Backend,
) -> Result<Connection<StreamOf<N>>, Failure> {
    let connection = establish(worker, target, backend).await.map_err(Failure::Connect)?;
    // Bytes before the request belong to no request (RFC 9112, section 9.2). Asks the system only if the runtime, whose
    // readiness is a hint, does not report silence.
    if !is_silent(&connection.stream) && !connection.stream.holds_nothing() {
        return Err(Failure::Premature);
    }
    Ok(connection)
}

async fn establish<N: Network>(
    worker: &Worker<N>,
    (plan, cluster): (&LocalPlan, usize),
    backend: &Backend,
) -> Result<Connection<StreamOf<N>>, ConnectFailure> {
    let limit = plan.clusters[cluster].attempt.connect;
    let mut connecting = pin!(connect_any(&worker.net, backend.addresses(), worker.clock, limit));
    loop {
        match tokio::time::timeout(CONNECT_LOOK, connecting.as_mut()).await {
            Ok(outcome) => return outcome,
            Err(_) if worker.view(plan, cluster).backends().iter().any(|other| other.id() == backend.id()) => {}
            Err(_) => return Err(ConnectFailure { reason: "timed out".into(), kind: ConnectFailureKind::TimedOut }),
        }
    }
}

/// Connects to the first of `addresses` that accepts. The addresses share `limit`, so that a silent address leaves time
/// for the next.
pub(crate) async fn connect_any<N: Network>(
    net: &N,
    addresses: &[SocketAddr],
    clock: Clock,
    limit: Duration,
) -> Result<Connection<StreamOf<N>>, ConnectFailure> {
    let deadline = clock.now() + limit;
    let mut failure = ConnectFailure { reason: "its name has no address".into(), kind: ConnectFailureKind::Refused };
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.since(clock.now()) / (addresses.len() - index) as u32;
        match tokio::time::timeout(left, net.connect(*address)).await {
            Ok(Ok(stream)) => return Ok(Connection { stream: Transport::Plain(stream), address: *address }),
            Ok(Err(error)) => failure = refused(&error),
            Err(_) => failure = ConnectFailure { reason: "timed out".into(), kind: ConnectFailureKind::TimedOut },
        }
    }
    Err(failure)
}

fn refused(error: &io::Error) -> ConnectFailure {
    use io::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::TimedOut => ConnectFailureKind::TimedOut,
        Kind::ConnectionRefused
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown => ConnectFailureKind::Refused,
        _ => ConnectFailureKind::Local,
    };
    ConnectFailure { reason: describe(error).into(), kind }
}
