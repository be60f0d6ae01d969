//! Clients at rest: connected, served at least once, and silent.
//!
//! They are many and have nothing to do, so each is kept as small as it can be: no task, no timer, no buffer. Who
//! speaks again is served by a task of its own, as at first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use loadx_core::Time;
use slab::Slab;

use crate::connection::Wire;
use crate::net::Stream;
use crate::pool::Mark;
use crate::shared::Place;

/// The clients of one worker that rest.
pub(crate) struct Parking<S: Stream> {
    spots: RefCell<Slab<Parked<S>>>,
    /// Wakers by spot. They outlive the clients, for the next one on the spot.
    bells: RefCell<Vec<Arc<Bell>>>,
    /// The spots whose clients have to go, by the second in which that is, if they are the same by then.
    leaving: RefCell<BTreeMap<u64, Vec<u32>>>,
    desk: Arc<Desk>,
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

/// Which spots have rung, and whom that concerns.
#[derive(Default)]
struct Desk {
    rung: Mutex<Rung>,
}

#[derive(Default)]
struct Rung {
    spots: Vec<u32>,
    attendant: Option<Waker>,
}

/// What a stream rings when it can be read.
struct Bell {
    spot: u32,
    /// Whether it has rung and nobody has come yet.
    rung: AtomicBool,
    desk: Arc<Desk>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::Relaxed) {
            return;
        }
        let attendant = {
            let mut rung = self.desk.rung.lock().unwrap_or_else(PoisonError::into_inner);
            rung.spots.push(self.spot);
            rung.attendant.take()
        };
        if let Some(attendant) = attendant {
            attendant.wake();
        }
    }
}

impl<S: Stream> Parking<S> {
    pub(crate) fn new() -> Self {
        Parking {
            spots: RefCell::default(),
            bells: RefCell::default(),
            leaving: RefCell::default(),
            desk: Arc::default(),
        }
    }

    /// Lets a client rest. One that is awake already is returned.
    pub(crate) fn park(&self, client: Parked<S>) -> Option<Parked<S>> {
        let second = second_of(client.until) + 1;
        let spot = self.spots.borrow_mut().insert(client);
        let mut bells = self.bells.borrow_mut();
        while bells.len() <= spot {
            let bell = Bell { spot: bells.len() as u32, rung: AtomicBool::new(false), desk: Arc::clone(&self.desk) };
            bells.push(Arc::new(bell));
        }
        let bell = &bells[spot];
        bell.rung.store(false, Ordering::Relaxed);
        if self.is_awake(spot, &Waker::from(Arc::clone(bell))) {
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
                let mut rung = self.desk.rung.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(spot) = rung.spots.pop() else {
                    rung.attendant = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                spot as usize
            };
            let bell = Arc::clone(&self.bells.borrow()[spot]);
            bell.rung.store(false, Ordering::Relaxed);
            if self.spots.borrow().contains(spot) && self.is_awake(spot, &Waker::from(bell)) {
                return Poll::Ready(self.spots.borrow_mut().remove(spot));
            }
        }
    }

    fn is_awake(&self, spot: usize, bell: &Waker) -> bool {
        let spots = self.spots.borrow();
        // Looking at many in one turn must not use up the budget of the task that looks.
        let look =
            tokio::task::coop::unconstrained(std::future::poll_fn(|cx| spots[spot].wire.stream.poll_readable(cx)));
        std::pin::pin!(look).poll(&mut Context::from_waker(bell)).is_ready()
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
