//! The validated config: every value is present and in range.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{ClientRules, LogField, LogFormat};
use crate::route::Route;
use crate::{Algorithm, AttemptPolicy, BackendSpec, HealthPolicy, HedgePolicy, LimitPolicy};

/// The validated config.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The addresses on which LoadX accepts connections.
    pub listeners: Vec<ListenerConfig>,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
    /// The clusters.
    pub clusters: Vec<ClusterConfig>,
    /// The number of worker threads; `None` means one for each processor that the process may use.
    pub workers: Option<usize>,
    /// The largest number of client connections at the same time, over all workers.
    pub max_connections: usize,
    /// The most bytes of memory that the process may use; `None` for the limit of its control group alone.
    pub memory_max: Option<u64>,
    /// The largest number of connections of one client address at the same time.
    pub connections_per_client: ConnectionsPerClient,
    /// The timeouts of requests, connections and the shutdown.
    pub timeouts: Timeouts,
    /// The limits of one client.
    pub client_limits: ClientLimits,
    /// The fields about LoadX and the client that LoadX adds to messages.
    pub signature: Signature,
    /// Whether requests that name no trace get a traceparent.
    pub trace_context: bool,
    /// Where spans of requests go; `None`: nowhere.
    pub tracing: Option<TracingConfig>,
    /// The access log; `None` when the log is off.
    pub access_log: Option<AccessLogConfig>,
    /// Whether `/__metrics__` answers.
    pub metrics: bool,
    /// Whether `/__dashboard__` answers.
    pub dashboard: bool,
    /// Peers whose X-Forwarded fields LoadX trusts.
    pub trusted_proxies: Vec<IpNet>,
    /// Clients to which `/__health__`, `/__metrics__` and `/__status__` answer.
    pub endpoints_allow: Vec<IpNet>,
    /// How operators reach the admin API.
    pub admin: AdminConfig,
    /// How LoadX gets certificates for public names.
    pub acme: AcmeConfig,
    /// The folder with the certificates that LoadX gets itself; `None` means a folder in the state directory.
    pub certificate_folder: Option<PathBuf>,
}

/// The largest number of connections of one client address at the same time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConnectionsPerClient {
    /// For all addresses: the config says so.
    Of(u32),
    /// For addresses beyond this machine: half of all places, so that one address cannot take all.
    Half(u32),
}

impl ConnectionsPerClient {
    /// The limit of an address; `None` for no limit.
    pub fn most(self, address: IpAddr) -> Option<u32> {
        match self {
            ConnectionsPerClient::Of(most) => Some(most),
            ConnectionsPerClient::Half(most) => Some(most).filter(|_| !address.is_loopback()),
        }
    }
}

/// How LoadX gets certificates for public names (ACME, RFC 8555).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The address of the authority's directory; `None` means that of Let's Encrypt.
    pub directory: Option<String>,
    /// The address at which the authority warns of problems.
    pub email: Option<String>,
    /// The file with the certificates that prove the authority's server; `None` means those of the system.
    pub ca: Option<PathBuf>,
    /// The profile of the authority.
    pub profile: Option<String>,
    /// How LoadX proves that a name is its own.
    pub challenge: AcmeChallenge,
    /// The program that sets and removes records in DNS.
    pub dns_hook: Option<PathBuf>,
    /// The key by which the authority knows its customer: its name, and the file with the key.
    pub customer_key: Option<(String, PathBuf)>,
}

/// How LoadX proves to an authority that a name is its own (RFC 8555, section 8).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// Whatever the listeners allow.
    #[default]
    Auto,
    /// By a response to a request of the authority over HTTP.
    Http,
    /// By a certificate on a connection of the authority (RFC 8737).
    Tls,
    /// By a record in DNS.
    Dns,
}

/// How operators reach the admin API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// The Unix socket.
    pub socket: AdminSocket,
    /// The address for TCP, and the token that clients must send there; `None` means no TCP.
    pub tcp: Option<(HostPort, TokenSource)>,
}

/// The Unix socket of the admin API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdminSocket {
    /// A socket in the runtime directory.
    #[default]
    Runtime,
    /// A socket with this path.
    Path(PathBuf),
    /// No socket.
    Off,
}

