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
    /// The number of requests that wait. `enter` raises the number under the lock; `settle` lowers the number, without the lock.
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
    /// When the request began to wait.
    pub fn since(&self) -> Time {
        self.since
    }

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
            self.wake();
        }
        changed
    }

    fn wake(&self) {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
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
    fn is_overloaded(&self) -> bool {
        self.is_overloaded.load(Ordering::Relaxed)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the wait at a place. Returns whether it waited.
    fn settle(&self, place: &Place, state: u8) -> bool {
        let waited = place.change(state);
        if waited && self.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.is_overloaded.store(false, Ordering::Relaxed);
        }
        waited
    }

    /// Puts a request into the queue, which began to wait at `since`: now, or when it first entered the queue. A request that had
    /// its turn in vain (`since` is before now) is the first of its client again. `None` if there is no room.
    ///
    /// The request must try to pick once more if it is the only one that waits ([`Entered::is_first`]): the last attempt may have
    /// ended before the request was in the queue. A request behind another need not, because the other one has.
    pub fn enter(&self, now: Time, client: Key, since: Time) -> Option<Entered> {
        let place = Arc::new(Place::new(since));
        let mut line = self.line();
        let begins_overload = line.look(now) && !self.is_overloaded.swap(true, Ordering::Relaxed);
        let live = self.waiting.fetch_add(1, Ordering::SeqCst);
        let (pushed, is_first) = (line.queue.push(client, Arc::clone(&place), since < now, live), live == 0);
        if let Pushed::Refused(_) = pushed {
            self.settle(&place, REFUSED);
            return None;
        }
        line.arrivals.push_back(Arc::clone(&place));
        if begins_overload {
            // The waiting requests learn that they have less time.
            line.arrivals.iter().for_each(|place| place.wake());
        }
        drop(line);
        if let Pushed::InsteadOf(other) = pushed {
            self.settle(&other, REFUSED);
        }
        Some(Entered { place, is_first })
    }

    /// Lets the next request go, because an attempt has ended, or because a request had its turn and got no backend.
    pub fn release(&self) {
        let newest_first = self.is_overloaded();
        let mut line = self.line();
        // A place may stop to wait between the look of the queue and the change.
        while let Some(place) = line.queue.pop(newest_first) {
            if self.settle(&place, GOES) {
                break;
            }
        }
    }

    /// Lets all requests go that wait: they pick, or wait again.
    pub(crate) fn release_all(&self) {
        let mut line = self.line();
        while let Some(place) = line.queue.pop(false) {
            self.settle(&place, GOES);
        }
    }

    /// Ends the wait of a request that is out of time or whose client has left. A turn that the request got at this moment goes to
    /// the next.
    pub fn leave(&self, place: &Place) {
        if !self.settle(place, LEFT) && place.state.load(Ordering::Acquire) == GOES {
            self.release();
        }
    }
}

/// A request in the queue.
#[derive(Debug)]
pub struct Entered {
    /// Its place.
    pub place: Arc<Place>,
    /// Whether no other request waits.
    pub is_first: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    use super::*;
    use crate::KeyPrefixes;

    fn gate(queue: usize) -> Gate {
        let limits = LimitPolicy { queue, queue_time: Duration::from_secs(5), ..LimitPolicy::default() };
        Gate::new(&limits)
    }

    fn client() -> Key {
        Key::from_ip([192, 0, 2, 1].into(), KeyPrefixes::default())
    }

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    struct Counter(AtomicU32);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn enter(gate: &Gate, millis: u64) -> Entered {
        gate.enter(at(millis), client(), at(millis)).unwrap()
    }

    #[test]
    fn a_request_behind_one_that_has_left_must_pick_again() {
        let gate = gate(10);
        let gone = enter(&gate, 0);
        assert!(gone.is_first && gate.is_busy());
        assert!(!enter(&gate, 0).is_first);
        gate.release_all();
        let gone = enter(&gate, 1);
        gate.leave(&gone.place);
        assert!(!gate.is_busy(), "a request that has left does not wait");
        assert!(enter(&gate, 2).is_first, "nobody else would see that a backend is free");
    }

    #[test]
    fn a_turn_passes_on_when_its_request_leaves() {
        let gate = gate(10);
        let (first, second) = (enter(&gate, 0), enter(&gate, 0));
        gate.release();
        gate.leave(&first.place);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(second.place.poll(&mut context), Poll::Ready(Turn::Go));
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn refused_requests_leave_nothing_behind() {
        let gate = gate(0);
        for number in 0..1_000 {
            assert!(gate.enter(at(number), client(), at(number)).is_none());
        }
        assert!(gate.line().arrivals.is_empty() && !gate.is_busy() && !gate.is_overloaded());
    }

    #[test]
    fn a_request_that_waits_again_has_no_more_time() {
        let gate = gate(10);
        let entered = enter(&gate, 0);
        gate.release();
        let again = gate.enter(at(100), client(), entered.place.since()).unwrap();
        assert_eq!(gate.deadline(&again.place), at(5_000));
    }

    #[test]
    fn overload_begins_after_a_lasting_wait_and_those_who_wait_learn_of_it() {
        let gate = gate(1_000);
        let counter = Arc::new(Counter(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&counter));
        let oldest = enter(&gate, 0);
        assert!(oldest.place.poll(&mut Context::from_waker(&waker)).is_pending());
        for millis in (10..=150).step_by(10) {
            enter(&gate, millis);
        }
        assert!(!gate.is_overloaded(), "over 50 ms for 100 ms, and not longer");
        enter(&gate, 151);
        assert!(gate.is_overloaded());
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        assert_eq!(gate.deadline(&oldest.place), at(50));
        gate.release_all();
        assert!(!gate.is_overloaded());
    }
}
