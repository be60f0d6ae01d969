//! What `/__health__`, `/__metrics__` and `/__status__` answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loadx_core::plan::{ClusterSnapshot, DrainSnapshot};
use loadx_core::{Attempts, BackendSnapshot, ListenerId, RetryPolicy, Time};
use serde_json::{Value, json};
use tokio::sync::{Mutex, oneshot};

use super::reload::{ConfigStatus, LeavingListener};
use crate::clock::Clock;
use crate::limits;
use crate::messages::{Asked, EndpointAnswer, Mailbox, Order};
use crate::net::Network;
use crate::shared::{Shared, WorkerLoad};
use crate::telemetry::{BackendCounts, LostLines, Shard, round};
use crate::tls::{Automatic, Identity};

/// Answers the status endpoints.
pub(super) struct Endpoints<N: Network> {
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) mailboxes: Vec<Mailbox<N>>,
    pub(super) lost_log_lines: Arc<LostLines>,
    /// What was measured last, and since when. One measurement runs at a time: each copies every counter of
    /// every worker.
    pub(super) measured: Rc<Mutex<Option<Measured>>>,
    /// What each worker told last, by its index.
    pub(super) last_counts: Rc<RefCell<BTreeMap<usize, Box<Shard>>>>,
}

/// What control knew when it was asked.
pub(super) struct State {
    pub(super) clusters: Vec<ClusterSnapshot>,
    pub(super) drains: Vec<DrainSnapshot>,
    /// The addresses of each listener.
    pub(super) listening: Vec<(ListenerId, Vec<SocketAddr>)>,
    /// The listeners that were removed and may still have clients.
    pub(super) leaving: Vec<LeavingListener>,
    pub(super) config: ConfigStatus,
}

/// What all workers had counted when it was measured.
#[derive(Debug)]
pub(super) struct Measured {
    began: Time,
    shard: Rc<Shard>,
}

impl<N: Network> Clone for Endpoints<N> {
    fn clone(&self) -> Self {
        Endpoints {
            clock: self.clock,
            shared: Arc::clone(&self.shared),
            mailboxes: self.mailboxes.clone(),
            lost_log_lines: Arc::clone(&self.lost_log_lines),
            measured: Rc::clone(&self.measured),
            last_counts: Rc::clone(&self.last_counts),
        }
    }
}

impl<N: Network> Endpoints<N> {
    pub(super) async fn answer(&self, asked: Asked, state: &State) -> EndpointAnswer {
        let now = self.clock.now();
        let (status, body) = match asked {
            Asked::Health => health(now, &state.clusters, self.shared.is_short_of_memory()),
            Asked::Summary => (200, self.metrics(now, &*self.measure().await)),
            Asked::Status => (200, self.status(now, state, &*self.measure().await)),
            Asked::Metrics(format) => {
                let content = self.exposition(format, state).await;
                return EndpointAnswer { status: 200, content_type: format.content_type(), content };
            }
        };
        EndpointAnswer::json(status, format!("{body:#}\n").into_bytes())
    }

    /// What all workers have counted by now. Whoever asks while a measurement runs shares the next one.
    pub(super) async fn measure(&self) -> Rc<Shard> {
        let asked = self.clock.now();
        let mut measured = self.measured.lock().await;
        match &*measured {
            Some(Measured { began, shard }) if *began >= asked => Rc::clone(shard),
            _ => {
                let began = self.clock.now();
                let shard = Rc::new(self.measure_anew().await);
                *measured = Some(Measured { began, shard: Rc::clone(&shard) });
                shard
            }
        }
    }

