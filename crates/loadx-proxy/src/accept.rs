//! Accepting clients on the listeners of a worker, and handing them to workers that have less to do.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use loadx_core::{ListenerId, Time};
use rustix::io::Errno;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use crate::client_counts::{CountedClient, Entering};
use crate::context::Worker;
use crate::downstream::arrival;
use crate::limits::{ACCEPT_BACKLOG, ACCEPT_PAUSE, ACCEPT_QUIET, SPARE_AFTER};
use crate::messages::{Accepted, Order};
use crate::net::{Listener as _, Network};
use crate::shared::{Awaiting, Claim, Place, Places};

/// The sockets on which a worker accepts clients.
pub(crate) struct Accepting<N: Network> {
    worker: Rc<Worker<N>>,
    sockets: Vec<Socket<N>>,
}

struct Socket<N: Network> {
    listener: ListenerId,
    stream: Rc<N::Listener>,
    /// Whether another process accepts the clients that wait.
    is_shared: Rc<Cell<bool>>,
    /// Told to end the socket.
    end: Rc<Notify>,
    /// Fails when the socket is closed.
    closed: oneshot::Receiver<()>,
    accepting: JoinHandle<()>,
}

impl<N: Network> Accepting<N> {
    pub(crate) fn new(worker: &Rc<Worker<N>>) -> Self {
        Accepting { worker: Rc::clone(worker), sockets: Vec::new() }
    }

    /// Accepts clients on `socket`.
    ///
    /// # Errors
    /// When the system has no room for the socket.
    pub(crate) fn add(&mut self, listener: ListenerId, socket: N::Socket) -> std::io::Result<()> {
        let stream = Rc::new(self.worker.net.adopt(socket)?);
        let (end, is_shared) = (Rc::<Notify>::default(), Rc::<Cell<bool>>::default());
        let (open, closed) = oneshot::channel();
        let socket = (Rc::clone(&stream), Rc::clone(&is_shared));
        let accepting = spawn_local(accept(Rc::clone(&self.worker), listener, socket, Rc::clone(&end), open));
        self.sockets.push(Socket { listener, stream, is_shared, end, closed, accepting });
        Ok(())
    }

    /// Accepts no more clients, because another process has the same sockets and accepts the clients that wait.
    pub(crate) fn release(&mut self) {
        for socket in &mut self.sockets {
            socket.is_shared.set(true);
            socket.end.notify_one();
        }
        // The tasks go on until the clients that they have accepted are served.
        self.sockets.clear();
    }

    /// A descriptor of each socket, for another process.
    pub(crate) fn descriptors(&self) -> std::io::Result<Vec<(ListenerId, OwnedFd)>> {
        let descriptor = |socket: &Socket<N>| Ok((socket.listener, self.worker.net.descriptor(&socket.stream)?));
        self.sockets.iter().map(descriptor).collect()
    }

    /// Accepts no more clients on the sockets of the listeners that `ends` names. Clients that the system has accepted
    /// already are served: closing the socket would reset connections on which requests may have been sent.
    pub(crate) fn end(&mut self, ends: impl Fn(ListenerId) -> bool) -> Ended {
        let (ended, kept): (Vec<_>, _) =
            std::mem::take(&mut self.sockets).into_iter().partition(|socket| ends(socket.listener));
        self.sockets = kept;
        // The task has the only other pointer to the listener, so that the listener closes with the task's.
        let ended =
            ended.into_iter().map(|Socket { end, closed, accepting, .. }| EndedSocket { end, closed, accepting });
        Ended(ended.collect())
    }
}

/// Sockets on which a worker accepts no more clients.
pub(crate) struct Ended(Vec<EndedSocket>);

struct EndedSocket {
    end: Rc<Notify>,
    closed: oneshot::Receiver<()>,
    accepting: JoinHandle<()>,
}

impl Ended {
    /// Waits until the sockets are closed. Other processes may take their addresses then.
    pub(crate) async fn closed(&mut self) {
        self.0.iter().for_each(|socket| socket.end.notify_one());
        for socket in &mut self.0 {
            // The sender is dropped with the socket, and never sends.
            let _ = (&mut socket.closed).await;
        }
    }

