//! One thread that owns its connections: it accepts, serves, and never waits for another worker.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use loadx_core::{Backend, BackendId, Observation, Rng as _, SplitMix64};
use loadx_http::Request;
use slab::Slab;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::spawn_local;

use crate::access_log::{AccessLog, Line};
use crate::buffers::Buffers;
use crate::client;
use crate::clock::Clock;
use crate::control::{Endpoint, Question, Report};
use crate::exchange::{Incoming, RequestId};
use crate::limits::ACCEPT_PAUSE;
use crate::metrics::{Ending, Shard};
use crate::net::{Listener, Network};
use crate::pool::Pool;
use crate::reply::ErrorReply;
use crate::shared::{LocalView, OpenConnection, Settings, Shared};

/// What others ask of a worker.
#[derive(Debug)]
pub(crate) enum Order<P> {
    /// Take over a client that another worker accepted.
    Serve(P, SocketAddr, Place),
    /// Close an idle client connection, if there is one: somebody waits for its place.
    Shed,
    /// Tell what was counted.
    Measure(oneshot::Sender<Box<Shard>>),
    /// Accept no more, finish what runs, end.
    Stop,
}

/// The way to a worker.
pub(crate) type Mailbox<P> = mpsc::UnboundedSender<Order<P>>;

/// What a worker is made of.
pub(crate) struct Parts<N: Network> {
    pub(crate) net: N,
    pub(crate) index: usize,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) sockets: Vec<N::Socket>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order<N::Parcel>>,
    /// The ways to all workers, by index.
    pub(crate) mailboxes: Vec<Mailbox<N::Parcel>>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) questions: mpsc::Sender<Question>,
    pub(crate) log: AccessLog,
    pub(crate) seed: u64,
}

/// What the tasks of one worker share.
pub(crate) struct Worker<N: Network> {
    pub(crate) net: N,
    pub(crate) clock: Clock,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) pool: Pool<N::Stream>,
    pub(crate) metrics: RefCell<Shard>,
    index: usize,
    shared: Arc<Shared>,
    /// The published view, held by this worker so that taking it costs no shared count.
    view: RefCell<Rc<LocalView>>,
    log: AccessLog,
    mailboxes: Vec<Mailbox<N::Parcel>>,
    reports: mpsc::Sender<Report>,
    questions: mpsc::Sender<Question>,
    ids: RefCell<SplitMix64>,
    /// All clients, to be reached when something concerns idle ones.
    sessions: RefCell<Slab<Rc<SessionState>>>,
    stopping: Cell<bool>,
    ended: Notify,
}

/// Runs a worker until it is told to stop and what runs has finished, or the grace is over.
///
/// # Errors
/// When a listener cannot be used.
pub(crate) async fn run<N: Network>(parts: Parts<N>) -> std::io::Result<()> {
    let grace = parts.shared.settings.timeouts.shutdown_grace;
    let mut orders = parts.orders;
    let listeners = parts
        .sockets
        .into_iter()
        .map(|socket| parts.net.adopt(socket).map(Rc::new))
        .collect::<std::io::Result<Vec<_>>>()?;
    let worker = Rc::new(Worker {
        net: parts.net,
        clock: parts.clock,
        buffers: Rc::default(),
        pool: Pool::new(),
        metrics: RefCell::new(Shard::new()),
        index: parts.index,
        view: RefCell::new(LocalView::new(parts.shared.view.load_full())),
        shared: parts.shared,
        log: parts.log,
        mailboxes: parts.mailboxes,
        reports: parts.reports,
        questions: parts.questions,
        ids: RefCell::new(SplitMix64::new(parts.seed)),
        sessions: RefCell::default(),
        stopping: Cell::new(false),
        ended: Notify::new(),
    });
    let accepting: Vec<_> =
        listeners.into_iter().map(|listener| spawn_local(accept(Rc::clone(&worker), listener))).collect();
    let flushing = spawn_local({
        let worker = Rc::clone(&worker);
        async move { worker.log.flush_regularly().await }
    });
    let sweeping = spawn_local(sweep(Rc::clone(&worker)));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Serve(parcel, peer, place) => match worker.net.unpack(parcel) {
                Ok(stream) => worker.serve(stream, peer, place),
                Err(error) => tracing::warn!("a client that was handed over is lost: {error}"),
            },
            Order::Shed => worker.shed(),
            Order::Measure(reply) => drop(reply.send(Box::new(worker.metrics.borrow().clone()))),
            Order::Stop => break,
        }
    }
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    worker.stop();
    if tokio::time::timeout(grace, worker.all_ended()).await.is_err() {
        tracing::warn!(
            connections = worker.sessions.borrow().len(),
            "the shutdown grace of {} s is over; what still runs is cut",
            grace.as_secs_f64()
        );
    }
    flushing.abort();
    sweeping.abort();
    worker.pool.clear();
    worker.log.flush();
    Ok(())
}

