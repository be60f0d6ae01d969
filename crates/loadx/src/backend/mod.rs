//! The test backend: a small HTTP server for tests, which delays and fails on request.
//!
//! The test backend uses another HTTP implementation than the proxy, so that each implementation tests the other.

mod answers;
mod bytes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// The options of a test backend.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// The delay before each response.
    pub(crate) latency: Duration,
    /// The share of requests with status 500, from 0 to 1.
    pub(crate) fail_rate: f64,
    /// Whether `/health` answers 200 at the start.
    pub(crate) healthy: bool,
}

/// The state that all requests of one test backend share.
struct State {
    name: String,
    port: u16,
    behaviour: Behaviour,
    healthy: AtomicBool,
    requests: AtomicU64,
    started: Instant,
}

impl State {
    /// Counts a request. Returns the number of the request, from 1.
    fn count(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A running test backend, on its own thread.
#[derive(Debug)]
pub(crate) struct TestBackend {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl TestBackend {
    /// Starts a test backend. It accepts requests when this function returns.
    ///
    /// # Errors
    /// When the address is not available or the system cannot start a thread.
    pub(crate) fn start(name: &str, address: SocketAddr, behaviour: Behaviour) -> io::Result<TestBackend> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            name: name.to_owned(),
            port: address.port(),
            healthy: AtomicBool::new(behaviour.healthy),
            behaviour,
            requests: AtomicU64::new(0),
            started: Instant::now(),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let served = runtime.block_on(async {
                let serving = axum::serve(tokio::net::TcpListener::from_std(listener)?, answers::router(state));
                tokio::select! {
                    outcome = serving => outcome,
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!("the test backend failed: {error}");
            }
        })?;
        Ok(TestBackend { address, stop, thread })
    }

    /// The address on which the backend listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the backend and closes all its connections.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the test backend panicked");
        }
    }
}
