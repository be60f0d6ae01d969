//! The plan of a run.

use std::time::Duration;

use crate::Target;

/// The requests of a run, their pace, and the end of the run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server and the path.
    pub target: Target,
    /// The request to send.
    pub request: Request,
    /// The number of requests after which the run ends; `None` means no limit.
    pub requests: Option<u64>,
    /// The time after which the run sends no further request; `None` means no limit. The run waits for requests under
    /// way.
    pub duration: Option<Duration>,
    /// The most requests under way at the same time, at least 1.
    pub concurrency: usize,
    /// Requests per second of an open loop, above 0; `None` means a closed loop.
    pub rate: Option<f64>,
    /// Whether a connection carries further requests.
    pub reuse: Reuse,
    /// The longest time from sending a request to the end of its response, connecting included.
    pub timeout: Duration,
}

impl Plan {
    /// A closed loop of `requests` GET requests on kept connections.
    pub fn new(target: Target, requests: u64, concurrency: usize, timeout: Duration) -> Plan {
        Plan {
            request: Request::get(&target),
            target,
            requests: Some(requests),
            duration: None,
            concurrency,
            rate: None,
            reuse: Reuse::Kept,
            timeout,
        }
    }
}

/// A request. All requests of a run are equal.
#[derive(Clone, Debug)]
pub struct Request {
    /// The head with its empty line.
    pub head: Vec<u8>,
    /// The bytes of content after the head, as the head announces them.
    pub body_bytes: u64,
}

impl Request {
    /// A GET request for `target`.
    pub fn get(target: &Target) -> Request {
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: LoadX-bench\r\nAccept: */*\r\n\r\n",
            target.path,
            target.authority()
        );
        Request { head: head.into_bytes(), body_bytes: 0 }
    }
}

/// Whether a connection carries further requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// The connection carries the next request, unless the server closes the connection.
    Kept,
    /// The connection ends. If the response says that the server closes the connection, the request is finished when
    /// the server has closed it.
    PerRequest,
    /// The connection stays open and silent until the run is stopped; the next request gets a new connection.
    Held,
}
