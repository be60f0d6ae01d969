//! Idle connections of one worker to its backends.
//!
//! A connection must not be lent while it holds bytes that belong to no request: whoever came next
//! would take them for the answer. The runtime learns of bytes only when it polls the system, so a
//! connection that comes back *cools* until that has happened; only then its silence means something.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};

use loadx_core::{BackendId, Time, View};
use tokio::sync::Notify;

use crate::limits::{IDLE_PER_BACKEND_MAX, IDLE_TO_BACKEND};
use crate::net::Stream;

/// Idle connections, by backend; of each the one that was used last is used next.
#[derive(Debug)]
pub(crate) struct Pool<S> {
    lanes: RefCell<HashMap<BackendId, Vec<Idle<S>>>>,
    cooling: RefCell<Vec<(BackendId, Idle<S>)>>,
    came_back: Notify,
}

#[derive(Debug)]
struct Idle<S> {
    stream: S,
    since: Time,
}

impl<S: Stream> Pool<S> {
    pub(crate) fn new() -> Self {
        Pool { lanes: RefCell::default(), cooling: RefCell::default(), came_back: Notify::new() }
    }

    /// Takes a connection that is still silent. One that became readable while idle was closed by the
    /// backend, or holds bytes that belong to no request: it is not used. Finding that out costs no
    /// system call, except for a connection that has not cooled, which is used when there is no other.
    pub(crate) fn take(&self, backend: BackendId) -> Option<S> {
        if let Some(lane) = self.lanes.borrow_mut().get_mut(&backend) {
            while let Some(idle) = lane.pop() {
                if is_silent(&idle.stream) {
                    return Some(idle.stream);
                }
            }
        }
        let mut cooling = self.cooling.borrow_mut();
        while let Some(place) = cooling.iter().rposition(|(id, _)| *id == backend) {
            let (_, idle) = cooling.swap_remove(place);
            if idle.stream.holds_nothing() {
                return Some(idle.stream);
            }
        }
        None
    }

    /// Keeps a connection for later.
    pub(crate) fn put(&self, backend: BackendId, stream: S, now: Time) {
        let mut cooling = self.cooling.borrow_mut();
        if cooling.is_empty() {
            self.came_back.notify_one();
        }
        cooling.push((backend, Idle { stream, since: now }));
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
                // Where there are many already, or it spoke out of turn, it is closed.
                if lane.len() < IDLE_PER_BACKEND_MAX && is_silent(&idle.stream) {
                    lane.push(idle);
                }
            }
        }
    }

    /// Closes what was idle for too long or was closed by its backend.
    pub(crate) fn sweep(&self, now: Time) {
        for lane in self.lanes.borrow_mut().values_mut() {
            lane.retain(|idle| now.since(idle.since) < IDLE_TO_BACKEND && is_silent(&idle.stream));
        }
    }

    /// Closes the connections to backends that are not in rotation any more, or not where they were.
    pub(crate) fn follow(&self, before: &View, now: &View) {
        let places = |view: &View| -> HashMap<BackendId, Arc<[SocketAddr]>> {
            view.backends().iter().map(|backend| (backend.id(), backend.shared_addresses())).collect()
        };
        let (before, now) = (places(before), places(now));
        let stays = |id: &BackendId| now.get(id).is_some_and(|place| before.get(id).is_none_or(|was| was == place));
        self.lanes.borrow_mut().retain(|id, _| stays(id));
        self.cooling.borrow_mut().retain(|(id, _)| stays(id));
    }

    /// Closes everything.
    pub(crate) fn clear(&self) {
        self.cooling.borrow_mut().clear();
        self.lanes.borrow_mut().clear();
    }
}

fn is_silent<S: Stream>(stream: &S) -> bool {
    stream.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending()
}
