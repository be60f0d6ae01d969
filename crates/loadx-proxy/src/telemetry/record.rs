//! The facts about one exchange that LoadX counts and logs.

use std::net::IpAddr;
use std::time::Duration;

use loadx_core::config::LogField;
use loadx_core::plan::ClusterSlot;
use loadx_core::{Backend, ErrorKind, ListenerId, ProxyError, RouteId, Time};
use loadx_http::grpc::Status;
use loadx_http::{TraceParent, Version};

use super::latency::Buckets;
use crate::incoming::Incoming;
use crate::limits::LOGGED_FIELD_BYTES_MAX;
use crate::request_id::RequestId;

/// An exchange that ended, or a request that was refused before an exchange began.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) began: Time,
    pub(crate) ended: Time,
    /// When the connection became a tunnel. The time of the tunnel does not count as response time.
    pub(crate) switched_at: Option<Time>,
    pub(crate) status: u16,
    /// The status of gRPC, if the request is a call of gRPC.
    pub(crate) grpc: Option<Status>,
    /// Whether the client got only a part of the response.
    pub(crate) broke_off: bool,
    /// Content received from the client, in bytes.
    pub(crate) received: u64,
    /// Content sent to the client, in bytes.
    pub(crate) content: u64,
    /// When the head of the response of a backend came; `None` for a response that was complete with its head.
    pub(crate) head_at: Option<Time>,
    pub(crate) waits: Waits,
    pub(crate) cluster: Option<&'a ClusterSlot>,
    /// The backend of the last attempt.
    pub(crate) backend: Option<&'a Backend>,
    pub(crate) tries: usize,
    /// Why the client did not get a complete response of a backend.
    pub(crate) error: Option<Cause<'a>>,
}

/// The times that most exchanges do not need.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Waits {
    /// The time in the queue of the cluster.
    pub(crate) queue: Duration,
    /// The time until connections to backends were open, with their handshakes.
    pub(crate) connect: Duration,
}

impl Waits {
    pub(super) fn count(&self, queue: &mut Buckets, connect: &mut Buckets) {
        for (time, buckets) in [(self.queue, queue), (self.connect, connect)] {
            if time > Duration::ZERO {
                buckets.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
            }
        }
    }
}

/// Why a request got no complete response of a backend.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Cause<'a> {
    pub(crate) kind: ErrorKind,
    /// The reason, as text for the log.
    pub(crate) message: &'a str,
}

impl<'a> Cause<'a> {
    pub(crate) fn new(kind: ErrorKind, message: &'a str) -> Self {
        Cause { kind, message }
    }

    pub(crate) fn of(error: &'a ProxyError) -> Self {
        Cause { kind: error.kind, message: &error.message }
    }
}

/// The request of a record. Only the log looks up names and fields, so that counting costs no look-up.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Request<'a> {
    Accepted(&'a Incoming),
    /// The head of the request was invalid or late.
    Refused {
        listener: ListenerId,
        /// `None` if the listener has left the plan.
        listener_name: Option<&'a str>,
        client: IpAddr,
        id: &'a RequestId,
        /// The method and the target, as far as received.
        line: (&'a [u8], &'a [u8]),
        /// The value of Host, as far as received.
        host: Option<&'a [u8]>,
    },
}

impl<'a> Record<'a> {
    /// A request that ended with this status, without an attempt at a backend.
    pub(crate) fn new(request: Request<'a>, began: Time, ended: Time, status: u16) -> Self {
        Record {
            request,
            began,
            ended,
            switched_at: None,
            status,
            grpc: None,
            broke_off: false,
            received: 0,
            content: 0,
            head_at: None,
            waits: Waits::default(),
            cluster: None,
            backend: None,
            tries: 0,
            error: None,
        }
    }

    /// Why the client did not get a complete response of a backend, or got an error of the backend.
    pub(crate) fn error_kind(&self) -> Option<ErrorKind> {
        let of_backend = || (self.status >= 500 && self.backend.is_some()).then_some(ErrorKind::BackendStatus);
        self.error.map(|cause| cause.kind).or_else(of_backend)
    }

    /// The time from the head of the request to the head of the response of a backend; `None` if no backend has answered.
    pub(super) fn response_head(&self) -> Option<Duration> {
        self.response_head_us().map(Duration::from_micros)
    }

    /// The same in microseconds.
    pub(super) fn response_head_us(&self) -> Option<u64> {
        let at = match (self.head_at, self.error) {
            (Some(at), _) => at,
            // A response that was complete with its head.
            (None, None) if self.backend.is_some() => self.ended,
            _ => return None,
        };
        Some(at.as_nanos().saturating_sub(self.began.as_nanos()) / 1_000)
    }

    /// The value of a field that the log shows, if present.
    pub(crate) fn field(&self, field: LogField) -> Option<&[u8]> {
        match field {
            LogField::GrpcStatus => self.grpc.map(|status| status.name().as_bytes()),
            field => self.request.field(field),
        }
    }

