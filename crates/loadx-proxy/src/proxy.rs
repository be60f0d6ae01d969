//! Starting a proxy and stopping it: everything that can fail is done before a thread serves.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use loadx_core::config::{Config, HostPort, ListenerConfig};
use loadx_core::plan::Desired;
use loadx_core::{Rng as _, SplitMix64, Time};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::context;
use crate::control;
use crate::limits::{CONTROL_QUEUE_MAX, EVENTS_PER_POLL_MAX};
use crate::messages::{Command, Mailbox, Order};
use crate::net::{Network, Tcp};
use crate::shared::Shared;
use crate::telemetry::{self, AccessLog, LogSender, LostLines};
use crate::worker;

/// Why a proxy could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The name to listen on has no address.
    ListenName(HostPort, io::Error),
    /// The address to listen on cannot be taken.
    Listen(SocketAddr, io::Error),
    /// How the system resolves names cannot be read.
    Names(io::Error),
    /// The access log's file cannot be opened.
    LogFile(PathBuf, io::Error),
    /// The system refused what every program needs: threads, descriptors.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::ListenName(at, error) => {
                write!(
                    f,
                    "cannot listen on \"{}\": {error}\n  help: set \"proxy_host\" to an address of this machine, or to \"0.0.0.0\" for all of them",
                    at.host
                )
            }
            StartError::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: port {port} is in use by another process\n  help: stop that process (`lsof -i :{port}` names it), or choose another \"proxy_port\"",
                    port = address.port()
                )
            }
            StartError::Listen(address, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "cannot listen on {address}: permission denied\n  help: ports below 1024 need privileges (CAP_NET_BIND_SERVICE); choose another \"proxy_port\", or grant them"
                )
            }
            StartError::Listen(address, error) => {
                write!(
                    f,
                    "cannot listen on {address}: {error}\n  help: \"proxy_host\" must be an address of this machine"
                )
            }
            StartError::Names(error) => {
                write!(
                    f,
                    "cannot resolve names: {error}\n  help: /etc/resolv.conf must be readable and name a DNS server"
                )
            }
            StartError::LogFile(path, error) => {
                write!(
                    f,
                    "cannot open the access log \"{}\": {error}\n  help: its directory must exist and be writable; \"log_file\" names it",
                    path.display()
                )
            }
            StartError::System(error) => {
                write!(
                    f,
                    "cannot start: {error}\n  help: the system lacks threads or file descriptors; see `ulimit -a`"
                )
            }
        }
    }
}

impl std::error::Error for StartError {}

/// A proxy that runs.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<SocketAddr>,
    mailboxes: Vec<Mailbox<<Tcp as Network>::Parcel>>,
    workers: Vec<JoinHandle<()>>,
    control: JoinHandle<()>,
    command: mpsc::Sender<Command>,
    listeners: Vec<ListenerConfig>,
    stop_control: oneshot::Sender<()>,
    log: Option<telemetry::LogWriter>,
}

impl Running {
    /// Where clients connect; port 0 has become a real one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Makes another config the plan. Exchanges that run keep the plan that they began with.
    ///
    /// # Errors
    /// When the config has other listeners, or the proxy is stopping; nothing has changed then.
    pub fn apply(&self, config: Config) -> Result<(), ApplyError> {
        let done = send_config(&self.command, &self.listeners, config)?;
        done.blocking_recv().map_err(|_| ApplyError::Stopping)
    }

    /// Accepts no more clients, finishes what runs within the grace, and ends.
    pub fn stop(self) {
        for mailbox in &self.mailboxes {
            // A worker that ended needs no telling.
            let _ = mailbox.send(Order::Stop);
        }
        drop(self.mailboxes);
        for worker in self.workers {
            join(worker);
        }
        let _ = self.stop_control.send(());
        join(self.control);
        if let Some(log) = self.log {
            log.join();
        }
    }
}

/// Why a config could not be made the plan of a running proxy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The config has other listeners than those that the proxy was started with.
    Listeners,
    /// The proxy is stopping, or too many configs wait.
    Stopping,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ApplyError::Listeners => "the config has other listeners; that takes a restart",
            ApplyError::Stopping => "the proxy is stopping",
        })
    }
}

impl std::error::Error for ApplyError {}

fn send_config(
    command: &mpsc::Sender<Command>,
    listeners: &[ListenerConfig],
    config: Config,
) -> Result<oneshot::Receiver<()>, ApplyError> {
    if config.listeners != listeners {
        return Err(ApplyError::Listeners);
    }
    let (reply, done) = oneshot::channel();
    command.try_send(Command::Apply(Box::new(config), reply)).map_err(|_| ApplyError::Stopping)?;
    Ok(done)
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("a thread").to_owned();
    if thread.join().is_err() {
        tracing::error!("{name} panicked");
    }
}

