//! The metrics, for Prometheus and its like.

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use loadx_proxy::MetricsFormat;
use serde::Deserialize;

use super::api::Refusal;
use super::routes::Failed;
use crate::manager::{Manager, ManagerError};

/// What a request for the metrics may say.
#[derive(Deserialize)]
pub(super) struct Wanted {
    format: Option<String>,
}

/// The metrics in a format of Prometheus: that of the query `format` (prometheus, openmetrics or protobuf), or else that of
/// Accept, or else the text format.
#[utoipa::path(
    get, path = "/v1/metrics",
    params(("format" = Option<String>, Query, description = "`prometheus`, `openmetrics` or `protobuf`.")),
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 422, description = "There is no such format.", body = Refusal),
    )
)]
pub(super) async fn metrics(
    State(manager): State<Manager>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let format = match &wanted.format {
        Some(name) => MetricsFormat::of_name(name).ok_or_else(|| {
            let told = "there is no such format; the formats are prometheus, openmetrics and protobuf";
            Failed::new(StatusCode::UNPROCESSABLE_ENTITY, told)
        })?,
        None => {
            let accept = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes);
            MetricsFormat::of_accept(accept).unwrap_or(MetricsFormat::Text)
        }
    };
    let metrics = manager.proxy().metrics(format).await;
    let metrics = metrics.map_err(ManagerError::from)?;
    Ok(([(header::CONTENT_TYPE, metrics.content_type)], metrics.content).into_response())
}