    /// The time from the head of the request to the end of the exchange.
    pub(crate) fn took(&self) -> Duration {
        self.ended.since(self.began)
    }

    /// The time from the head of the request to the end of the response, in microseconds.
    pub(crate) fn response_time_us(&self) -> u64 {
        // `Duration` would cost a division into seconds per request.
        self.switched_at.unwrap_or(self.ended).as_nanos().saturating_sub(self.began.as_nanos()) / 1_000
    }

    /// Whether the exchange counts as an error: status 500 or above, or a truncated response.
    pub(crate) fn failed(&self) -> bool {
        self.status >= 500 || self.broke_off
    }
}

impl<'a> Request<'a> {
    pub(crate) fn client(&self) -> IpAddr {
        match self {
            Request::Accepted(incoming) => incoming.client,
            Request::Refused { client, .. } => *client,
        }
    }

    /// The host, as far as known.
    pub(crate) fn host(&self) -> Option<&'a [u8]> {
        match self {
            Request::Accepted(incoming) => Some(incoming.head.authority()),
            Request::Refused { host, .. } => *host,
        }
    }

    /// The scheme of the connection.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Request::Accepted(incoming) => incoming.scheme(),
            Request::Refused { .. } => "http",
        }
    }

    /// The name of the listener.
    pub(crate) fn listener_name(&self) -> Option<&'a str> {
        match self {
            Request::Accepted(incoming) => Some(&incoming.plan.listeners[incoming.listener].name),
            Request::Refused { listener_name, .. } => *listener_name,
        }
    }

    /// The trace of the request.
    pub(super) fn trace(&self) -> Option<TraceParent> {
        match self {
            Request::Accepted(incoming) => incoming.trace(),
            Request::Refused { .. } => None,
        }
    }

    /// Whether the config wants every request to have a trace.
    pub(super) fn has_trace(&self) -> bool {
        matches!(self, Request::Accepted(incoming) if incoming.trace.is_some())
    }

    /// The listener of the client.
    pub(super) fn listener(&self) -> ListenerId {
        match self {
            Request::Accepted(incoming) => incoming.plan.listeners[incoming.listener].id,
            Request::Refused { listener, .. } => *listener,
        }
    }

    /// The matched route.
    pub(super) fn route_id(&self) -> Option<RouteId> {
        match self {
            Request::Accepted(incoming) => incoming.route.map(|route| incoming.plan.route_ids[route]),
            Request::Refused { .. } => None,
        }
    }

    pub(crate) fn id(&self) -> &'a RequestId {
        match self {
            Request::Accepted(incoming) => &incoming.id,
            Request::Refused { id, .. } => id,
        }
    }

    /// The method and the target.
    pub(crate) fn line(&self) -> (&'a [u8], &'a [u8]) {
        match self {
            Request::Accepted(incoming) => (incoming.head.method(), incoming.head.path_and_query()),
            Request::Refused { line, .. } => *line,
        }
    }

    /// The value of the first field of a name, cut to [`LOGGED_FIELD_BYTES_MAX`].
    fn field(&self, field: LogField) -> Option<&'a [u8]> {
        let value = match (self, field) {
            (Request::Refused { host, .. }, LogField::Host) => *host,
            (Request::Refused { .. }, _) => None,
            (Request::Accepted(Incoming { head, tls, .. }), field) => match field {
                LogField::Host => Some(head.authority()).filter(|host| !host.is_empty()),
                LogField::UserAgent => head.values("user-agent").next(),
                LogField::Referer => head.values("referer").next(),
                LogField::Protocol => Some(match head.version() {
                    Version::Http10 => &b"HTTP/1.0"[..],
                    Version::Http11 => b"HTTP/1.1",
                    Version::Http2 => b"HTTP/2.0",
                }),
                // Not a fact about the request.
                LogField::GrpcStatus => None,
                LogField::TlsVersion => tls.as_ref().map(|tls| tls.version.as_bytes()),
                LogField::TlsCipher => tls.as_ref().map(|tls| tls.cipher.as_bytes()),
                LogField::TlsName => tls.as_ref().and_then(|tls| tls.server_name.as_deref()).map(str::as_bytes),
                LogField::TlsSession => tls.as_ref().map(|tls| match tls.is_resumed {
                    true => &b"resumed"[..],
                    false => b"full",
                }),
                LogField::TlsClient => tls.as_ref().and_then(|tls| tls.client_subject.as_deref()).map(str::as_bytes),
            },
        };
        value.map(|value| &value[..value.len().min(LOGGED_FIELD_BYTES_MAX)])
    }

    /// The name of the matched route.
    pub(crate) fn route(&self) -> Option<&'a str> {
        match self {
            Request::Accepted(incoming) => incoming.route_name(),
            Request::Refused { .. } => None,
        }
    }
}
