//! The view of a cluster for workers: the backends in rotation, immutable, and the pick among them.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::balance::{Balancer, Key, Query};
use crate::{Evidence, Observation, Time};

/// The backends in rotation at one moment, and the algorithm that picks among them.
///
/// Control publishes a new view when the set of admitted backends changes; workers read the view that they hold without
/// a lock. Only the counters behind the view are written.
#[derive(Debug)]
pub struct View {
    pub(crate) backends: Box<[Backend]>,
    pub(crate) balancer: Balancer,
}

/// The result of a pick.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<P> {
    /// A backend was picked; its count of exchanges in flight is one higher.
    Picked(P),
    /// Every backend is at its limit; pick again when an exchange has finished. No algorithm returns this before
    /// backends have limits.
    Wait,
    /// No backend can be picked.
    None(NoBackend),
}

impl<P> Choice<P> {
    /// The pick, if a backend was picked.
    pub fn picked(self) -> Option<P> {
        match self {
            Choice::Picked(pick) => Some(pick),
            Choice::Wait | Choice::None(_) => None,
        }
    }
}

/// Why no backend was picked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoBackend {
    /// No backend is in rotation.
    NoneAdmitted,
    /// This exchange has tried every backend in rotation.
    AllTried,
}

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoBackend::NoneAdmitted => "no backend is in rotation",
            NoBackend::AllTried => "the request failed at every backend in rotation",
        })
    }
}

impl std::error::Error for NoBackend {}

/// The outcome of an attempt for the health and the counts of its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered, with any status.
    Answered,
    /// LoadX could not open a connection because of the backend; with the reason, as text for logs.
    ConnectFailed(Arc<str>),
    /// The backend accepted the connection and then closed it too early, timed out or sent an invalid response.
    Broke,
    /// The attempt ended for a reason that says nothing about the backend.
    Cancelled,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The outcome for the backend.
    pub outcome: Outcome,
    /// The status of the response; 0 without a response.
    pub status: u16,
    /// The time from the pick to the head of the response; zero without a response.
    pub first_byte: Duration,
    /// The time from the pick to the end of the attempt.
    pub took: Duration,
}

impl Ended {
    /// An attempt that ended without a response.
    pub fn unanswered(outcome: Outcome, took: Duration) -> Self {
        Ended { outcome, status: 0, first_byte: Duration::ZERO, took }
    }
}

impl View {
    /// Chooses a backend for one attempt and counts the attempt as in flight. See [`Pick::choose`].
    pub fn pick(&self, query: &Query<'_>) -> Choice<Pick<&View>> {
        Pick::choose(self, query)
    }

    /// The key of a client's address; `None` when the algorithm of this view does not use the address.
    pub fn key(&self, client: IpAddr) -> Option<Key> {
        self.balancer.key(client)
    }

    /// The backends in rotation, in the order of the config.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }
}

/// The picked backend of one attempt. [Finish](Pick::finish) the pick; a dropped pick counts as cancelled, so that
/// counts of exchanges in flight cannot leak.
///
/// A pick holds its view by a pointer of the caller's choice: the pointer of a worker costs no atomic count.
#[must_use = "a pick counts as in flight until it is finished"]
#[derive(Debug)]
pub struct Pick<V: Deref<Target = View>> {
    view: V,
    index: usize,
    at: Time,
}

impl<V: Deref<Target = View>> Pick<V> {
    /// Chooses a backend of `view` for one attempt and counts the attempt as in flight.
    pub fn choose(view: V, query: &Query<'_>) -> Choice<Self> {
        if view.backends.is_empty() {
            return Choice::None(NoBackend::NoneAdmitted);
        }
        let Some(index) = view.balancer.choose(&view.backends, query) else {
            return Choice::None(NoBackend::AllTried);
        };
        view.backends[index].load.begin();
        Choice::Picked(Pick { view, index, at: query.now })
    }

    /// The picked backend.
    pub fn backend(&self) -> &Backend {
        &self.view.backends[self.index]
    }

    /// The position of the backend in [`View::backends`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The time of the pick.
    pub fn at(&self) -> Time {
        self.at
    }

    /// Ends the attempt. Returns the evidence for control, if there is any.
    pub fn finish(self, ended: Ended) -> Option<Observation> {
        match ended.outcome {
            Outcome::ConnectFailed(reason) => {
                Some(Observation { began: self.at, evidence: Evidence::ConnectFailed { reason } })
            }
            Outcome::Answered | Outcome::Broke | Outcome::Cancelled => None,
        }
    }
}

impl<V: Deref<Target = View>> Drop for Pick<V> {
    fn drop(&mut self) {
        self.backend().load.end();
    }
}
