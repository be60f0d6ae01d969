//! Decides on a request: a status endpoint of LoadX, or the verdict of the core by the routes of the config.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use loadx_core::route::path::Target;
use loadx_core::route::{self, Action, DashboardPart, Decided, Endpoint, Fields, Forward, Request, Respond, Verdict};
use loadx_core::{Backend, ErrorKind, ProxyError};
use loadx_http::{Changes, Framing};

use crate::context::Worker;
use crate::explanations::RouteNotTaken;
use crate::incoming::Incoming;
use crate::limits::ROUTES_EXPLAINED_MAX;
use crate::messages::Asked;
use crate::net::Network;
use crate::request_id::Spelled;
use crate::telemetry::MetricsFormat;
use crate::tls::{CHALLENGE_PATH, is_checked_for};

/// The decision on a request.
#[derive(Debug)]
pub(super) enum Decision {
    /// LoadX forwards the request to a cluster.
    Forward(Forwarded),
    /// LoadX answers without a backend.
    Answer(Own),
}

/// A response of LoadX's own.
#[derive(Debug)]
pub(super) enum Own {
    /// A status endpoint.
    Endpoint(Asked),
    /// A part of the dashboard.
    Dashboard(DashboardPart),
    /// The response to an OPTIONS with Max-Forwards 0 (RFC 9110, section 7.6.2).
    Options,
    /// An error response.
    Error(ProxyError),
    /// A redirect: status and Location.
    Redirect(u16, Vec<u8>),
    /// The fixed response of the route.
    Fixed(Respond),
}

/// The cluster of a forwarded request, and the changes of the route.
#[derive(Clone, Debug)]
pub(super) struct Forwarded {
    /// The position of the cluster in the plan.
    pub(super) cluster: usize,
    /// The position of the cluster that gets a copy.
    pub(super) mirror: Option<usize>,
    /// The path and query for the backend; `None` if the route does not change them.
    path_and_query: Option<Vec<u8>>,
    host: Option<Arc<str>>,
    /// The field lines that the route adds to the request.
    added: Vec<u8>,
}

impl Forwarded {
    /// The changes in the type of the encoder.
    pub(super) fn changes<'f>(&'f self, incoming: &'f Incoming) -> Changes<'f> {
        Changes {
            path_and_query: self.path_and_query.as_deref(),
            host: self.host.as_deref().map(str::as_bytes),
            removed: removed_fields(incoming),
            added: &self.added,
        }
    }
}

/// The names of the fields that the route of a request removes or sets, in lower case.
pub(super) fn removed_fields(incoming: &Incoming) -> &[Arc<str>] {
    match incoming.route().map(|route| &route.action) {
        Some(Action::Forward(forward)) => &forward.request_fields.remove,
        _ => &[],
    }
}

/// Gives the core access to the request.
struct RequestView<'i>(&'i Incoming);

impl Fields for RequestView<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.0.head.forwarded_values(name, self.0.peer_trusted);
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

impl Request for RequestView<'_> {
    fn listener(&self) -> usize {
        self.0.listener
    }

    fn authority(&self) -> &[u8] {
        self.0.head.authority()
    }

    fn client_authority(&self) -> &[u8] {
        let told = self.0.head.values("x-forwarded-host").last().filter(|_| self.0.peer_trusted);
        told.filter(|host| is_plain_authority(host)).unwrap_or_else(|| self.authority())
    }

    fn target(&self) -> &[u8] {
        self.0.head.path_and_query()
    }

    fn method(&self) -> &[u8] {
        self.0.head.method()
    }

    fn client(&self) -> Option<IpAddr> {
        Some(self.0.client)
    }

    fn length(&self) -> Option<u64> {
        match self.0.head.framing() {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    fn length_max(&self) -> Option<u64> {
        self.0.plan.process.client_limits.body_max
    }

    fn scheme(&self) -> &str {
        self.0.client_scheme()
    }

    fn put_request_id(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.id.spelled(&mut Spelled::default()));
    }
}

/// Whether this may stand in a URL as the host and port.
fn is_plain_authority(authority: &[u8]) -> bool {
    !authority.is_empty() && authority.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte))
}

/// Whether the path is one for which authorities ask (RFC 8555, section 8.3).
pub(super) fn asks_for_proof(incoming: &Incoming) -> bool {
    incoming.head.path_and_query().starts_with(CHALLENGE_PATH)
}

