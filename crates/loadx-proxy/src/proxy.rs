//! Starting a proxy and stopping it: everything that can fail is done before a thread serves.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use loadx_core::ListenerId;
use loadx_core::config::Config;
use loadx_core::plan::{Desired, Inheritance, Plan};
use loadx_core::{Rng as _, SplitMix64, Time};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::clock::Clock;
use crate::context;
use crate::control::{self, OpenLog};
use crate::error::StartError;
use crate::handle::Handle;
use crate::limits::{CONTROL_QUEUE_MAX, EVENTS_MAX, EVENTS_PER_POLL_MAX};
use crate::listening::{self, Listening, Opened};
use crate::messages::{Mailbox, Order};
use crate::net::{InheritedSocket, Network, Tcp};
use crate::shared::Shared;
use crate::telemetry::{AccessLog, LostLines};
use crate::tls::{Keyring, TlsBackends, TlsListeners};
use crate::worker;

/// A proxy that runs.
pub struct Running {
    listening: Vec<Listening>,
    generation: u64,
    mailboxes: Vec<Mailbox<Tcp>>,
    workers: Vec<JoinHandle<()>>,
    control: JoinHandle<()>,
    handle: Handle,
    stop_control: oneshot::Sender<()>,
}

impl Running {
    /// Where clients connected at the start.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// The number of the first plan.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The way to send commands to the proxy.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Accepts no more clients, because another process does. Running exchanges and tunnels go on, and each connection ends
    /// with its next response. [`stop`](Self::stop) ends what is left.
    pub fn retire(&self) {
        for mailbox in &self.mailboxes {
            // A worker that ended needs no telling.
            let _ = mailbox.send(Order::Retire);
        }
    }

    /// Ends all exchanges and tunnels at once, because the drain after an upgrade is over.
    pub fn cut(&self) {
        for mailbox in &self.mailboxes {
            // A worker that ended has no exchanges.
            let _ = mailbox.send(Order::CutAll);
        }
    }

    /// Whether all workers have ended: after [`retire`](Self::retire), when the last client has left.
    pub fn has_ended(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
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
    }
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("a thread").to_owned();
    if thread.join().is_err() {
        tracing::error!("{name} panicked");
    }
}

/// What another process gave to this one.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Listening sockets.
    pub sockets: Vec<InheritedSocket>,
    /// What the control of the other process knew about names and backends.
    pub knowledge: Option<Inheritance>,
}

/// Starts a proxy. When this returns it accepts clients.
///
/// # Errors
/// Any [`StartError`]; nothing is left running then.
pub fn start(config: &Config, inherited: Inherited, keyring: &Arc<Keyring>) -> Result<Running, StartError> {
    let net = Tcp::new().map_err(StartError::Names)?.with(inherited.sockets);
    let seed = RandomState::new().hash_one(std::process::id());
    let Assembly { listening, mailboxes, control, ready, workers, handle, stop_control } =
        assemble(config, &net, seed, inherited.knowledge.as_ref(), keyring)?;
    let generation = control.generation();
    for address in net.close_rest() {
        tracing::warn!(
            "the socket {address} of another process is closed: no listener of the config has its address or its name"
        );
    }

    let control = spawn("loadx-control", move |runtime| {
        runtime.block_on(control::run(control)).finish();
    })?;
    // Control drops this early only if control panics, which the log tells.
    let _ = ready.blocking_recv();
    let mut threads = Vec::new();
    for (index, Crew { parts, sockets, orders }) in workers.into_iter().enumerate() {
        threads.push(spawn(&format!("loadx-worker-{index}"), move |runtime| {
            if let Err(error) = runtime.block_on(worker::run(parts, sockets, orders)) {
                tracing::error!("worker {index} cannot listen: {error}");
            }
        })?);
    }
    Ok(Running { listening, generation, mailboxes, workers: threads, control, handle, stop_control })
}

/// A proxy all of which runs in one thread.
pub struct Local<N: Network> {
    addresses: Vec<SocketAddr>,
    mailboxes: Vec<Mailbox<N>>,
    workers: Vec<tokio::task::JoinHandle<()>>,
    control: tokio::task::JoinHandle<OpenLog>,
    handle: Handle,
    stop_control: oneshot::Sender<()>,
}