    /// The sum of all workers' counts. A worker that does not answer in time enters the sum with its last known counts:
    /// without them the sum would fall, and a monitoring system would read its later rise as new requests.
    async fn measure_anew(&self) -> Shard {
        let mut answers = Vec::new();
        for (worker, mailbox) in self.mailboxes.iter().enumerate() {
            let (reply, answer) = oneshot::channel();
            if mailbox.send(Order::Measure(reply)).is_ok() {
                answers.push((worker, answer));
            }
        }
        let deadline = tokio::time::Instant::now() + limits::MEASURE_TIMEOUT;
        for (worker, answer) in answers {
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(shard)) => {
                    self.last_counts.borrow_mut().insert(worker, shard);
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!("a worker did not tell its counts in time; the last ones are used");
                }
            }
        }
        Shard::merged(self.last_counts.borrow().values().map(|shard| &**shard))
    }

    /// What was counted: over all clusters together, and of each.
    fn metrics(&self, now: Time, counts: &Shard) -> Value {
        let mut metrics = counts.to_json(now);
        let plan = self.shared.plan();
        let clusters = plan.clusters.iter().map(|cluster| {
            let counted = counts.cluster(cluster.id);
            let described = json!({
                "requests": counted.requests(),
                "errors": counted.errors,
                "response_times": counted.response_times(),
                "grpc_statuses": counted.grpc().collect::<BTreeMap<_, _>>(),
            });
            (cluster.name.to_string(), described)
        });
        metrics["clusters"] = clusters.collect::<serde_json::Map<_, _>>().into();
        metrics["certificate_seconds_left"] = self.seconds_left();
        metrics
    }

    fn status(&self, now: Time, state: &State, counts: &Shard) -> Value {
        let clusters = &state.clusters[..];
        let plan = self.shared.plan();
        let open: Vec<usize> = self.shared.loads.iter().map(WorkerLoad::connections).collect();
        let totals = Totals::of(clusters);
        let all =
            clusters.iter().flat_map(|cluster| cluster.snapshot.backends.iter().map(move |backend| (cluster, backend)));
        let backends: Vec<Value> = all.map(|(cluster, backend)| describe(&cluster.name, backend, counts)).collect();
        json!({
            "status": totals.word(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": seconds(now.since(Time::ZERO)),
            "plan": plan.generation,
            "config": describe_config(now, &state.config, plan.generation),
            "listening": state.listening.iter().flat_map(|(_, at)| at).map(ToString::to_string).collect::<Vec<_>>(),
            "algorithm": clusters.first().map_or("", |cluster| cluster.snapshot.algorithm.as_str()),
            "healthy_backends": totals.admitted,
            "total_backends": totals.backends,
            "backends": backends,
            "clusters": clusters.iter().map(|cluster| describe_cluster(cluster, counts)).collect::<serde_json::Map<_, _>>(),
            "draining": state.drains.iter().map(describe_drain).collect::<Vec<_>>(),
            "routes": plan.routes.routes().iter().map(|route| &*route.name).collect::<Vec<_>>(),
            "connections": {
                "open": open.iter().sum::<usize>(),
                "max": plan.process.max_connections,
                "by_worker": open,
                "idle_to_backends": counts.holdings.idle_to_backends,
                "http2_to_backends": counts.holdings.h2_to_backends,
            },
            "buffers_in_use": counts.holdings.buffers,
            "pipes_in_use": counts.holdings.pipes,
            "access_log": { "lost_lines": self.lost_log_lines.count() },
            "certificates": self.certificates(),
            "limits": bounds(),
        })
    }

    /// The time until the first certificate for each name ends, in seconds; negative after the end, `null` without one.
    fn seconds_left(&self) -> Value {
        let mut all = serde_json::Map::new();
        for certificate in self.certificates() {
            let left = &certificate["valid_seconds_left"];
            for name in certificate["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let known = all.entry(name).or_insert_with(|| left.clone());
                if left.as_f64() < known.as_f64() {
                    *known = left.clone();
                }
            }
        }
        all.into()
    }

    /// The certificates that clients get, and the names that wait for one.
    fn certificates(&self) -> Vec<Value> {
        let plan = self.shared.plan();
        let listeners = plan.listeners.iter().filter_map(|listener| Some((listener, self.shared.tls.of(listener.id)?)));
        let mut all = Vec::new();
        for (listener, tls) in listeners {
            let mut add = |source, identity: Option<&Arc<Identity>>, problem: Option<&str>| {
                all.push(describe_certificate(&listener.name, source, identity, problem));
            };
            tls.of_files().iter().for_each(|(identity, problem)| add("file", Some(identity), problem.as_deref()));
            tls.client_problems().iter().for_each(|problem| add("client_certificates", None, Some(problem)));
            for Automatic { name, identity, problem } in tls.automatic() {
                let mut described = describe_certificate(&listener.name, "auto", identity.as_ref(), problem.as_deref());
                if identity.is_none() {
                    described["names"] = json!([&*name]);
                }
                all.push(described);
            }
        }
        all
    }
}

