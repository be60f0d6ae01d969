//! Responses of LoadX's own: errors, redirects, fixed responses of the config, and status endpoints.

use std::borrow::Cow;

use loadx_core::route::Respond;
use loadx_core::{ErrorKind, ProxyError};
use loadx_http::grpc::{Status, put_message};

use crate::messages::EndpointAnswer;
use crate::request_id::RequestId;

/// A response of LoadX's own.
#[derive(Clone, Debug)]
pub(crate) struct OwnResponse<'o> {
    pub(crate) status: u16,
    /// The value of Content-Type, if there is content.
    pub(crate) content_type: Option<&'o str>,
    /// Further field lines, each with its CR LF.
    pub(crate) fields: String,
    pub(crate) content: Cow<'o, [u8]>,
}

const JSON: Option<&str> = Some("application/json");

impl<'o> OwnResponse<'o> {
    /// An error response with a JSON body.
    pub(crate) fn error(error: &ProxyError, id: &RequestId) -> Self {
        let kind = error.kind.as_str();
        let content = serde_json::json!({
            "error": kind,
            "message": error.message,
            "status": error.status,
            "request_id": id.to_string(),
        });
        let mut fields =
            format!("Cache-Control: no-store\r\nProxy-Status: LoadX; error={kind}\r\nX-Request-Id: {id}\r\n");
        if let Some(seconds) = error.retry_after {
            fields.push_str(&format!("Retry-After: {seconds}\r\n"));
        }
        let content = Cow::Owned(format!("{content}\n").into_bytes());
        OwnResponse { status: error.status, content_type: JSON, fields, content }
    }

    /// An error response to a request, which may be a call of gRPC.
    pub(crate) fn error_to(is_call: bool, error: &ProxyError, id: &RequestId) -> Self {
        match is_call {
            true => OwnResponse::grpc_error(grpc_status_of(error), &error.message, id),
            false => OwnResponse::error(error, id),
        }
    }

    /// The response to a call of gRPC that LoadX cannot serve: a head with the status, and nothing else.
    fn grpc_error(status: Status, message: &str, id: &RequestId) -> Self {
        let mut fields = format!("grpc-status: {}\r\ngrpc-message: ", status.number());
        put_message(message, &mut fields);
        fields.push_str(&format!("\r\nX-Request-Id: {id}\r\n"));
        OwnResponse { status: 200, content_type: Some("application/grpc"), fields, content: Cow::Borrowed(b"") }
    }

    /// The response to an OPTIONS with Max-Forwards 0 (RFC 9110, section 9.3.7).
    pub(crate) fn options(id: &RequestId) -> Self {
        let fields = format!("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\nX-Request-Id: {id}\r\n");
        OwnResponse { status: 200, content_type: None, fields, content: Cow::Borrowed(b"") }
    }

    /// The response of a status endpoint.
    pub(crate) fn endpoint(answer: EndpointAnswer, id: &RequestId) -> Self {
        let EndpointAnswer { status, content_type, content } = answer;
        let fields = format!("Cache-Control: no-store\r\nX-Request-Id: {id}\r\n");
        OwnResponse { status, content_type: Some(content_type), fields, content: Cow::Owned(content) }
    }

    /// The response to what the dashboard wanted.
    pub(crate) fn told(status: u16, text: String, id: &RequestId) -> Self {
        let fields = format!("Cache-Control: no-store\r\nX-Request-Id: {id}\r\n");
        let content = Cow::Owned(text.into_bytes());
        OwnResponse { status, content_type: Some("text/plain; charset=utf-8"), fields, content }
    }

    /// A redirect.
    pub(crate) fn redirect(status: u16, location: &[u8], id: &RequestId) -> Self {
        let fields = format!("Location: {}\r\nX-Request-Id: {id}\r\n", String::from_utf8_lossy(location));
        OwnResponse { status, content_type: None, fields, content: Cow::Borrowed(b"") }
    }

    /// The fixed response of a route.
    pub(crate) fn fixed(respond: &'o Respond, id: &RequestId) -> Self {
        // A 204, 205 or 304 has no content (RFC 9110, sections 6.4.1 and 15.3.6).
        let content = if matches!(respond.status, 204 | 205 | 304) { "" } else { &respond.body };
        OwnResponse {
            status: respond.status,
            content_type: (!content.is_empty()).then_some(&respond.content_type),
            fields: format!("X-Request-Id: {id}\r\n"),
            content: Cow::Borrowed(content.as_bytes()),
        }
    }
}

/// The status of gRPC that tells a caller of an error.
pub(crate) fn grpc_status_of(error: &ProxyError) -> Status {
    match error.grpc_status {
        Some(number) => Status::of(number),
        None if error.kind == ErrorKind::HttpResponseTimeout => Status::DEADLINE_EXCEEDED,
        None => Status::of_http(error.status),
    }
}
