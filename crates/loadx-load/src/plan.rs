//! The plan of a run.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::{Origin, Target};

/// The requests of a run, their pace, and the end of the run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers.
    pub origins: Arc<[Origin]>,
    /// The requests, sent in turn; at least one.
    pub mix: Arc<[Request]>,
    /// The version of HTTP.
    pub protocol: Protocol,
    /// How LoadX checks certificates of the servers; needed for a server with TLS. The protocols of ALPN are set by the run.
    pub tls: Option<Arc<ClientConfig>>,
    /// The number of requests after the warm-up after which the run ends; `None` means no limit.
    pub requests: Option<u64>,
    /// The time after which the run sends no further request; `None` means no limit. The run waits for requests under
    /// way.
    pub duration: Option<Duration>,
    /// The time at the start whose requests do not count. Part of `duration`.
    pub warm_up: Duration,
    /// The most requests under way at the same time, at least 1.
    pub concurrency: usize,
    /// Requests per second of an open loop, above 0; `None` means a closed loop.
    pub rate: Option<f64>,
    /// Whether a connection carries further requests.
    pub reuse: Reuse,
    /// The longest time from sending a request to the end of its response, connecting included.
    pub timeout: Duration,
    /// The threads of [`run`](crate::run), at least 1; [`drive`](crate::drive()) uses the calling thread.
    pub threads: usize,
    /// The time from the start to the first scheduled request of an open loop.
    pub phase: Duration,
}

/// The version of HTTP.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1; one request at a time on a connection.
    Http1,
    /// HTTP/2, without an upgrade from HTTP/1.1, with so many requests at the same time on a connection.
    Http2 {
        /// The most requests at the same time on one connection, at least 1.
        streams: usize,
    },
}

impl Plan {
    /// A closed loop of `requests` GET requests on kept connections.
    pub fn new(target: Target, requests: u64, concurrency: usize, timeout: Duration) -> Plan {
        let request = Request::get(&target);
        Plan { requests: Some(requests), timeout, ..Plan::endless(target.origin, request, concurrency) }
    }

    /// A closed loop of one request to one server, without an end.
    pub fn endless(origin: Origin, request: Request, concurrency: usize) -> Plan {
        Plan {
            origins: [origin].into(),
            mix: [request].into(),
            protocol: Protocol::Http1,
            tls: None,
            requests: None,
            duration: None,
            warm_up: Duration::ZERO,
            concurrency,
            rate: None,
            reuse: Reuse::Kept,
            timeout: Duration::from_secs(30),
            threads: 1,
            phase: Duration::ZERO,
        }
    }

    /// The plan with these servers, by whose positions requests name their server.
    pub fn with_origins(self, origins: Vec<Origin>) -> Plan {
        Plan { origins: origins.into(), ..self }
    }

    /// The URL of the first request, for people.
    pub fn url(&self) -> String {
        let first = &self.mix[0];
        let (origin, path) = (&self.origins[first.origin], String::from_utf8_lossy(first.path()));
        let socket = origin.socket.as_ref().map_or(String::new(), |socket| format!(" over {}", socket.display()));
        format!("{}://{}{path}{socket}", origin.scheme(), origin.authority())
    }

    /// The part of this plan for one of so many threads.
    pub(crate) fn part(&self, thread: usize, threads: usize) -> Plan {
        let share = |whole: u64| whole / threads as u64 + u64::from((thread as u64) < whole % threads as u64);
        Plan {
            requests: self.requests.map(share),
            concurrency: share(self.concurrency as u64) as usize,
            rate: self.rate.map(|rate| rate / threads as f64),
            // The threads take turns.
            phase: self
                .rate
                .map_or(Duration::ZERO, |rate| Duration::from_secs_f64((thread as f64 / rate).min(86_400.0))),
            ..self.clone()
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The position of the server among those of the plan.
    pub origin: usize,
    /// The head with its empty line, in HTTP/1.1; for HTTP/2 LoadX translates the head.
    pub head: Vec<u8>,
    /// The content after the head, as the head announces the content.
    pub content: Content,
}

/// The content of a request.
#[derive(Clone, Debug)]
pub enum Content {
    /// So many bytes of no meaning.
    Filler(u64),
    /// These bytes.
    Bytes(Arc<[u8]>),
}

impl Content {
    /// The size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Content::Filler(size) => *size,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

impl Request {
    /// A GET request for `target`, the first server of the plan.
    pub fn get(target: &Target) -> Request {
        Request::build(0, &target.origin.authority(), "GET", &target.path, &[], Content::Filler(0))
    }

    /// A request with these fields. Fields that the caller does not set, and that every request has, are added.
    pub fn build(
        origin: usize,
        authority: &str,
        method: &str,
        path: &str,
        fields: &[(String, String)],
        content: Content,
    ) -> Request {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let has = |name: &str| fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let mut add = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        if !has("host") {
            add("Host", authority);
        }
        if !has("user-agent") {
            add("User-Agent", "LoadX-bench");
        }
        if !has("accept") {
            add("Accept", "*/*");
        }
        fields.iter().for_each(|(name, value)| add(name, value));
        let expects_content = matches!(method, "POST" | "PUT" | "PATCH");
        if (content.size() > 0 || expects_content) && !has("content-length") {
            add("Content-Length", &content.size().to_string());
        }
        head.push_str("\r\n");
        Request { origin, head: head.into_bytes(), content }
    }

    /// Whether the response has no content because the method is HEAD.
    pub(crate) fn is_head(&self) -> bool {
        self.head.starts_with(b"HEAD ")
    }

    /// The method.
    pub(crate) fn method(&self) -> &[u8] {
        self.head.split(|byte| *byte == b' ').next().unwrap_or_default()
    }

    /// Path and query.
    pub(crate) fn path(&self) -> &[u8] {
        self.head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
    }

    /// The field lines, each without its end.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        let text = std::str::from_utf8(&self.head).unwrap_or_default();
        text.split("\r\n").skip(1).filter(|line| !line.is_empty())
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
