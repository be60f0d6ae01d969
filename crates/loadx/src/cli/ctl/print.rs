//! The answers of a running LoadX in words.

use std::fmt::Write as _;

use crate::admin::api::{
    BackendState, Changed, Checked, ClusterState, ConfigText, Connections, DrainState, FormerProcess, ListenerDrain,
    Status, TrialEnd,
};
use crate::words::count;

/// The next steps of a trial.
pub(super) const TRIAL: &str =
    "on trial: loadx ctl status shows how long, loadx ctl confirm keeps the config, loadx ctl rollback goes back\n";

pub(super) fn changed(changed: &Changed) -> String {
    let mut text = format!("plan {}: {}\n", changed.generation, changed.what);
    for warning in &changed.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

pub(super) fn checked(name: &str, checked: &Checked) -> String {
    let mut text: String = checked.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    let _ = writeln!(text, "ok: {name}");
    text
}

pub(super) fn config(config: &ConfigText) -> String {
    match &config.text {
        Some(text) => text.clone(),
        None => format!("LoadX runs from {}; there is no text of a config\n", config.source),
    }
}

pub(super) fn status(status: &Status) -> String {
    let mut text = format!(
        "LoadX {}, process {}, up {}\nplan {}, from {}, applied {} ago{}\n",
        status.version,
        status.pid,
        span(status.uptime_seconds),
        status.generation,
        status.config.source,
        span(status.config.applied_seconds_ago),
        match (status.config.matches_file, &status.config.file) {
            (Some(false), Some(file)) => format!("; differs from {file}: loadx plan {file} --running shows how"),
            _ => String::new(),
        }
    );
    if let Some(trial) = &status.trial {
        let end = match trial.at_the_end {
            TrialEnd::Keep => "keeps the config",
            TrialEnd::GoBack => "goes back, unless somebody confirms the config",
        };
        let _ =
            writeln!(text, "on trial: {} (by {}); in {} LoadX {end}", trial.name, trial.by, span(trial.seconds_left));
        for condition in &trial.conditions {
            let _ = writeln!(text, "  goes back if {condition}");
        }
    }
    if let Some(trial) = &status.last_trial {
        let _ = writeln!(text, "last trial: {}", trial.what);
    }
    if let Some(note) = &status.note {
        let _ = writeln!(text, "note: {note}");
    }
    if let Some(failure) = &status.config.last_failure {
        let _ = writeln!(text, "not applied {} ago: {}", span(failure.seconds_ago), failure.reason);
    }
    for change in &status.config.changes {
        let kept = if change.kept { "kept across restarts" } else { "until the next restart" };
        let _ = writeln!(text, "changed: {} ({kept})", change.what);
    }
    let _ = writeln!(text, "{} of {} client connections", status.connections.open, status.connections.max);
    text.push('\n');
    let listeners = status
        .listeners
        .iter()
        .map(|listener| [listener.name.clone(), listener.addresses.join(", "), listener.connections.to_string()]);
    text.push_str(&table(["listener", "addresses", "connections"], listeners));
    text.push('\n');
    text.push_str(&clusters(&status.clusters));
    text.push_str(&draining(&status.draining));
    text.push_str(&leaving(&status.draining_listeners, &status.former_processes));
    text
}

pub(super) fn clusters(clusters: &[ClusterState]) -> String {
    let row = |cluster: &ClusterState| {
        [
            cluster.name.clone(),
            cluster.algorithm.clone(),
            format!("{} of {}", cluster.healthy, cluster.total),
            cluster.requests.to_string(),
            cluster.errors.to_string(),
        ]
    };
    let mut text = table(["cluster", "algorithm", "in rotation", "requests", "errors"], clusters.iter().map(row));
    for cluster in clusters {
        if cluster.waiting > 0 {
            let waiting = count(cluster.waiting, "request");
            let _ = writeln!(text, "cluster {}: {waiting} waiting for a backend below its limit", cluster.name);
        }
        match cluster.breaker.as_deref() {
            Some("open") => {
                let _ = writeln!(text, "cluster {}: the circuit breaker is open, and requests get 503", cluster.name);
            }
            Some("trying") => {
                let _ = writeln!(text, "cluster {}: the circuit breaker lets a few requests try", cluster.name);
            }
            _ => {}
        }
    }
    text
}

pub(super) fn backends(backends: &[BackendState]) -> String {
    let row = |backend: &BackendState| {
        [
            backend.cluster.clone(),
            backend.name.clone(),
            backend.address.clone(),
            backend.state.clone(),
            span(backend.since_seconds),
            backend.weight.to_string(),
            backend.limit.map_or_else(|| backend.active.to_string(), |limit| format!("{} of {limit}", backend.active)),
            backend.requests.to_string(),
            backend.errors.to_string(),
            backend.reason.clone(),
        ]
    };
    let titles =
        ["cluster", "backend", "address", "state", "since", "weight", "active", "requests", "errors", "reason"];
    table(titles, backends.iter().map(row))
}

pub(super) fn connections(connections: &Connections) -> String {
    let mut text = format!("{} of {} client connections\n\n", connections.total.open, connections.total.max);
    let listeners = connections
        .listeners
        .iter()
        .map(|listener| [listener.name.clone(), listener.addresses.join(", "), listener.connections.to_string()]);
    text.push_str(&table(["listener", "addresses", "connections"], listeners));
    text.push('\n');
    let backends = connections.backends.iter().map(|backend| {
        [backend.cluster.clone(), backend.name.clone(), backend.active.to_string(), backend.tunnels.to_string()]
    });
    text.push_str(&table(["cluster", "backend", "running", "tunnels"], backends));
    text.push_str(&draining(&connections.draining));
    text.push_str(&leaving(&connections.draining_listeners, &connections.former_processes));
    text
}

fn draining(draining: &[DrainState]) -> String {
    let row = |drain: &DrainState| {
        let running = format!("{}, {}", count(drain.active as usize, "exchange"), count(drain.tunnels, "tunnel"));
        [drain.cluster.clone(), drain.name.clone(), running, span(drain.seconds_left)]
    };
    match draining {
        [] => String::new(),
        some => format!("\n{}", table(["cluster", "draining", "running", "ends in"], some.iter().map(row))),
    }
}

/// Removed listeners and former processes, if they still have clients.
fn leaving(listeners: &[ListenerDrain], formers: &[FormerProcess]) -> String {
    let mut text = String::new();
    if !listeners.is_empty() {
        let row = |drain: &ListenerDrain| {
            [drain.addresses.join(", "), drain.connections.to_string(), span(drain.seconds_left)]
        };
        let titles = ["removed listener", "connections", "ends in"];
        text.push_str(&format!("\n{}", table(titles, listeners.iter().map(row))));
    }
    if !formers.is_empty() {
        let row = |former: &FormerProcess| {
            let running = format!("{}, {}", count(former.active, "exchange"), count(former.tunnels, "tunnel"));
            [former.pid.to_string(), former.connections.to_string(), running, span(former.seconds_left)]
        };
        let titles = ["former process", "connections", "running", "ends in"];
        text.push_str(&format!("\n{}", table(titles, formers.iter().map(row))));
    }
    text
}

/// The widest column, in characters: a longer entry moves the rest of its line.
const WIDTH_MAX: usize = 80;

/// Columns as wide as their widest entry.
fn table<const N: usize>(titles: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(titles.map(str::to_owned)).chain(rows).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default().min(WIDTH_MAX);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// A time span for people.
fn span(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.1} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}
