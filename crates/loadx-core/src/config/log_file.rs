//! The keys of the access log: its format, its fields and its filter.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::Faults;
use super::health_file::StatusRange;
use super::reader::{At, Node, Problem, Read, nearest};
use super::values::{Seconds, Text, Whole, one_of};
use crate::route::{Template, TemplateFault, Variables};

/// The format of a line of the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
    /// The Common Log Format, which most programs that read logs know.
    Common,
    /// The Common Log Format with Referer and User-Agent at its end.
    Combined,
    /// A text with variables.
    Template(Template<LogValue>),
}

/// A variable of a template of the access log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LogValue {
    /// The end of the exchange, as in 2023-11-14T22:13:20.042Z.
    Time,
    /// The end of the exchange as in the Common Log Format: 14/Nov/2023:22:13:20 +0000.
    ClfTime,
    /// The client's address, also behind trusted proxies.
    Client,
    /// The method.
    Method,
    /// The path and the query.
    Target,
    /// The status of the response.
    Status,
    /// Content sent to the client, in bytes.
    Bytes,
    /// Content received from the client, in bytes.
    Received,
    /// From the head of the request to the end of the exchange.
    DurationMs,
    /// In the queue of the cluster.
    QueueMs,
    /// Until connections to backends were open.
    ConnectMs,
    /// From the head of the request to the head of the response of a backend.
    HeadMs,
    /// The name of the listener.
    Listener,
    /// The name of the route.
    Route,
    /// The name of the cluster.
    Cluster,
    /// The name of the backend of the last attempt.
    Backend,
    /// How many times the request was sent.
    Tries,
    /// The id of the request.
    Id,
    /// The trace id of traceparent.
    TraceId,
    /// The kind of the error.
    ErrorKind,
    /// The side at fault.
    Fault,
    /// The error in words.
    Error,
    /// A field of `log_fields`.
    Field(LogField),
}

impl Variables for LogValue {
    const ALL: &'static [(&'static str, LogValue)] = &[
        ("time", LogValue::Time),
        ("clf_time", LogValue::ClfTime),
        ("client", LogValue::Client),
        ("method", LogValue::Method),
        ("target", LogValue::Target),
        ("status", LogValue::Status),
        ("bytes", LogValue::Bytes),
        ("received", LogValue::Received),
        ("duration_ms", LogValue::DurationMs),
        ("queue_ms", LogValue::QueueMs),
        ("connect_ms", LogValue::ConnectMs),
        ("head_ms", LogValue::HeadMs),
        ("listener", LogValue::Listener),
        ("route", LogValue::Route),
        ("cluster", LogValue::Cluster),
        ("backend", LogValue::Backend),
        ("tries", LogValue::Tries),
        ("id", LogValue::Id),
        ("trace_id", LogValue::TraceId),
        ("error_kind", LogValue::ErrorKind),
        ("fault", LogValue::Fault),
        ("error", LogValue::Error),
        ("host", LogValue::Field(LogField::Host)),
        ("user_agent", LogValue::Field(LogField::UserAgent)),
        ("referer", LogValue::Field(LogField::Referer)),
        ("protocol", LogValue::Field(LogField::Protocol)),
        ("grpc_status", LogValue::Field(LogField::GrpcStatus)),
        ("tls_version", LogValue::Field(LogField::TlsVersion)),
        ("tls_cipher", LogValue::Field(LogField::TlsCipher)),
        ("tls_name", LogValue::Field(LogField::TlsName)),
        ("tls_session", LogValue::Field(LogField::TlsSession)),
        ("tls_client", LogValue::Field(LogField::TlsClient)),
    ];
}

/// The formats with a name.
const NAMED: [(&str, LogFormat); 4] = [
    ("human", LogFormat::Human),
    ("json", LogFormat::Json),
    ("common", LogFormat::Common),
    ("combined", LogFormat::Combined),
];

impl std::fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogFormat::Template(template) => template.fmt(f),
            named => f.write_str(NAMED.iter().find(|(_, known)| known == named).map_or("", |(name, _)| name)),
        }
    }
}

