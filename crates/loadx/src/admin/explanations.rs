//! Why requests were served as they were.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};

use super::routes::Failed;
use crate::manager::{Manager, ManagerError};

/// The explanations of the last requests that failed, were sent again, or asked for one (with X-LoadX-Explain), the oldest first;
/// with `id`, of that request alone. `out_of_rotation` has the other backends of the cluster as they are now.
#[utoipa::path(
    get, path = "/v1/explanations",
    params(("id" = Option<String>, Query, description = "The id of a request.")),
    responses((status = 200, body = Vec<Object>))
)]
pub(super) async fn explanations(
    State(manager): State<Manager>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<Value>>, Failed> {
    let proxy = manager.proxy();
    let all = proxy.explanations().await.map_err(ManagerError::from)?;
    let wanted = query.as_deref().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("id="));
    let wanted = wanted.map(|id| percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned());
    let mut found: Vec<Value> = Vec::new();
    for explanation in all.iter().filter(|one| wanted.as_ref().is_none_or(|id| one.id == *id)) {
        found.push(serde_json::to_value(explanation).unwrap_or_default());
    }
    if wanted.is_some() && !found.is_empty() {
        let observed = proxy.observe().await.map_err(ManagerError::from)?;
        for explanation in &mut found {
            let cluster = observed.clusters.iter().find(|cluster| explanation["cluster"] == *cluster.name);
            let out = cluster.into_iter().flat_map(|cluster| &cluster.snapshot.backends).filter(|one| !one.admitted);
            let out = out.map(|backend| {
                json!({
                    "backend": &*backend.name,
                    "state": backend.state(),
                    "reason": &*backend.reason,
                    "since_seconds": backend.since.as_secs(),
                })
            });
            explanation["out_of_rotation"] = out.collect();
        }
    }
    Ok(Json(found))
}
