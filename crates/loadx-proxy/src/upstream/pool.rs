//! Idle connections of one worker to its backends.
//!
//! A connection with unread bytes must not be reused: the next exchange would read the bytes as its response. The
//! runtime learns of bytes only when it polls the system, so a returned connection *cools* until the next poll. When a
//! silent stream becomes readable, the runtime has polled in between; so the pool detects a poll without a system call.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::config::BackendTransport;
use loadx_core::{Backend, BackendId, Time};

use crate::io::is_silent;
use crate::limits::{COOLING_PER_BACKEND_MAX, IDLE_PER_BACKEND_MAX};
use crate::net::Stream;
use crate::upstream::by_backend::ByBackend;

/// A connection to a backend.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    /// The address of the backend that the connection leads to.
    pub(crate) address: SocketAddr,
    /// What lies between TCP and HTTP, by the plan of the exchange that opened the connection.
    pub(crate) transport: Arc<BackendTransport>,
    /// Whether content of the last response went through a pipe. Then the next response is expected to be as large.
    pub(crate) used_pipe: bool,
}

/// Idle connections by backend. The last returned connection is reused first.
#[derive(Debug)]
pub(crate) struct Pool<S> {
    lanes: RefCell<ByBackend<Lane<S>>>,
    /// The number of returned connections since the start.
    returned: Cell<u64>,
    /// The connections with a number up to this have cooled.
    cooled: Cell<u64>,
}

/// The idle connections to one backend.
#[derive(Debug)]
struct Lane<S> {
    cooled: Vec<Idle<S>>,
    /// In the order of their return.
    cooling: VecDeque<Idle<S>>,
}

#[derive(Debug)]
struct Idle<S> {
    connection: Connection<S>,
    since: Time,
    /// The value of `Pool::returned` after the return of this connection.
    number: u64,
}

impl<S> Lane<S> {
    fn new() -> Self {
        Lane { cooled: Vec::new(), cooling: VecDeque::new() }
    }

    /// Moves the connections with a number up to `cooled` from `cooling` to `cooled`.
    fn settle(&mut self, cooled: u64) {
        while self.cooling.front().is_some_and(|first| first.number <= cooled) {
            self.cooled.extend(self.cooling.pop_front());
        }
    }

    fn len(&self) -> usize {
        self.cooled.len() + self.cooling.len()
    }

    fn retain(&mut self, fit: impl Fn(&Idle<S>) -> bool) {
        self.cooled.retain(&fit);
        self.cooling.retain(&fit);
    }
}

/// The number of returned connections at some moment.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Mark(u64);

impl<S: Stream> Pool<S> {
    pub(crate) fn new() -> Self {
        Pool { lanes: RefCell::default(), returned: Cell::new(0), cooled: Cell::new(0) }
    }

    /// Marks the present moment. Called when the runtime reports a stream as not ready.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.returned.get())
    }

    /// Records that the runtime has polled the system since `mark`. Called when the stream became ready.
    pub(crate) fn polled_since(&self, mark: Mark) {
        self.cooled.set(self.cooled.get().max(mark.0));
    }

    /// Takes a silent connection with this transport to a present address of the backend. Closes a connection that became readable while
    /// idle: the backend closed it or sent bytes that belong to no request.
    ///
    /// The check costs a system call only for a connection that has not cooled. Reuses an uncooled connection only when
    /// [`COOLING_PER_BACKEND_MAX`] of them wait: opening another costs once, MSG_PEEK costs a system call per request.
    pub(crate) fn take(&self, backend: &Backend, transport: &Arc<BackendTransport>) -> Option<Connection<S>> {
        let leads_there = |idle: &Idle<S>| {
            let Connection { address, transport: opened_with, .. } = &idle.connection;
            backend.addresses().contains(address) && Arc::ptr_eq(opened_with, transport)
        };
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.get_mut(&backend.id())?;
        lane.settle(self.cooled.get());
        while let Some(idle) = lane.cooled.pop() {
            // After a splice the runtime may still report the stream as readable, so the system is asked too.
            if leads_there(&idle) && (is_silent(&idle.connection.stream) || idle.connection.stream.holds_nothing()) {
                return Some(idle.connection);
            }
        }
        while lane.cooling.len() >= COOLING_PER_BACKEND_MAX {
            let idle = lane.cooling.pop_back()?;
            if leads_there(&idle) && idle.connection.stream.holds_nothing() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Adds a connection. Closes the connection if the backend has [`IDLE_PER_BACKEND_MAX`] already, or if the connection
    /// began with the address of one client (PROXY protocol).
    pub(crate) fn put(&self, backend: BackendId, connection: Connection<S>, now: Time) {
        if connection.transport.proxy_protocol.is_some() {
            return;
        }
        let number = self.returned.get() + 1;
        self.returned.set(number);
        let idle = Idle { connection, since: now, number };
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.entry(backend).or_insert_with(Lane::new);
        if lane.len() < IDLE_PER_BACKEND_MAX {
            lane.cooling.push_back(idle);
        }
    }

    /// Closes connections that were idle for `idle`, are not silent, have another transport than their cluster, or lead to a
    /// backend out of rotation. `present` returns the addresses and the transport of a backend in rotation, otherwise `None`.
    pub(crate) fn sweep<'a>(
        &self,
        now: Time,
        idle: Duration,
        present: impl Fn(BackendId) -> Option<(&'a [SocketAddr], &'a Arc<BackendTransport>)>,
    ) {
        let has_nothing = |stream: &S| is_silent(stream) || stream.holds_nothing();
        self.lanes.borrow_mut().retain(|backend, lane| {
            let present = present(*backend);
            lane.retain(|kept| {
                let Connection { address, transport: opened_with, .. } = &kept.connection;
                present.is_some_and(|(addresses, transport)| {
                    addresses.contains(address) && Arc::ptr_eq(opened_with, transport)
                }) && now.since(kept.since) < idle
                    && has_nothing(&kept.connection.stream)
            });
            lane.len() > 0
        });
    }

    /// The number of idle connections.
    pub(crate) fn len(&self) -> usize {
        self.lanes.borrow().values().map(Lane::len).sum()
    }

    /// Closes all connections.
    pub(crate) fn clear(&self) {
        self.lanes.borrow_mut().clear();
    }
}