/// Accepts clients until aborted.
async fn accept<N: Network>(worker: Rc<Worker<N>>, listener: Rc<N::Listener>) {
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, peer)) => {
                let permit = worker.permit().await;
                worker.metrics.borrow_mut().connections += 1;
                worker.place_client(stream, peer, permit);
            }
            Err(error) => {
                // Out of descriptors or memory, or the client left the queue. Trying again at once would spin.
                tracing::warn!("a client could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Once a second: closes idle backend connections that are too old or to backends out of rotation.
async fn sweep<N: Network>(worker: Rc<Worker<N>>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        worker.view();
        worker.pool.sweep(worker.clock.now());
    }
}

impl<N: Network> Worker<N> {
    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// The backends in rotation. A new view also closes idle connections to those that left.
    pub(crate) fn view(&self) -> Rc<LocalView> {
        let published = self.shared.view.load();
        let mut held = self.view.borrow_mut();
        if !held.is(&published) {
            *held = LocalView::new(Arc::clone(&published));
            self.pool.retain_admitted(&held);
        }
        Rc::clone(&held)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(crate) fn next_request_id(&self) -> RequestId {
        RequestId(self.ids.borrow_mut().next_u64())
    }

    /// Waits for a place among all client connections. When there is none, an idle one has to go; and
    /// while somebody waits, connections end with their exchange.
    async fn permit(&self) -> OwnedSemaphorePermit {
        let places = &self.shared.places;
        if let Some(permit) = places.try_take() {
            return permit;
        }
        let _waiting = places.wait();
        for mailbox in &self.mailboxes {
            // A worker that ended has no idle connections.
            let _ = mailbox.send(Order::Shed);
        }
        places.take().await
    }

    /// Serves a client here, or hands it to a worker that has clearly less to do.
    fn place_client(self: &Rc<Self>, stream: N::Stream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let loads = &self.shared.loads;
        let mine = loads[self.index].connections();
        let least = (0..loads.len()).min_by_key(|index| loads[*index].connections()).unwrap_or(self.index);
        let theirs = loads[least].connections();
        // The system spreads clients by a hash of their address: well when they are many. A difference
        // of an eighth is left alone, so that handing over stays rare.
        let here = mine <= theirs + theirs / 8;
        // Counted at once, so that the next client finds the count as it will be.
        let place =
            Place { _open: self.shared.count_connection(if here { self.index } else { least }), _permit: permit };
        if here {
            return self.serve(stream, peer, place);
        }
        match self.net.pack(stream) {
            Ok(parcel) => {
                if let Err(refused) = self.mailboxes[least].send(Order::Serve(parcel, peer, place)) {
                    tracing::debug!("worker {least} ended, a client is lost: {refused}");
                }
            }
            Err(error) => tracing::debug!("a client was lost before it was served: {error}"),
        }
    }

    fn serve(self: &Rc<Self>, stream: N::Stream, peer: SocketAddr, place: Place) {
        let worker = Rc::clone(self);
        spawn_local(async move {
            client::serve(worker, stream, peer).await;
            drop(place);
        });
    }

    /// Whether a connection may serve another request after the one it serves now.
    pub(crate) fn keeps_connections(&self) -> bool {
        !self.is_stopping() && !self.shared.places.is_awaited()
    }

    /// Closes one idle client connection, if there is one.
    fn shed(&self) {
        let sessions = self.sessions.borrow();
        let idle = sessions.iter().find(|(_, session)| session.idle.get() && !session.close.get());
        if let Some((_, session)) = idle {
            session.close.set(true);
            session.waker.wake_by_ref();
        }
    }

    fn stop(&self) {
        self.stopping.set(true);
        self.wake_sessions();
    }

    fn wake_sessions(&self) {
        for (_, session) in self.sessions.borrow().iter() {
            session.waker.wake_by_ref();
        }
    }

    async fn all_ended(&self) {
        while !self.sessions.borrow().is_empty() {
            self.ended.notified().await;
        }
    }

    /// Tells control how a backend failed. When control cannot keep up, the report is dropped: the
    /// next failure brings another.
    pub(crate) fn report(&self, backend: BackendId, observation: Observation) {
        let _ = self.reports.try_send(Report { backend, observation });
    }

    /// The endpoint that the request asks for, if it asks for one that is on.
    pub(crate) fn endpoint(&self, request: &Request<'_, '_>) -> Option<Endpoint> {
        let path = request.path_and_query();
        if !path.starts_with("/__") || !matches!(request.method(), "GET" | "HEAD") {
            return None;
        }
        let endpoint = Endpoint::of_path(path.split('?').next().unwrap_or(path))?;
        (endpoint != Endpoint::Metrics || self.settings().metrics).then_some(endpoint)
    }

    /// Has control answer an endpoint.
    pub(crate) async fn ask(&self, endpoint: Endpoint) -> (u16, Vec<u8>) {
        let (reply, answer) = oneshot::channel();
        if self.questions.send(Question { endpoint, reply }).await.is_ok()
            && let Ok(answer) = answer.await
        {
            return answer;
        }
        (503, b"{\"status\":\"stopping\"}\n".to_vec())
    }

    /// Counts and logs an exchange that ended.
    pub(crate) fn account(&self, account: &Account<'_>) {
        let Account { incoming, status, broke_off, content, backend, tries, error } = *account;
        let now = self.clock.now();
        let took = now.since(incoming.began);
        let mut metrics = self.metrics.borrow_mut();
        metrics.retries += tries as u64 - 1;
        metrics.record(&Ending { now, took, status, error: status >= 500 || broke_off, backend });
        drop(metrics);
        self.log.write(&Line {
            at: self.clock.wall(now),
            client: incoming.client,
            method: incoming.method(),
            target: incoming.target(),
            status,
            bytes: content,
            took,
            backend: backend.map(Backend::name),
            tries,
            id: incoming.id,
            error,
        });
    }

    /// Counts and logs a request that was refused before it became an exchange.
    pub(crate) fn log_refusal(&self, client: IpAddr, id: RequestId, reply: &ErrorReply, bytes: u64) {
        let now = self.clock.now();
        let took = Duration::ZERO;
        let error = reply.status >= 500;
        self.metrics.borrow_mut().record(&Ending { now, took, status: reply.status, error, backend: None });
        self.log.write(&Line {
            at: self.clock.wall(now),
            client,
            method: b"-",
            target: b"-",
            status: reply.status,
            bytes,
            took,
            backend: None,
            tries: 0,
            id,
            error: Some(&reply.message),
        });
    }
}

/// An exchange that ended, as it is counted and logged.
#[derive(Debug)]
pub(crate) struct Account<'a> {
    pub(crate) incoming: &'a Incoming,
    pub(crate) status: u16,
    /// Whether the client got only part of the response.
    pub(crate) broke_off: bool,
    /// Content sent to the client, in bytes.
    pub(crate) content: u64,
    pub(crate) backend: Option<&'a Backend>,
    pub(crate) tries: usize,
    pub(crate) error: Option<&'a str>,
}

/// A client's claim to be connected: its place among all connections, and in its worker's count.
#[derive(Debug)]
pub(crate) struct Place {
    _open: OpenConnection,
    _permit: OwnedSemaphorePermit,
}

/// A client on its worker's list, while it is served.
pub(crate) struct Session<N: Network> {
    worker: Rc<Worker<N>>,
    key: usize,
    state: Rc<SessionState>,
}

/// What a worker knows of each client.
struct SessionState {
    /// Wakes the client's task.
    waker: Waker,
    /// Whether it has been served and has not begun another request.
    idle: Cell<bool>,
    /// Whether it has to go when it is idle.
    close: Cell<bool>,
}

impl<N: Network> Session<N> {
    /// Puts the calling task on the list.
    pub(crate) async fn enroll(worker: &Rc<Worker<N>>) -> Self {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let state = Rc::new(SessionState { waker, idle: Cell::new(false), close: Cell::new(false) });
        let key = worker.sessions.borrow_mut().insert(Rc::clone(&state));
        Session { worker: Rc::clone(worker), key, state }
    }

    /// Notes that the client has been served and has, or has not, begun another request.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.state.idle.set(idle);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state.idle.get()
    }

    /// Whether this connection, having nothing to do, is to close.
    pub(crate) fn should_close(&self) -> bool {
        self.state.close.get() || self.worker.is_stopping()
    }
}

impl<N: Network> Drop for Session<N> {
    fn drop(&mut self) {
        self.worker.sessions.borrow_mut().remove(self.key);
        self.worker.ended.notify_one();
    }
}
