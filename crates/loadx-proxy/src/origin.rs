//! New connections to backends, and whose fault it is when there is none.

use std::io;
use std::sync::Arc;

use loadx_core::Backend;

use crate::context::Worker;
use crate::io::describe;
use crate::net::Network;

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

/// A new connection to `backend`, by the first of its addresses that answers. All of them share the
/// time for connecting, so that a silent one does not use up what the next needs.
pub(crate) async fn connect<N: Network>(worker: &Worker<N>, backend: &Backend) -> Result<N::Stream, ConnectFault> {
    let addresses = backend.addresses();
    let deadline = worker.clock.now() + worker.settings().timeouts.connect;
    let mut fault = ConnectFault { reason: "its name has no address".into(), kind: ConnectFaultKind::Refused };
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.since(worker.clock.now()) / (addresses.len() - index) as u32;
        match tokio::time::timeout(left, worker.net.connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
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
