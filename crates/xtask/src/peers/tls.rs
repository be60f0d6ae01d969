//! HTTPS: requests, handshakes and large responses under the load of wrk, resumed handshakes and memory under a client of
//! this program.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use super::PeersArguments;
use super::contender::Contender;
use super::lab::{LOAD_PROCESSOR, Lab, Running, Stage};
use super::report::{Budget, Column, Comparison, HEADER, Sample, Spread};
use super::wrk::{Counted, Pattern, wrk};
use crate::Trouble;
use crate::processes;

/// The name in the certificates; wrk asks for the name of its URL.
pub(super) const NAME: &str = "localhost";

/// The number of idle connections for the measurement of memory.
const HELD: usize = 4_000;

/// What the contenders and the clients need.
pub(super) struct Identity {
    /// The certificate and its key (ECDSA, P-256) in one file.
    pub(super) pem: PathBuf,
    client: Arc<ClientConfig>,
}

/// An authority that the clients trust.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub(super) fn new() -> Result<Self, Trouble> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Authority { issuer: Issuer::new(params, key), certificate })
    }

    /// A certificate for a name and its key, in the PEM format.
    pub(super) fn issue(&self, name: &str) -> Result<String, Trouble> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.issuer)?;
        Ok(certificate.pem() + &key.serialize_pem())
    }
}

impl Identity {
    pub(super) fn new(lab: &Lab, authority: &Authority) -> Result<Self, Trouble> {
        let pem = lab.file("identity.pem");
        std::fs::write(&pem, authority.issue(NAME)?)?;
        Ok(Identity { pem, client: Arc::new(client(authority.certificate.clone())?) })
    }

