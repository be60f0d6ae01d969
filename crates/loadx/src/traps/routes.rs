//! Routes that are valid and still match no requests, or fewer requests than their conditions say.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use loadx_core::config::Config;
use loadx_core::route::{Endpoint, PathRule, Route, Rules, path};

use super::Trap;

/// The traps of all routes, in the order of their kinds.
pub(super) fn traps(config: &Config) -> Vec<Trap> {
    let mut traps = shadowed(&config.routes);
    traps.extend(behind_a_prefix_of_everything(&config.routes));
    traps.extend(config.routes.iter().filter_map(ambiguous_path));
    traps.extend(config.routes.iter().filter_map(|route| endpoint(config, route)));
    traps.extend(config.routes.iter().flat_map(odd_methods));
    traps
}

/// Routes without a path, or with an expression, if another route has the same hosts and the prefix `/`: LoadX compares
/// a prefix first, in any order of the file.
fn behind_a_prefix_of_everything(routes: &[Route]) -> Vec<Trap> {
    let takes_all = |route: &&Route| matches!(&route.rules.path, PathRule::Prefix(prefix) if prefix.is_empty());
    let mut by_host: HashMap<&str, Vec<&Route>> = HashMap::new();
    for route in routes.iter().filter(takes_all) {
        for host in hosts(&route.rules) {
            by_host.entry(host).or_default().push(route);
        }
    }
    let hidden = |route: &Route| {
        let hides = |other: &&&Route| asks_no_more(&other.rules, &route.rules);
        let by = |host: &str| by_host.get(host).and_then(|others| others.iter().find(hides).copied());
        // The trap needs such a route for each of the hosts.
        hosts(&route.rules).into_iter().map(by).collect::<Option<Vec<&Route>>>()?.pop()
    };
    let trap = |route: &Route| {
        let other = hidden(route)?;
        let never = match route.rules.path {
            PathRule::Any => "never gets a request with a path",
            PathRule::Regex(..) => "can never match",
            PathRule::Exact(_) | PathRule::Prefix(_) => return None,
        };
        Some(Trap::warning(
            format!(
                "route \"{}\" {never}: route \"{}\" has \"path_prefix\": \"/\" for the same hosts, and LoadX compares a prefix first",
                route.name, other.name
            ),
            format!("remove \"path_prefix\" from route \"{}\": LoadX compares a route without a path last", other.name),
        ))
    };
    routes.iter().filter_map(trap).collect()
}

/// The hosts of a route; the empty name means any host.
fn hosts(rules: &Rules) -> Vec<&str> {
    if rules.hosts.is_empty() { vec![""] } else { rules.hosts.iter().map(|host| &**host).collect() }
}

/// Whether each request that meets the conditions `rules` also meets `other`, apart from host and path.
fn asks_no_more(other: &Rules, rules: &Rules) -> bool {
    fn covers<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
        wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|one| wide.contains(one)))
    }
    covers(&other.methods, &rules.methods)
        && covers(&other.listeners, &rules.listeners)
        && other.fields.iter().all(|field| rules.fields.contains(field))
        && other.query.iter().all(|parameter| rules.query.contains(parameter))
}

/// A path that servers read in several ways: LoadX refuses a request for the path, because the other readings do not
/// match this route.
fn ambiguous_path(route: &Route) -> Option<Trap> {
    let (key, typed) = match &route.rules.path {
        PathRule::Exact(path) => ("path", path),
        PathRule::Prefix(prefix) => ("path_prefix", prefix),
        PathRule::Any | PathRule::Regex(..) => return None,
    };
    path::has_readings(typed.as_bytes()).then(|| {
        Trap::warning(
            format!(
                "route \"{}\" can never match: servers read its \"{key}\" \"{typed}\" in different ways, and LoadX \
                 answers 400 to such requests",
                route.name
            ),
            "write a path without //, ;, %2F, %5C and escapes of other delimiters such as %3A",
        )
    })
}

