//! A client's connection and its exchanges.

use std::rc::Rc;
use std::sync::Arc;

use loadx_core::ListenerId;
use loadx_http::h2::{Connection, Priority, Server};
use loadx_http::limits::h2::STREAMS_MAX;

use super::starts::{Counted, Starts};
use crate::context::Worker;
use crate::downstream::wire::Wire;
use crate::h2::Mux;
use crate::net::{Network, StreamOf};
use crate::origin::Origin;
use crate::wakes::NumberedWaker;

/// A client's connection and its exchanges.
pub(super) struct Served<N: Network> {
    pub(super) worker: Rc<Worker<N>>,
    wire: Wire<StreamOf<N>>,
    pub(super) origin: Origin,
    pub(super) listener: ListenerId,
    /// Whether the client gets nothing but status endpoints.
    pub(super) is_spare: bool,
    pub(super) mux: Mux<Server, Arc<NumberedWaker>>,
    starts: Starts,
}

impl<N: Network> Served<N> {
    /// `connection`: the state of a connection that was served before.
    pub(super) fn new(
        worker: Rc<Worker<N>>,
        wire: Wire<StreamOf<N>>,
        (origin, listener, is_spare): (Origin, ListenerId, bool),
        connection: Option<Box<Connection<Server>>>,
    ) -> Self {
        let begin = |out: &mut Vec<u8>| connection.unwrap_or_else(|| Box::new(Connection::new(out)));
        let mux = Mux::new(&worker.buffers, begin);
        Served { worker, wire, origin, listener, is_spare, mux, starts: Starts::default() }
    }

    /// The connection to the client.
    pub(super) fn stream(&self) -> &StreamOf<N> {
        &self.wire.stream
    }

    /// What a connection without exchanges keeps.
    pub(super) fn into_parts(self) -> (Wire<StreamOf<N>>, Origin, Box<Connection<Server>>) {
        (self.wire, self.origin, self.mux.into_connection())
    }

    /// Whether no further exchange may begin although the client has reset streams.
    pub(super) fn is_full_of_resets(&self) -> bool {
        self.mux.look(Connection::running) >= STREAMS_MAX && self.mux.has_gone()
    }

    /// Adds an exchange with this number.
    pub(super) fn open(&self, number: usize, stream: u32, priority: Priority, waker: Arc<NumberedWaker>, ends: bool) {
        // Those that wait come first.
        self.begin_waiting();
        self.starts.open(number, || self.further());
        self.mux.open(number, stream, priority, waker, ends);
    }

    /// Ends an exchange.
    pub(super) fn close(&self, number: usize) {
        self.starts.close(number);
        self.begin_waiting();
        self.mux.close(number);
    }

    /// Begins exchanges that wait, if there is room.
    pub(super) fn begin_waiting(&self) {
        self.starts.begin_waiting(|| self.further(), |begins| self.mux.ring(begins));
    }

    /// Whether an exchange may begin. An exchange that may not is woken when another exchange of the connection has ended.
    pub(super) fn may_begin(&self, number: usize) -> bool {
        self.starts.may_begin(number) || self.mux.gone(number).is_some()
    }

    /// Counts an exchange beside the first of its connection, if there may be one.
    fn further(&self) -> Option<Counted> {
        self.worker.may_begin_further().then(|| Counted::new(&self.worker.further_exchanges))
    }
}
