//! The scalar types of listeners, routes and clusters.

use serde::Serialize;
use serde_json::{Value, json};

use super::reader::{Node, Problem, Read, nearest};
use super::values::Text;
use super::{Faults, HostPort};

/// Declares the words that a key accepts.
macro_rules! words {
    ($( #[doc = $about:literal] )* $name:ident { $( $( #[doc = $doc:literal] )* $variant:ident = $word:literal, )* }) => {
        $( #[doc = $about] )*
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub(super) enum $name {
            $( $( #[doc = $doc] )* $variant, )*
        }

        impl $name {
            const WORDS: &[(&str, $name)] = &[$( ($word, $name::$variant), )*];
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let known = Self::WORDS.iter().find(|(_, variant)| variant == self);
                serializer.serialize_str(known.map_or("", |(word, _)| word))
            }
        }

        impl Read for $name {
            fn schema() -> Value {
                json!({ "enum": Self::WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
            }

            fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
                word(node, faults, Self::WORDS)
            }
        }
    };
}

fn word<T: Copy>(node: Node<'_>, faults: &mut Faults, words: &[(&str, T)]) -> Option<T> {
    let typed: String = node.scalar(faults, "a text in double quotes")?;
    let known = words.iter().find(|(word, _)| *word == typed).map(|(_, value)| *value);
    if known.is_none() {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help = match nearest(&typed, &all) {
            Some(near) => format!("did you mean \"{near}\"? Known values: {}", all.join(", ")),
            None => format!("known values: {}", all.join(", ")),
        };
        node.fault(faults, Problem::new(format!("{} cannot be \"{typed}\"", node.title()), help));
    }
    known
}

words! {
    /// The method of a probe.
    ProbeMethodWord {
        Get = "GET",
        Head = "HEAD",
        Options = "OPTIONS",
        Post = "POST",
    }
}

words! {
    /// Whether a backend gets requests before its first probe.
    StartWord {
        Up = "up",
        Down = "down",
    }
}

words! {
    /// The kind of a probe.
    HealthWord {
        Http = "http",
        Grpc = "grpc",
        Tcp = "tcp",
        Off = "off",
    }
}

words! {
    /// Whether the addresses of one name are one backend or several backends.
    ResolveWord {
        One = "one",
        Each = "each",
    }
}

words! {
    /// How LoadX draws the cluster of a split.
    SplitWord {
        Request = "request",
        Client = "client",
    }
}

words! {
    /// The scheme of a redirect.
    SchemeWord {
        Http = "http",
        Https = "https",
    }
}

words! {
    /// How LoadX proves to an authority that a name is its own.
    ChallengeWord {
        Auto = "auto",
        Http = "http-01",
        Tls = "tls-alpn-01",
        Dns = "dns-01",
    }
}

words! {
    /// The versions of TLS.
    ProfileWord {
        Intermediate = "intermediate",
        Modern = "modern",
    }
}

words! {
    /// The version of the PROXY protocol.
    ProxyWord {
        Off = "off",
        V1 = "v1",
        V2 = "v2",
    }
}

words! {
    /// A status of gRPC with which a call has failed, in the order of the numbers from 1 on.
    GrpcStatusWord {
        Cancelled = "CANCELLED",
        Unknown = "UNKNOWN",
        InvalidArgument = "INVALID_ARGUMENT",
        DeadlineExceeded = "DEADLINE_EXCEEDED",
        NotFound = "NOT_FOUND",
        AlreadyExists = "ALREADY_EXISTS",
        PermissionDenied = "PERMISSION_DENIED",
        ResourceExhausted = "RESOURCE_EXHAUSTED",
        FailedPrecondition = "FAILED_PRECONDITION",
        Aborted = "ABORTED",
        OutOfRange = "OUT_OF_RANGE",
        Unimplemented = "UNIMPLEMENTED",
        Internal = "INTERNAL",
        Unavailable = "UNAVAILABLE",
        DataLoss = "DATA_LOSS",
        Unauthenticated = "UNAUTHENTICATED",
    }
}

impl GrpcStatusWord {
    /// The number of the status.
    pub(super) fn number(self) -> u8 {
        self as u8 + 1
    }
}

words! {
    /// The version of HTTP to backends.
    ProtocolWord {
        Http1 = "http/1.1",
        Http2 = "h2",
    }
}

words! {
    /// Whether clients show certificates.
    ClientCertificateWord {
        Off = "off",
        Optional = "optional",
        Required = "required",
    }
}

words! {
    /// What a client gets that asks for a name without a certificate.
    UnknownNameWord {
        Default = "default",
        Refuse = "refuse",
    }
}

impl SchemeWord {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            SchemeWord::Http => "http",
            SchemeWord::Https => "https",
        }
    }
}

/// Host and port in one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) HostPort);

impl Read for Address {
    fn schema() -> Value {
        json!({ "type": "string", "examples": ["0.0.0.0:8080", ":8080", "[::1]:8080", "app.internal:8080"] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Text(typed) = Text::read(node, faults)?;
        match HostPort::parse(&typed) {
            Some(address) => Some(Address(address)),
            None => {
                let message = format!("{} is not a host and a port: \"{typed}\"", node.title());
                node.fault(faults, Problem::new(message, "write \"10.0.0.7:8080\", \"app:8080\" or \"[::1]:8080\""));
                None
            }
        }
    }
}

impl HostPort {
    /// Reads `host:port`, `[ipv6]:port`, or `:port` for all addresses.
    pub fn parse(text: &str) -> Option<HostPort> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']')?;
                inner.parse::<std::net::Ipv6Addr>().ok()?;
                inner
            }
            None if host.is_empty() => "0.0.0.0",
            None => host,
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let sound = text.starts_with('[') || (host.len() <= 253 && host.bytes().all(is_name));
        sound.then(|| HostPort { host: host.to_owned(), port })
    }
}

/// A host of a route in lower case, with or without `*.` before the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPattern(pub(super) String);

impl Read for HostPattern {
    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 255, "examples": ["shop.example.com", "*.example.com"] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Text(typed) = Text::read(node, faults)?;
        let lower = typed.to_ascii_lowercase();
        let host = lower.strip_suffix('.').unwrap_or(&lower);
        let name = host.strip_prefix("*.").unwrap_or(host);
        if let Some(literal) = ipv6_literal(host) {
            return Some(HostPattern(literal));
        }
        if is_name(name) {
            return Some(HostPattern(host.to_owned()));
        }
        let help = match typed.contains(':') {
            true if typed.parse::<std::net::Ipv6Addr>().is_ok() => {
                format!("an IPv6 address stands in brackets: \"[{typed}]\"")
            }
            true => "remove the scheme and the port: LoadX compares hosts without ports".to_owned(),
            false => "write a name such as \"shop.example.com\", or \"*.example.com\" for all names below example.com"
                .to_owned(),
        };
        node.fault(faults, Problem::new(format!("{} is not a host: \"{typed}\"", node.title()), help));
        None
    }
}

