//! Handshakes: how many at a time, how they fail, and their common part.

use std::fmt;
use std::io::{ErrorKind, IoSlice};

use loadx_core::Time;
use rustls::{CommonState, Error, PeerIncompatible, ProtocolVersion};
use tokio::sync::Semaphore;

use super::facts::TlsFacts;
use super::session::{Processed, Records, Session, Step};
use super::stream::TlsStream;
use crate::io::{Broken, readable, write_all};
use crate::limits::{HANDSHAKES_PER_TURN, TLS_HELLO_READ_BYTES};
use crate::net::Stream;
use crate::patience::Patience;
use crate::timer::Timer;

/// Spreads the computations of handshakes, so that many of them at once do not delay the connections that are open.
#[derive(Debug)]
pub(crate) struct Handshakes {
    turn: Semaphore,
}

impl Handshakes {
    pub(crate) fn new() -> Self {
        Handshakes { turn: Semaphore::new(HANDSHAKES_PER_TURN) }
    }

    /// Runs `compute` when fewer than [`HANDSHAKES_PER_TURN`] computations have run since the runtime last served the
    /// other connections.
    async fn run<T>(&self, compute: impl FnOnce() -> T) -> T {
        // Nobody closes the semaphore.
        let _turn = self.turn.acquire().await;
        let result = compute();
        // The task goes on after the runtime has polled the system and has served what is ready.
        tokio::task::yield_now().await;
        result
    }
}

/// Why there is no connection inside TLS.
#[derive(Debug)]
pub(crate) enum HandshakeFault {
    /// The client sent something else than TLS. Whether that looks like a request of HTTP.
    NotTls { is_http: bool },
    /// The client asked for a name without a certificate.
    UnknownName(Option<Box<str>>),
    /// The client supports no key of the certificates for its name.
    NoCommonKey,
    /// The connection broke, or the client was too slow.
    Broken(Broken),
    /// The two sides do not agree.
    Tls(Error),
}

impl HandshakeFault {
    /// The reason in one word, for the counts.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            HandshakeFault::NotTls { .. } => "not_tls",
            HandshakeFault::UnknownName(_) => "unknown_name",
            HandshakeFault::NoCommonKey => "no_common_cipher",
            HandshakeFault::Broken(Broken::TimedOut) => "timeout",
            HandshakeFault::Broken(_) => "closed",
            HandshakeFault::Tls(error) => match error {
                Error::AlertReceived(_) => "refused_by_client",
                Error::NoCertificatesPresented
                | Error::InvalidCertificate(_)
                | Error::InvalidCertRevocationList(_)
                | Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
                    "client_certificate"
                }
                Error::NoApplicationProtocol => "no_common_protocol",
                Error::PeerIncompatible(
                    PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon,
                ) => "no_common_cipher",
                Error::PeerIncompatible(_) => "no_common_version",
                _ => "invalid",
            },
        }
    }
}

impl HandshakeFault {
    /// Whether the certificate of the peer is the reason.
    pub(crate) fn is_about_certificate(&self) -> bool {
        matches!(self, HandshakeFault::Tls(Error::InvalidCertificate(_) | Error::NoCertificatesPresented))
    }

    /// The reason as a text, where the peer is a backend.
    pub(crate) fn of_backend(&self) -> String {
        match self {
            HandshakeFault::Tls(Error::InvalidMessage(_)) => {
                format!("{self}; does the backend speak TLS on this port?")
            }
            fault => fault.to_string(),
        }
    }
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeFault::NotTls { is_http: true } => f.write_str("the client sent HTTP without TLS"),
            HandshakeFault::NotTls { is_http: false } => f.write_str("the client does not speak TLS"),
            HandshakeFault::UnknownName(Some(name)) => write!(f, "there is no certificate for {name:?}"),
            HandshakeFault::UnknownName(None) => f.write_str("there is no certificate for a client that names no host"),
            HandshakeFault::NoCommonKey => f.write_str("the client supports no key of the certificates for its name"),
            HandshakeFault::Broken(broken) => write!(f, "{broken}"),
            HandshakeFault::Tls(error) => write!(f, "{error}"),
        }
    }
}

