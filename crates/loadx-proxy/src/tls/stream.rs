//! A byte stream inside TLS.
//!
//! The stream reads and writes whole batches of records with one system call, through buffers of the thread: a
//! connection itself has a buffer only while a record is incomplete or the peer does not read.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::facts::TlsFacts;
use super::session::{Processed, Records, Session, Step};
use crate::limits::{TLS_READ_BYTES, TLS_RECORD_OVERHEAD, TLS_WRITE_BYTES};
use crate::net::Stream;

/// A stream whose handshake is complete.
#[derive(Debug)]
pub(crate) struct TlsStream<S: Stream> {
    inner: S,
    facts: Rc<TlsFacts>,
    state: RefCell<State>,
    /// Whether LoadX has sent close_notify, or must not send it any more.
    is_closed: Cell<bool>,
    /// Whether the connection's direction must end when the connection has taken the last record.
    shuts: Cell<bool>,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// The received part of an incomplete record.
    received: Vec<u8>,
    /// Decrypted content that no read has taken yet.
    content: Pending,
    /// Records that the connection has not taken yet.
    records: Pending,
    /// The number of content bytes in `records` that no write has reported yet.
    withheld: usize,
    /// Whether the peer has sent close_notify.
    has_ended: bool,
}

/// Bytes that wait. Has no memory while there are none.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    done: usize,
}

impl Pending {
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    fn is_empty(&self) -> bool {
        self.done == self.bytes.len()
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn advance(&mut self, count: usize) {
        self.done += count;
        if self.is_empty() {
            *self = Pending::default();
        }
    }
}

/// The buffers of a thread, in use only during one call of a stream.
#[derive(Default)]
struct Scratch {
    input: Vec<u8>,
    gathered: Vec<u8>,
    records: Records,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<S: Stream> TlsStream<S> {
    /// Wraps a stream after its handshake. `received` are bytes after the handshake, and `unsent` are records that go out
    /// with the first content.
    pub(super) fn new(
        inner: S,
        session: Session,
        facts: TlsFacts,
        received: Vec<u8>,
        content: Vec<u8>,
        unsent: &[u8],
    ) -> Self {
        let state = State {
            session,
            received,
            content: Pending { bytes: content, done: 0 },
            records: Pending { bytes: unsent.to_vec(), done: 0 },
            withheld: 0,
            has_ended: false,
        };
        TlsStream {
            inner,
            facts: Rc::new(facts),
            state: RefCell::new(state),
            is_closed: Cell::new(false),
            shuts: Cell::new(false),
        }
    }

    /// What the handshake agreed on.
    pub(crate) fn facts(&self) -> &Rc<TlsFacts> {
        &self.facts
    }

    /// Encrypts and writes. Reports the content as written when the connection has taken all of its records: a caller
    /// that gets `WouldBlock` calls again with the same content.
    fn write(&self, pieces: &[IoSlice<'_>], is_last: bool) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        if state.withheld > 0 {
            state.flush(&self.inner)?;
            return Ok(std::mem::take(&mut state.withheld));
        }
        SCRATCH.with(|scratch| {
            let Scratch { gathered, records, .. } = &mut *scratch.borrow_mut();
            let content = match pieces {
                [piece] => &piece[..piece.len().min(TLS_WRITE_BYTES)],
                pieces => {
                    gather(pieces, gathered);
                    gathered
                }
            };
            records.clear();
            state.session.encrypt(content, is_last, &mut state.received, records).map_err(as_io)?;
            if is_last {
                self.is_closed.set(true);
            }
            // Records from the handshake go first.
            if !state.records.is_empty() {
                state.records.extend(records.bytes());
                state.withheld = content.len();
                state.flush(&self.inner)?;
                return Ok(std::mem::take(&mut state.withheld));
            }
            let sent = match is_last {
                true => self.inner.try_write_last(records.bytes()),
                false => self.inner.try_write(&[IoSlice::new(records.bytes())]),
            };
            let sent = match sent {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
                sent => sent?,
            };
            if sent == records.bytes().len() {
                return Ok(content.len());
            }
            state.records.extend(&records.bytes()[sent..]);
            state.withheld = content.len();
            Err(ErrorKind::WouldBlock.into())
        })
    }

    /// Reads into `buffer`; content that does not fit is kept for the next read.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        if !state.content.is_empty() {
            let waiting = state.content.bytes();
            let count = waiting.len().min(buffer.len());
            buffer[..count].copy_from_slice(&waiting[..count]);
            state.content.advance(count);
            return Ok(count);
        }
        SCRATCH.with(|scratch| {
            let Scratch { input, records, .. } = &mut *scratch.borrow_mut();
            loop {
                if state.has_ended {
                    return Ok(0);
                }
                let held = state.received.len();
                let room = (buffer.len() + TLS_RECORD_OVERHEAD).min(TLS_READ_BYTES);
                if input.len() < held + room {
                    input.resize(held + room, 0);
                }
                let read = self.inner.try_read(&mut input[held..held + room])?;
                if read == 0 {
                    let message = "the peer closed the connection without the end of TLS (close_notify)";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
                }
                input[..held].copy_from_slice(&state.received);
                state.received.clear();
                records.clear();
                let count = state.decrypt(&mut input[..held + read], buffer, records).map_err(as_io);
                if !records.is_empty() {
                    // Answers of TLS itself, such as an update of the keys, or the alert for an error.
                    state.records.extend(records.bytes());
                    let _ = state.flush(&self.inner);
                }
                match count? {
                    0 if state.content.is_empty() => {}
                    count => return Ok(count),
                }
            }
        })
    }
}

