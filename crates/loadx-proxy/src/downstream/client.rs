//! The state of one client connection while a task serves the connection.

use std::time::Duration;

use loadx_core::{ListenerId, Time};
use loadx_http::h2::{Connection, Server};

use crate::buffers::Input;
use crate::clock::Clock;
use crate::downstream::parking::Parked;
use crate::downstream::wire::Wire;
use crate::limits::REST_AFTER;
use crate::net::Stream;
use crate::origin::Origin;
use crate::shared::Place;
use crate::timer::Timer;
use crate::upstream::pool::Mark;

/// A client connection that is not parked.
#[derive(Debug)]
pub(crate) struct Client<S: Stream> {
    pub(crate) wire: Wire<S>,
    pub(crate) origin: Origin,
    /// The listener that accepted the connection.
    pub(crate) listener: ListenerId,
    pub(crate) timer: Timer,
    /// Received bytes of the next requests.
    pub(crate) input: Input,
    /// Whether the content of the last request was larger than a buffer. Then the next request is expected to be as large.
    pub(crate) uploads: bool,
    /// The number of requests on this connection.
    pub(crate) requests: u32,
    /// When the connection was accepted.
    pub(crate) opened: Time,
    /// Since when the connection is idle, between requests.
    pub(crate) idle_since: Time,
    /// Whether the last request came within [`REST_AFTER`] of the former: then the next is expected as soon.
    pub(crate) recently_active: bool,
    /// The state of the connection if the client speaks HTTP/2 and was served before.
    pub(crate) h2: Option<Box<Connection<Server>>>,
    pub(crate) place: Place,
}

impl<S: Stream> Client<S> {
    /// A newly accepted connection.
    pub(crate) fn new(stream: S, origin: Origin, listener: ListenerId, place: Place, clock: Clock) -> Self {
        let timer = Timer::new(clock);
        Client {
            wire: Wire { stream, unfinished: false },
            origin,
            listener,
            opened: timer.latest(),
            idle_since: timer.latest(),
            timer,
            input: Input::default(),
            uploads: false,
            requests: 0,
            recently_active: false,
            h2: None,
            place,
        }
    }

    /// A connection that was parked.
    pub(crate) fn awake(parked: Parked<S>, clock: Clock) -> Self {
        let Parked { wire, origin, listener, requests, opened, place, since, h2, .. } = parked;
        let timer = Timer::new(clock);
        let recently_active = timer.latest() < since + REST_AFTER;
        let input = Input::default();
        let uploads = false;
        Client {
            wire,
            origin,
            listener,
            timer,
            input,
            uploads,
            requests,
            opened,
            idle_since: since,
            recently_active,
            h2,
            place,
        }
    }

    /// Reduces the connection to its parked state.
    pub(crate) fn parked(self, keepalive: Duration, silent_at: Mark) -> Parked<S> {
        let Client { wire, origin, listener, requests, opened, idle_since: since, h2, place, .. } = self;
        Parked { wire, origin, listener, requests, opened, place, silent_at, since, until: since + keepalive, h2 }
    }
}
