//! Sends the spans of traced requests to the receiver of the config, with OTLP over HTTP.

use std::time::{Duration, Instant};

use axum::http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use loadx_core::config::TracingConfig;
use loadx_proxy::{SpanBatch, export_request};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::manager::Manager;

/// The spans of one request to the receiver.
const SPANS_MAX: usize = 4_096;

/// The longest time for one request to the receiver.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// The content of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How often a receiver that does not take spans is told of in the log.
const COMPLAINT: Duration = Duration::from_secs(60);

/// Sends spans until LoadX stops.
pub(crate) async fn export(mut batches: mpsc::Receiver<SpanBatch>, manager: Manager) {
    let mut exporter = Exporter { open: None, complained: None };
    let lost = manager.proxy().lost_spans();
    let mut told = lost.count();
    while let Some(mut spans) = batches.recv().await {
        while spans.len() < SPANS_MAX
            && let Ok(more) = batches.try_recv()
        {
            spans.extend(more);
        }
        // The config may have changed since the spans were made.
        let Some(config) = manager.overview().await.base.config.tracing.clone() else { continue };
        let count = spans.len();
        let sent = tokio::time::timeout(REQUEST_MAX, exporter.send(&config, spans)).await;
        if let Err(reason) = sent.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            exporter.open = None;
            lost.add(count);
            exporter.complain(&config, count as u64, &reason);
        } else if lost.count() > told {
            exporter.complain(&config, lost.count() - told, "the receiver is too slow");
        }
        told = lost.count();
    }
}

/// A connection to a receiver.
struct Open {
    to: TracingConfig,
    sender: SendRequest<Full<Bytes>>,
}

struct Exporter {
    open: Option<Open>,
    /// When the log last told of losses, and of which receiver.
    complained: Option<(Instant, TracingConfig)>,
}

impl Exporter {
    async fn send(&mut self, config: &TracingConfig, spans: SpanBatch) -> Result<(), String> {
        let content = Bytes::from(export_request(&config.service, spans));
        let is_open = self.open.as_ref().is_some_and(|open| open.to == *config && !open.sender.is_closed());
        if !is_open {
            self.open = Some(Open { to: config.clone(), sender: connect(config).await? });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let request = Request::builder()
            .method(Method::POST)
            .uri(&config.path)
            .header(header::HOST, config.at.to_string())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("LoadX/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(content))
            .map_err(|error| error.to_string())?;
        open.sender.ready().await.map_err(|error| error.to_string())?;
        let answer = open.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(()) } else { Err(format!("the receiver answered {status}")) }
    }

    fn complain(&mut self, config: &TracingConfig, count: u64, reason: &str) {
        let now = Instant::now();
        let is_known = |(last, of): &(Instant, TracingConfig)| now.duration_since(*last) < COMPLAINT && of == config;
        if !self.complained.as_ref().is_some_and(is_known) {
            self.complained = Some((now, config.clone()));
            tracing::warn!(
                "{count} spans were lost, for http://{}{}: {reason}; further losses are told once a minute, and \
                 loadx_trace_lost_spans_total counts them",
                config.at,
                config.path
            );
        }
    }
}

async fn connect(config: &TracingConfig) -> Result<SendRequest<Full<Bytes>>, String> {
    let to = (config.at.host.to_string(), config.at.port);
    let stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // The sender sees the end of the connection.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
