//! Idle connections of one worker to its backends.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::task::{Context, Waker};

use loadx_core::{Backend, BackendId, Time, View};

use crate::limits::{IDLE_PER_BACKEND_MAX, IDLE_TO_BACKEND};
use crate::net::Stream;

/// Idle connections, by backend; of each the one that was used last is used next.
#[derive(Debug)]
pub(crate) struct Pool<S> {
    lanes: RefCell<HashMap<BackendId, Vec<Idle<S>>>>,
}

#[derive(Debug)]
struct Idle<S> {
    stream: S,
    since: Time,
}

impl<S: Stream> Pool<S> {
    pub(crate) fn new() -> Self {
        Pool { lanes: RefCell::default() }
    }

    /// Takes a connection that is still silent. One that became readable while idle was closed by the
    /// backend, or holds bytes that belong to no request: it is not used. Finding that out costs no
    /// system call.
    pub(crate) fn take(&self, backend: BackendId) -> Option<S> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.get_mut(&backend)?;
        while let Some(idle) = lane.pop() {
            if is_silent(&idle.stream) {
                return Some(idle.stream);
            }
        }
        None
    }

    /// Keeps a connection for later; where there are many already, it is closed.
    pub(crate) fn put(&self, backend: BackendId, stream: S, now: Time) {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.entry(backend).or_default();
        if lane.len() < IDLE_PER_BACKEND_MAX {
            lane.push(Idle { stream, since: now });
        }
    }

    /// Closes what was idle for too long or was closed by its backend.
    pub(crate) fn sweep(&self, now: Time) {
        for lane in self.lanes.borrow_mut().values_mut() {
            lane.retain(|idle| now.since(idle.since) < IDLE_TO_BACKEND && is_silent(&idle.stream));
        }
    }

    /// Closes the connections to backends that are not in rotation.
    pub(crate) fn retain_admitted(&self, view: &View) {
        let admitted: HashSet<BackendId> = view.backends().iter().map(Backend::id).collect();
        self.lanes.borrow_mut().retain(|id, _| admitted.contains(id));
    }

    /// Closes everything.
    pub(crate) fn clear(&self) {
        self.lanes.borrow_mut().clear();
    }
}

fn is_silent<S: Stream>(stream: &S) -> bool {
    stream.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending()
}
