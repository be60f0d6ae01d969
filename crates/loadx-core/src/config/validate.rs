//! Makes the `Config` of the file types, and finds the faults that concern several values.

use std::collections::BTreeSet;

use super::checker::Checker;
use super::file::FileConfig;
use super::log_file::{FileLogFilter, FileTracing, LogField, LogFormat};
use super::reader::{At, Place, Problem, Typed as _};
use super::routing::{Names, route_to_the_only_cluster};
use super::routing_file::{FileBackendEntry, FileCluster, FileRoute};
use super::routing_values::{GrpcStatusWord, ProtocolWord, ProxyWord, ResolveWord};
use super::values::Seconds;
use super::{
    AccessLogConfig, BackendProtocol, BackendTransport, ClientLimits, ClusterConfig, Config, ConnectionsPerClient,
    Faults, HealthKeys, HostPort, ListenerConfig, LogFilter, ProxyVersion, Signature, Timeouts, TracingConfig,
};
use crate::{AttemptPolicy, BackendSpec, GrpcStatuses};

/// The largest number of backends in one config: LoadX probes every backend, and the views contain every backend.
pub(super) const BACKENDS_MAX: usize = 20_000;

pub(super) fn validate(source: &str, file: FileConfig, faults: &mut Faults) -> Config {
    Checker { source, faults }.config(file)
}

