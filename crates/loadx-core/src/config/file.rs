//! The keys of the config file, with the type, the default and the meaning of each.
//!
//! The reader, the JSON Schema and the defaults use this list.

use super::log_file::{FileLogFilter, FileTracing, LogField, LogFormat};
use super::reader::At;
use super::resilience_file::FileResilience;
use super::routing_file::{FileAdmin, FileBackend, FileCluster, FileListener, FileRoute};
use super::routing_values::ProtocolWord;
use super::table::Table;
use super::tls_file::{FileAcme, FileBackendTlsEntry, FileTls};
use super::values::{Host, Network, Seconds, TargetPath, Text, Token, Whole};
use crate::Algorithm;

file_object! {
    /// The config file of LoadX.
    FileConfig {
        required {}
        optional {
            /// The backends of the only cluster; a file with several clusters has `clusters` instead.
            backend_servers: Vec<At<FileBackend>>,
            /// TLS to the backends of `backend_servers`: true, or an object with settings; a file with `clusters` has `tls`
            /// in each of them. Without this key: no TLS.
            backend_tls: FileBackendTlsEntry,
            /// The addresses on which LoadX accepts connections; instead of proxy_host and proxy_port.
            listeners: Vec<At<FileListener>>,
            /// TLS on the only listener, at proxy_host and proxy_port; a file with `listeners` has `tls` in each of them.
            tls: FileTls,
            /// How LoadX gets certificates for public names (ACME).
            acme: FileAcme,
            /// The folder with the certificates that LoadX gets itself, and with their keys. Without this key: the folder
            /// certs in the state directory.
            certificate_folder: Text,
            /// The conditions on requests (host, path and more) and the action of each route. Without this key: all
            /// requests go to the only cluster.
            routes: Vec<At<FileRoute>>,
            /// Named sets of backends; instead of backend_servers.
            clusters: Table<FileCluster>,
            /// What LoadX does when backends fail: standard, off, or an object with settings. Without this key: standard.
            resilience: FileResilience,
            /// How operators reach the admin API and `loadx ctl`.
            admin: FileAdmin,
            /// The path of health probes; with this key, a status of 200 to 399 is healthy. Without this key: /health,
            /// and any status below 500 is healthy, because not every application has that path.
            health_check_path: TargetPath,
            /// The number of worker threads. Without this key: one for each processor that the affinity and the cgroup
            /// of the process allow.
            workers: Whole<1, 1_024>,
            /// The file to which LoadX appends the access log. Without this key: standard output.
            log_file: Text,
            /// Where spans of requests go, for OpenTelemetry. Without this key: nowhere.
            tracing: FileTracing,
            /// Which requests the access log shows. Without this key: all.
            log_filter: FileLogFilter,
            /// The longest time of an exchange, in seconds, from the head of the request to the end of the response;
            /// tunnels have no such limit. Without this key: no limit while bytes move.
            exchange_timeout: Seconds,
            /// The largest age of a client connection, in seconds. LoadX ends an older connection with its next response, or after
            /// the requests of HTTP/2 that run on the connection, so that clients with long connections come again and reach
            /// all workers and processes. Without this key: no limit.
            max_connection_age: Seconds,
            /// The largest request body, in bytes; LoadX refuses a larger body with 413. Without this key: no limit,
            /// because LoadX forwards bodies while they arrive.
            max_body_size: Whole<0, 9_007_199_254_740_991>,
            /// The largest number of connections of one client address (of IPv6: of one network of 64 bits) at the same time; LoadX
            /// closes further ones at once. Trusted proxies and peers of the PROXY protocol have no such limit. Without this
            /// key: half of max_connections, so that one address cannot take all, and no limit for loopback addresses.
            max_connections_per_client: Whole<1, 10_000_000>,
            /// The most memory that LoadX may use, in bytes. From 90 % on LoadX closes idle connections and answers new requests
            /// with 503 until it uses less than 80 %. Without this key: the limit of the control group of the process, such as
            /// that of its container, if there is one.
            max_memory: Whole<1_048_576, 9_007_199_254_740_991>,
            /// The name that LoadX adds to Via in requests and responses. Without this key: no Via, because some
            /// servers answer differently to a request with Via; nginx does not compress the response.
            via: Token,
        }
        default {
            /// The TCP port to which clients connect; with 0 the system chooses a port, and LoadX logs the port.
            proxy_port: Whole<0, 65_535> = Whole(8_080),
            /// The address or name on which LoadX accepts connections; for a name, all addresses of the name.
            proxy_host: Host = Host("0.0.0.0".into()),
            /// How LoadX picks a backend: in turns (round_robin), by the fewest exchanges in flight
            /// (least_connections), or by the client's address (ip_hash).
            algorithm: Algorithm = Algorithm::RoundRobin,
            /// Seconds between two health probes of a backend. After a bad probe, and while a backend is ejected, LoadX
            /// probes every second.
            health_check_interval: Seconds = Seconds(30.0),
            /// The longest time of a health probe, in seconds, with the time to connect.
            health_check_timeout: Seconds = Seconds(5.0),
            /// The number of good probes in a row after which LoadX admits a backend.
            health_check_rise: Whole<1, 100> = Whole(2),
            /// The number of bad probes in a row after which LoadX ejects a backend. When LoadX cannot open a
            /// connection for a request, LoadX ejects the backend at once.
            health_check_fall: Whole<1, 100> = Whole(3),
            /// The largest number of client connections at the same time. For a further client, LoadX closes a
            /// connection that is idle; if no connection is idle, further clients wait. When no place has come free for three
            /// seconds, further clients get 503, and status endpoints answer.
            max_connections: Whole<1, 10_000_000> = Whole(1_000),
            /// The longest time to open a connection to a backend, in seconds; LoadX then tries another backend.
            connection_timeout: Seconds = Seconds(5.0),
            /// The longest silence of a backend, in seconds: before the response, and between two pieces of the
            /// response. The same limit holds for a client that stops sending or reading within a message.
            request_timeout: Seconds = Seconds(30.0),
            /// The longest time for the head of a request, in seconds, from the first byte of the head; on a new
            /// connection, also the longest time before this first byte.
            request_head_timeout: Seconds = Seconds(15.0),
            /// The lowest rate, in bytes per second, at which a client must send a body or read a response while LoadX
            /// waits for the client. The client's time credit of request_timeout runs out below this rate. 0 means: one
            /// byte in each request_timeout is enough.
            min_body_rate: Whole<0, 1_000_000_000> = Whole(240),
            /// The longest time that a client connection may be idle between two requests, in seconds; LoadX closes the
            /// connection within a second after that.
            keepalive_timeout: Seconds = Seconds(75.0),
            /// The largest number of requests on one client connection; LoadX then closes the connection, so that the
            /// client connects again and may reach another worker.
            max_requests_per_connection: Whole<1, 1_000_000_000> = Whole(10_000),
            /// The longest time that a backend connection may be idle before LoadX closes the connection, in seconds.
            /// The value should be less than the idle timeout of the backends.
            backend_keepalive_timeout: Seconds = Seconds(50.0),
            /// The longest time that a tunnel (WebSocket and other upgrades) may carry nothing in either direction, in
            /// seconds.
            tunnel_timeout: Seconds = Seconds(3_600.0),
            /// The longest time that running exchanges may take after LoadX gets the signal to stop, in seconds.
            shutdown_grace: Seconds = Seconds(30.0),
            /// The longest time, in seconds, that running exchanges and tunnels may go on at a backend that was removed or
            /// drained; LoadX then ends them.
            drain_timeout: Seconds = Seconds(600.0),
            /// The version of HTTP to the backends of `backend_servers`: http/1.1 or h2; a file with `clusters` has `protocol`
            /// in each of them.
            backend_protocol: ProtocolWord = ProtocolWord::Http1,
            /// Whether clients may speak HTTP/2 on the only listener; a file with listeners has the key in these.
            http2: bool = true,
            /// Whether LoadX logs each request.
            enable_logging: bool = true,
            /// The format of the access log: human, json, common, combined, or a text with variables such as "{client} {status}".
            log_format: LogFormat = LogFormat::Human,
            /// What each line of the access log shows of the request: host, user_agent, referer, protocol (such as
            /// HTTP/2.0), grpc_status (such as UNAVAILABLE), tls_version, tls_cipher, tls_name, tls_session (full or
            /// resumed), tls_client.
            log_fields: Vec<At<LogField>> = Vec::new(),
            /// Whether /__metrics__ answers.
            enable_metrics: bool = true,
            /// Whether /__dashboard__ answers.
            enable_dashboard: bool = true,
            /// Peers whose X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host LoadX trusts.
            trusted_proxies: Vec<At<Network>> = Vec::new(),
            /// Whether requests that name no trace get a traceparent (W3C Trace Context) of LoadX. Without it, LoadX only passes on
            /// what clients send.
            trace_context: bool = false,
            /// Whether backends get Forwarded (RFC 7239) in addition to the X-Forwarded fields.
            forwarded: bool = false,
            /// Clients to which /__health__, /__metrics__, /__status__ and /__dashboard__ answer; by default, clients on loopback and
            /// private addresses. For other clients LoadX treats these paths like any other path.
            endpoints_allow: Vec<At<Network>> = private_networks(),
        }
    }
}

/// Loopback, link-local and private addresses (RFC 1918, RFC 4193, RFC 3927, RFC 4291).
const PRIVATE_NETWORKS: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

fn private_networks() -> Vec<At<Network>> {
    let network = |text: &&str| At::unplaced(Network(text.parse().expect("the list contains networks")));
    PRIVATE_NETWORKS.iter().map(network).collect()
}