/// Starts a proxy. When this returns it accepts clients.
///
/// # Errors
/// Any [`StartError`]; nothing is left running then.
pub fn start(config: &Config) -> Result<Running, StartError> {
    let net = Tcp::new().map_err(StartError::Names)?;
    let seed = RandomState::new().hash_one(std::process::id());
    let Assembly { addresses, mailboxes, control, ready, workers, command, stop_control, log } =
        assemble(config, &net, seed)?;
    let control = spawn("loadx-control", move |runtime| {
        runtime.block_on(control::run(control));
    })?;
    // Control is the only one to drop this early, by a panic that it has logged.
    let _ = ready.blocking_recv();
    let mut threads = Vec::new();
    for (index, Crew { parts, sockets, orders }) in workers.into_iter().enumerate() {
        threads.push(spawn(&format!("loadx-worker-{index}"), move |runtime| {
            if let Err(error) = runtime.block_on(worker::run(parts, sockets, orders)) {
                tracing::error!("worker {index} cannot listen: {error}");
            }
        })?);
    }
    let listeners = config.listeners.clone();
    Ok(Running { addresses, mailboxes, workers: threads, control, command, listeners, stop_control, log })
}

/// A proxy all of which runs in one thread.
pub struct Local<N: Network> {
    addresses: Vec<SocketAddr>,
    mailboxes: Vec<Mailbox<N::Parcel>>,
    workers: Vec<tokio::task::JoinHandle<()>>,
    control: tokio::task::JoinHandle<()>,
    command: mpsc::Sender<Command>,
    listeners: Vec<ListenerConfig>,
    stop_control: oneshot::Sender<()>,
}

impl<N: Network> Local<N> {
    /// Where clients connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The same as [`Running::apply`].
    ///
    /// # Errors
    /// The same as those of [`Running::apply`].
    pub async fn apply(&self, config: Config) -> Result<(), ApplyError> {
        let done = send_config(&self.command, &self.listeners, config)?;
        done.await.map_err(|_| ApplyError::Stopping)
    }

    /// The same as [`Running::stop`].
    pub async fn stop(self) {
        for mailbox in &self.mailboxes {
            // A worker that ended needs no telling.
            let _ = mailbox.send(Order::Stop);
        }
        for worker in self.workers {
            worker.await.expect("no worker panics");
        }
        let _ = self.stop_control.send(());
        self.control.await.expect("control does not panic");
    }
}

/// Starts a proxy within the runtime of the calling task, which must be a local one: its workers and its
/// control become tasks. On a simulated network, with the runtime's time paused, all that it does follows
/// from `seed`.
///
/// # Errors
/// Any [`StartError`]; nothing is left running then.
pub async fn start_local<N: Network>(config: &Config, net: &N, seed: u64) -> Result<Local<N>, StartError> {
    let Assembly { addresses, mailboxes, control, ready, workers, command, stop_control, log: _ } =
        assemble(config, net, seed)?;
    let control = tokio::task::spawn_local(control::run(control));
    let _ = ready.await;
    let serving = workers.into_iter().map(|Crew { parts, sockets, orders }| {
        tokio::task::spawn_local(async move {
            worker::run(parts, sockets, orders).await.expect("the network gives out listeners");
        })
    });
    let listeners = config.listeners.clone();
    Ok(Local { addresses, mailboxes, workers: serving.collect(), control, command, listeners, stop_control })
}

/// All parts of a proxy, ready to run wherever they are put.
struct Assembly<N: Network> {
    addresses: Vec<SocketAddr>,
    mailboxes: Vec<Mailbox<N::Parcel>>,
    control: control::Parts<N>,
    /// Tells when workers may begin.
    ready: oneshot::Receiver<()>,
    workers: Vec<Crew<N>>,
    command: mpsc::Sender<Command>,
    stop_control: oneshot::Sender<()>,
    log: Option<telemetry::LogWriter>,
}

/// What one worker is made of.
struct Crew<N: Network> {
    parts: context::Parts<N>,
    sockets: Vec<Numbered<N::Socket>>,
    orders: mpsc::UnboundedReceiver<Order<N::Parcel>>,
}

