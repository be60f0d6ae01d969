//! The messages of the admin API, as JSON. `loadx ctl` reads what the admin API writes, with the same types; the OpenAPI
//! document is made of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The state of LoadX.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Status {
    /// The version of LoadX.
    pub(crate) version: String,
    /// The process id of LoadX.
    pub(crate) pid: u32,
    /// The number of the plan, from 1; each change of the config makes a new plan.
    pub(crate) generation: u64,
    /// Seconds since the start.
    pub(crate) uptime_seconds: f64,
    /// The config that runs.
    pub(crate) config: ConfigState,
    /// The config on trial.
    pub(crate) trial: Option<TrialState>,
    /// How the last trial ended.
    pub(crate) last_trial: Option<TrialOutcome>,
    /// Why LoadX did not start with the config file.
    pub(crate) note: Option<String>,
    /// The listeners.
    pub(crate) listeners: Vec<ListenerState>,
    /// The clusters.
    pub(crate) clusters: Vec<ClusterState>,
    /// The client connections.
    pub(crate) connections: ConnectionTotals,
    /// The backends that were removed or drained and still have running exchanges.
    pub(crate) draining: Vec<DrainState>,
    /// The listeners that were removed and still have client connections.
    pub(crate) draining_listeners: Vec<ListenerDrain>,
    /// The processes whose work this one has taken over and that still have clients.
    pub(crate) former_processes: Vec<FormerProcess>,
}

/// The config that runs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigState {
    /// Where the config came from: the config file, options of the command line, or an operator.
    pub(crate) source: String,
    /// The path of the config file, if LoadX has one.
    pub(crate) file: Option<String>,
    /// Whether LoadX runs the text that the config file has now; `changes` come on top. None without a config file.
    pub(crate) matches_file: Option<bool>,
    /// Seconds since the last change.
    pub(crate) applied_seconds_ago: f64,
    /// The last config that LoadX did not apply.
    pub(crate) last_failure: Option<FailureState>,
    /// The changes of backends that operators made.
    pub(crate) changes: Vec<ChangeState>,
}

/// A config that LoadX did not apply.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct FailureState {
    /// Seconds since then.
    pub(crate) seconds_ago: f64,
    /// Why LoadX did not apply the config.
    pub(crate) reason: String,
}

/// A change of a backend that an operator made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ChangeState {
    /// The backend and what changed, in words.
    pub(crate) what: String,
    /// Whether the change survives a restart.
    pub(crate) kept: bool,
}

/// A config on trial.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrialState {
    /// The number of the plan with which the trial began.
    pub(crate) generation: u64,
    /// The name of the config.
    pub(crate) name: String,
    /// Who began the trial.
    pub(crate) by: String,
    /// Seconds until the trial ends by itself.
    pub(crate) seconds_left: f64,
    /// What happens at the end, unless an operator says otherwise: LoadX keeps the config, or goes back.
    pub(crate) at_the_end: TrialEnd,
    /// The conditions under which LoadX goes back.
    pub(crate) conditions: Vec<String>,
}

/// How a trial ended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrialOutcome {
    /// The number of the plan with which the trial began.
    pub(crate) generation: u64,
    /// Whether LoadX kept the config; otherwise LoadX went back to the former one.
    pub(crate) kept: bool,
    /// Whether the state file has what is to be kept across restarts.
    pub(crate) is_saved: bool,
    /// The outcome and its reason, in words.
    pub(crate) what: String,
}

/// What happens at the end of a trial.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TrialEnd {
    /// LoadX keeps the config.
    Keep,
    /// LoadX goes back to the former config.
    GoBack,
}

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ListenerState {
    /// The name of the listener.
    pub(crate) name: String,
    /// The addresses on which LoadX accepts connections.
    pub(crate) addresses: Vec<String>,
    /// The client connections.
    pub(crate) connections: usize,
}

/// A cluster.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ClusterState {
    /// The name of the cluster.
    pub(crate) name: String,
    /// The algorithm that picks a backend.
    pub(crate) algorithm: String,
    /// The backends in rotation.
    pub(crate) healthy: usize,
    /// All backends.
    pub(crate) total: usize,
    /// The requests that wait because every backend, or the cluster, is at its limit.
    pub(crate) waiting: usize,
    /// The most requests at the same time at all backends; null for no limit.
    pub(crate) limit: Option<u32>,
    /// The circuit breaker: closed, open or trying; null without one.
    pub(crate) breaker: Option<String>,
    /// The exchanges that ended.
    pub(crate) requests: u64,
    /// The exchanges that ended with an error.
    pub(crate) errors: u64,
}

