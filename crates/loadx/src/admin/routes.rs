//! The requests of the admin API.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::stream::{self, Stream};
use loadx_core::config::Wanted;
use loadx_core::trial::Terms;
use loadx_proxy::Observed;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::{
    BackendEdit, BackendState, Changed, Checked, ConfigText, ConfigToApply, ConfigToCheck, Connections, EventMessage,
    Expected, LogLevel, NewBackend, Nothing, Options, Planned, PlannedDifference, Refusal, Status, UpgradeRequest,
    Upgraded,
};
use super::peer::Peer;
use super::{describe, planned};
use crate::logging;
use crate::manager::{Done, Manager, ManagerError, NewConfig, read};

/// The longest watch and the longest time for a confirmation.
const TRIAL_MAX: Duration = Duration::from_secs(86_400);

#[derive(OpenApi)]
#[openapi(info(
    title = "LoadX admin API",
    description = "What a running LoadX does, and how to change it. `loadx ctl` uses this API. Requests over TCP need \
                   `Authorization: Bearer TOKEN`. Errors are JSON with `error`.",
    license(name = "MIT", identifier = "MIT")
))]
struct Document;

/// The paths of the admin API, with their description.
pub(super) fn router() -> (axum::Router<Manager>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status))
        .routes(routes!(clusters))
        .routes(routes!(backends))
        .routes(routes!(add_backend))
        .routes(routes!(edit_backend, remove_backend))
        .routes(routes!(discard_changes))
        .routes(routes!(config, apply_config))
        .routes(routes!(check_config))
        .routes(routes!(plan_config))
        .routes(routes!(confirm))
        .routes(routes!(roll_back))
        .routes(routes!(reload))
        .routes(routes!(upgrade))
        .routes(routes!(connections))
        .routes(routes!(events))
        .routes(routes!(super::metrics::metrics))
        .routes(routes!(super::live::live))
        .routes(routes!(super::explanations::explanations))
        .routes(routes!(log_level))
        .split_for_parts()
}

/// The state of LoadX.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
async fn status(State(manager): State<Manager>) -> Result<Json<Status>, Failed> {
    let (overview, observed) = (manager.overview().await, observe(&manager).await?);
    let formers = manager.formers().await;
    Ok(Json(describe::status(&overview, &observed, formers)))
}

/// The clusters.
#[utoipa::path(get, path = "/v1/clusters", responses((status = 200, body = Vec<super::api::ClusterState>)))]
async fn clusters(State(manager): State<Manager>) -> Result<Json<Vec<super::api::ClusterState>>, Failed> {
    Ok(Json(describe::clusters(&observe(&manager).await?)))
}

/// The backends of all clusters.
#[utoipa::path(get, path = "/v1/backends", responses((status = 200, body = Vec<BackendState>)))]
async fn backends(State(manager): State<Manager>) -> Result<Json<Vec<BackendState>>, Failed> {
    Ok(Json(describe::backends(&observe(&manager).await?)))
}

/// Adds a backend to a cluster.
#[utoipa::path(
    post, path = "/v1/clusters/{cluster}/backends",
    params(("cluster" = String, Path, description = "The name of the cluster; `-` if there is only one.")),
    request_body = NewBackend,
    responses((status = 200, body = Changed), (status = 404, body = Refusal), (status = 409, body = Refusal), (status = 422, body = Refusal))
)]
async fn add_backend(
    State(manager): State<Manager>,
    Extension(peer): Extension<Peer>,
    Path(cluster): Path<String>,
    Query(Nothing {}): Query<Nothing>,
    Body(new): Body<NewBackend>,
) -> Result<Json<Changed>, Failed> {
    let text = serde_json::json!({ "clusters": { "c": { "backends": [new.backend] } } }).to_string();
    let mut config = loadx_core::config::parse(&text).map_err(|faults| {
        let each: Vec<String> =
            faults.iter().map(|fault| format!("{}\n  help: {}", fault.message, fault.help)).collect();
        Failed::new(StatusCode::UNPROCESSABLE_ENTITY, each.join("\n"))
    })?;
    let wanted = [Wanted::Add(config.clusters.remove(0).backends.remove(0))];
    let options = Options { keep: new.keep, generation: new.generation };
    change(manager, peer, (cluster, String::new()), wanted, options).await
}