/// Where the token of the admin API stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// The name of the listener in routes and logs.
    pub name: Arc<str>,
    /// Host and port.
    pub at: HostPort,
    /// Whether the status endpoints answer on this listener.
    pub endpoints: bool,
    /// Whether the address is an entry of `listeners`; otherwise `proxy_host` and `proxy_port` have the address.
    pub listed: bool,
    /// TLS; `None` means that clients connect without TLS.
    pub tls: Option<TlsConfig>,
    /// The port of the https listener to which LoadX redirects every request; `None` means no redirect.
    pub https_port: Option<u16>,
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
    /// The peers whose connections begin with the client's address in the PROXY protocol.
    pub proxy_protocol: Vec<IpNet>,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificates of files, in the order of the file.
    pub certificates: Vec<CertificateFiles>,
    /// The names and addresses, in lower case, whose certificates LoadX gets itself; a name may begin with `*.`.
    pub auto: Vec<Arc<str>>,
    /// The versions of TLS.
    pub profile: TlsProfile,
    /// Whether LoadX refuses a client that asks for a name without a certificate.
    pub refuses_unknown: bool,
    /// The certificates of clients.
    pub clients: Arc<ClientRules>,
    /// Whether the handshake offers HTTP/2.
    pub http2: bool,
    /// The max-age of Strict-Transport-Security, in seconds; `None` means no such field.
    pub hsts: Option<u64>,
}

/// The files of a certificate and of its private key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The file with the certificate and those of its issuers.
    pub certificate: PathBuf,
    /// The file with the private key.
    pub key: PathBuf,
}

/// The versions of TLS.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.3.
    Modern,
}

/// A set of backends with one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The name of the cluster.
    pub name: Arc<str>,
    /// The algorithm that picks a backend.
    pub algorithm: Algorithm,
    /// The backends of the cluster.
    pub backends: Vec<BackendSpec>,
    /// Whether each address of a name is a separate backend.
    pub resolve_each: bool,
    /// How LoadX probes the backends.
    pub health: HealthPolicy,
    /// Where the file has the times of the probes.
    pub health_keys: HealthKeys,
    /// The timeouts of attempts.
    pub attempt: AttemptPolicy,
    /// The requests at the same time at the backends.
    pub limits: LimitPolicy,
    /// When a second backend gets a request while the first one has not answered; `None`: never. Default `None`.
    pub hedge: Option<HedgePolicy>,
    /// What exchanges find on connections to the backends.
    pub transport: BackendTransport,
}

/// What exchanges find on connections to backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendTransport {
    /// TLS; `None` means no TLS.
    pub tls: Option<BackendTls>,
    /// The version of the PROXY protocol at the beginning of each connection.
    pub proxy_protocol: Option<ProxyVersion>,
    /// The version of HTTP.
    pub protocol: BackendProtocol,
}

/// A version of HTTP on connections to backends.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: inside TLS if both sides agree on HTTP/2, in clear text with prior knowledge.
    Http2,
}

/// TLS to backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendTls {
    /// The file with the certificates of the authorities; `None` means the authorities of the system.
    pub ca: Option<PathBuf>,
    /// The name that certificates must have; `None` means the host of the backend.
    pub server_name: Option<Arc<str>>,
    /// The certificate that LoadX shows; `None` means none.
    pub certificate: Option<CertificateFiles>,
    /// Whether LoadX takes any certificate.
    pub insecure: bool,
}

/// A version of the PROXY protocol.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary, with what the client's TLS agreed on.
    V2,
}

impl Config {
    /// The backends of all clusters, each with its cluster.
    pub fn backends(&self) -> impl Iterator<Item = (&ClusterConfig, &BackendSpec)> {
        self.clusters.iter().flat_map(|cluster| cluster.backends.iter().map(move |backend| (cluster, backend)))
    }
}

