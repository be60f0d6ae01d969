//! Tells open pages of the dashboard once a second what goes on. Without an open page this costs nothing.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loadx_core::plan::Plan;
use loadx_core::route::Action;
use loadx_core::{BackendSnapshot, ClusterId, Time};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::endpoints::{Endpoints, State, Totals};
use crate::limits::{LIVE_BACKENDS_MAX, LIVE_EVENTS_MAX, LIVE_INTERVAL, LIVE_MOMENTS_MAX, LIVE_PAUSE_MAX};
use crate::net::Network;
use crate::observed::EventRecord;
use crate::shared::WorkerLoad;
use crate::telemetry::{Between, Shard, live_bounds, round};

/// What pages were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The last measurement, and its time.
    last: Option<(Time, Rc<Shard>)>,
    /// The totals of the last minutes, in JSON.
    moments: VecDeque<Arc<str>>,
}

/// The last events, whether pages are open or not.
#[derive(Debug, Default)]
pub(super) struct LastEvents(VecDeque<Value>);

impl LastEvents {
    pub(super) fn add(&mut self, event: &EventRecord) {
        if self.0.len() == LIVE_EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(json!({ "at": unix_millis(), "warning": event.is_warning, "text": &*event.text }));
    }

    fn list(&self) -> Vec<Value> {
        self.0.iter().cloned().collect()
    }
}

/// What a page is told of one moment.
pub(super) struct Moment {
    pub(super) now: Time,
    pub(super) state: State,
    pub(super) events: Vec<Value>,
}

impl Moment {
    pub(super) fn new(now: Time, state: State, events: &LastEvents) -> Self {
        Moment { now, state, events: events.list() }
    }
}

impl<N: Network> Endpoints<N> {
    /// Measures, and tells all pages what happened since the last measurement.
    pub(super) async fn tell_pages(&self, told: &Mutex<Told>, moment: &Moment) {
        // One message after the other.
        let mut told = told.lock().await;
        let counts = self.measure().await;
        let at = self.clock.now();
        let last = told.last.replace((at, Rc::clone(&counts)));
        // After a pause there is nothing to compare with that would be true of this moment.
        let Some((before, earlier)) = last.filter(|(before, _)| at.since(*before) <= LIVE_PAUSE_MAX) else {
            told.moments.clear();
            return;
        };
        let seconds = at.since(before).max(Duration::from_millis(1)).as_secs_f64();
        let between = Between { before: &earlier, now: &counts, seconds };
        let plan = self.shared.plan();
        let clusters: Vec<ClusterId> = plan.clusters.iter().map(|cluster| cluster.id).collect();
        let total = json!({ "at": unix_millis(), "figures": between.total(), "heat": between.heat(&clusters) });
        if told.moments.len() == LIVE_MOMENTS_MAX {
            told.moments.pop_front();
        }
        told.moments.push_back(total.to_string().into());
        let message = json!({
            "total": total,
            "bounds": live_bounds(),
            "state": self.describe_live(&between, &plan, moment),
            "events": moment.events,
        });
        self.shared.live.tell(message.to_string().into(), told.moments.iter().cloned().collect());
    }

    fn describe_live(&self, between: &Between<'_>, plan: &Arc<Plan>, moment: &Moment) -> Value {
        let Moment { now, state, .. } = moment;
        let totals = Totals::of(&state.clusters);
        let open: usize = self.shared.loads.iter().map(WorkerLoad::connections).sum();
        let listeners = plan.listeners.iter().map(|listener| {
            let addresses = state.listening.iter().find(|(id, _)| *id == listener.id);
            let addresses = addresses.iter().flat_map(|(_, addresses)| addresses).map(ToString::to_string);
            json!({
                "name": &*listener.name,
                "addresses": addresses.collect::<Vec<_>>(),
                "tls": listener.tls,
                "rate": between.listener(listener.id),
            })
        });
        let routes = plan.routes.routes().iter().zip(&plan.route_ids).map(|(route, id)| {
            let clusters: Vec<&str> = match &route.action {
                Action::Forward(forward) => {
                    forward.split.iter().map(|share| &*plan.clusters[share.cluster].name).collect()
                }
                Action::Redirect(_) | Action::Respond(_) => Vec::new(),
            };
            json!({ "name": &*route.name, "clusters": clusters, "rate": between.route(*id) })
        });
        let mut left = LIVE_BACKENDS_MAX;
        let clusters = state.clusters.iter().map(|cluster| {
            let snapshot = &cluster.snapshot;
            let shown = left.min(snapshot.backends.len());
            left -= shown;
            let mut backends: Vec<&BackendSnapshot> = snapshot.backends.iter().collect();
            if shown < backends.len() {
                // Of many, those that are out of rotation come first.
                backends.sort_by_key(|backend| backend.admitted);
            }
            json!({
                "name": &*cluster.name,
                "algorithm": snapshot.algorithm.as_str(),
                "figures": between.cluster(cluster.id),
                "waiting": snapshot.waiting,
                "breaker": snapshot.breaker,
                "admitted": snapshot.admitted(),
                "count": snapshot.backends.len(),
                "backends": backends[..shown].iter().map(|backend| describe(between, backend)).collect::<Vec<_>>(),
            })
        });
        json!({
            "word": if self.shared.is_short_of_memory() { "short of memory" } else { totals.word() },
            "version": env!("CARGO_PKG_VERSION"),
            "uptime": now.since(Time::ZERO).as_secs(),
            "generation": plan.generation,
            "failure": state.config.failure.as_ref().map(|(_, reason)| reason),
            "connections": open,
            "connections_max": plan.process.max_connections,
            "admitted": totals.admitted,
            "backends": totals.backends,
            "listeners": listeners.collect::<Vec<_>>(),
            "routes": routes.collect::<Vec<_>>(),
            "clusters": clusters.collect::<Vec<_>>(),
        })
    }
}

fn describe(between: &Between<'_>, backend: &BackendSnapshot) -> Value {
    json!({
        "name": &*backend.name,
        "address": format!("{}:{}", backend.host, backend.port),
        "state": backend.state(),
        "admitted": backend.admitted,
        "drained": backend.drained,
        "reason": &*backend.reason,
        "since": round(backend.since.as_secs_f64(), 0),
        "weight": backend.weight,
        "in_flight": backend.in_flight,
        "limit": backend.limit,
        "figures": between.backend(backend.id),
    })
}

/// When the next message is due after the last one.
pub(super) fn due(last: Option<Time>, now: Time) -> Time {
    last.map_or(now, |last| last + LIVE_INTERVAL)
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