/// Drains a backend, lets it serve again, or changes its weight.
#[utoipa::path(
    patch, path = "/v1/clusters/{cluster}/backends/{backend}",
    params(
        ("cluster" = String, Path, description = "The name of the cluster; `-` if only one cluster has the backend."),
        ("backend" = String, Path, description = "Host and port, or the name of the backend.")
    ),
    request_body = BackendEdit,
    responses((status = 200, body = Changed), (status = 404, body = Refusal), (status = 409, body = Refusal), (status = 422, body = Refusal))
)]
async fn edit_backend(
    State(manager): State<Manager>,
    Extension(peer): Extension<Peer>,
    Path(place): Path<(String, String)>,
    Query(Nothing {}): Query<Nothing>,
    Body(edit): Body<BackendEdit>,
) -> Result<Json<Changed>, Failed> {
    let wanted = edit.drain.map(Wanted::Drain).into_iter().chain(edit.weight.map(Wanted::Weight));
    let options = Options { keep: edit.keep, generation: edit.generation };
    change(manager, peer, place, wanted.collect::<Vec<_>>(), options).await
}

/// Removes a backend. Running exchanges have `drain_timeout` seconds to finish.
#[utoipa::path(
    delete, path = "/v1/clusters/{cluster}/backends/{backend}",
    params(
        ("cluster" = String, Path, description = "The name of the cluster; `-` if only one cluster has the backend."),
        ("backend" = String, Path, description = "Host and port, or the name of the backend."),
        Options
    ),
    responses((status = 200, body = Changed), (status = 404, body = Refusal), (status = 409, body = Refusal))
)]
async fn remove_backend(
    State(manager): State<Manager>,
    Extension(peer): Extension<Peer>,
    Path(place): Path<(String, String)>,
    Query(options): Query<Options>,
) -> Result<Json<Changed>, Failed> {
    change(manager, peer, place, [Wanted::Remove], options).await
}

async fn change(
    manager: Manager,
    peer: Peer,
    (cluster, backend): (String, String),
    wanted: impl AsRef<[Wanted]> + Send + 'static,
    options: Options,
) -> Result<Json<Changed>, Failed> {
    if wanted.as_ref().is_empty() {
        return Err(Failed::new(StatusCode::UNPROCESSABLE_ENTITY, "nothing to change: give \"drain\" or \"weight\""));
    }
    to_the_end(async move {
        let cluster = (cluster != "-").then_some(&*cluster);
        let wanted = wanted.as_ref();
        manager.change((cluster, &backend), wanted, options.generation, options.keep, &peer.to_string()).await
    })
    .await
}

/// Undoes all changes of backends that operators made, also the kept ones.
#[utoipa::path(
    delete, path = "/v1/changes", params(Expected),
    responses((status = 200, body = Changed), (status = 409, body = Refusal))
)]
async fn discard_changes(
    State(manager): State<Manager>,
    Extension(peer): Extension<Peer>,
    Query(options): Query<Expected>,
) -> Result<Json<Changed>, Failed> {
    to_the_end(async move { manager.discard_changes(options.generation, &peer.to_string()).await }).await
}

/// The text of the config.
#[utoipa::path(get, path = "/v1/config", responses((status = 200, body = ConfigText)))]
async fn config(State(manager): State<Manager>) -> Json<ConfigText> {
    let overview = manager.overview().await;
    Json(ConfigText {
        generation: overview.generation,
        source: describe::source(&overview),
        changes: describe::changes(&overview),
        text: overview.base.text.map(|text| text.to_string()),
    })
}

/// Applies another config; with `watch`, `confirm_within` or `rollback_if` on trial.
#[utoipa::path(
    put, path = "/v1/config", request_body = ConfigToApply,
    responses((status = 200, body = Changed), (status = 409, body = Refusal), (status = 422, body = Refusal))
)]
async fn apply_config(
    State(manager): State<Manager>,
    Extension(peer): Extension<Peer>,
    Query(Nothing {}): Query<Nothing>,
    Body(new): Body<ConfigToApply>,
) -> Result<Json<Changed>, Failed> {
    let terms = terms(&new)?;
    let new = NewConfig { text: new.text.into(), name: new.name, generation: new.generation, keep: new.keep, terms };
    to_the_end(async move { manager.apply_config(new, &peer.to_string()).await }).await
}

fn terms(new: &ConfigToApply) -> Result<Option<Terms>, Failed> {
    let span = |key: &str, seconds: Option<f64>| match seconds {
        Some(seconds) if !(seconds > 0.0 && seconds <= TRIAL_MAX.as_secs_f64()) => Err(Failed::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("\"{key}\" is {seconds}, and must be above 0 and at most {} seconds", TRIAL_MAX.as_secs()),
        )),
        seconds => Ok(seconds.map(Duration::from_secs_f64)),
    };
    let (watch, confirm_within) = (span("watch", new.watch)?, span("confirm_within", new.confirm_within)?);
    let conditions: Result<Vec<_>, String> = new.rollback_if.iter().map(|text| text.parse()).collect();
    let conditions = conditions.map_err(|error| Failed::new(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    match (watch, confirm_within) {
        (None, None) if conditions.is_empty() => Ok(None),
        (None, None) => Err(Failed::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "\"rollback_if\" needs \"watch\" or \"confirm_within\": for how long shall LoadX look at the conditions?",
        )),
        _ => Ok(Some(Terms { watch, confirm_within, conditions })),
    }
}

