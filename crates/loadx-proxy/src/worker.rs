//! One thread that owns its connections: it accepts, serves, and never waits for another worker.

use std::future::poll_fn;
use std::rc::Rc;

use loadx_core::ListenerId;
use loadx_core::config::Config;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::accept::{Accepting, Ended, serve};
use crate::context::{Parts, Worker};
use crate::downstream::awake::resume;
use crate::downstream::client::Client;
use crate::downstream::parking::Parked;
use crate::limits::IDLE_LOOK;
use crate::messages::Order;
use crate::net::{Network, StreamOf};
use crate::tls::{self, TlsFacts};

/// The number of workers that a config asks for.
pub(crate) fn count(config: &Config) -> usize {
    config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
}

/// Runs a worker until it is told to stop and what runs has finished, or the grace is over.
///
/// # Errors
/// When a listener cannot be used.
pub(crate) async fn run<N: Network>(
    parts: Parts<N>,
    sockets: Vec<(ListenerId, N::Socket)>,
    mut orders: mpsc::UnboundedReceiver<Order<N>>,
) -> std::io::Result<()> {
    let worker = Worker::new(parts);
    let mut accepting = Accepting::new(&worker);
    for (listener, socket) in sockets {
        accepting.add(listener, socket)?;
    }
    let flushing = spawn_local({
        let worker = Rc::clone(&worker);
        async move { worker.log.flush_regularly().await }
    });
    let sweeping = spawn_local(sweep(Rc::clone(&worker)));
    let attending = spawn_local(attend(Rc::clone(&worker)));
    loop {
        let order = tokio::select! {
            biased;
            order = orders.recv() => order,
            () = worker.is_deserted(), if worker.is_retired() => break,
        };
        match order {
            None | Some(Order::Stop) => break,
            Some(order) => obey(&worker, &mut accepting, order),
        }
    }
    let mut ended = accepting.end(|_| true);
    ended.closed().await;
    orders.close();
    while let Ok(order) = orders.try_recv() {
        // Clients on their way to this worker may have sent requests.
        if matches!(order, Order::Serve(..)) {
            obey(&worker, &mut accepting, order);
        }
    }
    drop(accepting);
    // The runtime polls the system before this task goes on, so that requests that have just come are seen first.
    tokio::task::yield_now().await;
    finish(&worker, ended).await;
    for task in [flushing, sweeping, attending] {
        task.abort();
    }
    worker.pool.clear();
    worker.links.clear();
    worker.log.flush();
    worker.spans.flush();
    Ok(())
}

fn obey<N: Network>(worker: &Rc<Worker<N>>, accepting: &mut Accepting<N>, order: Order<N>) {
    match order {
        Order::Serve(parcel, accepted, place) => match worker.net.unpack(parcel) {
            Ok(stream) => serve(worker, stream, accepted, place),
            Err(error) => tracing::warn!("a client that was handed over is lost: {error}"),
        },
        Order::Listen(sockets) => {
            // The plan that the listener came with is taken now: a later plan may be without the listener.
            worker.plan();
            for (listener, socket) in sockets {
                if let Err(error) = accepting.add(listener, socket) {
                    tracing::error!("worker {} cannot listen: {error}", worker.index);
                }
            }
        }
        Order::Leave(listeners, open) => {
            let mut ended = accepting.end(|listener| listeners.contains(&listener));
            spawn_local(async move {
                ended.closed().await;
                drop(open);
                ended.served().await;
            });
            worker.sessions.leave(&listeners);
            close_parked(worker, |parked| listeners.contains(&parked.listener));
        }
        Order::Reconnect => {
            let plan = worker.plan();
            let is_outdated = |listener: ListenerId, tls: Option<&TlsFacts>| {
                let listener = plan.listener(listener).map(|position| &plan.listeners[position]);
                listener.is_some_and(|listener| !tls::is_checked_for(&listener.client_rules, tls, None))
            };
            worker.sessions.close_when_idle(is_outdated);
            let facts = |parked: &Parked<StreamOf<N>>| parked.wire.stream.facts().cloned();
            close_parked(worker, |parked| is_outdated(parked.listener, facts(parked).as_deref()));
        }
        Order::Cut(listeners) => worker.cut(&listeners),
        Order::CutAll => worker.sessions.cut("cut at the end of the drain after an upgrade"),
        Order::Log(sender) => worker.log.redirect(sender),
        Order::Shed => drop(worker.shed()),
        Order::ShedAll => {
            worker.sessions.close_idle();
            close_parked(worker, |_| true);
            worker.pool.clear();
        }
        Order::WakeExchanges => worker.sessions.wake_all(),
        // Control may no longer wait.
        Order::Explanations(reply) => drop(reply.send(worker.explanations.list())),
        Order::Forget(departed) => worker.metrics.borrow_mut().forget(&departed),
        Order::Census(reply) => drop(reply.send(worker.census())),
        Order::Measure(reply) => drop(reply.send(Box::new(worker.measure()))),
        Order::Descriptors(reply) => drop(reply.send(accepting.descriptors())),
        Order::Retire => {
            accepting.release();
            worker.retire();
        }
        // The caller has ended the loop already.
        Order::Stop => {}
    }
}

/// Lets what runs finish within the grace, and cuts the rest.
async fn finish<N: Network>(worker: &Rc<Worker<N>>, ended: Ended) {
    let grace = worker.plan().process.timeouts.shutdown_grace;
    worker.sessions.stop();
    for parked in worker.parking.take(|_| true) {
        wake(worker, parked, true);
    }
    let all_ended = async {
        ended.served().await;
        worker.sessions.all_ended().await;
    };
    if tokio::time::timeout(grace, all_ended).await.is_err() {
        tracing::warn!(
            connections = worker.sessions.len(),
            "the shutdown grace of {} s is over; what still runs is cut",
            grace.as_secs_f64()
        );
        worker.sessions.cut("cut at the end of the shutdown's grace");
        worker.sessions.all_ended().await;
    }
}

/// Resumes parked clients that have sent bytes.
async fn attend<N: Network>(worker: Rc<Worker<N>>) {
    loop {
        let parked = poll_fn(|cx| worker.parking.poll_awake(cx)).await;
        worker.pool.polled_since(parked.silent_at);
        wake(&worker, parked, false);
    }
}

/// Closes the parked clients for which `closes` is true, or, if they have sent something, resumes them to close when idle.
fn close_parked<N: Network>(worker: &Rc<Worker<N>>, closes: impl Fn(&Parked<StreamOf<N>>) -> bool) {
    for parked in worker.parking.take(closes) {
        wake(worker, parked, true);
    }
}

/// Resumes a parked client. `closes`: whether the connection closes as soon as the connection is idle.
fn wake<N: Network>(worker: &Rc<Worker<N>>, parked: Parked<StreamOf<N>>, closes: bool) {
    let client = Client::awake(parked, worker.clock);
    spawn_local(resume(Rc::clone(worker), client, closes));
}

/// From time to time: closes clients that have rested for too long, and idle backend connections
/// that are too old or to backends out of rotation.
async fn sweep<N: Network>(worker: Rc<Worker<N>>) {
    loop {
        let mark = worker.pool.mark();
        tokio::time::sleep(IDLE_LOOK).await;
        worker.pool.polled_since(mark);
        worker.parking.expire(worker.clock.now());
        worker.sweep_pool();
        worker.spans.flush();
    }
}
