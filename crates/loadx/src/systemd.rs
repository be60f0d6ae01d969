//! What LoadX tells systemd (sd_notify(3)): that it is ready, reloads or stops, and that it is alive. Without systemd
//! nothing is sent.

use std::time::Duration;

use listenfd::ListenFd;
use loadx_proxy::{Handle, Inherited, InheritedFor, InheritedSocket};
use sd_notify::NotifyState;

/// The longest time that the proxy may take to answer before LoadX counts as hung. A config that resolves names takes
/// three seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The connection to systemd.
pub(crate) struct Systemd {
    /// The time without a sign of life after which systemd restarts LoadX; none without a watchdog.
    watchdog: Option<Duration>,
}

impl Systemd {
    pub(crate) fn from_environment() -> Self {
        Systemd { watchdog: sd_notify::watchdog_enabled() }
    }

    /// The time between two signs of life; none without a watchdog.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 3)
    }

    /// LoadX accepts clients.
    pub(crate) fn ready(&self) {
        tell(&[NotifyState::Ready, NotifyState::Status("balancing")]);
    }

    /// LoadX reads its config again; [`ready`](Self::ready) ends that.
    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("systemd is not told of the reload: {error}"),
        }
    }

    /// LoadX finishes running requests.
    pub(crate) fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("finishing running requests")]);
    }

    /// Gives a sign of life if systemd waits for one and the proxy answers.
    pub(crate) fn sign_of_life(&self, proxy: &Handle) {
        if self.watchdog.is_some() && proxy.answers_within(ANSWER_LIMIT) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// The listening sockets that systemd gives (socket activation, sd_listen_fds(3)).
pub(crate) fn inherited() -> Inherited {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for position in 0..given.len() {
        let name = names.next().unwrap_or_default();
        match given.take_tcp_listener(position) {
            Ok(Some(socket)) => sockets.push(InheritedSocket { listener: InheritedFor::Name(name), socket }),
            Ok(None) => {}
            Err(error) => tracing::warn!("the socket {name} of systemd is no TCP socket that listens: {error}"),
        }
    }
    Inherited { sockets, knowledge: None }
}

/// Tells systemd that another process is the main process of the service now.
pub(crate) fn main_process_is(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd cannot be told how LoadX is: {error}");
    }
}