/// Checks a config without applying it.
#[utoipa::path(
    post, path = "/v1/config/check", request_body = ConfigToCheck,
    responses((status = 200, body = Checked), (status = 422, body = Refusal))
)]
async fn check_config(Body(check): Body<ConfigToCheck>) -> Result<Json<Checked>, Failed> {
    let (_, warnings) = read(&check.text, &check.name)?;
    Ok(Json(Checked { warnings }))
}

/// Compares a config with the running config.
#[utoipa::path(
    post, path = "/v1/config/plan", request_body = ConfigToCheck,
    responses((status = 200, body = Planned), (status = 422, body = Refusal))
)]
async fn plan_config(
    State(manager): State<Manager>,
    Body(check): Body<ConfigToCheck>,
) -> Result<Json<Planned>, Failed> {
    let planned = manager.plan(&check.text, &check.name).await?;
    let observed = observe(&manager).await?;
    let mut differences: Vec<PlannedDifference> = planned.differences.iter().map(PlannedDifference::from).collect();
    let mut warnings = planned.warnings;
    warnings.extend(planned::add_use(
        &planned.differences,
        &mut differences,
        &planned.running,
        &planned.new,
        &observed,
    ));
    Ok(Json(Planned { generation: planned.generation, differences, warnings }))
}

/// Keeps the config on trial.
#[utoipa::path(
    post, path = "/v1/config/confirm", params(Options),
    responses((status = 200, body = Changed), (status = 409, body = Refusal))
)]
async fn confirm(
    State(manager): State<Manager>,
    Extension(peer): Extension<Peer>,
    Query(options): Query<Options>,
) -> Result<Json<Changed>, Failed> {
    to_the_end(async move { manager.confirm(options.generation, options.keep, &peer.to_string()).await }).await
}

/// Goes back to the config before the trial.
#[utoipa::path(
    post, path = "/v1/config/rollback", params(Expected),
    responses((status = 200, body = Changed), (status = 409, body = Refusal))
)]
async fn roll_back(
    State(manager): State<Manager>,
    Extension(peer): Extension<Peer>,
    Query(options): Query<Expected>,
) -> Result<Json<Changed>, Failed> {
    to_the_end(async move { manager.roll_back(options.generation, &peer.to_string()).await }).await
}

/// Reads the config file again, as SIGHUP does.
#[utoipa::path(
    post, path = "/v1/reload", params(Expected),
    responses((status = 200, body = Changed), (status = 409, body = Refusal), (status = 422, body = Refusal))
)]
async fn reload(
    State(manager): State<Manager>,
    Extension(peer): Extension<Peer>,
    Query(expected): Query<Expected>,
) -> Result<Json<Changed>, Failed> {
    to_the_end(async move { manager.reload(expected.generation, &peer.to_string()).await }).await
}

/// Starts a new process that takes over without losing a request; this process ends when its last client has left. `binary`
/// is only possible on the Unix socket.
#[utoipa::path(
    post, path = "/v1/upgrade", request_body = UpgradeRequest,
    responses((status = 200, body = Upgraded), (status = 403, body = Refusal), (status = 409, body = Refusal))
)]
async fn upgrade(
    State(manager): State<Manager>,
    Extension(peer): Extension<Peer>,
    Query(Nothing {}): Query<Nothing>,
    Body(request): Body<UpgradeRequest>,
) -> Result<Json<Upgraded>, Failed> {
    if request.binary.is_some() && matches!(peer, Peer::Tcp(_)) {
        let told =
            "over TCP nobody may choose the program that LoadX starts; use the Unix socket, or leave out \"binary\"";
        return Err(Failed::new(StatusCode::FORBIDDEN, told));
    }
    let binary = request.binary.map(Into::into);
    let outcome = tokio::spawn(async move { manager.upgrade(binary, &peer.to_string()).await }).await;
    let successor = outcome.map_err(|error| {
        Failed::new(StatusCode::INTERNAL_SERVER_ERROR, format!("a defect of LoadX ended the upgrade: {error}"))
    })??;
    Ok(Json(Upgraded { pid: successor.pid, version: successor.version }))
}

/// The connections of clients, and the running exchanges of backends.
#[utoipa::path(get, path = "/v1/connections", responses((status = 200, body = Connections)))]
async fn connections(State(manager): State<Manager>) -> Result<Json<Connections>, Failed> {
    Ok(Json(describe::connections(&observe(&manager).await?, manager.formers().await)))
}

