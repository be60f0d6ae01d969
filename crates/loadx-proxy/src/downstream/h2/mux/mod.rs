//! What the exchanges of one connection share with the driver of the connection.
//!
//! Exchanges put frames into one output, which the driver writes; so the responses of many exchanges leave in one write. The
//! driver puts received content where the exchange of the stream takes the content.

mod starts;
mod turns;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;

use loadx_http::h2::{Connection, Priority};
use loadx_http::limits::h2::STREAMS_MAX;

use crate::buffers::HeadBuffer;
use crate::context::Worker;
use crate::downstream::wire::Wire;
use crate::limits::H2_OUTPUT_BYTES;
use crate::net::{Network, StreamOf};
use crate::origin::Origin;
use crate::wakes::NumberedWaker;

use starts::Start;
pub(super) use turns::Permission;
use turns::Turn;

/// A connection and its exchanges.
pub(super) struct Mux<N: Network> {
    pub(super) worker: Rc<Worker<N>>,
    wire: Wire<StreamOf<N>>,
    pub(super) origin: Origin,
    state: RefCell<State>,
}

/// The state of the connection.
struct State {
    connection: Box<Connection>,
    output: Output,
    /// The exchanges, by their number; `None` for a number that is free.
    lanes: Vec<Option<Lane>>,
    /// The turn that the next exchange gets that must wait to send.
    next_turn: u64,
    /// The number of exchanges that wait to send.
    waiting: usize,
    /// The number of exchanges.
    open: usize,
    /// The number of exchanges that have begun.
    begun: usize,
    /// The exchanges that have not begun, in order.
    pending: VecDeque<usize>,
}

/// What the connection holds for one exchange.
struct Lane {
    stream: u32,
    waker: Arc<NumberedWaker>,
    priority: Priority,
    /// Received content that the exchange has not taken.
    content: Option<HeadBuffer>,
    /// Content that the exchange holds and has not passed on, in bytes.
    held: usize,
    /// The field lines behind the content, once the request is complete.
    trailers: Option<Vec<u8>>,
    /// Whether the client has reset the stream, or the connection is gone.
    is_gone: bool,
    start: Start,
    turn: Turn,
}

/// Frames that the system has not taken yet. Has no memory while there are none.
#[derive(Default)]
struct Output {
    buffer: Option<HeadBuffer>,
    sent: usize,
}

impl Output {
    fn len(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len() - self.sent)
    }

    fn room(&self) -> usize {
        H2_OUTPUT_BYTES.saturating_sub(self.len())
    }
}

impl<N: Network> Mux<N> {
    /// `connection`: the state of a connection that was served before.
    pub(super) fn new(
        worker: Rc<Worker<N>>,
        wire: Wire<StreamOf<N>>,
        origin: Origin,
        connection: Option<Box<Connection>>,
    ) -> Self {
        let mut output = Output::default();
        let connection = connection.unwrap_or_else(|| {
            let buffer = output.buffer.insert(worker.buffers.growing());
            Box::new(Connection::new(buffer))
        });
        let state = State {
            connection,
            output,
            lanes: Vec::new(),
            next_turn: 0,
            waiting: 0,
            open: 0,
            begun: 0,
            pending: VecDeque::new(),
        };
        Mux { worker, wire, origin, state: RefCell::new(state) }
    }

    /// The connection to the client.
    pub(super) fn stream(&self) -> &StreamOf<N> {
        &self.wire.stream
    }

    /// Drops what has not been written.
    pub(super) fn discard(&self) {
        self.state.borrow_mut().output = Output::default();
    }

    /// Calls `put` with the state and the output.
    pub(super) fn put<T>(&self, put: impl FnOnce(&mut Connection, &mut Vec<u8>) -> T) -> T {
        let State { connection, output, .. } = &mut *self.state.borrow_mut();
        let buffer = output.buffer.get_or_insert_with(|| self.worker.buffers.growing());
        put(connection, buffer)
    }

    /// Gives the memory of the output back if nothing waits to be written.
    pub(super) fn rest(&self) {
        let output = &mut self.state.borrow_mut().output;
        if output.len() == 0 {
            *output = Output::default();
        }
    }

    /// Whether exchanges wait to send, and there is room.
    pub(super) fn awaits_room(&self) -> bool {
        let state = self.state.borrow();
        state.waiting > 0 && state.output.room() > 0
    }

