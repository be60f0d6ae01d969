//! The verdict on a request: the proxy carries the verdict out, and `loadx route` explains the verdict.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

use super::path::{self, PathFault, Target};
use super::rules::Rewrite;
use super::{Action, Asked, Fields, Forward, Match, PathRule, Redirect, Respond, Route, RouteTable, Values, Variable};

/// A request as the client sent it. [`decide`] reads a part only if the decision needs the part, so that other requests
/// do not pay for the part.
pub trait Request: Fields {
    /// The position of the listener in the plan.
    fn listener(&self) -> usize;

    /// The host and port of the request, as the client wrote them; empty if the request has no host.
    fn authority(&self) -> &[u8];

    /// The host and port that the client asked for, where a trusted proxy names them.
    fn client_authority(&self) -> &[u8] {
        self.authority()
    }

    /// The path and query, as the client wrote them.
    fn target(&self) -> &[u8];

    /// The method.
    fn method(&self) -> &[u8];

    /// The client's address, also behind trusted proxies. Without an address, LoadX does not apply the access rules of
    /// a route, and `{client_ip}` stays as in the config.
    fn client(&self) -> Option<IpAddr>;

    /// The length of the content in bytes, if the fields have a length.
    fn length(&self) -> Option<u64>;

    /// The largest content in bytes, for routes without a limit; `None` means no limit.
    fn length_max(&self) -> Option<u64>;

    /// The scheme that the client used: `http` or `https`.
    fn scheme(&self) -> &str;

    /// Writes the id of the request, as in the access log.
    fn put_request_id(&self, out: &mut Vec<u8>);

    /// The parts of the request that routes compare. `host` is the result of [`path::host`] for the authority, and
    /// `target` the result of [`Target::read`] for the target.
    fn asked<'b>(&'b self, host: &'b [u8], target: &'b Target<'_>) -> Asked<'b>
    where
        Self: Sized,
    {
        Asked {
            listener: self.listener(),
            host,
            path: &target.path,
            query: target.query.unwrap_or_default(),
            method: self.method(),
            fields: self,
        }
    }
}

/// The verdict on a request, and the route.
#[derive(Debug)]
pub struct Decided<'t> {
    /// The route that the request matched, even if the route refuses the request.
    pub found: Option<Match<'t>>,
    /// The verdict.
    pub verdict: Verdict<'t>,
}

/// The verdict on a request.
#[derive(Debug)]
pub enum Verdict<'t> {
    /// The path has no single meaning: 400.
    BadPath(PathFault),
    /// No route matches: 404.
    NotFound,
    /// The route does not serve the client: 403.
    Denied,
    /// The content is larger than the limit: 413.
    TooLarge,
    /// LoadX answers with a response of the config.
    Respond(&'t Respond),
    /// LoadX answers with a redirect.
    Redirect {
        /// The status: 301, 302, 303, 307 or 308.
        status: u16,
        /// The value of Location.
        location: Vec<u8>,
    },
    /// A backend of a cluster answers.
    Forward(Forwarded<'t>),
}

/// The cluster for a request, and the changes to the request.
#[derive(Debug)]
pub struct Forwarded<'t> {
    /// The clusters, the new host and the names of the removed fields.
    pub to: &'t Forward,
    /// The path and query that the backend gets; `None` means the path and query of the request.
    pub path_and_query: Option<Vec<u8>>,
    /// The field lines that the route adds to the request.
    pub added: Vec<u8>,
}

impl<'t> Decided<'t> {
    fn unmatched(verdict: Verdict<'t>) -> Self {
        Decided { found: None, verdict }
    }
}

/// A status endpoint. LoadX itself answers requests for endpoints on listeners with endpoints.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/__health__`
    Health,
    /// `/__metrics__`
    Metrics,
    /// `/__status__`
    Status,
    /// `/__dashboard__` and the paths below.
    Dashboard(DashboardPart),
}

/// A part of the dashboard.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DashboardPart {
    /// A file that is in the binary.
    File(DashboardFile),
    /// The stream of what the page shows.
    Stream,
    /// What the page wants of a backend; the only endpoint for POST.
    Action,
}

/// A file of the dashboard.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DashboardFile {
    /// The page itself.
    Page,
    /// The script of the page.
    Script,
    /// The style of the page.
    Style,
    /// The icon of the page.
    Icon,
}