/// The events from now on, as server-sent events; each has the JSON of an EventMessage.
#[utoipa::path(get, path = "/v1/events", responses((status = 200, content_type = "text/event-stream", body = EventMessage)))]
async fn events(State(manager): State<Manager>) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failed> {
    let busy =
        |_| Failed::new(StatusCode::SERVICE_UNAVAILABLE, "16 operators follow the events already; end one of them");
    let place = STREAMS.try_acquire().map_err(busy)?;
    let events =
        stream::unfold((manager.proxy().events(), manager, place), |(mut events, manager, place)| async move {
            let next = tokio::select! {
                biased;
                next = events.recv() => next,
                // Another process takes over, and has the events from now on.
                _ = manager.successor() => return None,
            };
            let (level, text) = match next {
                Ok(record) => (if record.is_warning { "warning" } else { "info" }, record.text.to_string()),
                Err(RecvError::Lagged(count)) => ("warning", format!("{count} events were lost: they came too fast")),
                Err(RecvError::Closed) => return None,
            };
            let now = jiff::Timestamp::now();
            let at = now.round(jiff::Unit::Millisecond).unwrap_or(now).to_string();
            let message = EventMessage { at, level: level.to_owned(), text };
            let event = Event::default().json_data(message).unwrap_or_default();
            Some((Ok(event), (events, manager, place)))
        });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Changes the level of the log of events, until the next start.
#[utoipa::path(
    put, path = "/v1/log-level", request_body = LogLevel,
    responses((status = 200, body = LogLevel), (status = 422, body = Refusal))
)]
async fn log_level(
    Extension(peer): Extension<Peer>,
    Query(Nothing {}): Query<Nothing>,
    Body(wanted): Body<LogLevel>,
) -> Result<Json<LogLevel>, Failed> {
    logging::set_level(&wanted.level).map_err(|error| Failed::new(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    tracing::info!("the log has the level {} ({peer})", wanted.level);
    Ok(Json(wanted))
}

async fn observe(manager: &Manager) -> Result<Observed, Failed> {
    Ok(manager.proxy().observe().await.map_err(ManagerError::from)?)
}

/// Runs a change to its end, also when the client leaves: half a change would leave the manager and the proxy with
/// different configs.
async fn to_the_end(
    change: impl Future<Output = Result<Done, ManagerError>> + Send + 'static,
) -> Result<Json<Changed>, Failed> {
    let outcome = tokio::spawn(change).await;
    let Done { generation, what, is_saved, warnings } = outcome.map_err(|error| {
        Failed::new(StatusCode::INTERNAL_SERVER_ERROR, format!("a defect of LoadX ended the change: {error}"))
    })??;
    Ok(Json(Changed { generation, what, is_saved, warnings }))
}

/// An error response.
#[derive(Debug)]
pub(super) struct Failed(StatusCode, Refusal);

impl Failed {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Failed(status, Refusal { error: error.into(), generation: None, since: Vec::new() })
    }
}

impl From<ManagerError> for Failed {
    fn from(error: ManagerError) -> Self {
        use loadx_core::config::ChangeError;
        let status = match &error {
            ManagerError::Faulty(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ManagerError::Refused(loadx_proxy::ApplyError::Stopping) => StatusCode::SERVICE_UNAVAILABLE,
            ManagerError::Change(ChangeError::UnknownCluster(..) | ChangeError::UnknownBackend(..)) => {
                StatusCode::NOT_FOUND
            }
            ManagerError::Change(ChangeError::Weight(_) | ChangeError::Ambiguous(..)) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            ManagerError::Certificates(_)
            | ManagerError::Refused(_)
            | ManagerError::Change(_)
            | ManagerError::Conflict(_)
            | ManagerError::Outdated { .. } => StatusCode::CONFLICT,
        };
        let mut failed = Failed::new(status, error.to_string());
        if let ManagerError::Outdated { generation, since, .. } = error {
            (failed.1.generation, failed.1.since) = (Some(generation), since);
        }
        failed
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// The requests whose content is being read at the same time: each may take 16 MiB.
static BODIES: Semaphore = Semaphore::const_new(4);

/// The event streams at the same time.
static STREAMS: Semaphore = Semaphore::const_new(16);

/// The content of a request, read from JSON. Errors are JSON too.
struct Body<T>(T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failed;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Failed> {
        // The semaphore is never closed.
        let place = BODIES.acquire().await;
        let read: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        drop(place);
        read.map(|Json(value)| Body(value)).map_err(|error| Failed::new(error.status(), error.body_text()))
    }
}

/// The query of a request. Errors are JSON.
struct Query<T>(T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, Failed> {
        let read: Result<axum::extract::Query<T>, QueryRejection> =
            axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Query(value))
            .map_err(|error| Failed::new(error.status(), error.body_text()))
    }
}

/// The names in the path of a request. Errors are JSON.
struct Path<T>(T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, Failed> {
        let read: Result<axum::extract::Path<T>, PathRejection> =
            axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Path(value))
            .map_err(|error| Failed::new(error.status(), error.body_text()))
    }
}