impl Checker<'_> {
    fn config(&mut self, file: FileConfig) -> Config {
        let listeners = match &file.listeners {
            Some(listeners) => {
                self.not_both(&file, "listeners", &["proxy_host", "proxy_port", "tls", "http2"]);
                self.listeners(listeners)
            }
            None => {
                let at = HostPort { host: file.proxy_host.0.clone(), port: file.proxy_port.0 as u16 };
                let tls = file.tls.as_ref().map(|tls| self.tls(tls, file.http2));
                vec![ListenerConfig {
                    name: "default".into(),
                    at,
                    endpoints: true,
                    listed: false,
                    tls,
                    https_port: None,
                    http2: file.http2,
                    proxy_protocol: Vec::new(),
                }]
            }
        };
        let clusters = self.clusters(&file);
        let timeouts = timeouts(&file);
        let admin = file.admin.as_ref().map(|admin| self.admin(admin)).unwrap_or_default();
        let routes = match &file.routes {
            Some(routes) => self.routes(routes, &Names::new(&listeners, &clusters)),
            None => {
                if let (Some(typed), true) = (&file.clusters, clusters.len() > 1) {
                    let message = "the file has several clusters and no \"routes\"";
                    self.fault(typed.place, Problem::new(message, "add \"routes\": [{\"cluster\": …}]"));
                }
                vec![route_to_the_only_cluster()]
            }
        };
        let acme = file.acme.as_ref().map(|acme| self.acme(acme, &listeners)).unwrap_or_default();
        Config {
            acme,
            certificate_folder: file.certificate_folder.as_ref().map(|folder| folder.value.0.as_str().into()),
            listeners,
            routes,
            clusters,
            workers: file.workers.map(|workers| workers.value.0 as usize),
            max_connections: file.max_connections.0 as usize,
            memory_max: file.max_memory.as_ref().map(|most| most.value.0),
            connections_per_client: match &file.max_connections_per_client {
                Some(typed) => ConnectionsPerClient::Of(typed.value.0 as u32),
                None => ConnectionsPerClient::Half((file.max_connections.0 as u32).div_ceil(2)),
            },
            timeouts,
            client_limits: ClientLimits {
                requests_per_connection: file.max_requests_per_connection.0,
                connection_age: file.max_connection_age.as_ref().map(|age| age.value.duration()),
                body_max: file.max_body_size.map(|size| size.value.0),
                body_rate_min: file.min_body_rate.0,
            },
            signature: Signature { via: file.via.map(|via| via.value.0), forwarded: file.forwarded },
            trace_context: file.trace_context,
            tracing: file.tracing.as_ref().and_then(|tracing| self.tracing(&tracing.value)),
            access_log: file.enable_logging.then(|| AccessLogConfig {
                fields: self.log_fields(&file.log_format, &file.log_fields),
                format: file.log_format,
                filter: file.log_filter.as_ref().map(|filter| self.log_filter(filter.place, &filter.value)),
                file: file.log_file.map(|path| path.value.0.into()),
            }),
            metrics: file.enable_metrics,
            dashboard: file.enable_dashboard,
            trusted_proxies: file.trusted_proxies.into_iter().map(|network| network.value.0).collect(),
            endpoints_allow: file.endpoints_allow.into_iter().map(|network| network.value.0).collect(),
            admin,
        }
    }

    /// Adds a fault if the file has both keys for one listener or cluster and a list of several.
    fn not_both(&mut self, file: &FileConfig, many: &str, one: &[&str]) {
        for key in one {
            if let Some(place) = file.place_of(key) {
                let message = format!("a file cannot have both \"{key}\" and \"{many}\"");
                self.fault(place, Problem::new(message, format!("move \"{key}\" into \"{many}\"")));
            }
        }
    }

    fn log_fields(&mut self, format: &LogFormat, typed: &[At<LogField>]) -> Vec<LogField> {
        if let (LogFormat::Common | LogFormat::Combined | LogFormat::Template(_), Some(first)) = (format, typed.first())
        {
            let message = "\"log_fields\" changes nothing in this \"log_format\"";
            let help =
                "name the fields in a template, such as \"{client} {status} {user_agent}\", or remove \"log_fields\"";
            self.fault(first.place, Problem::new(message, help));
        }
        let mut fields = Vec::new();
        for field in typed {
            if fields.contains(&field.value) {
                let named = field.place.text(self.source).to_owned();
                self.fault(field.place, Problem::new(format!("{named} is listed twice"), "remove one"));
            }
            fields.push(field.value);
        }
        fields
    }

    fn tracing(&mut self, typed: &FileTracing) -> Option<TracingConfig> {
        let url = &typed.otlp.value.0;
        let Some((at, path)) = receiver(url) else {
            let message = format!("\"{url}\" is no address of a receiver");
            self.fault(typed.otlp.place, Problem::new(message, "write something like \"http://localhost:4318\""));
            return None;
        };
        Some(TracingConfig { at, path, one_in: typed.one_in.0, service: typed.service.0.clone() })
    }

    fn log_filter(&mut self, place: Place, typed: &FileLogFilter) -> LogFilter {
        let ranges = typed.statuses.iter().flat_map(|statuses| &statuses.value);
        let filter = LogFilter {
            statuses: ranges.map(|range| (range.value.0, range.value.1)).collect(),
            slower_than: typed.slower_than.as_ref().map(|seconds| seconds.value.duration()),
            one_in: typed.one_in.as_ref().map(|count| count.value.0),
        };
        if filter == LogFilter::default() {
            let help = "name statuses, slower_than or one_in, or set \"enable_logging\" to false";
            self.fault(place, Problem::new("this \"log_filter\" lets no request into the access log", help));
        }
        filter
    }

    fn clusters(&mut self, file: &FileConfig) -> Vec<ClusterConfig> {
        match (&file.backend_servers, &file.clusters) {
            (Some(servers), None) => {
                let backends: Vec<(Place, FileBackendEntry)> = servers
                    .value
                    .iter()
                    .map(|entry| (entry.place, FileBackendEntry::Object(entry.value.clone())))
                    .collect();
                let resilience = self.resilience(None, file.resilience.as_ref());
                vec![ClusterConfig {
                    name: "default".into(),
                    algorithm: file.algorithm,
                    backends: self.backends("backend_servers", servers.place, &backends),
                    resolve_each: false,
                    health: self.health(file, None, ProtocolWord::Http1, &resilience),
                    health_keys: HealthKeys::default(),
                    attempt: AttemptPolicy { retry: resilience.retry, ..timeouts(file).attempt() },
                    limits: resilience.limits,
                    hedge: resilience.hedge,
                    transport: BackendTransport {
                        tls: file.backend_tls.as_ref().and_then(|tls| self.backend_tls(tls)),
                        proxy_protocol: None,
                        protocol: protocol(file.backend_protocol),
                    },
                }]
            }
            (None, Some(clusters)) => {
                self.not_both(file, "clusters", &["backend_tls", "backend_protocol"]);
                if clusters.value.0.is_empty() && needs_clusters(file) {
                    let message = "\"clusters\" is empty: no backend could answer";
                    self.fault(
                        clusters.place,
                        Problem::new(message, "add one: {\"web\": {\"backends\": [\"localhost:8001\"]}}"),
                    );
                }
                clusters.value.0.iter().map(|(name, cluster)| self.cluster_of(file, name, &cluster.value)).collect()
            }
            (Some(_), Some(_)) => {
                self.not_both(file, "clusters", &["backend_servers"]);
                Vec::new()
            }
            (None, None) => {
                // The reader has already reported an invalid value.
                let has_key = file.place_of("clusters").is_some() || file.place_of("backend_servers").is_some();
                if !has_key && needs_clusters(file) {
                    let help = "add \"backend_servers\": [{\"host\": \"localhost\", \"port\": 8001}], or \"clusters\"";
                    self.fault(Place::START, Problem::new("the file lacks \"backend_servers\"", help));
                }
                Vec::new()
            }
        }
    }

    fn cluster_of(&mut self, file: &FileConfig, name: &At<String>, typed: &FileCluster) -> ClusterConfig {
        if typed.protocol == ProtocolWord::Http2 && typed.proxy_protocol != ProxyWord::Off {
            let message = "\"protocol\": \"h2\" and \"proxy_protocol\" exclude each other: the exchanges of many clients share a \
                           connection of HTTP/2, and the header tells the address of one";
            let help = "remove \"proxy_protocol\": backends have the client's address in X-Forwarded-For";
            self.fault(name.place, Problem::new(message, help));
        }
        if name.value.is_empty() || name.value.chars().any(char::is_control) {
            self.fault(name.place, Problem::new("a cluster has no name", "write a name such as \"web\""));
        }
        let backends: Vec<(Place, FileBackendEntry)> =
            typed.backends.value.iter().map(|entry| (entry.place, entry.value.clone())).collect();
        let default = timeouts(file).attempt();
        let span = |seconds: &Option<At<Seconds>>| seconds.as_ref().map(|seconds| seconds.value.duration());
        let resilience = self.resilience(typed.resilience.as_ref(), file.resilience.as_ref());
        let health_of_cluster = typed.health.as_ref().map(|health| &health.value);
        let health = self.health(file, typed.health.as_ref(), typed.protocol, &resilience);
        ClusterConfig {
            name: name.value.as_str().into(),
            algorithm: typed.algorithm.as_ref().map_or(file.algorithm, |algorithm| algorithm.value),
            backends: self.backends("backends", typed.backends.place, &backends),
            resolve_each: typed.resolve == ResolveWord::Each,
            health,
            health_keys: HealthKeys {
                own_interval: health_of_cluster.is_some_and(|health| health.interval.is_some()),
                own_timeout: health_of_cluster.is_some_and(|health| health.timeout.is_some()),
            },
            attempt: AttemptPolicy {
                connect: span(&typed.connection_timeout).unwrap_or(default.connect),
                response: span(&typed.request_timeout).unwrap_or(default.response),
                exchange: default.exchange,
                retry_grpc: retry_grpc(&typed.retry_grpc),
                retry: resilience.retry,
            },
            limits: resilience.limits,
            hedge: resilience.hedge,
            transport: BackendTransport {
                tls: typed.tls.as_ref().and_then(|tls| self.backend_tls(tls)),
                proxy_protocol: match typed.proxy_protocol {
                    ProxyWord::Off => None,
                    ProxyWord::V1 => Some(ProxyVersion::V1),
                    ProxyWord::V2 => Some(ProxyVersion::V2),
                },
                protocol: protocol(typed.protocol),
            },
        }
    }

    fn backends(&mut self, key: &str, place: Place, typed: &[(Place, FileBackendEntry)]) -> Vec<BackendSpec> {
        // `typed` lacks invalid entries, so only the text shows whether the list is empty.
        if place.text(self.source).trim_start_matches('[').trim_start().starts_with(']') {
            let help = "add one: {\"host\": \"localhost\", \"port\": 8001}";
            self.fault(place, Problem::new(format!("\"{key}\" is empty: no backend could answer"), help));
        }
        if typed.len() > BACKENDS_MAX {
            let message = format!("\"{key}\" has {} entries; {BACKENDS_MAX} are possible", typed.len());
            self.fault(place, Problem::new(message, "divide the backends among several LoadX processes"));
        }
        let specs: Vec<BackendSpec> = typed.iter().map(|(_, backend)| spec(backend)).collect();
        let mut by_authority = BTreeSet::new();
        let mut by_name = BTreeSet::new();
        for (spec, (place, entry)) in specs.iter().zip(typed) {
            let authority = spec.authority().to_ascii_lowercase();
            if !by_authority.insert(authority) {
                let message = format!("{} is listed twice", spec.authority());
                let help = "remove one; to send more requests to the backend, raise its \"weight\"";
                self.fault(*place, Problem::new(message, help));
            } else if !by_name.insert(spec.name.clone()) {
                let message = format!("two backends are named \"{}\"", spec.name);
                let named = match entry {
                    FileBackendEntry::Object(backend) => backend.name.as_ref().map(|name| name.place),
                    FileBackendEntry::Short(_) => None,
                };
                self.fault(named.unwrap_or(*place), Problem::new(message, "give each backend a different name"));
            }
        }
        specs
    }
}

