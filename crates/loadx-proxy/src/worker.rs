//! One thread that owns its connections: it accepts, serves, and never waits for another worker.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loadx_core::Time;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::spawn_local;

use crate::context::{Parts, Worker};
use crate::downstream::client::Client;
use crate::downstream::h1;
use crate::downstream::parking::Parked;
use crate::limits::{ACCEPT_PAUSE, ACCEPT_QUIET};
use crate::messages::{Accepted, Order};
use crate::net::{Listener, Network};
use crate::shared::Place;

/// Runs a worker until it is told to stop and what runs has finished, or the grace is over.
///
/// # Errors
/// When a listener cannot be used.
pub(crate) async fn run<N: Network>(
    parts: Parts<N>,
    sockets: Vec<(u32, N::Socket)>,
    mut orders: mpsc::UnboundedReceiver<Order<N::Parcel>>,
) -> std::io::Result<()> {
    let adopt = |(number, socket)| parts.net.adopt(socket).map(|listener| (number, Rc::new(listener)));
    let listeners = sockets.into_iter().map(adopt).collect::<std::io::Result<Vec<_>>>()?;
    let worker = Worker::new(parts);
    let accepting: Vec<_> = listeners
        .iter()
        .map(|(number, listener)| spawn_local(accept(Rc::clone(&worker), *number, Rc::clone(listener))))
        .collect();
    let flushing = spawn_local({
        let worker = Rc::clone(&worker);
        async move { worker.log.flush_regularly().await }
    });
    let sweeping = spawn_local(sweep(Rc::clone(&worker)));
    let attending = spawn_local(attend(Rc::clone(&worker)));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Serve(parcel, accepted, place) => match worker.net.unpack(parcel) {
                Ok(stream) => serve(&worker, stream, accepted, place),
                Err(error) => tracing::warn!("a client that was handed over is lost: {error}"),
            },
            Order::Shed => drop(worker.shed()),
            Order::Forget(departed) => worker.metrics.borrow_mut().forget(&departed),
            Order::Measure(reply) => drop(reply.send(Box::new(worker.measure()))),
            Order::Stop => break,
        }
    }
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    take_last_clients(&worker, &listeners, &mut orders);
    drop(listeners);
    // Who speaks just now is heard of first: the runtime polls the system before it goes on here.
    tokio::task::yield_now().await;
    let grace = worker.plan().process.timeouts.shutdown_grace;
    worker.sessions.stop();
    for parked in worker.parking.clear() {
        wake(&worker, parked);
    }
    if tokio::time::timeout(grace, worker.sessions.all_ended()).await.is_err() {
        tracing::warn!(
            connections = worker.sessions.len(),
            "the shutdown grace of {} s is over; what still runs is cut",
            grace.as_secs_f64()
        );
        worker.sessions.cut();
        worker.sessions.all_ended().await;
    }
    for task in [flushing, sweeping, attending] {
        task.abort();
    }
    worker.pool.clear();
    worker.log.flush();
    Ok(())
}

/// Takes over the clients that were on their way when the stop came: accepted by the system, or handed
/// over by another worker. Closing without would cut requests that were already sent.
fn take_last_clients<N: Network>(
    worker: &Rc<Worker<N>>,
    listeners: &[(u32, Rc<N::Listener>)],
    orders: &mut mpsc::UnboundedReceiver<Order<N::Parcel>>,
) {
    let mut cx = Context::from_waker(Waker::noop());
    for (number, listener) in listeners {
        while let Some(permit) = worker.shared.places.try_take() {
            let Poll::Ready(Ok((stream, peer))) = listener.poll_accept(&mut cx) else { break };
            let accepted = Accepted { peer, listener: *number };
            serve(worker, stream, accepted, worker.shared.place(worker.index, permit));
        }
    }
    orders.close();
    while let Ok(order) = orders.try_recv() {
        if let Order::Serve(parcel, accepted, place) = order
            && let Ok(stream) = worker.net.unpack(parcel)
        {
            serve(worker, stream, accepted, place);
        }
    }
}