/// The answer to an authority that asks over HTTP for a proof that a host is LoadX's own, if LoadX has one.
pub(super) async fn prove<N: Network>(worker: &Worker<N>, incoming: &Incoming) -> Option<Own> {
    let token = incoming.head.path_and_query().strip_prefix(CHALLENGE_PATH)?;
    let answer = worker.shared.tls.keyring().http_answer(std::str::from_utf8(token).ok()?).await?;
    Some(Own::Fixed(Respond { status: 200, body: answer.into(), content_type: "application/octet-stream".into() }))
}

/// Decides on a request, and stores the matched route in `incoming`.
pub(super) fn decide<N: Network>(worker: &Worker<N>, incoming: &mut Incoming) -> Decision {
    if let Some(own) = own(incoming) {
        return Decision::Answer(own);
    }
    if incoming.is_spare {
        return Decision::Answer(Own::Error(ProxyError::crowded("LoadX has as many clients as it may have")));
    }
    if worker.shared.is_short_of_memory() {
        return Decision::Answer(Own::Error(ProxyError::crowded("LoadX is short of memory")));
    }
    let listener = &incoming.plan.listeners[incoming.listener];
    let (rules, tls) = (&listener.client_rules, incoming.tls.as_deref());
    // The host matters only inside TLS, and where hosts have rules of their own.
    let host = (tls.is_some() || !rules.is_uniform()).then(|| route::path::host(incoming.head.authority()));
    let host = host.as_deref();
    if tls.zip(host).is_some_and(|(tls, host)| !tls.serves(host)) {
        let message = "the certificate of this connection is not for this host; connect again";
        return refused(421, ErrorKind::HttpRequestError, message);
    }
    if !is_checked_for(rules, tls, host) {
        let message = "this host asks for other certificates of clients than the connection; connect again";
        return refused(421, ErrorKind::HttpRequestError, message);
    }
    if incoming.explain.is_some() {
        note_routes(incoming);
    }
    let (route, verdict) = match listener.https_port {
        Some(port) => (None, route::redirect_to_https(port, &RequestView(incoming))),
        None => {
            let Decided { found, verdict } = route::decide(&incoming.plan.routes, &RequestView(incoming));
            (found.map(|found| found.index), verdict)
        }
    };
    let decision = match verdict {
        Verdict::Forward(route::Forwarded { to, path_and_query, added }) => Decision::Forward(Forwarded {
            cluster: cluster(worker, to, incoming),
            mirror: to.mirror,
            path_and_query,
            host: to.rewrite.host.clone(),
            added,
        }),
        Verdict::Respond(respond) => Decision::Answer(Own::Fixed(respond.clone())),
        Verdict::Redirect { status, location } => Decision::Answer(Own::Redirect(status, location)),
        Verdict::BadPath(fault) => refused(400, ErrorKind::HttpRequestError, fault.as_str()),
        Verdict::NotFound => {
            refused(404, ErrorKind::DestinationNotFound, "no route of the config matches this request")
        }
        Verdict::Denied => refused(403, ErrorKind::HttpRequestDenied, "the route does not serve this client"),
        Verdict::TooLarge => refused(413, ErrorKind::HttpRequestError, "the request body is larger than the limit"),
    };
    incoming.route = route;
    decision
}

/// Notes which routes do not match, and why.
#[cold]
fn note_routes(incoming: &Incoming) {
    let view = RequestView(incoming);
    let Ok(target) = Target::read(view.target()) else { return };
    let host = route::path::host(view.authority());
    let routes = &incoming.plan.routes;
    let others = routes.explain(&view.asked(&host, &target));
    incoming.note(|notes| {
        notes.not_taken = others
            .into_iter()
            .take(ROUTES_EXPLAINED_MAX)
            .map(|(index, mismatch)| RouteNotTaken {
                route: routes.routes()[index].name.to_string(),
                why: mismatch.to_string(),
            })
            .collect();
    });
}

fn refused(status: u16, kind: ErrorKind, message: &str) -> Decision {
    Decision::Answer(Own::Error(ProxyError::new(status, kind, message)))
}

