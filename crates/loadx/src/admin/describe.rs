//! What LoadX sees, as messages.

use std::time::Duration;

use loadx_core::{BackendId, BackendSpec};
use loadx_proxy::Observed;

use super::api::{
    BackendConnections, BackendState, ChangeState, ClusterState, ConfigState, ConnectionTotals, Connections,
    DrainState, FailureState, FormerProcess, ListenerDrain, ListenerState, Status, TrialEnd, TrialOutcome, TrialState,
};
use crate::manager::{Origin, Overview};
use crate::upgrade::FormerState;

pub(super) fn status(overview: &Overview, observed: &Observed, formers: Vec<FormerState>) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        generation: overview.generation,
        uptime_seconds: seconds(observed.uptime),
        config: ConfigState {
            source: source(overview),
            file: overview.file.as_ref().map(|file| file.display().to_string()),
            matches_file: matches_file(overview),
            applied_seconds_ago: seconds(observed.applied),
            last_failure: observed
                .last_failure
                .as_ref()
                .map(|(ago, reason)| FailureState { seconds_ago: seconds(*ago), reason: reason.clone() }),
            changes: changes(overview),
        },
        trial: overview.pending.as_ref().map(|pending| TrialState {
            generation: pending.number,
            name: pending.name.clone(),
            by: pending.by.clone(),
            seconds_left: seconds(pending.left),
            at_the_end: if pending.needs_word { TrialEnd::GoBack } else { TrialEnd::Keep },
            conditions: pending.conditions.clone(),
        }),
        last_trial: overview.last_trial.as_ref().map(|ended| TrialOutcome {
            generation: ended.number,
            is_saved: ended.is_saved,
            kept: ended.kept,
            what: ended.what.clone(),
        }),
        note: overview.note.clone(),
        listeners: listeners(observed),
        clusters: clusters(observed),
        connections: totals(observed),
        draining: draining(observed),
        draining_listeners: draining_listeners(observed),
        former_processes: formers.into_iter().map(former).collect(),
    }
}

pub(super) fn source(overview: &Overview) -> String {
    match &overview.base.origin {
        Origin::File => "the config file".to_owned(),
        Origin::Options => "options of the command line".to_owned(),
        Origin::Operator(name) => format!("{name}, from an operator"),
    }
}

pub(super) fn changes(overview: &Overview) -> Vec<ChangeState> {
    let running = overview
        .changes
        .iter()
        .map(|change| ChangeState { what: change.to_string(), kept: overview.kept.contains(change) });
    // What a restart would bring back.
    let later = overview.kept.iter().filter(|change| !overview.changes.contains(change));
    let later = later.map(|change| ChangeState { what: format!("after a restart: {change}"), kept: true });
    running.chain(later).collect()
}

/// Whether LoadX runs the text that the config file has now.
fn matches_file(overview: &Overview) -> Option<bool> {
    let file = crate::config_file::read_regular(overview.file.as_ref()?).unwrap_or_default();
    Some(overview.base.text.as_deref() == Some(&*file))
}

pub(super) fn clusters(observed: &Observed) -> Vec<ClusterState> {
    let describe = |cluster: &loadx_core::plan::ClusterSnapshot| {
        let counts = observed.counts.cluster(cluster.id);
        ClusterState {
            name: cluster.name.to_string(),
            algorithm: cluster.snapshot.algorithm.as_str().to_owned(),
            healthy: cluster.snapshot.admitted(),
            total: cluster.snapshot.backends.len(),
            waiting: cluster.snapshot.waiting,
            limit: cluster.snapshot.limit,
            breaker: cluster.snapshot.breaker.map(str::to_owned),
            requests: counts.requests,
            errors: counts.errors,
        }
    };
    observed.clusters.iter().map(describe).collect()
}

pub(super) fn backends(observed: &Observed) -> Vec<BackendState> {
    let all = observed.clusters.iter().flat_map(|cluster| {
        cluster.snapshot.backends.iter().map(move |backend| {
            let counts = observed.counts.backend(backend.id);
            BackendState {
                cluster: cluster.name.to_string(),
                address: BackendSpec::new(&backend.host, backend.port).authority(),
                name: backend.name.to_string(),
                state: backend.state().to_owned(),
                reason: backend.reason.to_string(),
                since_seconds: seconds(backend.since),
                in_rotation: backend.admitted,
                weight: backend.weight,
                active: backend.in_flight,
                limit: backend.limit,
                tunnels: tunnels(observed, backend.id),
                requests: counts.requests,
                errors: counts.errors,
            }
        })
    });
    all.collect()
}

pub(super) fn connections(observed: &Observed, formers: Vec<FormerState>) -> Connections {
    let busy = backends(observed).into_iter().filter(|backend| backend.active > 0);
    Connections {
        total: totals(observed),
        listeners: listeners(observed),
        backends: busy
            .map(|backend| BackendConnections {
                cluster: backend.cluster,
                name: backend.name,
                active: backend.active,
                tunnels: backend.tunnels,
            })
            .collect(),
        draining: draining(observed),
        draining_listeners: draining_listeners(observed),
        former_processes: formers.into_iter().map(former).collect(),
    }
}

fn listeners(observed: &Observed) -> Vec<ListenerState> {
    let describe = |listener: &loadx_proxy::ListenerObserved| ListenerState {
        name: listener.name.to_string(),
        addresses: listener.addresses.iter().map(ToString::to_string).collect(),
        connections: listener.connections,
    };
    observed.listeners.iter().map(describe).collect()
}

fn totals(observed: &Observed) -> ConnectionTotals {
    ConnectionTotals { open: observed.connections, max: observed.connections_max }
}

fn draining(observed: &Observed) -> Vec<DrainState> {
    let describe = |drain: &loadx_core::plan::DrainSnapshot| DrainState {
        cluster: drain.cluster.to_string(),
        name: drain.name.to_string(),
        active: drain.in_flight,
        tunnels: tunnels(observed, drain.id),
        seconds_left: seconds(drain.left),
    };
    observed.drains.iter().map(describe).collect()
}

fn draining_listeners(observed: &Observed) -> Vec<ListenerDrain> {
    let describe = |drain: &loadx_proxy::ListenerDrain| ListenerDrain {
        addresses: drain.addresses.iter().map(ToString::to_string).collect(),
        connections: drain.connections,
        seconds_left: seconds(drain.left),
    };
    observed.listener_drains.iter().map(describe).collect()
}

fn former(state: FormerState) -> FormerProcess {
    FormerProcess {
        pid: state.pid,
        connections: state.connections,
        active: state.exchanges,
        tunnels: state.tunnels,
        seconds_left: seconds(Duration::from_secs_f64(state.seconds_left.clamp(0.0, 1e9))),
    }
}

fn tunnels(observed: &Observed, backend: BackendId) -> usize {
    observed.tunnels.iter().find(|(id, _)| *id == backend).map_or(0, |(_, count)| *count)
}

/// Seconds with two decimals.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 100.0).round() / 100.0
}
