//! Listeners, routes and clusters as they are typed.

use serde_json::{Value, json};

use super::Faults;
use super::reader::{At, Node, Problem, Read};
use super::routing_values::{
    Address, HealthWord, HostField, HostPattern, MethodName, RedirectStatus, ResolveWord, SchemeWord, SplitWord,
};
use super::table::Table;
use super::values::{Host, Network, Port, Seconds, TargetPath, Text, Token, Whole};
use crate::Algorithm;

file_object! {
    /// An address to listen on.
    FileListener {
        required {
            /// Host and port, such as "0.0.0.0:8080"; ":8080" listens on all addresses.
            address: Address,
        }
        optional {
            /// What to call it in routes and logs. Without it: the address.
            name: Text,
            /// Whether /__health__, /__metrics__ and /__status__ answer here. Without it: on every listener, or, where
            /// any listener has this key, only on those with true.
            endpoints: bool,
        }
        default {}
    }
}

file_object! {
    /// What a request must look like, and where it then goes.
    FileRoute {
        required {}
        optional {
            /// What to call it in logs and pages. Without it: route-N, by its place in the list.
            name: Text,
            /// The listeners whose requests match, by name. Without it: all.
            listeners: Vec<At<Text>>,
            /// The hosts that match: a name, or * and a name for everything below that name. Without it: any.
            hosts: Vec<At<HostPattern>>,
            /// The path that matches, as a whole.
            path: TargetPath,
            /// The beginning of the path that matches, by whole segments: /v1 matches /v1 and /v1/a, not /v10.
            path_prefix: TargetPath,
            /// A regular expression that matches the whole path. Its time grows with the path, not beyond.
            path_regex: Text,
            /// The methods that match. Without it: any.
            methods: Vec<At<MethodName>>,
            /// Request fields that must have these values.
            headers: Table<Text>,
            /// Query parameters that must have these values.
            query: Table<Text>,
            /// The cluster that answers.
            cluster: Text,
            /// The clusters that answer, in proportion to their weights.
            split: Vec<At<FileShare>>,
            /// Sends the client to another place.
            redirect: FileRedirect,
            /// Answers without a backend.
            respond: FileRespond,
            /// A cluster that gets a copy of each request; what it answers is thrown away.
            mirror: Text,
            /// Changes path and host on the way to the backend.
            rewrite: FileRewrite,
            /// Changes the fields of the request.
            request_headers: FileEdits,
            /// Changes the fields of the response.
            response_headers: FileEdits,
            /// Times of this route.
            timeouts: FileRouteTimeouts,
            /// The largest request body of this route, in bytes. Without it: that of the file.
            max_body_size: Whole<0, 9_007_199_254_740_991>,
        }
        default {
            /// How split draws the cluster: for each request anew, or by the client's address, so that a client stays.
            split_by: SplitWord = SplitWord::Request,
            /// The client networks that are served; others get 403. Empty means all.
            allow: Vec<At<Network>> = Vec::new(),
            /// The client networks that are refused with 403.
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
            /// Its share, in proportion to the other weights; 0 means none.
            weight: Whole<0, 1_000_000> = Whole(1),
        }
    }
}

file_object! {
    /// Another place for the client to go; what is left out stays as it was asked.
    FileRedirect {
        required {}
        optional {
            /// The scheme.
            scheme: SchemeWord,
            /// The host.
            host: HostPattern,
            /// The port. Without it: that of the scheme.
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
    /// A response that needs no backend.
    FileRespond {
        required {}
        optional {
            /// The content. Without it: none.
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
            /// Replaces the host that the backend reads; a port may follow.
            host: HostField,
        }
        default {}
    }
}

file_object! {
    /// Changes to fields. Values may name {client_ip}, {request_id}, {host}, {method}, {path} and {route}.
    FileEdits {
        required {}
        optional {
            /// Fields that replace those of the same name.
            set: Table<Text>,
            /// Fields that are added beside those of the same name.
            add: Table<Text>,
            /// Fields that are removed.
            remove: Vec<At<Token>>,
        }
        default {}
    }
}

file_object! {
    /// Times of one route.
    FileRouteTimeouts {
        required {}
        optional {
            /// Seconds that a whole exchange may take. Without it: exchange_timeout of the file.
            exchange: Seconds,
        }
        default {}
    }
}

file_object! {
    /// A set of backends with one policy. What is left out is as the file says for all clusters.
    FileCluster {
        required {
            /// The servers that answer requests.
            backends: Vec<At<FileBackendEntry>>,
        }
        optional {
            /// How a backend is chosen.
            algorithm: Algorithm,
            /// How backends are probed.
            health: FileHealth,
            /// Seconds that opening a connection to a backend may take.
            connection_timeout: Seconds,
            /// Seconds that a backend may be silent.
            request_timeout: Seconds,
        }
        default {
            /// Whether the addresses of one name are one backend that has several (one), or a backend each (each).
            resolve: ResolveWord = ResolveWord::One,
        }
    }
}

file_object! {
    /// How the backends of a cluster are probed.
    FileHealth {
        required {}
        optional {
            /// The path that probes ask for; with it, a status of 200 to 399 is healthy. Without it: that of the file.
            path: TargetPath,
            /// Seconds between two probes of a backend.
            interval: Seconds,
            /// Seconds that a probe may take.
            timeout: Seconds,
            /// Good probes in a row that bring a backend back.
            rise: Whole<1, 100>,
            /// Bad probes in a row that take a backend out.
            fall: Whole<1, 100>,
        }
        default {
            /// What a probe does: a GET (http), only a connection (tcp), or no probes at all (off).
            probe: HealthWord = HealthWord::Http,
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
            /// What to call it in logs, metrics and pages. Without it: host:port.
            name: Text,
        }
        default {
            /// Its share of the traffic, in proportion to the other weights.
            weight: Whole<1, 1_000> = Whole(1),
        }
    }
}

/// A backend: an object, or its host and port in one text.
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

/// The content of a response that the config holds.
#[derive(Clone, Debug)]
pub(super) struct BodyText(pub(super) String);

impl BodyText {
    /// The longest content, in bytes: larger files belong to a server of files.
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