fn describe_certificate(
    listener: &str,
    source: &str,
    identity: Option<&Arc<Identity>>,
    problem: Option<&str>,
) -> Value {
    let left = identity.map(|identity| {
        let left = identity.not_after().duration_since(SystemTime::now());
        left.map_or_else(|over| -over.duration().as_secs_f64(), |left| left.as_secs_f64())
    });
    json!({
        "listener": listener,
        "source": source,
        "names": identity.map(|identity| identity.names()),
        "issuer": identity.map(|identity| identity.issuer()),
        "valid_seconds_left": left.map(|left| round(left, 0)),
        "problem": problem,
    })
}

/// The backends of all clusters together.
pub(super) struct Totals {
    clusters: usize,
    pub(super) backends: usize,
    pub(super) admitted: usize,
    /// Whether some cluster has no backend in rotation.
    some_cluster_is_down: bool,
}

impl Totals {
    pub(super) fn of(clusters: &[ClusterSnapshot]) -> Self {
        Totals {
            clusters: clusters.len(),
            backends: clusters.iter().map(|cluster| cluster.snapshot.backends.len()).sum(),
            admitted: clusters.iter().map(|cluster| cluster.snapshot.admitted()).sum(),
            some_cluster_is_down: clusters.iter().any(|cluster| cluster.snapshot.admitted() == 0),
        }
    }

    pub(super) fn word(&self) -> &'static str {
        match self.admitted {
            // LoadX answers every request itself.
            0 if self.clusters == 0 => "healthy",
            0 => "unhealthy",
            all if all == self.backends && !self.some_cluster_is_down => "healthy",
            _ => "degraded",
        }
    }
}

fn describe_config(now: Time, config: &ConfigStatus, generation: u64) -> Value {
    let failure =
        config.failure.as_ref().map(|(at, reason)| json!({ "seconds_ago": seconds(now.since(*at)), "reason": reason }));
    json!({
        "generation": generation,
        "applied_seconds_ago": seconds(now.since(config.since)),
        "last_failure": failure,
    })
}

/// `is_short`: whether memory is short, so that requests are refused.
fn health(now: Time, clusters: &[ClusterSnapshot], is_short: bool) -> (u16, Value) {
    let totals = Totals::of(clusters);
    let word = if is_short { "short of memory" } else { totals.word() };
    let body = json!({
        "status": word,
        "healthy_backends": totals.admitted,
        "total_backends": totals.backends,
        "uptime_seconds": seconds(now.since(Time::ZERO)),
    });
    (if is_short || word == "unhealthy" { 503 } else { 200 }, body)
}

fn describe_cluster(cluster: &ClusterSnapshot, counts: &Shard) -> (String, Value) {
    let ClusterSnapshot { id, name, snapshot } = cluster;
    let counted = counts.cluster(*id);
    let described = json!({
        "algorithm": snapshot.algorithm.as_str(),
        "healthy_backends": snapshot.admitted(),
        "total_backends": snapshot.backends.len(),
        "waiting_requests": snapshot.waiting,
        "requests_in_flight": snapshot.in_flight,
        "requests_limit": snapshot.limit,
        "circuit_breaker": snapshot.breaker,
        "total_requests": counted.requests(),
        "total_errors": counted.errors,
        "response_times": counted.response_times(),
    });
    (name.to_string(), described)
}

fn describe(cluster: &str, backend: &BackendSnapshot, counts: &Shard) -> Value {
    let counted = counts.backends().get(&backend.id);
    json!({
        "name": &*backend.name,
        "cluster": cluster,
        "host": &*backend.host,
        "port": backend.port,
        "weight": backend.weight,
        "healthy": backend.admitted,
        "state": backend.state(),
        "reason": &*backend.reason,
        "since_seconds": seconds(backend.since),
        "ejected_seconds_left": backend.ejected.map(seconds),
        "addresses": backend.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "active_connections": backend.in_flight,
        "limit": backend.limit,
        "total_requests": counted.map_or(0, BackendCounts::requests),
        "total_errors": counted.map_or(0, |counts| counts.errors),
        "last_probe_seconds_ago": backend.last_probe.map(seconds),
        "probe_ms": backend.probe_took.map(|took| round(took.as_secs_f64() * 1_000.0, 3)),
    })
}

fn describe_drain(drain: &DrainSnapshot) -> Value {
    json!({
        "name": &*drain.name,
        "cluster": &*drain.cluster,
        "active_connections": drain.in_flight,
        "seconds_left": seconds(drain.left),
    })
}