impl DashboardFile {
    /// Every file.
    pub const ALL: [DashboardFile; 4] =
        [DashboardFile::Page, DashboardFile::Script, DashboardFile::Style, DashboardFile::Icon];
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Endpoint; 9] = [
        Endpoint::Health,
        Endpoint::Metrics,
        Endpoint::Status,
        Endpoint::Dashboard(DashboardPart::File(DashboardFile::Page)),
        Endpoint::Dashboard(DashboardPart::File(DashboardFile::Script)),
        Endpoint::Dashboard(DashboardPart::File(DashboardFile::Style)),
        Endpoint::Dashboard(DashboardPart::File(DashboardFile::Icon)),
        Endpoint::Dashboard(DashboardPart::Stream),
        Endpoint::Dashboard(DashboardPart::Action),
    ];

    /// The path.
    pub const fn path(self) -> &'static str {
        match self {
            Endpoint::Health => "/__health__",
            Endpoint::Metrics => "/__metrics__",
            Endpoint::Status => "/__status__",
            Endpoint::Dashboard(DashboardPart::File(DashboardFile::Page)) => "/__dashboard__",
            Endpoint::Dashboard(DashboardPart::File(DashboardFile::Script)) => "/__dashboard__/page.js",
            Endpoint::Dashboard(DashboardPart::File(DashboardFile::Style)) => "/__dashboard__/page.css",
            Endpoint::Dashboard(DashboardPart::File(DashboardFile::Icon)) => "/__dashboard__/icon.svg",
            Endpoint::Dashboard(DashboardPart::Stream) => "/__dashboard__/stream",
            Endpoint::Dashboard(DashboardPart::Action) => "/__dashboard__/backend",
        }
    }

    /// The endpoint that a request asks for. `target` is the path and query as the client wrote them: each endpoint has
    /// one spelling.
    pub fn of(method: &[u8], target: &[u8]) -> Option<Endpoint> {
        if !target.starts_with(b"/__") {
            return None;
        }
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let path = if path == b"/__dashboard__/" { b"/__dashboard__" } else { path };
        let endpoint = Endpoint::ALL.into_iter().find(|endpoint| endpoint.path().as_bytes() == path)?;
        // What is sent there has a token, which no backend may get, whatever the method.
        let takes = endpoint == Endpoint::Dashboard(DashboardPart::Action) || matches!(method, b"GET" | b"HEAD");
        takes.then_some(endpoint)
    }
}

/// Gives the verdict on a request.
#[inline]
pub fn decide<'t>(table: &'t RouteTable, request: &impl Request) -> Decided<'t> {
    let target = match Target::read(request.target()) {
        Ok(target) => target,
        Err(fault) => return Decided::unmatched(Verdict::BadPath(fault)),
    };
    let found = match table.catch_all() {
        Some(only) => only,
        None => {
            let host = path::host(request.authority());
            match table.find_unambiguous(&request.asked(&host, &target)) {
                Ok(Some(found)) => found,
                Ok(None) => return Decided::unmatched(Verdict::NotFound),
                Err(fault) => return Decided::unmatched(Verdict::BadPath(fault)),
            }
        }
    };
    Decided { found: Some(found), verdict: verdict(found.route, request, &target) }
}

/// The redirect of a request to https on `port`.
pub fn redirect_to_https(port: u16, request: &impl Request) -> Verdict<'static> {
    let target = match Target::read(request.target()) {
        Ok(target) => target,
        Err(fault) => return Verdict::BadPath(fault),
    };
    let redirect =
        Redirect { status: 308, scheme: Some("https".into()), host: None, port: Some(port), path: Rewrite::default() };
    Verdict::Redirect { status: redirect.status, location: location(&redirect, &PathRule::Any, request, &target) }
}

/// The verdict of a route on a matching request.
#[inline]
fn verdict<'t>(route: &'t Route, request: &impl Request, target: &Target<'_>) -> Verdict<'t> {
    if request.client().is_some_and(|client| !route.access.permits(client)) {
        return Verdict::Denied;
    }
    if let (Some(length), Some(max)) = (request.length(), route.body_max.or(request.length_max()))
        && length > max
    {
        return Verdict::TooLarge;
    }
    match &route.action {
        Action::Respond(respond) => Verdict::Respond(respond),
        Action::Redirect(redirect) => {
            let location = location(redirect, &route.rules.path, request, target);
            Verdict::Redirect { status: redirect.status, location }
        }
        Action::Forward(to) => {
            let path_and_query = sent_path(to, &route.rules.path, target);
            let mut added = Vec::new();
            if !to.request_fields.add.is_empty() {
                let host = path::host(request.authority());
                let values = RequestValues { request, host: &host, path: &target.path, route };
                to.request_fields.put_added(&values, &mut added);
            }
            Verdict::Forward(Forwarded { to, path_and_query, added })
        }
    }
}