/// Whether this is a host name.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(fits) && !name.starts_with('.')
}

/// An IPv6 address in brackets, in the notation that LoadX uses to compare hosts.
fn ipv6_literal(host: &str) -> Option<String> {
    let inner = host.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<std::net::Ipv6Addr>().ok().map(|ip| format!("[{ip}]"))
}

/// A host in lower case, with or without a port: the value of Host for a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostField(pub(super) String);

impl Read for HostField {
    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 261, "examples": ["app.internal", "app.internal:8080"] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Text(typed) = Text::read(node, faults)?;
        let lower = typed.to_ascii_lowercase();
        let end = lower.rfind(':').filter(|colon| !lower[*colon..].contains(']')).unwrap_or(lower.len());
        let (host, port) = lower.split_at(end);
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = ipv6_literal(host).or_else(|| is_name(host).then(|| host.to_owned()));
        let is_port = |digits: &str| {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port > 0)
        };
        match host.filter(|_| port.is_empty() || is_port(&port[1..])) {
            Some(host) => Some(HostField(format!("{host}{port}"))),
            None => {
                let help = match typed.starts_with('*') {
                    true => "write one host, not a pattern",
                    false => "write \"app.internal\", \"app.internal:8080\" or \"[::1]:8080\"",
                };
                let message = format!("{} is not a host, or a host and a port: \"{typed}\"", node.title());
                node.fault(faults, Problem::new(message, help));
                None
            }
        }
    }
}

/// A method of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MethodName(pub(super) String);

impl Read for MethodName {
    fn schema() -> Value {
        json!({ "type": "string", "examples": ["GET", "POST"] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        const EXPECTED: &str = "a method such as GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS";
        let name: String = node.scalar(faults, EXPECTED)?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let problem = if name.is_empty() || !name.bytes().all(is_token) {
            Problem::new(format!("{} is not a method: \"{name}\"", node.title()), format!("write {EXPECTED}"))
        } else if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let capitals = name.to_ascii_uppercase();
            let help = format!("write \"{capitals}\": methods are case-sensitive; LoadX expects {EXPECTED}");
            Problem::new(format!("{} has lower-case letters: \"{name}\"", node.title()), help)
        } else {
            return Some(MethodName(name));
        };
        node.fault(faults, problem);
        None
    }
}

/// The status of a redirect.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct RedirectStatus(pub(super) u16);

impl RedirectStatus {
    const ALL: [u16; 5] = [301, 302, 303, 307, 308];
}

impl Read for RedirectStatus {
    fn schema() -> Value {
        json!({ "enum": Self::ALL })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let status: u16 = node.scalar(faults, "301, 302, 303, 307 or 308")?;
        if !Self::ALL.contains(&status) {
            let message = format!("{} must be 301, 302, 303, 307 or 308, not {status}", node.title());
            node.fault(
                faults,
                Problem::new(message, "308 is a permanent redirect and 307 a temporary redirect; both keep the method"),
            );
            return None;
        }
        Some(RedirectStatus(status))
    }
}
