//! Clients at rest: connected, served at least once, and silent.
//!
//! They are many and idle, so each is kept as small as it can be: no task, no timer, no buffer. A client that sends
//! again is served by a task of its own, as at first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use loadx_core::Time;
use slab::Slab;

use crate::downstream::wire::Wire;
use crate::net::Stream;
use crate::shared::Place;
use crate::upstream::pool::Mark;

/// The clients of one worker that rest.
pub(crate) struct Parking<S: Stream> {
    spots: RefCell<Slab<Parked<S>>>,
    /// Wakers by spot. They outlive the clients, for the next one on the spot.
    wakers: RefCell<Vec<Arc<SpotWaker>>>,
    /// The spots whose clients have to go, by the second in which that is, if they are the same by then.
    leaving: RefCell<BTreeMap<u64, Vec<u32>>>,
    queue: Arc<WakeQueue>,
}

/// A client at rest.
pub(crate) struct Parked<S: Stream> {
    pub(crate) wire: Wire<S>,
    pub(crate) peer: IpAddr,
    pub(crate) listener: u32,
    pub(crate) requests: u32,
    pub(crate) place: Place,
    /// When the runtime knew nothing new of it.
    pub(crate) silent_at: Mark,
    /// Since when it has nothing to do, and until when it may.
    pub(crate) since: Time,
    pub(crate) until: Time,
}

/// The spots whose clients may have something to say, and the task that looks at them.
#[derive(Default)]
struct WakeQueue {
    woken: Mutex<Woken>,
}

#[derive(Default)]
struct Woken {
    spots: Vec<u32>,
    waiting: Option<Waker>,
}

/// Puts a spot into the queue when its stream can be read.
struct SpotWaker {
    spot: u32,
    /// Whether the spot is in the queue already.
    is_queued: AtomicBool,
    queue: Arc<WakeQueue>,
}

impl Wake for SpotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::Relaxed) {
            return;
        }
        let waiting = {
            let mut woken = self.queue.woken.lock().unwrap_or_else(PoisonError::into_inner);
            woken.spots.push(self.spot);
            woken.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl<S: Stream> Parking<S> {
    pub(crate) fn new() -> Self {
        Parking {
            spots: RefCell::default(),
            wakers: RefCell::default(),
            leaving: RefCell::default(),
            queue: Arc::default(),
        }
    }

    /// Lets a client rest. One that is awake already is returned.
    pub(crate) fn park(&self, client: Parked<S>) -> Option<Parked<S>> {
        let second = second_of(client.until) + 1;
        let spot = self.spots.borrow_mut().insert(client);
        let mut wakers = self.wakers.borrow_mut();
        while wakers.len() <= spot {
            let waker = SpotWaker {
                spot: wakers.len() as u32,
                is_queued: AtomicBool::new(false),
                queue: Arc::clone(&self.queue),
            };
            wakers.push(Arc::new(waker));
        }
        let waker = &wakers[spot];
        waker.is_queued.store(false, Ordering::Relaxed);
        if self.is_awake(spot, &Waker::from(Arc::clone(waker))) {
            return Some(self.spots.borrow_mut().remove(spot));
        }
        self.leaving.borrow_mut().entry(second).or_default().push(spot as u32);
        None
    }

    /// The next client that has something to say, or has left. That it has, the runtime has heard since it was
    /// parked.
    pub(crate) fn poll_awake(&self, cx: &mut Context<'_>) -> Poll<Parked<S>> {
        loop {
            let spot = {
                let mut woken = self.queue.woken.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(spot) = woken.spots.pop() else {
                    woken.waiting = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                spot as usize
            };
            let waker = Arc::clone(&self.wakers.borrow()[spot]);
            waker.is_queued.store(false, Ordering::Relaxed);
            if self.spots.borrow().contains(spot) && self.is_awake(spot, &Waker::from(waker)) {
                return Poll::Ready(self.spots.borrow_mut().remove(spot));
            }
        }
    }

    fn is_awake(&self, spot: usize, waker: &Waker) -> bool {
        let spots = self.spots.borrow();
        // Looking at many in one turn must not use up the budget of the task that looks.
        let look =
            tokio::task::coop::unconstrained(std::future::poll_fn(|cx| spots[spot].wire.stream.poll_readable(cx)));
        std::pin::pin!(look).poll(&mut Context::from_waker(waker)).is_ready()
    }

    /// Closes those whose time is over, to the second.
    pub(crate) fn expire(&self, now: Time) {
        loop {
            let due = {
                let mut leaving = self.leaving.borrow_mut();
                match leaving.first_entry() {
                    Some(first) if *first.key() <= second_of(now) => first.remove(),
                    _ => return,
                }
            };
            let mut spots = self.spots.borrow_mut();
            for spot in due {
                if spots.get(spot as usize).is_some_and(|parked| parked.until <= now) {
                    spots.remove(spot as usize);
                }
            }
        }
    }

    /// Closes the one that has rested for longest, of those that have not just spoken; false when there is none.
    pub(crate) fn shed(&self) -> bool {
        let leaving = self.leaving.borrow();
        let mut spots = self.spots.borrow_mut();
        let longest = leaving
            .values()
            .flatten()
            .map(|spot| *spot as usize)
            .find(|spot| spots.get(*spot).is_some_and(|parked| parked.wire.stream.holds_nothing()));
        longest.map(|spot| spots.remove(spot)).is_some()
    }

    /// Empties the place: those that have something to say are returned, the others are closed.
    pub(crate) fn clear(&self) -> Vec<Parked<S>> {
        let spots = std::mem::take(&mut *self.spots.borrow_mut());
        let all = spots.into_iter().map(|(_, parked)| parked);
        all.filter(|parked| !crate::io::is_silent(&parked.wire.stream)).collect()
    }
}

fn second_of(time: Time) -> u64 {
    time.since(Time::ZERO).as_secs()
}
