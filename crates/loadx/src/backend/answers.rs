//! The responses of the test backend.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::State as Backend;
use super::bytes::Filler;

type Shared = State<Arc<Backend>>;

/// The longest delay that a request can ask for.
const DELAY_MAX: Duration = Duration::from_secs(600);

/// All paths of the test backend.
pub(super) fn router(backend: Arc<Backend>) -> Router {
    let answers = Router::new()
        .route("/info", any(info))
        .route("/delay/{ms}", any(delay))
        .route("/status/{code}", any(status))
        .route("/bytes/{count}", any(bytes))
        .route("/echo", any(echo))
        .fallback(hello)
        .layer(middleware::from_fn_with_state(Arc::clone(&backend), misbehave));
    Router::new()
        .route("/health", get(health))
        .route("/health/fail", post(|state: Shared| set_health(state, false)))
        .route("/health/recover", post(|state: Shared| set_health(state, true)))
        .merge(answers)
        .layer(middleware::from_fn_with_state(Arc::clone(&backend), sign))
        .with_state(backend)
}

/// Adds the name of the backend to each response.
async fn sign(State(backend): Shared, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(name) = HeaderValue::from_str(&backend.name) {
        response.headers_mut().insert("x-backend", name);
    }
    response
}

/// Delays responses and answers 500 according to the options.
async fn misbehave(State(backend): Shared, request: Request, next: Next) -> Response {
    let number = backend.count();
    if !backend.behaviour.latency.is_zero() {
        tokio::time::sleep(backend.behaviour.latency).await;
    }
    // Failures are spread evenly: a request fails whenever the sum of the shares reaches the next whole number.
    let due = |count: u64| (count as f64 * backend.behaviour.fail_rate).floor();
    if due(number) > due(number - 1) {
        return answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({ "error": "failing on purpose", "server": backend.name }),
        );
    }
    next.run(request).await
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn hello(State(backend): Shared, request: Request) -> Response {
    let body = json!({
        "message": format!("Hello from {}", backend.name),
        "server": backend.name,
        "path": request.uri().path(),
        "request_count": backend.requests.load(Ordering::Relaxed),
    });
    answer(StatusCode::OK, &body)
}

async fn health(State(backend): Shared) -> Response {
    let (status, word) = match backend.healthy.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "healthy"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    answer(status, &json!({ "status": word, "server": backend.name }))
}

async fn set_health(State(backend): Shared, healthy: bool) -> Response {
    backend.healthy.store(healthy, Ordering::Relaxed);
    health(State(backend)).await
}

async fn info(State(backend): Shared) -> Response {
    let body = json!({
        "server": backend.name,
        "port": backend.port,
        "uptime_seconds": backend.started.elapsed().as_secs_f64(),
        "request_count": backend.requests.load(Ordering::Relaxed),
        "healthy": backend.healthy.load(Ordering::Relaxed),
        "latency_ms": backend.behaviour.latency.as_millis(),
        "fail_rate": backend.behaviour.fail_rate,
    });
    answer(StatusCode::OK, &body)
}

async fn delay(State(backend): Shared, Path(ms): Path<u64>) -> Response {
    let delay = Duration::from_millis(ms);
    if delay > DELAY_MAX {
        let error = format!("the longest delay is {} ms", DELAY_MAX.as_millis());
        return answer(StatusCode::BAD_REQUEST, &json!({ "error": error }));
    }
    tokio::time::sleep(delay).await;
    answer(StatusCode::OK, &json!({ "server": backend.name, "delayed_ms": ms }))
}

async fn status(State(backend): Shared, Path(code): Path<u16>) -> Response {
    match StatusCode::from_u16(code) {
        Ok(status) if code >= 200 => answer(status, &json!({ "server": backend.name, "status": code })),
        _ => answer(StatusCode::BAD_REQUEST, &json!({ "error": "a status is a number from 200 to 999" })),
    }
}

async fn bytes(Path(count): Path<u64>) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], Body::new(Filler::new(count))).into_response()
}

/// Returns the request as it arrived, so that a test can check what a proxy changed.
async fn echo(State(backend): Shared, request: Request) -> Response {
    let (head, mut body) = request.into_parts();
    let (mut length, mut hash) = (0u64, Sha256::new());
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    length += data.len() as u64;
                    hash.update(data);
                }
            }
            Err(error) => return answer(StatusCode::BAD_REQUEST, &json!({ "error": error.to_string() })),
        }
    }
    let fields: Vec<Value> = head
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let body = json!({
        "server": backend.name,
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "fields": fields,
        "body_bytes": length,
        "body_sha256": sha256,
    });
    answer(StatusCode::OK, &body)
}
