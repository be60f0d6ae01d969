//! The connections of one worker to backends that speak HTTP/2.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::config::BackendTransport;
use loadx_core::{Backend, BackendId, Failure, Time};
use tokio::task::spawn_local;

use super::link::{Lease, Link};
use super::opening::{Opening, Target};
use crate::context::Worker;
use crate::net::Network;
use crate::upstream::by_backend::ByBackend;

/// The connections by backend.
pub(crate) struct Links<N: Network> {
    lanes: RefCell<ByBackend<Lane<N>>>,
}

/// The connections to one backend.
struct Lane<N: Network> {
    links: Vec<Rc<Link<N>>>,
    /// The connection that exchanges wait for.
    opening: Option<Rc<Opening<N>>>,
}

impl<N: Network> Default for Links<N> {
    fn default() -> Self {
        Links { lanes: RefCell::default() }
    }
}

impl<N: Network> Default for Lane<N> {
    fn default() -> Self {
        Lane { links: Vec::new(), opening: None }
    }
}

impl<N: Network> Links<N> {
    /// A place on an open connection to a present address of the backend, with this transport; `None` if there is none. The oldest
    /// connection with a free place is the first to get exchanges, so that few connections carry many and the others can be closed.
    pub(crate) fn lease(&self, backend: &Backend, transport: &Arc<BackendTransport>) -> Option<Lease<N>> {
        let lanes = self.lanes.borrow();
        let links = &lanes.get(&backend.id())?.links;
        links.iter().filter(|link| link.leads_to(backend.addresses(), transport)).find_map(Lease::of)
    }

    /// Waits for a place on a new connection.
    ///
    /// # Errors
    /// [`Failure::Connect`].
    pub(crate) async fn open(&self, worker: &Rc<Worker<N>>, target: impl Fn() -> Target) -> Result<Lease<N>, Failure> {
        loop {
            let opening = self.opening(worker, &target);
            if let Some(lease) = opening.lease().await? {
                return Ok(lease);
            }
        }
    }

    fn opening(&self, worker: &Rc<Worker<N>>, target: &impl Fn() -> Target) -> Rc<Opening<N>> {
        let target = target();
        let mut lanes = self.lanes.borrow_mut();
        let opening = &mut lanes.entry(target.backend().id()).or_default().opening;
        match opening {
            Some(opening) if opening.has_room_for(&target) => Rc::clone(opening),
            _ => {
                let new = opening.insert(Opening::new(&target));
                spawn_local(Rc::clone(new).run(Rc::clone(worker), target));
                Rc::clone(new)
            }
        }
    }

    pub(super) fn add(&self, link: &Rc<Link<N>>) {
        self.lanes.borrow_mut().entry(link.backend).or_default().links.push(Rc::clone(link));
    }

    pub(super) fn remove(&self, link: &Rc<Link<N>>) {
        if let Some(lane) = self.lanes.borrow_mut().get_mut(&link.backend) {
            lane.links.retain(|other| !Rc::ptr_eq(other, link));
        }
    }

    /// Closes, after their last exchange, connections that lead to a backend out of rotation or have another transport than their
    /// cluster, and connections that were idle for `idle`. `present` returns the addresses and the transport of a backend in rotation,
    /// otherwise `None`.
    pub(crate) fn sweep<'a>(
        &self,
        now: Time,
        idle: Duration,
        present: impl Fn(BackendId) -> Option<(&'a [SocketAddr], &'a Arc<BackendTransport>)>,
    ) {
        self.lanes.borrow_mut().retain(|backend, lane| {
            let present = present(*backend);
            lane.links.retain(|link| {
                let is_present = present.is_some_and(|(addresses, transport)| link.leads_to(addresses, transport));
                let is_old = link.idle_since().is_some_and(|since| now.since(since) >= idle);
                let stays = is_present && !is_old && !link.is_closing();
                if !stays {
                    link.retire();
                }
                stays
            });
            if lane.opening.as_ref().is_some_and(|opening| !opening.has_room()) {
                lane.opening = None;
            }
            !lane.links.is_empty() || lane.opening.is_some()
        });
    }

    /// The number of connections.
    pub(crate) fn len(&self) -> usize {
        self.lanes.borrow().values().map(|lane| lane.links.len()).sum()
    }

    /// Closes all connections, each after its last exchange.
    pub(crate) fn clear(&self) {
        for link in self.lanes.borrow_mut().drain().flat_map(|(_, lane)| lane.links) {
            link.retire();
        }
    }
}
