//! New connections to backends, and whose fault it is when there is none.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::Backend;

use crate::clock::Clock;
use crate::context::Worker;
use crate::io::describe;
use crate::limits::CONNECT_LOOK;
use crate::net::Network;
use crate::pool::Connection;

/// Why no connection could be opened.
#[derive(Clone, Debug)]
pub(crate) struct ConnectFault {
    pub(crate) reason: Arc<str>,
    pub(crate) kind: ConnectFaultKind,
}

/// Whose fault it is that no connection could be opened.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectFaultKind {
    /// The backend's: it refused, or cannot be reached.
    Refused,
    /// The backend's: it did not answer in time.
    TimedOut,
    /// Ours: no ports, descriptors or memory. The backend must not suffer for it.
    Ours,
}

/// A new connection to `backend`. It is given up when the backend leaves rotation meanwhile: the
/// request then has better places to go than a queue that nobody serves.
pub(crate) async fn connect<N: Network>(
    worker: &Worker<N>,
    backend: &Backend,
) -> Result<Connection<N::Stream>, ConnectFault> {
    let limit = worker.settings().timeouts.connect;
    let mut connecting = pin!(connect_any(&worker.net, backend.addresses(), worker.clock, limit));
    loop {
        match tokio::time::timeout(CONNECT_LOOK, connecting.as_mut()).await {
            Ok(outcome) => return outcome,
            Err(_) if worker.view().backends().iter().any(|other| other.id() == backend.id()) => {}
            Err(_) => return Err(ConnectFault { reason: "timed out".into(), kind: ConnectFaultKind::TimedOut }),
        }
    }
}

/// A connection to the first of `addresses` that answers. All of them share the time, so that a silent
/// one does not use up what the next needs.
pub(crate) async fn connect_any<N: Network>(
    net: &N,
    addresses: &[SocketAddr],
    clock: Clock,
    limit: Duration,
) -> Result<Connection<N::Stream>, ConnectFault> {
    let deadline = clock.now() + limit;
    let mut fault = ConnectFault { reason: "its name has no address".into(), kind: ConnectFaultKind::Refused };
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.since(clock.now()) / (addresses.len() - index) as u32;
        match tokio::time::timeout(left, net.connect(*address)).await {
            Ok(Ok(stream)) => return Ok(Connection { stream, address: *address }),
            Ok(Err(error)) => fault = refused(&error),
            Err(_) => fault = ConnectFault { reason: "timed out".into(), kind: ConnectFaultKind::TimedOut },
        }
    }
    Err(fault)
}

fn refused(error: &io::Error) -> ConnectFault {
    use io::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::TimedOut => ConnectFaultKind::TimedOut,
        Kind::ConnectionRefused
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown => ConnectFaultKind::Refused,
        _ => ConnectFaultKind::Ours,
    };
    ConnectFault { reason: describe(error).into(), kind }
}