/// The path and query for the backend; `None` means the path and query of the request.
#[inline]
fn sent_path(forward: &Forward, rule: &PathRule, target: &Target<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    if !forward.rewrite.path(rule, &target.path, &mut out) {
        let Cow::Owned(normal) = &target.path else { return None };
        out.extend_from_slice(normal);
    }
    put_query(target.query, &mut out);
    Some(out)
}

fn put_query(query: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

/// The target of a redirect: the parts that the redirect does not set are the parts of the request.
fn location(redirect: &Redirect, rule: &PathRule, request: &impl Request, target: &Target<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let scheme = redirect.scheme.as_deref().unwrap_or_else(|| request.scheme());
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(b"://");
    match (&redirect.host, redirect.port) {
        (Some(host), _) => out.extend_from_slice(host.as_bytes()),
        // The port of the request belongs to the scheme of the request.
        (None, None) if redirect.scheme.is_none() => out.extend_from_slice(request.client_authority()),
        (None, _) => out.extend_from_slice(&path::host(request.client_authority())),
    }
    let is_default = |port: &u16| matches!((scheme, port), ("http", 80) | ("https", 443));
    if let Some(port) = redirect.port.filter(|port| !is_default(port)) {
        out.extend_from_slice(format!(":{port}").as_bytes());
    }
    if !redirect.path.path(rule, &target.path, &mut out) {
        // OPTIONS * has no path.
        out.extend_from_slice(if *target.path == *b"*" { b"/" } else { &target.path });
    }
    put_query(target.query.filter(|query| !query.is_empty()), &mut out);
    out
}

/// Writes the field lines that a route adds to the response to a matching request.
pub fn put_response_lines(route: &Route, request: &impl Request, out: &mut Vec<u8>) {
    if route.response_fields.add.is_empty() {
        return;
    }
    let host = path::host(request.authority());
    // The request matched the route, so the path has a normal form.
    let path = Target::read(request.target()).map_or(Cow::Borrowed(request.target()), |target| target.path);
    route.response_fields.put_added(&RequestValues { request, host: &host, path: &path, route }, out);
}

/// The values of a request for the fields that a route sets.
struct RequestValues<'v, R> {
    request: &'v R,
    host: &'v [u8],
    path: &'v [u8],
    route: &'v Route,
}

