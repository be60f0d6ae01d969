//! Idle connections of one worker to its backends.
//!
//! A connection must not be lent while it holds bytes that belong to no request: whoever came next
//! would take them for the answer. The runtime learns of bytes only when it polls the system, so a
//! connection that comes back *cools* until that has happened; only then its silence means something.
//! That it has happened is known without asking: a client that was silent and is not any more has been
//! heard of in a poll since.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use loadx_core::{Backend, BackendId, Time};

use crate::io::is_silent;
use crate::limits::{COOLING_PER_BACKEND_MAX, IDLE_PER_BACKEND_MAX};
use crate::net::Stream;

/// A connection to a backend.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    /// Which of the backend's addresses it leads to.
    pub(crate) address: SocketAddr,
}

/// Idle connections, by backend; of each the one that was used last is used next.
#[derive(Debug)]
pub(crate) struct Pool<S> {
    lanes: RefCell<ByBackend<Lane<S>>>,
    /// How many connections have come back, ever.
    returned: Cell<u64>,
    /// How many of these, the first ones, have cooled.
    cooled: Cell<u64>,
}

/// Its order is the same in every run, so that a simulation can be replayed; nobody outside chooses the keys.
type ByBackend<T> = HashMap<BackendId, T, BuildHasherDefault<NumberHasher>>;

/// Spreads numbers that are small and dense, as those of backends are.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // The golden ratio's multiples fill the upper bits evenly, which the table looks at as well as the lower.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The idle connections to one backend.
#[derive(Debug)]
struct Lane<S> {
    cooled: Vec<Idle<S>>,
    /// In the order in which they came back.
    cooling: VecDeque<Idle<S>>,
}

#[derive(Debug)]
struct Idle<S> {
    connection: Connection<S>,
    since: Time,
    /// How many had come back, of all lanes, with this one.
    number: u64,
}

impl<S> Lane<S> {
    fn new() -> Self {
        Lane { cooled: Vec::new(), cooling: VecDeque::new() }
    }

    /// Makes available what has cooled, up to the `cooled`th connection that came back.
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

/// What had come back at some moment.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Mark(u64);

impl<S: Stream> Pool<S> {
    pub(crate) fn new() -> Self {
        Pool { lanes: RefCell::default(), returned: Cell::new(0), cooled: Cell::new(0) }
    }

    /// Marks this moment, at which the runtime knew nothing new of some stream.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.returned.get())
    }

    /// The runtime has polled the system since `mark`: it has heard of that stream.
    pub(crate) fn polled_since(&self, mark: Mark) {
        self.cooled.set(self.cooled.get().max(mark.0));
    }

    /// Takes a connection that leads to a present address of the backend and is still silent. A connection that became
    /// readable while idle was closed by the backend, or holds bytes that belong to no request, and is closed.
    ///
    /// Finding that out costs no system call, except for a connection that has not cooled. Reuses an uncooled
    /// connection only when [`COOLING_PER_BACKEND_MAX`] of them wait: opening another one costs once, asking the system
    /// costs a call per request.
    pub(crate) fn take(&self, backend: &Backend) -> Option<Connection<S>> {
        let leads_there = |idle: &Idle<S>| backend.addresses().contains(&idle.connection.address);
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.get_mut(&backend.id())?;
        lane.settle(self.cooled.get());
        while let Some(idle) = lane.cooled.pop() {
            // Where a large body came through a pipe, the runtime has not heard that nothing follows.
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

    /// Keeps a connection for later. A connection beyond what is kept is closed.
    pub(crate) fn put(&self, backend: BackendId, connection: Connection<S>, now: Time) {
        let number = self.returned.get() + 1;
        self.returned.set(number);
        let idle = Idle { connection, since: now, number };
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.entry(backend).or_insert_with(Lane::new);
        if lane.len() < IDLE_PER_BACKEND_MAX {
            lane.cooling.push_back(idle);
        }
    }

    /// Closes connections that were idle for too long, were closed by their backend, or lead to a backend that is out
    /// of rotation: `addresses` tells the addresses of one in rotation.
    pub(crate) fn sweep<'a>(
        &self,
        now: Time,
        idle: Duration,
        addresses: impl Fn(BackendId) -> Option<&'a [SocketAddr]>,
    ) {
        let is_sound = |stream: &S| is_silent(stream) || stream.holds_nothing();
        self.lanes.borrow_mut().retain(|backend, lane| {
            let addresses = addresses(*backend).unwrap_or_default();
            lane.retain(|kept| {
                addresses.contains(&kept.connection.address)
                    && now.since(kept.since) < idle
                    && is_sound(&kept.connection.stream)
            });
            lane.len() > 0
        });
    }

    /// How many connections are idle.
    pub(crate) fn len(&self) -> usize {
        self.lanes.borrow().values().map(Lane::len).sum()
    }

    /// Closes everything.
    pub(crate) fn clear(&self) {
        self.lanes.borrow_mut().clear();
    }
}
