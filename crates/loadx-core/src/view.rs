//! The view of a cluster for workers: the backends in rotation, immutable, and the pick among them.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::admit::{Gate, Guards, Held};
use crate::backend::Backend;
use crate::balance::{Balancer, Key, Query};
use crate::{Evidence, HedgeClock, Observation, RetryBudget, Time};

/// The backends in rotation at one moment, and the algorithm that picks among them.
///
/// Control publishes a new view when the set of admitted backends changes; workers read the view that they hold without
/// a lock. Only the counters behind the view are written.
#[derive(Debug)]
pub struct View {
    pub(crate) backends: Box<[Backend]>,
    pub(crate) balancer: Balancer,
    /// The number of failed attempts in a row at one backend that workers report to control; `None`: workers note no
    /// outcomes.
    pub(crate) reported_row: Option<NonZeroU32>,
    /// Whether control looks at the outcomes of attempts.
    pub(crate) notes_outcomes: bool,
    pub(crate) budget: Arc<RetryBudget>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) guards: Option<Guards>,
    pub(crate) hedge: Option<Arc<HedgeClock>>,
}

/// The result of a pick.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Choice<P> {
    /// A backend was picked; its count of exchanges in flight is one higher.
    Picked(P),
    /// Every backend that this exchange has not tried is at its limit; pick again when an exchange has finished. See
    /// [`View::gate`].
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
    /// Every backend in rotation, or the cluster, is at its limit, and the exchange cannot wait, or has waited long enough.
    AtLimit,
    /// The circuit breaker of the cluster is open.
    BreakerOpen,
}

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoBackend::NoneAdmitted => "no backend is in rotation",
            NoBackend::AllTried => "the request failed at every backend in rotation",
            NoBackend::AtLimit => "every backend is at its limit, and too many requests wait; try again later",
            NoBackend::BreakerOpen => {
                "most requests to the backends failed, and no request gets a backend; try again later"
            }
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
    /// The backend, or the way to it, did not answer while LoadX opened a connection; with the reason, as text for logs.
    ConnectTimedOut(Arc<str>),
    /// The backend accepted the connection and then closed it too early, was silent for too long or sent an invalid response;
    /// with the reason, as text for logs.
    Broke(Arc<str>),
    /// Another backend, which got the request as well, answered first.
    Overtaken,
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

    /// Chooses a backend below its limit and counts an attempt there. Returns the position of the backend.
    fn begin(&self, query: &Query<'_>) -> Choice<usize> {
        if self.backends.is_empty() {
            return Choice::None(NoBackend::NoneAdmitted);
        }
        let Some(index) = self.balancer.choose(&self.backends, query) else {
            return Choice::None(NoBackend::AllTried);
        };
        if self.backends[index].load.begin() {
            return Choice::Picked(index);
        }
        self.begin_below_limit(index, query)
    }

    /// Chooses among the other backends, because the one at `full` is at its limit.
    #[cold]
    fn begin_below_limit(&self, full: usize, query: &Query<'_>) -> Choice<usize> {
        let mut tried = query.tried.to_vec();
        tried.push(self.backends[full].id());
        while let Some(index) = self.balancer.choose(&self.backends, &Query { tried: &tried, ..*query }) {
            if self.backends[index].load.begin() {
                return Choice::Picked(index);
            }
            tried.push(self.backends[index].id());
        }
        Choice::Wait
    }

    /// Chooses a backend if the limit and the circuit breaker of the cluster allow the attempt.
    #[cold]
    fn begin_behind(&self, guards: &Guards, query: &Query<'_>) -> Choice<usize> {
        match guards.begin() {
            Ok(()) => {
                let choice = self.begin(query);
                if !matches!(choice, Choice::Picked(_)) {
                    guards.end();
                }
                // Another request may just have found the cluster at its limit because of this one. With every backend at its
                // limit, the end of an attempt lets that request go.
                if let Choice::None(_) = choice
                    && self.gate.is_busy()
                {
                    self.gate.release();
                }
                choice
            }
            Err(Held::Full) => Choice::Wait,
            Err(Held::Open) => Choice::None(NoBackend::BreakerOpen),
        }
    }

    /// The key of a client's address; `None` when the algorithm of this view does not use the address.
    pub fn key(&self, client: IpAddr) -> Option<Key> {
        self.balancer.key(client)
    }

    /// The requests that wait because every backend is at its limit.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The requests of the cluster that may still be sent again.
    pub fn retry_budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// Whether the circuit breaker of the cluster is open.
    pub fn is_open(&self) -> bool {
        self.guards.as_ref().is_some_and(Guards::is_open)
    }

    /// The time after which a second backend gets a request, if the cluster hedges.
    pub fn hedge(&self) -> Option<&HedgeClock> {
        self.hedge.as_deref()
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
    /// Whether the end of the attempt says something about the backend.
    is_judged: bool,
}

