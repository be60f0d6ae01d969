//! Spans of traced requests for OpenTelemetry, as the messages of OTLP (opentelemetry-proto 1.x). A worker encodes the spans of a
//! request when the request ends; a task of its own sends them, in batches.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use loadx_core::{Backend, Time};
use loadx_http::TraceParent;
use prost::Message;
use tokio::sync::mpsc;

use super::record::Record;
use crate::limits::{SPAN_TEXT_BYTES_MAX, SPANS_BATCH};

/// Spans, each an encoded message `Span`.
pub type SpanBatch = Vec<Vec<u8>>;

/// The spans of one worker that wait to be sent.
#[derive(Debug)]
pub(crate) struct Spans {
    batch: RefCell<SpanBatch>,
    queue: SpanSender,
}

/// The way of spans to the task that sends them.
#[derive(Clone, Debug)]
pub(crate) struct SpanSender {
    pub(crate) sender: mpsc::Sender<SpanBatch>,
    pub(crate) lost: Arc<LostSpans>,
}

/// The number of spans that were lost, over all workers: the receiver did not take them, or was too slow.
#[derive(Debug, Default)]
pub struct LostSpans(AtomicU64);

impl LostSpans {
    /// Counts lost spans.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The number so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One attempt of a traced request.
#[derive(Clone, Debug)]
pub(crate) struct AttemptSpan {
    pub(crate) backend: String,
    pub(crate) address: String,
    pub(crate) began: Time,
    pub(crate) ended: Time,
    /// The status of the response; 0 without one.
    pub(crate) status: u16,
    pub(crate) end: AttemptEnd,
}

/// How an attempt ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    Answered,
    /// LoadX ended the attempt because another one beside it was answered first: no failure.
    Overtaken,
    /// The kind of the failure.
    Failed(&'static str),
}

/// The id of the span of an attempt, from 1: the backend gets this id as its parent.
pub(crate) fn attempt_id(exchange: u64, attempt: usize) -> u64 {
    exchange.wrapping_add(attempt as u64)
}

impl Spans {
    pub(crate) fn new(queue: SpanSender) -> Self {
        Spans { batch: RefCell::default(), queue }
    }

    /// Adds the spans of a request: one for the exchange, and one for each attempt.
    ///
    /// `parent`: the span of the caller, if there is one; `own`: the id of the span of the exchange.
    pub(crate) fn add(
        &self,
        record: &Record<'_>,
        trace: TraceParent,
        parent: Option<u64>,
        own: u64,
        attempts: &[AttemptSpan],
    ) {
        // Spans have the time of day; records have the time since the start.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let at = |time: Time| now.saturating_sub(record.ended.as_nanos().saturating_sub(time.as_nanos()));
        let (trace_id, _) = trace.ids();
        let base = |id: u64, parent: Option<u64>| Span {
            trace_id: trace_id.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
            ..Span::default()
        };
        let mut batch = self.batch.borrow_mut();
        let (method, target) = record.request.line();
        let method = text(method);
        for (number, attempt) in attempts.iter().enumerate() {
            let mut attributes = vec![
                word("http.request.method", &method),
                word("server.address", &attempt.address),
                word("loadx.backend", &attempt.backend),
                number_of("http.request.resend_count", number as i64),
            ];
            if attempt.status > 0 {
                attributes.push(number_of("http.response.status_code", attempt.status.into()));
            }
            let failure = match attempt.end {
                AttemptEnd::Answered => None,
                AttemptEnd::Overtaken => {
                    attributes.push(word("loadx.overtaken", "true"));
                    None
                }
                AttemptEnd::Failed(kind) => {
                    attributes.push(word("error.type", kind));
                    Some(kind)
                }
            };
            let span = Span {
                name: format!("attempt {}", number + 1),
                kind: Kind::Client.into(),
                start_time_unix_nano: at(attempt.began),
                end_time_unix_nano: at(attempt.ended),
                attributes,
                status: failure.or((attempt.status >= 500).then_some("")).map(Status::error),
                ..base(attempt_id(own, number + 1), Some(own))
            };
            batch.push(span.encode_to_vec());
        }
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let mut attributes = vec![
            word("http.request.method", &method),
            word("url.path", &text(path)),
            word("url.scheme", record.request.scheme()),
            word("server.address", &text(record.request.host().unwrap_or_default())),
            word("client.address", &record.request.client().to_string()),
            number_of("http.response.status_code", record.status.into()),
            word("loadx.request_id", &record.request.id().to_string()),
        ];
        attributes.extend(record.request.route().map(|route| word("http.route", route)));
        attributes.extend(record.cluster.map(|cluster| word("loadx.cluster", &cluster.name)));
        attributes.extend(record.backend.map(Backend::name).map(|backend| word("loadx.backend", backend)));
        let kind = record.error_kind();
        if let Some(kind) = kind {
            attributes.push(word("error.type", kind.as_str()));
            attributes.push(word("loadx.fault", kind.fault().as_str()));
        }
        let span = Span {
            // Names must be few: the target has no place there.
            name: record.request.route().map_or_else(|| method.clone(), |route| format!("{method} {route}")),
            kind: Kind::Server.into(),
            start_time_unix_nano: at(record.began),
            end_time_unix_nano: now,
            attributes,
            status: (record.status >= 500 || record.broke_off)
                .then(|| Status::error(record.error.map_or("", |cause| cause.message))),
            ..base(own, parent)
        };
        batch.push(span.encode_to_vec());
        let is_full = batch.len() >= SPANS_BATCH;
        drop(batch);
        if is_full {
            self.flush();
        }
    }

    /// Hands the spans to the task that sends them. When that task cannot keep up, they are lost and counted.
    pub(crate) fn flush(&self) {
        let batch = self.batch.take();
        let count = batch.len();
        if count > 0 && self.queue.sender.try_send(batch).is_err() {
            self.queue.lost.add(count);
        }
    }
}

/// The request that carries spans to a receiver, as OTLP wants it.
pub fn export_request(service: &str, spans: SpanBatch) -> Vec<u8> {
    let attributes = vec![word("service.name", service), word("service.version", env!("CARGO_PKG_VERSION"))];
    let scope = Scope { name: "loadx".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource = Some(Resource { attributes });
    ExportRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }.encode_to_vec()
}

/// Bytes of a client as text, not too long.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(SPAN_TEXT_BYTES_MAX)]).into_owned()
}

fn word(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(AnyOf::Text(value.to_owned())) }) }
}

fn number_of(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(AnyOf::Whole(value)) }) }
}

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    /// Each an encoded message `Span`: a message inside another is encoded as its bytes with their length.
    #[prost(bytes = "vec", repeated, tag = "2")]
    spans: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(enumeration = "Kind", tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Unspecified = 0,
    Server = 2,
    Client = 3,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    /// 0 is unset, 1 is good, 2 is an error.
    #[prost(int32, tag = "3")]
    code: i32,
}

impl Status {
    fn error(message: &str) -> Self {
        Status { message: message.to_owned(), code: 2 }
    }
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "AnyOf", tags = "1, 3")]
    value: Option<AnyOf>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
enum AnyOf {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Whole(i64),
}