/// Goes on with a handshake until `deadline`, which may become earlier during the wait. `received` are bytes that have
/// arrived already.
///
/// # Errors
/// [`HandshakeFault::Broken`] and [`HandshakeFault::Tls`]; the peer has got an alert if it speaks TLS.
pub(super) async fn complete<S: Stream>(
    stream: &S,
    mut session: Session,
    mut received: Vec<u8>,
    turns: &Handshakes,
    timer: &Timer,
    deadline: &impl Fn() -> Time,
) -> Result<Completed, HandshakeFault> {
    let mut records = Records::default();
    let mut content = Vec::new();
    loop {
        let step = turns.run(|| advance(&mut session, &mut received, &mut records, &mut content)).await;
        let is_done = matches!(step, Ok(Step::Ready));
        // The last records of TLS 1.3 (of a client its Finished, of a server the tickets) go out with the first content, in
        // one packet.
        if is_done && session.common().protocol_version() == Some(ProtocolVersion::TLSv1_3) {
            break;
        }
        if !records.is_empty() {
            let patience = Patience::total(deadline().since(timer.now()));
            let sent = write_all(stream, &mut [IoSlice::new(records.bytes())], timer, &patience, &mut 0).await;
            records.clear();
            if step.is_ok() {
                sent.map_err(HandshakeFault::Broken)?;
            }
        }
        match step {
            Ok(Step::Ready) => break,
            Ok(Step::Ended) => return Err(HandshakeFault::Broken(Broken::Closed)),
            Ok(_) => read_more(stream, &mut received, timer, deadline).await.map_err(HandshakeFault::Broken)?,
            Err(error) => return Err(HandshakeFault::Tls(error)),
        };
    }
    Ok(Completed { session, received, content, unsent: records.bytes().to_vec() })
}

/// A complete handshake.
pub(super) struct Completed {
    session: Session,
    /// Received bytes after the handshake.
    received: Vec<u8>,
    /// Received content.
    content: Vec<u8>,
    /// Records that have not been sent yet.
    unsent: Vec<u8>,
}

impl Completed {
    /// The stream to be, once it has the stream of the handshake. `facts` makes what is known of the connection.
    pub(super) fn with(self, facts: impl FnOnce(&CommonState) -> TlsFacts) -> Secured {
        Secured { facts: facts(self.session.common()), completed: self }
    }
}

/// The result of a handshake.
pub(crate) struct Secured {
    completed: Completed,
    facts: TlsFacts,
}

impl Secured {
    pub(crate) fn facts(&self) -> &TlsFacts {
        &self.facts
    }

    pub(super) fn common(&self) -> &CommonState {
        self.completed.session.common()
    }

    /// Ends TLS without content.
    pub(super) fn end(self, stream: &impl Stream) {
        let Completed { mut session, mut received, unsent, .. } = self.completed;
        let mut records = Records::default();
        // A peer that takes no bytes gets none.
        if session.encrypt(b"", true, &mut received, &mut records).is_ok() {
            let _ = stream.try_write(&[IoSlice::new(&unsent), IoSlice::new(records.bytes())]);
        }
    }

    /// The stream inside TLS, on the stream of the handshake.
    pub(crate) fn on<S: Stream>(self, stream: S) -> TlsStream<S> {
        let Secured { completed: Completed { session, received, content, unsent }, facts } = self;
        TlsStream::new(stream, session, facts, received, content, &unsent)
    }
}

pub(super) async fn read_more<S: Stream>(
    stream: &S,
    received: &mut Vec<u8>,
    timer: &Timer,
    deadline: impl Fn() -> Time,
) -> Result<(), Broken> {
    loop {
        readable(stream, timer, &deadline).await?;
        let mut chunk = [0; TLS_HELLO_READ_BYTES];
        match stream.try_read(&mut chunk) {
            Ok(0) => return Err(Broken::Closed),
            Ok(count) => {
                received.extend_from_slice(&chunk[..count]);
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(Broken::Failed(error)),
        }
    }
}

/// Goes on with the handshake as far as the received bytes go.
fn advance(
    session: &mut Session,
    received: &mut Vec<u8>,
    records: &mut Records,
    content: &mut Vec<u8>,
) -> Result<Step, Error> {
    loop {
        let Processed { used, step } = session.process(received, records, |bytes| content.extend_from_slice(bytes));
        received.drain(..used);
        match step {
            Ok(Step::Again) => {}
            Ok(step) => return Ok(step),
            Err(error) => {
                session.alert(received, records);
                return Err(error);
            }
        }
    }
}
