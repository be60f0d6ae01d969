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
use std::sync::Arc;
use std::time::Duration;

use loadx_core::{BackendId, Time, View};

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
    /// Where each backend in rotation is to be found.
    places: RefCell<ByBackend<Arc<[SocketAddr]>>>,
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
        Pool { lanes: RefCell::default(), returned: Cell::new(0), cooled: Cell::new(0), places: RefCell::default() }
    }

    /// Marks this moment, at which the runtime knew nothing new of some stream.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.returned.get())
    }

    /// The runtime has polled the system since `mark`: it has heard of that stream.
    pub(crate) fn polled_since(&self, mark: Mark) {
        self.cooled.set(self.cooled.get().max(mark.0));
    }

    /// Takes a connection that is still silent. One that became readable while idle was closed by the
    /// backend, or holds bytes that belong to no request: it is not used. Finding that out costs no
    /// system call, except for a connection that has not cooled. Such a one is used only where there are many: a
    /// further connection costs once, and asking the system each time.
    pub(crate) fn take(&self, backend: BackendId) -> Option<Connection<S>> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.get_mut(&backend)?;
        lane.settle(self.cooled.get());
        while let Some(idle) = lane.cooled.pop() {
            // Where a large body came through a pipe, the runtime has not heard that nothing follows.
            if is_silent(&idle.connection.stream) || idle.connection.stream.holds_nothing() {
                return Some(idle.connection);
            }
        }
        while lane.cooling.len() >= COOLING_PER_BACKEND_MAX {
            let idle = lane.cooling.pop_back()?;
            if idle.connection.stream.holds_nothing() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Keeps a connection for later. Closed are those beyond what is kept, and those to a place where the backend
    /// is not any more.
    pub(crate) fn put(&self, backend: BackendId, connection: Connection<S>, now: Time) {
        let number = self.returned.get() + 1;
        self.returned.set(number);
        let idle = Idle { connection, since: now, number };
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.entry(backend).or_insert_with(Lane::new);
        if lane.len() < IDLE_PER_BACKEND_MAX && self.is_in_place(backend, &idle) {
            lane.cooling.push_back(idle);
        }
    }

    /// Closes what was idle for too long or was closed by its backend.
    pub(crate) fn sweep(&self, now: Time, idle: Duration) {
        let is_sound = |stream: &S| is_silent(stream) || stream.holds_nothing();
        for lane in self.lanes.borrow_mut().values_mut() {
            lane.retain(|kept| now.since(kept.since) < idle && is_sound(&kept.connection.stream));
        }
    }

    /// Closes the connections to backends that are not in rotation any more, or not at that address.
    pub(crate) fn follow(&self, view: &View) {
        *self.places.borrow_mut() =
            view.backends().iter().map(|backend| (backend.id(), backend.shared_addresses())).collect();
        let mut lanes = self.lanes.borrow_mut();
        for (backend, lane) in lanes.iter_mut() {
            lane.retain(|idle| self.is_in_place(*backend, idle));
        }
        // A backend that left does not come back under the same id.
        lanes.retain(|_, lane| lane.len() > 0);
    }

    /// Whether the connection leads where the backend is to be found today.
    fn is_in_place(&self, backend: BackendId, idle: &Idle<S>) -> bool {
        let places = self.places.borrow();
        places.get(&backend).is_some_and(|addresses| addresses.contains(&idle.connection.address))
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
