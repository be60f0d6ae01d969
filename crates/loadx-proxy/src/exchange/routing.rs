//! Where a request goes: an endpoint of LoadX, a response of the config, or a cluster.

use std::borrow::Cow;
use std::sync::Arc;

use loadx_core::ProxyError;
use loadx_core::route::path::{self, Normal};
use loadx_core::route::{Action, Asked, Fields, Forward, Match, PathRule, Redirect, Respond, Values, Variable};
use loadx_http::{Changes, Framing, RequestHead, put_ip};

use crate::context::Worker;
use crate::incoming::Incoming;
use crate::messages::Endpoint;
use crate::net::Network;
use crate::request_id::Spelled;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Decision {
    /// A backend of a cluster answers.
    Forward(Forwarded),
    /// LoadX answers.
    Answer(Own),
}

/// What LoadX answers by itself.
#[derive(Debug)]
pub(super) enum Own {
    /// A status endpoint.
    Endpoint(Endpoint),
    /// An OPTIONS that may not be passed on any more (RFC 9110, section 7.6.2).
    Options,
    /// An error.
    Error(ProxyError),
    /// Another place for the client to go.
    Redirect(u16, Vec<u8>),
    /// The response that the route of the request holds.
    Fixed(Respond),
}

/// A request on its way to a cluster, and how its route changes it.
#[derive(Debug)]
pub(super) struct Forwarded {
    /// The position of the cluster in the plan.
    pub(super) cluster: usize,
    /// The cluster that gets a copy.
    pub(super) mirror: Option<usize>,
    /// The path and query that the backend gets, where they differ from those of the request.
    path_and_query: Option<Vec<u8>>,
    host: Option<Arc<str>>,
    /// The field lines that the route adds to the request.
    added: Vec<u8>,
}

impl Forwarded {
    /// The same, as the encoder takes it.
    pub(super) fn changes<'f>(&'f self, incoming: &'f Incoming) -> Changes<'f> {
        let removed = match incoming.route().map(|route| &route.action) {
            Some(Action::Forward(forward)) => &forward.request_fields.remove[..],
            _ => &[],
        };
        Changes {
            path_and_query: self.path_and_query.as_deref(),
            host: self.host.as_deref().map(str::as_bytes),
            removed,
            added: &self.added,
        }
    }
}

struct HeadFields<'h>(&'h RequestHead);

impl Fields for HeadFields<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.0.values(name);
        let first = values.next()?;
        let mut joined = Cow::Borrowed(first);
        for value in values {
            let joined = joined.to_mut();
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(value);
        }
        Some(joined)
    }
}

/// Decides where a request goes, and notes the route in `incoming`.
pub(super) fn decide<N: Network>(worker: &Worker<N>, incoming: &mut Incoming) -> Decision {
    if let Some(own) = own(incoming) {
        return Decision::Answer(own);
    }
    match route(worker, incoming) {
        Ok(decision) => decision,
        Err(error) => Decision::Answer(Own::Error(error)),
    }
}

/// What the request asks of LoadX itself.
fn own(incoming: &Incoming) -> Option<Own> {
    if incoming.head.max_forwards() == Some(0) {
        return Some(Own::Options);
    }
    let path = incoming.head.path_and_query();
    if !path.starts_with(b"/__") || !matches!(incoming.head.method(), b"GET" | b"HEAD") {
        return None;
    }
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let endpoint = Endpoint::of_path(path)?;
    let process = &incoming.plan.process;
    // A field says that another client asks: that client may be anyone.
    let vouched = incoming.peer_trusted || !incoming.head.claims_forwarded();
    let answers = incoming.plan.listeners[incoming.listener].endpoints
        && (endpoint != Endpoint::Metrics || process.metrics)
        && vouched
        && process.shows_endpoints_to(incoming.client);
    answers.then_some(Own::Endpoint(endpoint))
}