    /// The certificate that a client gets that asks for this name.
    pub(super) fn shown(&self, address: SocketAddr, name: &str) -> io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.client), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let chain = connection.peer_certificates().unwrap_or_default();
        Ok(chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default())
    }

    /// Opens a connection inside TLS. The handshake comes with the first write.
    fn connect(&self, address: SocketAddr) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.client), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, socket))
    }

    /// Sends a request, and reads until the connection ends or the response of the small page is there.
    fn ask(&self, address: SocketAddr, closes: bool) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut stream = self.connect(address)?;
        let connection = if closes { "Connection: close\r\n" } else { "" };
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n{connection}\r\n").as_bytes())?;
        let mut response = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk)?;
            response.extend_from_slice(&chunk[..count]);
            let is_whole =
                response.windows(4).position(|end| end == b"\r\n\r\n").is_some_and(|at| response.len() > at + 4);
            if count == 0 || (is_whole && !closes) {
                break;
            }
        }
        match response.starts_with(b"HTTP/1.1 200") {
            true => Ok(stream),
            false => Err(io::Error::other(String::from_utf8_lossy(&response).into_owned())),
        }
    }

    /// Waits until a request is answered with 200.
    pub(super) fn wait_until_serving(&self, address: SocketAddr) -> io::Result<()> {
        let began = Instant::now();
        loop {
            let outcome = self.ask(address, true).map(drop);
            if outcome.is_ok() || began.elapsed() > Duration::from_secs(10) {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn client(authority: CertificateDer<'static>) -> Result<ClientConfig, Trouble> {
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One load.
pub(super) struct Load {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) run: Run,
    /// The largest allowed ratio of LoadX's CPU to nginx's.
    pub(super) budget: Option<f64>,
}

/// Loads a contender at this address for this long.
type Run = Box<dyn Fn(&Identity, SocketAddr, Duration) -> Result<Counted, Trouble>>;

fn loads() -> Vec<Load> {
    let load = |name: &str, about: &str, run: Run, budget| Load { name: name.into(), about: about.into(), run, budget };
    let wrk_of = |path: &'static str, connections, closes| -> Run {
        Box::new(move |_, address, span| wrk("https", address, path, &Pattern::new(connections, closes), span))
    };
    vec![
        load("tls-small", "13 bytes, keep-alive, 64 connections", wrk_of("/", 64, false), Some(0.85)),
        load(
            "tls-handshake",
            "a full handshake (TLS 1.3, ECDSA P-256) per request, 64 at a time",
            wrk_of("/", 64, true),
            Some(0.70),
        ),
        load("tls-resumed", "a resumed handshake per request, one at a time", Box::new(resumed), None),
        load("tls-64k", "64 KiB responses, 16 connections", wrk_of("/bytes/65536", 16, false), None),
        load("tls-1m", "1 MiB responses, 8 connections", wrk_of("/bytes/1048576", 8, false), Some(0.85)),
    ]
}

pub(super) fn tls(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let identity = Identity::new(lab, &Authority::new()?)?;
    let contenders = contenders(lab);
    let start = |contender: &Contender| lab.start_tls(contender, &Stage::USUAL, &identity);
    let mut table = compare(arguments, &identity, &loads(), &contenders, &start)?;
    let _ = write!(
        table,
        "\n| idle TLS connection, of {HELD} | resident memory, bytes | LoadX's / the proxy's |\n|---|---|---|\n"
    );
    let mut ours = None;
    for contender in &contenders {
        let turns = (0..arguments.rounds.min(3)).map(|_| idle(lab, contender, &identity));
        let median = Spread::of(turns.collect::<Result<Vec<f64>, _>>()?.into_iter()).median;
        let ours = *ours.get_or_insert(median);
        let _ = writeln!(table, "| {} | {median:.0} | {:.2} |", contender.name(), ours / median);
    }
    Ok(table)
}

pub(super) fn contenders(lab: &Lab) -> Vec<Contender> {
    let mut peers = vec![Contender::Nginx, Contender::Haproxy(16)];
    peers.extend(Contender::envoy());
    lab.contenders(&peers)
}

/// Measures these contenders, which `start` starts, under these loads.
pub(super) fn compare(
    arguments: &PeersArguments,
    identity: &Identity,
    loads: &[Load],
    contenders: &[Contender],
    start: &dyn Fn(&Contender) -> Result<Running, Trouble>,
) -> Result<String, Trouble> {
    let span = Duration::from_secs_f64(arguments.seconds);
    let mut table = HEADER.to_owned();
    for load in loads {
        let column = |contender: &Contender| Column::new(contender.name());
        let mut columns: Vec<Column> = contenders.iter().map(column).collect();
        for _ in 0..arguments.rounds {
            for (contender, column) in contenders.iter().zip(&mut columns) {
                let running = start(contender)?;
                column.by_wrk.push(turn(load, identity, &running, span)?);
            }
        }
        let budget = load.budget.map(|most| Budget::new(&[Contender::Nginx], most)).into_iter().collect();
        let comparison = Comparison { case: load.name.clone(), about: load.about.clone(), columns, budget };
        table.push_str(&comparison.rows());
    }
    Ok(table)
}

/// Measures one contender under one load.
fn turn(load: &Load, identity: &Identity, running: &Running, span: Duration) -> Result<Sample, Trouble> {
    // Opens the connections to the backends.
    (load.run)(identity, running.address, Duration::from_millis(500))?;
    let (used, began) = (running.process.used(), Instant::now());
    let Counted { done, errors } = (load.run)(identity, running.address, span)?;
    let used = running.process.used().since(used);
    Ok(Sample::new(used, done, began.elapsed(), errors))
}

/// Full handshakes; returns their number.
pub(super) fn handshakes(address: SocketAddr, span: Duration) -> Result<u64, Trouble> {
    let churn = Pattern::new(64, true);
    Ok(wrk("https", address, "/", &churn, span)?.done)
}

/// One connection after the other, each of which resumes the session of the former.
fn resumed(identity: &Identity, address: SocketAddr, span: Duration) -> Result<Counted, Trouble> {
    let client = std::thread::scope(|scope| {
        let client = scope.spawn(|| -> io::Result<Counted> {
            processes::pin(LOAD_PROCESSOR)?;
            let mut counted = Counted { done: 0, errors: 0 };
            let began = Instant::now();
            while began.elapsed() < span {
                let stream = identity.ask(address, true)?;
                match stream.conn.handshake_kind() {
                    Some(HandshakeKind::Resumed) => counted.done += 1,
                    // The first connection has nothing to resume.
                    _ => counted.errors += u64::from(counted.done > 0),
                }
            }
            Ok(counted)
        });
        client.join()
    });
    Ok(client.map_err(|_| "the client panicked")??)
}

/// The memory that a contender holds for each connection that sent one request and is idle, in bytes.
fn idle(lab: &Lab, contender: &Contender, identity: &Identity) -> Result<f64, Trouble> {
    let running = lab.start_tls(contender, &Stage::USUAL, identity)?;
    // Excludes the memory that the first requests allocate once.
    for _ in 0..64 {
        identity.ask(running.address, true)?;
    }
    std::thread::sleep(Duration::from_millis(500));
    let before = running.process.resident();
    let held = (0..HELD).map(|_| identity.ask(running.address, false)).collect::<io::Result<Vec<_>>>()?;
    // Long enough for programs that free memory after a delay.
    std::thread::sleep(Duration::from_secs(2));
    let after = running.process.resident();
    Ok((after as f64 - before as f64) / held.len() as f64)
}
