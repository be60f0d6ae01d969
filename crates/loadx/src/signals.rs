//! Signals: some stop LoadX, some change a running LoadX; LoadX logs the names of the others.

use std::future::poll_fn;
use std::io;
use std::process;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Stop. Ctrl-C sends SIGINT.
    Stop,
    /// Read the config file again.
    Reload,
    /// Open the file of the access log again.
    ReopenLog,
    /// Start a process that takes over.
    Upgrade,
}

/// The signals that LoadX catches.
const CAUGHT: [(&str, SignalKind, Wish); 5] = [
    ("SIGTERM", SignalKind::terminate(), Wish::Stop),
    ("SIGINT", SignalKind::interrupt(), Wish::Stop),
    ("SIGHUP", SignalKind::hangup(), Wish::Reload),
    ("SIGUSR1", SignalKind::user_defined1(), Wish::ReopenLog),
    ("SIGUSR2", SignalKind::user_defined2(), Wish::Upgrade),
];

/// Why a wait for signals ended.
#[derive(Debug)]
pub(crate) enum Woken<T> {
    /// A signal came.
    Signal(&'static str, Wish),
    /// What else was waited for.
    Other(T),
    /// The time is over.
    Timeout,
}

/// A stop signal within this time after the first belongs to the same request to stop: `timeout -s INT` and some
/// terminals signal the process and its group, so that the signal arrives twice.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// The signals that LoadX catches.
pub(crate) struct Signals {
    runtime: Runtime,
    caught: Vec<(&'static str, Signal, Wish)>,
}

impl Signals {
    /// Begins to catch the signals; from here on none of them ends the process by itself.
    pub(crate) fn catch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let caught = {
            let _guard = runtime.enter();
            let catch = |(name, kind, wish)| Ok((name, signal(kind)?, wish));
            CAUGHT.into_iter().map(catch).collect::<io::Result<Vec<_>>>()?
        };
        Ok(Signals { runtime, caught })
    }

    /// Waits for a signal or for `other`, but not longer than `limit`.
    pub(crate) fn next_or<T>(&mut self, limit: Duration, other: impl Future<Output = T>) -> Woken<T> {
        let Signals { runtime, caught } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                (name, wish) = next(caught) => Woken::Signal(name, wish),
                other = other => Woken::Other(other),
                () = tokio::time::sleep(limit) => Woken::Timeout,
            }
        })
    }

    /// Waits for a signal that stops LoadX, and returns the name of the signal.
    pub(crate) fn wait(&mut self) -> &'static str {
        let Signals { runtime, caught } = self;
        runtime.block_on(next_stop(caught))
    }

    /// Waits for a signal that stops LoadX, but not longer than `limit`.
    pub(crate) fn wait_for(&mut self, limit: Duration) -> Option<&'static str> {
        let Signals { runtime, caught } = self;
        runtime.block_on(async { tokio::time::timeout(limit, next_stop(caught)).await.ok() })
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

/// Waits for a signal that stops LoadX; meanwhile each other signal becomes a line of the log.
async fn next_stop(caught: &mut [(&'static str, Signal, Wish)]) -> &'static str {
    loop {
        match next(caught).await {
            (name, Wish::Stop) => return name,
            (name, _) => ignore(name),
        }
    }
}

async fn next(caught: &mut [(&'static str, Signal, Wish)]) -> (&'static str, Wish) {
    poll_fn(|cx| {
        let came = caught
            .iter_mut()
            .find_map(|(name, signal, wish)| signal.poll_recv(cx).is_ready().then_some((*name, *wish)));
        came.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

fn ignore(name: &str) {
    tracing::warn!("{name} is ignored: the signal has no meaning now");
}