impl<N: Network> Local<N> {
    /// Where clients connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The way to send commands to the proxy.
    pub fn handle(&self) -> &Handle {
        &self.handle
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
pub async fn start_local<N: Network>(
    config: &Config,
    net: &N,
    seed: u64,
    keyring: &Arc<Keyring>,
) -> Result<Local<N>, StartError> {
    let Assembly { listening, mailboxes, control, ready, workers, handle, stop_control } =
        assemble(config, net, seed, None, keyring)?;
    let addresses = listening.iter().map(|listening| listening.address).collect();
    let control = tokio::task::spawn_local(control::run(control));
    let _ = ready.await;
    let serving = workers.into_iter().map(|Crew { parts, sockets, orders }| {
        tokio::task::spawn_local(async move {
            worker::run(parts, sockets, orders).await.expect("the network gives out listeners");
        })
    });
    Ok(Local { addresses, mailboxes, workers: serving.collect(), control, handle, stop_control })
}

/// All parts of a proxy, ready to run wherever they are put.
struct Assembly<N: Network> {
    listening: Vec<Listening>,
    mailboxes: Vec<Mailbox<N>>,
    control: control::Parts<N>,
    /// Tells when workers may begin.
    ready: oneshot::Receiver<()>,
    workers: Vec<Crew<N>>,
    handle: Handle,
    stop_control: oneshot::Sender<()>,
}

/// What one worker is made of.
struct Crew<N: Network> {
    parts: context::Parts<N>,
    sockets: Vec<(ListenerId, N::Socket)>,
    orders: mpsc::UnboundedReceiver<Order<N>>,
}

fn assemble<N: Network>(
    config: &Config,
    net: &N,
    seed: u64,
    knowledge: Option<&Inheritance>,
    keyring: &Arc<Keyring>,
) -> Result<Assembly<N>, StartError> {
    let workers = worker::count(config);
    let tls = TlsListeners::new(Arc::clone(keyring));
    let prepared = tls.prepare(config, |_| None)?;
    let prepared_for_backends = TlsBackends::prepare(config)?;
    let opened = config
        .listeners
        .iter()
        .map(|listener| listening::open(net, listener, workers))
        .collect::<Result<Vec<_>, _>>()?;
    let lost = Arc::<LostLines>::default();
    let log = OpenLog::open(config, &lost)?;
    let clock = Clock::start();
    let mut seeds = SplitMix64::new(seed);
    let (mut desired, _) = Desired::new(Time::ZERO, config);
    if let Some(knowledge) = knowledge {
        desired.inherit(Time::ZERO, knowledge);
    }
    let (listening, sockets) = share_out(desired.plan(), opened, workers);
    let urls = desired.plan().listeners.iter().zip(&listening);
    let urls = urls.flat_map(|(listener, (_, addresses))| {
        addresses.iter().map(|address| Listening { address: *address, tls: listener.tls })
    });
    let urls: Vec<Listening> = urls.collect();
    tls.replace(desired.plan().listeners.iter().map(|listener| listener.id).zip(prepared), []);
    let tls_to_backends = TlsBackends::default();
    let transports = desired.plan().clusters.iter().map(|cluster| &cluster.transport);
    tls_to_backends.add(transports.zip(prepared_for_backends));
    let shared = Arc::new(Shared::new(Arc::clone(desired.plan()), workers, tls, tls_to_backends));
    let (command, commands) = mpsc::channel(CONTROL_QUEUE_MAX);
    let (events, _) = broadcast::channel(EVENTS_MAX);
    let (report_to, reports) = mpsc::channel(CONTROL_QUEUE_MAX);
    let (ask, questions) = mpsc::channel(CONTROL_QUEUE_MAX);
    let (mailboxes, orders): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let (is_ready, ready) = oneshot::channel();
    let (stop_control, stop) = oneshot::channel();
    let log_sender = log.sender.clone();
    let control = control::Parts {
        net: net.clone(),
        clock,
        desired,
        shared: Arc::clone(&shared),
        listening,
        mailboxes: mailboxes.clone(),
        reports,
        questions,
        commands,
        events: events.clone(),
        log,
        lost_log_lines: lost,
        seed: seeds.next_u64(),
        ready: is_ready,
        stop,
    };
    let crew = |(index, (sockets, orders)): (usize, (Vec<NumberedSocket<N>>, _))| {
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
    let handle = Handle::new(command, events, Arc::clone(&shared));
    Ok(Assembly { listening: urls, mailboxes, control, ready, workers, handle, stop_control })
}

/// A socket with the id of its listener.
type NumberedSocket<N> = (ListenerId, <N as Network>::Socket);

/// The addresses of each listener, and of each worker the sockets with the ids of their listeners.
type SharedOut<S> = (Vec<(ListenerId, Vec<SocketAddr>)>, Vec<Vec<(ListenerId, S)>>);

/// Shares the sockets of the listeners of `plan` out among the workers.
fn share_out<S>(plan: &Plan, opened: Vec<Opened<S>>, workers: usize) -> SharedOut<S> {
    let mut listening = Vec::new();
    let mut sockets: Vec<Vec<(ListenerId, S)>> = (0..workers).map(|_| Vec::new()).collect();
    for (listener, Opened { addresses, by_worker }) in plan.listeners.iter().zip(opened) {
        listening.push((listener.id, addresses));
        for (worker, group) in sockets.iter_mut().zip(by_worker) {
            worker.extend(group.into_iter().map(|socket| (listener.id, socket)));
        }
    }
    (listening, sockets)
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
