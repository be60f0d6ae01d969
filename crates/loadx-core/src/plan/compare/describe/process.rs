//! The settings of the whole process.

use super::words::{limit, list, networks, quote, seconds};
use super::{Effects, Entry, settings};
use crate::config::{
    AccessLogConfig, AdminConfig, AdminSocket, Config, ConnectionsPerClient, LogField, LogFilter, TokenSource,
    TracingConfig,
};
use crate::plan::compare::Part;

const NEXT_REQUEST: &str = "holds from the next request on";
const RESTART: &str = "needs a restart or an upgrade: the admin API is opened once";
const NEXT_LINE: &str = "holds from the next line on";

pub(super) fn entries(config: &Config) -> Vec<Entry> {
    let threads = config.workers.map_or_else(|| "one for each processor".to_owned(), |workers| workers.to_string());
    let mut entries = vec![setting("workers", threads, "needs a restart or an upgrade: threads are started once")];
    entries.extend(times(config));
    entries.extend(limits(config));
    entries.extend([
        setting("via", config.signature.via.as_deref().map_or_else(|| "off".to_owned(), quote), NEXT_REQUEST),
        setting("trace_context", config.trace_context.to_string(), NEXT_REQUEST),
        setting("tracing", config.tracing.as_ref().map_or_else(|| "off".to_owned(), receiver), NEXT_REQUEST),
        setting("forwarded", config.signature.forwarded.to_string(), NEXT_REQUEST),
        setting("enable_metrics", config.metrics.to_string(), NEXT_REQUEST),
        setting("enable_dashboard", config.dashboard.to_string(), NEXT_REQUEST),
        setting("trusted_proxies", networks(&config.trusted_proxies, "none"), NEXT_REQUEST),
        setting("endpoints_allow", networks(&config.endpoints_allow, "none"), NEXT_REQUEST),
        setting("admin", admin(&config.admin), RESTART),
        setting("enable_logging", config.access_log.is_some().to_string(), NEXT_LINE),
    ]);
    entries.extend(config.access_log.iter().flat_map(log));
    entries
}

fn setting(name: &str, value: String, effect: &str) -> Entry {
    Entry {
        part: Part::Setting,
        of: None,
        name: name.to_owned(),
        settings: settings([(name, value)]),
        action: None,
        effects: Effects::new("", "", effect),
    }
}

fn admin(admin: &AdminConfig) -> String {
    let socket = match &admin.socket {
        AdminSocket::Runtime => "a socket in the runtime directory".to_owned(),
        AdminSocket::Path(path) => format!("socket {path:?}"),
        AdminSocket::Off => "no socket".to_owned(),
    };
    match &admin.tcp {
        None => socket,
        Some((at, TokenSource::File(file))) => format!("{socket}; {at} with the token of the file {file:?}"),
        Some((at, TokenSource::Variable(name))) => format!("{socket}; {at} with the token of the variable {name}"),
    }
}

fn times(config: &Config) -> [Entry; 7] {
    let times = &config.timeouts;
    [
        setting("request_head_timeout", seconds(times.request_head), "holds from the next request head on"),
        // Each cluster has its own limit for backends; the limit for clients is this one.
        setting("request_timeout", seconds(times.request), "holds for clients from the next request on"),
        setting("keepalive_timeout", seconds(times.keepalive), "holds from the next idle period on"),
        setting("backend_keepalive_timeout", seconds(times.backend_keepalive), "holds within a second"),
        setting("tunnel_timeout", seconds(times.tunnel), "holds for tunnels that begin from now on"),
        setting("shutdown_grace", seconds(times.shutdown_grace), "holds for the next stop or removed listener"),
        setting("drain_timeout", seconds(times.drain), "holds for the next backend that is removed or drained"),
    ]
}

fn limits(config: &Config) -> [Entry; 7] {
    let limits = &config.client_limits;
    let body_max = limits.body_max.map_or_else(|| "none".to_owned(), |bytes| format!("{bytes} bytes"));
    [
        setting(
            "max_connections",
            config.max_connections.to_string(),
            "connected clients stay; LoadX accepts new clients below the new limit",
        ),
        setting(
            "max_connections_per_client",
            match config.connections_per_client {
                ConnectionsPerClient::Of(most) => most.to_string(),
                ConnectionsPerClient::Half(most) => format!("half of the places ({most}), not for loopback addresses"),
            },
            "connected clients stay; the limit holds for new connections",
        ),
        setting(
            "max_memory",
            config.memory_max.map_or_else(|| "that of the control group".to_owned(), |bytes| format!("{bytes} bytes")),
            "holds within a second",
        ),
        setting("max_requests_per_connection", limits.requests_per_connection.to_string(), NEXT_REQUEST),
        setting("max_connection_age", limit(limits.connection_age), NEXT_REQUEST),
        setting("max_body_size", body_max, NEXT_REQUEST),
        setting("min_body_rate", format!("{} bytes per second", limits.body_rate_min), NEXT_REQUEST),
    ]
}

/// A receiver of spans in words.
fn receiver(tracing: &TracingConfig) -> String {
    let TracingConfig { at, path, one_in, service } = tracing;
    format!("http://{at}{path}, one in {one_in}, as {service}")
}

/// A filter in words.
fn filter(filter: &LogFilter) -> String {
    let range = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let statuses = filter.statuses.iter().map(range);
    let slow = filter.slower_than.map(|time| format!("{} s and longer", time.as_secs_f64()));
    let drawn = filter.one_in.map(|count| format!("one in {count}"));
    statuses.chain(slow).chain(drawn).collect::<Vec<_>>().join(", ")
}

fn log(log: &AccessLogConfig) -> [Entry; 4] {
    let file = log.file.as_ref().map_or_else(|| "standard output".to_owned(), |file| format!("{file:?}"));
    let field = |field: &LogField| field.as_str().to_owned();
    [
        setting("log_file", file, NEXT_LINE),
        setting("log_format", log.format.to_string(), NEXT_LINE),
        setting("log_filter", log.filter.as_ref().map_or_else(|| "all requests".to_owned(), filter), NEXT_LINE),
        setting("log_fields", list(log.fields.iter().map(field), "none"), NEXT_LINE),
    ]
}
