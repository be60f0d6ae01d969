//! What the exchanges on one connection share with the driver of the connection.
//!
//! Exchanges put frames into one output, which the driver writes; so the messages of many exchanges leave in one write. The
//! driver puts what is received where the exchange of the stream takes it.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Waker};

use loadx_http::h2::{Code, Connection, Priority, Role};

use super::alarm::Alarm;
use super::output::Output;
use super::turns::Turn;
use crate::buffers::{Buffers, HeadBuffer};
use crate::limits::{H2_HEADS_BYTES_MAX, H2_OUTPUT_BYTES};
use crate::net::Stream;

/// The exchanges on a connection. `R`: the side of the connection that LoadX is. `A`: how exchanges are woken.
pub(crate) struct Mux<R, A> {
    buffers: Rc<Buffers>,
    pub(super) state: RefCell<State<R, A>>,
}

/// The state of the connection.
pub(super) struct State<R, A> {
    pub(super) connection: Box<Connection<R>>,
    pub(super) output: Output,
    /// The exchanges, by their number; `None` for a number that is free.
    pub(super) lanes: Vec<Option<Lane<A>>>,
    /// The turn that the next exchange gets that must wait to send.
    pub(super) next_turn: u64,
    /// The number of exchanges that wait to send.
    pub(super) waiting: usize,
    /// The number of exchanges.
    open: usize,
    /// Wakes the driver, if the driver waits and exchanges are not its own.
    driver: Option<Waker>,
}

impl<R, A> State<R, A> {
    pub(super) fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

/// What the connection holds for one exchange.
pub(super) struct Lane<A> {
    /// The stream; 0 before the exchange has opened its stream.
    pub(super) stream: u32,
    pub(super) alarm: A,
    pub(super) priority: Priority,
    /// Received heads of responses that the exchange has not taken.
    heads: Option<HeadBuffer>,
    /// Received content that the exchange has not taken.
    content: Option<HeadBuffer>,
    /// Content that the exchange holds and has not passed on, in bytes.
    held: usize,
    /// The field lines behind the content, once the message is complete.
    trailers: Option<Vec<u8>>,
    /// Why nothing more comes, if so.
    pub(super) gone: Option<Gone>,
    pub(super) turn: Turn,
}

/// Why a stream has ended before its messages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The other side has reset the stream.
    Reset(Code),
    /// LoadX has reset the stream or ended the connection, because the other side broke this rule.
    Fault(&'static str),
    /// The other side has not looked at the request.
    Unserved,
    /// The connection is gone.
    Lost,
}

impl<R: Role, A: Alarm> Mux<R, A> {
    /// `connection`: the state of the connection. `put`: puts what the connection begins with.
    pub(crate) fn new(buffers: &Rc<Buffers>, connection: impl FnOnce(&mut Vec<u8>) -> Box<Connection<R>>) -> Self {
        let mut output = Output::default();
        let state = State {
            connection: connection(output.buffer(buffers)),
            output,
            lanes: Vec::new(),
            next_turn: 0,
            waiting: 0,
            open: 0,
            driver: None,
        };
        Mux { buffers: Rc::clone(buffers), state: RefCell::new(state) }
    }

    /// Drops what has not been written. Nothing is written any more.
    pub(crate) fn discard(&self) {
        self.state.borrow_mut().output.close();
    }

    /// Calls `put` with the state and the output.
    pub(crate) fn put<T>(&self, put: impl FnOnce(&mut Connection<R>, &mut Vec<u8>) -> T) -> T {
        let state = &mut *self.state.borrow_mut();
        let told = put(&mut state.connection, state.output.buffer(&self.buffers));
        state.wake_driver();
        told
    }

    /// Wakes the driver, if the driver waits.
    pub(crate) fn wake_driver(&self) {
        self.state.borrow_mut().wake_driver();
    }

    /// Notes that the driver waits, polled with this context, while exchanges are polled by others.
    pub(crate) fn driver_waits(&self, cx: &Context<'_>) {
        self.state.borrow_mut().driver = Some(cx.waker().clone());
    }

    /// Gives the memory of the output back if nothing waits to be written.
    pub(crate) fn rest(&self) {
        self.state.borrow_mut().output.rest();
    }

    /// Whether exchanges wait to send, and there is room.
    pub(crate) fn awaits_room(&self) -> bool {
        let state = self.state.borrow();
        state.waiting > 0 && state.output.room() > 0
    }

