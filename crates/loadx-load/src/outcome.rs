//! The result of one request.

use std::io;
use std::time::Duration;

use loadx_http::{BodyFault, Fault};

/// The result of one request.
#[derive(Debug)]
pub struct Outcome<'o> {
    /// The time from the start of the run to the sending of the request, or in an open loop to the scheduled moment.
    pub at: Duration,
    /// The response time. It counts from the sending of the request in a closed loop, and from the scheduled moment in
    /// an open loop.
    pub took: Duration,
    /// The time from the scheduled moment to the sending of the request. Zero in a closed loop.
    pub late: Duration,
    /// Whether the client sent the request again because the server had closed the idle connection.
    pub reconnected: bool,
    /// The response, or the reason why there is none.
    pub result: Result<Answer<'o>, Failure>,
}

/// A complete response.
#[derive(Debug)]
pub struct Answer<'o> {
    /// The status code.
    pub status: u16,
    /// The value of the X-Backend field, which the test backend sets.
    pub backend: Option<&'o str>,
    /// The size of the content, in bytes.
    pub content_bytes: u64,
}

/// Why a request has no complete response.
#[derive(Debug)]
pub enum Failure {
    /// The client could not open a connection.
    Connect(io::Error),
    /// Reading or writing failed.
    Io(io::Error),
    /// The connection ended before the end of the response head.
    Closed,
    /// The request took longer than the time limit.
    TimedOut,
    /// The response head breaks the rules of HTTP.
    Head(Fault),
    /// The response body breaks the rules of HTTP.
    Body(BodyFault),
    /// Bytes followed the response.
    Excess,
}

impl Failure {
    /// The kind of the failure, for counting.
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