impl Serialize for LogFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Read for LogFormat {
    fn schema() -> Value {
        json!({ "anyOf": [
            { "enum": NAMED.map(|(name, _)| name) },
            { "type": "string", "pattern": "\\{", "examples": ["{client} {method} {target} {status} {duration_ms}"] },
        ] })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        let typed = node.template(faults)?;
        if let Some((_, format)) = NAMED.into_iter().find(|(name, _)| *name == typed) {
            return Some(format);
        }
        let names = NAMED.map(|(name, _)| name);
        let problem = match Template::<LogValue>::parse(&typed) {
            Ok(_) if !typed.contains('{') => {
                let help = match nearest(&typed, &names) {
                    Some(near) => format!("did you mean \"{near}\"? "),
                    None => String::new(),
                };
                let known = names.join(", ");
                Problem::new(
                    format!("{} cannot be \"{typed}\"", node.title()),
                    format!("{help}Known values: {known}, or a text with variables such as \"{{client}} {{status}}\""),
                )
            }
            Ok(_) if typed.contains(|character: char| character.is_control() && character != '\t') => Problem::new(
                format!("{} must not contain control characters other than tabs", node.title()),
                "each request is one line, and LoadX adds the end of the line",
            ),
            Ok(template) => return Some(LogFormat::Template(template)),
            Err(fault) => {
                let known: Vec<&str> = LogValue::ALL.iter().map(|(name, _)| *name).collect();
                let near = match &fault {
                    TemplateFault::Unknown(name) => nearest(name, &known),
                    TemplateFault::Open => None,
                };
                let help = match near {
                    Some(near) => format!("did you mean {{{near}}}?"),
                    None => format!("write {{{{ for a brace; the variables are {}", known.join(", ")),
                };
                Problem::new(format!("{}: {fault}", node.title()), help)
            }
        };
        node.fault(faults, problem);
        None
    }
}

/// A field of the request that the access log can show.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogField {
    /// The host of the request (RFC 9110, section 7.2).
    Host,
    /// The program that sent the request (RFC 9110, section 10.1.5).
    UserAgent,
    /// The page from which the client got the address (RFC 9110, section 10.1.3).
    Referer,
    /// The version of HTTP that the client speaks, such as HTTP/2.0.
    Protocol,
    /// The status of a call of gRPC, such as UNAVAILABLE.
    GrpcStatus,
    /// The version of TLS of the client's connection.
    TlsVersion,
    /// The cipher suite of the client's connection.
    TlsCipher,
    /// The host that the client asked for in the handshake of TLS (SNI, RFC 6066).
    TlsName,
    /// Whether the handshake went on with the keys of a former connection: resumed or full.
    TlsSession,
    /// The subject of the certificate that the client showed.
    TlsClient,
}

impl LogField {
    /// The word in the config and in the log.
    pub fn as_str(self) -> &'static str {
        LogValue::ALL.iter().find(|(_, value)| *value == LogValue::Field(self)).map_or("", |(name, _)| name)
    }
}

const LOG_FIELDS: [&str; 10] = [
    "host",
    "user_agent",
    "referer",
    "protocol",
    "grpc_status",
    "tls_version",
    "tls_cipher",
    "tls_name",
    "tls_session",
    "tls_client",
];

impl Read for LogField {
    fn schema() -> Value {
        json!({ "enum": LOG_FIELDS })
    }

    fn read(node: Node<'_>, faults: &mut Faults) -> Option<Self> {
        one_of(node, faults, &LOG_FIELDS)
    }
}

file_object! {
    /// Where spans of requests go, for OpenTelemetry.
    FileTracing {
        required {
            /// The address of a receiver of OTLP over HTTP, such as "http://localhost:4318"; LoadX adds /v1/traces if there is no path.
            otlp: Text,
        }
        optional {}
        default {
            /// Of the requests that no caller traces, one in so many is traced; 0: only those that their callers trace.
            one_in: Whole<0, 1_000_000_000> = Whole(1),
            /// The name of the service in traces.
            service: Text = Text("loadx".to_owned()),
        }
    }
}

file_object! {
    /// Which requests the access log shows; a request with any of these. Without `log_filter`: all requests.
    FileLogFilter {
        required {}
        optional {
            /// Requests with these statuses: numbers such as 404, and ranges such as "500-599".
            statuses: Vec<At<StatusRange>>,
            /// Requests that take at least so many seconds.
            slower_than: Seconds,
            /// One request in so many, drawn by the id of the request.
            one_in: Whole<1, 1_000_000_000>,
        }
        default {}
    }
}
