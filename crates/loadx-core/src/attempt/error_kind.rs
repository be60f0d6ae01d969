//! The kinds of errors of requests, and the side that caused each.

/// Why a request got no complete response of a backend.
///
/// The kinds of error responses are error types of Proxy-Status (RFC 9209, section 2.3). The others occur only in logs and
/// counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The backend refused the connection or is unreachable.
    ConnectionRefused,
    /// The backend did not accept the connection in time.
    ConnectionTimeout,
    /// The backend closed or reset the connection before its response.
    ConnectionTerminated,
    /// LoadX, a cluster or a backend has as many requests or connections as it may have.
    ConnectionLimitReached,
    /// No route of the config matches the request.
    DestinationNotFound,
    /// No backend can be asked.
    DestinationUnavailable,
    /// The route does not serve the client.
    HttpRequestDenied,
    /// The request is invalid, too large or late.
    HttpRequestError,
    /// The response of the backend is not valid HTTP.
    HttpProtocolError,
    /// The response of the backend ended before it was complete.
    HttpResponseIncomplete,
    /// The backend did not answer in time.
    HttpResponseTimeout,
    /// LoadX lacks ports, descriptors or memory.
    ProxyInternalError,
    /// The backend showed a certificate that LoadX does not trust.
    TlsCertificateError,
    /// The handshake of TLS with the backend failed.
    TlsProtocolError,
    /// The backend answered with a status of 500 or above. The client got the response.
    BackendStatus,
    /// The client closed its connection before the end of the response.
    ClientGone,
    /// LoadX ended the exchange: LoadX stops, or a drain was over.
    Stopped,
    /// A tunnel broke.
    TunnelBroke,
}

/// The side that caused an error.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultOf {
    /// The client.
    Client,
    /// The backend, or the network between LoadX and the backend.
    Backend,
    /// LoadX: a limit of the config, a lack of resources, or a shutdown.
    Loadx,
    /// Not known.
    Unknown,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [ErrorKind; 18] = [
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionTimeout,
        ErrorKind::ConnectionTerminated,
        ErrorKind::ConnectionLimitReached,
        ErrorKind::DestinationNotFound,
        ErrorKind::DestinationUnavailable,
        ErrorKind::HttpRequestDenied,
        ErrorKind::HttpRequestError,
        ErrorKind::HttpProtocolError,
        ErrorKind::HttpResponseIncomplete,
        ErrorKind::HttpResponseTimeout,
        ErrorKind::ProxyInternalError,
        ErrorKind::TlsCertificateError,
        ErrorKind::TlsProtocolError,
        ErrorKind::BackendStatus,
        ErrorKind::ClientGone,
        ErrorKind::Stopped,
        ErrorKind::TunnelBroke,
    ];

    /// The word for this kind in responses, logs and counts.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::ConnectionRefused => "connection_refused",
            ErrorKind::ConnectionTimeout => "connection_timeout",
            ErrorKind::ConnectionTerminated => "connection_terminated",
            ErrorKind::ConnectionLimitReached => "connection_limit_reached",
            ErrorKind::DestinationNotFound => "destination_not_found",
            ErrorKind::DestinationUnavailable => "destination_unavailable",
            ErrorKind::HttpRequestDenied => "http_request_denied",
            ErrorKind::HttpRequestError => "http_request_error",
            ErrorKind::HttpProtocolError => "http_protocol_error",
            ErrorKind::HttpResponseIncomplete => "http_response_incomplete",
            ErrorKind::HttpResponseTimeout => "http_response_timeout",
            ErrorKind::ProxyInternalError => "proxy_internal_error",
            ErrorKind::TlsCertificateError => "tls_certificate_error",
            ErrorKind::TlsProtocolError => "tls_protocol_error",
            ErrorKind::BackendStatus => "backend_status",
            ErrorKind::ClientGone => "client_gone",
            ErrorKind::Stopped => "stopped",
            ErrorKind::TunnelBroke => "tunnel_broke",
        }
    }

    /// The side that caused an error of this kind.
    pub fn fault(self) -> FaultOf {
        match self {
            ErrorKind::DestinationNotFound
            | ErrorKind::HttpRequestDenied
            | ErrorKind::HttpRequestError
            | ErrorKind::ClientGone => FaultOf::Client,
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionTimeout
            | ErrorKind::ConnectionTerminated
            | ErrorKind::DestinationUnavailable
            | ErrorKind::HttpProtocolError
            | ErrorKind::HttpResponseIncomplete
            | ErrorKind::HttpResponseTimeout
            | ErrorKind::TlsCertificateError
            | ErrorKind::TlsProtocolError
            | ErrorKind::BackendStatus => FaultOf::Backend,
            ErrorKind::ConnectionLimitReached | ErrorKind::ProxyInternalError | ErrorKind::Stopped => FaultOf::Loadx,
            ErrorKind::TunnelBroke => FaultOf::Unknown,
        }
    }
}

impl FaultOf {
    /// The word for this side in logs and counts.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultOf::Client => "client",
            FaultOf::Backend => "backend",
            FaultOf::Loadx => "loadx",
            FaultOf::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_place_and_a_word_of_its_own() {
        let mut words = std::collections::BTreeSet::new();
        for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            assert!(words.insert(kind.as_str()), "{}", kind.as_str());
        }
    }
}
