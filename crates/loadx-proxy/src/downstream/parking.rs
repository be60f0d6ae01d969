//! Parked connections of clients: served at least once, and idle.
//!
//! Most client connections are idle, so a parked connection has no task, no timer and no buffer. When the client sends
//! again, the connection gets a task.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use loadx_core::{ListenerId, Time};
use loadx_http::h2::{Connection, Server};
use slab::Slab;

use crate::downstream::wire::Wire;
use crate::limits::IDLE_SLOT;
use crate::net::Stream;
use crate::origin::Origin;
use crate::shared::Place;
use crate::upstream::pool::Mark;
use crate::wakes::{NumberedWaker, WakeQueue};

/// The parked connections of one worker.
pub(crate) struct Parking<S: Stream> {
    spots: RefCell<Slab<Parked<S>>>,
    /// Wakers by spot. The next connection on a spot reuses the waker.
    wakers: RefCell<Vec<Arc<NumberedWaker>>>,
    /// The spots by the slot in which their connections expire. A spot may have another connection by then.
    leaving: RefCell<BTreeMap<u64, Vec<u32>>>,
    queue: Arc<WakeQueue>,
}

/// A parked connection.
pub(crate) struct Parked<S: Stream> {
    pub(crate) wire: Wire<S>,
    pub(crate) origin: Origin,
    pub(crate) listener: ListenerId,
    pub(crate) requests: u32,
    /// When the connection was accepted.
    pub(crate) opened: Time,
    pub(crate) place: Place,
    /// A moment at which the runtime reported the stream as not ready.
    pub(crate) silent_at: Mark,
    /// Since when the connection is idle.
    pub(crate) since: Time,
    /// When the connection expires.
    pub(crate) until: Time,
    /// The state of the connection if the client speaks HTTP/2.
    pub(crate) h2: Option<Box<Connection<Server>>>,
}

impl<S: Stream> Parked<S> {
    /// Closes the connection. A client of HTTP/2 learns that LoadX has not served what is under way (RFC 9113, section 6.8).
    fn close(self) {
        if let Some(mut connection) = self.h2 {
            let mut out = Vec::new();
            connection.leave(&mut out);
            // A client that does not read does not get the frame.
            let _ = self.wire.stream.try_write(&[IoSlice::new(&out)]);
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

    /// Parks a connection. Returns the connection if its stream is already readable.
    pub(crate) fn park(&self, client: Parked<S>) -> Option<Parked<S>> {
        let slot = slot_of(client.until) + 1;
        let spot = self.spots.borrow_mut().insert(client);
        let mut wakers = self.wakers.borrow_mut();
        while wakers.len() <= spot {
            let waker = self.queue.waker(wakers.len() as u32);
            wakers.push(waker);
        }
        let waker = &wakers[spot];
        waker.rearm();
        if self.is_readable(spot, &Waker::from(Arc::clone(waker))) {
            return Some(self.spots.borrow_mut().remove(spot));
        }
        self.leaving.borrow_mut().entry(slot).or_default().push(spot as u32);
        None
    }

    /// Takes the next connection whose stream is readable: the client sent bytes or closed. The runtime has polled the
    /// system since the connection was parked.
    pub(crate) fn poll_awake(&self, cx: &mut Context<'_>) -> Poll<Parked<S>> {
        loop {
            let spot = ready!(self.queue.poll_last(cx)) as usize;
            let waker = Arc::clone(&self.wakers.borrow()[spot]);
            waker.rearm();
            if self.spots.borrow().contains(spot) && self.is_readable(spot, &Waker::from(waker)) {
                return Poll::Ready(self.spots.borrow_mut().remove(spot));
            }
        }
    }

    fn is_readable(&self, spot: usize, waker: &Waker) -> bool {
        let spots = self.spots.borrow();
        // Without a budget: after the task's budget is used up, the runtime would report all streams as not ready.
        let readable =
            tokio::task::coop::unconstrained(std::future::poll_fn(|cx| spots[spot].wire.stream.poll_readable(cx)));
        std::pin::pin!(readable).poll(&mut Context::from_waker(waker)).is_ready()
    }

    /// Closes expired connections, up to an [`IDLE_SLOT`] late.
    pub(crate) fn expire(&self, now: Time) {
        loop {
            let due = {
                let mut leaving = self.leaving.borrow_mut();
                match leaving.first_entry() {
                    Some(first) if *first.key() <= slot_of(now) => first.remove(),
                    _ => return,
                }
            };
            let mut spots = self.spots.borrow_mut();
            for spot in due {
                if spots.get(spot as usize).is_some_and(|parked| parked.until <= now) {
                    spots.remove(spot as usize).close();
                }
            }
        }
    }

    /// Closes the silent connection that expires first. Returns false if there is none.
    pub(crate) fn shed(&self) -> bool {
        let leaving = self.leaving.borrow();
        let mut spots = self.spots.borrow_mut();
        let first = leaving
            .values()
            .flatten()
            .map(|spot| *spot as usize)
            .find(|spot| spots.get(*spot).is_some_and(|parked| parked.wire.stream.holds_nothing()));
        first.map(|spot| spots.remove(spot).close()).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spots.borrow().is_empty()
    }

    /// Calls `count` with the listener of each connection.
    pub(crate) fn listeners(&self, count: impl FnMut(ListenerId)) {
        self.spots.borrow().iter().map(|(_, parked)| parked.listener).for_each(count);
    }

    /// Removes the connections for which `leaves` is true. Returns those with a readable stream and closes the others.
    pub(crate) fn take(&self, leaves: impl Fn(&Parked<S>) -> bool) -> Vec<Parked<S>> {
        let mut spots = self.spots.borrow_mut();
        let leaving: Vec<usize> = spots.iter().filter(|(_, parked)| leaves(parked)).map(|(spot, _)| spot).collect();
        let taken = leaving.into_iter().map(|spot| spots.remove(spot));
        let (silent, readable): (Vec<_>, Vec<_>) = taken.partition(|parked| crate::io::is_silent(&parked.wire.stream));
        silent.into_iter().for_each(Parked::close);
        readable
    }
}

fn slot_of(time: Time) -> u64 {
    time.as_nanos() / IDLE_SLOT.as_nanos() as u64
}