impl<V: Deref<Target = View>> Pick<V> {
    /// Chooses a backend of `view` for one attempt and counts the attempt as in flight.
    #[inline]
    pub fn choose(view: V, query: &Query<'_>) -> Choice<Self> {
        // The usual way is written out: every exchange takes it.
        if view.guards.is_none()
            && !view.backends.is_empty()
            && let Some(index) = view.balancer.choose(&view.backends, query)
        {
            if view.backends[index].load.begin() {
                return Choice::Picked(Pick { view, index, at: query.now, is_judged: false });
            }
            let chosen = view.begin_below_limit(index, query);
            return Self::of(view, chosen, query);
        }
        let chosen = match &view.guards {
            None if view.backends.is_empty() => Choice::None(NoBackend::NoneAdmitted),
            None => Choice::None(NoBackend::AllTried),
            Some(guards) => view.begin_behind(guards, query),
        };
        Self::of(view, chosen, query)
    }

    fn of(view: V, chosen: Choice<usize>, query: &Query<'_>) -> Choice<Self> {
        match chosen {
            Choice::Picked(index) => Choice::Picked(Pick { view, index, at: query.now, is_judged: false }),
            Choice::Wait => Choice::Wait,
            Choice::None(none) => Choice::None(none),
        }
    }

    /// The picked backend.
    pub fn backend(&self) -> &Backend {
        &self.view.backends[self.index]
    }

    /// The view of the pick.
    pub fn view(&self) -> &V {
        &self.view
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
    pub fn finish(mut self, ended: Ended) -> Option<Observation> {
        let Ended { outcome, status, first_byte, .. } = ended;
        self.is_judged = !matches!(outcome, Outcome::Cancelled | Outcome::Overtaken);
        let evidence = match outcome {
            Outcome::Cancelled => return None,
            Outcome::Overtaken => {
                self.backend().load.note_overtaken();
                self.view.hedge.iter().for_each(|hedge| hedge.note_late());
                return None;
            }
            Outcome::Answered if !is_failure(status) => {
                if self.view.notes_outcomes {
                    self.backend().load.note_success(first_byte);
                }
                if let Some(hedge) = &self.view.hedge {
                    hedge.note(first_byte);
                }
                return None;
            }
            Outcome::Answered => self.in_a_row(|| format!("answered {status}").into())?,
            Outcome::Broke(reason) => self.in_a_row(|| reason)?,
            // Without probes, failed connects count like other failures.
            Outcome::ConnectFailed(reason) => {
                self.backend().load.note_failure();
                Evidence::ConnectFailed { reason }
            }
            Outcome::ConnectTimedOut(reason) => {
                self.backend().load.note_failure();
                Evidence::ConnectTimedOut { reason }
            }
        };
        Some(Observation { began: self.at, evidence })
    }

    /// Counts a failed attempt. Returns evidence if as many attempts in a row have failed as control wants to know of.
    fn in_a_row(&self, reason: impl FnOnce() -> Arc<str>) -> Option<Evidence> {
        if !self.view.notes_outcomes {
            return None;
        }
        let count = self.backend().load.note_failure();
        let reported_row = self.view.reported_row?.get();
        count.is_multiple_of(reported_row).then(|| Evidence::FailedInARow { count, last: reason() })
    }
}

/// Whether a status is a failure of the backend: 500 to 599, without the statuses that say that the backend does not know the
/// method or the version of the request (501 and 505).
fn is_failure(status: u16) -> bool {
    (500..=599).contains(&status) && !matches!(status, 501 | 505)
}

impl<V: Deref<Target = View>> Drop for Pick<V> {
    fn drop(&mut self) {
        self.backend().load.end(self.is_judged);
        if let Some(guards) = &self.view.guards {
            guards.end();
        }
        if self.view.gate.is_busy() {
            self.view.gate.release();
        }
    }
}
