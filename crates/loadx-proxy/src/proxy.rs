//! Starting a proxy and stopping it: everything that can fail is done before a thread serves.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use loadx_core::config::{Config, HostPort};
use loadx_core::{Cluster, Ids, Rng as _, SplitMix64, Time};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};

use crate::access_log::{self, AccessLog, Batches, Lost};
use crate::clock::Clock;
use crate::context;
use crate::control;
use crate::limits::{CONTROL_QUEUE_MAX, EVENTS_PER_POLL_MAX};
use crate::messages::{Mailbox, Order};
use crate::net::{Network, Tcp};
use crate::shared::{Places, Settings, Shared};
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
    stop_control: oneshot::Sender<()>,
    log: Option<access_log::Writer>,
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
    let Assembly { addresses, mailboxes, control, ready, workers, stop_control, log } = assemble(config, &net, seed)?;
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
    Ok(Running { addresses, mailboxes, workers: threads, control, stop_control, log })
}

/// A proxy all of which runs in one thread.
pub struct Local<N: Network> {
    addresses: Vec<SocketAddr>,
    mailboxes: Vec<Mailbox<N::Parcel>>,
    workers: Vec<tokio::task::JoinHandle<()>>,
    control: tokio::task::JoinHandle<()>,
    stop_control: oneshot::Sender<()>,
}

impl<N: Network> Local<N> {
    /// Where clients connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
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
    let Assembly { addresses, mailboxes, control, ready, workers, stop_control, log: _ } = assemble(config, net, seed)?;
    let control = tokio::task::spawn_local(control::run(control));
    let _ = ready.await;
    let serving = workers.into_iter().map(|Crew { parts, sockets, orders }| {
        tokio::task::spawn_local(async move {
            worker::run(parts, sockets, orders).await.expect("the network gives out listeners");
        })
    });
    Ok(Local { addresses, mailboxes, workers: serving.collect(), control, stop_control })
}

/// All parts of a proxy, ready to run wherever they are put.
struct Assembly<N: Network> {
    addresses: Vec<SocketAddr>,
    mailboxes: Vec<Mailbox<N::Parcel>>,
    control: control::Parts<N>,
    /// Tells when workers may begin.
    ready: oneshot::Receiver<()>,
    workers: Vec<Crew<N>>,
    stop_control: oneshot::Sender<()>,
    log: Option<access_log::Writer>,
}

/// What one worker is made of.
struct Crew<N: Network> {
    parts: context::Parts<N>,
    sockets: Vec<N::Socket>,
    orders: mpsc::UnboundedReceiver<Order<N::Parcel>>,
}

fn assemble<N: Network>(config: &Config, net: &N, seed: u64) -> Result<Assembly<N>, StartError> {
    let workers = config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let (addresses, sockets) = listen(net, &config.listen, workers)?;
    let lost = Arc::<Lost>::default();
    let (batches, log) = open_log(config, &lost)?;
    let clock = Clock::start();
    let mut seeds = SplitMix64::new(seed);
    let mut cluster = Cluster::new(config.algorithm, config.health.clone());
    cluster.update(Time::ZERO, config.backends.clone(), &mut Ids::default());
    let shared = Arc::new(Shared {
        view: ArcSwap::new(cluster.view()),
        settings: Settings::new(config),
        places: Places::new(config.max_connections),
        loads: (0..workers).map(|_| Default::default()).collect(),
    });
    let (report_to, reports) = mpsc::channel(CONTROL_QUEUE_MAX);
    let (ask, questions) = mpsc::channel(CONTROL_QUEUE_MAX);
    let (mailboxes, orders): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let (is_ready, ready) = oneshot::channel();
    let (stop_control, stop) = oneshot::channel();
    let control = control::Parts {
        net: net.clone(),
        clock,
        cluster,
        shared: Arc::clone(&shared),
        listening: addresses.clone(),
        mailboxes: mailboxes.clone(),
        reports,
        questions,
        lost_log_lines: lost,
        seed: seeds.next_u64(),
        ready: is_ready,
        stop,
    };
    let crew = |(index, (sockets, orders)): (usize, (Vec<N::Socket>, _))| {
        let parts = context::Parts {
            net: net.clone(),
            index,
            clock,
            shared: Arc::clone(&shared),
            mailboxes: mailboxes.clone(),
            reports: report_to.clone(),
            questions: ask.clone(),
            log: AccessLog::new(batches.clone()),
            seed: seeds.next_u64(),
        };
        Crew { parts, sockets, orders }
    };
    let workers = sockets.into_iter().zip(orders).enumerate().map(crew).collect();
    Ok(Assembly { addresses, mailboxes, control, ready, workers, stop_control, log })
}

fn open_log(config: &Config, lost: &Arc<Lost>) -> Result<(Option<Batches>, Option<access_log::Writer>), StartError> {
    let Some(log) = &config.access_log else { return Ok((None, None)) };
    let (batches, writer) = access_log::start(log, lost)
        .map_err(|error| StartError::LogFile(log.file.clone().unwrap_or_else(|| "standard output".into()), error))?;
    Ok((Some(batches), Some(writer)))
}

/// Of each worker, its listeners.
type ByWorker<S> = Vec<Vec<S>>;

/// Takes every address that the name to listen on has; for each worker, a socket of each.
fn listen<N: Network>(
    net: &N,
    at: &HostPort,
    workers: usize,
) -> Result<(Vec<SocketAddr>, ByWorker<N::Socket>), StartError> {
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
