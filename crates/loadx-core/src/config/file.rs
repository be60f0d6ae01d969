//! The config file as it is typed: every key, its type, its default and what it is for, in one place.
//!
//! From this list come the reader, the JSON Schema and the defaults.

use super::reader::At;
use super::routing_file::{FileBackend, FileCluster, FileListener, FileRoute};
use super::table::Table;
use super::values::{Host, LogField, LogFormat, Network, Seconds, TargetPath, Text, Token, Whole};
use crate::Algorithm;

file_object! {
    /// The config file of LoadX.
    FileConfig {
        required {}
        optional {
            /// The servers that answer requests, where one cluster is enough; otherwise write `clusters`.
            backend_servers: Vec<At<FileBackend>>,
            /// The addresses to listen on, where one is not enough; instead of proxy_host and proxy_port.
            listeners: Vec<At<FileListener>>,
            /// Where requests go, by host, path and more. Without it: all of them go to the only cluster.
            routes: Vec<At<FileRoute>>,
            /// Sets of backends by name; instead of backend_servers.
            clusters: Table<FileCluster>,
            /// The path that health probes ask for; with it, a status of 200 to 399 is healthy. Without it: /health,
            /// and any status below 500 is healthy, because not every application has that path.
            health_check_path: TargetPath,
            /// Worker threads. Without it: one for each processor that the process may use, by its
            /// affinity and its cgroup's limit.
            workers: Whole<1, 1_024>,
            /// The file that the access log is appended to. Without it: standard output.
            log_file: Text,
            /// Seconds that a whole exchange may take, from the request's head to the response's end,
            /// tunnels aside. Without it: as long as bytes go on moving.
            exchange_timeout: Seconds,
            /// The largest request body, in bytes; a larger one is refused with 413. Without it: any size,
            /// bodies are passed on as they come and never held.
            max_body_size: Whole<0, 9_007_199_254_740_991>,
            /// The name that LoadX adds to Via in requests and responses. Without it: no Via. It is a
            /// choice because some servers answer differently for it; nginx does not compress.
            via: Token,
        }
        default {
            /// The TCP port that clients connect to; with 0 the system chooses one, and the log tells it.
            proxy_port: Whole<0, 65_535> = Whole(8_080),
            /// The address or name to listen on; a name is listened on at each of its addresses.
            proxy_host: Host = Host("0.0.0.0".into()),
            /// How a backend is chosen: in turns (round_robin), by the fewest running exchanges (least_connections), or by
            /// the client's address (ip_hash).
            algorithm: Algorithm = Algorithm::RoundRobin,
            /// Seconds between two health probes of a backend; a backend in doubt is probed every second.
            health_check_interval: Seconds = Seconds(30.0),
            /// Seconds that a health probe may take, connecting included.
            health_check_timeout: Seconds = Seconds(5.0),
            /// Good probes in a row that bring a backend back into rotation.
            health_check_rise: Whole<1, 100> = Whole(2),
            /// Bad probes in a row that take a backend out of rotation. A connection that cannot be
            /// opened takes it out at once.
            health_check_fall: Whole<1, 100> = Whole(3),
            /// Client connections at the same time; further ones wait to be accepted.
            max_connections: Whole<1, 10_000_000> = Whole(1_000),
            /// Seconds that opening a connection to a backend may take; the request then goes to another.
            connection_timeout: Seconds = Seconds(5.0),
            /// Seconds that a backend may be silent: until its response begins, and between two pieces
            /// of it. The same bound holds for a client that stops sending or reading in mid-message.
            request_timeout: Seconds = Seconds(30.0),
            /// Seconds that a client may take for the head of a request, from its first byte; and for
            /// that first byte, on a new connection.
            request_head_timeout: Seconds = Seconds(15.0),
            /// Bytes a second that a client must send of a body, or take of a response, while LoadX waits
            /// for it: slower, its credit of request_timeout runs out. 0 asks for a byte each
            /// request_timeout, no more.
            min_body_rate: Whole<0, 1_000_000_000> = Whole(240),
            /// Seconds that a client connection may be idle between two requests; it is closed within two seconds after.
            keepalive_timeout: Seconds = Seconds(75.0),
            /// Requests that one client connection may carry; then it is closed, so that clients spread
            /// anew over the workers.
            max_requests_per_connection: Whole<1, 1_000_000_000> = Whole(10_000),
            /// Seconds that a connection to a backend may be idle before LoadX closes it. It should be
            /// shorter than what the backends allow.
            backend_keepalive_timeout: Seconds = Seconds(50.0),
            /// Seconds that a tunnel (WebSocket and other upgrades) may carry nothing either way.
            tunnel_timeout: Seconds = Seconds(3_600.0),
            /// Seconds that running exchanges get to finish when LoadX is told to stop.
            shutdown_grace: Seconds = Seconds(30.0),
            /// Whether each request is logged.
            enable_logging: bool = true,
            /// How a line of the access log looks.
            log_format: LogFormat = LogFormat::Human,
            /// Fields of the request that a line of the access log shows too: host, user_agent, referer.
            log_fields: Vec<At<LogField>> = Vec::new(),
            /// Whether /__metrics__ answers.
            enable_metrics: bool = true,
            /// Peers whose X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host are believed.
            trusted_proxies: Vec<At<Network>> = Vec::new(),
            /// Whether backends get Forwarded (RFC 7239) beside the X-Forwarded fields.
            forwarded: bool = false,
            /// Clients that /__health__, /__metrics__ and /__status__ answer: by default those on
            /// loopback and private addresses. For others these paths are like any other.
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
    let network = |text: &&str| At::unplaced(Network(text.parse().expect("the list holds networks")));
    PRIVATE_NETWORKS.iter().map(network).collect()
}
