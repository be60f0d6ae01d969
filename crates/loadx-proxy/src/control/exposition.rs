//! The metrics in the formats of Prometheus and OpenMetrics: what control knows, and what workers counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loadx_core::BackendSnapshot;
use loadx_core::plan::ClusterSnapshot;

use super::endpoints::{Endpoints, State};
use crate::net::Network;
use crate::shared::WorkerLoad;
use crate::telemetry::{Exposition, Family, Labels, MetricsFormat, family};
use crate::tls::Automatic;

impl<N: Network> Endpoints<N> {
    pub(super) async fn exposition(&self, format: MetricsFormat, state: &State) -> Vec<u8> {
        let counts = self.measure().await;
        let plan = self.shared.plan();
        let mut out = Exposition::new(format);
        out.family(&family::BUILD).whole(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
        out.family(&family::CONFIG_GENERATION).whole(&[], plan.generation);
        let applied = self.clock.now().since(state.config.since);
        out.family(&family::CONFIG_APPLIED).real(&[], unix_seconds(SystemTime::now()) - applied.as_secs_f64());
        out.family(&family::CONFIG_SUCCESSFUL).whole(&[], u64::from(state.config.failure.is_none()));
        clusters(&mut out, &state.clusters);
        backends(&mut out, &state.clusters);
        let names = state.clusters.iter().flat_map(|cluster| {
            let backends = cluster.snapshot.backends.iter();
            backends.map(|backend| (backend.id, Arc::clone(&cluster.name), Arc::clone(&backend.name)))
        });
        out.counted(&counts, &plan, &names.collect::<Vec<_>>());
        let open: usize = self.shared.loads.iter().map(WorkerLoad::connections).sum();
        out.family(&family::CONNECTIONS).whole(&[], open);
        out.family(&family::CONNECTIONS_MAX).whole(&[], plan.process.max_connections);
        out.family(&family::LOST_LINES).whole(&[], self.lost_log_lines.count());
        out.family(&family::LOST_SPANS).whole(&[], self.shared.spans.lost().count());
        out.family(&family::CERTIFICATE_EXPIRY);
        for ((listener, name), end) in self.certificate_ends() {
            out.real(&[("listener", &listener), ("name", &name)], end);
        }
        out.process();
        out.finish()
    }

    /// When the first certificate of each listener for each name ends, in seconds since 1970.
    fn certificate_ends(&self) -> BTreeMap<(String, String), f64> {
        let mut ends = BTreeMap::new();
        for listener in &self.shared.plan().listeners {
            let Some(tls) = self.shared.tls.of(listener.id) else { continue };
            let automatic = tls.automatic().filter_map(|Automatic { identity, .. }| identity);
            let of_files = tls.of_files();
            for identity in of_files.iter().map(|(identity, _)| identity.clone()).chain(automatic) {
                let end = unix_seconds(identity.not_after());
                for name in identity.names() {
                    let key = (listener.name.to_string(), name.to_string());
                    ends.entry(key).and_modify(|first: &mut f64| *first = first.min(end)).or_insert(end);
                }
            }
        }
        ends
    }
}

/// A metric, and its value for something, if there is a value.
type Gauge<T> = (&'static Family, fn(&T) -> Option<f64>);

fn clusters(out: &mut Exposition, clusters: &[ClusterSnapshot]) {
    let gauges: [Gauge<ClusterSnapshot>; 7] = [
        (&family::CLUSTER_BACKENDS, |cluster| Some(cluster.snapshot.backends.len() as f64)),
        (&family::CLUSTER_ADMITTED, |cluster| Some(cluster.snapshot.admitted() as f64)),
        (&family::CLUSTER_WAITING, |cluster| Some(cluster.snapshot.waiting as f64)),
        (&family::CLUSTER_IN_FLIGHT, |cluster| {
            Some(cluster.snapshot.backends.iter().map(|backend| f64::from(backend.in_flight)).sum())
        }),
        (&family::CLUSTER_LIMIT, |cluster| cluster.snapshot.limit.map(f64::from)),
        (&family::CLUSTER_BREAKER, |cluster| cluster.snapshot.breaker.map(|state| flag(state == "open"))),
        (&family::CLUSTER_BUDGET, |cluster| Some(cluster.snapshot.retry_budget as f64)),
    ];
    for (family, gauge) in gauges {
        out.family(family);
        for cluster in clusters {
            if let Some(value) = gauge(cluster) {
                out.real(&[("cluster", &cluster.name)], value);
            }
        }
    }
}

fn backends(out: &mut Exposition, clusters: &[ClusterSnapshot]) {
    let gauges: [Gauge<BackendSnapshot>; 8] = [
        (&family::BACKEND_UP, |backend| Some(flag(backend.admitted))),
        (&family::BACKEND_EJECTED, |backend| Some(flag(backend.ejected.is_some()))),
        (&family::BACKEND_DRAINED, |backend| Some(flag(backend.drained))),
        (&family::BACKEND_WEIGHT, |backend| Some(f64::from(backend.weight))),
        (&family::BACKEND_IN_FLIGHT, |backend| Some(f64::from(backend.in_flight))),
        (&family::BACKEND_LIMIT, |backend| backend.limit.map(f64::from)),
        (&family::BACKEND_PROBE, |backend| backend.probe_took.as_ref().map(Duration::as_secs_f64)),
        (&family::BACKEND_EJECTIONS, |backend| Some(backend.ejections as f64)),
    ];
    for (family, gauge) in gauges {
        out.family(family);
        for cluster in clusters {
            for backend in &cluster.snapshot.backends {
                let labels: Labels<'_> = &[("cluster", &cluster.name), ("backend", &backend.name)];
                if let Some(value) = gauge(backend) {
                    out.real(labels, value);
                }
            }
        }
    }
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
