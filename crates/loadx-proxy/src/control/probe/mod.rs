//! One health probe, on a connection of its own.

mod grpc;
mod http;
mod http1;
mod http2;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use loadx_core::config::{BackendProtocol, BackendTransport};
use loadx_core::{ConnectFailureKind, Evidence, HealthPolicy, HttpProbe, Observation, Probe, ProbeMethod};

use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::io::Waiting;
use crate::net::{Network, Stream, StreamOf};
use crate::patience::Patience;
use crate::proxy_protocol;
use crate::shared::Shared;
use crate::timer::Timer;
use crate::tls::Handshakes;
use crate::upstream::connect::{Dial, Dialler};

use http2::{Request, Response};

/// What asking takes.
struct Asking<'a> {
    waiting: Waiting<'a>,
    patience: &'a Patience,
}

/// What a probe needs to know.
pub(super) struct ProbeRun {
    pub(super) clock: Clock,
    pub(super) policy: Arc<HealthPolicy>,
    pub(super) authority: String,
    pub(super) addresses: Arc<[SocketAddr]>,
    /// The name that a certificate of the backend must have.
    pub(super) tls_name: Arc<str>,
    pub(super) transport: Arc<BackendTransport>,
    pub(super) handshakes: Rc<Handshakes>,
    pub(super) shared: Arc<Shared>,
}

impl ProbeRun {
    /// Probes, within the policy's time.
    pub(super) async fn run<N: Network>(&self, net: &N) -> Observation {
        let began = self.clock.now();
        let work = async {
            match &self.policy.probe {
                // Without probes none is due; a connection is then as good an answer as any.
                Probe::Connect | Probe::Off => self.connect(net).await.map(|_| Evidence::ProbePassed { status: 0 }),
                Probe::Http(probe) => self.request(net, probe).await.map(|answer| http::judge(probe, &answer)),
                Probe::Grpc { service } => self.check(net, service).await.map(|health| match health {
                    Ok(()) => Evidence::ProbePassed { status: 200 },
                    Err(reason) => Evidence::ProbeFailed { reason: reason.into() },
                }),
            }
        };
        let evidence = match tokio::time::timeout(self.policy.timeout, work).await {
            Ok(Ok(evidence)) => evidence,
            Ok(Err(ProbeFailure::Silent(reason))) => Evidence::ProbeTimedOut { reason: reason.into() },
            Ok(Err(ProbeFailure::Backend(reason))) => Evidence::ProbeFailed { reason: reason.into() },
            Ok(Err(ProbeFailure::Local(reason))) => {
                tracing::debug!("backend {} cannot be probed: {reason}", self.authority);
                Evidence::ProbeImpossible { reason: reason.into() }
            }
            Err(_) => {
                let limit = self.policy.timeout.as_secs_f64();
                Evidence::ProbeTimedOut { reason: format!("no answer within {limit} s").into() }
            }
        };
        Observation { began, evidence }
    }

    /// The backend's answer to the request of a probe, or what went wrong.
    async fn request<N: Network>(&self, net: &N, probe: &HttpProbe) -> Result<http::Answer, ProbeFailure> {
        let stream = self.connect(net).await?;
        let head = http::head(probe, &self.authority, !self.is_h2());
        let request = http::Request { head: &head, method: probe.method, needs_content: probe.content.is_some() };
        let answer = match self.is_h2() {
            false => self.asking(async |asking| http1::ask(&stream, asking, request).await).await,
            true => {
                let to_head = probe.method == ProbeMethod::Head;
                self.ask_over_h2(&stream, &head, to_head, b"").await.map(http::Answer::from)
            }
        };
        answer.map_err(ProbeFailure::Backend)
    }

    /// What the health check of gRPC says of a service, or what went wrong.
    async fn check<N: Network>(&self, net: &N, service: &str) -> Result<Result<(), String>, ProbeFailure> {
        let stream = self.connect(net).await?;
        let response = self.ask_over_h2(&stream, &grpc::head(&self.authority), false, &grpc::content(service)).await;
        response.map(|response| grpc::judge(service, &response)).map_err(ProbeFailure::Backend)
    }

    async fn ask_over_h2<S: Stream>(
        &self,
        stream: &S,
        head: &str,
        to_head: bool,
        content: &[u8],
    ) -> Result<Response, String> {
        let scheme: &[u8] = if self.transport.tls.is_some() { b"https" } else { b"http" };
        let request = Request { head, scheme, to_head, content };
        self.asking(async |asking| http2::ask(stream, asking, request).await).await
    }

    /// Calls `ask` with what asking takes.
    async fn asking<T>(&self, ask: impl AsyncFnOnce(&Asking<'_>) -> T) -> T {
        let (timer, buffers) = (Timer::new(self.clock), Rc::<Buffers>::default());
        // The time of the whole probe ends first, and tells that nothing came.
        let patience = Patience::total(self.policy.timeout * 2);
        ask(&Asking { waiting: Waiting { timer: &timer, buffers: &buffers }, patience: &patience }).await
    }

    fn is_h2(&self) -> bool {
        self.transport.protocol == BackendProtocol::Http2
    }

    async fn connect<N: Network>(&self, net: &N) -> Result<StreamOf<N>, ProbeFailure> {
        let header = self.transport.proxy_protocol.map(proxy_protocol::local_header);
        let dial = Dial {
            addresses: &self.addresses,
            tls_name: &self.tls_name,
            transport: &self.transport,
            proxy_header: header.as_deref(),
            limit: self.policy.timeout,
        };
        let tls = &self.shared.tls_to_backends;
        let dialler = Dialler { net, clock: self.clock, tls, handshakes: &self.handshakes };
        let connected = dialler.open(&dial).await.map_err(|fault| match fault.kind {
            ConnectFailureKind::Local => ProbeFailure::Local(fault.reason.to_string()),
            ConnectFailureKind::TimedOut => ProbeFailure::Silent(fault.reason.to_string()),
            ConnectFailureKind::Refused | ConnectFailureKind::TlsCertificate | ConnectFailureKind::Tls => {
                ProbeFailure::Backend(fault.reason.to_string())
            }
        });
        connected.map(|connection| connection.stream)
    }
}

/// Why a probe got no answer.
enum ProbeFailure {
    /// The backend is to blame.
    Backend(String),
    /// Nothing came from the backend in time.
    Silent(String),
    /// LoadX lacks what a probe takes: ports, file descriptors, memory.
    Local(String),
}
