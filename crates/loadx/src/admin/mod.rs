//! The admin API: HTTP on a Unix socket, and over TCP with a token if the config says so.
//!
//! The API has a thread of its own: the workers and control never wait for an operator.

pub(crate) mod api;
mod dashboard;
mod describe;
mod explanations;
mod live;
mod metrics;
mod peer;
mod planned;
mod routes;
mod serve;
pub(crate) mod socket;

use std::fs;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::path::Path;

use loadx_core::config::{AdminConfig, AdminSocket, HostPort, TokenSource};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::manager::Manager;
use crate::trouble::Trouble;
use serve::TokenHash;
use socket::{AdminPath, Bound};

/// The shortest token, in bytes: shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// The most bytes of a token that LoadX reads.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// The addresses of the admin API, taken and not yet served.
pub(crate) struct Opened {
    unix: Option<Bound>,
    tcp: Option<(Vec<TcpListener>, TokenHash)>,
}

/// The admin API while it runs. Dropping it ends the API.
pub(crate) struct Admin {
    runtime: Handle,
    _stop: oneshot::Sender<()>,
    path: Option<AdminPath>,
    accepting: Vec<JoinHandle<()>>,
}

impl Admin {
    /// The runtime of the admin API, for work of the manager.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Admin {
    /// Accepts no more clients, because another process does. Running requests go on.
    pub(crate) fn leave(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
        self.path = None;
    }
}

/// Takes the addresses of the admin API. `option` is the value of `--admin`, which replaces the socket of the config.
///
/// # Errors
/// When an address that was named cannot be taken, or the token cannot be read. Without a named socket, LoadX goes on
/// without one.
///
/// `former`: the sockets over TCP of a former LoadX, which still serves; its Unix socket is replaced.
pub(crate) fn open(
    config: &AdminConfig,
    option: Option<&Path>,
    former: Option<Vec<TcpListener>>,
) -> Result<Opened, Trouble> {
    let named = match (option, &config.socket) {
        (Some(path), _) if path == Path::new("off") => AdminSocket::Off,
        (Some(path), _) => AdminSocket::Path(path.to_owned()),
        (None, socket) => socket.clone(),
    };
    let unix = match named {
        AdminSocket::Off => None,
        AdminSocket::Path(path) => Some(bind_named(&path, former.is_some())?),
        AdminSocket::Runtime => match socket::default_path().and_then(|path| socket::bind(&path, false)) {
            Ok(bound) => Some(bound),
            Err(error) => {
                tracing::warn!(
                    "loadx ctl cannot reach this LoadX: no socket for the admin API: {error}; name one with --admin PATH"
                );
                None
            }
        },
    };
    let tcp = match &config.tcp {
        None => None,
        Some((at, source)) => Some((listen(at, former.unwrap_or_default())?, token(source)?)),
    };
    Ok(Opened { unix, tcp })
}

fn bind_named(path: &Path, replaces_served: bool) -> Result<Bound, Trouble> {
    socket::bind(path, replaces_served).map_err(|error| {
        Trouble::Input(format!(
            "cannot make the admin socket {}: {error}\n  help: name a path in a directory that this user may write to, or \"off\"",
            path.display()
        ))
    })
}

/// Takes the addresses for TCP. `former`: the sockets of a former LoadX, which are used if they have the right addresses.
fn listen(at: &HostPort, mut former: Vec<TcpListener>) -> Result<Vec<TcpListener>, Trouble> {
    let taken = |error: io::Error| {
        Trouble::Input(format!(
            "cannot listen on {at} for the admin API: {error}\n  help: choose another \"address\" in \"admin\""
        ))
    };
    let addresses = std::net::ToSocketAddrs::to_socket_addrs(&(at.host.as_str(), at.port)).map_err(taken)?;
    let listeners: Result<Vec<_>, io::Error> = addresses
        .map(|wanted| {
            let is_it = |socket: &TcpListener| {
                socket.local_addr().is_ok_and(|address| {
                    address.ip() == wanted.ip() && (address.port() == wanted.port() || wanted.port() == 0)
                })
            };
            if let Some(position) = former.iter().position(is_it) {
                return Ok(former.swap_remove(position));
            }
            let listener = TcpListener::bind(wanted)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
        .collect();
    listeners.map_err(taken)
}

/// The text of a small file.
fn read_token(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn token(source: &TokenSource) -> Result<TokenHash, Trouble> {
    let (text, place) = match source {
        TokenSource::File(file) => {
            let place = format!("the file {}", file.display());
            let text = read_token(file).map_err(|error| {
                Trouble::Input(format!(
                    "cannot read the token of the admin API from {place}: {error}\n  help: put a token there"
                ))
            })?;
            (text, place)
        }
        TokenSource::Variable(name) => (std::env::var(name).unwrap_or_default(), format!("the variable {name}")),
    };
    match text.trim().as_bytes() {
        token if token.len() >= TOKEN_BYTES_MIN => Ok(TokenHash::of(token)),
        token => Err(Trouble::Input(format!(
            "the token of the admin API in {place} has {} bytes, and needs at least {TOKEN_BYTES_MIN}\n  help: make one, for example with: openssl rand -hex 32",
            token.len()
        ))),
    }
}

/// Serves the admin API in a thread of its own.
///
/// # Errors
/// When the system has no thread or no room for the sockets.
pub(crate) fn start(opened: Opened, manager: &Manager) -> Result<Admin, Trouble> {
    let failure = |error: io::Error| Trouble::Failure(format!("cannot serve the admin API: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failure)?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = serve::router(manager.clone());
    let (mut path, mut accepting, mut copies) = (None, Vec::new(), Vec::new());
    if let Some(batches) = manager.proxy().spans() {
        runtime.spawn(crate::spans::export(batches, manager.clone()));
    }
    {
        let _guard = runtime.enter();
        if let Some(bound) = opened.unix {
            let (listener, named) = bound.name().map_err(failure)?;
            let listener = tokio::net::UnixListener::from_std(listener).map_err(failure)?;
            tracing::info!("the admin API is on {}", named.path().display());
            path = Some(named);
            accepting.push(runtime.spawn(serve::unix(listener, router.clone(), manager.clone())));
        }
        if let Some((listeners, token)) = opened.tcp {
            manager.proxy().explain_for(move |sent| token.is_of(sent));
            if let Some(actions) = manager.proxy().dashboard_actions() {
                accepting.push(runtime.spawn(dashboard::obey(actions, token, manager.clone())));
            }
            for listener in listeners {
                copies.push(listener.try_clone().map_err(failure)?);
                let listener = tokio::net::TcpListener::from_std(listener).map_err(failure)?;
                if let Ok(address) = listener.local_addr() {
                    tracing::info!("the admin API is on http://{address}");
                }
                accepting.push(runtime.spawn(serve::tcp(
                    listener,
                    serve::with_token(router.clone(), token),
                    manager.clone(),
                )));
            }
        }
    }
    runtime.block_on(manager.note_admin_sockets(copies));
    let thread = std::thread::Builder::new().name("loadx-admin".to_owned());
    // The sender is dropped with `Admin`, and never sends.
    thread.spawn(move || drop(runtime.block_on(stopped))).map_err(failure)?;
    Ok(Admin { runtime: handle, _stop: stop, path, accepting })
}
