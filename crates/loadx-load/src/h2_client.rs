//! A client over HTTP/2, on the crate h2: the load comes from another implementation than that of LoadX.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderName, HeaderValue, Method, Uri};
use tokio::sync::Mutex;

use crate::client::PIECE_BYTES;
use crate::timeout::Timeout;
use crate::wire::Wire;
use crate::{Answer, Content, Failure, Outcome, Plan, Request};

/// The windows that a client opens, so that large responses do not wait for it.
const WINDOW_BYTES: u32 = 4 << 20;

/// A connection to each server, which several clients share.
pub(crate) struct Connections {
    plan: Rc<Plan>,
    /// The connection to each server, by the order of the plan; `None` until it is open.
    senders: Vec<Mutex<Option<SendRequest<Bytes>>>>,
    requests: Vec<http::Request<()>>,
    filler: Bytes,
}

impl Connections {
    pub(crate) fn new(plan: Rc<Plan>) -> Self {
        let requests = plan.mix.iter().map(|request| translated(&plan, request)).collect();
        let senders = plan.origins.iter().map(|_| Mutex::new(None)).collect();
        Connections { plan, senders, requests, filler: Bytes::from(vec![b'u'; PIECE_BYTES]) }
    }

    /// A connection that takes another request. Whether the connection was open before.
    async fn take(&self, origin: usize) -> Result<(SendRequest<Bytes>, bool), Failure> {
        let mut place = self.senders[origin].lock().await;
        let was_open = place.is_some();
        if let Some(sender) = place.take()
            && let Ok(ready) = sender.ready().await
        {
            *place = Some(ready.clone());
            return Ok((ready, was_open));
        }
        let sender = self.open(origin).await?;
        *place = Some(sender.clone());
        Ok((sender, false))
    }

    async fn open(&self, origin: usize) -> Result<SendRequest<Bytes>, Failure> {
        let wire =
            Wire::open(&self.plan.origins[origin], self.plan.tls.as_ref(), true).await.map_err(Failure::Connect)?;
        if self.plan.origins[origin].tls && wire.chosen_protocol() != Some(b"h2") {
            return Err(Failure::Connect(io::Error::other("the server does not speak HTTP/2")));
        }
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) =
            builder.handshake(wire).await.map_err(|error| Failure::Connect(io::Error::other(error)))?;
        // Ends when the last sender is gone, or with an error that the requests see as well.
        tokio::task::spawn_local(async move { drop(connection.await) });
        sender.ready().await.map_err(|error| Failure::Connect(io::Error::other(error)))
    }

    fn close(&self, origin: usize) {
        if let Ok(mut place) = self.senders[origin].try_lock() {
            *place = None;
        }
    }
}

/// A request as the crate h2 takes it.
fn translated(plan: &Plan, request: &Request) -> http::Request<()> {
    let origin = &plan.origins[request.origin];
    let mut built = http::Request::new(());
    *built.method_mut() = Method::from_bytes(request.method()).unwrap_or_default();
    let mut authority = origin.authority();
    for line in request.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        // HTTP/2 has no fields about the connection (RFC 9113, section 8.2.2).
        let is_of_connection = ["connection", "keep-alive", "te"].iter().any(|known| name.eq_ignore_ascii_case(known));
        if name.eq_ignore_ascii_case("host") {
            authority = value.to_owned();
        } else if !is_of_connection
            && let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        {
            built.headers_mut().append(name, value);
        }
    }
    let path = String::from_utf8_lossy(request.path());
    *built.uri_mut() = Uri::try_from(format!("{}://{authority}{path}", origin.scheme())).unwrap_or_default();
    *built.version_mut() = http::Version::HTTP_2;
    built
}

/// Sends one request at a time.
pub(crate) struct H2Client {
    plan: Rc<Plan>,
    connections: Rc<Connections>,
    timeout: Timeout,
    backend: RefCell<String>,
}

/// A complete response.
struct Received {
    status: u16,
    names_backend: bool,
    content_bytes: u64,
    reconnected: bool,
}

impl H2Client {
    pub(crate) fn new(plan: Rc<Plan>, connections: Rc<Connections>) -> Self {
        let timeout = Timeout::new(plan.timeout);
        H2Client { plan, connections, timeout, backend: RefCell::default() }
    }

    /// As `Client::exchange`.
    pub(crate) async fn exchange(&mut self, request: usize, due: Instant, late: Duration) -> Outcome<'_> {
        let attempt = attempt(&self.connections, &self.plan.mix[request], request, &self.backend);
        let result = self.timeout.bound(attempt).await.unwrap_or(Err(Failure::TimedOut));
        let took = due.elapsed();
        let reconnected = result.as_ref().is_ok_and(|received| received.reconnected);
        let backend = self.backend.get_mut();
        let result = result.map(|received| Answer {
            status: received.status,
            backend: received.names_backend.then_some(backend.as_str()),
            content_bytes: received.content_bytes,
        });
        Outcome { at: Duration::ZERO, took, late, reconnected, result }
    }
}

async fn attempt(
    connections: &Connections,
    request: &Request,
    position: usize,
    backend: &RefCell<String>,
) -> Result<Received, Failure> {
    let (sender, was_open) = connections.take(request.origin).await?;
    match converse(connections, sender, request, position, backend).await {
        // A server may close an idle connection at any time; the client then opens another connection.
        Err(Failure::Closed) if was_open => {
            connections.close(request.origin);
            let (sender, _) = connections.take(request.origin).await?;
            let received = converse(connections, sender, request, position, backend).await?;
            Ok(Received { reconnected: true, ..received })
        }
        result => result,
    }
}

async fn converse(
    connections: &Connections,
    mut sender: SendRequest<Bytes>,
    request: &Request,
    position: usize,
    backend: &RefCell<String>,
) -> Result<Received, Failure> {
    let failed = |error: h2::Error| match error.is_go_away() || error.is_io() {
        true => Failure::Closed,
        false => Failure::Io(io::Error::other(error)),
    };
    let has_content = request.content.size() > 0;
    let (response, mut stream) =
        sender.send_request(connections.requests[position].clone(), !has_content).map_err(failed)?;
    if has_content {
        let mut left = request.content.size();
        while left > 0 {
            let next = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            stream.reserve_capacity(next);
            let room = match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(room) => room.map_err(failed)?,
                None => return Err(Failure::Closed),
            };
            let piece = match &request.content {
                Content::Filler(_) => connections.filler.slice(..room.min(next)),
                Content::Bytes(bytes) => {
                    let from = bytes.len() - left as usize;
                    Bytes::copy_from_slice(&bytes[from..from + room.min(next)])
                }
            };
            left -= piece.len() as u64;
            stream.send_data(piece, left == 0).map_err(failed)?;
        }
    }
    let (head, mut body) = response.await.map_err(failed)?.into_parts();
    // Once the response has begun, the end of the connection is a failure, and not an idle connection that the server closed.
    let broke_off = |error: h2::Error| Failure::Io(io::Error::other(format!("the response broke off: {error}")));
    let mut content_bytes = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(broke_off)?;
        content_bytes += piece.len() as u64;
        body.flow_control().release_capacity(piece.len()).map_err(broke_off)?;
    }
    body.trailers().await.map_err(broke_off)?;
    let mut known = backend.borrow_mut();
    known.clear();
    let named = head.headers.get("x-backend");
    known.push_str(&String::from_utf8_lossy(named.map(HeaderValue::as_bytes).unwrap_or_default()));
    Ok(Received { status: head.status.as_u16(), names_backend: named.is_some(), content_bytes, reconnected: false })
}
