//! Opens connections to backends, and classifies the failures.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::config::{BackendProtocol, BackendTransport};
use loadx_core::{Backend, ConnectFailure, ConnectFailureKind, Failure};

use crate::clock::Clock;
use crate::context::Worker;
use crate::io::{describe, is_silent, write_all};
use crate::limits::CONNECT_LOOK;
use crate::net::{Network, Stream as _, StreamOf, Transport};
use crate::patience::Patience;
use crate::shared::LocalPlan;
use crate::timer::Timer;
use crate::tls::{self, Handshakes, TlsBackends};
use crate::upstream::pool::Connection;

/// Opens a connection to `backend` for a request. Gives up when the backend leaves rotation, so that the request can go
/// to another backend. `proxy_header` is the header of the PROXY protocol, if the cluster has one.
///
/// # Errors
/// [`Failure::Connect`], or [`Failure::Premature`] if the backend sends bytes or closes before the request.
pub(crate) async fn connect<N: Network>(
    worker: &Worker<N>,
    target: (&LocalPlan, usize),
    backend: &Backend,
    proxy_header: Option<&[u8]>,
) -> Result<Connection<StreamOf<N>>, Failure> {
    let connection = establish(worker, target, backend, proxy_header).await.map_err(Failure::Connect)?;
    // Bytes before the request belong to no request (RFC 9112, section 9.2). Asks the system only if the runtime, whose
    // readiness is a hint, does not report silence.
    if !is_silent(&connection.stream) && !connection.stream.holds_nothing() {
        return Err(Failure::Premature);
    }
    Ok(connection)
}

/// As [`connect`], without a look whether the backend sends first.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn establish<N: Network>(
    worker: &Worker<N>,
    (plan, cluster): (&LocalPlan, usize),
    backend: &Backend,
    proxy_header: Option<&[u8]>,
) -> Result<Connection<StreamOf<N>>, ConnectFailure> {
    let slot = &plan.clusters[cluster];
    let dial = Dial {
        addresses: backend.addresses(),
        tls_name: backend.tls_name(),
        transport: &slot.transport,
        proxy_header,
        limit: slot.attempt.connect,
    };
    let dialler = Dialler {
        net: &worker.net,
        clock: worker.clock,
        tls: &worker.shared.tls_to_backends,
        handshakes: &worker.handshakes,
    };
    let mut connecting = pin!(dialler.open(&dial));
    loop {
        match tokio::time::timeout(CONNECT_LOOK, connecting.as_mut()).await {
            Ok(outcome) => return outcome,
            Err(_) if worker.view(plan, cluster).backends().iter().any(|other| other.id() == backend.id()) => {}
            Err(_) => return Err(timed_out()),
        }
    }
}

/// A connection to open.
pub(crate) struct Dial<'d> {
    /// The addresses of the backend, in the order to try.
    pub(crate) addresses: &'d [SocketAddr],
    /// The name that a certificate of the backend must have.
    pub(crate) tls_name: &'d str,
    pub(crate) transport: &'d Arc<BackendTransport>,
    /// The header of the PROXY protocol, if the transport has one.
    pub(crate) proxy_header: Option<&'d [u8]>,
    /// The longest time until the connection can carry a request.
    pub(crate) limit: Duration,
}

/// Opens connections to backends.
pub(crate) struct Dialler<'d, N> {
    pub(crate) net: &'d N,
    pub(crate) clock: Clock,
    pub(crate) tls: &'d TlsBackends,
    pub(crate) handshakes: &'d Handshakes,
}

impl<N: Network> Dialler<'_, N> {
    /// Opens a connection to the first address that accepts. The addresses share the limit, so that a silent address leaves
    /// time for the next.
    pub(crate) async fn open(&self, dial: &Dial<'_>) -> Result<Connection<StreamOf<N>>, ConnectFailure> {
        let deadline = self.clock.now() + dial.limit;
        let mut failures: Vec<(SocketAddr, ConnectFailure)> = Vec::new();
        for (index, address) in dial.addresses.iter().enumerate() {
            let left = deadline.since(self.clock.now()) / (dial.addresses.len() - index) as u32;
            match tokio::time::timeout(left, self.open_at(*address, dial)).await {
                Ok(Ok(stream)) => {
                    let transport = Arc::clone(dial.transport);
                    return Ok(Connection { stream, address: *address, transport, used_pipe: false });
                }
                Ok(Err(failure)) => failures.push((*address, failure)),
                Err(_) => failures.push((*address, timed_out())),
            }
        }
        Err(together(failures))
    }

    async fn open_at(&self, address: SocketAddr, dial: &Dial<'_>) -> Result<StreamOf<N>, ConnectFailure> {
        let stream = self.net.connect(address).await.map_err(|error| refused(&error))?;
        let timer = Timer::new(self.clock);
        if let Some(header) = dial.proxy_header {
            let patience = Patience::total(dial.limit);
            let sent = write_all(&stream, &mut [IoSlice::new(header)], &timer, &patience, &mut 0).await;
            sent.map_err(|broken| unusable(broken.to_string()))?;
        }
        if dial.transport.tls.is_none() {
            return Ok(Transport::Plain(stream));
        }
        // Control adds TLS of a plan before the plan.
        let Some(tls) = self.tls.of(dial.transport) else { return Err(unusable("its TLS is not set up".to_owned())) };
        let deadline = timer.now() + dial.limit;
        match tls::connect(&stream, &tls, dial.tls_name, self.handshakes, &timer, deadline).await {
            Ok(secured) if dial.transport.protocol == BackendProtocol::Http2 && !secured.facts().is_h2 => {
                let reason = "in the handshake of TLS it did not agree on HTTP/2 (\"protocol\" is h2)";
                Err(ConnectFailure { reason: reason.into(), kind: ConnectFailureKind::Tls })
            }
            Ok(secured) => Ok(Transport::Tls(Box::new(secured.on(stream)))),
            Err(fault) => {
                let kind = match fault.is_about_certificate() {
                    true => ConnectFailureKind::TlsCertificate,
                    false => ConnectFailureKind::Tls,
                };
                Err(ConnectFailure { reason: format!("TLS failed: {}", fault.of_backend()).into(), kind })
            }
        }
    }
}

/// The failures at all addresses of a backend as one. A fault of TLS counts most: another address may just not be there.
fn together(mut failures: Vec<(SocketAddr, ConnectFailure)>) -> ConnectFailure {
    let is_of_tls =
        |failure: &ConnectFailure| matches!(failure.kind, ConnectFailureKind::TlsCertificate | ConnectFailureKind::Tls);
    let main = failures.iter().position(|(_, failure)| is_of_tls(failure));
    let Some(kind) = main.or(failures.len().checked_sub(1)).map(|main| failures[main].1.kind) else {
        return ConnectFailure { reason: "its name has no address".into(), kind: ConnectFailureKind::Refused };
    };
    if failures.iter().all(|(_, failure)| failure.reason == failures[0].1.reason) {
        return ConnectFailure { kind, ..failures.swap_remove(0).1 };
    }
    let each: Vec<String> = failures.iter().map(|(address, failure)| format!("{address}: {failure}")).collect();
    ConnectFailure { reason: each.join("; ").into(), kind }
}

fn timed_out() -> ConnectFailure {
    ConnectFailure { reason: "timed out".into(), kind: ConnectFailureKind::TimedOut }
}

/// The backend accepts connections, but not such that a request could follow.
fn unusable(reason: String) -> ConnectFailure {
    ConnectFailure { reason: reason.into(), kind: ConnectFailureKind::Refused }
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
