//! A client's connection, as serving it and carrying out its exchanges both need it.

use std::net::IpAddr;
use std::time::Duration;

use loadx_core::Time;

use crate::buffers::Input;
use crate::clock::Clock;
use crate::downstream::parking::Parked;
use crate::downstream::wire::Wire;
use crate::limits::REST_AFTER;
use crate::net::Stream;
use crate::shared::Place;
use crate::timer::Timer;
use crate::upstream::pool::Mark;

/// A client's connection while it is served.
#[derive(Debug)]
pub(crate) struct Client<S: Stream> {
    pub(crate) wire: Wire<S>,
    pub(crate) peer: IpAddr,
    /// The position in the plan of the listener that accepted the connection.
    pub(crate) listener: u32,
    pub(crate) timer: Timer,
    /// What was read and belongs to a request that is still to be served.
    pub(crate) input: Input,
    /// Requests that it has sent.
    pub(crate) requests: u32,
    /// Since when it has nothing to do, if so.
    pub(crate) idle_since: Time,
    /// Whether its last request came soon after the one before: the next one will too.
    pub(crate) brisk: bool,
    pub(crate) place: Place,
}

impl<S: Stream> Client<S> {
    /// One that has just come.
    pub(crate) fn new(stream: S, peer: IpAddr, listener: u32, place: Place, clock: Clock) -> Self {
        let timer = Timer::new(clock);
        Client {
            wire: Wire { stream, unfinished: false },
            peer,
            listener,
            idle_since: timer.latest(),
            timer,
            input: Input::default(),
            requests: 0,
            brisk: false,
            place,
        }
    }

    /// One that has rested.
    pub(crate) fn awake(parked: Parked<S>, clock: Clock) -> Self {
        let Parked { wire, peer, listener, requests, place, since, .. } = parked;
        let timer = Timer::new(clock);
        let brisk = timer.latest() < since + REST_AFTER;
        Client { wire, peer, listener, timer, input: Input::default(), requests, idle_since: since, brisk, place }
    }

    /// What is kept of it while it rests.
    pub(crate) fn parked(self, keepalive: Duration, silent_at: Mark) -> Parked<S> {
        let Client { wire, peer, listener, requests, idle_since: since, place, .. } = self;
        Parked { wire, peer, listener, requests, place, silent_at, since, until: since + keepalive }
    }
}