/// A backend.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct BackendState {
    /// The cluster of the backend.
    pub(crate) cluster: String,
    /// Host and port.
    pub(crate) address: String,
    /// The name of the backend.
    pub(crate) name: String,
    /// The state: up, down, unproven, not probed, ejected (as an outlier) or drained.
    pub(crate) state: String,
    /// The reason for the state.
    pub(crate) reason: String,
    /// Seconds since the health last changed.
    pub(crate) since_seconds: f64,
    /// Whether the backend gets requests.
    pub(crate) in_rotation: bool,
    /// The share of the requests, in proportion to the other weights.
    pub(crate) weight: u32,
    /// The running exchanges, tunnels included.
    pub(crate) active: u32,
    /// The most exchanges at the same time; null for no limit.
    pub(crate) limit: Option<u32>,
    /// The tunnels.
    pub(crate) tunnels: usize,
    /// The exchanges that ended.
    pub(crate) requests: u64,
    /// The exchanges that ended with an error.
    pub(crate) errors: u64,
}

/// The client connections of all listeners.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConnectionTotals {
    /// The open connections.
    pub(crate) open: usize,
    /// The most connections at the same time.
    pub(crate) max: usize,
}

/// The connections of LoadX.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Connections {
    /// The client connections of all listeners.
    pub(crate) total: ConnectionTotals,
    /// The client connections of each listener.
    pub(crate) listeners: Vec<ListenerState>,
    /// The running exchanges and tunnels of each backend; only backends with some.
    pub(crate) backends: Vec<BackendConnections>,
    /// The backends that were removed or drained and still have running exchanges.
    pub(crate) draining: Vec<DrainState>,
    /// The listeners that were removed and still have client connections.
    pub(crate) draining_listeners: Vec<ListenerDrain>,
    /// The processes whose work this one has taken over and that still have clients.
    pub(crate) former_processes: Vec<FormerProcess>,
}

/// The running exchanges of a backend.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct BackendConnections {
    /// The cluster of the backend.
    pub(crate) cluster: String,
    /// The name of the backend.
    pub(crate) name: String,
    /// The running exchanges, tunnels included.
    pub(crate) active: u32,
    /// The tunnels.
    pub(crate) tunnels: usize,
}

/// A backend that was removed or drained and still has running exchanges.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DrainState {
    /// The cluster of the backend.
    pub(crate) cluster: String,
    /// The name of the backend.
    pub(crate) name: String,
    /// The running exchanges, tunnels included.
    pub(crate) active: u32,
    /// The tunnels.
    pub(crate) tunnels: usize,
    /// Seconds until LoadX ends the running exchanges.
    pub(crate) seconds_left: f64,
}

/// A listener that was removed and still has client connections.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ListenerDrain {
    /// The addresses of the listener.
    pub(crate) addresses: Vec<String>,
    /// The client connections.
    pub(crate) connections: usize,
    /// Seconds until LoadX closes the connections.
    pub(crate) seconds_left: f64,
}

/// A process whose work this one has taken over and that still has clients.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct FormerProcess {
    /// The process id.
    pub(crate) pid: u32,
    /// The client connections.
    pub(crate) connections: usize,
    /// The running exchanges, tunnels included.
    pub(crate) active: usize,
    /// The tunnels.
    pub(crate) tunnels: usize,
    /// Seconds until the process ends what still runs.
    pub(crate) seconds_left: f64,
}

/// A change of a backend. A missing key changes nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackendEdit {
    /// Whether the backend gets no new requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drain: Option<bool>,
    /// The share of the requests, from 1 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<u32>,
    /// Whether the change survives a restart.
    #[serde(default)]
    pub(crate) keep: bool,
    /// The number of the plan that the operator knows; another number is a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
}

/// A backend to add.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBackend {
    /// The backend as in a config file: "host:port", or an object with host, port, name, weight and drain.
    #[schema(value_type = Object)]
    pub(crate) backend: serde_json::Value,
    /// Whether the change survives a restart.
    #[serde(default)]
    pub(crate) keep: bool,
    /// The number of the plan that the operator knows; another number is a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
}