/// Where the file has the times of the probes of a cluster: in `health` of the cluster, or for all clusters in the keys
/// `health_check_interval` and `health_check_timeout`. For messages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthKeys {
    /// Whether `health` has `interval`.
    pub own_interval: bool,
    /// Whether `health` has `timeout`.
    pub own_timeout: bool,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host name, the IPv4 address, or the IPv6 address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl HostPort {
    /// Whether only programs on this machine reach the host: an IP address of the loopback, or localhost.
    pub fn is_loopback(&self) -> bool {
        let known = Self::known_addresses(&self.host);
        !known.is_empty() && known.iter().all(IpAddr::is_loopback)
    }

    /// The addresses of a host that are known without a look-up: those of an IP address and of localhost.
    pub fn known_addresses(host: &str) -> Vec<IpAddr> {
        if host.eq_ignore_ascii_case("localhost") {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        host.parse::<IpAddr>().map(|ip| ip.to_canonical()).into_iter().collect()
    }

    /// Whether listeners on both addresses would certainly wait for the same connections, so that the system refuses
    /// the second listener. The system chooses a different port for each port 0.
    pub fn overlaps(&self, other: &HostPort) -> bool {
        if self.port != other.port || self.port == 0 {
            return false;
        }
        if self.host.eq_ignore_ascii_case(&other.host) {
            return true;
        }
        let others = Self::known_addresses(&other.host);
        let mine = Self::known_addresses(&self.host);
        mine.iter().any(|mine| others.iter().any(|other| includes(*mine, *other) || includes(*other, *mine)))
    }
}

/// Whether a listener on `wide` gets the connections to `narrow`. LoadX accepts IPv4 clients on `::` too.
fn includes(wide: IpAddr, narrow: IpAddr) -> bool {
    wide == narrow || (wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4()))
}

/// The timeouts of requests, connections and the shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The longest time for the head of a request, from the first byte.
    pub request_head: Duration,
    /// The longest time of a whole exchange, except tunnels; `None` means no limit while bytes move.
    pub exchange: Option<Duration>,
    /// The longest time to open a connection to a backend.
    pub connect: Duration,
    /// The longest silence of a backend: before the response, and between two pieces of the response.
    pub request: Duration,
    /// The longest silence of a client between two requests on a connection.
    pub keepalive: Duration,
    /// The longest time that a backend connection may be idle.
    pub backend_keepalive: Duration,
    /// The longest time without a byte in either direction of a tunnel.
    pub tunnel: Duration,
    /// The longest time of running exchanges after the shutdown begins.
    pub shutdown_grace: Duration,
    /// The longest time of running exchanges at a backend that was removed or drained.
    pub drain: Duration,
}

impl Timeouts {
    /// The timeouts of the attempts of an exchange.
    pub fn attempt(&self) -> AttemptPolicy {
        AttemptPolicy {
            connect: self.connect,
            response: self.request,
            exchange: self.exchange,
            retry_grpc: <_>::default(),
            retry: <_>::default(),
        }
    }
}

/// The limits of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// The largest number of requests on one connection.
    pub requests_per_connection: u64,
    /// The largest age of a connection; `None` means no limit.
    pub connection_age: Option<Duration>,
    /// The largest content of one request, in bytes; `None` means no limit.
    pub body_max: Option<u64>,
    /// The lowest rate of a body while LoadX waits for the client, in bytes per second; 0 means no limit.
    pub body_rate_min: u64,
}

/// The fields about LoadX and the client that LoadX adds to messages, except the X-Forwarded fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// The name of LoadX in Via; `None` means no Via.
    pub via: Option<String>,
    /// Whether backends get Forwarded.
    pub forwarded: bool,
}

/// The requests that the access log shows: those with any of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// The statuses, as ranges of their first and their last one.
    pub statuses: Vec<(u16, u16)>,
    /// The shortest time.
    pub slower_than: Option<Duration>,
    /// One request in so many.
    pub one_in: Option<u64>,
}

/// Where spans of requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// The host of the receiver.
    pub at: HostPort,
    /// The path of the receiver.
    pub path: String,
    /// Of the requests that no caller traces, one in so many is traced; 0: none.
    pub one_in: u64,
    /// The name of the service in traces.
    pub service: String,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The format of a line.
    pub format: LogFormat,
    /// The request fields that a line shows, in this order.
    pub fields: Vec<LogField>,
    /// The requests that the log shows; `None` means all.
    pub filter: Option<LogFilter>,
    /// The file to which LoadX appends the log; `None` means standard output.
    pub file: Option<PathBuf>,
}
