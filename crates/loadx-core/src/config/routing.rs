//! Makes the validated routes of the routes of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::checker::Checker;
use super::reader::{At, Place, Problem, Typed as _};
use super::routing_file::{FileRedirect, FileRespond, FileRewrite, FileRoute};
use super::routing_values::{HostPattern, SplitWord};
use super::table::Table;
use super::values::{TargetPath, Text};
use super::{ClusterConfig, ListenerConfig};
use crate::route::{
    Access, Action, FieldEdits, FieldRule, Forward, PathRule, QueryRule, Redirect, Respond, Rewrite, Route, Rules,
    Share, expression, path,
};

/// The largest number of segments of a `path_prefix`.
const PREFIX_SEGMENTS_MAX: usize = crate::route::PREFIX_SEGMENTS_MAX;

/// The names that routes may use.
pub(super) struct Names<'n> {
    listeners: &'n [ListenerConfig],
    clusters: &'n [ClusterConfig],
    /// The position of each cluster.
    positions: BTreeMap<&'n str, usize>,
}

impl Names<'_> {
    pub(super) fn new<'n>(listeners: &'n [ListenerConfig], clusters: &'n [ClusterConfig]) -> Names<'n> {
        let positions = clusters.iter().enumerate().map(|(position, cluster)| (&*cluster.name, position)).collect();
        Names { listeners, clusters, positions }
    }

    fn cluster(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }
}

/// A route that sends every request to the only cluster.
pub(super) fn route_to_the_only_cluster() -> Route {
    Route {
        name: "default".into(),
        rules: Rules::default(),
        action: Action::Forward(Forward::to(0)),
        access: Access::default(),
        exchange_timeout: None,
        body_max: None,
        response_fields: FieldEdits::default(),
    }
}

