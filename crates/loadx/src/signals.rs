//! Signals: some stop LoadX; LoadX logs the names of the others and does nothing else.

use std::future::poll_fn;
use std::io;
use std::process;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that stop LoadX. Ctrl-C sends SIGINT.
const STOPPING: [(&str, SignalKind); 2] = [("SIGTERM", SignalKind::terminate()), ("SIGINT", SignalKind::interrupt())];

/// The signals that LoadX ignores. By default each of these signals would end the process.
const IGNORED: [(&str, SignalKind); 3] = [
    ("SIGHUP", SignalKind::hangup()),
    ("SIGUSR1", SignalKind::user_defined1()),
    ("SIGUSR2", SignalKind::user_defined2()),
];

/// A stop signal within this time after the first belongs to the same request to stop: `timeout -s INT` and some
/// terminals signal the process and its group, so that the signal arrives twice.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// The signals that LoadX catches.
pub(crate) struct Signals {
    runtime: Runtime,
    stopping: Vec<(&'static str, Signal)>,
    ignored: Vec<(&'static str, Signal)>,
}

impl Signals {
    /// Begins to catch the signals; from now on none of these signals ends the process by default.
    pub(crate) fn catch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stopping, ignored) = {
            let _guard = runtime.enter();
            (listen(&STOPPING)?, listen(&IGNORED)?)
        };
        Ok(Signals { runtime, stopping, ignored })
    }

    /// Waits for a signal that stops LoadX, and returns the name of the signal.
    pub(crate) fn wait(&mut self) -> &'static str {
        let Signals { runtime, stopping, ignored } = self;
        runtime.block_on(next_stop(stopping, ignored))
    }

    /// Waits for a signal that stops LoadX, but not longer than `limit`.
    pub(crate) fn wait_for(&mut self, limit: Duration) -> Option<&'static str> {
        let Signals { runtime, stopping, ignored } = self;
        runtime.block_on(async { tokio::time::timeout(limit, next_stop(stopping, ignored)).await.ok() })
    }

    /// Lets a further stop signal end the process at once, unless the signal comes within
    /// [`SAME_REQUEST`] of this call.
    pub(crate) fn second_ends_at_once(mut self) {
        let first = Instant::now();
        let thread = std::thread::Builder::new().name("loadx-signals".to_owned()).spawn(move || {
            let mut told = false;
            loop {
                let name = self.wait();
                if first.elapsed() > SAME_REQUEST {
                    eprintln!("{name}: stopped at once");
                    process::exit(130);
                }
                if !std::mem::replace(&mut told, true) {
                    tracing::info!("{name} again within a second: LoadX continues to finish the running requests");
                }
            }
        });
        if let Err(error) = thread {
            tracing::warn!("a second signal will have no effect: {error}");
        }
    }
}

fn listen(signals: &[(&'static str, SignalKind)]) -> io::Result<Vec<(&'static str, Signal)>> {
    signals.iter().map(|(name, kind)| Ok((*name, signal(*kind)?))).collect()
}

/// Waits for one of `stopping`; logs each signal of `ignored` in the meantime.
async fn next_stop(stopping: &mut [(&'static str, Signal)], ignored: &mut [(&'static str, Signal)]) -> &'static str {
    poll_fn(|cx| {
        for (name, signal) in ignored.iter_mut() {
            while signal.poll_recv(cx).is_ready() {
                tracing::warn!("{name} is ignored: the signal has no meaning for LoadX");
            }
        }
        let stop = stopping.iter_mut().find_map(|(name, signal)| signal.poll_recv(cx).is_ready().then_some(*name));
        stop.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