    /// Waits, after [`closed`](Self::closed), until each client that the system had accepted has a place and is served.
    /// Dropping this future closes the clients that still wait for a place.
    pub(crate) async fn served(self) {
        let tasks: Vec<AbortOnDrop> = self.0.into_iter().map(|socket| AbortOnDrop(socket.accepting)).collect();
        for mut task in tasks {
            // A task that panicked has no clients left to serve.
            let _ = (&mut task.0).await;
        }
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Accepts clients until `end`. Then closes the socket, of which dropping `open` tells, and serves the clients that the
/// system has accepted.
async fn accept<N: Network>(
    worker: Rc<Worker<N>>,
    id: ListenerId,
    (listener, is_shared): (Rc<N::Listener>, Rc<Cell<bool>>),
    end: Rc<Notify>,
    open: oneshot::Sender<()>,
) {
    let mut failures = AcceptFailures::default();
    let mut crowds = Crowds::default();
    let mut full = Full::default();
    let mut waiting = Vec::new();
    loop {
        let mut silent_at = None;
        let next = poll_fn(|cx| {
            let next = listener.poll_accept(cx);
            if next.is_pending() {
                silent_at = Some(worker.pool.mark());
            }
            next
        });
        let over = failures.over_at().map(|at| worker.clock.instant(at));
        let next = tokio::select! {
            // The end first: clients may come without a pause.
            biased;
            () = end.notified() => break,
            next = next => next,
            () = sleep_until(over) => {
                failures.are_over(worker.clock.now());
                continue;
            }
        };
        if let Some(mark) = silent_at {
            worker.pool.polled_since(mark);
        }
        match next {
            Ok((stream, peer)) => {
                if !failures.is_empty() {
                    failures.end(worker.clock.now());
                }
                let Some(client) = enter(&worker, id, peer.ip().to_canonical()) else {
                    worker.metrics.borrow_mut().refused_connections += 1;
                    crowds.note(peer.ip(), worker.clock.now());
                    continue;
                };
                let claim = tokio::select! {
                    biased;
                    claim = claim(&worker, &mut full) => claim,
                    () = end.notified() => {
                        waiting.push((stream, peer));
                        break;
                    }
                };
                worker.metrics.borrow_mut().connections += 1;
                place_client(&worker, stream, Accepted { peer, listener: id }, (claim, client.keep()));
            }
            Err(error) => {
                // Out of descriptors or memory, or the client left the queue. Trying again at once would spin.
                failures.note(&error, worker.clock.now());
                if matches!(
                    error.raw_os_error().map(Errno::from_raw_os_error),
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
                ) {
                    // An idle client is worth less than one that waits.
                    worker.shed();
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let mut cx = Context::from_waker(Waker::noop());
    // As many as the system may have accepted before the end; clients that come later find no listener soon.
    while !is_shared.get()
        && waiting.len() <= ACCEPT_BACKLOG as usize
        && let Poll::Ready(Ok(client)) = listener.poll_accept(&mut cx)
    {
        waiting.push(client);
    }
    drop((listener, open));
    worker.waiting.set(worker.waiting.get() + waiting.len());
    for (stream, peer) in waiting {
        let claim = Claim::Regular(regular(&worker).await);
        worker.metrics.borrow_mut().connections += 1;
        // Not by another worker: the others may be stopping, too.
        let place = worker.shared.place(worker.index, claim, None);
        serve(&worker, stream, Accepted { peer, listener: id }, place);
        worker.waiting.set(worker.waiting.get() - 1);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Failures to accept. The log tells their beginning and their end with their number, and no more than that once in
/// [`ACCEPT_QUIET`]: near the limit of descriptors, accepting fails and succeeds in turns.
#[derive(Default)]
struct AcceptFailures {
    count: u64,
    /// Whether the log has told the beginning.
    told: bool,
    quiet_until: Time,
    /// The time of the last failure.
    last: Time,
}

impl AcceptFailures {
    fn note(&mut self, error: &std::io::Error, now: Time) {
        if !self.told && now >= self.quiet_until {
            tracing::warn!("clients cannot be accepted: {error}; LoadX goes on trying");
            self.told = true;
            self.quiet_until = now + ACCEPT_QUIET;
        }
        self.count += 1;
        self.last = now;
    }

    /// When the failures are over if none follows: perhaps no client comes, so that none is accepted.
    fn over_at(&self) -> Option<Time> {
        (self.count > 0).then(|| self.quiet_until.max(self.last + ACCEPT_QUIET))
    }

    /// Nothing failed for [`ACCEPT_QUIET`].
    fn are_over(&mut self, now: Time) {
        tracing::info!(
            "no client failed to be accepted for {} s, after {} failed attempts",
            ACCEPT_QUIET.as_secs(),
            self.count
        );
        *self = AcceptFailures { quiet_until: now, ..AcceptFailures::default() };
    }

    /// A client was accepted.
    fn end(&mut self, now: Time) {
        if self.told && now >= self.quiet_until {
            tracing::info!("clients are accepted again, after {} failed attempts", self.count);
            *self = AcceptFailures { quiet_until: now + ACCEPT_QUIET, ..AcceptFailures::default() };
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Counts a connection of an address. `None` if the address has as many connections as one address may have. The peers that
/// speak for many clients are not counted: trusted proxies, and peers that tell the client's address in the PROXY protocol.
fn enter<N: Network>(worker: &Worker<N>, listener: ListenerId, address: IpAddr) -> Option<Entering<'_>> {
    let clients = &worker.shared.clients;
    let Some((plan, position)) = worker.plan_for(listener) else { return Some(clients.uncounted()) };
    let speaks_for_many = plan.process.trusts(address)
        || plan.listeners[position].proxy_protocol.iter().any(|network| network.contains(&address));
    match plan.process.connections_per_client.most(address).filter(|_| !speaks_for_many) {
        None => Some(clients.uncounted()),
        Some(most) => clients.enter(address, most),
    }
}

/// Connections beyond the limit of their address. The log tells of them once in [`ACCEPT_QUIET`].
#[derive(Default)]
struct Crowds {
    count: u64,
    quiet_until: Time,
}

impl Crowds {
    fn note(&mut self, address: IpAddr, now: Time) {
        self.count += 1;
        if now >= self.quiet_until {
            tracing::warn!(
                "{address} has as many connections as one address may have (max_connections_per_client); LoadX has closed \
                 further ones at once: {} of all addresses since the last such line",
                self.count
            );
            *self = Crowds { count: 0, quiet_until: now + ACCEPT_QUIET };
        }
    }
}

/// What one listener knows of a lack of places.
#[derive(Default)]
struct Full<'w> {
    /// Since when no place has come free, and how many had come free then.
    since: Option<(Time, usize)>,
    /// Makes exchanges that end give up their places.
    awaiting: Option<Awaiting<'w>>,
    quiet_until: Time,
}

impl<'w> Full<'w> {
    /// Since when no place has come free.
    fn since(&mut self, places: &'w Places, now: Time) -> Time {
        let freed = places.freed();
        let since = self.since.filter(|(_, before)| *before == freed).unwrap_or((now, freed));
        self.since = Some(since);
        self.awaiting.get_or_insert_with(|| places.wait());
        since.0
    }

    fn is_over(&mut self) {
        (self.since, self.awaiting) = (None, None);
    }

    fn tell(&mut self, now: Time) {
        if now >= self.quiet_until {
            self.quiet_until = now + ACCEPT_QUIET;
            tracing::warn!(
                "all places for clients are taken (max_connections), and none has come free for {} s: further clients get 503, \
                 status endpoints aside",
                SPARE_AFTER.as_secs()
            );
        }
    }
}

/// Waits for a place, and takes a spare one when none has come free for [`SPARE_AFTER`].
async fn claim<'w, N: Network>(worker: &'w Worker<N>, full: &mut Full<'w>) -> Claim {
    let places = &worker.shared.places;
    if let Some(permit) = places.try_take() {
        full.is_over();
        return Claim::Regular(permit);
    }
    let spare = async {
        loop {
            let spare_from = full.since(places, worker.clock.now()) + SPARE_AFTER;
            if worker.clock.now() >= spare_from {
                return places.take_spare().await;
            }
            tokio::time::sleep_until(worker.clock.instant(spare_from)).await;
        }
    };
    let claim = tokio::select! {
        biased;
        permit = regular(worker) => Claim::Regular(permit),
        permit = spare => Claim::Spare(permit),
    };
    match &claim {
        Claim::Regular(_) => full.is_over(),
        Claim::Spare(_) => full.tell(worker.clock.now()),
    }
    claim
}

/// Waits for a place among all client connections. When there is none, an idle one has to go; and
/// while somebody waits, connections end with their exchange.
async fn regular<N: Network>(worker: &Worker<N>) -> tokio::sync::OwnedSemaphorePermit {
    let places = &worker.shared.places;
    if let Some(permit) = places.try_take() {
        return permit;
    }
    let _waiting = places.wait();
    let somebody_goes = worker.shed();
    for mailbox in worker.mailboxes.iter().filter(|_| !somebody_goes) {
        // A worker that ended has no idle connections.
        let _ = mailbox.send(Order::Shed);
    }
    places.take().await
}

/// Serves a client here, or hands it to a worker that has clearly less to do.
fn place_client<N: Network>(
    worker: &Rc<Worker<N>>,
    stream: N::Stream,
    accepted: Accepted,
    (claim, client): (Claim, Option<CountedClient>),
) {
    let loads = &worker.shared.loads;
    let mine = loads[worker.index].connections();
    let least = (0..loads.len()).min_by_key(|index| loads[*index].connections()).unwrap_or(worker.index);
    let theirs = loads[least].connections();
    // The system spreads clients by a hash of their address: well when they are many. A difference
    // of an eighth is left alone, so that handing over stays rare.
    let here = mine <= theirs + theirs / 8;
    // Counted at once, so that the next client finds the count as it will be.
    let place = worker.shared.place(if here { worker.index } else { least }, claim, client);
    if here {
        return serve(worker, stream, accepted, place);
    }
    match worker.net.pack(stream) {
        Ok(parcel) => {
            // A worker that retires ends with its last client.
            if let Err(SendError(Order::Serve(parcel, accepted, place))) =
                worker.mailboxes[least].send(Order::Serve(parcel, accepted, place))
            {
                match worker.net.unpack(parcel) {
                    Ok(stream) => serve(worker, stream, accepted, place),
                    Err(error) => tracing::debug!("a client was lost before it was served: {error}"),
                }
            }
        }
        Err(error) => tracing::debug!("a client was lost before it was served: {error}"),
    }
}

/// Serves a client from its first byte.
pub(crate) fn serve<N: Network>(worker: &Rc<Worker<N>>, stream: N::Stream, accepted: Accepted, place: Place) {
    spawn_local(arrival::serve(Rc::clone(worker), stream, accepted, place));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn failures_that_come_and_go_do_not_flood_the_log() {
        let error = std::io::Error::other("too many open files");
        let mut failures = AcceptFailures::default();
        let mut lines = 0;
        let mut told = false;
        // A minute in which accepting fails and succeeds in turns.
        for step in 0..600 {
            let now = Time::ZERO + Duration::from_millis(100 * step);
            if step % 2 == 0 {
                failures.note(&error, now);
            } else {
                failures.end(now);
            }
            lines += u32::from(failures.told != told);
            told = failures.told;
        }
        assert!((2..=6).contains(&lines), "{lines}");
    }

    #[test]
    fn failures_are_over_when_none_follows() {
        let error = std::io::Error::other("too many open files");
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut failures = AcceptFailures::default();
        assert_eq!(failures.over_at(), None);
        failures.note(&error, at(1));
        failures.note(&error, at(3));
        failures.end(at(4));
        assert_eq!(failures.over_at(), Some(at(13)), "the client at 4 s came too soon for the second line");
        failures.are_over(at(13));
        assert!(failures.is_empty() && failures.over_at().is_none());
        failures.note(&error, at(14));
        assert!(failures.told, "another flood is told at once");
        failures.end(at(25));
        assert_eq!(failures.over_at(), None);
    }
}