impl Checker<'_> {
    pub(super) fn routes(&mut self, typed: &At<Vec<At<FileRoute>>>, names: &Names<'_>) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        let mut taken: BTreeSet<Arc<str>> = BTreeSet::new();
        for (index, entry) in typed.value.iter().enumerate() {
            let Some(route) = self.route(index, entry, names) else { continue };
            if !taken.insert(Arc::clone(&route.name)) {
                let message = format!("two routes are named \"{}\"", route.name);
                self.fault(entry.place, Problem::new(message, "give each route a different name"));
            }
            routes.push(route);
        }
        let is_regex = |route: &&Route| matches!(route.rules.path, PathRule::Regex(..));
        if routes.iter().filter(is_regex).count() > expression::REGEX_ROUTES_MAX {
            let message = format!("more than {} routes have a \"path_regex\"", expression::REGEX_ROUTES_MAX);
            self.fault(
                typed.place,
                Problem::new(message, "use \"path\" and \"path_prefix\", which have no such limit"),
            );
        }
        if typed.value.is_empty() {
            let message = "\"routes\" is empty: every request would get 404";
            self.fault(typed.place, Problem::new(message, "add {\"cluster\": …}, or remove \"routes\""));
        }
        routes
    }

    fn route(&mut self, index: usize, entry: &At<FileRoute>, names: &Names<'_>) -> Option<Route> {
        let typed = &entry.value;
        let name = typed.name.as_ref().map_or_else(|| format!("route-{}", index + 1), |name| name.value.0.clone());
        let rules = self.rules(entry, names);
        let action = self.action(entry, names)?;
        Some(Route {
            name: name.into(),
            rules: rules?,
            action,
            access: Access {
                allow: typed.allow.iter().map(|network| network.value.0).collect(),
                deny: typed.deny.iter().map(|network| network.value.0).collect(),
            },
            exchange_timeout: typed
                .timeouts
                .as_ref()
                .and_then(|timeouts| timeouts.value.exchange.as_ref())
                .map(|seconds| seconds.value.duration()),
            body_max: typed.max_body_size.as_ref().map(|size| size.value.0),
            response_fields: self.edits(typed.response_headers.as_ref()),
        })
    }

    fn rules(&mut self, entry: &At<FileRoute>, names: &Names<'_>) -> Option<Rules> {
        let typed = &entry.value;
        let mut listeners = Vec::new();
        for named in typed.listeners.iter().flat_map(|listeners| &listeners.value) {
            match names.listeners.iter().position(|listener| *listener.name == *named.value.0) {
                Some(listener) => listeners.push(listener),
                None => {
                    let known: Vec<&str> = names.listeners.iter().map(|listener| &*listener.name).collect();
                    self.unknown("listener", &named.value.0, named.place, &known);
                }
            }
        }
        let hosts = typed.hosts.iter().flat_map(|hosts| &hosts.value);
        let methods = typed.methods.iter().flat_map(|methods| &methods.value);
        self.names_differ("headers", typed.headers.as_ref());
        for (name, _) in typed.headers.iter().flat_map(|headers| &headers.value.0) {
            self.is_field_name(&name.value, name.place);
        }
        for (name, _) in typed.query.iter().flat_map(|query| &query.value.0) {
            if name.value.is_empty() {
                let problem = Problem::new("a query parameter has no name", "write a name such as \"debug\"");
                self.fault(name.place, problem);
            }
        }
        let pairs = |table: &Option<At<Table<Text>>>| -> Vec<(String, Arc<str>)> {
            let entries = table.iter().flat_map(|table| &table.value.0);
            entries.map(|(key, value)| (key.value.clone(), value.value.0.as_str().into())).collect()
        };
        Some(Rules {
            hosts: hosts.map(|host| host.value.0.as_str().into()).collect(),
            path: self.path_rule(entry)?,
            methods: methods.map(|method| method.value.0.as_str().into()).collect(),
            fields: pairs(&typed.headers)
                .into_iter()
                .map(|(name, value)| FieldRule { name: name.to_ascii_lowercase().into(), value })
                .collect(),
            query: pairs(&typed.query)
                .into_iter()
                .map(|(name, value)| QueryRule { name: name.into(), value })
                .collect(),
            listeners,
        })
    }

    fn path_rule(&mut self, entry: &At<FileRoute>) -> Option<PathRule> {
        let typed = &entry.value;
        let keys = ["path", "path_prefix", "path_regex"];
        self.one_of(entry, &keys, 0)?;
        if let Some(typed) = &typed.path {
            return self.normal_path(&typed.value.0, typed.place).map(PathRule::Exact);
        }
        if let Some(typed) = &typed.path_prefix {
            let whole = self.normal_path(&typed.value.0, typed.place)?;
            let prefix = whole.trim_end_matches('/');
            if prefix.matches('/').count() > PREFIX_SEGMENTS_MAX {
                let message = format!("\"path_prefix\" has more than {PREFIX_SEGMENTS_MAX} segments");
                self.fault(typed.place, Problem::new(message, "shorten the prefix"));
            }
            return Some(PathRule::Prefix(prefix.into()));
        }
        let Some(typed) = &typed.path_regex else { return Some(PathRule::Any) };
        let pattern = &typed.value.0;
        match expression::compile_typed(pattern) {
            Ok(regex) => Some(PathRule::Regex(pattern.as_str().into(), Box::new(regex))),
            Err(reason) => {
                let message = format!("\"path_regex\" cannot be compiled: {reason}");
                self.fault(typed.place, Problem::new(message, "write an expression such as \"/user/[0-9]+\""));
                None
            }
        }
    }

    /// A path of the config, which must be in its normal form, as in requests.
    fn normal_path(&mut self, typed: &str, place: Place) -> Option<Arc<str>> {
        let mut out = Vec::new();
        let problem = match path::normalise(typed.as_bytes(), &mut out) {
            _ if typed.contains('?') => Problem::new("a path cannot have a query", "write parameters in \"query\""),
            Ok(path::Normal::Unchanged) => return Some(typed.into()),
            Ok(path::Normal::Changed) => Problem::new(
                "the path is not in its normal form, and LoadX compares the normal forms of paths",
                format!("write \"{}\"", String::from_utf8_lossy(&out)),
            ),
            Err(fault) => Problem::new(fault.as_str(), "write a path such as \"/v1\""),
        };
        self.fault(place, problem);
        None
    }

    fn action(&mut self, entry: &At<FileRoute>, names: &Names<'_>) -> Option<Action> {
        let typed = &entry.value;
        self.one_of(entry, &["cluster", "split", "redirect", "respond"], 1)?;
        let forwards = typed.cluster.is_some() || typed.split.is_some();
        for key in ["mirror", "rewrite", "request_headers", "response_headers", "timeouts", "split_by"] {
            if let (false, Some(place)) = (forwards, typed.place_of(key)) {
                let message = format!("\"{key}\" needs a cluster, and this route has no cluster");
                self.fault(place, Problem::new(message, format!("remove \"{key}\"")));
            }
        }
        if let (true, None, Some(place)) = (forwards, &typed.split, typed.place_of("split_by")) {
            let message = "\"split_by\" needs a \"split\", and this route has one cluster";
            self.fault(place, Problem::new(message, "remove \"split_by\""));
        }
        if let Some(redirect) = &typed.redirect {
            return Some(Action::Redirect(self.redirect(entry, redirect)));
        }
        if let Some(respond) = &typed.respond {
            return Some(Action::Respond(self.respond(&respond.value)));
        }
        Some(Action::Forward(Forward {
            split: self.split(typed, names)?,
            sticky: typed.split_by == SplitWord::Client,
            mirror: typed.mirror.as_ref().and_then(|mirror| self.cluster(mirror, names)),
            rewrite: self.rewrite(entry),
            request_fields: self.edits(typed.request_headers.as_ref()),
        }))
    }

    fn respond(&mut self, typed: &FileRespond) -> Respond {
        let status = typed.status.0 as u16;
        let body = typed.body.as_ref();
        if let (204 | 205 | 304, Some(body)) = (status, body.filter(|body| !body.value.0.is_empty())) {
            let message = format!("a response with status {status} has no content");
            self.fault(body.place, Problem::new(message, "remove \"body\", or use another status"));
        }
        Respond {
            status,
            body: body.map_or("", |body| &body.value.0).into(),
            content_type: typed.content_type.0.as_str().into(),
        }
    }

    fn split(&mut self, typed: &FileRoute, names: &Names<'_>) -> Option<Vec<Share>> {
        if let Some(cluster) = &typed.cluster {
            return Some(vec![Share { cluster: self.cluster(cluster, names)?, weight: 1 }]);
        }
        let split = typed.split.as_ref()?;
        let mut shares = Vec::new();
        for share in &split.value {
            let cluster = self.cluster(&share.value.cluster, names)?;
            shares.push(Share { cluster, weight: share.value.weight.0 as u32 });
        }
        if shares.iter().all(|share| share.weight == 0) {
            let message = "no cluster of \"split\" has a weight above 0";
            self.fault(split.place, Problem::new(message, "give at least one cluster a weight above 0"));
            return None;
        }
        Some(shares)
    }

    fn cluster(&mut self, typed: &At<Text>, names: &Names<'_>) -> Option<usize> {
        let found = names.cluster(&typed.value.0);
        if found.is_none() {
            let known: Vec<&str> = names.clusters.iter().map(|cluster| &*cluster.name).collect();
            self.unknown("cluster", &typed.value.0, typed.place, &known);
        }
        found
    }

    fn redirect(&mut self, entry: &At<FileRoute>, typed: &At<FileRedirect>) -> Redirect {
        let value = &typed.value;
        Redirect {
            status: value.status.0,
            scheme: value.scheme.as_ref().map(|scheme| scheme.value.as_str().into()),
            host: value.host.as_ref().and_then(|host| self.one_host(host)),
            port: value.port.as_ref().map(|port| port.value.0 as u16),
            path: self.new_path(entry, typed.place, value.path.as_ref(), value.path_prefix.as_ref()),
        }
    }

    fn rewrite(&mut self, entry: &At<FileRoute>) -> Rewrite {
        let Some(typed) = &entry.value.rewrite else { return Rewrite::default() };
        let FileRewrite { path, path_prefix, host, .. } = &typed.value;
        Rewrite {
            host: host.as_ref().map(|host| host.value.0.as_str().into()),
            ..self.new_path(entry, typed.place, path.as_ref(), path_prefix.as_ref())
        }
    }

    /// A host of a redirect, which cannot be a pattern.
    fn one_host(&mut self, typed: &At<HostPattern>) -> Option<Arc<str>> {
        let host = typed.value.0.as_str();
        if host.starts_with('*') {
            let message = format!("\"{host}\" is a pattern for many hosts");
            self.fault(typed.place, Problem::new(message, "write one host"));
            return None;
        }
        Some(host.into())
    }

    /// The path, or the replacement of the matched prefix, of a rewrite or redirect at `place`.
    fn new_path(
        &mut self,
        entry: &At<FileRoute>,
        place: Place,
        path: Option<&At<TargetPath>>,
        path_prefix: Option<&At<TargetPath>>,
    ) -> Rewrite {
        if path.is_some() && path_prefix.is_some() {
            let message = "\"path\" and \"path_prefix\" cannot both replace the path";
            self.fault(place, Problem::new(message, "keep one of the two"));
        }
        if path_prefix.is_some() && entry.value.path_regex.is_some() {
            let message = "\"path_prefix\" has no prefix to replace: this route matches a \"path_regex\"";
            self.fault(place, Problem::new(message, "match a \"path_prefix\", or replace the whole \"path\""));
        }
        Rewrite {
            path: path.and_then(|path| self.replacement(path)),
            path_prefix: path_prefix.and_then(|path| self.replacement(path)),
            host: None,
        }
    }

    /// A path that replaces the path of a request. The path must be in its normal form, so that no backend and no client
    /// reads another path than the config shows.
    fn replacement(&mut self, typed: &At<TargetPath>) -> Option<Arc<str>> {
        let text = typed.value.0.as_str();
        let mut out = Vec::new();
        let normal = match path::normalise(text.as_bytes(), &mut out) {
            Ok(path::Normal::Unchanged) => text.to_owned(),
            Ok(path::Normal::Changed) => String::from_utf8_lossy(&out).into_owned(),
            Err(fault) => {
                self.fault(typed.place, Problem::new(fault.as_str(), "write a path such as \"/v1\""));
                return None;
            }
        };
        // A reader takes `//host` for another origin.
        let single = format!("/{}", normal.trim_start_matches('/'));
        let problem = if text.contains('?') {
            Problem::new("a rewritten path cannot have a query", "remove the ? and the query")
        } else if single != normal {
            let message = "the path begins with //, which a reader takes for the beginning of a host";
            Problem::new(message, format!("write \"{single}\""))
        } else if normal != text {
            Problem::new("the path is not in its normal form", format!("write \"{normal}\""))
        } else {
            return Some(text.into());
        };
        self.fault(typed.place, problem);
        None
    }

    /// Adds a fault if the route has more than one of the keys, or fewer than `least`; `None` then.
    fn one_of(&mut self, entry: &At<FileRoute>, keys: &[&str], least: usize) -> Option<()> {
        let typed: Vec<&&str> = keys.iter().filter(|key| entry.value.place_of(key).is_some()).collect();
        if typed.len() < least {
            let message = format!("the route has no action: {} is missing", keys.join(", "));
            self.fault(entry.place, Problem::new(message, format!("add one of {}", keys.join(", "))));
            return None;
        }
        if let [first, second, ..] = typed[..] {
            let place = entry.value.place_of(second).unwrap_or(entry.place);
            let message = format!("a route cannot have both \"{first}\" and \"{second}\"");
            self.fault(place, Problem::new(message, "keep one of the two"));
            return None;
        }
        Some(())
    }
}