/// A path that LoadX itself answers.
fn endpoint(config: &Config, route: &Route) -> Option<Trap> {
    let rules = &route.rules;
    let (PathRule::Exact(typed) | PathRule::Prefix(typed)) = &rules.path else { return None };
    let path = Endpoint::ALL.into_iter().map(Endpoint::path).find(|path| **path == **typed)?;
    let listens = |index: usize| rules.listeners.is_empty() || rules.listeners.contains(&index);
    let answers = config.listeners.iter().enumerate().any(|(index, listener)| listener.endpoints && listens(index));
    let looks = rules.methods.is_empty() || rules.methods.iter().any(|method| matches!(&**method, "GET" | "HEAD"));
    let is_on = config.metrics || path != "/__metrics__";
    (answers && looks && is_on && !config.endpoints_allow.is_empty()).then(|| {
        Trap::warning(
            format!(
                "route \"{}\" does not get all of its requests: LoadX itself answers GET and HEAD of {path} to clients \
                 in \"endpoints_allow\"",
                route.name
            ),
            "use another path, or set \"endpoints\": false for the listener",
        )
    })
}

/// Methods that LoadX refuses, and methods that are not registered.
fn odd_methods(route: &Route) -> Vec<Trap> {
    let trap = |method: &Arc<str>| {
        let (message, help) = match &**method {
            "CONNECT" | "TRACE" => {
                (format!("LoadX answers 501 to {method}"), format!("remove \"{method}\" from \"methods\""))
            }
            method if METHODS.contains(&method) => return None,
            method => (
                format!("\"{method}\" is not a registered method"),
                "write a method such as GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS".to_owned(),
            ),
        };
        Some(Trap::warning(format!("route \"{}\": {message}", route.name), help))
    };
    route.rules.methods.iter().filter_map(trap).collect()
}

/// The methods of the HTTP Method Registry (RFC 9110, section 16.1) that LoadX passes on.
const METHODS: [&str; 37] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// Routes that can never match, because for each of their hosts an earlier route has the same conditions. Compares each
/// route only with earlier routes of the same host and path.
fn shadowed(routes: &[Route]) -> Vec<Trap> {
    let mut seen: HashMap<(&str, String), Vec<&Rules>> = HashMap::new();
    let mut traps = Vec::new();
    for route in routes {
        let rules = &route.rules;
        let path = format!("{:?}", PathName(&rules.path));
        let any = [Arc::<str>::default()];
        let hosts = if rules.hosts.is_empty() { &any[..] } else { &rules.hosts[..] };
        let asks_the_same = |other: &&Rules| {
            other.methods == rules.methods
                && other.fields == rules.fields
                && other.query == rules.query
                && (other.listeners.is_empty() || other.listeners == rules.listeners)
        };
        let is_taken = |host: &Arc<str>| {
            let earlier = seen.get(&(&**host, path.clone()));
            earlier.is_some_and(|earlier| earlier.iter().any(asks_the_same))
        };
        if hosts.iter().all(is_taken) {
            let message = format!("route \"{}\" can never match: earlier routes have the same conditions", route.name);
            traps.push(Trap::warning(message, "remove the route, or change its conditions"));
        }
        let names = if rules.hosts.is_empty() { vec![""] } else { rules.hosts.iter().map(|host| &**host).collect() };
        for host in names {
            seen.entry((host, path.clone())).or_default().push(rules);
        }
    }
    traps
}

/// A path rule without its compiled form.
struct PathName<'p>(&'p PathRule);

impl fmt::Debug for PathName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PathRule::Any => f.write_str("any"),
            PathRule::Exact(path) => write!(f, "= {path}"),
            PathRule::Prefix(path) => write!(f, "^ {path}"),
            PathRule::Regex(pattern, _) => write!(f, "~ {pattern}"),
        }
    }
}
