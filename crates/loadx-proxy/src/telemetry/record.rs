//! The facts about one exchange that LoadX counts and logs.

use std::net::IpAddr;
use std::time::Duration;

use loadx_core::config::LogField;
use loadx_core::plan::ClusterSlot;
use loadx_core::{Backend, Time};
use loadx_http::Version;
use loadx_http::grpc::Status;

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
    /// Content sent to the client, in bytes.
    pub(crate) content: u64,
    pub(crate) cluster: Option<&'a ClusterSlot>,
    /// The backend of the last attempt.
    pub(crate) backend: Option<&'a Backend>,
    pub(crate) tries: usize,
    /// The error, as text for the log.
    pub(crate) error: Option<&'a str>,
}

/// The request of a record. Only the log looks up names and fields, so that counting costs no look-up.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Request<'a> {
    Accepted(&'a Incoming),
    /// The head of the request was invalid or late.
    Refused {
        client: IpAddr,
        id: &'a RequestId,
        /// The method and the target, as far as received.
        line: (&'a [u8], &'a [u8]),
        /// The value of Host, as far as received.
        host: Option<&'a [u8]>,
    },
}

impl Record<'_> {
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
