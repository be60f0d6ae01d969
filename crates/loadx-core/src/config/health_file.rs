//! The keys of `health` of a cluster: how LoadX probes backends.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Faults;
use super::reader::{At, Node, Problem, Read};
use super::routing_values::{HealthWord, HostField, ProbeMethodWord, StartWord};
use super::table::Table;
use super::values::{Port, Seconds, TargetPath, Text, Whole};

file_object! {
    /// How LoadX probes the backends of a cluster.
    FileHealth {
        required {}
        optional {
            /// The path of probes; with this key, a status of 200 to 399 is healthy. Without this key:
            /// health_check_path of the file.
            path: TargetPath,
            /// The method of probes; POST has no content. Without this key: GET.
            method: ProbeMethodWord,
            /// The Host of probes, for backends that serve several hosts. Without this key: host and port of the probe.
            host: HostField,
            /// Further fields of probes, such as Authorization.
            headers: Table<Text>,
            /// The statuses that are healthy: numbers such as 200, and ranges such as "200-299". Without this key: 200 to 399,
            /// and all below 500 if nobody chose the path.
            statuses: Vec<At<StatusRange>>,
            /// A text that a healthy response has in its first 64 KiB of content. Without this key: any content.
            body: Text,
            /// The service of gRPC that probes ask about. Without this key: the whole server.
            service: Text,
            /// The port of probes, which has the same TLS and the same version of HTTP as the backend. Without this key: the
            /// port of the backend.
            port: Port,
            /// Seconds between two probes of a backend.
            interval: Seconds,
            /// Seconds between two probes of a backend after a bad probe and while it is ejected; the first three come
            /// sooner. Without this key: 1 second, and never more than the interval.
            fast_interval: Seconds,
            /// The longest time of a probe, in seconds.
            timeout: Seconds,
            /// The number of good probes in a row after which LoadX admits a backend.
            rise: Whole<1, 100>,
            /// The number of bad probes in a row after which LoadX ejects a backend.
            fall: Whole<1, 100>,
        }
        default {
            /// The kind of probe: a request (http), the health check of gRPC, grpc.health.v1 (grpc), only a connection, with the
            /// handshake if the backends have TLS (tcp), or no probes (off).
            probe: HealthWord = HealthWord::Http,
            /// Whether a backend that joins gets requests before its first probe (up), or only after its first good probe (down).
            start: StartWord = StartWord::Up,
        }
    }
}

/// A status, or a range of statuses: its first and its last one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct StatusRange(pub(super) u16, pub(super) u16);

impl Serialize for StatusRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 == self.1 {
            true => serializer.serialize_u16(self.0),
            false => serializer.serialize_str(&format!("{}-{}", self.0, self.1)),
        }
    }
}

impl StatusRange {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |digits: &str| {
            let digits = Some(digits.trim()).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits?.parse::<u16>().ok().filter(|number| (200..=599).contains(number))
        };
        let range = StatusRange(number(first)?, number(last)?);
        (range.0 <= range.1).then_some(range)
    }
}

/// A range as it stands in the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Typed {
    Number(u64),
    Text(String),
}

impl Read for StatusRange {
    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 200, "maximum": 599 },
            { "type": "string", "pattern": "^[2-5][0-9]{2}(-[2-5][0-9]{2})?$", "examples": ["200-299"] },
        ] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let text = match node.scalar(faults, "a status such as 200, or a range such as \"200-299\"")? {
            Typed::Number(number) => number.to_string(),
            Typed::Text(text) => text,
        };
        let range = StatusRange::parse(&text);
        if range.is_none() {
            let message = format!("{} is neither a status from 200 to 599 nor a range of them: {text}", node.title());
            node.fault(faults, Problem::new(message, "write 200 or \"200-299\""));
        }
        range
    }
}
