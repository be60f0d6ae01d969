//! What a gateway must know of gRPC: which messages are gRPC, statuses, and timeouts.
//!
//! [The protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) and
//! [the statuses](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).

use std::fmt;
use std::time::Duration;

use crate::{RequestHead, Version};

/// A status of gRPC.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Status(u8);

impl Status {
    /// The call succeeded.
    pub const OK: Status = Status(0);
    /// The caller no longer wants the call.
    pub const CANCELLED: Status = Status(1);
    /// An error that no other status names.
    pub const UNKNOWN: Status = Status(2);
    /// The time of the call is over.
    pub const DEADLINE_EXCEEDED: Status = Status(4);
    /// The server does not have what the call names.
    pub const NOT_FOUND: Status = Status(5);
    /// The caller may not do this.
    pub const PERMISSION_DENIED: Status = Status(7);
    /// Something is used up.
    pub const RESOURCE_EXHAUSTED: Status = Status(8);
    /// The server does not have the method.
    pub const UNIMPLEMENTED: Status = Status(12);
    /// A defect of the server.
    pub const INTERNAL: Status = Status(13);
    /// The server cannot be reached now.
    pub const UNAVAILABLE: Status = Status(14);
    /// The server lost data.
    pub const DATA_LOSS: Status = Status(15);
    /// The caller has not shown who it is.
    pub const UNAUTHENTICATED: Status = Status(16);

    /// The number of statuses that gRPC names.
    pub const COUNT: usize = NAMES.len();

    /// The status with this number; [`UNKNOWN`](Self::UNKNOWN) for a number that gRPC does not name.
    pub fn of(number: u8) -> Self {
        if usize::from(number) < NAMES.len() { Status(number) } else { Status::UNKNOWN }
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name in the specification.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// The status of HTTP that tells the same about the server; `None` for a status that does not say that the server failed.
    pub fn as_server_error(self) -> Option<u16> {
        match self {
            Status::UNAVAILABLE => Some(503),
            Status::UNKNOWN | Status::INTERNAL | Status::DATA_LOSS => Some(500),
            _ => None,
        }
    }

    /// The status of a call that got this status of HTTP, as
    /// [the specification](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md) says; and 408 and 413, which LoadX
    /// sends for requests that are late or too large.
    pub fn of_http(status: u16) -> Self {
        match status {
            400 => Status::INTERNAL,
            401 => Status::UNAUTHENTICATED,
            403 => Status::PERMISSION_DENIED,
            404 => Status::UNIMPLEMENTED,
            408 => Status::DEADLINE_EXCEEDED,
            413 | 431 => Status::RESOURCE_EXHAUSTED,
            429 | 502..=504 => Status::UNAVAILABLE,
            _ => Status::UNKNOWN,
        }
    }
}

/// The names, each at its number.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name())
    }
}

/// What a call asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The longest time of the call; `None` without the field grpc-timeout, or if its value is no time.
    pub timeout: Option<Duration>,
}

impl Call {
    /// The call that a request is; `None` for a request that is no call of gRPC: a POST in HTTP/2 with the Content-Type of gRPC.
    pub fn of(head: &RequestHead) -> Option<Self> {
        let may_be = head.version() == Version::Http2 && head.method() == b"POST";
        let is_call = may_be && head.values("content-type").next().is_some_and(is_content_type);
        is_call.then(|| Call { timeout: head.values("grpc-timeout").next().and_then(timeout) })
    }
}

/// Whether the beginning of a head in the notation of HTTP/1.1, which came in HTTP/2, is that of a call.
pub fn is_call(text: &[u8]) -> bool {
    const NAME: &[u8] = b"content-type:";
    let is_type = |line: &[u8]| line.strip_prefix(NAME).is_some_and(|value| is_content_type(value.trim_ascii()));
    text.starts_with(b"POST ") && text.split(|byte| *byte == b'\n').any(is_type)
}

/// Appends a text as the value of grpc-message: what is not printable ASCII becomes a percent sign with two digits.
pub fn put_message(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Whether this Content-Type is that of a message of gRPC: `application/grpc`, with a format such as `+proto`, or parameters. Not
/// gRPC-Web, which is another protocol.
pub fn is_content_type(value: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let is_type = value.len() >= TYPE.len() && value[..TYPE.len()].eq_ignore_ascii_case(TYPE);
    is_type && matches!(value.get(TYPE.len()), None | Some(b'+' | b';' | b' '))
}

/// The status in the field grpc-status of these field lines; `None` without the field, or if its value is no number.
pub fn status_in(lines: &[u8]) -> Option<Status> {
    const NAME: &[u8] = b"grpc-status:";
    let lines = lines.split(|byte| *byte == b'\n');
    let line =
        lines.into_iter().find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))?;
    status(&line[NAME.len()..])
}

/// The status that a value of grpc-status names; `None` if the value is no number.
pub fn status(value: &[u8]) -> Option<Status> {
    let number: u32 = std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()?;
    Some(u8::try_from(number).map_or(Status::UNKNOWN, Status::of))
}

/// The time that a value of grpc-timeout gives a call: up to eight digits and a unit. `None` if the value is no time.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_grpc_are_known() {
        for value in ["application/grpc", "application/grpc+proto", "Application/GRPC; x=y"] {
            assert!(is_content_type(value.as_bytes()), "{value}");
        }
        assert!(is_call(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\nx: y"));
        assert!(!is_call(b"GET / HTTP/1.1\r\ncontent-type: application/grpc\r\n"));
        for value in ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grp", ""] {
            assert!(!is_content_type(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn statuses_are_read() {
        assert_eq!(status_in(b"x: y\r\ngrpc-status: 0\r\n"), Some(Status::OK));
        assert_eq!(status_in(b"Grpc-Status:14\r\n"), Some(Status::UNAVAILABLE));
        assert_eq!(status_in(b"grpc-status: 99\r\n"), Some(Status::UNKNOWN));
        assert_eq!(status_in(b"grpc-status: 999999\r\n"), Some(Status::UNKNOWN));
        assert_eq!(status_in(b"grpc-status: x\r\n"), None);
        assert_eq!(status_in(b"x-grpc-status: 0\r\n"), None);
        assert_eq!(Status::UNAVAILABLE.to_string(), "14 (UNAVAILABLE)");
        assert_eq!((Status::of_http(503), Status::of_http(404)), (Status::UNAVAILABLE, Status::UNIMPLEMENTED));
    }

    #[test]
    fn messages_are_encoded() {
        let mut out = String::new();
        put_message("50 % of é\n", &mut out);
        assert_eq!(out, "50 %25 of %C3%A9%0A");
    }

    #[test]
    fn timeouts_are_read() {
        for (value, time) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("5m", Some(Duration::from_millis(5))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("100000000S", None),
            ("S", None),
            ("5", None),
            ("-5S", None),
            ("5.0S", None),
            ("", None),
        ] {
            assert_eq!(timeout(value.as_bytes()), time, "{value}");
        }
    }
}
