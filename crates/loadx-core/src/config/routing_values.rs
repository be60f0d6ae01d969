//! The scalar types of listeners, routes and clusters.

use serde::Serialize;
use serde_json::{Value, json};

use super::reader::{Node, Problem, Read, nearest};
use super::values::{Text, Token};
use super::{Faults, HostPort};

/// Declares words that a key may have.
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
            Some(near) => format!("did you mean \"{near}\"? It can be: {}", all.join(", ")),
            None => format!("it can be: {}", all.join(", ")),
        };
        node.fault(faults, Problem::new(format!("{} cannot be \"{typed}\"", node.title()), help));
    }
    known
}

words! {
    /// What a probe does.
    HealthWord {
        Http = "http",
        Tcp = "tcp",
        Off = "off",
    }
}

words! {
    /// What the addresses of one name are.
    ResolveWord {
        One = "one",
        Each = "each",
    }
}

words! {
    /// What draws the cluster of a split.
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
    /// Reads `host:port`, `[ipv6]:port` or `:port`, which stands for all addresses.
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

/// A host of a route, lower case, perhaps with `*.` before it.
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
        let is_literal = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let is_name = !name.is_empty() && name.len() <= 253 && name.bytes().all(fits) && !name.starts_with('.');
        if is_literal || is_name {
            return Some(HostPattern(host.to_owned()));
        }
        let help = match typed.contains(':') {
            true => "leave out the scheme and the port: requests match whatever their port",
            false => "write a name such as \"shop.example.com\", or \"*.example.com\" for every name below",
        };
        node.fault(faults, Problem::new(format!("{} is not a host: \"{typed}\"", node.title()), help));
        None
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
        let Token(name) = Token::read(node, faults)?;
        if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let help = format!("write \"{}\": methods are case-sensitive", name.to_ascii_uppercase());
            node.fault(faults, Problem::new(format!("{} has lower-case letters: \"{name}\"", node.title()), help));
            return None;
        }
        Some(MethodName(name))
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
            node.fault(faults, Problem::new(message, "308 keeps the method and may be cached; 307 may not"));
            return None;
        }
        Some(RedirectStatus(status))
    }
}
