//! Idle connections of one worker to its backends.
//!
//! A connection must not be lent while it holds bytes that belong to no request: whoever came next
//! would take them for the answer. The runtime learns of bytes only when it polls the system, so a
//! connection that comes back *cools* until that has happened; only then its silence means something.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::{BackendId, Time, View};
use tokio::sync::Notify;

use crate::io::is_silent;
use crate::limits::IDLE_PER_BACKEND_MAX;
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
    lanes: RefCell<ByBackend<Vec<Idle<S>>>>,
    cooling: RefCell<Vec<(BackendId, Idle<S>)>>,
    came_back: Notify,
    /// Where each backend in rotation is to be found.
    places: RefCell<ByBackend<Arc<[SocketAddr]>>>,
}

/// Its order is the same in every run, so that a simulation can be replayed; nobody outside chooses the keys.
type ByBackend<T> = HashMap<BackendId, T, BuildHasherDefault<DefaultHasher>>;

#[derive(Debug)]
struct Idle<S> {
    connection: Connection<S>,
    since: Time,
}

impl<S: Stream> Pool<S> {
    pub(crate) fn new() -> Self {
        Pool {
            lanes: RefCell::default(),
            cooling: RefCell::default(),
            came_back: Notify::new(),
            places: RefCell::default(),
        }
    }

    /// Takes a connection that is still silent. One that became readable while idle was closed by the
    /// backend, or holds bytes that belong to no request: it is not used. Finding that out costs no
    /// system call, except for a connection that has not cooled, which is used when there is no other.
    pub(crate) fn take(&self, backend: BackendId) -> Option<Connection<S>> {
        if let Some(lane) = self.lanes.borrow_mut().get_mut(&backend) {
            while let Some(idle) = lane.pop() {
                if is_silent(&idle.connection.stream) {
                    return Some(idle.connection);
                }
            }
        }
        let mut cooling = self.cooling.borrow_mut();
        while let Some(place) = cooling.iter().rposition(|(id, _)| *id == backend) {
            let (_, idle) = cooling.swap_remove(place);
            if idle.connection.stream.holds_nothing() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Keeps a connection for later.
    pub(crate) fn put(&self, backend: BackendId, connection: Connection<S>, now: Time) {
        let mut cooling = self.cooling.borrow_mut();
        if cooling.is_empty() {
            self.came_back.notify_one();
        }
        cooling.push((backend, Idle { connection, since: now }));
    }

    /// Makes connections available once they have cooled, for as long as the worker lives.
    pub(crate) async fn cool(&self) {
        loop {
            self.came_back.notified().await;
            // The runtime polls the system before it goes on with a task that yielded.
            tokio::task::yield_now().await;
            let cooled = std::mem::take(&mut *self.cooling.borrow_mut());
            let mut lanes = self.lanes.borrow_mut();
            for (backend, idle) in cooled {
                let lane = lanes.entry(backend).or_default();
                // Closed where there are many already, or it spoke out of turn, or the backend moved.
                let fit = is_silent(&idle.connection.stream) && self.is_in_place(backend, &idle);
                if fit && lane.len() < IDLE_PER_BACKEND_MAX {
                    lane.push(idle);
                }
            }
        }
    }

    /// Closes what was idle for too long or was closed by its backend.
    pub(crate) fn sweep(&self, now: Time, idle: Duration) {
        for lane in self.lanes.borrow_mut().values_mut() {
            lane.retain(|kept| now.since(kept.since) < idle && is_silent(&kept.connection.stream));
        }
    }

    /// Closes the connections to backends that are not in rotation any more, or not at that address.
    pub(crate) fn follow(&self, view: &View) {
        *self.places.borrow_mut() =
            view.backends().iter().map(|backend| (backend.id(), backend.shared_addresses())).collect();
        for (backend, lane) in self.lanes.borrow_mut().iter_mut() {
            lane.retain(|idle| self.is_in_place(*backend, idle));
        }
    }

    /// Whether the connection leads where the backend is to be found today.
    fn is_in_place(&self, backend: BackendId, idle: &Idle<S>) -> bool {
        let places = self.places.borrow();
        places.get(&backend).is_some_and(|addresses| addresses.contains(&idle.connection.address))
    }

    /// How many connections are idle.
    pub(crate) fn len(&self) -> usize {
        self.cooling.borrow().len() + self.lanes.borrow().values().map(Vec::len).sum::<usize>()
    }

    /// Closes everything.
    pub(crate) fn clear(&self) {
        self.cooling.borrow_mut().clear();
        self.lanes.borrow_mut().clear();
    }
}