/// How to remove a backend or to discard changes.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Options {
    /// Whether the change survives a restart.
    #[serde(default)]
    pub(crate) keep: bool,
    /// The number of the plan that the operator knows; another number is a conflict.
    #[serde(default)]
    pub(crate) generation: Option<u64>,
}

/// The plan that the operator knows.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Expected {
    /// The number of the plan that the operator knows; another number is a conflict.
    #[serde(default)]
    pub(crate) generation: Option<u64>,
}

/// No query: the request has everything in its content.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// The config as text.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigText {
    /// The number of the plan.
    pub(crate) generation: u64,
    /// Where the config came from.
    pub(crate) source: String,
    /// The text; none when options of the command line are the config. The changes of operators are not in the text.
    pub(crate) text: Option<String>,
    /// The changes of backends that operators made.
    pub(crate) changes: Vec<ChangeState>,
}

/// A config to check or to compare.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigToCheck {
    /// The text of a config file.
    pub(crate) text: String,
    /// A name for messages, such as the name of the file.
    #[serde(default = "unnamed")]
    pub(crate) name: String,
}

/// A config to apply.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigToApply {
    /// The text of a config file.
    pub(crate) text: String,
    /// A name for messages, such as the name of the file.
    #[serde(default = "unnamed")]
    pub(crate) name: String,
    /// Whether LoadX runs this config after a restart too.
    #[serde(default)]
    pub(crate) keep: bool,
    /// The number of the plan that the operator knows; another number is a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
    /// Seconds for which LoadX looks at the conditions. LoadX keeps the config afterwards, unless `confirm_within` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) watch: Option<f64>,
    /// Seconds within which an operator must confirm the config; otherwise LoadX goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) confirm_within: Option<f64>,
    /// LoadX goes back when one of these conditions holds, such as "error_rate > 1%" or "app: p99 > 250ms".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rollback_if: Vec<String>,
}

fn unnamed() -> String {
    "the sent config".to_owned()
}

/// The result of a check.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Checked {
    /// What may go wrong with the config.
    pub(crate) warnings: Vec<String>,
}

/// What another config would change.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Planned {
    /// The number of the plan that runs.
    pub(crate) generation: u64,
    /// The differences; empty if nothing would change.
    pub(crate) differences: Vec<PlannedDifference>,
    /// What may go wrong with the config, and limits below what is in use now.
    pub(crate) warnings: Vec<String>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PlannedDifference {
    /// listener, route, cluster, backend or setting.
    pub(crate) part: String,
    /// The cluster of a backend.
    pub(crate) cluster: Option<String>,
    /// The name of the part: the address of a listener or backend, the key of a setting.
    pub(crate) name: String,
    /// added, removed or changed.
    pub(crate) change: String,
    /// The settings that differ; empty for parts that are added or removed.
    pub(crate) details: Vec<PlannedDetail>,
    /// The effect on requests, connections and tunnels.
    pub(crate) effect: String,
    /// What the running LoadX has in use of the part now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) now: Option<String>,
}

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PlannedDetail {
    /// The name of the setting.
    pub(crate) key: String,
    /// The value that runs.
    pub(crate) old: Option<String>,
    /// The value of the other config.
    pub(crate) new: Option<String>,
}

/// A change that was made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Changed {
    /// The number of the new plan.
    pub(crate) generation: u64,
    /// What changed, in words.
    pub(crate) what: String,
    /// Whether the state file has what is to be kept across restarts.
    pub(crate) is_saved: bool,
    /// What the operator should know.
    pub(crate) warnings: Vec<String>,
}

/// How to upgrade.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpgradeRequest {
    /// The path of the new binary. Without this key: the path of the running binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<String>,
}

/// The process that took over.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Upgraded {
    /// The process id.
    pub(crate) pid: u32,
    /// The version of LoadX.
    pub(crate) version: String,
}

/// The level of the log of events.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogLevel {
    /// error, warn, info or debug.
    pub(crate) level: String,
}

/// An event. The stream of events has one for each change of a backend, of the config and of a trial.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct EventMessage {
    /// When the event happened (RFC 3339, UTC).
    pub(crate) at: String,
    /// info or warning.
    pub(crate) level: String,
    /// The event in words.
    pub(crate) text: String,
}

/// Why a request failed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Refusal {
    /// What happened, to what, and what to do.
    pub(crate) error: String,
    /// The number of the plan that runs, if the request had another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
    /// What changed since the plan of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) since: Vec<String>,
}
