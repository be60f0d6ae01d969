//! Serving the admin API: its bounds on connections, times and sizes keep clients of the API from harming LoadX.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::peer::Peer;
use super::routes::{self, Failed};
use crate::manager::Manager;

/// The most connections of the Unix socket, and the most over TCP; further connections wait.
const CONNECTIONS_MAX: usize = 64;

/// The longest time for the head of a request; on an idle connection also the longest time before it.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// The longest time from the head of a request to the head of its response.
const RESPONSE_MAX: Duration = Duration::from_secs(60);

/// The largest content of a request, in bytes: a config of 20,000 backends and thousands of routes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long to wait after a failed accept, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The hash of the token: comparing hashes tells nothing about the token by its duration.
#[derive(Copy, Clone)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &[u8]) -> Self {
        TokenHash(Sha256::digest(token).into())
    }
}

/// The paths of the API, and the description of the API.
pub(super) fn router(manager: Manager) -> Router {
    let (paths, document) = routes::router();
    let document = serde_json::to_string(&document).unwrap_or_default();
    let described = move || {
        let document = document.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], document).into_response() }
    };
    paths
        .route("/v1/openapi.json", axum::routing::get(described))
        .fallback(|| async { Failed::new(StatusCode::NOT_FOUND, "no such path; GET /v1/openapi.json lists the paths") })
        .method_not_allowed_fallback(|| async {
            Failed::new(StatusCode::METHOD_NOT_ALLOWED, "this path has other methods; GET /v1/openapi.json lists them")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(within_time))
        .with_state(manager)
}

/// Lets only requests with the token through.
pub(super) fn with_token(router: Router, token: TokenHash) -> Router {
    router.layer(middleware::from_fn_with_state(token, authorized))
}

async fn authorized(State(token): State<TokenHash>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let sent =
        sent.and_then(|value| value.split_at_checked(7)).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    match sent {
        Some((_, sent)) if TokenHash::of(sent.trim_ascii()).0 == token.0 => next.run(request).await,
        _ => {
            let refused = Failed::new(StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer TOKEN");
            ([(header::WWW_AUTHENTICATE, "Bearer")], refused).into_response()
        }
    }
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(RESPONSE_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failed::new(StatusCode::REQUEST_TIMEOUT, "the request or its answer took too long").into_response(),
    }
}

/// Serves the Unix socket.
pub(super) async fn unix(listener: UnixListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                tokio::spawn(connection(stream, router.clone(), Peer::Unix(uid), place));
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Serves a TCP address. The router must ask for the token.
pub(super) async fn tcp(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, peer)) => drop(tokio::spawn(connection(stream, router.clone(), Peer::Tcp(peer), place))),
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &std::io::Error) {
    tracing::warn!("the admin API cannot accept a client: {error}");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connection<S, P>(stream: S, router: Router, peer: Peer, place: P)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection of the admin API ended: {peer}: {error}");
    }
    drop(place);
}
