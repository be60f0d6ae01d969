//! Waiting to be told to stop.

use std::future::poll_fn;
use std::io;
use std::process;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that stop LoadX: SIGTERM and SIGINT (Ctrl-C).
pub(crate) struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to catch them; from here on they no longer end the process by themselves.
    pub(crate) fn catch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (terminate, interrupt) = {
            let _guard = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Signals { runtime, terminate, interrupt })
    }

    /// Waits for one; its name.
    pub(crate) fn wait(&mut self) -> &'static str {
        let Signals { runtime, terminate, interrupt } = self;
        runtime.block_on(poll_fn(|cx| {
            if terminate.poll_recv(cx).is_ready() {
                return Poll::Ready("SIGTERM");
            }
            interrupt.poll_recv(cx).map(|_| "SIGINT")
        }))
    }

    /// From here on, a further signal ends the process at once: whoever asks twice means it.
    pub(crate) fn second_ends_at_once(mut self) {
        let thread = std::thread::Builder::new().name("loadx-signals".to_owned()).spawn(move || {
            self.wait();
            eprintln!("stopped at once");
            process::exit(130);
        });
        if let Err(error) = thread {
            tracing::warn!("a second signal will not be heard: {error}");
        }
    }
}
