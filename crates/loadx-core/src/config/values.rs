//! The scalar types of the file. Each type describes its valid values in the schema and in messages.

use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Value, json};

use super::Faults;
use super::reader::{Node, Problem, Read, nearest};

/// A whole number between `MIN` and `MAX`, both included.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Whole<const MIN: u64, const MAX: u64>(pub(super) u64);

/// A TCP port.
pub(super) type Port = Whole<1, 65_535>;

impl<const MIN: u64, const MAX: u64> Read for Whole<MIN, MAX> {
    fn schema() -> Value {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let wanted = format!("a whole number from {MIN} to {MAX}");
        let number: serde_json::Number = node.scalar(faults, &wanted)?;
        let inside = number.as_u64().filter(|number| (MIN..=MAX).contains(number));
        if inside.is_none() {
            let message = format!("{} must be {wanted}, not {number}", node.title());
            node.fault(faults, Problem::new(message, format!("write {wanted}")));
        }
        inside.map(Whole)
    }
}

/// A span of time in seconds, fractions allowed.
#[derive(Copy, Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Seconds(pub(super) f64);

impl Seconds {
    /// LoadX would spend all of its time on shorter spans.
    const MIN: f64 = 0.01;
    /// A day.
    const MAX: f64 = 86_400.0;

    pub(super) fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }
}

impl Read for Seconds {
    fn schema() -> Value {
        json!({ "type": "number", "minimum": Self::MIN, "maximum": Self::MAX })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let wanted = format!("a number of seconds from {} to {}", Self::MIN, Self::MAX);
        let seconds: f64 = node.scalar(faults, &wanted)?;
        if (Self::MIN..=Self::MAX).contains(&seconds) {
            return Some(Seconds(seconds));
        }
        let message = format!("{} must be {wanted}, not {seconds}", node.title());
        node.fault(faults, Problem::new(message, format!("write {wanted}")));
        None
    }
}

impl Read for bool {
    fn schema() -> Value {
        json!({ "type": "boolean" })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        node.scalar(faults, "true or false")
    }
}

/// A text that is not empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Text(pub(super) String);

impl Read for Text {
    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text: String = node.scalar(faults, "a text in double quotes")?;
        Text::checked(text, node, faults)
    }
}

impl Text {
    fn checked(text: String, node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        if text.is_empty() || text.contains(char::is_control) {
            let message = format!("{} must not be empty or contain control characters", node.title());
            node.fault(faults, Problem::new(message, "write at least one visible character"));
            return None;
        }
        Some(Text(text))
    }
}

/// A value of a field, which may have the variables of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct FieldText(pub(super) String);

impl Read for FieldText {
    fn schema() -> Value {
        Text::schema()
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = node.template(faults)?;
        Text::checked(text, node, faults).map(|Text(text)| FieldText(text))
    }
}

/// A host name or an IP address, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Host(pub(super) String);

impl Read for Host {
    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 253 })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Text(typed) = Text::read(node, faults)?;
        let bare = typed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&typed);
        let is_address = bare.parse::<std::net::IpAddr>().is_ok();
        let is_name = typed.len() <= 253
            && typed.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if is_address || is_name {
            return Some(Host(bare.to_owned()));
        }
        let help = match typed.split_once("://") {
            Some((_, rest)) => format!("remove the scheme and the port: \"{}\"", host_of(rest)),
            None if typed.contains(':') => {
                format!("remove the port, which has a separate key: \"{}\"", host_of(&typed))
            }
            None => "write a name such as \"app.internal\" or an address such as \"10.0.0.7\" or \"::1\"".to_owned(),
        };
        node.fault(faults, Problem::new(format!("{} is not a host name or IP address", node.title()), help));
        None
    }
}

fn host_of(authority: &str) -> &str {
    authority.split(['/', ':']).next().unwrap_or_default()
}

/// A request target in origin-form: a path that begins with a slash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct TargetPath(pub(super) String);

impl Read for TargetPath {
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^/[!-\"$-~]*$" })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Text(path) = Text::read(node, faults)?;
        if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Some(TargetPath(path));
        }
        let message = format!("{} must be a path that begins with / and has no spaces", node.title());
        node.fault(faults, Problem::new(message, "write a path such as \"/health\""));
        None
    }
}

/// A name in a field: a token (RFC 9110, section 5.6.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Token(pub(super) String);

impl Read for Token {
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let Text(name) = Text::read(node, faults)?;
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
            return Some(Token(name));
        }
        let message = format!("{} may contain letters, digits and a few signs such as - and .", node.title());
        node.fault(faults, Problem::new(message, "write a name such as \"edge-1\""));
        None
    }
}

/// An IP address or a network in CIDR form.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Network(pub(super) IpNet);

impl Read for Network {
    fn schema() -> Value {
        json!({ "type": "string", "examples": ["10.0.0.0/8", "192.0.2.7", "fd00::/8"] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let typed: String = node.scalar(faults, "a network such as \"10.0.0.0/8\"")?;
        let net = typed.parse::<IpNet>().or_else(|_| typed.parse::<std::net::IpAddr>().map(IpNet::from));
        if let Ok(net) = net {
            return Some(Network(canonical(net)));
        }
        let message = format!("\"{typed}\" is not an IP address or network");
        node.fault(faults, Problem::new(message, "write an address (\"10.0.0.7\") or a network (\"10.0.0.0/8\")"));
        None
    }
}

/// Turns an IPv4-mapped IPv6 network (RFC 4291, section 2.5.5.2) into an IPv4 network: LoadX compares such clients as
/// IPv4.
fn canonical(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => {
            let v4 = v6.addr().to_ipv4_mapped().and_then(|ip| ipnet::Ipv4Net::new(ip, v6.prefix_len() - 96).ok());
            v4.map_or(net, IpNet::V4)
        }
        net => net,
    }
}

/// Reads a word that serde knows; `words` are all known words.
pub(super) fn one_of<T: serde::de::DeserializeOwned>(node: Node<'_>, faults: &mut Faults, words: &[&str]) -> Option<T> {
    let typed: String = node.scalar(faults, "a text in double quotes")?;
    let read = serde_json::from_value(typed.as_str().into()).ok();
    if read.is_none() {
        let all = words.join(", ");
        let help = match nearest(&typed, words) {
            Some(near) => format!("did you mean \"{near}\"? Known values: {all}"),
            None => format!("known values: {all}"),
        };
        node.fault(faults, Problem::new(format!("{} cannot be \"{typed}\"", node.title()), help));
    }
    read
}