    /// Calls `look` with the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Connection) -> T) -> T {
        look(&self.state.borrow().connection)
    }

    /// The number of bytes that wait to be written.
    pub(super) fn unsent(&self) -> usize {
        self.state.borrow().output.len()
    }

    /// Calls `write` with what must be written, until all is written or `write` fails. Returns the number of written bytes.
    pub(super) fn write_with(&self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> (usize, io::Result<()>) {
        let output = &mut self.state.borrow_mut().output;
        let mut written = 0;
        let Some(buffer) = &mut output.buffer else { return (0, Ok(())) };
        while output.sent < buffer.len() {
            match write(&buffer[output.sent..]) {
                // A write of nothing would never end.
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(count) => {
                    written += count;
                    output.sent += count;
                }
                Err(error) => return (written, Err(error)),
            }
        }
        buffer.clear();
        output.sent = 0;
        (written, Ok(()))
    }

    /// Whether exchanges wait for the window of the whole connection.
    pub(super) fn awaits_window(&self) -> bool {
        let state = self.state.borrow();
        state.waiting > 0 && state.connection.is_shut()
    }

    /// Whether content that the client sends may still cause frames of LoadX's own, such as answers to PING.
    pub(super) fn may_read(&self) -> bool {
        // Room for answers beyond the room for responses: a client that reads slowly can still open windows.
        self.state.borrow().output.len() < 2 * H2_OUTPUT_BYTES
    }

    /// Whether no further exchange may begin although the client has reset streams.
    pub(super) fn is_full_of_resets(&self) -> bool {
        let state = self.state.borrow();
        state.connection.running() >= STREAMS_MAX && state.lanes.iter().flatten().any(|lane| lane.is_gone)
    }

    /// Adds an exchange with this number.
    pub(super) fn open(&self, number: usize, stream: u32, priority: Priority, waker: Arc<NumberedWaker>, ends: bool) {
        let State { lanes, open, begun, pending, .. } = &mut *self.state.borrow_mut();
        *open += 1;
        let start = self.start(*begun);
        match start.is_waiting() {
            true => pending.push_back(number),
            false => *begun += 1,
        }
        if lanes.len() <= number {
            lanes.resize_with(number + 1, || None);
        }
        lanes[number] = Some(Lane {
            stream,
            waker,
            priority,
            content: None,
            held: 0,
            trailers: ends.then(Vec::new),
            is_gone: false,
            start,
            turn: Turn::None,
        });
    }

    /// Ends an exchange.
    pub(super) fn close(&self, number: usize) {
        let lane = {
            let state = &mut *self.state.borrow_mut();
            let lane = state.lanes[number].take().expect("an exchange ends once");
            if lane.turn != Turn::None {
                state.waiting -= 1;
            }
            state.open -= 1;
            lane
        };
        self.ended(lane.start);
        let unread = lane.held + lane.content.map_or(0, |content| content.len());
        self.put(|connection, out| connection.finished(lane.stream, unread, out));
    }

    /// What a connection without exchanges keeps.
    pub(super) fn into_parts(self) -> (Wire<StreamOf<N>>, Origin, Box<Connection>) {
        let mut connection = self.state.into_inner().connection;
        connection.shrink();
        (self.wire, self.origin, connection)
    }

    /// Whether there is no exchange.
    pub(super) fn is_empty(&self) -> bool {
        self.state.borrow().open == 0
    }

    /// Lets each exchange know that the connection is gone.
    pub(super) fn abandon(&self) {
        for lane in self.state.borrow_mut().lanes.iter_mut().flatten() {
            lane.is_gone = true;
            lane.waker.enqueue();
        }
    }

    /// Has every exchange polled.
    pub(super) fn wake_all(&self) {
        self.state.borrow().lanes.iter().flatten().for_each(|lane| lane.waker.enqueue());
    }

    /// Adds received content to its exchange.
    pub(super) fn deliver(&self, stream: u32, content: &[u8], ends: bool) {
        self.with_stream(stream, |lane| {
            if !content.is_empty() {
                lane.content.get_or_insert_with(|| self.worker.buffers.growing()).extend_from_slice(content);
            }
            if ends {
                lane.trailers = Some(Vec::new());
            }
        });
    }

    /// Ends the request of an exchange with these field lines.
    pub(super) fn deliver_trailers(&self, stream: u32, lines: &[u8]) {
        self.with_stream(stream, |lane| lane.trailers = Some(lines.to_vec()));
    }

    /// Notes that the client reset a stream, or that LoadX did for a fault of the client.
    pub(super) fn deliver_reset(&self, stream: u32) {
        self.with_stream(stream, |lane| lane.is_gone = true);
    }

    pub(super) fn set_priority(&self, stream: u32, priority: Priority) {
        self.with_stream(stream, |lane| lane.priority = priority);
    }

    fn with_stream(&self, stream: u32, change: impl FnOnce(&mut Lane)) {
        let lanes = &mut self.state.borrow_mut().lanes;
        if let Some(lane) = lanes.iter_mut().flatten().find(|lane| lane.stream == stream) {
            change(lane);
            lane.waker.enqueue();
        }
    }

    /// Takes what has arrived for an exchange; `None` if the stream is gone.
    pub(super) fn take(&self, number: usize) -> Option<Arrived> {
        let lanes = &mut self.state.borrow_mut().lanes;
        let lane = lanes[number].as_mut().filter(|lane| !lane.is_gone)?;
        let content = lane.content.take();
        lane.held += content.as_ref().map_or(0, |content| content.len());
        Some(Arrived { content, trailers: lane.trailers.take() })
    }

    /// Whether the stream is gone.
    pub(super) fn is_gone(&self, number: usize) -> bool {
        self.state.borrow().lanes[number].as_ref().is_none_or(|lane| lane.is_gone)
    }

    /// Notes that content of an exchange no longer takes memory.
    pub(super) fn pass(&self, number: usize, bytes: usize) {
        let stream = {
            let lanes = &mut self.state.borrow_mut().lanes;
            let Some(lane) = &mut lanes[number] else { return };
            lane.held -= bytes;
            lane.stream
        };
        self.put(|connection, out| connection.pass(stream, bytes, out));
    }

    /// The stream of an exchange.
    pub(super) fn stream_of(&self, number: usize) -> u32 {
        self.state.borrow().lanes[number].as_ref().map_or(0, |lane| lane.stream)
    }
}

/// What has arrived for an exchange.
pub(super) struct Arrived {
    pub(super) content: Option<HeadBuffer>,
    /// The field lines behind the content, if the request is complete now.
    pub(super) trailers: Option<Vec<u8>>,
}
