//! What workers see: the backends in rotation, immutable, and the choice among them.

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
    /// Chooses a backend for one exchange and counts it as in flight.
    ///
    /// # Errors
    /// When no backend is in rotation, or all of them are in `query.tried`.
    pub fn pick(&self, now: Time, query: &Query<'_>) -> Result<Pick<'_>, NoBackend> {
        if self.backends.is_empty() {
            return Err(NoBackend::NoneAdmitted);
        }
        let index = self.balancer.choose(&self.backends, query).ok_or(NoBackend::AllTried)?;
        let backend = &self.backends[index];
        backend.load.begin();
        Ok(Pick { backend, index, at: now })
    }

    /// Ends what [`pick`](View::pick) began. What control should hear of it is returned.
    pub fn finish(&self, _now: Time, pick: Pick<'_>, outcome: Outcome) -> Option<Observation> {
        let began = pick.at;
        drop(pick);
        match outcome {
            Outcome::ConnectFailed(reason) => Some(Observation { began, evidence: Evidence::ConnectFailed { reason } }),
            Outcome::Answered | Outcome::Broke | Outcome::Cancelled => None,
        }
    }

    /// The backends in rotation, in the order of the config.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }
}

/// One exchange's claim on one backend. Hand it to [`View::finish`]; dropped, it counts as
/// cancelled, so that in-flight counts cannot leak.
#[must_use = "a pick counts as in flight until it is finished"]
#[derive(Debug)]
pub struct Pick<'v> {
    backend: &'v Backend,
    index: usize,
    at: Time,
}

impl<'v> Pick<'v> {
    /// The backend that was chosen.
    pub fn backend(&self) -> &'v Backend {
        self.backend
    }

    /// Its place in [`View::backends`].
    pub fn index(&self) -> usize {
        self.index
    }
}

impl Drop for Pick<'_> {
    fn drop(&mut self) {
        self.backend.load.end();
    }
}