fn assemble<N: Network>(config: &Config, net: &N, seed: u64) -> Result<Assembly<N>, StartError> {
    let workers = config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let (addresses, sockets) = listen_all(net, config, workers)?;
    let lost = Arc::<LostLines>::default();
    let (log_sender, log) = open_log(config, &lost)?;
    let clock = Clock::start();
    let mut seeds = SplitMix64::new(seed);
    let (desired, _) = Desired::new(Time::ZERO, config);
    let shared = Arc::new(Shared::new(Arc::clone(desired.plan()), workers));
    let (command, commands) = mpsc::channel(CONTROL_QUEUE_MAX);
    let (report_to, reports) = mpsc::channel(CONTROL_QUEUE_MAX);
    let (ask, questions) = mpsc::channel(CONTROL_QUEUE_MAX);
    let (mailboxes, orders): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let (is_ready, ready) = oneshot::channel();
    let (stop_control, stop) = oneshot::channel();
    let control = control::Parts {
        net: net.clone(),
        clock,
        desired,
        shared: Arc::clone(&shared),
        listening: addresses.clone(),
        mailboxes: mailboxes.clone(),
        reports,
        questions,
        commands,
        lost_log_lines: lost,
        seed: seeds.next_u64(),
        ready: is_ready,
        stop,
    };
    let crew = |(index, (sockets, orders)): (usize, (Vec<Numbered<N::Socket>>, _))| {
        let parts = context::Parts {
            net: net.clone(),
            index,
            clock,
            shared: Arc::clone(&shared),
            mailboxes: mailboxes.clone(),
            reports: report_to.clone(),
            questions: ask.clone(),
            log: AccessLog::new(log_sender.clone()),
            seed: seeds.next_u64(),
        };
        Crew { parts, sockets, orders }
    };
    let workers = sockets.into_iter().zip(orders).enumerate().map(crew).collect();
    Ok(Assembly { addresses, mailboxes, control, ready, workers, command, stop_control, log })
}

fn open_log(
    config: &Config,
    lost: &Arc<LostLines>,
) -> Result<(Option<LogSender>, Option<telemetry::LogWriter>), StartError> {
    let Some(log) = &config.access_log else { return Ok((None, None)) };
    let (sender, writer) = telemetry::start_log(log, lost)
        .map_err(|error| StartError::LogFile(log.file.clone().unwrap_or_else(|| "standard output".into()), error))?;
    Ok((Some(sender), Some(writer)))
}

/// A socket with the position of its listener in the plan.
type Numbered<S> = (u32, S);

/// The addresses that were taken, and the sockets of each worker.
type Listening<S> = (Vec<SocketAddr>, ByWorker<S>);

/// Of each worker, its listeners.
type ByWorker<S> = Vec<Vec<S>>;

/// Takes the addresses of all listeners; for each worker, a socket of each with the number of its listener.
fn listen_all<N: Network>(
    net: &N,
    config: &Config,
    workers: usize,
) -> Result<Listening<Numbered<N::Socket>>, StartError> {
    let mut addresses = Vec::new();
    let mut sockets: ByWorker<Numbered<N::Socket>> = (0..workers).map(|_| Vec::new()).collect();
    for (number, listener) in config.listeners.iter().enumerate() {
        let (taken, groups) = listen(net, &listener.at, workers)?;
        addresses.extend(taken);
        for (worker, group) in sockets.iter_mut().zip(groups) {
            worker.extend(group.into_iter().map(|socket| (number as u32, socket)));
        }
    }
    Ok((addresses, sockets))
}

/// Takes every address that the name to listen on has; for each worker, a socket of each.
fn listen<N: Network>(net: &N, at: &HostPort, workers: usize) -> Result<Listening<N::Socket>, StartError> {
    let mut addresses: Vec<SocketAddr> = (at.host.as_str(), at.port)
        .to_socket_addrs()
        .map_err(|error| StartError::ListenName(at.clone(), error))?
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut taken = Vec::new();
    let mut sockets: ByWorker<N::Socket> = (0..workers).map(|_| Vec::new()).collect();
    for address in &addresses {
        let group = match net.listen(*address, workers) {
            // A name such as localhost has an IPv6 address also where the system has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && addresses.len() > 1 => continue,
            group => group.map_err(|error| StartError::Listen(*address, error))?,
        };
        let first = group.first().expect("there is at least one worker");
        taken.push(net.address(first).map_err(StartError::System)?);
        for (worker, socket) in sockets.iter_mut().zip(group) {
            worker.push(socket);
        }
    }
    match (taken.is_empty(), addresses.first()) {
        (true, Some(address)) => Err(StartError::Listen(*address, io::ErrorKind::AddrNotAvailable.into())),
        _ => Ok((taken, sockets)),
    }
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .max_io_events_per_tick(EVENTS_PER_POLL_MAX)
        .build_local(LocalOptions::default())
}

fn spawn(name: &str, body: impl FnOnce(LocalRuntime) + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(move || match runtime() {
            Ok(runtime) => body(runtime),
            Err(error) => tracing::error!("a thread could not set itself up: {error}"),
        })
        .map_err(StartError::System)
}
