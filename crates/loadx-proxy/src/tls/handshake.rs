//! The handshake with a client.

use std::fmt;
use std::io::{ErrorKind, IoSlice};

use loadx_core::Time;
use rustls::server::{Accepted, Acceptor, UnbufferedServerConnection};
use rustls::{AlertDescription, Error, PeerIncompatible};
use tokio::sync::Semaphore;

use super::facts::TlsFacts;
use super::server::ServerTls;
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

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeFault::NotTls { is_http: true } => f.write_str("the client sent HTTP without TLS"),
            HandshakeFault::NotTls { is_http: false } => f.write_str("the client does not speak TLS"),
            HandshakeFault::UnknownName(Some(name)) => write!(f, "there is no certificate for {name:?}"),
            HandshakeFault::UnknownName(None) => f.write_str("there is no certificate for a client that names no host"),
            HandshakeFault::Broken(broken) => write!(f, "{broken}"),
            HandshakeFault::Tls(error) => write!(f, "{error}"),
        }
    }
}

/// Makes the stream of a client one inside TLS, until `deadline`, which may become earlier during the wait. After an error
/// the caller closes the stream.
///
/// # Errors
/// Any [`HandshakeFault`]; the client has got an alert if it speaks TLS.
pub(crate) async fn accept<S: Stream>(
    stream: &S,
    tls: &ServerTls,
    turns: &Handshakes,
    timer: &Timer,
    deadline: &impl Fn() -> Time,
) -> Result<Secured, HandshakeFault> {
    let mut received = Vec::new();
    let hello = read_hello(stream, &mut received, timer, deadline).await?;
    let local = stream.local_addr().ok().map(|address| address.ip());
    let (name, choice) = {
        let hello = hello.client_hello();
        (hello.server_name().map(|name| name.to_ascii_lowercase().into_boxed_str()), tls.choose(&hello, local))
    };
    drop(hello);
    let Some((config, identity)) = choice else {
        let alert = plain_alert(AlertDescription::UnrecognisedName);
        let _ = stream.try_write(&[IoSlice::new(&alert)]);
        return Err(HandshakeFault::UnknownName(name));
    };
    let connection = UnbufferedServerConnection::new(config).map_err(HandshakeFault::Tls)?;
    let mut session = Session::Server(connection);
    let mut records = Records::default();
    let mut content = Vec::new();
    loop {
        let step = turns.run(|| advance(&mut session, &mut received, &mut records, &mut content)).await;
        let is_done = matches!(step, Ok(Step::Ready));
        // The tickets of TLS 1.3 go out with the first response, in one packet.
        if is_done && session.common().protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
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
    let facts = TlsFacts::new(session.common(), name, Some(identity));
    Ok(Secured { session, facts, received, content, unsent: records.bytes().to_vec() })
}

/// The result of a handshake.
#[derive(Debug)]
pub(crate) struct Secured {
    session: Session,
    facts: TlsFacts,
    /// Received bytes after the handshake.
    received: Vec<u8>,
    /// Received content.
    content: Vec<u8>,
    /// Records that have not been sent yet.
    unsent: Vec<u8>,
}

impl Secured {
    pub(crate) fn facts(&self) -> &TlsFacts {
        &self.facts
    }

    /// The stream inside TLS, on the stream of the handshake.
    pub(crate) fn on<S: Stream>(self, stream: S) -> TlsStream<S> {
        let Secured { session, facts, received, content, unsent } = self;
        TlsStream::new(stream, session, facts, received, content, &unsent)
    }
}

/// Reads the first message of the client into `received`.
async fn read_hello<S: Stream>(
    stream: &S,
    received: &mut Vec<u8>,
    timer: &Timer,
    deadline: &impl Fn() -> Time,
) -> Result<Accepted, HandshakeFault> {
    const HANDSHAKE_RECORD: u8 = 22;
    let mut acceptor = Acceptor::default();
    loop {
        let start = received.len();
        read_more(stream, received, timer, deadline).await.map_err(HandshakeFault::Broken)?;
        if received.first() != Some(&HANDSHAKE_RECORD) {
            let is_http = received.first().is_some_and(u8::is_ascii_uppercase);
            return Err(HandshakeFault::NotTls { is_http });
        }
        let mut unread = &received[start..];
        while !unread.is_empty() {
            // Reading from memory fails only if the message is too long.
            if acceptor.read_tls(&mut unread).is_err() {
                return Err(HandshakeFault::Tls(Error::General("the first message is too long".into())));
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => return Ok(accepted),
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    // Writing to memory cannot fail.
                    let _ = alert.write_all(&mut bytes);
                    let _ = stream.try_write(&[IoSlice::new(&bytes)]);
                    return Err(HandshakeFault::Tls(error));
                }
            }
        }
    }
}

async fn read_more<S: Stream>(
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

/// An alert before any keys are known (RFC 8446, section 6).
fn plain_alert(description: AlertDescription) -> [u8; 7] {
    const FATAL: u8 = 2;
    [21, 3, 1, 0, 2, FATAL, description.into()]
}
