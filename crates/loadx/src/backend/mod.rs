//! The test backend: a small HTTP server that does what tests need, and misbehaves when told to.
//!
//! It stands on another HTTP implementation than the proxy, so that the two check each other.

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

/// How a test backend behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// Waited before each answer.
    pub(crate) latency: Duration,
    /// The share of requests that is answered with 500, from 0 to 1.
    pub(crate) fail_rate: f64,
    /// What `/health` says at first.
    pub(crate) healthy: bool,
}

/// What all requests of one test backend share.
struct State {
    name: String,
    port: u16,
    behaviour: Behaviour,
    healthy: AtomicBool,
    requests: AtomicU64,
    started: Instant,
}

impl State {
    /// Counts a request; its number, from 1.
    fn count(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A test backend that runs, on a thread of its own.
#[derive(Debug)]
pub(crate) struct TestBackend {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl TestBackend {
    /// Starts one. When this returns it accepts requests.
    ///
    /// # Errors
    /// When the address cannot be taken or the system lacks threads.
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

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, with all its connections.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the test backend panicked");
        }
    }
}
