//! Redirects that lead a client to the same route again: the client would follow redirects until it gives up.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use loadx_core::config::Config;
use loadx_core::route::{
    self, Action, Decided, Fields, PathRule, Redirect, Request, Rewrite, Route, RouteTable, Rules, Verdict,
};

use super::Trap;

/// The name of a host or a segment in requests that stand for many requests.
const ANY: &str = "any";

pub(super) fn traps(config: &Config) -> Vec<Trap> {
    if !config.routes.iter().any(|route| matches!(route.action, Action::Redirect(_))) {
        return Vec::new();
    }
    let table = RouteTable::new(config.routes.clone());
    let trap = |(index, route): (usize, &Route)| {
        let Action::Redirect(redirect) = &route.action else { return None };
        let how = match (changes_nothing(redirect), loop_of(config, &table, index, redirect)) {
            (_, Some(how)) => how,
            (true, None) => "its location is the URL of the request".to_owned(),
            (false, None) => return None,
        };
        Some(Trap::warning(
            format!("route \"{}\" redirects to itself: {how}", route.name),
            "change the target of the redirect, or the conditions of the route",
        ))
    };
    config.routes.iter().enumerate().filter_map(trap).collect()
}

fn changes_nothing(redirect: &Redirect) -> bool {
    let Redirect { status: _, scheme, host, port, path: Rewrite { path, path_prefix, host: _ } } = redirect;
    scheme.is_none() && host.is_none() && port.is_none() && path.is_none() && path_prefix.is_none()
}

/// A request that the redirect of the route number `index` leads to the same route, if there is one.
fn loop_of(config: &Config, table: &RouteTable, index: usize, redirect: &Redirect) -> Option<String> {
    // LoadX has no listener for TLS. Whether a server before LoadX sends the client back to LoadX is unknown.
    if redirect.scheme.as_deref() == Some("https") {
        return None;
    }
    let rules = &config.routes[index].rules;
    let listener = rules.listeners.first().copied().unwrap_or(0);
    let method = rules.methods.first().map_or("GET", |method| method);
    for host in hosts(rules) {
        for path in paths(rules, redirect) {
            let target = format!("{path}{}", query(rules));
            let authority = format!("{host}:{}", config.listeners[listener].at.port);
            let first = Sample { listener, authority, target, method, rules };
            let Decided { found, verdict: Verdict::Redirect { status, location } } = route::decide(table, &first)
            else {
                continue;
            };
            if found.is_none_or(|found| found.index != index) {
                continue;
            }
            let location = String::from_utf8_lossy(&location).into_owned();
            let Some(second) = first.followed(config, status, &location) else { continue };
            if route::decide(table, &second).found.is_some_and(|found| found.index == index) {
                return Some(format!(
                    "{method} http://{}{} gets the location {location}, which the same route answers",
                    first.authority, first.target
                ));
            }
        }
    }
    None
}

/// A host for each host of the route.
fn hosts(rules: &Rules) -> Vec<String> {
    if rules.hosts.is_empty() {
        return vec![ANY.to_owned()];
    }
    let host = |host: &str| host.strip_prefix('*').map_or_else(|| host.to_owned(), |rest| format!("{ANY}{rest}"));
    rules.hosts.iter().map(|typed| host(typed)).collect()
}

/// Paths that the route may match, one for each kind of path. Only the path of the redirect itself can be found for an
/// expression.
fn paths(rules: &Rules, redirect: &Redirect) -> Vec<String> {
    let mut paths = match &rules.path {
        PathRule::Any => vec![format!("/{ANY}")],
        PathRule::Exact(path) => vec![path.to_string()],
        PathRule::Prefix(prefix) if prefix.is_empty() => vec![format!("/{ANY}"), "/".to_owned()],
        PathRule::Prefix(prefix) => vec![format!("{prefix}/{ANY}"), prefix.to_string()],
        PathRule::Regex(..) => Vec::new(),
    };
    paths.extend(redirect.path.path.as_deref().map(str::to_owned));
    paths
}

/// A query with the parameters that the route requires.
fn query(rules: &Rules) -> String {
    let mut query = String::new();
    for parameter in &rules.query {
        query.push(if query.is_empty() { '?' } else { '&' });
        put_escaped(&mut query, &parameter.name);
        query.push('=');
        put_escaped(&mut query, &parameter.value);
    }
    query
}

fn put_escaped(query: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() {
            true => query.push(char::from(byte)),
            false => write!(query, "%{byte:02X}").expect("a write to a String succeeds"),
        }
    }
}

/// A request that meets the conditions of a route.
struct Sample<'s> {
    listener: usize,
    authority: String,
    target: String,
    method: &'s str,
    rules: &'s Rules,
}

impl Sample<'_> {
    /// The request of a client that follows the redirect; `None` if the request does not reach LoadX.
    fn followed(&self, config: &Config, status: u16, location: &str) -> Option<Self> {
        let (_, rest) = location.split_once("://")?;
        let (authority, target) = rest.split_at(rest.find('/')?);
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let at_port = |port| config.listeners.iter().position(|listener| listener.at.port == port);
        let listener = match port {
            Some(port) if port == config.listeners[self.listener].at.port => self.listener,
            Some(port) => at_port(port)?,
            // The system may lead port 80 to the port of this listener.
            None => at_port(80).unwrap_or(self.listener),
        };
        // RFC 9110, section 15.4.
        let becomes_get = (status == 303 && self.method != "HEAD") || (status < 303 && self.method == "POST");
        Some(Sample {
            listener,
            authority: authority.to_owned(),
            target: target.to_owned(),
            method: if becomes_get { "GET" } else { self.method },
            rules: self.rules,
        })
    }
}

impl Fields for Sample<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let field = self.rules.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(field.value.as_bytes().into())
    }
}

impl Request for Sample<'_> {
    fn listener(&self) -> usize {
        self.listener
    }

    fn authority(&self) -> &[u8] {
        self.authority.as_bytes()
    }

    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn client(&self) -> Option<IpAddr> {
        None
    }

    fn length(&self) -> Option<u64> {
        None
    }

    fn length_max(&self) -> Option<u64> {
        None
    }

    fn scheme(&self) -> &str {
        "http"
    }

    fn put_request_id(&self, _: &mut Vec<u8>) {}
}
