//! A connection that exchanges share.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use loadx_core::config::BackendTransport;
use loadx_core::{BackendId, Time};
use loadx_http::h2::{Client, Connection, Priority};

use crate::buffers::Buffers;
use crate::h2::{Mux, TaskAlarm};
use crate::net::{Network, StreamOf};
use crate::upstream::pool;

/// A connection to a backend, and its exchanges.
pub(crate) struct Link<N: Network> {
    pub(super) backend: BackendId,
    pub(super) stream: StreamOf<N>,
    address: SocketAddr,
    transport: Arc<BackendTransport>,
    pub(super) mux: Mux<Client, TaskAlarm>,
    numbers: RefCell<Numbers>,
    /// Whether the connection takes no more exchanges.
    is_retired: Cell<bool>,
    /// Since when no exchange runs.
    idle_since: Cell<Time>,
}

/// The numbers of the exchanges.
#[derive(Debug, Default)]
struct Numbers {
    free: Vec<usize>,
    next: usize,
}

impl<N: Network> Link<N> {
    /// A connection before its first byte.
    pub(super) fn new(
        backend: BackendId,
        connection: pool::Connection<StreamOf<N>>,
        buffers: &Rc<Buffers>,
        now: Time,
    ) -> Self {
        let pool::Connection { stream, address, transport, .. } = connection;
        Link {
            backend,
            stream,
            address,
            transport,
            mux: Mux::new(buffers, |out| Box::new(Connection::to_server(out))),
            numbers: RefCell::default(),
            is_retired: Cell::new(false),
            idle_since: Cell::new(now),
        }
    }

    /// Whether the connection leads to a present address of the backend, with this transport.
    pub(super) fn leads_to(&self, addresses: &[SocketAddr], transport: &Arc<BackendTransport>) -> bool {
        addresses.contains(&self.address) && Arc::ptr_eq(&self.transport, transport)
    }

    /// The scheme of requests on the connection.
    pub(super) fn scheme(&self) -> &'static [u8] {
        if self.transport.tls.is_some() { b"https" } else { b"http" }
    }

    /// Whether the connection takes no more exchanges, now and later.
    pub(super) fn is_closing(&self) -> bool {
        self.is_retired.get() || self.mux.look(Connection::streams_max) == 0
    }

    fn has_room(&self) -> bool {
        // Exchanges that wait for the window of the whole connection may wait for long.
        let is_blocked = self.mux.awaits_window();
        !self.is_retired.get() && !is_blocked && self.mux.len() < self.mux.look(Connection::streams_max)
    }

    /// Takes no more exchanges. The driver closes the connection after the last one.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
        self.mux.wake_driver();
    }

    /// Since when no exchange runs; `None` if one runs.
    pub(super) fn idle_since(&self) -> Option<Time> {
        self.mux.is_empty().then(|| self.idle_since.get())
    }

    pub(super) fn rests(&self, now: Time) {
        self.idle_since.set(now);
    }
}

/// The place of one exchange on a connection.
pub(crate) struct Lease<N: Network> {
    pub(super) link: Rc<Link<N>>,
    /// The number of the exchange.
    pub(super) number: usize,
}

impl<N: Network> Lease<N> {
    /// A place on the connection, if there is one.
    pub(super) fn of(link: &Rc<Link<N>>) -> Option<Self> {
        if !link.has_room() {
            return None;
        }
        let numbers = &mut *link.numbers.borrow_mut();
        let number = numbers.free.pop().unwrap_or_else(|| {
            numbers.next += 1;
            numbers.next - 1
        });
        link.mux.open(number, 0, Priority::default(), TaskAlarm::default(), false);
        Some(Lease { link: Rc::clone(link), number })
    }
}

impl<N: Network> Drop for Lease<N> {
    fn drop(&mut self) {
        self.link.mux.close(self.number);
        self.link.numbers.borrow_mut().free.push(self.number);
    }
}
