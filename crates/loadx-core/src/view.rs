//! What workers see: the backends in rotation, immutable, and the choice among them.

use std::ops::Deref;
use std::sync::Arc;

use crate::backend::Backend;
use crate::balance::{Balancer, Key};
use crate::{BackendId, Evidence, Observation, Time};

/// The backends in rotation at one moment, and how to pick among them.
///
/// Control publishes a new view when who is admitted changes; workers read the one they have,
/// without a lock. Only the counters behind it are ever written.
#[derive(Debug)]
pub struct View {
    pub(crate) backends: Box<[Backend]>,
    pub(crate) balancer: Balancer,
}

/// What a pick depends on, beside the view.
#[derive(Copy, Clone, Debug)]
pub struct Query<'q> {
    /// Who asks; policies that keep a client with its backend go by it.
    pub key: Key,
    /// Backends that this exchange has already tried in vain.
    pub tried: &'q [BackendId],
}

/// Why no backend was picked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoBackend {
    /// None is in rotation.
    NoneAdmitted,
    /// This exchange has tried every one of them.
    AllTried,
}

/// How an exchange went, as far as its backend is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered, whatever the status.
    Answered,
    /// No connection could be opened: the backend's fault.
    ConnectFailed(Arc<str>),
    /// The backend took the request and broke off, timed out or answered nonsense.
    Broke,
    /// The exchange ended for reasons that say nothing about the backend.
    Cancelled,
}

impl View {
    /// Chooses a backend for one exchange and counts it as in flight. See [`Pick::choose`].
    ///
    /// # Errors
    /// When no backend is in rotation, or all of them are in `query.tried`.
    pub fn pick(&self, now: Time, query: &Query<'_>) -> Result<Pick<&View>, NoBackend> {
        Pick::choose(self, now, query)
    }

    /// The backends in rotation, in the order of the config.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }
}

/// One exchange's claim on one backend. [Finish](Pick::finish) it; dropped, it counts as cancelled, so
/// that in-flight counts cannot leak.
///
/// It keeps the view that it came from, by whatever pointer the caller chose: a worker's costs no
/// atomic count.
#[must_use = "a pick counts as in flight until it is finished"]
#[derive(Debug)]
pub struct Pick<V: Deref<Target = View>> {
    view: V,
    index: usize,
    at: Time,
}

impl<V: Deref<Target = View>> Pick<V> {
    /// Chooses a backend of `view` for one exchange and counts it as in flight.
    ///
    /// # Errors
    /// When no backend is in rotation, or all of them are in `query.tried`.
    pub fn choose(view: V, now: Time, query: &Query<'_>) -> Result<Self, NoBackend> {
        if view.backends.is_empty() {
            return Err(NoBackend::NoneAdmitted);
        }
        let index = view.balancer.choose(&view.backends, query).ok_or(NoBackend::AllTried)?;
        view.backends[index].load.begin();
        Ok(Pick { view, index, at: now })
    }

    /// The backend that was chosen.
    pub fn backend(&self) -> &Backend {
        &self.view.backends[self.index]
    }

    /// Its place in [`View::backends`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// Ends the exchange. What control should hear of it is returned.
    pub fn finish(self, _now: Time, outcome: Outcome) -> Option<Observation> {
        match outcome {
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
