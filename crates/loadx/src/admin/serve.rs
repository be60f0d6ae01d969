//! Serving the admin API: its bounds on connections, times and sizes keep clients of the API from harming LoadX.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use tokio::sync::{Notify, Semaphore};

use super::peer::Peer;
use super::routes::{self, Failed};
use crate::manager::Manager;

/// The most connections of the Unix socket, and the most over TCP. A further one over TCP closes the oldest connection
/// that has not sent the token; otherwise it waits.
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

/// The connections over TCP that have not sent the token yet, the oldest first. They must not keep operators out.
#[derive(Default)]
struct Strangers(Mutex<VecDeque<Arc<Stranger>>>);

/// A connection over TCP, until it has sent the token.
#[derive(Default)]
struct Stranger {
    is_known: AtomicBool,
    leave: Notify,
}

impl Strangers {
    fn list(&self) -> MutexGuard<'_, VecDeque<Arc<Stranger>>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only this list has the connections that have ended.
        list.retain(|one| Arc::strong_count(one) > 1 && !one.is_known.load(Ordering::Relaxed));
        list
    }

    fn add(&self) -> Arc<Stranger> {
        let stranger = Arc::<Stranger>::default();
        self.list().push_back(Arc::clone(&stranger));
        stranger
    }

    fn close_oldest(&self) {
        if let Some(oldest) = self.list().pop_front() {
            oldest.leave.notify_one();
        }
    }
}

/// The hash of the token: comparing hashes tells nothing about the token by its duration.
#[derive(Copy, Clone)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &[u8]) -> Self {
        TokenHash(Sha256::digest(token).into())
    }

    /// Whether this is the hash of `sent`.
    pub(super) fn is_of(self, sent: &[u8]) -> bool {
        TokenHash::of(sent).0 == self.0
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
        Some((_, sent)) if token.is_of(sent.trim_ascii()) => {
            if let Some(stranger) = request.extensions().get::<Arc<Stranger>>() {
                stranger.is_known.store(true, Ordering::Relaxed);
            }
            next.run(request).await
        }
        _ => {
            let refused =
                Failed::new(StatusCode::UNAUTHORIZED, "no token, or a wrong one: send Authorization: Bearer TOKEN");
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
pub(super) async fn unix(listener: UnixListener, router: Router, manager: Manager) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                tokio::spawn(connection(stream, router.clone(), manager.clone(), (Peer::Unix(uid), place)));
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Serves a TCP address. The router must ask for the token.
pub(super) async fn tcp(listener: TcpListener, router: Router, manager: Manager) {
    let (places, strangers) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Strangers::default());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if places.available_permits() == 0 {
                    strangers.close_oldest();
                }
                let place = Arc::clone(&places).acquire_owned().await;
                let stranger = strangers.add();
                let router = router.clone().layer(Extension(Arc::clone(&stranger)));
                let served = connection(stream, router, manager.clone(), (Peer::Tcp(peer), place));
                tokio::spawn(async move {
                    tokio::select! {
                        () = served => {}
                        () = stranger.leave.notified() => {}
                    }
                });
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &std::io::Error) {
    tracing::warn!("the admin API cannot accept a client: {error}");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Serves one connection. When another process takes over, the connection ends with its next response.
async fn connection<S, P>(stream: S, router: Router, manager: Manager, (peer, place): (Peer, P))
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        _ = manager.successor() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection of the admin API ended: {peer}: {error}");
    }
    drop(place);
}
