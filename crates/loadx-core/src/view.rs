//! What workers see of a cluster: the backends in rotation, immutable, and the choice among them.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::balance::{Balancer, Key, Query};
use crate::{Evidence, Observation, Time};

/// The backends in rotation at one moment, and how to pick among them.
///
/// Control publishes a new view when the set of admitted backends changes; workers read the view they hold,
/// without a lock. Only the counters behind the view are ever written.
#[derive(Debug)]
pub struct View {
    pub(crate) backends: Box<[Backend]>,
    pub(crate) balancer: Balancer,
}

/// The result of a pick.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<P> {
    /// A backend was chosen and counts one exchange more.
    Picked(P),
    /// Every backend that could be chosen is at its limit; ask again when one has finished an exchange. No policy
    /// answers this before backends have limits.
    Wait,
    /// No backend can be chosen.
    None(NoBackend),
}

impl<P> Choice<P> {
    /// The pick, if a backend was chosen.
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
    /// This exchange has asked every backend in rotation.
    AllTried,
}

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoBackend::NoneAdmitted => "no backend is in rotation",
            NoBackend::AllTried => "every backend in rotation was tried in vain",
        })
    }
}

impl std::error::Error for NoBackend {}

/// The outcome of an attempt, as far as its backend is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered, with any status.
    Answered,
    /// No connection could be opened, and the backend is to blame. The reason, in words.
    ConnectFailed(Arc<str>),
    /// The backend took the request and then broke off, timed out or sent an invalid response.
    Broke,
    /// The attempt ended for reasons that say nothing about the backend.
    Cancelled,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The outcome, as far as the backend is concerned.
    pub outcome: Outcome,
    /// The status of the response; 0 when there was none.
    pub status: u16,
    /// From the pick to the head of the response; zero when there was none.
    pub first_byte: Duration,
    /// From the pick to the end.
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

    /// The key of a client's address, if the policy of this view needs one.
    pub fn key(&self, client: IpAddr) -> Option<Key> {
        self.balancer.key(client)
    }

    /// The backends in rotation, in the order of the config.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }
}

/// One attempt's claim on one backend. [Finish](Pick::finish) the pick; a dropped pick counts as cancelled, so that
/// in-flight counts cannot leak.
///
/// A pick keeps its view, by any pointer that the caller chooses: the pointer of a worker costs no atomic count.
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

    /// The backend that was chosen.
    pub fn backend(&self) -> &Backend {
        &self.view.backends[self.index]
    }

    /// The position of the backend in [`View::backends`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// When the backend was picked.
    pub fn at(&self) -> Time {
        self.at
    }

    /// Ends the attempt. Returns the evidence that control should hear of.
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