/// Whether a route forwards requests. Redirects and fixed responses need no cluster.
fn needs_clusters(file: &FileConfig) -> bool {
    let forwards = |route: &At<FileRoute>| route.value.cluster.is_some() || route.value.split.is_some();
    match &file.routes {
        Some(routes) => routes.value.iter().any(forwards),
        // The reader has already reported invalid routes.
        None => file.place_of("routes").is_none(),
    }
}

fn timeouts(file: &FileConfig) -> Timeouts {
    Timeouts {
        request_head: file.request_head_timeout.duration(),
        exchange: file.exchange_timeout.as_ref().map(|timeout| timeout.value.duration()),
        connect: file.connection_timeout.duration(),
        request: file.request_timeout.duration(),
        keepalive: file.keepalive_timeout.duration(),
        backend_keepalive: file.backend_keepalive_timeout.duration(),
        tunnel: file.tunnel_timeout.duration(),
        shutdown_grace: file.shutdown_grace.duration(),
        drain: file.drain_timeout.duration(),
    }
}

fn retry_grpc(typed: &[At<GrpcStatusWord>]) -> GrpcStatuses {
    let mut statuses = GrpcStatuses::default();
    typed.iter().for_each(|word| statuses.add(word.value.number()));
    statuses
}

fn protocol(typed: ProtocolWord) -> BackendProtocol {
    match typed {
        ProtocolWord::Http1 => BackendProtocol::Http1,
        ProtocolWord::Http2 => BackendProtocol::Http2,
    }
}

fn spec(backend: &FileBackendEntry) -> BackendSpec {
    match backend {
        FileBackendEntry::Short(address) => BackendSpec::new(&address.0.host, address.0.port),
        FileBackendEntry::Object(backend) => {
            let unnamed = BackendSpec::new(&backend.host.value.0, backend.port.value.0 as u16);
            let name = backend.name.as_ref().map(|name| name.value.0.as_str().into());
            BackendSpec {
                name: name.unwrap_or_else(|| unnamed.name.clone()),
                weight: backend.weight.0 as u32,
                drain: backend.drain,
                ..unnamed
            }
        }
    }
}

/// Host, port and path of `http://HOST[:PORT][/PATH]`.
fn receiver(url: &str) -> Option<(HostPort, String)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/v1/traces"), |at| rest.split_at(at));
    let path = if path == "/" { "/v1/traces" } else { path };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (authority, 4_318),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    (is_plain(host) && is_plain(path)).then(|| (HostPort { host: host.into(), port }, path.to_owned()))
}
