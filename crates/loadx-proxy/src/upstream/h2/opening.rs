//! A connection that is being opened, for which several exchanges can wait.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use loadx_core::config::BackendTransport;
use loadx_core::{Backend, ConnectFailure, ConnectFailureKind, Failure};

use super::driver::Driver;
use super::link::{Lease, Link};
use crate::context::Worker;
use crate::limits::H2_OPENING_WAITERS_MAX;
use crate::net::{Network, StreamOf};
use crate::shared::{LocalPlan, LocalView};
use crate::upstream::connect;
use crate::upstream::pool::Connection;

/// Where a connection is to lead.
pub(crate) struct Target {
    pub(crate) plan: LocalPlan,
    pub(crate) cluster: usize,
    pub(crate) view: LocalView,
    /// The position of the backend in the view.
    pub(crate) backend: usize,
}

impl Target {
    pub(super) fn backend(&self) -> &Backend {
        &self.view.backends()[self.backend]
    }

    fn transport(&self) -> &Arc<BackendTransport> {
        &self.plan.clusters[self.cluster].transport
    }
}

/// A connection that is being opened.
pub(super) struct Opening<N: Network> {
    transport: Arc<BackendTransport>,
    state: RefCell<State<N>>,
    /// The number of exchanges that have asked for a place.
    claims: Cell<usize>,
}

enum State<N: Network> {
    Waiting(Vec<Waker>),
    Open(Rc<Link<N>>),
    Failed(Failure),
}

impl<N: Network> Opening<N> {
    pub(super) fn new(target: &Target) -> Rc<Self> {
        let transport = Arc::clone(target.transport());
        Rc::new(Opening { transport, state: RefCell::new(State::Waiting(Vec::new())), claims: Cell::new(0) })
    }

    /// Whether an exchange with this target may wait. After a reload, the cluster may have another transport than the connection.
    pub(super) fn has_room_for(&self, target: &Target) -> bool {
        Arc::ptr_eq(&self.transport, target.transport()) && self.has_room()
    }

    /// Whether another exchange may wait.
    pub(super) fn has_room(&self) -> bool {
        matches!(*self.state.borrow(), State::Waiting(_)) && self.claims.get() < H2_OPENING_WAITERS_MAX
    }

    /// Waits for a place; `None` if the connection has fewer places than exchanges wait.
    pub(super) async fn lease(&self) -> Result<Option<Lease<N>>, Failure> {
        self.claims.set(self.claims.get() + 1);
        poll_fn(|cx| match &mut *self.state.borrow_mut() {
            State::Waiting(wakers) => {
                if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
            State::Open(link) => Poll::Ready(Ok(Lease::of(link))),
            State::Failed(failure) => Poll::Ready(Err(failure.clone())),
        })
        .await
    }

    fn end(&self, state: State<N>) {
        if let State::Waiting(wakers) = self.state.replace(state) {
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Opens the connection, lets the exchanges have it, and drives it to its end.
    pub(super) async fn run(self: Rc<Self>, worker: Rc<Worker<N>>, target: Target) {
        let connection = match connect::establish(&worker, (&target.plan, target.cluster), target.backend(), None).await
        {
            Ok(connection) => connection,
            Err(failure) => return self.end(State::Failed(Failure::Connect(failure))),
        };
        let policy = &target.plan.clusters[target.cluster].attempt;
        let link = Rc::new(link_of(&worker, &target, connection));
        let mut driver = Driver::new(&worker, Rc::clone(&link), policy.response);
        let deadline = worker.clock.now() + policy.connect;
        drop(target);
        if let Err(reason) = driver.establish(deadline).await {
            let failure = ConnectFailure { kind: ConnectFailureKind::Refused, reason: reason.into() };
            return self.end(State::Failed(Failure::Connect(failure)));
        }
        worker.links.add(&link);
        self.end(State::Open(Rc::clone(&link)));
        // Only the exchanges that wait need it now.
        drop(self);
        driver.run().await;
        worker.links.remove(&link);
    }
}

fn link_of<N: Network>(worker: &Worker<N>, target: &Target, connection: Connection<StreamOf<N>>) -> Link<N> {
    Link::new(target.backend().id(), connection, &worker.buffers, worker.clock.now())
}
