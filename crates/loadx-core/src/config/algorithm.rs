//! The key `algorithm`: a name, or an object with a name and parameters.

use serde_json::{Value, json};

use super::Faults;
use super::reader::{Node, Problem, Read, nearest};
use super::values::Whole;
use crate::{Algorithm, KeyPrefixes};

impl serde::Serialize for Algorithm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The name of an algorithm.
#[derive(Copy, Clone, Debug)]
pub(super) struct AlgorithmName(Algorithm);

impl Read for AlgorithmName {
    fn schema() -> Value {
        json!({ "enum": Algorithm::ALL.map(Algorithm::as_str) })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let typed: String = node.scalar(faults, "a text in double quotes")?;
        let known = Algorithm::named(&typed);
        if known.is_none() {
            let words = Algorithm::ALL.map(Algorithm::as_str);
            let all = words.join(", ");
            let help = match nearest(&typed, &words) {
                Some(near) => format!("did you mean \"{near}\"? Known values: {all}"),
                None => format!("known values: {all}"),
            };
            node.fault(faults, Problem::new(format!("{} cannot be \"{typed}\"", node.title()), help));
        }
        known.map(AlgorithmName)
    }
}

file_object! {
    /// An algorithm and its parameters.
    FileAlgorithm {
        required {
            /// The algorithm.
            name: AlgorithmName,
        }
        optional {
            /// Only for ip_hash: the number of leading bits of an IPv4 address that decide. Without this key: 32.
            ipv4_prefix: Whole<1, 32>,
            /// Only for ip_hash: the number of leading bits of an IPv6 address that decide. Without this key: 64,
            /// because one host can change the other bits at will.
            ipv6_prefix: Whole<1, 128>,
        }
        default {}
    }
}

impl Read for Algorithm {
    fn schema() -> Value {
        json!({ "anyOf": [AlgorithmName::schema(), FileAlgorithm::schema()] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        if !node.is_object() {
            return AlgorithmName::read(node, faults).map(|name| name.0);
        }
        let typed = FileAlgorithm::read(node, faults)?;
        let has_prefixes = typed.ipv4_prefix.is_some() || typed.ipv6_prefix.is_some();
        match typed.name.value.0 {
            Algorithm::IpHash(default) => Some(Algorithm::IpHash(KeyPrefixes {
                ipv4: typed.ipv4_prefix.map_or(default.ipv4, |bits| bits.value.0 as u8),
                ipv6: typed.ipv6_prefix.map_or(default.ipv6, |bits| bits.value.0 as u8),
            })),
            other if has_prefixes => {
                let message = format!("\"{}\" has no prefixes", other.as_str());
                let help = "remove \"ipv4_prefix\" and \"ipv6_prefix\"; only \"ip_hash\" has prefixes";
                node.fault(faults, Problem::new(message, help));
                None
            }
            other => Some(other),
        }
    }
}
