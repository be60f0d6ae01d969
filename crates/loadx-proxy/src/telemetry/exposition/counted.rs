//! The metrics that workers count.

use std::sync::Arc;

use loadx_core::BackendId;
use loadx_core::plan::Plan;

use super::{Exposition, Family, Value, family};
use crate::telemetry::Shard;
use crate::telemetry::cluster_counts::{BackendCounts, ClusterCounts, ErrorCounts, ListenerCounts, RouteCounts};
use crate::telemetry::latency::{Buckets, Latency};

/// A backend with the name of its cluster and its own.
pub(crate) type BackendNames = (BackendId, Arc<str>, Arc<str>);

impl Exposition {
    /// Adds what all workers counted for what `plan` has, and for these backends. Names come from the present config, and not from
    /// the time of counting: backends may be renamed.
    pub(crate) fn counted(&mut self, counts: &Shard, plan: &Plan, backends: &[BackendNames]) {
        self.listeners(counts, plan);
        self.routes(counts, plan);
        self.clusters(counts, plan);
        self.backends(counts, backends);
        self.connections(counts);
        self.family(&family::HEDGES).whole(&[], counts.hedges);
        self.family(&family::HEDGES_WON).whole(&[], counts.hedges_won);
        self.family(&family::MIRRORS_SKIPPED).whole(&[], counts.mirrors_skipped);
        let holdings = counts.holdings;
        self.family(&family::POOL_IDLE).whole(&[], holdings.idle_to_backends);
        self.family(&family::POOL_H2).whole(&[], holdings.h2_to_backends);
        self.family(&family::BUFFERS).whole(&[], holdings.buffers);
        self.family(&family::PIPES).whole(&[], holdings.pipes);
    }