/// Accepts clients until aborted.
async fn accept<N: Network>(worker: Rc<Worker<N>>, number: u32, listener: Rc<N::Listener>) {
    let mut failures = AcceptFailures::default();
    loop {
        let mut silent_at = None;
        let next = poll_fn(|cx| {
            let next = listener.poll_accept(cx);
            if next.is_pending() {
                silent_at = Some(worker.pool.mark());
            }
            next
        });
        let next = next.await;
        if let Some(mark) = silent_at {
            worker.pool.polled_since(mark);
        }
        match next {
            Ok((stream, peer)) => {
                if !failures.is_empty() {
                    failures.end(worker.clock.now());
                }
                let permit = permit(&worker).await;
                worker.metrics.borrow_mut().connections += 1;
                place_client(&worker, stream, Accepted { peer, listener: number }, permit);
            }
            Err(error) => {
                // Out of descriptors or memory, or the client left the queue. Trying again at once would spin.
                failures.note(&error, worker.clock.now());
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Failures to accept. The log tells their beginning and their end, however many they are, and no more than that once in
/// [`ACCEPT_QUIET`]: near the limit of descriptors, accepting fails and succeeds in turns.
#[derive(Default)]
struct AcceptFailures {
    count: u64,
    /// Whether the log has told the beginning.
    told: bool,
    quiet_until: Time,
}

impl AcceptFailures {
    fn note(&mut self, error: &std::io::Error, now: Time) {
        if !self.told && now >= self.quiet_until {
            tracing::warn!("clients cannot be accepted: {error}; LoadX goes on trying");
            self.told = true;
            self.quiet_until = now + ACCEPT_QUIET;
        }
        self.count += 1;
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

/// Has clients served again that have rested and speak.
async fn attend<N: Network>(worker: Rc<Worker<N>>) {
    loop {
        let parked = poll_fn(|cx| worker.parking.poll_awake(cx)).await;
        worker.pool.polled_since(parked.silent_at);
        wake(&worker, parked);
    }
}

fn wake<N: Network>(worker: &Rc<Worker<N>>, parked: Parked<N::Stream>) {
    let client = Client::awake(parked, worker.clock);
    spawn_local(h1::serve(Rc::clone(worker), client));
}

/// Once a second: closes clients that have rested for too long, and idle backend connections that are too old or to backends out of rotation.
async fn sweep<N: Network>(worker: Rc<Worker<N>>) {
    loop {
        let mark = worker.pool.mark();
        tokio::time::sleep(Duration::from_secs(1)).await;
        worker.pool.polled_since(mark);
        worker.parking.expire(worker.clock.now());
        worker.sweep_pool();
    }
}

/// Waits for a place among all client connections. When there is none, an idle one has to go; and
/// while somebody waits, connections end with their exchange.
async fn permit<N: Network>(worker: &Worker<N>) -> OwnedSemaphorePermit {
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
    permit: OwnedSemaphorePermit,
) {
    let loads = &worker.shared.loads;
    let mine = loads[worker.index].connections();
    let least = (0..loads.len()).min_by_key(|index| loads[*index].connections()).unwrap_or(worker.index);
    let theirs = loads[least].connections();
    // The system spreads clients by a hash of their address: well when they are many. A difference
    // of an eighth is left alone, so that handing over stays rare.
    let here = mine <= theirs + theirs / 8;
    // Counted at once, so that the next client finds the count as it will be.
    let place = worker.shared.place(if here { worker.index } else { least }, permit);
    if here {
        return serve(worker, stream, accepted, place);
    }
    match worker.net.pack(stream) {
        Ok(parcel) => {
            if let Err(refused) = worker.mailboxes[least].send(Order::Serve(parcel, accepted, place)) {
                tracing::debug!("worker {least} ended, a client is lost: {refused}");
            }
        }
        Err(error) => tracing::debug!("a client was lost before it was served: {error}"),
    }
}

fn serve<N: Network>(worker: &Rc<Worker<N>>, stream: N::Stream, accepted: Accepted, place: Place) {
    let Accepted { peer, listener } = accepted;
    let client = Client::new(stream, peer.ip().to_canonical(), listener, place, worker.clock);
    spawn_local(h1::serve(Rc::clone(worker), client));
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