impl<R: Request> Values for RequestValues<'_, R> {
    fn put(&self, variable: Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::ClientIp => match self.request.client() {
                Some(ip) => write!(out, "{}", ip.to_canonical()).expect("a write to a Vec succeeds"),
                None => out.extend_from_slice(b"{client_ip}"),
            },
            Variable::RequestId => self.request.put_request_id(out),
            Variable::Host => out.extend_from_slice(self.host),
            Variable::Method => out.extend_from_slice(self.request.method()),
            Variable::Path => out.extend_from_slice(self.path),
            Variable::Route => out.extend_from_slice(self.route.name.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[derive(Copy, Clone)]
    struct Asking<'a> {
        authority: &'a str,
        target: &'a str,
        client: Option<IpAddr>,
        length: Option<u64>,
    }

    impl Fields for Asking<'_> {
        fn value(&self, _: &str) -> Option<Cow<'_, [u8]>> {
            None
        }
    }

    impl Request for Asking<'_> {
        fn listener(&self) -> usize {
            0
        }

        fn authority(&self) -> &[u8] {
            self.authority.as_bytes()
        }

        fn target(&self) -> &[u8] {
            self.target.as_bytes()
        }

        fn method(&self) -> &[u8] {
            b"GET"
        }

        fn client(&self) -> Option<IpAddr> {
            self.client
        }

        fn length(&self) -> Option<u64> {
            self.length
        }

        fn length_max(&self) -> Option<u64> {
            Some(10)
        }

        fn scheme(&self) -> &str {
            "http"
        }

        fn put_request_id(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(b"id-1");
        }
    }

    fn table(routes: &str) -> RouteTable {
        let text = format!(r#"{{"clusters": {{"a": {{"backends": ["b:1"]}}}}, "routes": [{routes}]}}"#);
        RouteTable::new(config::parse(&text).unwrap().routes)
    }

    fn request<'a>(authority: &'a str, target: &'a str) -> Asking<'a> {
        Asking { authority, target, client: Some([192, 0, 2, 1].into()), length: Some(0) }
    }

    #[test]
    fn an_unchanged_request_is_not_copied() {
        for (target, sent) in [("/a?b", None), ("*", None), ("/a/../b?", Some("/b?")), ("/%61", Some("/a"))] {
            let table = table(r#"{"cluster": "a"}"#);
            let Verdict::Forward(forwarded) = decide(&table, &request("h", target)).verdict else { panic!("{target}") };
            assert_eq!(forwarded.path_and_query.as_deref(), sent.map(str::as_bytes), "{target}");
            assert!(forwarded.added.is_empty());
        }
    }

    #[test]
    fn refusals_name_the_route_when_there_is_one() {
        let table = table(
            r#"{"path_prefix": "/closed", "cluster": "a", "deny": ["192.0.2.0/24"]},
               {"path_prefix": "/small", "cluster": "a", "max_body_size": 4},
               {"path_prefix": "/large", "cluster": "a", "max_body_size": 40},
               {"path_prefix": "/other", "cluster": "a"}"#,
        );
        let of = |target, length| {
            let Decided { found, verdict } = decide(&table, &Asking { length, ..request("h", target) });
            (found.map(|found| found.index), verdict)
        };
        assert!(matches!(of("/closed", None), (Some(0), Verdict::Denied)));
        let unknown = Asking { client: None, ..request("h", "/closed") };
        assert!(matches!(decide(&table, &unknown).verdict, Verdict::Forward(_)));
        assert!(matches!(of("/small", Some(5)), (Some(1), Verdict::TooLarge)));
        assert!(matches!(of("/small", Some(4)), (Some(1), Verdict::Forward(_))));
        assert!(matches!(of("/large", Some(40)), (Some(2), Verdict::Forward(_))));
        assert!(matches!(of("/other", Some(11)), (Some(3), Verdict::TooLarge)));
        assert!(matches!(of("/other", None), (Some(3), Verdict::Forward(_))), "the proxy counts chunks");
        assert!(matches!(of("/none", None), (None, Verdict::NotFound)));
        assert!(matches!(of("/%zz", None), (None, Verdict::BadPath(PathFault::Escape))));
        assert!(matches!(of("/x/..%2Fsmall", None), (None, Verdict::BadPath(PathFault::Ambiguous))));
    }

    #[test]
    fn fields_have_the_values_of_the_request() {
        let table = table(
            r#"{"name": "r", "path_prefix": "/v1", "cluster": "a",
                "request_headers": {"add": {"x": "{client_ip} {request_id} {host} {method} {path} {route}"}},
                "response_headers": {"set": {"y": "{host}{path}"}}}"#,
        );
        let mapped = Some("::ffff:192.0.2.1".parse().unwrap());
        let request = Asking { client: mapped, ..request("H.example:81", "/v1/./b?q") };
        let Decided { found, verdict: Verdict::Forward(forwarded) } = decide(&table, &request) else { panic!() };
        assert_eq!(forwarded.added, b"x: 192.0.2.1 id-1 h.example GET /v1/b r\r\n");
        let mut lines = Vec::new();
        put_response_lines(found.unwrap().route, &request, &mut lines);
        assert_eq!(lines, b"y: h.example/v1/b\r\n");
    }

    #[test]
    fn a_redirect_keeps_the_parts_that_it_does_not_set() {
        let location = |redirect: &str, authority, target| {
            let table = table(&format!(r#"{{"redirect": {redirect}}}"#));
            let Verdict::Redirect { location, .. } = decide(&table, &request(authority, target)).verdict else {
                panic!("{redirect}")
            };
            String::from_utf8(location).unwrap()
        };
        assert_eq!(location("{\"host\": \"b\"}", "a:1", "/x?y"), "http://b/x?y");
        assert_eq!(location("{\"port\": 81}", "A:1", "/x/../y?"), "http://a:81/y");
        assert_eq!(location("{\"scheme\": \"https\"}", "a:1", "/x"), "https://a/x");
        assert_eq!(location("{\"path\": \"/z\"}", "a:1", "/x?y"), "http://a:1/z?y");
        assert_eq!(location("{\"host\": \"b\"}", "a", "*"), "http://b/");
    }

    #[test]
    fn endpoints_have_one_spelling() {
        assert_eq!(Endpoint::of(b"GET", b"/__status__?x"), Some(Endpoint::Status));
        assert_eq!(Endpoint::of(b"HEAD", b"/__health__"), Some(Endpoint::Health));
        assert_eq!(Endpoint::of(b"POST", b"/__status__"), None);
        assert_eq!(Endpoint::of(b"GET", b"/./__status__"), None);
    }
}
