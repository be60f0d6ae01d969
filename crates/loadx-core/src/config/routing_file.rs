//! The keys of listeners, routes and clusters in the config file.

use serde_json::{Value, json};

use super::Faults;
use super::health_file::FileHealth;
use super::reader::{At, Node, Problem, Read};
use super::resilience_file::FileResilience;
use super::routing_values::{
    Address, GrpcStatusWord, HostField, HostPattern, MethodName, ProtocolWord, ProxyWord, RedirectStatus, ResolveWord,
    SchemeWord, SplitWord,
};
use super::table::Table;
use super::tls_file::{FileBackendTlsEntry, FileTls};
use super::values::{FieldText, Host, Network, Port, Seconds, TargetPath, Text, Token, Whole};
use crate::Algorithm;

file_object! {
    /// An address on which LoadX accepts connections.
    FileListener {
        required {
            /// Host and port, such as "0.0.0.0:8080"; ":8080" means all addresses.
            address: Address,
        }
        optional {
            /// The name of the listener in routes and logs. Without this key: the address.
            name: Text,
            /// Whether /__health__, /__metrics__, /__status__ and /__dashboard__ answer on this listener. Without this key: yes if no
            /// listener has the key, otherwise no.
            endpoints: bool,
            /// TLS on this listener: clients connect with https. Without this key: no TLS.
            tls: FileTls,
            /// The peers, such as other load balancers, whose connections begin with the client's address in the PROXY
            /// protocol (version 1 or 2). LoadX closes a connection of these peers without the address. Without this
            /// key: none.
            proxy_protocol: Vec<At<Network>>,
        }
        default {
            /// Whether LoadX answers each request on this listener with a redirect to https.
            redirect_to_https: bool = false,
            /// Whether clients may speak HTTP/2 on this listener: over TLS by ALPN, without TLS with prior knowledge.
            http2: bool = true,
        }
    }
}

file_object! {
    /// The conditions on a request, and the action for a request that meets the conditions.
    FileRoute {
        required {}
        optional {
            /// The name of the route in logs and pages. Without this key: route-N, by the position in the list.
            name: Text,
            /// The names of the listeners whose requests match. Without this key: all listeners.
            listeners: Vec<At<Text>>,
            /// The hosts that match: a name, or * and a name for all names below that name. Without this key: all
            /// hosts.
            hosts: Vec<At<HostPattern>>,
            /// The whole path that matches.
            path: TargetPath,
            /// The first segments of the paths that match: /v1 matches /v1 and /v1/a, not /v10.
            path_prefix: TargetPath,
            /// A regular expression that matches the whole path. The time of a match grows only linearly with the path.
            path_regex: Text,
            /// The methods that match. Without this key: all methods.
            methods: Vec<At<MethodName>>,
            /// Request fields and their required values.
            headers: Table<Text>,
            /// Query parameters and their required values.
            query: Table<Text>,
            /// The cluster that answers.
            cluster: Text,
            /// The clusters that answer, in proportion to their weights.
            split: Vec<At<FileShare>>,
            /// Answers with a redirect.
            redirect: FileRedirect,
            /// Answers without a backend.
            respond: FileRespond,
            /// The cluster that gets a copy of each request; LoadX discards the responses of this cluster.
            mirror: Text,
            /// Changes the path and the host that the backend gets.
            rewrite: FileRewrite,
            /// Changes the fields of the request.
            request_headers: FileEdits,
            /// Changes the fields of the response.
            response_headers: FileEdits,
            /// The timeouts of this route.
            timeouts: FileRouteTimeouts,
            /// The largest request body of this route, in bytes. Without this key: max_body_size of the file.
            max_body_size: Whole<0, 9_007_199_254_740_991>,
        }
        default {
            /// How LoadX draws the cluster of a split: for each request, or by the client's address, so that all
            /// requests of a client go to one cluster.
            split_by: SplitWord = SplitWord::Request,
            /// The client networks that the route serves; other clients get 403. An empty list means all networks.
            allow: Vec<At<Network>> = Vec::new(),
            /// The client networks that get 403.
            deny: Vec<At<Network>> = Vec::new(),
        }
    }
}

file_object! {
    /// One cluster's share of the requests.
    FileShare {
        required {
            /// The cluster.
            cluster: Text,
        }
        optional {}
        default {
            /// The share of the cluster, in proportion to the other weights; 0 means no requests.
            weight: Whole<0, 1_000_000> = Whole(1),
        }
    }
}

file_object! {
    /// The target of a redirect; missing keys keep the part of the request.
    FileRedirect {
        required {}
        optional {
            /// The scheme.
            scheme: SchemeWord,
            /// The host.
            host: HostPattern,
            /// The port. Without this key: the default port of the scheme if the redirect changes the scheme or the
            /// host, otherwise the port of the request.
            port: Whole<1, 65_535>,
            /// The whole path.
            path: TargetPath,
            /// Replaces the prefix that the route matched.
            path_prefix: TargetPath,
        }
        default {
            /// The status: 301, 302, 303, 307 or 308.
            status: RedirectStatus = RedirectStatus(308),
        }
    }
}

file_object! {
    /// A response without a backend.
    FileRespond {
        required {}
        optional {
            /// The content. Without this key: no content.
            body: BodyText,
        }
        default {
            /// The status.
            status: Whole<200, 599> = Whole(200),
            /// The Content-Type of the content.
            content_type: Text = Text("text/plain; charset=utf-8".into()),
        }
    }
}

