//! Routing, held against a reader that knows one route after the other and shares no code with LoadX: the path that a
//! route matched is the path that a backend reads, whatever the target and the host.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use loadx_core::config;
use loadx_core::route::{self, Decided, Fields, Request, RouteTable, Verdict};
use loadx_http::{Changes, Forwarding, Parsed, RequestHead};

use super::local::assume_host;
use super::plain::Plain;

/// A route, as the plain reader knows it.
#[derive(Clone, Debug, Default)]
pub struct PlainRoute {
    /// Names, or `*.` and a name; none means any host.
    pub hosts: Vec<String>,
    pub path: PlainPath,
    pub action: PlainAction,
    /// The host that the backend gets instead, or that the redirect leads to.
    pub host: Option<String>,
}

/// What a path must look like.
#[derive(Clone, Debug, Default)]
pub enum PlainPath {
    #[default]
    Any,
    Exact(String),
    /// Without a slash at the end.
    Prefix(String),
    /// This text and then digits, which the config writes as an expression.
    Digits(String),
}

/// What becomes of a path.
#[derive(Clone, Debug, Default)]
pub enum PlainAction {
    #[default]
    Keep,
    Replace(String),
    /// Replaces what [`PlainPath::Prefix`] or [`PlainPath::Exact`] matched.
    ReplaceMatched(String),
    /// The client is sent elsewhere, to the same path.
    Redirect,
}

/// A config of such routes, compiled by LoadX.
#[derive(Debug)]
pub struct Routes {
    plain: Vec<PlainRoute>,
    table: RouteTable,
}

/// A request head, through a config that has a route of each kind.
pub fn routing(data: &[u8]) {
    thread_local!(static ROUTES: Routes = Routes::new(every_kind()));
    ROUTES.with(|routes| routes.check(data));
}

fn every_kind() -> Vec<PlainRoute> {
    let route = |hosts: &[&str], path, action| PlainRoute {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        path,
        action,
        host: None,
    };
    let text = str::to_owned;
    vec![
        route(&["a.example", "[2001:db8::1]"], PlainPath::Any, PlainAction::Keep),
        route(&["*.a.example"], PlainPath::Any, PlainAction::ReplaceMatched(text("/below/"))),
        route(&["*.b.a.example"], PlainPath::Exact(text("/deep")), PlainAction::Keep),
        route(&["old.example"], PlainPath::Any, PlainAction::Redirect),
        route(&["api"], PlainPath::Prefix(text("/v1")), PlainAction::ReplaceMatched(text("/"))),
        route(&["api"], PlainPath::Prefix(text("/v1/users")), PlainAction::ReplaceMatched(text("/people"))),
        route(&["api"], PlainPath::Exact(text("/v1/users")), PlainAction::Replace(text("/list"))),
        route(&["api"], PlainPath::Digits(text("/item/")), PlainAction::Keep),
        PlainRoute { host: Some(text("inner.example:81")), ..route(&["api"], PlainPath::Any, PlainAction::Keep) },
        route(&[], PlainPath::Prefix(text("/files")), PlainAction::ReplaceMatched(text("/public/files"))),
        route(&[], PlainPath::Exact(text("/files/s/t/p/r")), PlainAction::Keep),
    ]
}