fn route<N: Network>(worker: &Worker<N>, incoming: &mut Incoming) -> Result<Decision, ProxyError> {
    let head = &*incoming.head;
    let bad_path = |fault: path::PathFault| ProxyError::new(400, "http_request_error", fault.as_str());
    let target = head.path_and_query();
    let plain = path::plain_length(target);
    let mut normal = Vec::new();
    let (path, query, changed) = match target.get(plain) {
        None => (target, None, false),
        Some(b'?') => (&target[..plain], Some(&target[plain + 1..]), false),
        Some(_) => {
            let (path, query) = split_query(target);
            match path::normalise(path, &mut normal).map_err(bad_path)? {
                Normal::Unchanged => (path, query, false),
                Normal::Changed => (&normal[..], query, true),
            }
        }
    };
    let fields = HeadFields(head);
    let asked = Asked {
        listener: incoming.listener,
        host: b"",
        path,
        query: query.unwrap_or_default(),
        method: head.method(),
        fields: &fields,
    };
    let found = match incoming.plan.routes.catch_all() {
        Some(only) => Some(only),
        None => {
            let host = path::host(head.authority());
            incoming.plan.routes.find_unambiguous(&Asked { host: &host, ..asked }).map_err(bad_path)?
        }
    };
    let Some(Match { index, route }) = found else {
        let message = "no route of the config matches this request";
        return Err(ProxyError::new(404, "destination_not_found", message));
    };
    if !route.access.permits(incoming.client) {
        incoming.route = Some(index);
        return Err(ProxyError::new(403, "http_request_denied", "the route does not serve this client"));
    }
    let body_max = route.body_max.or(incoming.plan.process.client_limits.body_max);
    if let (Framing::Length(length), Some(max)) = (head.framing(), body_max)
        && length > max
    {
        incoming.route = Some(index);
        return Err(ProxyError::new(413, "http_request_error", "the request body is larger than the limit"));
    }
    let decision = match &route.action {
        Action::Respond(respond) => Decision::Answer(Own::Fixed(respond.clone())),
        Action::Redirect(redirect) => {
            let host = path::host(head.authority());
            let asked = Asked { host: &host, ..asked };
            let location = location(redirect, &route.rules.path, &asked, head.authority(), incoming.scheme());
            Decision::Answer(Own::Redirect(redirect.status, location))
        }
        Action::Forward(forward) => {
            let mut rewritten = Vec::new();
            let path_and_query = if forward.rewrite.path(&route.rules.path, path, &mut rewritten) {
                Some(with_query(rewritten, query))
            } else {
                changed.then(|| with_query(path.to_vec(), query))
            };
            let mut added = Vec::new();
            if !forward.request_fields.add.is_empty() {
                let host = path::host(head.authority());
                let values = RequestValues { incoming, host: &host, path, route: &route.name };
                forward.request_fields.put_added(&values, &mut added);
            }
            Decision::Forward(Forwarded {
                cluster: cluster(worker, forward, incoming),
                mirror: forward.mirror,
                path_and_query,
                host: forward.rewrite.host.clone(),
                added,
            })
        }
    };
    incoming.route = Some(index);
    Ok(decision)
}

/// The field lines that the route of a request adds to the response.
pub(super) fn response_lines(incoming: &Incoming, out: &mut Vec<u8>) {
    let Some(route) = incoming.route().filter(|route| !route.response_fields.add.is_empty()) else { return };
    let (typed, _) = split_query(incoming.head.path_and_query());
    let mut normal = Vec::new();
    // The request was routed by this path, so that the path has a normal form.
    let path = match path::normalise(typed, &mut normal) {
        Ok(Normal::Changed) => &normal[..],
        Ok(Normal::Unchanged) | Err(_) => typed,
    };
    let host = path::host(incoming.head.authority());
    let values = RequestValues { incoming, host: &host, path, route: &route.name };
    route.response_fields.put_added(&values, out);
}

fn cluster<N: Network>(worker: &Worker<N>, forward: &Forward, incoming: &Incoming) -> usize {
    let client = || loadx_core::Key::from_ip(incoming.client, loadx_core::KeyPrefixes::default()).bits();
    match forward.split.len() {
        1 => forward.split[0].cluster,
        _ => forward.cluster(worker.entropy(), client),
    }
}

fn split_query(path_and_query: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', path_and_query) {
        Some(at) => (&path_and_query[..at], Some(&path_and_query[at + 1..])),
        None => (path_and_query, None),
    }
}

fn with_query(mut path: Vec<u8>, query: Option<&[u8]>) -> Vec<u8> {
    if let Some(query) = query {
        path.push(b'?');
        path.extend_from_slice(query);
    }
    path
}

/// Where a redirect leads: everything that the redirect does not name stays as it was asked.
fn location(redirect: &Redirect, rule: &PathRule, asked: &Asked<'_>, authority: &[u8], scheme: &str) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(redirect.scheme.as_deref().unwrap_or(scheme).as_bytes());
    out.extend_from_slice(b"://");
    match (&redirect.host, redirect.port) {
        (Some(host), _) => out.extend_from_slice(host.as_bytes()),
        // A port that was asked for belongs to the scheme that was asked for.
        (None, None) if redirect.scheme.is_none() => out.extend_from_slice(authority),
        (None, _) => out.extend_from_slice(asked.host),
    }
    if let Some(port) = redirect.port {
        out.extend_from_slice(format!(":{port}").as_bytes());
    }
    if !redirect.path.path(rule, asked.path, &mut out) {
        // OPTIONS * asks for no path.
        out.extend_from_slice(if asked.path == b"*" { b"/" } else { asked.path });
    }
    if !asked.query.is_empty() {
        out.push(b'?');
        out.extend_from_slice(asked.query);
    }
    out
}

/// The values of a request for the fields that a route sets.
struct RequestValues<'v> {
    incoming: &'v Incoming,
    host: &'v [u8],
    path: &'v [u8],
    route: &'v str,
}

impl Values for RequestValues<'_> {
    fn put(&self, variable: Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::ClientIp => put_ip(out, self.incoming.client),
            Variable::RequestId => out.extend_from_slice(self.incoming.id.spelled(&mut Spelled::default())),
            Variable::Host => out.extend_from_slice(self.host),
            Variable::Method => out.extend_from_slice(self.incoming.head.method()),
            Variable::Path => out.extend_from_slice(self.path),
            Variable::Route => out.extend_from_slice(self.route.as_bytes()),
        }
    }
}
