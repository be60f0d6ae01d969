//! The keys of `resilience`: what LoadX does when backends fail.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Faults;
use super::reader::{At, Node, Problem, Read, nearest};
use super::values::{Seconds, Token, Whole};

/// `resilience`: a word, or an object.
#[derive(Clone, Debug)]
pub(super) enum FileResilience {
    Standard,
    Off,
    Object(Box<FileResilienceKeys>),
}

/// A part of `resilience`: "off", or an object.
#[derive(Clone, Debug)]
pub(super) enum OrOff<T> {
    Off,
    Object(T),
}

file_object! {
    /// What LoadX does when backends fail.
    FileResilienceKeys {
        required {}
        optional {
            /// How LoadX ejects backends that differ from the others; or "off".
            outliers: OrOff<FileOutliers>,
            /// When LoadX sends a request to another backend; or "off": only requests that no backend has seen.
            retries: OrOff<FileRetries>,
            /// When no request gets a backend, because most requests fail at all of them. Without this key: never.
            breaker: FileBreaker,
            /// How many requests a backend gets at the same time, and what happens to the others. Without this key: no limits.
            limits: FileLimits,
            /// The time, in seconds, in which a backend that joins or returns gets from a tenth of its share to its whole share.
            /// Without this key: its whole share at once.
            slow_start: Seconds,
        }
        default {}
    }
}

file_object! {
    /// How LoadX ejects backends that fail more requests than the others, answer nothing, or are slow.
    FileOutliers {
        required {}
        optional {}
        default {
            /// The number of failed requests in a row (a status of 500 to 599 without 501 and 505, a broken or invalid response,
            /// no response in time) that eject a backend, unless most of the others fail as well.
            failures_in_a_row: Whole<2, 1_000> = Whole(5),
            /// The number of requests in the last five seconds or so below which LoadX does not compare the share of failures
            /// and the time to the response of a backend with those of the others.
            min_requests: Whole<5, 1_000_000> = Whole(20),
            /// How many times as long as at the others responses take at a backend that LoadX ejects as slow; of three or
            /// more backends, and by 10 ms at least. With 0, no backend is ejected as slow.
            slow_factor: Whole<0, 1_000> = Whole(5),
            /// The duration of the first ejection, in seconds; the second lasts twice as long, the third three times. Each
            /// such time in rotation takes one step back.
            ejection_time: Seconds = Seconds(10.0),
            /// The longest duration of an ejection, in seconds.
            max_ejection_time: Seconds = Seconds(300.0),
            /// The largest share of the backends, in percent, that may be out of rotation, probes included, for LoadX to eject
            /// another one: the remaining backends must stand the load.
            max_out_percent: Whole<1, 99> = Whole(50),
        }
    }
}

file_object! {
    /// When LoadX sends a whole request with an idempotent method again that a backend may have seen.
    FileRetries {
        required {}
        optional {
            /// When a second backend gets a request that the first one has not answered yet. Without this key: never.
            hedge: FileHedge,
            /// The statuses after which LoadX asks another backend, as LoadX does after a connection that broke before the response,
            /// an invalid head, or no response in time. Without this key: 500, 502, 503 and 504.
            statuses: Vec<At<Whole<400, 599>>>,
        }
        default {
            /// The most times that LoadX sends one request again.
            max: Whole<0, 10> = Whole(2),
            /// Whether LoadX also sends requests again whose methods are not idempotent, such as POST. A backend may then do
            /// twice what the client wants once.
            non_idempotent: bool = false,
            /// The largest share of the requests of the cluster that LoadX sends again, in percent.
            budget_percent: Whole<0, 100> = Whole(20),
            /// The number of requests that LoadX may send again each second, however few requests there are.
            budget_per_second: Whole<0, 1_000_000> = Whole(3),
        }
    }
}

file_object! {
    /// When a second backend gets a request that the first one has not answered yet.
    FileHedge {
        required {}
        optional {}
        default {
            /// The share of the responses of the cluster, in percent, that begin before a second backend gets the request.
            percentile: Whole<50, 99> = Whole(95),
            /// The shortest time before a second backend gets the request, in seconds.
            min_delay: Seconds = Seconds(0.01),
        }
    }
}