/// The own response for a request to a status endpoint or an OPTIONS with Max-Forwards 0.
fn own(incoming: &Incoming) -> Option<Own> {
    if incoming.head.max_forwards() == Some(0) {
        return Some(Own::Options);
    }
    let endpoint = Endpoint::of(incoming.head.method(), incoming.head.path_and_query())?;
    let process = &incoming.plan.process;
    // With a forwarding field of an untrusted peer, the address of the original client is unknown.
    let client_known = incoming.peer_trusted || !incoming.head.claims_forwarded();
    let is_on = match endpoint {
        Endpoint::Health | Endpoint::Status => true,
        Endpoint::Metrics => process.metrics,
        Endpoint::Dashboard(_) => process.dashboard,
    };
    let answers = is_on
        && incoming.plan.listeners[incoming.listener].endpoints
        && client_known
        && process.shows_endpoints_to(incoming.client);
    if endpoint == Endpoint::Dashboard(DashboardPart::Action) && (!answers || incoming.head.method() != b"POST") {
        let message = "the dashboard changes nothing here";
        return Some(Own::Error(ProxyError::new(404, ErrorKind::DestinationNotFound, message)));
    }
    answers.then(|| match endpoint {
        Endpoint::Health => Own::Endpoint(Asked::Health),
        Endpoint::Status => Own::Endpoint(Asked::Status),
        Endpoint::Metrics => metrics(incoming),
        Endpoint::Dashboard(part) => Own::Dashboard(part),
    })
}

/// The metrics in the format that a request wants. The query decides before Accept.
fn metrics(incoming: &Incoming) -> Own {
    match incoming.query_value("format").as_deref() {
        Some("json") => Own::Endpoint(Asked::Summary),
        Some(name) => match MetricsFormat::of_name(name) {
            Some(format) => Own::Endpoint(Asked::Metrics(format)),
            None => Own::Error(ProxyError::new(400, ErrorKind::HttpRequestError, FORMATS)),
        },
        None => {
            let wanted = MetricsFormat::of_accept(incoming.head.values("accept"));
            Own::Endpoint(wanted.map_or(Asked::Summary, Asked::Metrics))
        }
    }
}

/// The formats of the metrics, for a request that names another one.
const FORMATS: &str = "the formats of the metrics are json, prometheus, openmetrics and protobuf";

/// Writes the field lines that LoadX and the route add to the response of a backend of this cluster.
pub(super) fn response_lines(incoming: &Incoming, cluster: usize, backend: &Backend, out: &mut Vec<u8>) {
    if incoming.explain.is_some() {
        let place = (&*incoming.plan.clusters[cluster].name, backend.name());
        out.extend_from_slice(explained_line(incoming, Some(place)).as_bytes());
    }
    if let Some(route) = incoming.route().filter(|route| !route.response_fields.add.is_empty()) {
        route::put_response_lines(route, &RequestView(incoming), out);
        if !incoming.hsts_line().is_empty() && route.response_fields.adds(HSTS) {
            return;
        }
    }
    out.extend_from_slice(incoming.hsts_line().as_bytes());
}

/// The field line that tells a client who asked for an explanation where the request went. `place`: the cluster and the backend, if
/// a backend answered.
#[cold]
fn explained_line(incoming: &Incoming, place: Option<(&str, &str)>) -> String {
    let plain = |text: &str| text.replace(|character: char| !(' '..='~').contains(&character), "?");
    let route = plain(incoming.route_name().unwrap_or("-"));
    let place = place.map_or_else(String::new, |(cluster, backend)| {
        format!("cluster={}; backend={}; ", plain(cluster), plain(backend))
    });
    format!("X-LoadX-Explained: route={route}; {place}loadx ctl explain {}\r\n", incoming.id)
}

/// Writes the field lines of LoadX for a response of LoadX's own.
pub(super) fn own_lines(incoming: &Incoming, out: &mut String) {
    out.push_str(incoming.hsts_line());
    if incoming.explain.is_some() {
        out.push_str(&explained_line(incoming, None));
    }
}

/// The field of the backend that a field of LoadX replaces: of two lines of Strict-Transport-Security, a browser heeds only
/// the first (RFC 6797, section 8.1).
pub(super) fn replaced_field(incoming: &Incoming) -> Option<&'static str> {
    (!incoming.hsts_line().is_empty()).then_some(HSTS)
}

const HSTS: &str = "strict-transport-security";

fn cluster<N: Network>(worker: &Worker<N>, forward: &Forward, incoming: &Incoming) -> usize {
    let client = || loadx_core::Key::from_ip(incoming.client, loadx_core::KeyPrefixes::default()).bits();
    match forward.split.len() {
        1 => forward.split[0].cluster,
        _ => forward.cluster(worker.entropy(), client),
    }
}
