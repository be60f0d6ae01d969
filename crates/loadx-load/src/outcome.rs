//! The result of one request.

use std::io;
use std::time::Duration;

use loadx_http::{BodyFault, Fault};

/// The result of one request.
#[derive(Debug)]
pub struct Outcome<'o> {
    /// The response time: in a closed loop from its sending, in an open loop from the moment when the
    /// request was due.
    pub took: Duration,
    /// The time from that moment to the sending of the request. Zero in a closed loop.
    pub late: Duration,
    /// Whether the request went out again because the server had closed the idle connection.
    pub reconnected: bool,
    /// The answer, or why there is none.
    pub result: Result<Answer<'o>, Failure>,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer<'o> {
    /// The status code.
    pub status: u16,
    /// The value of the X-Backend field, which the test backend sets.
    pub backend: Option<&'o str>,
    /// Content, in bytes.
    pub content_bytes: u64,
}

/// Why there is no whole response.
#[derive(Debug)]
pub enum Failure {
    /// The connection could not be opened.
    Connect(io::Error),
    /// The connection broke.
    Io(io::Error),
    /// The connection ended before a response head was whole.
    Closed,
    /// The request took too long.
    TimedOut,
    /// The response head breaks the rules of HTTP.
    Head(Fault),
    /// The response body breaks the rules of HTTP.
    Body(BodyFault),
    /// Bytes followed the response.
    Excess,
}

impl Failure {
    /// The kind that errors are counted by.
    pub fn kind(&self) -> String {
        let named = |prefix: &str, error: &io::Error| match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("{prefix}: connection refused"),
            io::ErrorKind::ConnectionReset => format!("{prefix}: connection reset"),
            io::ErrorKind::BrokenPipe => format!("{prefix}: connection closed"),
            _ => format!("{prefix}: {error}"),
        };
        match self {
            Failure::Connect(error) => named("connect", error),
            Failure::Io(error) => named("exchange", error),
            Failure::Closed => "exchange: connection closed before a response".to_owned(),
            Failure::TimedOut => "timed out".to_owned(),
            Failure::Head(fault) => format!("bad response: {fault}"),
            Failure::Body(fault) => format!("bad response: {}", fault.as_str()),
            Failure::Excess => "bad response: bytes follow its end".to_owned(),
        }
    }
}
