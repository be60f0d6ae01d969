//! A config as a list of parts with their settings, in the words of the config.

use std::time::Duration;

use super::Part;
use crate::config::{AccessLogConfig, ClusterConfig, Config, LogField, LogFormat};
use crate::route::{Action, FieldEdits, Forward, PathRule, Redirect, Route, Rules};
use crate::{Algorithm, Probe};

/// A part of a config.
pub(super) struct Entry {
    pub(super) part: Part,
    pub(super) of: Option<String>,
    pub(super) name: String,
    /// The settings by name; settings with the default value included.
    pub(super) settings: Vec<(String, String)>,
    pub(super) effects: Effects,
}

/// What happens if the part is added, removed or changed.
pub(super) struct Effects {
    pub(super) added: String,
    pub(super) removed: String,
    pub(super) changed: String,
}

impl Effects {
    fn new(added: &str, removed: &str, changed: &str) -> Self {
        Effects { added: added.to_owned(), removed: removed.to_owned(), changed: changed.to_owned() }
    }
}

impl Entry {
    pub(super) fn is_same_part(&self, other: &Entry) -> bool {
        (self.part, &self.of, &self.name) == (other.part, &other.of, &other.name)
    }
}

/// All parts of a config.
pub(super) fn describe(config: &Config) -> Vec<Entry> {
    let mut entries = Vec::new();
    let grace = seconds(config.timeouts.shutdown_grace);
    entries.extend(config.listeners.iter().map(|listener| Entry {
        part: Part::Listener,
        of: None,
        name: authority(&listener.at.host, listener.at.port),
        settings: settings([("name", listener.name.to_string()), ("endpoints", listener.endpoints.to_string())]),
        effects: Effects::new(
            "LoadX accepts clients on this address",
            &format!("idle connections close; running requests and WebSockets have {grace} to finish"),
            "connections stay open",
        ),
    }));
    entries.extend(config.routes.iter().map(|route| route_entry(route, config)));
    for cluster in &config.clusters {
        entries.push(cluster_entry(cluster));
        entries.extend(backend_entries(cluster));
    }
    entries.extend(process_entries(config));
    entries
}

