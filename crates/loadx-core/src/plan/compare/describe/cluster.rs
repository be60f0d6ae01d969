//! Clusters and their backends.

use std::path::Path;

use super::resilience;
use super::words::{limit, percent, quote, seconds};
use super::{Effects, Entry, settings};
use crate::config::{BackendProtocol, BackendTls, ClusterConfig, ProxyVersion};
use crate::plan::compare::Part;
use crate::{Algorithm, BackendSpec, GrpcStatuses, HttpProbe, Probe};

/// The cluster and its backends; `drain` is the longest time of the exchanges at a backend that leaves.
pub(super) fn entries(cluster: &ClusterConfig, drain: &str) -> Vec<Entry> {
    let total: u64 = cluster.backends.iter().map(share_of).sum();
    let backends = cluster.backends.iter().map(|backend| backend_entry(cluster, backend, total, drain));
    std::iter::once(cluster_entry(cluster, drain)).chain(backends).collect()
}

fn cluster_entry(cluster: &ClusterConfig, drain: &str) -> Entry {
    let health = &cluster.health;
    Entry {
        part: Part::Cluster,
        of: None,
        name: cluster.name.to_string(),
        settings: settings([
            ("algorithm", algorithm(cluster.algorithm)),
            ("resolve", if cluster.resolve_each { "each" } else { "one" }.to_owned()),
            ("health.probe", probe(&health.probe)),
            ("health.port", health.port.map_or_else(|| "of the backend".to_owned(), |port| port.to_string())),
            ("health.start", if health.starts_up { "up" } else { "down" }.to_owned()),
            ("health.interval", seconds(health.interval)),
            ("health.fast_interval", seconds(health.fast_interval)),
            ("health.timeout", seconds(health.timeout)),
            ("health.rise", health.rise.to_string()),
            ("health.fall", health.fall.to_string()),
            ("timeouts.connect", seconds(cluster.attempt.connect)),
            ("timeouts.response", seconds(cluster.attempt.response)),
            ("timeouts.exchange", limit(cluster.attempt.exchange)),
            ("retry_grpc", retry_grpc(cluster.attempt.retry_grpc)),
            ("resilience.retries", resilience::retries(&cluster.attempt.retry, cluster.hedge)),
            ("resilience.limits", resilience::limits(&cluster.limits)),
            ("resilience.breaker", resilience::breaker(health.breaker.as_ref())),
            ("resilience.slow_start", limit(health.slow_start)),
            ("resilience.outliers", resilience::outliers(health.outliers.as_ref())),
            ("tls", tls(cluster.transport.tls.as_ref())),
            ("proxy_protocol", proxy_protocol(cluster.transport.proxy_protocol).to_owned()),
            ("protocol", protocol(cluster.transport.protocol).to_owned()),
        ]),
        action: None,
        effects: cluster_effects(drain),
    }
}

fn cluster_effects(drain: &str) -> Effects {
    // A name is one backend, or each of its addresses is one: none of the former backends is among the new ones.
    const REPLACED: &str = "replaces the backends that are names: their health and counts start anew, running requests \
                            finish; the rest holds from the next request or probe on";
    let effects = Effects::new(
        "its backends take requests at once",
        &format!("its backends get no new requests; running requests and WebSockets have {drain} to finish"),
        "holds from the next request or probe on; health and counts stay",
    );
    Effects { changed_with: Some(("resolve", REPLACED.to_owned())), ..effects }
}

fn tls(tls: Option<&BackendTls>) -> String {
    let Some(tls) = tls else { return "no".to_owned() };
    let path = |path: &Path| quote(&path.display().to_string());
    let trust = match (&tls.ca, tls.insecure) {
        (_, true) => "any certificate (insecure)".to_owned(),
        (Some(ca), false) => format!("certificates of {}", path(ca)),
        (None, false) => "certificates of the system's authorities".to_owned(),
    };
    let name = tls.server_name.as_ref().map(|name| format!(" for {}", quote(name)));
    let own =
        tls.certificate.as_ref().map(|own| format!("; LoadX shows {} with {}", path(&own.certificate), path(&own.key)));
    format!("{trust}{}{}", name.unwrap_or_default(), own.unwrap_or_default())
}

fn retry_grpc(statuses: GrpcStatuses) -> String {
    let numbers: Vec<String> =
        (0..32).filter(|number| statuses.contains(*number)).map(|number| number.to_string()).collect();
    if numbers.is_empty() { "no".to_owned() } else { format!("after gRPC status {}", numbers.join(", ")) }
}

fn protocol(protocol: BackendProtocol) -> &'static str {
    match protocol {
        BackendProtocol::Http1 => "http/1.1",
        BackendProtocol::Http2 => "h2",
    }
}

fn proxy_protocol(version: Option<ProxyVersion>) -> &'static str {
    match version {
        None => "off",
        Some(ProxyVersion::V1) => "v1",
        Some(ProxyVersion::V2) => "v2",
    }
}

fn algorithm(algorithm: Algorithm) -> String {
    match algorithm {
        Algorithm::IpHash(prefixes) => format!("ip_hash of /{} and /{}", prefixes.ipv4, prefixes.ipv6),
        other => other.as_str().to_owned(),
    }
}

fn probe(probe: &Probe) -> String {
    match probe {
        Probe::Http(probe) => http_probe(probe),
        Probe::Grpc { service } if service.is_empty() => "grpc".to_owned(),
        Probe::Grpc { service } => format!("grpc of {service}"),
        Probe::Connect => "tcp".to_owned(),
        Probe::Off => "off".to_owned(),
    }
}

fn http_probe(probe: &HttpProbe) -> String {
    let mut text = format!("{} {}", probe.method.as_str(), probe.path);
    if let Some(host) = &probe.host {
        text += &format!(" of {host}");
    }
    for (name, value) in &probe.fields {
        text += &format!(", {name}: {value}");
    }
    text += &format!(", healthy with {}", probe.accepts);
    if let Some(content) = &probe.content {
        text += &format!(" and {} in the content", quote(content));
    }
    text
}

/// The share of the requests, in proportion to the other shares. A drained backend has none.
fn share_of(backend: &BackendSpec) -> u64 {
    if backend.drain { 0 } else { backend.weight.into() }
}

fn backend_entry(cluster: &ClusterConfig, backend: &BackendSpec, total: u64, drain: &str) -> Entry {
    let leaves = format!(
        "gets no new requests; running requests and WebSockets have {drain} to finish; idle connections close within a \
         second"
    );
    let share = percent(share_of(backend) as f64 / total.max(1) as f64);
    let added = match backend.drain {
        true => "gets no requests, because the backend is drained".to_owned(),
        false => format!("takes requests at once: {share} by weight"),
    };
    let of_drain = match backend.drain {
        true => leaves.clone(),
        false => format!("takes requests again at once: {share} by weight"),
    };
    Entry {
        part: Part::Backend,
        of: Some(cluster.name.to_string()),
        name: backend.authority(),
        settings: settings([
            ("name", quote(&backend.name)),
            ("weight", backend.weight.to_string()),
            ("drain", backend.drain.to_string()),
            ("share by weight", share.clone()),
        ]),
        action: None,
        effects: Effects {
            changed_with: Some(("drain", of_drain)),
            ..Effects::new(&added, &leaves, "health, counts and connections stay")
        },
    }
}