impl State {
    /// Writes the waiting records.
    fn flush(&mut self, inner: &impl Stream) -> io::Result<()> {
        while !self.records.is_empty() {
            match inner.try_write(&[IoSlice::new(self.records.bytes())]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.records.advance(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Decrypts the records in `input` into `buffer`. Returns the number of bytes in `buffer`.
    fn decrypt(&mut self, input: &mut [u8], buffer: &mut [u8], out: &mut Records) -> Result<usize, rustls::Error> {
        let (mut used, mut count) = (0, 0);
        let State { session, content, .. } = self;
        loop {
            let Processed { used: more, step } = session.process(&mut input[used..], out, |record| {
                let fits = record.len().min(buffer.len() - count);
                buffer[count..count + fits].copy_from_slice(&record[..fits]);
                count += fits;
                if fits < record.len() {
                    content.extend(&record[fits..]);
                }
            });
            used += more;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Blocked | Step::Ready) => break,
                Ok(Step::Ended) => {
                    self.has_ended = true;
                    return Ok(count);
                }
                Err(error) => {
                    session.alert(&mut input[used..], out);
                    return Err(error);
                }
            }
        }
        self.received.extend_from_slice(&input[used..]);
        if self.received.is_empty() {
            self.received = Vec::new();
        }
        Ok(count)
    }
}

/// Copies the pieces into one, as far as one write goes.
fn gather(pieces: &[IoSlice<'_>], gathered: &mut Vec<u8>) {
    gathered.clear();
    for piece in pieces {
        let room = TLS_WRITE_BYTES - gathered.len();
        gathered.extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

fn as_io(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl<S: Stream> Stream for TlsStream<S> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        // No write waits for the end of TLS. Other records without content go out with the next content.
        while self.shuts.get() && self.inner.poll_writable(cx).is_ready() {
            match state.flush(&self.inner) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => {
                    self.shuts.set(false);
                    // The read tells of an error.
                    if outcome.is_ok() {
                        self.inner.shut_write();
                    }
                }
            }
        }
        if !state.content.is_empty() || state.has_ended {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_readable(cx)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_writable(cx)
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write(pieces, false)
    }

    fn try_write_last(&self, bytes: &[u8]) -> io::Result<usize> {
        // A larger message needs several writes, and only the last of them ends the direction.
        self.write(&[IoSlice::new(bytes)], bytes.len() <= TLS_WRITE_BYTES)
    }

    fn unconfirmed(&self) -> Option<u64> {
        self.inner.unconfirmed()
    }

    fn has_pipes(&self) -> bool {
        false
    }

    type Pipe = S::Pipe;

    fn pipe() -> Option<S::Pipe> {
        S::pipe()
    }

    fn try_fill(&self, _: &S::Pipe, _: usize) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn try_drain(&self, _: &S::Pipe, _: usize) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Records without content, such as the tickets of TLS 1.3, count as nothing, although they make the connection
    /// readable.
    fn holds_nothing(&self) -> bool {
        if !self.inner.holds_nothing() {
            // Without room, content stays for the next read.
            let read = self.read(&mut []);
            let is_over = !matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock);
            // A runtime that does not know of the bytes yet does not read them.
            if is_over || !self.inner.holds_nothing() {
                return false;
            }
        }
        let state = self.state.borrow();
        state.content.is_empty() && !state.has_ended
    }

    /// Ends TLS before the connection. Where the connection takes no bytes, the next waits for bytes of the peer also wait
    /// to send the end of TLS.
    fn shut_write(&self) {
        self.close();
        match self.state.borrow().records.is_empty() {
            true => self.inner.shut_write(),
            false => self.shuts.set(true),
        }
    }

    fn break_off(&self) {
        self.is_closed.set(true);
        self.inner.break_off();
    }

    fn drops_cleanly(&self) -> bool {
        self.is_closed.get() && self.state.borrow().records.is_empty()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl<S: Stream> TlsStream<S> {
    /// Sends close_notify, so that the peer can tell the end from a truncation (RFC 8446, section 6.1). A connection that
    /// takes no bytes is closed without.
    fn close(&self) {
        if self.is_closed.replace(true) {
            return;
        }
        let state = &mut *self.state.borrow_mut();
        SCRATCH.with(|scratch| {
            let records = &mut scratch.borrow_mut().records;
            records.clear();
            if state.session.encrypt(b"", true, &mut state.received, records).is_ok() {
                state.records.extend(records.bytes());
                let _ = state.flush(&self.inner);
            }
        });
    }
}

impl<S: Stream> Drop for TlsStream<S> {
    fn drop(&mut self) {
        self.close();
    }
}