fn seconds(span: Duration) -> f64 {
    round(span.as_secs_f64(), 2)
}

/// Every bound that the config does not set.
fn bounds() -> Value {
    let bounds = [
        ("head_bytes", loadx_http::limits::HEAD_BYTES_MAX as u64),
        ("target_bytes", loadx_http::limits::TARGET_BYTES_MAX as u64),
        ("fields", loadx_http::limits::FIELDS_MAX as u64),
        ("chunk_line_bytes", loadx_http::limits::CHUNK_LINE_BYTES_MAX as u64),
        ("trailer_bytes", loadx_http::limits::TRAILER_BYTES_MAX as u64),
        ("h2_streams", u64::from(loadx_http::limits::h2::STREAMS_MAX)),
        ("h2_section_bytes", loadx_http::limits::h2::SECTION_BYTES_MAX as u64),
        ("h2_fragment_bytes", loadx_http::limits::h2::FRAGMENT_BYTES_MAX as u64),
        ("h2_stream_window_bytes", u64::from(loadx_http::limits::h2::STREAM_WINDOW)),
        ("h2_connection_window_bytes", u64::from(loadx_http::limits::h2::CONNECTION_WINDOW)),
        ("h2_backend_streams", u64::from(loadx_http::limits::h2::REQUEST_STREAMS_MAX)),
        ("h2_backend_resets", u64::from(loadx_http::limits::h2::REQUEST_RESETS_MAX)),
        ("h2_backend_stream_window_bytes", u64::from(loadx_http::limits::h2::RESPONSE_STREAM_WINDOW)),
        ("h2_idle_frames", u64::from(loadx_http::limits::h2::IDLE_FRAMES_MAX)),
        ("h2_idle_frames_earned", u64::from(loadx_http::limits::h2::IDLE_FRAMES_EARNED_MAX)),
        ("h2_idle_frames_per_second", u64::from(loadx_http::limits::h2::IDLE_FRAMES_PER_SECOND)),
        ("h2_stream_faults", u64::from(loadx_http::limits::h2::STREAM_FAULTS_MAX)),
        ("h2_stream_faults_per_second", u64::from(loadx_http::limits::h2::STREAM_FAULTS_PER_SECOND)),
        ("h2_output_bytes", limits::H2_OUTPUT_BYTES as u64),
        ("h2_turn_bytes", limits::H2_TURN_BYTES as u64),
        ("h2_start_look_ms", limits::H2_START_LOOK.as_millis() as u64),
        ("h2_heads_bytes", limits::H2_HEADS_BYTES_MAX as u64),
        ("h2_opening_waiters", limits::H2_OPENING_WAITERS_MAX as u64),
        ("h2_client_silence_seconds", limits::H2_CLIENT_SILENCE.as_secs()),
        ("h2_client_pong_seconds", limits::H2_CLIENT_PONG.as_secs()),
        ("h2_backend_silence_seconds", limits::H2_PINGS[0].as_secs()),
        ("h2_backend_pong_seconds", limits::H2_PONG.as_secs()),
        ("buffer_bytes", limits::BUFFER_BYTES as u64),
        ("first_read_bytes", limits::FIRST_READ_BYTES as u64),
        ("head_read_bytes", limits::HEAD_READ_BYTES as u64),
        ("copy_behind_head_bytes", limits::COPY_BEHIND_HEAD_BYTES_MAX as u64),
        ("splice_turn_bytes", limits::SPLICE_TURN_BYTES),
        ("splice_bytes_min", limits::SPLICE_BYTES_MIN),
        ("trickle_bytes", limits::TRICKLE_BYTES_MAX as u64),
        ("pipe_bytes", limits::PIPE_BYTES as u64),
        ("pipes_per_worker", limits::PIPES_MAX as u64),
        ("relay_turn_bytes", limits::RELAY_TURN_BYTES),
        ("spare_buffers_per_worker", limits::SPARE_BUFFERS_MAX as u64),
        ("idle_connections_per_backend_and_worker", limits::IDLE_PER_BACKEND_MAX as u64),
        ("tries", Attempts::MAX as u64),
        ("resends", u64::from(RetryPolicy::RESENDS_MAX)),
        ("cooling_connections_per_backend_and_worker", limits::COOLING_PER_BACKEND_MAX as u64),
        ("rest_after_ms", limits::REST_AFTER.as_millis() as u64),
        ("interim_responses", limits::INTERIM_RESPONSES_MAX as u64),
        ("linger_bytes", limits::LINGER_BYTES_MAX as u64),
        ("linger_seconds", limits::LINGER.as_secs()),
        ("tls_write_bytes", limits::TLS_WRITE_BYTES as u64),
        ("tls_read_bytes", limits::TLS_READ_BYTES as u64),
        ("tls_handshake_seconds", limits::TLS_HANDSHAKE.as_secs()),
        ("tls_handshakes_per_turn", limits::HANDSHAKES_PER_TURN as u64),
        ("certificate_look_seconds", limits::CERTIFICATE_LOOK.as_secs()),
        ("idle_look_ms", limits::IDLE_LOOK.as_millis() as u64),
        ("idle_slot_ms", limits::IDLE_SLOT.as_millis() as u64),
        ("listener_close_seconds", limits::LISTENER_CLOSE.as_secs()),
        ("deserted_look_seconds", limits::DESERTED_LOOK.as_secs()),
        ("head_at_end_seconds", limits::HEAD_AT_END.as_secs()),
        ("refused_line_bytes", limits::REFUSED_LINE_BYTES_MAX as u64),
        ("logged_field_bytes", limits::LOGGED_FIELD_BYTES_MAX as u64),
        ("unsent_bytes", limits::UNSENT_BYTES_MAX.into()),
        ("look_after_max_ms", limits::LOOK_AFTER_MAX.as_millis() as u64),
        ("events_per_poll", limits::EVENTS_PER_POLL_MAX as u64),
        ("accept_backlog", limits::ACCEPT_BACKLOG as u64),
        ("memory_tight_percent", limits::MEMORY_TIGHT_PERCENT),
        ("memory_wide_percent", limits::MEMORY_WIDE_PERCENT),
        ("spare_places", limits::SPARE_PLACES as u64),
        ("spare_places_after_seconds", limits::SPARE_AFTER.as_secs()),
        ("accept_pause_ms", limits::ACCEPT_PAUSE.as_millis() as u64),
        ("accept_quiet_seconds", limits::ACCEPT_QUIET.as_secs()),
        ("connect_look_seconds", limits::CONNECT_LOOK.as_secs()),
        ("measure_timeout_seconds", limits::MEASURE_TIMEOUT.as_secs()),
        ("control_queue", limits::CONTROL_QUEUE_MAX as u64),
        ("events", limits::EVENTS_MAX as u64),
        ("probes_at_once", limits::PROBES_MAX as u64),
        ("probe_content_bytes", limits::PROBE_CONTENT_BYTES_MAX as u64),
        ("addresses_per_backend", limits::ADDRESSES_MAX as u64),
        ("resolve_interval_min_seconds", limits::RESOLVE_INTERVAL_MIN.as_secs()),
        ("resolve_interval_max_seconds", limits::RESOLVE_INTERVAL_MAX.as_secs()),
        ("resolve_in_doubt_seconds", limits::RESOLVE_IN_DOUBT.as_secs()),
        ("resolve_at_start_seconds", limits::RESOLVE_AT_START.as_secs()),
        ("resolve_beside_others_ms", limits::RESOLVE_BESIDE_OTHERS.as_millis() as u64),
        ("mirrors_per_worker", limits::MIRRORS_MAX as u64),
        ("mirror_response_bytes", limits::MIRROR_RESPONSE_BYTES_MAX as u64),
        ("access_log_flush_interval_ms", limits::LOG_FLUSH_INTERVAL.as_millis() as u64),
        ("access_log_reopen_seconds", limits::LOG_REOPEN.as_secs()),
        ("access_log_rotation_look_seconds", limits::LOG_ROTATION_LOOK.as_secs()),
        ("access_log_last_write_seconds", limits::LOG_LAST_WRITE.as_secs()),
        ("access_log_batches", limits::LOG_BATCHES_MAX as u64),
        ("access_log_spare_batches", limits::LOG_SPARE_BATCHES_MAX as u64),
        ("access_log_batch_bytes", limits::LOG_BATCH_BYTES as u64),
    ];
    bounds.into_iter().map(|(name, bound)| (name.to_owned(), Value::from(bound))).collect()
}
