//! The queue of a cluster, shared by all workers.

#![expect(clippy::disallowed_types, reason = "only requests beyond the limits of the backends take these locks")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{LimitPolicy, Pushed, Queue, Ticket};
use crate::{Key, Time};

/// The requests of a cluster that wait for a backend below its limit. Workers take the lock only when a request must wait, and
/// when an attempt ends while requests wait.
#[derive(Debug)]
pub struct Gate {
    /// The longest time in the queue, in nanoseconds.
    queue_time: AtomicU64,
    /// How many requests wait, or did not wait long ago.
    waiting: AtomicUsize,
    /// Whether the queue gives short times and serves the newest first, until it is empty.
    is_overloaded: AtomicBool,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    queue: Queue<Arc<Place>>,
    /// The places in the order of their arrival; some no longer wait.
    arrivals: VecDeque<Arc<Place>>,
    /// Since when the oldest request has always been waiting for longer than [`LimitPolicy::OVERLOAD_QUEUE_TIME`].
    slow_since: Option<Time>,
}

impl Line {
    /// Notes how long the oldest request waits. Returns whether the queue is overloaded.
    fn look(&mut self, now: Time) -> bool {
        while self.arrivals.front().is_some_and(|place| !place.waits()) {
            self.arrivals.pop_front();
        }
        if self.arrivals.len() > 2 * self.queue.len() + ARRIVALS_SPARE {
            self.arrivals.retain(Ticket::waits);
        }
        let oldest = self.arrivals.front().map(|place| place.since + LimitPolicy::OVERLOAD_QUEUE_TIME);
        self.slow_since = match (oldest.filter(|slow_from| *slow_from < now), self.slow_since) {
            (None, _) => None,
            (Some(slow_from), None) => Some(slow_from),
            (Some(_), since) => since,
        };
        self.slow_since.is_some_and(|since| now.since(since) > LimitPolicy::OVERLOAD_AFTER)
    }
}

/// How many places of the past the list of arrivals may have beside twice the waiting ones.
const ARRIVALS_SPARE: usize = 64;

/// The place of one request in the queue.
#[derive(Debug)]
pub struct Place {
    state: AtomicU8,
    waker: Mutex<Waker>,
    since: Time,
}

/// What a place says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The request may try to pick a backend.
    Go,
    /// The request is refused.
    Refused,
}

const WAITS: u8 = 0;
const GOES: u8 = 1;
const REFUSED: u8 = 2;
const LEFT: u8 = 3;

impl Ticket for Arc<Place> {
    fn waits(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITS
    }
}

impl Place {
    fn new(since: Time) -> Self {
        Place { state: AtomicU8::new(WAITS), waker: Mutex::new(Waker::noop().clone()), since }
    }

    /// Waits for the turn of the request.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Turn> {
        // The waker is set first: a state that changes in between is either seen below or wakes this task.
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        match self.state.load(Ordering::Acquire) {
            GOES => Poll::Ready(Turn::Go),
            REFUSED => Poll::Ready(Turn::Refused),
            _ => Poll::Pending,
        }
    }

    /// Changes the state of a place that waits. Returns whether it waited.
    fn change(&self, state: u8) -> bool {
        let changed = self.state.compare_exchange(WAITS, state, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if changed {
            self.waker.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
        changed
    }
}

impl Gate {
    pub(crate) fn new(policy: &LimitPolicy) -> Self {
        let gate = Gate {
            queue_time: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            is_overloaded: AtomicBool::new(false),
            line: Mutex::new(Line { queue: Queue::new(0), arrivals: VecDeque::new(), slow_since: None }),
        };
        gate.set_policy(policy);
        gate
    }

    pub(crate) fn set_policy(&self, policy: &LimitPolicy) {
        let nanos = u64::try_from(policy.queue_time.as_nanos()).unwrap_or(u64::MAX);
        self.queue_time.store(nanos, Ordering::Relaxed);
        self.line().queue.set_max(policy.queue);
    }

    /// When a request has waited long enough at this place. Earlier while the queue is overloaded.
    pub fn deadline(&self, place: &Place) -> Time {
        let queue_time = Duration::from_nanos(self.queue_time.load(Ordering::Relaxed));
        let limit = if self.is_overloaded() { LimitPolicy::OVERLOAD_QUEUE_TIME } else { queue_time };
        place.since + limit.min(queue_time)
    }

    /// Whether requests wait, so that a new request must wait behind them.
    pub fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// The number of requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether requests have been waiting for so long that the queue gives short times and serves the newest first, until it is
    /// empty.
    pub fn is_overloaded(&self) -> bool {
        self.is_overloaded.load(Ordering::Relaxed)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, line: &Line) {
        self.waiting.store(line.queue.len(), Ordering::SeqCst);
        if line.queue.is_empty() {
            self.is_overloaded.store(false, Ordering::Relaxed);
        }
    }

    /// Puts a request into the queue. `None` if there is no room.
    pub fn enter(&self, now: Time, client: Key) -> Option<Arc<Place>> {
        let place = Arc::new(Place::new(now));
        let mut line = self.line();
        if line.look(now) {
            self.is_overloaded.store(true, Ordering::Relaxed);
        }
        let pushed = line.queue.push(client, Arc::clone(&place));
        line.arrivals.push_back(Arc::clone(&place));
        self.note(&line);
        drop(line);
        match pushed {
            Pushed::Waits => Some(place),
            Pushed::InsteadOf(other) => {
                other.change(REFUSED);
                Some(place)
            }
            Pushed::Refused(_) => None,
        }
    }

    /// Lets the next request go, because an attempt has ended.
    pub(crate) fn release(&self) {
        let newest_first = self.is_overloaded();
        let mut line = self.line();
        // A place may stop to wait between the look of the queue and the change.
        while let Some(place) = line.queue.pop(newest_first) {
            if place.change(GOES) {
                break;
            }
        }
        self.note(&line);
    }

    /// Lets all requests go that wait: they pick, or wait again.
    pub(crate) fn release_all(&self) {
        let mut line = self.line();
        while let Some(place) = line.queue.pop(false) {
            place.change(GOES);
        }
        self.note(&line);
    }

    /// Ends the wait of a request that is out of time or whose client has left. A turn that the request got at this moment goes to
    /// the next.
    pub fn leave(&self, place: &Place) {
        if !place.change(LEFT) && place.state.load(Ordering::Acquire) == GOES {
            self.release();
        }
    }
}
