//! Every metric that LoadX exposes: its name, its type and its meaning. docs/metrics.md has the same list; a test compares the two.
//!
//! Names follow the conventions of Prometheus: base units, and the unit in the name.

/// A metric with all its labels.
#[derive(Debug)]
pub(crate) struct Family {
    /// The name, without the suffix `_total` of a counter.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
}

/// The type of a metric.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number that only grows while the process runs.
    Counter,
    /// A number of this moment.
    Gauge,
    /// Numbers of observations by size.
    Histogram,
    /// Facts in labels; the value is 1.
    Info,
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(crate) const $constant: Family = Family { name: $name, kind: Kind::$kind, help: $help };
        )*

        /// Every metric, in the order of the documentation.
        #[cfg(test)]
        pub(super) const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD: Info "loadx_build", "The version of LoadX.";
    CONFIG_GENERATION: Gauge "loadx_config_generation", "The number of the plan that is served, from 1; each applied config makes a new plan.";
    CONFIG_APPLIED: Gauge "loadx_config_applied_timestamp_seconds", "When the config that is served was applied, in seconds since 1970.";
    CONFIG_SUCCESSFUL: Gauge "loadx_config_last_reload_successful", "1 unless a later config could not be applied.";

    REQUESTS: Counter "loadx_requests", "Requests of clients that ended, by listener, method and class of status (code). Status endpoints are not counted.";
    RESPONSES: Counter "loadx_responses", "Requests of clients that ended, by status; 499 stands for a client that left.";
    RECEIVED: Counter "loadx_request_content_bytes", "Content received from clients, in bytes.";
    SENT: Counter "loadx_response_content_bytes", "Content sent to clients, in bytes.";
    ERRORS: Counter "loadx_errors", "Requests that got no complete response of a backend, or a status of 500 or above from a backend, by the side at fault and the kind. The cluster is empty when no cluster was chosen.";
    ROUTE_REQUESTS: Counter "loadx_route_requests", "Requests of clients that matched the route and ended.";
    ROUTE_DURATION: Histogram "loadx_route_request_duration_seconds", "Time from the head of a request to the end of its response.";

    CLUSTER_REQUESTS: Counter "loadx_cluster_requests", "Requests of clients for the cluster that ended.";
    CLUSTER_DURATION: Histogram "loadx_cluster_request_duration_seconds", "Time from the head of a request to the end of its response; copies for mirrors included.";
    CLUSTER_HEAD: Histogram "loadx_cluster_response_head_seconds", "Time from the head of a request to the head of the response of a backend.";
    CLUSTER_QUEUE: Histogram "loadx_cluster_queue_wait_seconds", "Time in the queue, of the requests that waited there.";
    CLUSTER_CONNECT: Histogram "loadx_cluster_connect_duration_seconds", "Time until a connection to a backend was open, with its handshake, of the requests that opened one.";
    CLUSTER_RETRIES: Counter "loadx_cluster_retries", "Further attempts of requests after their first.";
    CLUSTER_COPIES: Counter "loadx_cluster_mirror_copies", "Copies that the cluster got as a mirror, by class of status (code).";
    CLUSTER_GRPC: Counter "loadx_cluster_grpc_calls", "Calls of gRPC that ended, by their status.";
    CLUSTER_BACKENDS: Gauge "loadx_cluster_backends", "Backends of the cluster.";
    CLUSTER_ADMITTED: Gauge "loadx_cluster_backends_in_rotation", "Backends of the cluster that get requests.";
    CLUSTER_WAITING: Gauge "loadx_cluster_waiting_requests", "Requests in the queue of the cluster.";
    CLUSTER_IN_FLIGHT: Gauge "loadx_cluster_requests_in_flight", "Exchanges in flight at all backends of the cluster.";
    CLUSTER_LIMIT: Gauge "loadx_cluster_requests_limit", "The most exchanges in flight at all backends of the cluster; only with such a limit.";
    CLUSTER_BREAKER: Gauge "loadx_cluster_circuit_breaker_open", "1 while the circuit breaker refuses requests; only with a circuit breaker.";
    CLUSTER_BUDGET: Gauge "loadx_cluster_retry_budget", "Requests that may still be sent again now.";

    BACKEND_UP: Gauge "loadx_backend_up", "1 while the backend is in rotation, otherwise 0.";
    BACKEND_EJECTED: Gauge "loadx_backend_ejected", "1 while the backend is ejected as an outlier, otherwise 0.";
    BACKEND_DRAINED: Gauge "loadx_backend_drained", "1 while the backend is drained, otherwise 0.";
    BACKEND_WEIGHT: Gauge "loadx_backend_weight", "The weight of the backend.";
    BACKEND_IN_FLIGHT: Gauge "loadx_backend_requests_in_flight", "Exchanges in flight at the backend.";
    BACKEND_LIMIT: Gauge "loadx_backend_requests_limit", "The most exchanges in flight at the backend; only with a limit.";
    BACKEND_PROBE: Gauge "loadx_backend_probe_duration_seconds", "The duration of the last good probe; only after one.";
    BACKEND_EJECTIONS: Counter "loadx_backend_ejections", "How often the backend was taken out of rotation by failures: of probes, of connects, or as an outlier.";
    BACKEND_REQUESTS: Counter "loadx_backend_requests", "Requests whose last attempt was at the backend, by class of status (code); copies for mirrors included.";
    BACKEND_SECONDS: Counter "loadx_backend_request_seconds", "The durations of the requests whose last attempt was at the backend, together.";
    BACKEND_FAILURES: Counter "loadx_backend_attempt_failures", "Attempts at the backend that failed, by kind; also those after which another backend answered.";

    CONNECTIONS: Gauge "loadx_client_connections", "Connections of clients.";
    CONNECTIONS_MAX: Gauge "loadx_client_connections_max", "The most connections of clients at the same time.";
    CONNECTIONS_ACCEPTED: Counter "loadx_client_connections_accepted", "Connections of clients that were accepted.";
    CONNECTIONS_REFUSED: Counter "loadx_client_connections_refused", "Connections of clients that were closed because their address had too many.";
    PROXY_FAULTS: Counter "loadx_proxy_protocol_faults", "Connections that did not begin with a valid header of the PROXY protocol where the listener expects one.";
    HANDSHAKES: Counter "loadx_tls_handshakes", "Handshakes of TLS with clients that succeeded, by version and by whether the keys of a former connection were used (resumed).";
    HANDSHAKES_FAILED: Counter "loadx_tls_handshake_failures", "Handshakes of TLS with clients that failed, by reason.";
    CERTIFICATE_EXPIRY: Gauge "loadx_certificate_expiry_timestamp_seconds", "When the certificate for the name ends, in seconds since 1970.";
    H2_CONNECTIONS: Counter "loadx_http2_connections", "Connections of clients that spoke HTTP/2.";
    H2_REQUESTS: Counter "loadx_http2_requests", "Requests of clients in HTTP/2 that began.";
    H2_RESETS: Counter "loadx_http2_resets", "Streams that clients reset.";
    H2_REFUSED: Counter "loadx_http2_refused_streams", "Streams that LoadX refused because too many were open.";
    H2_STREAM_FAULTS: Counter "loadx_http2_stream_faults", "Streams that LoadX ended for faults of clients, by error code.";
    H2_CONNECTION_FAULTS: Counter "loadx_http2_connection_faults", "Connections that LoadX ended for faults of clients, by error code.";

    HEDGES: Counter "loadx_hedges", "Second attempts beside an attempt that was not answered yet.";
    HEDGES_WON: Counter "loadx_hedges_won", "Second attempts that were answered first.";
    MIRRORS_SKIPPED: Counter "loadx_mirrors_skipped", "Requests of a route with a mirror that were not copied.";
    POOL_IDLE: Gauge "loadx_pool_idle_connections", "Idle connections to backends.";
    POOL_H2: Gauge "loadx_pool_http2_connections", "Connections to backends in HTTP/2, idle or not.";
    BUFFERS: Gauge "loadx_buffers_in_use", "Buffers lent to exchanges.";
    PIPES: Gauge "loadx_pipes_in_use", "Pipes lent to bodies.";
    LOST_LINES: Counter "loadx_access_log_lost_lines", "Lines of the access log that were lost because the disk or the reader was too slow.";
    LOST_SPANS: Counter "loadx_trace_lost_spans", "Spans that were lost because the receiver did not take them or was too slow.";

    PROCESS_CPU: Counter "process_cpu_seconds", "Processor time of the process, in user and in system mode.";
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes", "Resident memory of the process.";
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes", "Virtual memory of the process.";
    PROCESS_FDS: Gauge "process_open_fds", "Open file descriptors of the process.";
    PROCESS_FDS_MAX: Gauge "process_max_fds", "The most file descriptors that the process may open.";
    PROCESS_THREADS: Gauge "process_threads", "Threads of the process.";
    PROCESS_START: Gauge "process_start_time_seconds", "When the process began, in seconds since 1970.";
}
