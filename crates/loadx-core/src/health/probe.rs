//! What a probe asks, and which answers are healthy.

use std::sync::Arc;

/// The kind of probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Sends a request and judges the response.
    Http(Box<HttpProbe>),
    /// Asks the health check of gRPC (grpc.health.v1); healthy if it says SERVING.
    Grpc {
        /// The service to ask about; an empty name means the whole server.
        service: Arc<str>,
    },
    /// Opens a connection, with the handshake if the backend has TLS, and closes it.
    Connect,
    /// No probes: every backend counts as healthy, and a failed connect ejects no backend.
    Off,
}

impl Default for Probe {
    fn default() -> Self {
        Probe::Http(Box::default())
    }
}

/// The request of a probe, and the responses that are healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// The method. Default GET.
    pub method: ProbeMethod,
    /// The request target. Default `/health`.
    pub path: Arc<str>,
    /// The value of Host; `None`: host and port of the connection.
    pub host: Option<Arc<str>>,
    /// Further fields of the request.
    pub fields: Vec<(Arc<str>, Arc<str>)>,
    /// The statuses that are healthy. Default [`StatusRanges::any_answer`].
    pub accepts: StatusRanges,
    /// A text that the content of a healthy response has; `None`: any content.
    pub content: Option<Arc<str>>,
}

impl Default for HttpProbe {
    fn default() -> Self {
        HttpProbe {
            method: ProbeMethod::Get,
            path: "/health".into(),
            host: None,
            fields: Vec::new(),
            accepts: StatusRanges::any_answer(),
            content: None,
        }
    }
}

impl HttpProbe {
    /// A GET of a path of the application: a status of 200 to 399 is healthy.
    pub fn get(path: &str) -> Self {
        HttpProbe { path: path.into(), accepts: StatusRanges::success(), ..HttpProbe::default() }
    }
}

/// The method of a probe.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ProbeMethod {
    /// GET
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// POST, without content
    Post,
}

impl ProbeMethod {
    /// The method as it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeMethod::Get => "GET",
            ProbeMethod::Head => "HEAD",
            ProbeMethod::Options => "OPTIONS",
            ProbeMethod::Post => "POST",
        }
    }
}

/// Ranges of statuses, such as 200 to 299, with their first and last status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRanges(pub Vec<(u16, u16)>);

impl StatusRanges {
    /// 200 to 399: the config names the path of the probe.
    pub fn success() -> Self {
        StatusRanges(vec![(200, 399)])
    }

    /// Any status below 500: the config names no path, and an application without /health answers 404.
    pub fn any_answer() -> Self {
        StatusRanges(vec![(100, 499)])
    }

    /// Whether a status is in one of the ranges.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl std::fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first} to {last}")?,
            }
        }
        Ok(())
    }
}