impl Routes {
    /// Compiles routes, through the text of a config.
    pub fn new(plain: Vec<PlainRoute>) -> Self {
        let routes: Vec<String> = plain.iter().map(PlainRoute::config).collect();
        let text = format!(r#"{{"clusters": {{"a": {{"backends": ["b:1"]}}}}, "routes": [{}]}}"#, routes.join(","));
        let config = config::parse(&text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
        Routes { plain, table: RouteTable::new(config.routes) }
    }

    /// What must hold for a request with this head.
    pub fn check(&self, head: &[u8]) {
        let Ok(Parsed::Complete(mut request, length)) = RequestHead::read(head) else { return };
        let lead = if head.starts_with(b"\r\n") { 2 } else { 0 };
        let mut typed = Typed::read(&Plain::read(&head[lead..length]).expect("what LoadX takes is plain"));
        assume_host(&mut request);
        if typed.authority.is_empty() {
            typed.authority = String::from_utf8_lossy(request.authority()).into_owned();
        }
        let Decided { found, verdict } = route::decide(&self.table, &Asking(&request));
        let told = format!("{typed:?} {:?}", self.plain);
        let found = found.map(|found| found.index);
        let Some(path) = normal(&typed.path) else {
            assert!(matches!(verdict, Verdict::BadPath(_)), "{told}");
            return;
        };
        let first = self.first(&typed.host(), &path);
        if self.is_ambiguous(&typed.host(), &path) {
            assert!(matches!(verdict, Verdict::BadPath(_)), "ambiguous: {path} {told}");
            return;
        }
        assert_eq!(found, first, "{path} {told}");
        match (verdict, first) {
            (Verdict::NotFound, None) => {}
            (Verdict::Forward(forwarded), Some(first)) => {
                let mut out = Vec::new();
                let changes = Changes {
                    path_and_query: forwarded.path_and_query.as_deref(),
                    host: forwarded.to.rewrite.host.as_deref().map(str::as_bytes),
                    ..Changes::default()
                };
                request.encode(&FORWARDING, &changes, &mut out);
                self.check_sent(&self.plain[first], &typed, &path, &out);
            }
            (Verdict::Redirect { location, .. }, Some(first)) => {
                let location = String::from_utf8(location).expect("a place is ASCII");
                let host = self.plain[first].host.as_ref().unwrap_or(&typed.authority);
                let path = if path == "*" { "/" } else { &path };
                let query = typed.query.as_ref().filter(|query| !query.is_empty());
                let query = query.map_or_else(String::new, |query| format!("?{query}"));
                assert_eq!(location, format!("http://{host}{path}{query}"), "{told}");
            }
            (verdict, _) => panic!("{verdict:?} {path} {told}"),
        }
    }

    /// Reads what a backend gets, as a backend does, and goes back from there to the path that the route matched.
    fn check_sent(&self, route: &PlainRoute, typed: &Typed, path: &str, head: &[u8]) {
        let sent = Plain::read(head).expect("what LoadX writes is plain");
        let backend = Typed::read(&sent);
        let told = format!("{typed:?} {route:?} {:?}", String::from_utf8_lossy(&sent.start));
        assert_eq!((&backend.method, &backend.query), (&typed.method, &typed.query), "{told}");
        let host = route.host.as_ref().unwrap_or(&typed.authority);
        assert_eq!(&backend.authority, host, "{told}");
        assert_eq!(
            normal(&backend.path).as_deref(),
            Some(&*backend.path),
            "a backend has nothing to normalise: {told}"
        );
        match &route.action {
            PlainAction::Keep => assert_eq!(backend.path, path, "{told}"),
            PlainAction::Replace(whole) => assert_eq!(&backend.path, whole, "{told}"),
            PlainAction::ReplaceMatched(replacement) => {
                let matched = match &route.path {
                    PlainPath::Exact(matched) | PlainPath::Prefix(matched) => matched.as_str(),
                    PlainPath::Any | PlainPath::Digits(_) => "",
                };
                let kept = replacement.trim_end_matches('/');
                let rest = backend.path.strip_prefix(kept).expect("the replacement leads");
                assert!(!backend.path.starts_with("//"), "another origin: {told}");
                assert!(!rest.starts_with("//"), "one slash at the joint: {told}");
                let back = path.strip_prefix(matched).expect("the route matched this");
                assert_eq!(rest.trim_start_matches('/'), back.trim_start_matches('/'), "{told}");
            }
            PlainAction::Redirect => panic!("not forwarded: {told}"),
        }
        let stays = |reading: &String| self.first(&typed.host(), reading) == self.first(&typed.host(), path);
        if matches!(route.action, PlainAction::Keep) && !self.is_catch_all() {
            assert!(readings(&backend.path).iter().all(stays), "{told}");
        }
    }

    /// The only route takes everything and changes no path: nothing is decided by the path.
    fn is_catch_all(&self) -> bool {
        matches!(
            &self.plain[..],
            [PlainRoute { hosts, path: PlainPath::Any, action: PlainAction::Keep | PlainAction::Redirect, .. }]
                if hosts.is_empty()
        )
    }

    /// Whether servers may read the path in ways that lead to different routes, or out of them.
    fn is_ambiguous(&self, host: &str, path: &str) -> bool {
        let first = self.first(host, path);
        let has_dots = |path: &str| path.split('/').any(|segment| matches!(segment, "." | ".."));
        let strays = |reading: &String| has_dots(reading) || self.first(host, reading) != first;
        !self.is_catch_all() && readings(path).iter().skip(1).any(strays)
    }

    /// The route for a request, by looking at all routes.
    fn first(&self, host: &str, path: &str) -> Option<usize> {
        let rank = |(index, route): (usize, &PlainRoute)| {
            let host_rank = route.host_rank(host)?;
            Some((host_rank, route.path_rank(path)?, usize::MAX - index))
        };
        self.plain.iter().enumerate().filter_map(rank).max().map(|(_, _, index)| usize::MAX - index)
    }
}

impl PlainRoute {
    fn config(&self) -> String {
        let mut keys = Vec::new();
        if !self.hosts.is_empty() {
            keys.push(format!(r#""hosts": {:?}"#, self.hosts));
        }
        match &self.path {
            PlainPath::Any => {}
            PlainPath::Exact(path) => keys.push(format!(r#""path": "{path}""#)),
            PlainPath::Prefix(path) => keys.push(format!(r#""path_prefix": "{path}/""#)),
            PlainPath::Digits(path) => keys.push(format!(r#""path_regex": "{path}[0-9]+""#)),
        }
        let host = self.host.as_ref().map(|host| format!(r#""host": "{host}""#));
        let path = match &self.action {
            PlainAction::Replace(path) => Some(format!(r#""path": "{path}""#)),
            PlainAction::ReplaceMatched(path) => Some(format!(r#""path_prefix": "{path}""#)),
            PlainAction::Keep | PlainAction::Redirect => None,
        };
        let changes: Vec<String> = [host, path].into_iter().flatten().collect();
        keys.push(match self.action {
            PlainAction::Redirect => format!(r#""redirect": {{{}}}"#, changes.join(",")),
            _ => format!(r#""cluster": "a", "rewrite": {{{}}}"#, changes.join(",")),
        });
        format!("{{{}}}", keys.join(","))
    }

    /// How closely the route names the host; none when it names another one.
    fn host_rank(&self, host: &str) -> Option<(u8, usize)> {
        let rank = |pattern: &String| match pattern.strip_prefix('*') {
            Some(end) => (host.len() > end.len() && host.ends_with(end)).then_some((1, end.len())),
            None => (host == pattern).then_some((2, 0)),
        };
        if self.hosts.is_empty() { Some((0, 0)) } else { self.hosts.iter().filter_map(rank).max() }
    }

    fn path_rank(&self, path: &str) -> Option<(u8, usize)> {
        match &self.path {
            PlainPath::Any => Some((0, 0)),
            PlainPath::Digits(start) => {
                let digits = path.strip_prefix(start.as_str())?;
                (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some((1, 0))
            }
            PlainPath::Prefix(prefix) => {
                let rest = path.strip_prefix(prefix.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then_some((2, prefix.len()))
            }
            PlainPath::Exact(exact) => (path == exact).then_some((3, 0)),
        }
    }
}

/// A start line and a host, taken apart.
#[derive(Debug)]
struct Typed {
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
}

impl Typed {
    fn read(head: &Plain) -> Typed {
        let start = String::from_utf8(head.start.clone()).expect("a start line is ASCII");
        let words: Vec<&str> = start.split(' ').collect();
        let [method, target, _] = words[..] else { panic!("three words: {start}") };
        let host = head.all("host").next().unwrap_or_default();
        let mut authority = String::from_utf8(host.to_vec()).expect("a host is ASCII");
        let mut path = target.to_owned();
        if let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with(['/', '*'])) {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            authority = rest[..end].to_owned();
            path = match &rest[end..] {
                "" if method == "OPTIONS" => "*".to_owned(),
                rest if rest.starts_with('/') => rest.to_owned(),
                rest => format!("/{rest}"),
            };
        }
        let query = path.split_once('?').map(|(_, query)| query.to_owned());
        let path = path.split('?').next().unwrap_or_default().to_owned();
        Typed { method: method.to_owned(), authority, path, query }
    }

    /// The host without case, port and the dot at its end; an IPv6 address as RFC 5952 spells the address.
    fn host(&self) -> String {
        let lower = self.authority.to_ascii_lowercase();
        if let Some((literal, _)) = lower.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return literal.parse::<Ipv6Addr>().map_or_else(|_| format!("[{literal}]"), |ip| format!("[{ip}]"));
        }
        let name = lower.split(':').next().unwrap_or_default();
        name.strip_suffix('.').unwrap_or(name).to_owned()
    }
}

/// The normal form of RFC 3986, section 6.2.2; none when the path has no meaning that all servers share.
fn normal(path: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '%' => {
                let digits = rest.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
                let char = char::from(u8::from_str_radix(digits, 16).ok()?);
                match char {
                    'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' => decoded.push(char),
                    char if char.is_ascii_control() => return None,
                    _ => decoded.push_str(&format!("%{}", digits.to_ascii_uppercase())),
                }
                rest = &rest[2..];
            }
            '"' | '<' | '>' | '[' | ']' | '^' | '`' | '{' | '|' | '}' => {
                decoded.push_str(&format!("%{:02X}", first as u32));
            }
            '!'..='~' if first != '\\' => decoded.push(first),
            _ => return None,
        }
    }
    let Some(segments) = decoded.strip_prefix('/') else { return Some(decoded) };
    let segments: Vec<&str> = segments.split('/').collect();
    let mut kept = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        match *segment {
            ".." => drop(kept.pop()),
            "." => {}
            segment => kept.push(segment),
        }
        if matches!(*segment, "." | "..") && index + 1 == segments.len() {
            kept.push("");
        }
    }
    Some(format!("/{}", kept.join("/")))
}

/// Every way in which servers may read a path, in any order of steps; the path as it stands comes first.
fn readings(path: &str) -> Vec<String> {
    let without_parameters = |path: &str| {
        let name = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
        path.split('/').map(name).collect::<Vec<_>>().join("/")
    };
    let merged = |path: &str| {
        let mut path = path.to_owned();
        while path.contains("//") {
            path = path.replace("//", "/");
        }
        path
    };
    let without_delimiter_escapes = |path: &str| {
        let delimiters = "!$&'()*+,:;=@".chars();
        delimiters.fold(path.to_owned(), |path, char| path.replace(&format!("%{:02X}", char as u32), &char.to_string()))
    };
    let mut found = vec![path.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        let others = [
            path.replace("%2F", "/"),
            path.replace("%5C", "/"),
            without_parameters(&path),
            merged(&path),
            without_delimiter_escapes(&path),
        ];
        for other in others {
            if !found.contains(&other) {
                found.push(other);
            }
        }
        at += 1;
    }
    found
}

const FORWARDING: Forwarding<'static> = Forwarding {
    peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    trusted: false,
    scheme: "http",
    via: None,
    forwarded: false,
    client_certificate: None,
    request_id_line: None,
    trace: None,
    begins_trace: false,
    attempt: None,
};

/// A request, as the core decides about requests.
struct Asking<'h>(&'h RequestHead);

impl Fields for Asking<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.0.values(name).next().map(Cow::Borrowed)
    }
}

impl Request for Asking<'_> {
    fn listener(&self) -> usize {
        0
    }

    fn authority(&self) -> &[u8] {
        self.0.authority()
    }

    fn target(&self) -> &[u8] {
        self.0.path_and_query()
    }

    fn method(&self) -> &[u8] {
        self.0.method()
    }

    fn client(&self) -> Option<IpAddr> {
        Some(FORWARDING.peer)
    }

    fn length(&self) -> Option<u64> {
        None
    }

    fn length_max(&self) -> Option<u64> {
        None
    }

    fn scheme(&self) -> &str {
        FORWARDING.scheme
    }

    fn put_request_id(&self, _: &mut Vec<u8>) {}
}
