//! TLS for clients and origins of the simulation: a task between their HTTP and the network, which uses rustls as other
//! programs do and shares no code with LoadX.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use loadx_proxy::{Identity, Keyring, Stream as _};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use crate::network::SimNet;
use crate::stream::SimStream;

/// The host of the requests, and the name of the certificates.
const NAME: &str = "sim";

/// The most bytes that wait in one direction.
const PENDING_MAX: usize = 16 * 1024;

/// The settings of the clients and origins of one run.
#[derive(Clone)]
pub(crate) struct SimTls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    pem: Arc<str>,
}

impl SimTls {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
        let pem = certificate.pem() + &key.serialize_pem();
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(chain[0].clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap())
            .unwrap();
        SimTls { client: Arc::new(client), server: Arc::new(server), pem: pem.into() }
    }

    /// The certificate of LoadX.
    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        let keyring = Arc::<Keyring>::default();
        let identity = Identity::from_pem(self.pem.as_bytes(), self.pem.as_bytes()).unwrap();
        keyring.replace(vec![Arc::new(identity)]);
        keyring
    }

    /// The stream inside TLS of a client whose connection is `stream`.
    pub(crate) fn of_client(&self, net: &SimNet, stream: SimStream) -> SimStream {
        let name = ServerName::try_from(NAME).unwrap();
        start(net, stream, ClientConnection::new(Arc::clone(&self.client), name).unwrap().into())
    }

    /// The stream inside TLS of an origin whose connection is `stream`.
    pub(crate) fn of_origin(&self, net: &SimNet, stream: SimStream) -> SimStream {
        start(net, stream, ServerConnection::new(Arc::clone(&self.server)).unwrap().into())
    }
}

fn start(net: &SimNet, outer: SimStream, tls: Connection) -> SimStream {
    let local = outer.local_addr().unwrap();
    let [inner, content] = net.pair([local, SocketAddr::from(([10, 0, 3, 0], 0))]);
    tokio::task::spawn_local(
        Pump { outer, inner, tls, sealed: Vec::new(), opened: Vec::new(), ends: Ends::default() }.run(),
    );
    content
}

/// Moves bytes between the network and the stream inside TLS.
struct Pump {
    outer: SimStream,
    inner: SimStream,
    tls: Connection,
    /// Records for the network.
    sealed: Vec<u8>,
    /// Content for the stream inside TLS.
    opened: Vec<u8>,
    ends: Ends,
}

#[derive(Default)]
struct Ends {
    /// Whether the direction from the network has ended, and whether the stream inside knows.
    incoming: bool,
    told_inner: bool,
    /// Whether the stream inside has ended its direction, and whether the network knows.
    outgoing: bool,
    told_outer: bool,
}

/// The connection broke.
struct Broke;

impl Pump {
    async fn run(mut self) {
        let broke = poll_fn(|cx| {
            loop {
                match self.step() {
                    Ok(true) => continue,
                    Ok(false) if self.ends.told_inner && self.ends.told_outer => return Poll::Ready(false),
                    Ok(false) => {}
                    Err(Broke) => return Poll::Ready(true),
                }
                let takes_more = self.opened.len() < PENDING_MAX && !self.ends.incoming;
                let gives_more = self.sealed.len() < PENDING_MAX && !self.ends.outgoing && !self.tls.is_handshaking();
                let is_ready = (takes_more && self.outer.poll_readable(cx).is_ready())
                    | (gives_more && self.inner.poll_readable(cx).is_ready())
                    | (!self.sealed.is_empty() && self.outer.poll_writable(cx).is_ready())
                    | (!self.opened.is_empty() && self.inner.poll_writable(cx).is_ready());
                // Readiness may be spurious, and the next step may move nothing: then another task has its turn.
                if is_ready {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        })
        .await;
        if broke {
            self.outer.break_off();
            self.inner.break_off();
        }
    }

    /// Moves what can be moved now. Returns whether something moved.
    fn step(&mut self) -> Result<bool, Broke> {
        let mut moved = self.take()? | self.give()?;
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).map_err(|_| Broke)?;
        }
        self.sealed.append(&mut records);
        moved |= push(&self.outer, &mut self.sealed)? | push(&self.inner, &mut self.opened)?;
        if self.ends.incoming && self.opened.is_empty() && !std::mem::replace(&mut self.ends.told_inner, true) {
            self.inner.shut_write();
            moved = true;
        }
        if self.ends.outgoing && self.sealed.is_empty() && !std::mem::replace(&mut self.ends.told_outer, true) {
            self.outer.shut_write();
            moved = true;
        }
        Ok(moved)
    }

    /// Takes records of the network.
    fn take(&mut self) -> Result<bool, Broke> {
        if self.ends.incoming || self.opened.len() >= PENDING_MAX {
            return Ok(false);
        }
        let mut chunk = [0; 4096];
        let count = match self.outer.try_read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Err(Broke),
        };
        let mut unread = &chunk[..count];
        loop {
            self.tls.read_tls(&mut unread).map_err(|_| Broke)?;
            let state = self.tls.process_new_packets().map_err(|_| Broke)?;
            match self.tls.reader().read_to_end(&mut self.opened) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The end without close_notify: a truncation.
                Err(_) => return Err(Broke),
            }
            self.ends.incoming |= state.peer_has_closed();
            if unread.is_empty() {
                break;
            }
        }
        if count == 0 && !self.ends.incoming {
            return Err(Broke);
        }
        Ok(true)
    }

    /// Takes content of the stream inside TLS.
    fn give(&mut self) -> Result<bool, Broke> {
        if self.ends.outgoing || self.sealed.len() >= PENDING_MAX || self.tls.is_handshaking() {
            return Ok(false);
        }
        let mut chunk = [0; 4096];
        match self.inner.try_read(&mut chunk) {
            Ok(0) => {
                self.ends.outgoing = true;
                self.tls.send_close_notify();
            }
            Ok(count) => self.tls.writer().write_all(&chunk[..count]).map_err(|_| Broke)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Err(Broke),
        }
        Ok(true)
    }
}

/// Writes what the stream takes.
fn push(stream: &SimStream, bytes: &mut Vec<u8>) -> Result<bool, Broke> {
    if bytes.is_empty() {
        return Ok(false);
    }
    match stream.try_write(&[IoSlice::new(bytes)]) {
        Ok(count) => {
            bytes.drain(..count);
            Ok(count > 0)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(_) => Err(Broke),
    }
}