    /// Calls `look` with the state.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Connection<R>) -> T) -> T {
        look(&self.state.borrow().connection)
    }

    /// The number of bytes that wait to be written.
    pub(crate) fn unsent(&self) -> usize {
        self.state.borrow().output.len()
    }

    /// See [`Output::write_with`].
    pub(super) fn write_with(&self, write: impl FnMut(&[u8]) -> io::Result<usize>) -> (usize, io::Result<()>) {
        self.state.borrow_mut().output.write_with(write)
    }

    /// Writes what waits, as far as the system takes it at once.
    ///
    /// # Errors
    /// As for [`Stream::try_write`].
    pub(crate) fn write_once<S: Stream>(&self, stream: &S) -> io::Result<()> {
        self.write_with(|bytes| stream.try_write(&[IoSlice::new(bytes)])).1
    }

    /// Whether exchanges wait for the window of the whole connection.
    pub(crate) fn awaits_window(&self) -> bool {
        let state = self.state.borrow();
        state.waiting > 0 && state.connection.is_shut()
    }

    /// Whether what the other side sends may still cause frames of LoadX's own, such as answers to PING.
    pub(crate) fn may_read(&self) -> bool {
        // Room for answers beyond the room for messages: a peer that reads slowly can still open windows.
        self.state.borrow().output.len() < 2 * H2_OUTPUT_BYTES
    }

    /// Whether the other side has ended the stream of an exchange that has not ended.
    pub(crate) fn has_gone(&self) -> bool {
        self.state.borrow().lanes.iter().flatten().any(|lane| lane.gone.is_some())
    }

    /// Adds an exchange with this number. `stream`: 0 for an exchange that opens its stream with its head. `ends`: whether the message
    /// of the other side is complete.
    pub(crate) fn open(&self, number: usize, stream: u32, priority: Priority, alarm: A, ends: bool) {
        let State { lanes, open, .. } = &mut *self.state.borrow_mut();
        *open += 1;
        if lanes.len() <= number {
            lanes.resize_with(number + 1, || None);
        }
        lanes[number] = Some(Lane {
            stream,
            alarm,
            priority,
            heads: None,
            content: None,
            held: 0,
            trailers: ends.then(Vec::new),
            gone: None,
            turn: Turn::None,
        });
    }

    /// Ends an exchange.
    pub(crate) fn close(&self, number: usize) {
        let state = &mut *self.state.borrow_mut();
        let mut lane = state.lanes[number].take().expect("an exchange ends once");
        lane.leave_turn(&mut state.waiting);
        state.open -= 1;
        if lane.stream > 0 {
            let unread = lane.held + lane.content.map_or(0, |content| content.len());
            state.connection.finished(lane.stream, unread, state.output.buffer(&self.buffers));
        }
        state.wake_driver();
    }

    /// The state of a connection without exchanges.
    pub(crate) fn into_connection(self) -> Box<Connection<R>> {
        let mut connection = self.state.into_inner().connection;
        connection.shrink();
        connection
    }

    /// The number of exchanges.
    pub(crate) fn len(&self) -> usize {
        self.state.borrow().open
    }

    /// Whether there is no exchange.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets each exchange know that the connection is gone.
    pub(crate) fn abandon(&self, gone: Gone) {
        for lane in self.state.borrow_mut().lanes.iter_mut().flatten() {
            lane.gone.get_or_insert(gone);
            lane.alarm.ring();
        }
    }

    /// Lets the exchanges know whose streams are behind `last` that the other side does not serve them.
    pub(crate) fn abandon_behind(&self, last: u32) {
        let lanes = &mut self.state.borrow_mut().lanes;
        for lane in lanes.iter_mut().flatten().filter(|lane| lane.stream > last) {
            lane.gone.get_or_insert(Gone::Unserved);
            lane.alarm.ring();
        }
    }

    /// Has every exchange polled.
    pub(crate) fn ring_all(&self) {
        self.state.borrow().lanes.iter().flatten().for_each(|lane| lane.alarm.ring());
    }

    /// Has an exchange polled.
    pub(crate) fn ring(&self, number: usize) {
        if let Some(lane) = self.state.borrow().lanes[number].as_ref() {
            lane.alarm.ring();
        }
    }