fn settings<const N: usize>(all: [(&str, String); N]) -> Vec<(String, String)> {
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A time in seconds, as the config has times.
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

fn limit(time: Option<Duration>) -> String {
    time.map_or_else(|| "none".to_owned(), seconds)
}

fn list<T: ToString>(values: &[T]) -> String {
    if values.is_empty() {
        return "any".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn route_entry(route: &Route, config: &Config) -> Entry {
    let mut all = rules(&route.rules, config);
    all.extend(action(&route.action, config));
    all.extend(settings([
        ("allow", list(&route.access.allow)),
        ("deny", if route.access.deny.is_empty() { "none".to_owned() } else { list(&route.access.deny) }),
        ("timeouts.exchange", limit(route.exchange_timeout)),
        ("max_body_size", route.body_max.map_or_else(|| "as for all routes".to_owned(), |bytes| bytes.to_string())),
        ("response_headers", edits(&route.response_fields)),
    ]));
    Entry {
        part: Part::Route,
        of: None,
        name: route.name.to_string(),
        settings: all,
        effects: Effects::new(
            "takes matching requests from the next request on",
            "its requests take another route, or get 404 where no other route matches",
            "holds from the next request on; running requests finish as they began",
        ),
    }
}

fn rules(rules: &Rules, config: &Config) -> Vec<(String, String)> {
    let path = match &rules.path {
        PathRule::Any => "any".to_owned(),
        PathRule::Exact(path) => format!("exactly {path}"),
        PathRule::Prefix(path) => format!("below {path}/"),
        PathRule::Regex(expression, _) => format!("expression {expression}"),
    };
    let listeners: Vec<String> = rules
        .listeners
        .iter()
        .filter_map(|position| config.listeners.get(*position))
        .map(|listener| listener.name.to_string())
        .collect();
    let pairs = |pairs: Vec<String>| if pairs.is_empty() { "any".to_owned() } else { pairs.join(", ") };
    settings([
        ("hosts", list(&rules.hosts)),
        ("path", path),
        ("methods", list(&rules.methods)),
        ("headers", pairs(rules.fields.iter().map(|rule| format!("{}: {}", rule.name, rule.value)).collect())),
        ("query", pairs(rules.query.iter().map(|rule| format!("{}={}", rule.name, rule.value)).collect())),
        ("listeners", list(&listeners)),
    ])
}

fn action(action: &Action, config: &Config) -> Vec<(String, String)> {
    match action {
        Action::Forward(forward) => forwarding(forward, config),
        Action::Redirect(redirect) => settings([("redirect", redirected(redirect))]),
        Action::Respond(respond) => settings([(
            "respond",
            format!("{} with {} bytes of {}", respond.status, respond.body.len(), respond.content_type),
        )]),
    }
}

fn forwarding(forward: &Forward, config: &Config) -> Vec<(String, String)> {
    let name = |position: usize| config.clusters.get(position).map_or("", |cluster| &cluster.name);
    let total: u64 = forward.split.iter().map(|share| u64::from(share.weight)).sum();
    let clusters: Vec<String> = forward
        .split
        .iter()
        .map(|share| match forward.split.len() {
            1 => name(share.cluster).to_owned(),
            _ => format!("{} {}", name(share.cluster), percent(f64::from(share.weight) / total as f64)),
        })
        .collect();
    let rewrite = &forward.rewrite;
    let optional = |value: Option<&str>| value.unwrap_or("unchanged").to_owned();
    settings([
        ("cluster", clusters.join(", ")),
        ("split_by", if forward.sticky { "client" } else { "request" }.to_owned()),
        ("mirror", forward.mirror.map_or("none", name).to_owned()),
        ("rewrite.path", optional(rewrite.path.as_deref())),
        ("rewrite.path_prefix", optional(rewrite.path_prefix.as_deref())),
        ("rewrite.host", optional(rewrite.host.as_deref())),
        ("request_headers", edits(&forward.request_fields)),
    ])
}

fn redirected(redirect: &Redirect) -> String {
    let part = |name: &str, value: Option<&str>| value.map(|value| format!(" {name} {value}")).unwrap_or_default();
    let port = redirect.port.map(|port| port.to_string());
    format!(
        "{}{}{}{}{}{}",
        redirect.status,
        part("scheme", redirect.scheme.as_deref()),
        part("host", redirect.host.as_deref()),
        part("port", port.as_deref()),
        part("path", redirect.path.path.as_deref()),
        part("path_prefix", redirect.path.path_prefix.as_deref()),
    )
}

fn edits(edits: &FieldEdits) -> String {
    if edits.is_empty() {
        return "unchanged".to_owned();
    }
    let removed = edits.remove.iter().map(|name| format!("remove {name}"));
    let added = edits.add.iter().map(|(name, value)| format!("add {name}: {value}"));
    removed.chain(added).collect::<Vec<_>>().join(", ")
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn cluster_entry(cluster: &ClusterConfig) -> Entry {
    let health = &cluster.health;
    let probe = match &health.probe {
        Probe::Get { path, .. } => format!("GET {path}"),
        Probe::Connect => "tcp".to_owned(),
        Probe::Off => "off".to_owned(),
    };
    let algorithm = match cluster.algorithm {
        Algorithm::IpHash(prefixes) => format!("ip_hash of /{} and /{}", prefixes.ipv4, prefixes.ipv6),
        other => other.as_str().to_owned(),
    };
    Entry {
        part: Part::Cluster,
        of: None,
        name: cluster.name.to_string(),
        settings: settings([
            ("algorithm", algorithm),
            ("resolve", if cluster.resolve_each { "each" } else { "one" }.to_owned()),
            ("health.probe", probe),
            ("health.interval", seconds(health.interval)),
            ("health.timeout", seconds(health.timeout)),
            ("health.rise", health.rise.to_string()),
            ("health.fall", health.fall.to_string()),
            ("timeouts.connect", seconds(cluster.attempt.connect)),
            ("timeouts.response", seconds(cluster.attempt.response)),
            ("timeouts.exchange", limit(cluster.attempt.exchange)),
        ]),
        effects: Effects::new(
            "its backends take requests at once",
            "its backends get no new requests; running requests and WebSockets finish",
            "holds from the next request or probe on; health and counts stay",
        ),
    }
}

fn backend_entries(cluster: &ClusterConfig) -> impl Iterator<Item = Entry> {
    let total: u64 = cluster.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    cluster.backends.iter().map(move |backend| Entry {
        part: Part::Backend,
        of: Some(cluster.name.to_string()),
        name: backend.authority(),
        settings: settings([
            ("weight", backend.weight.to_string()),
            ("share by weight", percent(f64::from(backend.weight) / total as f64)),
        ]),
        effects: Effects::new(
            &format!("takes requests at once: {} by weight", percent(f64::from(backend.weight) / total as f64)),
            "gets no new requests; running requests and WebSockets finish; idle connections close within a second",
            "health, counts and connections stay",
        ),
    })
}

fn process_entries(config: &Config) -> Vec<Entry> {
    const NEXT_REQUEST: &str = "holds from the next request on";
    let (times, limits) = (&config.timeouts, &config.client_limits);
    let threads = config.workers.map_or_else(|| "one for each processor".to_owned(), |workers| workers.to_string());
    let setting = |name: &str, value: String, effect: &str| Entry {
        part: Part::Setting,
        of: None,
        name: name.to_owned(),
        settings: settings([(name, value)]),
        effects: Effects::new("", "", effect),
    };
    let bytes = |bound: Option<u64>| bound.map_or_else(|| "none".to_owned(), |bytes| format!("{bytes} bytes"));
    let mut entries = vec![
        setting("workers", threads, "needs a restart: threads are started once"),
        setting(
            "max_connections",
            config.max_connections.to_string(),
            "connected clients stay; LoadX accepts new clients below the new limit",
        ),
        setting("request_head_timeout", seconds(times.request_head), "holds from the next request head on"),
        setting("keepalive_timeout", seconds(times.keepalive), "holds from the next idle period on"),
        setting("backend_keepalive_timeout", seconds(times.backend_keepalive), "holds within a second"),
        setting("tunnel_timeout", seconds(times.tunnel), "holds for tunnels that begin from now on"),
        setting("shutdown_grace", seconds(times.shutdown_grace), "holds for the next stop or removed listener"),
        setting("max_requests_per_connection", limits.requests_per_connection.to_string(), NEXT_REQUEST),
        setting("max_body_size", bytes(limits.body_max), NEXT_REQUEST),
        setting("min_body_rate", format!("{} bytes per second", limits.body_rate_min), NEXT_REQUEST),
        setting("via", config.signature.via.clone().unwrap_or_else(|| "off".to_owned()), NEXT_REQUEST),
        setting("forwarded", config.signature.forwarded.to_string(), NEXT_REQUEST),
        setting("enable_metrics", config.metrics.to_string(), NEXT_REQUEST),
        setting("trusted_proxies", networks(&config.trusted_proxies), NEXT_REQUEST),
        setting("endpoints_allow", networks(&config.endpoints_allow), NEXT_REQUEST),
    ];
    let log = config.access_log.as_ref();
    for (name, value) in [
        ("enable_logging", log.is_some().to_string()),
        ("log_file", log.map_or_else(String::new, log_file)),
        ("log_format", log.map_or_else(String::new, |log| log_format(log.format).to_owned())),
        ("log_fields", log.map_or_else(String::new, |log| log_fields(&log.fields))),
    ] {
        entries.push(setting(name, value, "holds from the next line on"));
    }
    entries
}

fn networks(networks: &[ipnet::IpNet]) -> String {
    if networks.is_empty() { "none".to_owned() } else { list(networks) }
}

fn log_file(log: &AccessLogConfig) -> String {
    log.file.as_ref().map_or_else(|| "standard output".to_owned(), |file| file.display().to_string())
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    }
}

fn log_fields(fields: &[LogField]) -> String {
    let name = |field: &LogField| match field {
        LogField::Host => "host",
        LogField::UserAgent => "user_agent",
        LogField::Referer => "referer",
    };
    if fields.is_empty() { "none".to_owned() } else { fields.iter().map(name).collect::<Vec<_>>().join(", ") }
}