    fn listeners(&mut self, counts: &Shard, plan: &Plan) {
        let listeners = plan.listeners.iter();
        let counted: Vec<(&str, &ListenerCounts)> = listeners
            .filter_map(|listener| Some((&*listener.name, counts.listeners.get(listener.id.number())?)))
            .collect();
        self.family(&family::REQUESTS);
        for (name, counts) in &counted {
            for (method, code, count) in counts.requests.kinds() {
                self.whole(&[("listener", name), ("method", method), ("code", code)], count);
            }
        }
        self.family(&family::RECEIVED);
        counted.iter().for_each(|(name, counts)| self.whole(&[("listener", name)], counts.received));
        self.family(&family::SENT);
        counted.iter().for_each(|(name, counts)| self.whole(&[("listener", name)], counts.sent));
        self.family(&family::RESPONSES);
        for (status, count) in counts.statuses.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.whole(&[("status", &status.to_string())], *count);
        }
    }

    fn routes(&mut self, counts: &Shard, plan: &Plan) {
        let routes = plan.routes.routes().iter().zip(&plan.route_ids);
        let counted: Vec<(&str, &RouteCounts)> =
            routes.filter_map(|(route, id)| Some((&*route.name, counts.routes.get(id.number())?))).collect();
        self.family(&family::ROUTE_REQUESTS);
        for (name, counts) in &counted {
            for (method, code, count) in counts.requests.kinds() {
                self.whole(&[("route", name), ("method", method), ("code", code)], count);
            }
        }
        self.family(&family::ROUTE_DURATION);
        for (name, counts) in &counted {
            self.durations(&[("route", name)], &counts.buckets, None);
        }
    }

    fn clusters(&mut self, counts: &Shard, plan: &Plan) {
        let clusters = plan.clusters.iter();
        let counted: Vec<(&str, &ClusterCounts)> =
            clusters.filter_map(|cluster| Some((&*cluster.name, counts.clusters.get(cluster.id.number())?))).collect();
        self.family(&family::ERRORS).errors("", &counts.error_kinds);
        counted.iter().for_each(|(name, counts)| self.errors(name, &counts.error_kinds));
        self.family(&family::CLUSTER_REQUESTS);
        for (name, counts) in &counted {
            for (method, code, count) in counts.requests.kinds() {
                self.whole(&[("cluster", name), ("method", method), ("code", code)], count);
            }
        }
        self.family(&family::CLUSTER_DURATION);
        for (name, counts) in &counted {
            self.durations(&[("cluster", name)], &counts.buckets, Some(&counts.latency));
        }
        type Times = (&'static Family, fn(&ClusterCounts) -> &Buckets);
        let times: [Times; 3] = [
            (&family::CLUSTER_HEAD, |counts| &counts.head),
            (&family::CLUSTER_QUEUE, |counts| &counts.waited),
            (&family::CLUSTER_CONNECT, |counts| &counts.connect),
        ];
        for (family, buckets) in times {
            self.family(family);
            counted.iter().for_each(|(name, counts)| self.durations(&[("cluster", name)], buckets(counts), None));
        }
        self.family(&family::CLUSTER_RETRIES);
        counted.iter().for_each(|(name, counts)| self.whole(&[("cluster", name)], counts.retries));
        self.family(&family::CLUSTER_COPIES);
        for (name, counts) in &counted {
            for (code, count) in counts.copies.classes() {
                self.whole(&[("cluster", name), ("code", code)], count);
            }
        }
        self.family(&family::CLUSTER_GRPC);
        for (name, counts) in &counted {
            for (status, count) in counts.grpc() {
                self.whole(&[("cluster", name), ("status", status)], count);
            }
        }
    }

    fn backends(&mut self, counts: &Shard, names: &[BackendNames]) {
        let backends = names.iter();
        let counted: Vec<(&str, &str, &BackendCounts)> =
            backends.filter_map(|(id, cluster, name)| Some((&**cluster, &**name, counts.backends.get(id)?))).collect();
        self.family(&family::BACKEND_REQUESTS);
        for (cluster, name, counts) in &counted {
            for (code, count) in counts.requests.classes() {
                self.whole(&[("cluster", cluster), ("backend", name), ("code", code)], count);
            }
        }
        self.family(&family::BACKEND_SECONDS);
        for (cluster, name, counts) in &counted {
            self.real(&[("cluster", cluster), ("backend", name)], counts.latency_sum_us as f64 / 1e6);
        }
        self.family(&family::BACKEND_FAILURES);
        for (cluster, name, counts) in &counted {
            for (kind, count) in counts.failures.iter().flat_map(|failures| failures.kinds()) {
                self.whole(&[("cluster", cluster), ("backend", name), ("kind", kind.as_str())], count);
            }
        }
    }

    fn connections(&mut self, counts: &Shard) {
        self.family(&family::CONNECTIONS_ACCEPTED).whole(&[], counts.connections);
        self.family(&family::CONNECTIONS_REFUSED).whole(&[], counts.refused_connections);
        self.family(&family::PROXY_FAULTS).whole(&[], counts.proxy_header_faults);
        self.family(&family::HANDSHAKES);
        for ((version, is_resumed), count) in &counts.handshakes.succeeded {
            let resumed = if *is_resumed { "true" } else { "false" };
            self.whole(&[("version", version), ("resumed", resumed)], *count);
        }
        self.family(&family::HANDSHAKES_FAILED);
        for (reason, count) in &counts.handshakes.failed {
            self.whole(&[("reason", reason)], *count);
        }
        let h2 = &counts.h2;
        for (family, count) in [
            (&family::H2_CONNECTIONS, h2.connections),
            (&family::H2_REQUESTS, h2.requests),
            (&family::H2_RESETS, h2.resets),
            (&family::H2_REFUSED, h2.refused),
        ] {
            self.family(family).whole(&[], count);
        }
        for (family, faults) in
            [(&family::H2_STREAM_FAULTS, &h2.stream_faults), (&family::H2_CONNECTION_FAULTS, &h2.connection_faults)]
        {
            self.family(family);
            faults.iter().for_each(|(code, count)| self.whole(&[("code", code)], *count));
        }
    }

    fn errors(&mut self, cluster: &str, counts: &ErrorCounts) {
        for (kind, count) in counts.kinds() {
            self.whole(&[("cluster", cluster), ("fault", kind.fault().as_str()), ("kind", kind.as_str())], count);
        }
    }

    fn durations(&mut self, labels: super::Labels<'_>, buckets: &Buckets, latency: Option<&Latency>) {
        self.value(labels, Value::Durations(buckets, latency.map(|latency| &latency.histogram)));
    }
}