    /// Adds the head of a response to its exchange. `ends`: whether the response has no content. Returns false if the exchange has
    /// more heads than it may.
    pub(crate) fn deliver_head(&self, stream: u32, text: &[u8], ends: bool) -> bool {
        let mut is_within = true;
        self.with_stream(stream, |lane| {
            let heads = lane.heads.get_or_insert_with(|| self.buffers.growing());
            is_within = heads.len() + text.len() <= H2_HEADS_BYTES_MAX;
            if is_within {
                heads.extend_from_slice(text);
                if ends {
                    lane.trailers = Some(Vec::new());
                }
            }
        });
        is_within
    }

    /// Adds received content to its exchange.
    pub(crate) fn deliver(&self, stream: u32, content: &[u8], ends: bool) {
        self.with_stream(stream, |lane| {
            if !content.is_empty() {
                lane.content.get_or_insert_with(|| self.buffers.growing()).extend_from_slice(content);
            }
            if ends {
                lane.trailers = Some(Vec::new());
            }
        });
    }

    /// Ends the message of an exchange with these field lines.
    pub(crate) fn deliver_trailers(&self, stream: u32, lines: &[u8]) {
        self.with_stream(stream, |lane| lane.trailers = Some(lines.to_vec()));
    }

    /// Notes that a stream has ended.
    pub(crate) fn deliver_end(&self, stream: u32, gone: Gone) {
        self.with_stream(stream, |lane| lane.gone = Some(gone));
    }

    pub(crate) fn set_priority(&self, stream: u32, priority: Priority) {
        self.with_stream(stream, |lane| lane.priority = priority);
    }

    fn with_stream(&self, stream: u32, change: impl FnOnce(&mut Lane<A>)) {
        let lanes = &mut self.state.borrow_mut().lanes;
        if let Some(lane) = lanes.iter_mut().flatten().find(|lane| lane.stream == stream) {
            change(lane);
            lane.alarm.ring();
        }
    }

    /// Takes the heads that have arrived for an exchange.
    pub(crate) fn take_heads(&self, number: usize) -> Option<HeadBuffer> {
        self.state.borrow_mut().lanes[number].as_mut().and_then(|lane| lane.heads.take())
    }

    /// Takes what has arrived for an exchange.
    ///
    /// # Errors
    /// Why nothing more comes, if the message is not complete.
    pub(crate) fn take(&self, number: usize) -> Result<Arrived, Gone> {
        let lanes = &mut self.state.borrow_mut().lanes;
        let lane = lanes[number].as_mut().ok_or(Gone::Lost)?;
        if let (Some(gone), None) = (lane.gone, &lane.trailers) {
            return Err(gone);
        }
        let content = lane.content.take();
        lane.held += content.as_ref().map_or(0, |content| content.len());
        Ok(Arrived { content, trailers: lane.trailers.take() })
    }

    /// Why the stream has ended; `None` if it has not.
    pub(crate) fn gone(&self, number: usize) -> Option<Gone> {
        self.state.borrow().lanes[number].as_ref().map_or(Some(Gone::Lost), |lane| lane.gone)
    }

    /// Notes that an exchange waits, polled with this context.
    pub(crate) fn waits(&self, number: usize, cx: &Context<'_>) {
        if let Some(lane) = &mut self.state.borrow_mut().lanes[number] {
            lane.alarm.set(cx);
        }
    }

    /// Notes that content of an exchange no longer takes memory.
    pub(crate) fn pass(&self, number: usize, bytes: usize) {
        let stream = {
            let lanes = &mut self.state.borrow_mut().lanes;
            let Some(lane) = &mut lanes[number] else { return };
            lane.held -= bytes;
            lane.stream
        };
        self.put(|connection, out| connection.pass(stream, bytes, out));
    }

    /// Calls `put` with the state, the output and the stream of an exchange, whose stream is afterwards the one that `put` returns.
    pub(super) fn put_on(&self, number: usize, put: impl FnOnce(&mut Connection<R>, u32, &mut Vec<u8>) -> u32) {
        let state = &mut *self.state.borrow_mut();
        let Some(lane) = &mut state.lanes[number] else { return };
        lane.stream = put(&mut state.connection, lane.stream, state.output.buffer(&self.buffers));
        if lane.stream == 0 {
            lane.gone = Some(Gone::Unserved);
        }
        state.wake_driver();
    }

    /// The buffers of the worker.
    pub(crate) fn buffers(&self) -> &Rc<Buffers> {
        &self.buffers
    }
}

/// What has arrived for an exchange.
pub(crate) struct Arrived {
    pub(crate) content: Option<HeadBuffer>,
    /// The field lines behind the content, if the message is complete now.
    pub(crate) trailers: Option<Vec<u8>>,
}
