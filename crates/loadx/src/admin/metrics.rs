//! The metrics, for Prometheus and its like.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::routes::Failed;
use crate::manager::{Manager, ManagerError};

/// The metrics in a format of Prometheus: that of the query `format` (prometheus, openmetrics or protobuf), or else that of
/// Accept, or else the text format.
#[utoipa::path(
    get, path = "/v1/metrics",
    params(("format" = Option<String>, Query, description = "`prometheus`, `openmetrics` or `protobuf`.")),
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(
    State(manager): State<Manager>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let accept = headers.get_all(header::ACCEPT).iter().map(axum::http::HeaderValue::as_bytes);
    let metrics = manager.proxy().metrics(query.unwrap_or_default().as_bytes(), accept).await;
    let metrics = metrics.map_err(ManagerError::from)?;
    Ok(([(header::CONTENT_TYPE, metrics.content_type)], metrics.content).into_response())
}