file_object! {
    /// Changes to the path and the host of a request.
    FileRewrite {
        required {}
        optional {
            /// Replaces the whole path.
            path: TargetPath,
            /// Replaces the prefix that the route matched.
            path_prefix: TargetPath,
            /// Replaces the host that the backend gets; a port may follow the host.
            host: HostField,
        }
        default {}
    }
}

file_object! {
    /// Changes to fields. Values may contain {client_ip}, {request_id}, {host}, {method}, {path} and {route}.
    FileEdits {
        required {}
        optional {
            /// Fields that replace the fields of the same name.
            set: Table<FieldText>,
            /// Fields that LoadX adds to the fields of the same name.
            add: Table<FieldText>,
            /// Fields that LoadX removes.
            remove: Vec<At<Token>>,
        }
        default {}
    }
}

file_object! {
    /// The timeouts of one route.
    FileRouteTimeouts {
        required {}
        optional {
            /// The longest time of an exchange, in seconds. Without this key: exchange_timeout of the file.
            exchange: Seconds,
        }
        default {}
    }
}

file_object! {
    /// A set of backends with one algorithm. For missing keys the values of the file hold.
    FileCluster {
        required {
            /// The backends of the cluster.
            backends: Vec<At<FileBackendEntry>>,
        }
        optional {
            /// How LoadX picks a backend.
            algorithm: Algorithm,
            /// How LoadX probes the backends.
            health: FileHealth,
            /// The longest time to open a connection to a backend, in seconds.
            connection_timeout: Seconds,
            /// The longest silence of a backend, in seconds.
            request_timeout: Seconds,
            /// TLS to the backends: true, or an object with settings. Without this key: no TLS.
            tls: FileBackendTlsEntry,
            /// What LoadX does when backends fail: standard, off, or an object with settings. Without this key: resilience of
            /// the file.
            resilience: FileResilience,
        }
        default {
            /// The version of the PROXY protocol in which LoadX tells the backends the client's address, at the beginning of
            /// each connection: v1, v2 or off. Each exchange then takes a connection of its own.
            proxy_protocol: ProxyWord = ProxyWord::Off,
            /// The version of HTTP to the backends: http/1.1, or h2, which gRPC needs. With `tls`, the handshake must agree on
            /// h2; without TLS, backends must speak HTTP/2 with prior knowledge.
            protocol: ProtocolWord = ProtocolWord::Http1,
            /// The statuses of gRPC, such as UNAVAILABLE, after which LoadX asks another backend, twice at most: when a backend
            /// answers a call with nothing but such a status, and LoadX still has the whole request. LoadX makes such calls
            /// again whatever they do, so name only statuses with which the backends have done nothing.
            retry_grpc: Vec<At<GrpcStatusWord>> = Vec::new(),
            /// Whether all addresses of a name are one backend (one), or each address is a backend (each).
            resolve: ResolveWord = ResolveWord::One,
        }
    }
}

file_object! {
    /// A server that answers requests.
    FileBackend {
        required {
            /// Host name or IP address.
            host: Host,
            /// TCP port.
            port: Port,
        }
        optional {
            /// The name of the backend in logs, metrics and pages. Without this key: host:port.
            name: Text,
        }
        default {
            /// The share of the requests, in proportion to the other weights.
            weight: Whole<1, 1_000> = Whole(1),
            /// Whether the backend gets no new requests; running exchanges have drain_timeout to finish.
            drain: bool = false,
        }
    }
}

file_object! {
    /// How operators reach the admin API.
    FileAdmin {
        required {}
        optional {
            /// The path of the Unix socket of the admin API, or "off". Without this key: a socket in the runtime
            /// directory, which `loadx ctl` finds.
            socket: Text,
            /// The host and port on which the admin API answers over TCP as well; needs a token. Without this key: not
            /// over TCP.
            address: Address,
            /// The file with the token that clients over TCP must send.
            token_file: Text,
            /// The environment variable with the token that clients over TCP must send.
            token_variable: Text,
        }
        default {
            /// Whether the admin API may answer without encryption on an address beyond loopback, where others on the
            /// network can read the token.
            allow_unencrypted: bool = false,
        }
    }
}

/// A backend: an object, or host and port in one text.
#[derive(Clone, Debug)]
pub(super) enum FileBackendEntry {
    Object(FileBackend),
    Short(Address),
}

impl Read for FileBackendEntry {
    fn schema() -> Value {
        json!({ "anyOf": [Address::schema(), FileBackend::schema()] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        if !node.is_text() {
            return FileBackend::read(node, faults).map(FileBackendEntry::Object);
        }
        let address = Address::read(node, faults)?;
        if address.0.port == 0 || address.0.host.is_empty() {
            let help = "write host and port, such as \"10.0.0.7:8080\"";
            node.fault(faults, Problem::new(format!("{} needs a host and a port", node.title()), help));
            return None;
        }
        Some(FileBackendEntry::Short(address))
    }
}

/// The content of a response of the config.
#[derive(Clone, Debug)]
pub(super) struct BodyText(pub(super) String);

impl BodyText {
    /// The longest content, in bytes; a file server suits larger content.
    const BYTES_MAX: usize = 64 * 1024;
}

impl Read for BodyText {
    fn schema() -> Value {
        json!({ "type": "string", "maxLength": Self::BYTES_MAX })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let body: String = node.scalar(faults, "a text in double quotes")?;
        if body.len() > Self::BYTES_MAX {
            let message = format!("{} is longer than {} bytes", node.title(), Self::BYTES_MAX);
            node.fault(faults, Problem::new(message, "let a backend answer with long content"));
            return None;
        }
        Some(BodyText(body))
    }
}
