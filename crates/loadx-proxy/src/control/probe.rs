//! One health probe: a GET on a connection of its own.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use loadx_core::config::BackendTransport;
use loadx_core::{ConnectFailureKind, Evidence, HealthPolicy, Observation, Probe};
use loadx_http::{BodyDecoder, FieldSlots, Framing, Parsed, parse_response};

use crate::buffers::{Buffers, Input};
use crate::clock::Clock;
use crate::io::write_all;
use crate::io::{Waiting, fill};
use crate::net::{Network, Stream, StreamOf};
use crate::patience::Patience;
use crate::proxy_protocol;
use crate::shared::Shared;
use crate::timer::Timer;
use crate::tls::Handshakes;
use crate::upstream::connect::{Dial, Dialler};

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
                Probe::Get { path, accepts } => self.ask(net, path).await.map(|status| match accepts.status(status) {
                    true => Evidence::ProbePassed { status },
                    false => Evidence::ProbeFailed { reason: format!("GET {path} answered {status}").into() },
                }),
            }
        };
        let evidence = match tokio::time::timeout(self.policy.timeout, work).await {
            Ok(Ok(evidence)) => evidence,
            Ok(Err(ProbeFailure::Backend(reason))) => Evidence::ProbeFailed { reason: reason.into() },
            Ok(Err(ProbeFailure::Local(reason))) => {
                tracing::debug!("backend {} cannot be probed: {reason}", self.authority);
                Evidence::ProbeImpossible { reason: reason.into() }
            }
            Err(_) => {
                let limit = self.policy.timeout.as_secs_f64();
                Evidence::ProbeFailed { reason: format!("no answer within {limit} s").into() }
            }
        };
        Observation { began, evidence }
    }

    /// The status of the backend's answer, or what went wrong.
    async fn ask<N: Network>(&self, net: &N, path: &str) -> Result<u16, ProbeFailure> {
        let stream = self.connect(net).await?;
        let timer = Timer::new(self.clock);
        let buffers = Rc::<Buffers>::default();
        let waiting = Waiting { timer: &timer, buffers: &buffers };
        let patience = Patience::total(self.policy.timeout);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: LoadX-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.authority
        );
        write_all(&stream, &mut [IoSlice::new(request.as_bytes())], &timer, &patience, &mut 0)
            .await
            .map_err(|broken| ProbeFailure::Backend(broken.to_string()))?;
        let mut input = Input::default();
        loop {
            if let Some((status, framing)) = read_head(&mut input).map_err(ProbeFailure::Backend)? {
                drain(&stream, &mut input, framing, waiting, &patience).await;
                return Ok(status);
            }
            let count = fill(&stream, &mut input, waiting, &patience).await;
            match count.map_err(|broken| ProbeFailure::Backend(broken.to_string()))? {
                0 => return Err(ProbeFailure::Backend("the connection closed without an answer".to_owned())),
                _ => continue,
            }
        }
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
            ConnectFailureKind::Refused
            | ConnectFailureKind::TimedOut
            | ConnectFailureKind::TlsCertificate
            | ConnectFailureKind::Tls => ProbeFailure::Backend(fault.reason.to_string()),
        });
        connected.map(|connection| connection.stream)
    }
}

/// Why a probe got no answer.
enum ProbeFailure {
    /// The backend is to blame.
    Backend(String),
    /// LoadX lacks what a probe takes: ports, file descriptors, memory.
    Local(String),
}

fn read_head(input: &mut Input) -> Result<Option<(u16, Framing)>, String> {
    loop {
        let mut slots = FieldSlots::new();
        if input.is_empty() {
            return Ok(None);
        }
        let parsed = parse_response(input.bytes(), false, &mut slots);
        let Parsed::Complete(response, length) = parsed.map_err(|fault| format!("not valid HTTP: {fault}"))? else {
            return Ok(None);
        };
        let (status, framing, interim) = (response.status(), response.framing(), response.is_interim());
        input.consume(length);
        if !interim {
            return Ok(Some((status, framing)));
        }
    }
}

/// Takes the body off the connection where it is here already or soon, so that closing does not look
/// like an abort to the backend. The verdict does not depend on it.
async fn drain<S: Stream>(stream: &S, input: &mut Input, framing: Framing, waiting: Waiting<'_>, patience: &Patience) {
    const BODY_BYTES_MAX: usize = 64 * 1024;
    let mut decoder = BodyDecoder::new(framing);
    let mut left = BODY_BYTES_MAX;
    while framing != Framing::UntilClose && left > 0 {
        let Ok(decoded) = decoder.decode(input.bytes_mut()) else { return };
        input.consume(decoded.consumed);
        left = left.saturating_sub(decoded.consumed);
        if decoder.is_complete() {
            return;
        }
        match fill(stream, input, waiting, patience).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