file_object! {
    /// How many requests a backend gets at the same time, and what happens to the others.
    FileLimits {
        required {}
        optional {
            /// The most requests at the same time at one backend of weight 1, tunnels included; so many times the weight at
            /// others. Further requests wait in the queue of the cluster. With "auto", LoadX finds the number for each backend
            /// from the times of its responses. Without this key: no limit.
            requests_per_backend: WholeOrAuto,
            /// The most requests at the same time at all backends of the cluster, tunnels included. Without this key: no limit.
            requests: Whole<1, 1_000_000>,
            /// The field of a request that tells clients apart, such as X-Api-Key, for their turns in the queue. Without this key:
            /// the client's address.
            fair_by: Token,
        }
        default {
            /// The most requests that wait; when the queue is full, the client with the most waiting requests loses its oldest one,
            /// which gets 503 with Retry-After.
            queue: Whole<0, 1_000_000> = Whole(1_000),
            /// The longest time in the queue, in seconds; then the request gets 503 with Retry-After. When the oldest
            /// request has always been waiting for over 50 ms for 100 ms, the longest time is 50 ms and the newest is first, until
            /// none waits.
            queue_time: Seconds = Seconds(1.0),
        }
    }
}

file_object! {
    /// When no request gets a backend, because most requests fail at all of them: clients get 503 with Retry-After.
    FileBreaker {
        required {}
        optional {}
        default {
            /// The share of failed requests in the last five seconds or so, in percent, from which on no request gets a backend.
            failed_percent: Whole<1, 100> = Whole(50),
            /// The number of requests in the last five seconds or so below which all requests get backends.
            min_requests: Whole<1, 1_000_000> = Whole(20),
            /// For how long no request gets a backend, in seconds. Then five requests try, and the time begins again if so many
            /// of them fail or do not end.
            open_time: Seconds = Seconds(5.0),
        }
    }
}

/// A whole number, or "auto".
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum WholeOrAuto {
    Whole(u32),
    Auto,
}

impl Serialize for WholeOrAuto {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            WholeOrAuto::Whole(number) => serializer.serialize_u32(*number),
            WholeOrAuto::Auto => serializer.serialize_str("auto"),
        }
    }
}

impl Read for WholeOrAuto {
    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 1_000_000 }, { "enum": ["auto"] }] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Typed {
            Number(serde_json::Number),
            Text(String),
        }
        let wanted = "a whole number from 1 to 1000000, or \"auto\"";
        let typed = node.scalar(faults, wanted)?;
        let read = match &typed {
            Typed::Number(number) => number
                .as_u64()
                .filter(|number| (1..=1_000_000).contains(number))
                .map(|number| WholeOrAuto::Whole(number as u32)),
            Typed::Text(text) => (text == "auto").then_some(WholeOrAuto::Auto),
        };
        if read.is_none() {
            let typed = match typed {
                Typed::Number(number) => number.to_string(),
                Typed::Text(text) => format!("\"{text}\""),
            };
            let message = format!("{} must be {wanted}, not {typed}", node.title());
            node.fault(faults, Problem::new(message, format!("write {wanted}")));
        }
        read
    }
}

const WORDS: [&str; 2] = ["standard", "off"];

impl Read for FileResilience {
    fn schema() -> Value {
        json!({ "anyOf": [{ "enum": WORDS }, FileResilienceKeys::schema()] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        if node.is_object() {
            return FileResilienceKeys::read(node, faults).map(Box::new).map(FileResilience::Object);
        }
        let word: String = node.scalar(faults, "\"standard\", \"off\" or an object")?;
        match word.as_str() {
            "standard" => Some(FileResilience::Standard),
            "off" => Some(FileResilience::Off),
            _ => {
                let help = match nearest(&word, &WORDS) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "known values: standard, off, or an object".to_owned(),
                };
                node.fault(faults, Problem::new(format!("{} cannot be \"{word}\"", node.title()), help));
                None
            }
        }
    }
}

impl<T: Read> Read for OrOff<T> {
    fn schema() -> Value {
        json!({ "anyOf": [{ "enum": ["off"] }, T::schema()] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        if node.is_object() {
            return T::read(node, faults).map(OrOff::Object);
        }
        let word: String = node.scalar(faults, "\"off\" or an object")?;
        if word == "off" {
            return Some(OrOff::Off);
        }
        let message = format!("{} cannot be \"{word}\"", node.title());
        node.fault(faults, Problem::new(message, "write \"off\", or an object with the settings"));
        None
    }
}
